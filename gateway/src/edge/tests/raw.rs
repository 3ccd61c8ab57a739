//! An application without a protocol: it sends back what it gets, and obeys single bytes.
//!
//! It is the smallest thing that uses every output that concerns a socket.
//!
//! Invariant: it answers `Accepted` with nothing, so an idle connection is really idle.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::super::{EdgeSettings, TakeOver};
use crate::io::{Application, ConnId, Input, Outbox, Output};

/// Bytes that mean something when they come first in what arrives; everything else is echoed.
pub(super) const CLOSE: u8 = 0xFF;
pub(super) const HAND_OVER: u8 = 0xFE;
pub(super) const FLOOD: u8 = 0xFD;
/// No answer.
pub(super) const SILENCE: u8 = 0xFC;
/// Frames of `FLOOD_BYTES` that a flood consists of.
pub(super) const FLOOD_FRAMES: usize = 600;
pub(super) const FLOOD_BYTES: usize = 1_000;

/// What the application saw.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) accepted: AtomicUsize,
    pub(super) closed: AtomicUsize,
    pub(super) blocked: AtomicUsize,
    pub(super) writable: AtomicUsize,
    pub(super) ticks: AtomicUsize,
}

/// The application.
pub(super) struct Raw {
    open: HashMap<ConnId, ()>,
    seen: Arc<Seen>,
}

impl Raw {
    pub(super) fn new(seen: &Arc<Seen>) -> Self {
        Self {
            open: HashMap::new(),
            seen: Arc::clone(seen),
        }
    }
}

impl Application for Raw {
    fn handle(&mut self, _now_ms: u64, input: Input<'_>, outbox: &mut Outbox) {
        match input {
            Input::Accepted { conn } => {
                self.seen.accepted.fetch_add(1, Ordering::Relaxed);
                assert!(self.open.insert(conn, ()).is_none(), "{conn:?} is new");
            }
            Input::Closed { conn } => {
                self.seen.closed.fetch_add(1, Ordering::Relaxed);
                assert!(self.open.remove(&conn).is_some(), "{conn:?} was open");
            }
            Input::Received { conn, bytes } => {
                assert!(self.open.contains_key(&conn), "{conn:?} is open");
                obey(conn, bytes, outbox);
            }
            Input::Blocked { conn } => {
                self.seen.blocked.fetch_add(1, Ordering::Relaxed);
                outbox.push(Output::Close { conn });
            }
            Input::Writable { .. } => {
                self.seen.writable.fetch_add(1, Ordering::Relaxed);
            }
            Input::Tick => {
                self.seen.ticks.fetch_add(1, Ordering::Relaxed);
            }
            Input::Drain => {
                for conn in self.open.keys() {
                    outbox.push(Output::Close { conn: *conn });
                }
            }
            _ => {}
        }
    }
}

fn obey(conn: ConnId, bytes: &[u8], outbox: &mut Outbox) {
    let copy = Bytes::copy_from_slice(bytes);
    match bytes[0] {
        CLOSE => outbox.push(Output::Close { conn }),
        SILENCE => {}
        HAND_OVER => outbox.push(Output::HandOver { conn, head: copy }),
        FLOOD => {
            for index in 0..FLOOD_FRAMES {
                let bytes = Bytes::from(vec![u8::try_from(index % 251).unwrap(); FLOOD_BYTES]);
                outbox.push(Output::Send { conn, bytes });
            }
            outbox.push(Output::Watch { conn });
        }
        _ => outbox.push(Output::Send { conn, bytes: copy }),
    }
}

/// Serves [`Raw`] on real sockets while the test runs, once in each mode.
pub(super) fn serve(
    change: impl Fn(&mut EdgeSettings),
    take_over: impl Fn() -> TakeOver + Clone + Send + 'static,
    mut test: impl FnMut(SocketAddr, &Seen),
) {
    for mode in super::MODES {
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let make = move || Raw {
            open: HashMap::new(),
            seen: Arc::clone(&shared),
        };
        let take_over = take_over.clone();
        super::serve_in(mode, &change, make, take_over, |address| {
            test(address, &seen)
        });
        assert_eq!(
            seen.accepted.load(Ordering::Relaxed),
            seen.closed.load(Ordering::Relaxed)
        );
    }
}
