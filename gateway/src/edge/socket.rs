//! One place in a shard's table of sockets.
//!
//! It decides nothing: [`super::sockets`] moves it from state to state.
//!
//! Invariants: a place changes its generation when its tenant has gone, and the tenant has gone
//! only after every operation on it has completed. An idle socket is this entry and nothing else.

use crate::egress::Egress;

/// Where a socket stands. Each state is only ever left for one further down, `Free` at last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum State {
    /// Nobody's.
    Free,
    /// Read and written.
    Open,
    /// Becomes an ordinary descriptor as soon as the multishot receive has ended.
    HandingOver,
    /// What is queued leaves, then FIN; what arrives is thrown away until the peer's FIN.
    Leaving,
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
}

/// What is known about a socket beside its state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Bit {
    /// A multishot receive is outstanding.
    Receiving = 1,
    /// Its cancellation is.
    Cancelling = 2,
    /// Not to be read until enough has left.
    Unread = 4,
    /// The peer's FIN or a failure was received: nothing more arrives.
    Ended = 8,
    /// A shutdown was asked for.
    Finned = 16,
    /// That shutdown is outstanding.
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
        assert!(!self.is(Bit::Receiving) && !self.is(Bit::Finning) && !self.egress.in_flight());
        self.state = State::Free;
        self.generation = self.generation.wrapping_add(1);
        self.egress = Egress::new();
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

#[cfg(test)]
mod tests {
    use super::*;

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
