//! How often somebody may do something: fixed windows, as the limits are documented.
//!
//! Reads no clock, the time is handed in. Knows neither users nor addresses, only keys.
//!
//! Invariants: at most `KEYS_MAX` windows are remembered; when more are open the oldest is
//! forgotten, so a flood of keys can loosen a limit but never lock anybody out.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Rate;

const KEYS_MAX: usize = 64 * 1024;

#[derive(Clone, Copy)]
struct Window {
    opened: Instant,
    count: u32,
}

/// Counts per key.
pub(crate) struct Limiter<K> {
    rate: Rate,
    windows: HashMap<K, Window>,
    /// Keys of `windows`, oldest first: all windows are of one length.
    order: VecDeque<K>,
}

impl<K: Hash + Eq + Copy> Limiter<K> {
    /// Allows so much per key.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            rate,
            windows: HashMap::new(),
            order: VecDeque::new(),
        }
    }

    /// Counts one more, unless that is too many: then says how long to wait.
    pub(crate) fn hit(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        if self.rate.is_off() {
            return Ok(());
        }
        self.check(key, now)?;
        match self.windows.get_mut(&key) {
            Some(window) => window.count += 1,
            None => {
                self.windows.insert(
                    key,
                    Window {
                        opened: now,
                        count: 1,
                    },
                );
                self.order.push_back(key);
            }
        }
        assert_eq!(
            self.windows.len(),
            self.order.len(),
            "one place in the order per window"
        );
        Ok(())
    }

    /// Whether one more would be too many, without counting it.
    pub(crate) fn check(&mut self, key: K, now: Instant) -> Result<(), Duration> {
        self.close_windows(now);
        match self.windows.get(&key) {
            Some(window) if !self.rate.is_off() && window.count >= self.rate.count => {
                Err((window.opened + self.length()).saturating_duration_since(now))
            }
            _ => Ok(()),
        }
    }

    fn length(&self) -> Duration {
        Duration::from_secs(u64::from(self.rate.window_s))
    }

    fn close_windows(&mut self, now: Instant) {
        while let Some(oldest) = self.order.front() {
            let over = self.windows[oldest].opened + self.length() <= now;
            if !over && self.order.len() < KEYS_MAX {
                return;
            }
            self.windows.remove(oldest);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rate: Rate, hits: &[(u64, char, Result<(), u64>)]) {
        let start = Instant::now();
        let mut limiter = Limiter::new(rate);
        for (at_ms, key, expected) in hits {
            let got = limiter.hit(*key, start + Duration::from_millis(*at_ms));
            assert_eq!(
                got,
                expected.map_err(Duration::from_millis),
                "{key} at {at_ms} ms"
            );
        }
    }

    #[test]
    fn so_many_per_window_and_key() {
        check(
            Rate::new(2, 10),
            &[
                (0, 'a', Ok(())),
                (3000, 'a', Ok(())),
                (4000, 'a', Err(6000)),
                (4000, 'b', Ok(())),
                (9999, 'a', Err(1)),
                (10_000, 'a', Ok(())),
                (10_001, 'a', Ok(())),
                (10_002, 'a', Err(9998)),
            ],
        );
    }

    #[test]
    fn zero_is_no_limit() {
        check(
            Rate::new(0, 10),
            &[(0, 'a', Ok(())), (0, 'a', Ok(())), (0, 'a', Ok(()))],
        );
        check(Rate::new(1, 0), &[(0, 'a', Ok(())), (0, 'a', Ok(()))]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut limiter = Limiter::new(Rate::new(1, 3600));
        let now = Instant::now();
        for key in 0..KEYS_MAX * 2 {
            assert_eq!(limiter.hit(key, now), Ok(()));
        }
        assert_eq!(limiter.windows.len(), KEYS_MAX);
        assert!(limiter.hit(KEYS_MAX * 2 - 1, now).is_err());
    }
}
