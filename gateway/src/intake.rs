//! What the clients of a shard have begun to say: request heads, frames and messages of which only
//! a part has arrived.
//!
//! It holds none of it, it only counts: each connection keeps its own part aside. What one may keep
//! is bounded by the longest message; without a bound for all together a crowd that begins messages
//! and never ends them would take the memory of everybody.
//!
//! Invariants: the count is the sum of what the open connections keep; beyond the limit who adds to
//! it ends, unless it keeps no more than anybody whose frame came in two packets.

/// What a connection may keep in any case: less than it costs by itself.
const FAIR_BYTES: usize = 4 << 10;

/// The bytes of one shard that wait for their rest.
#[derive(Debug)]
pub(crate) struct Intake {
    bytes: usize,
    bytes_max: usize,
}

impl Intake {
    /// Nothing has begun.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes: 0,
            bytes_max,
        }
    }

    /// A connection keeps `after` bytes where it kept `before`; false when it has to end, since more
    /// than the limit would be kept with what it added.
    pub(crate) fn changed(&mut self, before: usize, after: usize) -> bool {
        assert!(self.bytes >= before, "what is kept was counted");
        self.bytes = self.bytes - before + after;
        after <= before || after <= FAIR_BYTES || self.bytes <= self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_adds_past_the_limit_ends() {
        let mut intake = Intake::new(100_000);
        assert!(intake.changed(0, 60_000));
        assert!(intake.changed(0, 40_000));
        assert!(!intake.changed(0, 5_000));
        assert!(!intake.changed(40_000, 41_000), "one that was there before");
        assert!(intake.changed(41_000, 40_000), "who gives back does not");
        assert!(intake.changed(5_000, 0), "who ends is not told again");
        assert!(intake.changed(60_000, 30_000));
        assert!(intake.changed(40_000, 70_000));
        assert_eq!(intake.bytes, 100_000);
    }

    #[test]
    fn who_keeps_little_does_not_end() {
        let mut intake = Intake::new(100_000);
        assert!(intake.changed(0, 100_000));
        assert!(intake.changed(0, 200));
        assert!(intake.changed(200, FAIR_BYTES));
        assert!(!intake.changed(FAIR_BYTES, FAIR_BYTES + 1));
    }
}
