//! Where message ids come from: strictly increasing UUIDv7.
//!
//! It never reads a clock or a random source: the time comes with each call, the randomness
//! from the seed. It never goes back, whatever the time given does.
//!
//! Invariants: every id is greater than all that the source has given or observed. Two sources
//! with different seeds meet in an id only with probability 2^-73 per pair of ids in one
//! millisecond.

use crate::id::{MessageId, TAIL_BITS, TIMESTAMP_MS_MAX};

/// Bits of randomness below the counter, fresh in each id.
const RANDOM_BITS: u32 = 32;
/// Bits of the counter (RFC 9562, section 6.2, method 1: at most 42).
const COUNTER_BITS: u32 = TAIL_BITS - RANDOM_BITS;
/// Largest value of the counter.
const COUNTER_MAX: u64 = (1 << COUNTER_BITS) - 1;

/// Gives strictly increasing message ids. One per shard, since a channel has one owner.
#[derive(Debug)]
pub struct MessageIdSource {
    timestamp_ms: u64,
    counter: u64,
    random: SplitMix,
}

impl MessageIdSource {
    /// A source whose randomness comes from this seed; shards take different ones.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            timestamp_ms: 0,
            counter: 0,
            random: SplitMix(seed),
        }
    }

    /// The next id. `now_ms` is in milliseconds since 1970; a time before that of the newest id
    /// counts as that time.
    ///
    /// # Panics
    /// When the time needs more than 48 bits (the year 10889).
    pub fn next(&mut self, now_ms: u64) -> MessageId {
        if now_ms > self.timestamp_ms {
            self.start_millisecond(now_ms);
        } else if self.counter < COUNTER_MAX {
            self.counter += 1;
        } else {
            self.start_millisecond(self.timestamp_ms + 1);
        }
        let random = self.random.next() >> (u64::BITS - RANDOM_BITS);
        let tail = u128::from(self.counter) << RANDOM_BITS | u128::from(random);
        MessageId::from_parts(self.timestamp_ms, tail)
    }

    /// Makes sure that later ids are greater than this one, found in the log at start.
    pub fn observe(&mut self, id: MessageId) {
        let counter = u64::try_from(id.tail() >> RANDOM_BITS).expect("the counter has 42 bits");
        let seen = (id.timestamp_ms(), counter);
        if seen > (self.timestamp_ms, self.counter) {
            (self.timestamp_ms, self.counter) = seen;
        }
    }

    /// The counter starts at a random value whose top bit is zero, so that at least 2^41 ids
    /// fit in the millisecond.
    fn start_millisecond(&mut self, timestamp_ms: u64) {
        assert!(
            timestamp_ms <= TIMESTAMP_MS_MAX,
            "time beyond a UUIDv7's 48 bits"
        );
        self.timestamp_ms = timestamp_ms;
        self.counter = self.random.next() >> (u64::BITS - COUNTER_BITS + 1);
    }
}

/// The generator SplitMix64 (Steele, Lea, Flood 2014): ids need to differ, not to be secret.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_increase_whatever_the_clock_does() {
        let mut source = MessageIdSource::new(7);
        let mut newest = source.next(1_000);
        for now_ms in [1_000, 1_000, 999, 0, 1_001, 1_001, 5, 2_000] {
            let id = source.next(now_ms);
            assert!(id > newest, "{id} after {newest}");
            newest = id;
        }
        assert_eq!(newest.timestamp_ms(), 2_000);
    }

    #[test]
    fn a_used_up_counter_borrows_from_the_next_millisecond() {
        let mut source = MessageIdSource::new(7);
        let full = MessageId::from_parts(1_000, (1 << TAIL_BITS) - 1);
        source.observe(full);
        let id = source.next(1_000);
        assert!(id > full);
        assert_eq!(id.timestamp_ms(), 1_001);
    }

    #[test]
    fn observed_ids_are_never_fallen_below() {
        let mut source = MessageIdSource::new(7);
        let mut other = MessageIdSource::new(8);
        let seen = other.next(9_000);
        source.observe(seen);
        source.observe(MessageId::from_parts(3, 0));
        let newest = source.next(4_000);
        assert!(newest > seen);
        let same_millisecond = MessageId::from_parts(9_000, (1 << TAIL_BITS) - (1 << 40));
        assert!(same_millisecond > newest);
        source.observe(same_millisecond);
        assert!(source.next(9_000) > same_millisecond);
    }

    #[test]
    fn sources_with_different_seeds_give_different_ids() {
        let (mut one, mut two) = (MessageIdSource::new(1), MessageIdSource::new(2));
        assert_ne!(one.next(5), two.next(5));
    }
}
