//! Node time: the only clock that a shard sees.
//!
//! It is read once per round and handed in as `now`; nothing else reads it.
//!
//! Invariants: it never goes back, also not behind the newest stored message; a step of the wall
//! clock by more than five minutes forward is not followed, so that a wrong clock cannot push the
//! ids of messages into the future.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The largest step forward that is believed, in milliseconds.
const STEP_MS_MAX: u64 = 300_000;

/// A clock of milliseconds since 1970.
#[derive(Debug)]
pub struct NodeClock {
    started: Instant,
    anchor_ms: u64,
    anchor_at_ms: u64,
    last_ms: u64,
    refused: bool,
}

impl NodeClock {
    /// Starts at the wall clock, or at `at_least_ms` where that is later.
    #[must_use]
    pub fn start(at_least_ms: u64) -> Self {
        let now_ms = wall_ms().max(at_least_ms);
        Self {
            started: monotonic(),
            anchor_ms: now_ms,
            anchor_at_ms: 0,
            last_ms: now_ms,
            refused: false,
        }
    }

    /// The time, in milliseconds since 1970.
    pub fn now_ms(&mut self) -> u64 {
        let elapsed = monotonic().duration_since(self.started).as_millis();
        self.read(wall_ms(), u64::try_from(elapsed).unwrap_or(u64::MAX))
    }

    fn read(&mut self, wall_ms: u64, at_ms: u64) -> u64 {
        let expected_ms = self.anchor_ms + at_ms.saturating_sub(self.anchor_at_ms);
        if wall_ms > expected_ms + STEP_MS_MAX {
            if !self.refused {
                tracing::error!(wall_ms, expected_ms, "the clock jumped ahead; not followed");
            }
            self.refused = true;
            self.last_ms = self.last_ms.max(expected_ms);
        } else {
            self.refused = false;
            self.last_ms = self.last_ms.max(wall_ms);
            self.anchor_ms = self.last_ms;
            self.anchor_at_ms = at_ms;
        }
        self.last_ms
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that reads the clock"
)]
fn wall_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that reads the clock"
)]
fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &[(u64, u64, u64)]) {
        let mut clock = NodeClock::start(0);
        (clock.anchor_ms, clock.last_ms) = (1_000_000, 1_000_000);
        for &(wall_ms, at_ms, expected_ms) in steps {
            assert_eq!(
                clock.read(wall_ms, at_ms),
                expected_ms,
                "wall {wall_ms} at {at_ms}"
            );
        }
    }

    #[test]
    fn it_never_goes_back() {
        check(&[
            (1_000_010, 10, 1_000_010),
            (900_000, 20, 1_000_010),
            (1_000_020, 30, 1_000_020),
        ]);
    }

    #[test]
    fn a_small_step_is_followed_and_a_large_one_is_not() {
        check(&[
            (1_200_000, 10, 1_200_000),
            (9_000_000, 20, 1_200_010),
            (1_200_050, 60, 1_200_050),
        ]);
    }

    #[test]
    fn it_starts_behind_no_stored_message() {
        let far_ms = u64::MAX / 2;
        assert!(NodeClock::start(far_ms).now_ms() >= far_ms);
    }
}
