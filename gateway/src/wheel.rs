//! A hierarchical timing wheel: one per shard, holding every deadline of every session.
//!
//! It never allocates per timer beyond its slot's vector and never reads a clock: time is what
//! [`Wheel::advance`] is told. (Varghese and Lauck, "Hashed and Hierarchical Timing Wheels",
//! 1987.) Timers are not cancelled: whoever is woken looks whether it is still due.
//!
//! Invariants: an item fires at the first `advance` at or after its deadline, rounded up to the
//! next tick, and exactly once; items of one tick fire in the order in which they were put in.

/// Milliseconds of one tick, the wheel's resolution.
pub const TICK_MS: u64 = 100;

const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 64^4 ticks of 100 ms: 19 days. What lies beyond waits in the last slot and is put in again.
const LEVELS: usize = 4;

/// Items of type `T`, each with a deadline in milliseconds.
#[derive(Debug)]
pub struct Wheel<T> {
    /// The tick that has been reached; everything due at or before it has fired.
    tick: u64,
    count: usize,
    levels: [Vec<Vec<(u64, T)>>; LEVELS],
}

impl<T> Wheel<T> {
    /// A wheel whose time starts at `now_ms`.
    #[must_use]
    pub fn new(now_ms: u64) -> Self {
        Self {
            tick: now_ms / TICK_MS,
            count: 0,
            levels: std::array::from_fn(|_| (0..SLOTS).map(|_| Vec::new()).collect()),
        }
    }

    /// Lets `item` fire at `due_ms`; a deadline already past fires at the next tick.
    pub fn insert(&mut self, due_ms: u64, item: T) {
        let due_tick = due_ms.div_ceil(TICK_MS).max(self.tick + 1);
        self.count += 1;
        self.place(due_tick, item);
    }

    /// Moves time on and hands every item that has become due to `fire`.
    pub fn advance(&mut self, now_ms: u64, mut fire: impl FnMut(T)) {
        let target = now_ms / TICK_MS;
        while self.tick < target {
            if self.count == 0 {
                self.tick = target;
                return;
            }
            self.tick += 1;
            self.cascade();
            let slot = slot_of(self.tick, 0);
            for (due_tick, item) in std::mem::take(&mut self.levels[0][slot]) {
                assert!(
                    due_tick == self.tick,
                    "an item lies in the slot of its tick"
                );
                self.count -= 1;
                fire(item);
            }
        }
    }

    /// When a lower level has gone round, the next slot of the level above is spread over it.
    fn cascade(&mut self) {
        for level in (1..LEVELS).rev() {
            let period_bits = SLOT_BITS * u32::try_from(level).unwrap_or(u32::MAX);
            if !self.tick.is_multiple_of(1 << period_bits) {
                continue;
            }
            let slot = slot_of(self.tick, level);
            for (due_tick, item) in std::mem::take(&mut self.levels[level][slot]) {
                self.place(due_tick, item);
            }
        }
    }

    fn place(&mut self, due_tick: u64, item: T) {
        assert!(due_tick >= self.tick, "nothing is due in the past");
        let ahead = due_tick - self.tick;
        let level = (0..LEVELS)
            .find(|&level| ahead < 1 << (SLOT_BITS * (u32::try_from(level).unwrap_or(0) + 1)))
            .unwrap_or(LEVELS - 1);
        let last = self.tick + (1 << (SLOT_BITS * 4)) - 1;
        let slot = slot_of(due_tick.min(last), level);
        self.levels[level][slot].push((due_tick, item));
    }
}

fn slot_of(tick: u64, level: usize) -> usize {
    let shift = SLOT_BITS * u32::try_from(level).unwrap_or(0);
    usize::try_from((tick >> shift) & (SLOTS as u64 - 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every item fires once, not before its deadline and at the first advance after it.
    fn check(start_ms: u64, delays_ms: &[u64], steps_ms: &[u64]) {
        let mut wheel = Wheel::new(start_ms);
        for (index, delay_ms) in delays_ms.iter().enumerate() {
            wheel.insert(start_ms + delay_ms, index);
        }
        let mut fired = vec![false; delays_ms.len()];
        let mut now_ms = start_ms;
        for step_ms in steps_ms {
            now_ms += step_ms;
            wheel.advance(now_ms, |index| {
                assert!(!fired[index], "item {index} fires once");
                fired[index] = true;
                assert!(
                    start_ms + delays_ms[index] <= now_ms,
                    "item {index} is not early"
                );
            });
            for (index, delay_ms) in delays_ms.iter().enumerate() {
                let due_tick = (start_ms + delay_ms).div_ceil(TICK_MS);
                let due_tick = due_tick.max(start_ms / TICK_MS + 1);
                assert_eq!(fired[index], due_tick <= now_ms / TICK_MS, "item {index}");
            }
        }
    }

    #[test]
    fn fires_across_level_boundaries() {
        let delays: Vec<u64> = (0..400).map(|n| n * n * 37).collect();
        check(1_700_000_000_123, &delays, &[6_399; 1_200]);
        check(
            0,
            &[0, 1, 99, 100, 101, 6_399, 6_400, 6_401, 409_600],
            &[100; 5_000],
        );
    }

    #[test]
    fn an_empty_wheel_takes_any_step_at_once() {
        let mut wheel = Wheel::new(0);
        wheel.advance(u64::MAX / 2, |(): ()| unreachable!("nothing was put in"));
        wheel.insert(u64::MAX / 2 + 1_000, ());
        let mut fired = 0;
        wheel.advance(u64::MAX / 2 + 2_000, |()| fired += 1);
        assert_eq!(fired, 1);
    }

    #[test]
    fn an_item_beyond_the_last_level_is_neither_lost_nor_early() {
        let day_ms = 86_400_000;
        check(12_345, &[25 * day_ms, 40 * day_ms], &[day_ms; 41]);
    }

    proptest! {
        #[test]
        fn fires_each_once_in_time(
            start_ms in 0u64..10_000_000,
            delays_ms in proptest::collection::vec(0u64..2_000_000, 0..50),
            steps_ms in proptest::collection::vec(1u64..300_000, 1..50),
        ) {
            check(start_ms, &delays_ms, &steps_ms);
        }
    }
}
