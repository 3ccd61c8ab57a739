//! Node time: the only clock that a shard sees.
//!
//! It is read once per round and handed in as `now`; nothing else reads it.
//!
//! Invariants: it never goes back, also not behind the newest stored message, and never stands
//! still: while the wall clock is behind, it goes on at half speed, so that the wall clock catches
//! up; a step of the wall clock by more than five minutes forward is not followed, so that a wrong
//! clock cannot push the ids of messages into the future.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The largest step forward that is believed, in milliseconds.
const STEP_MS_MAX: u64 = 300_000;

/// A clock of milliseconds since 1970.
#[derive(Debug)]
pub struct NodeClock {
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
            anchor_ms: now_ms,
            anchor_at_ms: since_boot_ms(),
            last_ms: now_ms,
            refused: false,
        }
    }

    /// The time, in milliseconds since 1970.
    pub fn now_ms(&mut self) -> u64 {
        self.read(wall_ms(), since_boot_ms())
    }

    fn read(&mut self, wall_ms: u64, at_ms: u64) -> u64 {
        let elapsed_ms = at_ms.saturating_sub(self.anchor_at_ms);
        let expected_ms = self.anchor_ms.saturating_add(elapsed_ms);
        if wall_ms > expected_ms.saturating_add(STEP_MS_MAX) {
            if !self.refused {
                tracing::error!(wall_ms, expected_ms, "the clock jumped ahead; not followed");
            }
            self.refused = true;
            self.follow(expected_ms, at_ms);
        } else {
            self.refused = false;
            let slowed_ms = self.anchor_ms.saturating_add(elapsed_ms / 2);
            if wall_ms >= self.last_ms.max(slowed_ms) {
                self.follow(wall_ms, at_ms);
            } else {
                // Halves of milliseconds would get lost if the anchor moved along.
                self.last_ms = self.last_ms.max(slowed_ms);
            }
        }
        self.last_ms
    }

    fn follow(&mut self, time_ms: u64, at_ms: u64) {
        self.last_ms = self.last_ms.max(time_ms);
        self.anchor_ms = self.last_ms;
        self.anchor_at_ms = at_ms;
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

/// Time a machine spends suspended counts too: its clients' deadlines have passed as well.
fn since_boot_ms() -> u64 {
    let since = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(since.tv_sec).unwrap_or_default();
    seconds * 1_000 + u64::try_from(since.tv_nsec / 1_000_000).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(steps: &[(u64, u64, u64)]) {
        let mut clock = NodeClock::start(0);
        (clock.anchor_ms, clock.last_ms) = (1_000_000, 1_000_000);
        clock.anchor_at_ms = 0;
        for &(wall_ms, at_ms, expected_ms) in steps {
            assert_eq!(
                clock.read(wall_ms, at_ms),
                expected_ms,
                "wall {wall_ms} at {at_ms}"
            );
        }
    }

    #[test]
    fn it_goes_on_at_half_speed_while_the_wall_clock_is_behind() {
        check(&[
            (1_000_010, 10, 1_000_010),
            (900_000, 20, 1_000_015),
            (900_011, 31, 1_000_020),
            (999_000, 110, 1_000_060),
            (1_000_070, 120, 1_000_070),
            (1_000_069, 121, 1_000_070),
            (1_000_069, 122, 1_000_071),
        ]);
    }

    #[test]
    fn it_stands_still_neither_behind_a_stored_message_nor_after_a_refused_step() {
        check(&[
            (5, 100_000, 1_050_000),
            (9_000_000, 200_000, 1_200_000),
            (5, 200_010, 1_200_005),
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
