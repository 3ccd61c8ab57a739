//! The yardstick of a fan-out: a thread that does nothing but `send()` to one socket after the other.
//!
//! It knows no WebSocket and no message: bytes of the right number are all it sends.
//!
//! Invariants: its sockets are received from exactly as the server's are; the next pass begins when
//! the last one has arrived everywhere, as in the closed loop.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::clock::Clock;
use crate::swarm::links::{Happened, Link, LinkSettings, Links};
use crate::swarm::options::pin_thread;

const MS: u64 = 1_000_000;
/// Dials under way: fewer than may wait for `accept`.
const UNDER_WAY_MAX: u32 = 64;
/// Nothing has moved for so long: the pass, or the connecting, cannot end.
const STALLED: Duration = Duration::from_secs(30);

/// As many sockets as there are subscribers, and who sends to them.
pub(super) struct Bare {
    links: Links,
    frame_bytes: u64,
    orders: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    happened: Vec<Happened>,
}

impl Bare {
    /// Connects them. Each needs a file descriptor, since it is a plain `send()` that is measured.
    pub(super) fn open(
        settings: LinkSettings,
        frame_bytes: usize,
        core: Option<usize>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let mut links = Links::new(LinkSettings {
            target: address,
            ..settings
        })?;
        let (orders, ordered) = sync_channel(1);
        let accepted = connect(&mut links, &listener)?;
        let frame = vec![b'x'; frame_bytes];
        #[expect(
            clippy::disallowed_methods,
            reason = "the yardstick is a thread of its own"
        )]
        let thread = std::thread::spawn(move || {
            if let Some(core) = core {
                let _ = pin_thread(core);
            }
            send_passes(accepted, &frame, &ordered);
        });
        Ok(Self {
            links,
            frame_bytes: frame_bytes as u64,
            orders: Some(orders),
            thread: Some(thread),
            happened: Vec::new(),
        })
    }

    /// Sends to all sockets once and waits until all have received it.
    pub(super) fn pass(&mut self) -> io::Result<()> {
        let orders = self.orders.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        orders.send(()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        let mut missing = self.frame_bytes * u64::from(self.links.count());
        let clock = Clock::start();
        while missing > 0 {
            in_time(clock)?;
            self.links.exchange(MS, &mut self.happened)?;
            for happening in self.happened.drain(..) {
                match happening {
                    Happened::Received {
                        link,
                        buffer,
                        bytes,
                    } => {
                        self.links.give_back(link, buffer);
                        missing = missing.saturating_sub(bytes as u64);
                    }
                    Happened::Ended(..) => return Err(io::ErrorKind::ConnectionAborted.into()),
                    Happened::Up(_) => {}
                }
            }
        }
        Ok(())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn connect(links: &mut Links, listener: &TcpListener) -> io::Result<Vec<TcpStream>> {
    let mut accepted = Vec::new();
    let mut next = 0;
    let mut happened = Vec::new();
    let mut up = 0;
    let clock = Clock::start();
    while up < links.count() {
        in_time(clock)?;
        while next < links.count() && next - up < UNDER_WAY_MAX {
            links.dial(Link(next))?;
            next += 1;
        }
        links.exchange(MS, &mut happened)?;
        for happening in happened.drain(..) {
            match happening {
                Happened::Up(_) => {
                    let (socket, _): (TcpStream, SocketAddr) = listener.accept()?;
                    socket.set_nodelay(true)?;
                    socket.set_write_timeout(Some(STALLED))?;
                    accepted.push(socket);
                    up += 1;
                }
                Happened::Ended(..) => return Err(io::ErrorKind::ConnectionAborted.into()),
                Happened::Received { .. } => unreachable!("nobody has sent"),
            }
        }
    }
    Ok(accepted)
}

fn in_time(clock: Clock) -> io::Result<()> {
    if clock.seconds() > STALLED.as_secs_f64() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(())
}

fn send_passes(mut sockets: Vec<TcpStream>, frame: &[u8], ordered: &Receiver<()>) {
    while ordered.recv().is_ok() {
        for socket in &mut sockets {
            if socket.write_all(frame).is_err() {
                // The receiver sees what did not arrive: its pass does not end in time.
                return;
            }
        }
    }
}
