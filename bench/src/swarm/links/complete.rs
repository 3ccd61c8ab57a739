//! What the kernel's answers do to a connection.
//!
//! It calls nobody: what the protocol is to hear is left in `happened`.
//!
//! Invariants: those of [`Links`]; an answer that contradicts a connection's state is our own
//! mistake and ends the process.

use super::{Bit, End, Happened, Link, Links, Receiving, State};
use crate::swarm::ring::{Completion, Operation};

impl Links {
    pub(super) fn complete(&mut self, ring: usize, completion: Completion) {
        let ring = u32::try_from(ring).expect("rings are counted by connections");
        let link = Link(ring * self.settings.places + completion.place);
        match completion.operation {
            Operation::Dial => self.dialled(link, completion.result),
            Operation::Poll => self.polled(link, completion),
            Operation::Receive => self.received(link, completion),
            Operation::Send => self.sent(link, completion),
            Operation::Cancel => {}
            Operation::Close => self.closed(link),
            Operation::Accept => unreachable!("connections are made here, never taken"),
        }
    }

    /// Whatever was not said before: arms what receives.
    pub(super) fn receive(&mut self, link: Link) {
        let (ring, place) = self.home(link);
        let state = &mut self.states[link.place()];
        if state.is(Bit::Ending) || !state.is(Bit::Up) || state.is(Bit::Deaf) {
            return;
        }
        match self.settings.receiving {
            Receiving::Dense => {
                assert!(!state.is(Bit::Receiving), "one receive at a time");
                state.set(Bit::Receiving, true);
                self.rings[ring].receive_once(place);
            }
            Receiving::Multishot => {
                assert!(!state.is(Bit::Armed), "one receive at a time");
                state.set(Bit::Armed, true);
                self.rings[ring].receive(place);
            }
        }
    }

    /// Ends a connection for this reason, unless it is over or ends already.
    pub(super) fn end(&mut self, link: Link, end: End) {
        let (ring, place) = self.home(link);
        let state = &mut self.states[link.place()];
        if *state == State::default() || state.is(Bit::Ending) {
            return;
        }
        state.set(Bit::Ending, true);
        self.ends.insert(link, end);
        if state.is_busy() {
            self.rings[ring].cancel(place);
        }
        self.settle(link);
    }

    /// Closes the place of a connection that ends, once nothing is outstanding on it.
    fn settle(&mut self, link: Link) {
        let (ring, place) = self.home(link);
        let state = &mut self.states[link.place()];
        if state.is(Bit::Ending) && !state.is_busy() && !state.is(Bit::Closing) {
            state.set(Bit::Closing, true);
            self.rings[ring].close(place);
        }
    }

    fn dialled(&mut self, link: Link, result: i32) {
        let (ring, place) = self.home(link);
        let state = &mut self.states[link.place()];
        assert!(state.is(Bit::Dialling), "it was being dialled");
        state.set(Bit::Dialling, false);
        if result < 0 && !state.is(Bit::Ending) {
            state.set(Bit::Ending, true);
            self.ends.insert(link, End::Dial(-result));
        }
        if state.is(Bit::Ending) {
            return self.settle(link);
        }
        state.set(Bit::Up, true);
        if self.settings.receiving == Receiving::Dense {
            state.set(Bit::Armed, true);
            self.rings[ring].poll(place);
        } else {
            self.receive(link);
        }
        self.happened.push(Happened::Up(link));
    }

    fn polled(&mut self, link: Link, completion: Completion) {
        let (ring, place) = self.home(link);
        let state = &mut self.states[link.place()];
        assert!(state.is(Bit::Armed), "it was polled");
        state.set(Bit::Armed, completion.more);
        if state.is(Bit::Ending) {
            return self.settle(link);
        }
        if !completion.more {
            // The kernel ends a poll when its queue of completions overflows.
            state.set(Bit::Armed, true);
            self.rings[ring].poll(place);
        }
        let state = &mut self.states[link.place()];
        if state.is(Bit::Receiving) {
            state.set(Bit::Again, true);
        } else {
            self.receive(link);
        }
    }

    fn received(&mut self, link: Link, completion: Completion) {
        let is_dense = self.settings.receiving == Receiving::Dense;
        let state = &mut self.states[link.place()];
        if is_dense {
            state.set(Bit::Receiving, false);
        } else {
            state.set(Bit::Armed, completion.more);
        }
        if let (Some(buffer), Ok(bytes)) = (completion.buffer, usize::try_from(completion.result)) {
            self.filled_by(link, buffer, bytes, completion.nonempty);
        }
        if self.states[link.place()].is(Bit::Ending) {
            return self.settle(link);
        }
        match -completion.result {
            0 => self.end(link, End::Peer),
            libc::ENOBUFS => self.starved.push(link),
            libc::EAGAIN if is_dense => self.receive_again(link),
            error if error > 0 => self.end(link, End::Broken(error)),
            _ if is_dense => self.receive_again(link),
            _ if !completion.more => self.receive(link),
            _ => {}
        }
    }

    fn filled_by(&mut self, link: Link, buffer: u16, bytes: usize, is_nonempty: bool) {
        let ring = self.home(link).0;
        let is_full = self.rings[ring].buffers().is_full(bytes);
        let state = &mut self.states[link.place()];
        if is_full || is_nonempty {
            state.set(Bit::Again, true);
        }
        if bytes == 0 || state.is(Bit::Ending) {
            self.rings[ring].buffers().give_back(buffer);
            return;
        }
        self.happened.push(Happened::Received {
            link,
            buffer,
            bytes,
        });
    }

    fn receive_again(&mut self, link: Link) {
        let state = &mut self.states[link.place()];
        if state.is(Bit::Again) {
            state.set(Bit::Again, false);
            self.receive(link);
        }
    }

    fn sent(&mut self, link: Link, completion: Completion) {
        let bytes = self.outgoing.release(completion.tag);
        let state = &mut self.states[link.place()];
        state.set(Bit::Sending, false);
        if state.is(Bit::Ending) {
            return self.settle(link);
        }
        let is_whole = usize::try_from(completion.result) == Ok(bytes);
        if !is_whole {
            // MSG_WAITALL sends all or fails: a part means that the peer reset meanwhile.
            return self.end(link, End::Broken((-completion.result).max(libc::EPIPE)));
        }
        if state.is(Bit::Waiting) {
            state.set(Bit::Waiting, false);
            state.set(Bit::Sending, true);
            let waiting = self.waiting.remove(&link).expect("the bit says so");
            self.send_held(link, waiting.into());
        }
    }

    fn closed(&mut self, link: Link) {
        self.states[link.place()] = State::default();
        self.waiting.remove(&link);
        let end = self.ends.remove(&link).expect("whoever ends says why");
        self.happened.push(Happened::Ended(link, end));
    }
}
