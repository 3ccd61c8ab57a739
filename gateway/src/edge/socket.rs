//! One place in a shard's table of sockets.
//!
//! It decides nothing: [`super::sockets`] moves it from state to state.
//!
//! Invariants: a place changes its generation when its tenant has gone, and the tenant has gone
//! only after every operation on it has completed. An idle socket is this entry and nothing else.

use crate::egress::Egress;

/// How many times its backlog's limit may wait for a socket that is not waited for itself: what
/// the server gathers for it between two looks at the ring says nothing about the reader.
const BURST_BACKLOGS_MAX: usize = 4;
/// Steps of one backlog in which [`Socket::base`] counts.
const BASE_STEPS: usize = 8_192;

/// Where a socket stands. Each state is only ever left for one further down, `Free` at last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum State {
    /// Nobody's.
    Free,
    /// Read and written.
    Open,
    /// Becomes an ordinary descriptor as soon as nothing is received here any more.
    HandingOver,
    /// What is queued leaves; what arrives is thrown away.
    Leaving,
    /// It has left and FIN was said; what arrives is thrown away until the peer's FIN.
    Finned,
    /// Nothing can be sent any more; waits for its operations to end.
    Failed,
    /// Being closed: the last operation.
    Closing,
}

/// The entry of one socket.
#[derive(Debug)]
pub(super) struct Socket {
    pub(super) egress: Egress,
    pub(super) generation: u32,
    pub(super) state: State,
    bits: u8,
    /// What waited when the last send was started, in [`BASE_STEPS`] of the backlog's limit.
    base: u16,
}

/// Bytes of one socket.
#[cfg(test)]
pub(crate) const SOCKET_BYTES: usize = size_of::<Socket>();

/// What is known about a socket beside its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Bit {
    /// What tells of arrivals is outstanding: a multishot receive, or in the dense mode a poll.
    Receiving = 1,
    /// Its cancellation is.
    Cancelling = 2,
    /// A single receive is outstanding, in the dense mode.
    Reading = 4,
    /// Not to be read until enough has left.
    Unread = 8,
    /// The peer's FIN or a failure was received: nothing more arrives.
    Ended = 16,
    /// A shutdown is outstanding.
    Finning = 32,
    /// In the list of those that have something to send.
    Due = 64,
    /// The application has heard `Closed`.
    Told = 128,
}

impl Socket {
    pub(super) fn new() -> Self {
        Self {
            egress: Egress::new(),
            generation: 0,
            state: State::Free,
            bits: 0,
            base: 0,
        }
    }

    /// A new tenant moves in.
    pub(super) fn open(&mut self) {
        assert_eq!(self.state, State::Free, "a place has one tenant");
        self.state = State::Open;
        self.bits = 0;
        self.egress = Egress::new();
    }

    /// The tenant has gone; its generation is over.
    pub(super) fn free(&mut self) {
        assert_eq!(self.state, State::Closing);
        assert!(self.is_quiet() && !self.egress.in_flight());
        self.state = State::Free;
        self.generation = self.generation.wrapping_add(1);
        self.egress = Egress::new();
    }

    /// The bytes that may wait here with the next frame. A reader is slow by what gathers while a
    /// send is on its way, not by what the server itself did not start yet; a first frame always
    /// fits. So up to four backlogs wait for a reader, and one frame where that is larger.
    pub(super) fn waiting_bytes_max(&self, backlog_bytes_max: usize) -> usize {
        let burst_bytes_max = backlog_bytes_max.saturating_mul(BURST_BACKLOGS_MAX);
        if self.egress.is_idle() {
            usize::MAX
        } else if self.egress.in_flight() {
            let base_bytes = usize::from(self.base) * base_step(backlog_bytes_max);
            burst_bytes_max.min(base_bytes.saturating_add(backlog_bytes_max))
        } else {
            burst_bytes_max
        }
    }

    /// A send is being started.
    pub(super) fn note_send(&mut self, backlog_bytes_max: usize) {
        let steps = self.egress.queued_bytes() / base_step(backlog_bytes_max);
        self.base = u16::try_from(steps).unwrap_or(u16::MAX);
    }

    /// Whether no operation is outstanding but perhaps a send.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is(Bit::Receiving) && !self.is(Bit::Reading) && !self.is(Bit::Finning)
    }

    /// Whether what arrives is wanted now: for the application, or to be thrown away.
    pub(super) fn is_wanted(&self) -> bool {
        let may_hear = matches!(self.state, State::Open | State::Leaving | State::Finned);
        may_hear && !self.is(Bit::Ended) && !self.is(Bit::Unread)
    }

    pub(super) fn is(&self, bit: Bit) -> bool {
        self.bits & bit as u8 != 0
    }

    pub(super) fn set(&mut self, bit: Bit, on: bool) {
        if on {
            self.bits |= bit as u8;
        } else {
            self.bits &= !(bit as u8);
        }
    }

    /// Sets a bit; whether it was clear before.
    pub(super) fn first(&mut self, bit: Bit) -> bool {
        let first = !self.is(bit);
        self.set(bit, true);
        first
    }
}

fn base_step(backlog_bytes_max: usize) -> usize {
    backlog_bytes_max.div_ceil(BASE_STEPS).max(1)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::egress::Pushed;
    use crate::spool::Spool;

    const BACKLOG: usize = 100;

    fn push(socket: &mut Socket, bytes: usize) -> Pushed {
        let mut spool = Spool::new(usize::MAX);
        let frame = spool.frame(Bytes::from(vec![0; bytes]));
        let bytes_max = socket.waiting_bytes_max(BACKLOG);
        socket.egress.push(frame, bytes_max, &mut spool)
    }

    fn start_send(socket: &mut Socket) {
        assert!(
            socket
                .egress
                .next_send(&mut Spool::new(usize::MAX))
                .is_some()
        );
        socket.note_send(BACKLOG);
    }

    #[test]
    fn a_burst_of_our_own_is_no_slow_reader_but_bounded() {
        let mut socket = Socket::new();
        for _ in 0..BURST_BACKLOGS_MAX {
            assert_eq!(push(&mut socket, BACKLOG), Pushed::Queued);
        }
        assert_eq!(push(&mut socket, 1), Pushed::Overflow);
    }

    #[test]
    fn a_reader_is_slow_by_what_gathers_during_a_send() {
        let mut socket = Socket::new();
        assert_eq!(push(&mut socket, 2 * BACKLOG), Pushed::Queued);
        start_send(&mut socket);
        assert_eq!(push(&mut socket, BACKLOG), Pushed::Queued);
        assert_eq!(push(&mut socket, 1), Pushed::Overflow);
    }

    #[test]
    fn sends_that_do_not_keep_up_overflow_in_the_end() {
        let mut socket = Socket::new();
        assert_eq!(push(&mut socket, 10), Pushed::Queued);
        let mut rounds = 0;
        loop {
            start_send(&mut socket);
            if push(&mut socket, BACKLOG) == Pushed::Overflow {
                break;
            }
            socket.egress.sent(1, &mut Spool::new(usize::MAX));
            rounds += 1;
        }
        assert_eq!(rounds, 3, "three backlogs and a first frame");
    }

    #[test]
    fn a_first_frame_always_fits() {
        let mut socket = Socket::new();
        assert_eq!(push(&mut socket, 9 * BACKLOG), Pushed::Queued);
        assert_eq!(push(&mut socket, 1), Pushed::Overflow);
    }

    #[test]
    fn an_idle_connection_is_small() {
        assert_eq!(size_of::<Socket>(), 24);
    }

    #[test]
    fn bits_are_distinct() {
        let mut socket = Socket::new();
        assert!(socket.first(Bit::Told) && !socket.first(Bit::Told));
        assert!(!socket.is(Bit::Due));
        socket.set(Bit::Told, false);
        assert_eq!(socket.bits, 0);
    }
}
