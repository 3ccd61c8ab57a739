//! An even pace: when the next thing is due.
//!
//! It reads no clock.
//!
//! Invariants: what is due depends on the time alone; what was late is made up for.

/// So many a second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    rate: u32,
    from_ns: u64,
    taken: u64,
}

impl Pace {
    /// Begins now; the first is due at once. 0 a second is never.
    pub(super) const fn new(rate: u32, now_ns: u64) -> Self {
        Self {
            rate,
            from_ns: now_ns,
            taken: 0,
        }
    }

    /// Takes the next one if it is due; says since when.
    pub(super) fn take(&mut self, now_ns: u64) -> Option<u64> {
        if self.rate == 0 {
            return None;
        }
        let after_ns = u128::from(self.taken) * 1_000_000_000 / u128::from(self.rate);
        let due_ns = self.from_ns + u64::try_from(after_ns).unwrap_or(u64::MAX / 2);
        if due_ns > now_ns {
            return None;
        }
        self.taken += 1;
        Some(due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_time_has_passed() {
        let mut pace = Pace::new(3, 100);
        let mut taken = Vec::new();
        while let Some(due_ns) = pace.take(1_000_000_100) {
            taken.push(due_ns);
        }
        assert_eq!(taken, [100, 333_333_433, 666_666_766, 1_000_000_100]);
        assert_eq!(Pace::new(0, 0).take(u64::MAX), None);
    }
}
