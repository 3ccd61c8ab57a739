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

/// One user's use of one rate.
#[derive(Clone, Copy, Default, Debug)]
pub struct Window {
    opened_ms: u64,
    used: u32,
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
                opened_ms: now_ms,
                used: 0,
            };
        }
        if self.used >= rate.count {
            return Err(self.ends_ms(rate) - now_ms);
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
        self.used == 0 || now_ms >= self.ends_ms(rate)
    }

    fn ends_ms(&self, rate: Rate) -> u64 {
        self.opened_ms + u64::from(rate.window_s.max(1)) * 1_000
    }
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
        assert_eq!(window.take(RATE, 1_000), Ok(()));
        assert_eq!(window.take(RATE, 2_000), Ok(()));
        assert_eq!(window.take(RATE, 3_500), Err(2_500));
        assert_eq!(window.take(RATE, 6_000), Ok(()));
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
