//! When a shard stops being woken by each arrival and looks at a rhythm instead.
//!
//! To fall asleep and be woken costs more than to serve a heartbeat, and where very many sessions
//! each say a little, something arrives all the time. Then it is cheaper to leave arrivals where
//! they are for a moment and to take them together, as network cards do (interrupt moderation; in
//! Linux `net_dim`). It knows no ring and no clock.
//!
//! Invariants: a rest is never longer than the limit; a shard with few sessions never rests, so its
//! clients are answered at once; nor does one that hears less in a rest than would repay it.

use std::time::Duration;

/// How long completions are counted before the rhythm is decided anew, in milliseconds.
const WINDOW_MS: u64 = 16;
/// Completions that a rest must bring on average: an arrival and its answer are two or three.
const COMPLETIONS_PER_REST_MIN: u64 = 4;

/// The rhythm of one shard.
#[derive(Debug)]
pub(super) struct Gathering {
    rest: Duration,
    sessions_min: u32,
    window_from_ms: u64,
    completions: u64,
    repays: bool,
}

impl Gathering {
    /// Rests of `rest_us_max` microseconds, 0 for none, with at least so many sessions.
    pub(super) fn new(rest_us_max: u32, sessions_min: u32) -> Self {
        Self {
            rest: Duration::from_micros(u64::from(rest_us_max)),
            sessions_min,
            window_from_ms: 0,
            completions: 0,
            repays: false,
        }
    }

    /// So many completions were taken in.
    pub(super) fn heard(&mut self, now_ms: u64, completions: usize) {
        let passed_ms = now_ms.saturating_sub(self.window_from_ms);
        if passed_ms >= WINDOW_MS {
            let rests = Duration::from_millis(passed_ms).as_micros() / self.rest.as_micros().max(1);
            self.repays =
                u128::from(self.completions) >= rests * u128::from(COMPLETIONS_PER_REST_MIN);
            (self.window_from_ms, self.completions) = (now_ms, 0);
        }
        self.completions += completions as u64;
    }

    /// How long the shard rests when it has nothing to do, if it does not sleep.
    pub(super) fn rest(&self, sessions: u32) -> Option<Duration> {
        let rests = self.repays && sessions >= self.sessions_min && !self.rest.is_zero();
        rests.then_some(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_micros(500);

    /// What is decided after a second with so many arrivals in each millisecond.
    fn check(
        rest_us_max: u32,
        sessions: u32,
        completions_per_ms: usize,
        expected: Option<Duration>,
    ) {
        let mut gathering = Gathering::new(rest_us_max, 1_000);
        for now_ms in 1_000_000..1_001_000 {
            gathering.heard(now_ms, completions_per_ms);
        }
        assert_eq!(gathering.rest(sessions), expected);
    }

    #[test]
    fn many_sessions_that_say_a_little_all_the_time_are_gathered() {
        check(500, 1_000, 8, Some(REST));
        check(500, 1_000, 7, None);
        check(500, 999, 100, None);
        check(0, 1_000, 100, None);
    }

    #[test]
    fn silence_ends_it() {
        let mut gathering = Gathering::new(500, 0);
        (1_000..1_100).for_each(|now_ms| gathering.heard(now_ms, 10));
        assert_eq!(gathering.rest(1), Some(REST));
        gathering.heard(2_000, 0);
        assert_eq!(gathering.rest(1), None);
        // A clock that stands still divides nothing by zero.
        gathering.heard(2_000, 1);
    }

    #[test]
    fn one_look_at_a_long_rest_is_not_a_rush() {
        let mut gathering = Gathering::new(500, 0);
        gathering.heard(1_000, 200);
        // 200 completions, but in a second.
        gathering.heard(2_000, 0);
        assert_eq!(gathering.rest(1), None);
    }
}
