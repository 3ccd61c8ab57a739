//! One subscriber's view of one channel: which sequence numbers came, and in which order.
//!
//! It never looks at what a message says, nor at what other subscribers saw: the oracle compares
//! them.
//!
//! Invariants: a number is counted as received at most once; what is held grows with the gaps,
//! never with the messages received or with how far a bad number is away.

use std::collections::BTreeMap;

use throng_protocol::Seq;

/// What a delivery meant to its subscriber.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// It was the next one, or the first after a gap.
    New,
    /// It fills a gap: it came out of order.
    Late,
    /// It had come before, or is older than the subscription.
    Again,
}

/// What a subscriber got since it subscribed, or since it was told that too much was missed.
#[derive(Clone, Debug)]
pub struct Span {
    first: u64,
    next: u64,
    /// Gaps within `first..next`: start and end (exclusive).
    gaps: BTreeMap<u64, u64>,
    open: bool,
}

impl Span {
    /// A subscription that is live after `head`.
    #[must_use]
    pub fn after(head: Seq) -> Self {
        let first = head.0.saturating_add(1);
        Self {
            first,
            next: first,
            gaps: BTreeMap::new(),
            open: true,
        }
    }

    /// Ends the span at what has been received: nothing more is due to it.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// Takes note of a delivery.
    pub fn take(&mut self, seq: Seq) -> Arrival {
        let seq = seq.0;
        if seq >= self.next {
            if seq > self.next {
                self.gaps.insert(self.next, seq);
            }
            self.next = seq.saturating_add(1);
            return Arrival::New;
        }
        let Some((&start, &end)) = self.gaps.range(..=seq).next_back() else {
            return Arrival::Again;
        };
        if seq >= end {
            return Arrival::Again;
        }
        self.gaps.remove(&start);
        if start < seq {
            self.gaps.insert(start, seq);
        }
        if seq + 1 < end {
            self.gaps.insert(seq + 1, end);
        }
        Arrival::Late
    }

    /// The newest number that came; what the subscription began after, if none did.
    #[must_use]
    pub const fn newest(&self) -> Seq {
        Seq(self.next - 1)
    }

    /// How many different numbers came.
    #[must_use]
    pub fn received(&self) -> u64 {
        let missing: u64 = self.gaps.iter().map(|(start, end)| end - start).sum();
        self.next - self.first - missing
    }

    /// Whether everything up to `head` has come.
    #[must_use]
    pub fn has_all_to(&self, head: Seq) -> bool {
        self.gaps.is_empty() && (!self.open || self.next > head.0)
    }

    /// How many of these numbers were due to the subscriber.
    #[must_use]
    pub fn due(&self, known_ascending: &[u64]) -> u64 {
        let start = known_ascending.partition_point(|&seq| seq < self.first);
        let end = if self.open {
            known_ascending.len()
        } else {
            known_ascending.partition_point(|&seq| seq < self.next)
        };
        u64::try_from(end.saturating_sub(start)).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: u64, arrivals: &[(u64, Arrival)]) -> Span {
        let mut span = Span::after(Seq(head));
        for &(seq, expected) in arrivals {
            assert_eq!(span.take(Seq(seq)), expected, "seq {seq} of {arrivals:?}");
        }
        span
    }

    #[test]
    fn in_order() {
        let span = check(
            5,
            &[(6, Arrival::New), (7, Arrival::New), (8, Arrival::New)],
        );
        assert_eq!((span.received(), span.newest()), (3, Seq(8)));
        assert!(span.has_all_to(Seq(8)) && !span.has_all_to(Seq(9)));
        assert_eq!(span.due(&[4, 5, 6, 7, 8, 9]), 4);
    }

    #[test]
    fn repeats_and_old_ones() {
        let span = check(
            5,
            &[(6, Arrival::New), (6, Arrival::Again), (5, Arrival::Again)],
        );
        assert_eq!(span.received(), 1);
    }

    #[test]
    fn a_gap_is_filled_in_any_order() {
        let span = check(
            0,
            &[
                (1, Arrival::New),
                (6, Arrival::New),
                (3, Arrival::Late),
                (3, Arrival::Again),
                (5, Arrival::Late),
                (2, Arrival::Late),
            ],
        );
        assert_eq!(span.received(), 5);
        assert!(!span.has_all_to(Seq(6)));
    }

    #[test]
    fn a_closed_span_is_due_only_what_lies_within() {
        let mut span = check(0, &[(1, Arrival::New), (3, Arrival::New)]);
        span.close();
        assert_eq!((span.due(&[1, 2, 3, 4, 5]), span.received()), (3, 2));
        assert_eq!(Span::after(Seq(9)).due(&[1, 2]), 0);
    }

    #[test]
    fn absurd_numbers_cost_nothing() {
        let span = check(
            0,
            &[(u64::MAX, Arrival::New), (u64::MAX - 1, Arrival::Late)],
        );
        assert!(span.gaps.len() <= 1);
    }
}
