//! Rates: how many of one kind of action a user may take in a window.
//!
//! It never reads a clock and never decides what happens to what is refused. A window opens with
//! its first action and lasts `window_s`; a count of 0 switches a limit off.
//!
//! Invariant: within any one window at most `count` actions pass.

use serde::{Deserialize, Serialize};

/// `count` actions in `window_s` seconds; `count = 0` means no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Actions allowed in one window; 0 = no limit.
    pub count: u32,
    /// Length of the window in seconds, at least 1.
    pub window_s: u32,
}

impl Rate {
    /// Whether the limit is switched off.
    #[must_use]
    pub fn is_off(self) -> bool {
        self.count == 0
    }
}

/// The most actions of one window that are counted.
pub const RATE_COUNT_MAX: u32 = 65_535;

/// What a window's start is counted in, in milliseconds; rounded up, so that a window is never
/// shorter than its rate says.
const STEP_MS: u64 = 64;

/// One user's use of one rate, in 6 bytes.
///
/// The start is kept modulo 2^32 steps (8.7 years), and is never that far away: who has a session is
/// looked at more often, and who has none is forgotten.
#[derive(Clone, Copy, Default, Debug)]
#[repr(Rust, packed(2))]
pub struct Window {
    opened_steps: u32,
    used: u16,
}

impl Window {
    /// Takes one action at `now_ms`.
    ///
    /// # Errors
    /// The milliseconds after which the next action passes.
    pub fn take(&mut self, rate: Rate, now_ms: u64) -> Result<(), u64> {
        if rate.is_off() {
            return Ok(());
        }
        if self.is_over(rate, now_ms) {
            *self = Self {
                opened_steps: truncated(now_ms.div_ceil(STEP_MS)),
                used: 0,
            };
        }
        if u32::from(self.used) >= rate.count.min(RATE_COUNT_MAX) {
            return Err(self.left_ms(rate, now_ms));
        }
        self.used += 1;
        Ok(())
    }

    /// Gives one action back, for one that turned out not to count.
    pub fn give_back(&mut self) {
        self.used = self.used.saturating_sub(1);
    }

    /// Whether the window has passed, so that nothing needs to be remembered of it.
    #[must_use]
    pub fn is_over(&self, rate: Rate, now_ms: u64) -> bool {
        self.used == 0 || self.left_ms(rate, now_ms) == 0
    }

    /// Milliseconds until it ends; 0 once it has.
    fn left_ms(&self, rate: Rate, now_ms: u64) -> u64 {
        let window_ms = u64::from(rate.window_s.max(1)) * 1_000;
        let past_steps = truncated(now_ms / STEP_MS).wrapping_sub(self.opened_steps);
        if past_steps == u32::MAX {
            // Rounding up has put the start ahead of now.
            return window_ms + STEP_MS - now_ms % STEP_MS;
        }
        let past_ms = u64::from(past_steps) * STEP_MS + now_ms % STEP_MS;
        window_ms.saturating_sub(past_ms)
    }
}

fn truncated(steps: u64) -> u32 {
    u32::try_from(steps & u64::from(u32::MAX)).expect("the upper half is cut off")
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        count: 2,
        window_s: 5,
    };

    #[test]
    fn refuses_past_the_count_and_says_when_to_come_back() {
        let mut window = Window::default();
        assert_eq!(window.take(RATE, 1_024), Ok(()));
        assert_eq!(window.take(RATE, 2_000), Ok(()));
        assert_eq!(window.take(RATE, 3_524), Err(2_500));
        assert_eq!(window.take(RATE, 6_024), Ok(()));
    }

    #[test]
    fn a_window_is_up_to_a_step_longer_and_never_shorter() {
        for opened_ms in (0..200)
            .chain(u64::from(u32::MAX) * STEP_MS - 100..)
            .take(400)
        {
            let mut window = Window::default();
            assert_eq!(window.take(RATE, opened_ms), Ok(()));
            assert!(!window.is_over(RATE, opened_ms + 4_999));
            assert!(window.is_over(RATE, opened_ms + 5_000 + STEP_MS));
            let _ = window.take(RATE, opened_ms + 1);
            let left_ms = window.take(RATE, opened_ms + 2).expect_err("two are taken");
            assert_eq!(window.take(RATE, opened_ms + 2 + left_ms), Ok(()));
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut window = Window::default();
        assert_eq!(window.take(RATE, 0), Ok(()));
        assert_eq!(window.take(RATE, 0), Ok(()));
        window.give_back();
        assert_eq!(window.take(RATE, 10), Ok(()));
        assert!(window.take(RATE, 10).is_err());
    }

    #[test]
    fn zero_means_no_limit() {
        let mut window = Window::default();
        let off = Rate {
            count: 0,
            window_s: 5,
        };
        assert!((0..1_000).all(|_| window.take(off, 0).is_ok()));
    }
}
