//! A thread's connections: made, served, given up, made again.
//!
//! It never paces load and never decides when the thread is done: that is the loop's.
//!
//! Invariants: a client has one socket at most; connections under way are bounded; a connection
//! that ends is tried again after a pause that grows, unless trying cannot help.

use std::cmp::Reverse;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use bytes::Buf;

use super::{CONNECTING_MAX, MS, READ_BYTES, RETRY_NS_MIN, Slot, Timer, Worker};
use crate::ended::Ended;
use crate::socket::{Ready, begin_connect};

/// A connection that is not live by then is given up.
const ATTEMPT_NS_MAX: u64 = 20_000 * MS;
/// A server that said RECONNECT has so long to answer what is open.
const LEAVE_NS_MAX: u64 = 5_000 * MS;
/// The longest pause before a connection is tried again.
const RETRY_NS_MAX: u64 = 2_000 * MS;

impl Worker<'_> {
    pub(super) fn connect_due(&mut self, now_ns: u64) {
        while self.connecting < CONNECTING_MAX {
            let Some(&Reverse((due_ns, slot))) = self.connects.peek() else {
                break;
            };
            if due_ns > now_ns {
                break;
            }
            self.connects.pop();
            let key = tungstenite::handshake::client::generate_key();
            self.slots[slot].client.connecting(&key, &self.run);
            self.slots[slot].attempt_ns = now_ns;
            self.connecting += 1;
            self.give_up_in(ATTEMPT_NS_MAX, slot, now_ns);
            match self.open(slot) {
                Ok(socket) => self.slots[slot].socket = Some(socket),
                Err(error) => self.ended(slot, &error.into()),
            }
        }
    }

    fn open(&self, slot: usize) -> std::io::Result<TcpStream> {
        let socket = begin_connect(self.run.plan.target.address)?;
        let key = u32::try_from(slot).expect("clients are counted in 32 bits");
        self.poller.add(&socket, key)?;
        Ok(socket)
    }

    pub(super) fn timers_due(&mut self, now_ns: u64) {
        while let Some(&Reverse((due_ns, timer))) = self.timers.peek() {
            if due_ns > now_ns {
                break;
            }
            self.timers.pop();
            match timer {
                Timer::Heartbeat { place } => {
                    let interval_ms = self.slots[place].client.heartbeat(&mut self.run);
                    self.timers
                        .push(Reverse((now_ns + interval_ms * MS, timer)));
                    self.flush(place);
                }
                Timer::GiveUp { place, attempt_ns } => {
                    let slot = &self.slots[place];
                    let is_same = slot.socket.is_some() && slot.attempt_ns == attempt_ns;
                    if is_same && !slot.client.is_live() {
                        self.ended(place, &Ended::TimedOut);
                    }
                }
            }
        }
    }

    /// Unless the client is live by then, its connection is given up.
    fn give_up_in(&mut self, after_ns: u64, place: usize, now_ns: u64) {
        let attempt_ns = self.slots[place].attempt_ns;
        self.timers.push(Reverse((
            now_ns + after_ns,
            Timer::GiveUp { place, attempt_ns },
        )));
    }

    pub(super) fn serve(&mut self, event: Ready) {
        let slot = usize::try_from(event.key).expect("a 32-bit key fits");
        if event.is_readable
            && let Err(ended) = self.read(slot, event.is_ending)
        {
            self.ended(slot, &ended);
            return;
        }
        self.flush(slot);
    }

    fn read(&mut self, place: usize, to_the_end: bool) -> Result<(), Ended> {
        loop {
            let Self {
                slots,
                buffer,
                run,
                part,
                ..
            } = self;
            let slot = &mut slots[place];
            let Some(mut socket) = slot.socket.as_ref() else {
                return Ok(());
            };
            match socket.read(buffer) {
                Ok(0) => return Err(Ended::Closed(None)),
                Ok(bytes) => {
                    let now_ns = part.clock.now_ns();
                    let was_live = slot.client.is_live();
                    slot.client.received(&mut buffer[..bytes], now_ns, run)?;
                    match (was_live, slot.client.is_live()) {
                        (false, true) => self.went_live(place, now_ns),
                        (true, false) => self.give_up_in(LEAVE_NS_MAX, place, now_ns),
                        _ => {}
                    }
                    if bytes < READ_BYTES && !to_the_end {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn went_live(&mut self, place: usize, now_ns: u64) {
        let slot = &mut self.slots[place];
        slot.is_live = true;
        slot.retry_ns = RETRY_NS_MIN;
        if std::mem::replace(&mut slot.was_live, true) {
            self.run.tally.reconnects += 1;
        } else {
            let due_ns = now_ns + slot.client.heartbeat_ms() * MS;
            self.timers
                .push(Reverse((due_ns, Timer::Heartbeat { place })));
        }
        self.connecting -= 1;
        self.last_progress_ns = now_ns;
        self.shared.live.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn flush(&mut self, slot: usize) {
        let Slot {
            client,
            socket: Some(socket),
            ..
        } = &mut self.slots[slot]
        else {
            return;
        };
        let out = client.out();
        while !out.is_empty() {
            match socket.write(out) {
                Ok(bytes) => out.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended(slot, &error.into());
                    return;
                }
            }
        }
    }

    /// A connection is over: it is tried again later, unless that cannot help.
    fn ended(&mut self, place: usize, ended: &Ended) {
        let now_ns = self.part.clock.now_ns();
        let slot = &mut self.slots[place];
        if std::mem::replace(&mut slot.is_live, false) {
            self.shared.live.fetch_sub(1, Ordering::AcqRel);
            self.run.tally.end(ended);
        } else {
            self.connecting -= 1;
        }
        slot.client.disconnected();
        slot.socket = None;
        self.shared.note_end(ended);
        if ended.is_final() {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        let pause_ns = slot
            .client
            .take_retry_after_ms()
            .map_or(slot.retry_ns, |ms| ms * MS);
        slot.retry_ns = (slot.retry_ns * 2).min(RETRY_NS_MAX);
        self.connects.push(Reverse((now_ns + pause_ns, place)));
    }
}
