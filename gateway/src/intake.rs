//! What the clients of a shard have begun to say: request heads, frames and messages of which only
//! a part has arrived.
//!
//! It holds none of it, it only counts: each connection keeps its own part aside. What one may keep
//! is bounded by the longest message; without a bound for all together a crowd that begins messages
//! and never ends them would take the memory of everybody.
//!
//! Invariants: the count is the sum of what the open connections keep; who would take it past the
//! limit ends, and nobody else does.

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
        after <= before || self.bytes <= self.bytes_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_adds_past_the_limit_ends() {
        let mut intake = Intake::new(100);
        assert!(intake.changed(0, 60));
        assert!(intake.changed(0, 40));
        assert!(!intake.changed(0, 1));
        assert!(!intake.changed(40, 41), "one that was there before");
        assert!(intake.changed(41, 40), "who ends is not told again");
        assert!(intake.changed(1, 0));
        assert!(intake.changed(60, 30));
        assert!(intake.changed(40, 70));
        assert_eq!(intake.bytes, 100);
    }
}
