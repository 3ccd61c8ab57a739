//! What the kernel says about sockets, and how each moves from state to state.
//!
//! The other half of [`Sockets`]: that one asks the kernel, this one hears its answers. It calls
//! no application; what concerns it is returned.
//!
//! Invariants: see [`super::sockets`]. A place is closed only in [`Sockets::step`] or after an
//! install, when no receive, send or shutdown is outstanding.

use std::os::fd::AsRawFd;

use super::ring::{Completion, NO_CONN, Operation};
use super::socket::{Bit, Socket, State};
use super::sockets::{Happened, Sockets, socket};
use crate::io::ConnId;

impl Sockets {
    /// Takes in one completion; what it means to the application, if anything. More may be in
    /// [`Sockets::next_happened`].
    pub(super) fn complete(&mut self, completion: Completion, now_ms: u64) -> Option<Happened> {
        let Completion {
            operation,
            conn,
            result,
            ..
        } = completion;
        match operation {
            Operation::Accept => return self.accepted(completion),
            Operation::Receive => return self.receive_completed(completion, now_ms),
            Operation::Send => self.send_completed(conn, result),
            Operation::Shutdown => {
                self.socket(conn).set(Bit::Finning, false);
                self.step(conn);
            }
            Operation::Install => {
                self.hand_overs.installed(conn.index, result);
                self.begin_closing(conn);
            }
            Operation::Close => return self.closed(conn),
            Operation::CancelReceive => self.cancel_completed(conn, result),
            Operation::CancelSend | Operation::CancelAccept => {}
        }
        None
    }

    fn accepted(&mut self, completion: Completion) -> Option<Happened> {
        self.accepting = completion.more;
        let Ok(index) = u32::try_from(completion.result) else {
            self.accept_failed = completion.result != -libc::ECANCELED;
            return None;
        };
        while self.table.len() <= index as usize {
            self.table.push(Socket::new());
        }
        let socket = &mut self.table[index as usize];
        socket.open();
        let conn = ConnId {
            index,
            generation: socket.generation,
        };
        self.live += 1;
        self.start_receiving(conn);
        if self.listener.is_none() {
            self.fail(conn);
        }
        if self.accepting && self.live >= self.limits.connections_max {
            self.ring.cancel(Operation::Accept, NO_CONN);
        }
        Some(Happened::Accepted(conn))
    }

    pub(super) fn accept_if_room(&mut self) {
        let room = self.live < self.limits.connections_max;
        let wanted = room && !self.accepting && !self.accept_failed;
        if let Some(listener) = self.listener.as_ref().filter(|_| wanted) {
            self.accepting = true;
            self.ring.accept(listener.as_raw_fd());
        }
    }

    fn receive_completed(&mut self, completion: Completion, now_ms: u64) -> Option<Happened> {
        let Completion {
            conn,
            result,
            buffer,
            more,
            ..
        } = completion;
        let socket = self.socket(conn);
        let state = socket.state;
        socket.set(Bit::Receiving, more);
        if !more {
            socket.set(Bit::Cancelling, false);
        }
        let mut happened = None;
        match usize::try_from(result) {
            Ok(bytes) if bytes > 0 => {
                let buffer = buffer.expect("what arrives lies in a buffer");
                if state == State::HandingOver {
                    let bytes = self.ring.buffers().filled(buffer, bytes);
                    self.hand_overs.received(conn.index, bytes);
                }
                if state == State::Open {
                    happened = Some(Happened::Received(conn, buffer, bytes));
                } else {
                    self.give_back(buffer);
                }
            }
            Ok(_) => happened = self.peer_ended(conn, buffer, now_ms),
            Err(_) if matches!(-result, libc::ENOBUFS | libc::ECANCELED | libc::EINTR) => {}
            Err(_) => {
                socket.set(Bit::Ended, true);
                self.fail(conn);
                happened = self.tell_closed(conn);
            }
        }
        if !more {
            self.starved.push(conn);
        }
        happened
    }

    /// The peer said FIN. What is queued for it still leaves.
    fn peer_ended(&mut self, conn: ConnId, buffer: Option<u16>, now_ms: u64) -> Option<Happened> {
        if let Some(buffer) = buffer {
            self.give_back(buffer);
        }
        let socket = self.socket(conn);
        socket.set(Bit::Ended, true);
        if socket.state == State::Open {
            self.leave(conn, now_ms);
            return self.tell_closed(conn);
        }
        None
    }

    fn send_completed(&mut self, conn: ConnId, result: i32) {
        let unread_bytes_max = self.limits.unread_bytes_max;
        let socket = self.socket(conn);
        let Ok(bytes) = usize::try_from(result) else {
            socket.egress.failed();
            self.fail(conn);
            return;
        };
        socket.egress.sent(bytes);
        if socket.state == State::Failed {
            socket.egress.discard();
        }
        let idle = socket.egress.is_idle();
        let writable = socket.egress.take_writable() && socket.state == State::Open;
        let due = !idle && socket.first(Bit::Due);
        let low = unread_bytes_max.is_some_and(|max| socket.egress.queued_bytes() <= max / 2);
        let readable = low && socket.is(Bit::Unread);
        if due {
            self.due.push_back(conn);
        }
        if writable {
            self.happened.push_back(Happened::Writable(conn));
        }
        if readable {
            self.socket(conn).set(Bit::Unread, false);
            self.resume_receiving(conn);
        }
        self.step(conn);
    }

    /// A cancellation that came at a moment when the receive could not be found is repeated.
    fn cancel_completed(&mut self, conn: ConnId, result: i32) {
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        if result < 0 && socket.is(Bit::Receiving) {
            socket.set(Bit::Cancelling, false);
            self.stubborn.push(conn);
        }
    }

    fn closed(&mut self, conn: ConnId) -> Option<Happened> {
        let told = self.tell_closed(conn);
        self.socket(conn).free();
        self.live -= 1;
        told
    }

    fn tell_closed(&mut self, conn: ConnId) -> Option<Happened> {
        self.socket(conn)
            .first(Bit::Told)
            .then_some(Happened::Closed(conn))
    }

    pub(super) fn leave(&mut self, conn: ConnId, now_ms: u64) {
        let deadline_ms = now_ms + self.limits.linger_ms_max;
        self.deadlines.push_back((deadline_ms, conn));
        let socket = self.socket(conn);
        socket.state = State::Leaving;
        socket.set(Bit::Unread, false);
        self.resume_receiving(conn);
        self.step(conn);
    }

    /// Gives a socket up: nothing more is sent, its operations are ended.
    pub(super) fn fail(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        if socket.state >= State::Failed {
            return;
        }
        if socket.state == State::HandingOver {
            self.hand_overs.abandon(conn.index);
        }
        socket.state = State::Failed;
        socket.egress.discard();
        if socket.egress.in_flight() {
            self.ring.cancel(Operation::Send, conn);
        }
        self.step(conn);
    }

    /// Takes the next step of a socket that is on its way out.
    pub(super) fn step(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        let idle = socket.egress.is_idle();
        let receiving = socket.is(Bit::Receiving);
        let quiet = !receiving && !socket.is(Bit::Finning);
        match socket.state {
            State::Leaving if idle && socket.is(Bit::Ended) && quiet => self.begin_closing(conn),
            State::Leaving if idle && !socket.is(Bit::Ended) && !socket.is(Bit::Finned) => {
                socket.set(Bit::Finned, true);
                socket.set(Bit::Finning, true);
                self.ring.shutdown(conn);
            }
            State::Failed if idle && quiet => self.begin_closing(conn),
            State::Failed if receiving => self.stop_receiving(conn),
            State::HandingOver if idle && quiet => {
                // Not a state of its own: an install ends at once and cannot be cancelled.
                socket.state = State::Closing;
                self.ring.install(conn);
            }
            State::HandingOver if receiving => self.stop_receiving(conn),
            State::Open if socket.is(Bit::Unread) && receiving => self.stop_receiving(conn),
            _ => {}
        }
    }

    fn begin_closing(&mut self, conn: ConnId) {
        self.socket(conn).state = State::Closing;
        self.ring.close(conn);
    }

    fn start_receiving(&mut self, conn: ConnId) {
        self.socket(conn).set(Bit::Receiving, true);
        self.ring.receive(conn);
    }

    pub(super) fn stop_receiving(&mut self, conn: ConnId) {
        let socket = self.socket(conn);
        if socket.is(Bit::Receiving) && socket.first(Bit::Cancelling) {
            self.ring.cancel(Operation::Receive, conn);
        }
    }

    /// A receive has ended or may go on: starts the next one where one is wanted.
    pub(super) fn resume_receiving(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        if socket.is(Bit::Receiving) {
            return;
        }
        let wanted = matches!(socket.state, State::Open | State::Leaving);
        if wanted && !socket.is(Bit::Ended) && !socket.is(Bit::Unread) {
            self.start_receiving(conn);
        } else {
            self.step(conn);
        }
    }

    /// The socket that an outstanding operation is on.
    fn socket(&mut self, conn: ConnId) -> &mut Socket {
        socket(&mut self.table, conn).expect("a place keeps its tenant while operations run")
    }
}
