//! Which rates are tried when the highest is looked for.
//!
//! It tries nothing: it is told whether a rate held.
//!
//! Invariants: rates rise by a half until one is too high, then four halvings follow; a rate is too
//! high when it did not hold twice in a row, since a machine may stumble once; every server is
//! searched in the same way, from the same number of deliveries a second.

/// 99 % of the deliveries come within this, microseconds.
pub(crate) const P99_US_MAX: u64 = 100_000;
/// Deliveries a second where the search begins.
const FIRST_DELIVERIES_PER_S: u32 = 50_000;
/// Each rate is this much above the last until one is too high: 3 / 2.
const STEP: (u32, u32) = (3, 2);
const STEPS_MAX: u32 = 20;
/// Halvings between the last good rate and the first bad one.
const HALVINGS: u32 = 4;

/// A search under way.
#[derive(Clone, Debug)]
pub(crate) struct Highest {
    good: u32,
    bad: Option<u32>,
    /// What is tried, messages a second.
    next: u32,
    /// Steps, or halvings once a rate was too high.
    left: u32,
    /// What is tried has failed once.
    is_doubtful: bool,
}

impl Highest {
    /// A search for the highest rate of a channel with so many subscribers.
    pub(crate) fn new(subscribers: u32) -> Self {
        Self {
            good: 0,
            bad: None,
            next: (FIRST_DELIVERIES_PER_S / subscribers.max(1)).max(1),
            left: STEPS_MAX,
            is_doubtful: false,
        }
    }

    /// The rate to try, messages a second; none when the search is over.
    pub(crate) const fn rate(&self) -> Option<u32> {
        if self.left == 0 || self.next == self.good {
            return None;
        }
        Some(self.next)
    }

    /// The rate held, or did not.
    pub(crate) fn judge(&mut self, is_good: bool) {
        self.is_doubtful = !is_good && !self.is_doubtful;
        if self.is_doubtful {
            return;
        }
        match self.bad {
            None if !is_good => self.left = HALVINGS,
            _ => self.left -= 1,
        }
        if is_good {
            self.good = self.next;
        } else {
            self.bad = Some(self.next);
        }
        self.next = match self.bad {
            Some(bad) => self.good.midpoint(bad),
            None => (self.next * STEP.0 / STEP.1).max(self.next + 1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_close_below_what_holds() {
        let check = |subscribers: u32, limit: u32, expected: &[u32]| {
            let mut search = Highest::new(subscribers);
            let mut tried = Vec::new();
            while let Some(rate) = search.rate() {
                tried.push(rate);
                search.judge(rate <= limit);
            }
            assert_eq!(tried, expected, "limit {limit}");
        };
        check(1_000, 100, &[50, 75, 112, 112, 93, 102, 102, 97, 99]);
        check(1_000, 0, &[50, 50, 25, 25, 12, 12, 6, 6, 3, 3]);
        check(100_000, 2, &[1, 2, 3, 3]);
        check(100_000, 0, &[1, 1]);
    }

    #[test]
    fn one_stumble_is_forgiven() {
        let mut search = Highest::new(1_000);
        for (tried, is_good) in [
            (50, false),
            (50, true),
            (75, false),
            (75, false),
            (62, true),
        ] {
            assert_eq!(search.rate(), Some(tried));
            search.judge(is_good);
        }
        assert_eq!(search.rate(), Some(68));
    }

    #[test]
    fn ends_where_nothing_is_too_high() {
        let mut search = Highest::new(1);
        let mut tried = 0;
        while search.rate().is_some() {
            search.judge(true);
            tried += 1;
        }
        assert_eq!(tried, STEPS_MAX);
    }
}
