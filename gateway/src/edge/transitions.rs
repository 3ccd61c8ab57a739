//! What the kernel says about sockets, and how each moves from state to state.
//!
//! The other half of [`Sockets`]: that one asks the kernel, this one hears its answers. It calls
//! no application; what concerns it is returned.
//!
//! Invariants: see [`super::sockets`]. A place is closed only in [`Sockets::step`] or after an
//! install, when no receive, poll, send or shutdown is outstanding.

use super::operation::{Completion, Operation};
use super::socket::{Bit, Socket, State};
use super::sockets::{Happened, Sockets, socket};
use crate::config::ReceiveMode;
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
            Operation::Accept => return self.accepted(completion, now_ms),
            Operation::Receive => return self.receive_completed(completion, now_ms),
            Operation::Poll => return self.polled(completion),
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
            Operation::CancelReceive | Operation::CancelPoll => self.cancel_completed(conn, result),
            Operation::CancelSend | Operation::CancelAccept => {}
        }
        None
    }

    fn receive_completed(&mut self, completion: Completion, now_ms: u64) -> Option<Happened> {
        let Completion {
            conn,
            result,
            buffer,
            more,
            ..
        } = completion;
        let happened = match usize::try_from(result) {
            Ok(bytes) if bytes > 0 => {
                let buffer = buffer.expect("what arrives lies in a buffer");
                self.arrived(conn, buffer, bytes)
            }
            Ok(_) => {
                if let Some(buffer) = buffer {
                    self.give_back(conn, buffer);
                }
                self.receive_ended(completion);
                return self.peer_ended(conn, now_ms);
            }
            Err(_) if is_passing(-result) => None,
            Err(_) => {
                self.socket(conn).set(Bit::Ended, true);
                self.receive_ended(completion);
                self.fail(conn);
                return self.tell_closed(conn);
            }
        };
        if !more {
            self.receive_ended(completion);
        }
        happened
    }

    /// Bytes arrived: for the application, for whoever takes the socket over, or for nobody.
    fn arrived(&mut self, conn: ConnId, buffer: u16, bytes: usize) -> Option<Happened> {
        match self.socket(conn).state {
            State::Open => return Some(Happened::Received(conn, buffer, bytes)),
            State::HandingOver => {
                let bytes = self.rings[conn].buffers().filled(buffer, bytes);
                self.hand_overs.received(conn.index, bytes);
            }
            _ => {}
        }
        self.give_back(conn, buffer);
        None
    }

    /// A receive is over; after this batch the next one follows where one is wanted.
    fn receive_ended(&mut self, completion: Completion) {
        let Completion { conn, result, .. } = completion;
        let is_dense = self.is_dense();
        let socket = self.socket(conn);
        if is_dense {
            socket.set(Bit::Reading, false);
            // Empty: the poll tells when there is more.
            if result == -libc::EAGAIN || (result > 0 && !completion.nonempty) {
                return self.step(conn);
            }
        } else {
            socket.set(Bit::Receiving, false);
            socket.set(Bit::Cancelling, false);
        }
        self.starved.push(conn);
    }

    /// In the dense mode: something may be received, or the poll is over.
    fn polled(&mut self, completion: Completion) -> Option<Happened> {
        let Completion {
            conn, result, more, ..
        } = completion;
        // A reset may lie behind bytes that have arrived, and no receive that gets those tells of
        // it: they are lost with the connection.
        let is_reset = result > 0 && result & i32::from(libc::POLLERR) != 0;
        // Also with the last word of a poll, and before the next one begins: that would have the
        // same to tell at once, and where it found no room for it, so on for ever.
        if result > 0 && !is_reset {
            self.read(conn);
        }
        if !more {
            let socket = self.socket(conn);
            socket.set(Bit::Receiving, false);
            socket.set(Bit::Cancelling, false);
            self.starved.push(conn);
        }
        if is_reset {
            self.socket(conn).set(Bit::Ended, true);
            self.fail(conn);
            return self.tell_closed(conn);
        }
        None
    }

    /// The peer said FIN. What is queued for it still leaves.
    fn peer_ended(&mut self, conn: ConnId, now_ms: u64) -> Option<Happened> {
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
        let socket =
            socket(&mut self.table, conn).expect("a place keeps its tenant while it is sent to");
        let Ok(bytes) = usize::try_from(result) else {
            socket.egress.failed();
            self.fail(conn);
            return;
        };
        socket.egress.sent(bytes, &mut self.spool);
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
        self.rings.give_back(conn);
        self.admission.gone(conn);
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
            self.rings[conn].cancel(Operation::Send, conn);
        }
        self.step(conn);
    }

    /// Takes the next step of a socket that is on its way out.
    pub(super) fn step(&mut self, conn: ConnId) {
        let is_dense = self.is_dense();
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        let idle = socket.egress.is_idle();
        let receiving = socket.is(Bit::Receiving);
        let gone = match socket.state {
            State::Leaving | State::Finned => idle && socket.is(Bit::Ended),
            State::Failed => idle,
            _ => false,
        };
        match socket.state {
            _ if gone && socket.is_quiet() => self.begin_closing(conn),
            State::Leaving if idle && !gone => {
                socket.state = State::Finned;
                socket.set(Bit::Finning, true);
                self.rings[conn].shutdown(conn);
            }
            State::HandingOver if idle && socket.is_quiet() => {
                // Not a state of its own: an install ends at once and cannot be cancelled.
                socket.state = State::Closing;
                self.rings[conn].install(conn);
            }
            State::Failed | State::HandingOver if receiving => self.stop_receiving(conn),
            _ if gone && receiving => self.stop_receiving(conn),
            State::Open if socket.is(Bit::Unread) && receiving && !is_dense => {
                self.stop_receiving(conn);
            }
            _ => {}
        }
    }

    fn begin_closing(&mut self, conn: ConnId) {
        self.socket(conn).state = State::Closing;
        self.rings[conn].close(conn);
    }

    /// Asks to hear of arrivals. A poll tells of what has already arrived, too.
    pub(super) fn start_receiving(&mut self, conn: ConnId) {
        self.socket(conn).set(Bit::Receiving, true);
        match self.limits.mode {
            ReceiveMode::Multishot => self.rings[conn].receive(conn),
            ReceiveMode::Dense => self.rings[conn].poll(conn),
        }
    }

    fn stop_receiving(&mut self, conn: ConnId) {
        let standing = match self.limits.mode {
            ReceiveMode::Multishot => Operation::Receive,
            ReceiveMode::Dense => Operation::Poll,
        };
        let socket = self.socket(conn);
        if socket.is(Bit::Receiving) && socket.first(Bit::Cancelling) {
            self.rings[conn].cancel(standing, conn);
        }
    }

    /// The socket is not to be read for a while. In the dense mode it is enough not to ask.
    pub(super) fn pause_receiving(&mut self, conn: ConnId) {
        if !self.is_dense() {
            self.stop_receiving(conn);
        }
    }

    /// A receive has ended or may go on: starts the next one where one is wanted.
    pub(super) fn resume_receiving(&mut self, conn: ConnId) {
        let is_dense = self.is_dense();
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        let receiving = socket.is(Bit::Receiving);
        match (socket.is_wanted(), receiving) {
            (true, false) => self.start_receiving(conn),
            (true, true) if is_dense => self.read(conn),
            _ => self.step(conn),
        }
    }

    /// In the dense mode: takes what has arrived, unless the socket is not to be read.
    fn read(&mut self, conn: ConnId) {
        let socket = self.socket(conn);
        if socket.is_wanted() && socket.first(Bit::Reading) {
            self.rings[conn].read(conn);
        }
    }

    fn is_dense(&self) -> bool {
        self.limits.mode == ReceiveMode::Dense
    }

    /// The socket that an outstanding operation is on.
    pub(super) fn socket(&mut self, conn: ConnId) -> &mut Socket {
        socket(&mut self.table, conn).expect("a place keeps its tenant while operations run")
    }
}

/// Errors of a receive after which the next one may go well: no buffer was free, nothing was there,
/// it was cancelled, a signal came.
fn is_passing(error: i32) -> bool {
    matches!(
        error,
        libc::ENOBUFS | libc::EAGAIN | libc::ECANCELED | libc::EINTR
    )
}
