//! Which shards hold subscribers of a topic.
//!
//! The table belongs to the topic's owner. It knows shards, never sessions, and does no IO: a
//! shard reports when its first local subscriber comes and when its last one goes.
//!
//! Invariants: an entry exists only while at least one shard is in it, so the table is bounded
//! by the subscriptions that the shards admit; a shard is in an entry once or not at all; shards
//! come out in ascending order.

use std::collections::HashMap;

use crate::ring::SLOTS;
use crate::topic::Topic;

/// Topics and the shards that are interested in them.
#[derive(Clone, Debug, Default)]
pub struct InterestTable {
    topics: HashMap<Topic, ShardSet>,
}

impl InterestTable {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a shard is interested; `false` if it was already.
    ///
    /// # Panics
    /// When `shard` is 4096 or more: no topology has such a shard.
    pub fn add(&mut self, topic: &Topic, shard: u16) -> bool {
        assert!(shard < SLOTS, "shard {shard} exists in no topology");
        self.topics.entry(*topic).or_default().insert(shard)
    }

    /// Notes that a shard is no longer interested; `false` if it was not.
    pub fn remove(&mut self, topic: &Topic, shard: u16) -> bool {
        let Some(set) = self.topics.get_mut(topic) else {
            return false;
        };
        let removed = set.remove(shard);
        if set.is_empty() {
            self.topics.remove(topic);
        }
        removed
    }

    /// The interested shards in ascending order; none for a topic that nobody watches.
    pub fn shards(&self, topic: &Topic) -> impl Iterator<Item = u16> + '_ {
        let words = self.topics.get(topic).map_or(&[][..], ShardSet::words);
        (0_u16..)
            .zip(words)
            .flat_map(|(word, &bits)| Bits(bits).map(move |bit| word * 64 + bit))
    }

    /// How many topics somebody is interested in.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }
}

/// A set of shard numbers: 16 bytes, and none on the heap while all are below 64.
#[derive(Clone, Debug)]
enum ShardSet {
    Low([u64; 1]),
    Wide(Box<[u64]>),
}

impl Default for ShardSet {
    fn default() -> Self {
        Self::Low([0])
    }
}

impl ShardSet {
    fn words(&self) -> &[u64] {
        match self {
            Self::Low(words) => words,
            Self::Wide(words) => words,
        }
    }

    fn words_mut(&mut self) -> &mut [u64] {
        match self {
            Self::Low(words) => words,
            Self::Wide(words) => words,
        }
    }

    fn insert(&mut self, shard: u16) -> bool {
        let word = usize::from(shard / 64);
        if word >= self.words().len() {
            let mut wider = vec![0; word + 1];
            wider[..self.words().len()].copy_from_slice(self.words());
            *self = Self::Wide(wider.into_boxed_slice());
        }
        let bits = &mut self.words_mut()[word];
        let added = *bits & bit(shard) == 0;
        *bits |= bit(shard);
        added
    }

    fn remove(&mut self, shard: u16) -> bool {
        let Some(bits) = self.words_mut().get_mut(usize::from(shard / 64)) else {
            return false;
        };
        let removed = *bits & bit(shard) != 0;
        *bits &= !bit(shard);
        removed
    }

    fn is_empty(&self) -> bool {
        self.words().iter().all(|&bits| bits == 0)
    }
}

const fn bit(shard: u16) -> u64 {
    1 << (shard % 64)
}

/// The numbers of the bits that are set, lowest first.
struct Bits(u64);

impl Iterator for Bits {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        if self.0 == 0 {
            return None;
        }
        let lowest = self.0.trailing_zeros();
        self.0 &= self.0 - 1;
        Some(u16::try_from(lowest).expect("a bit number is below 64"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_stays_small() {
        assert!(size_of::<ShardSet>() <= 24);
        let mut table = InterestTable::new();
        table.add(&Topic::Channel([1; 16]), 63);
        assert!(matches!(
            table.topics[&Topic::Channel([1; 16])],
            ShardSet::Low(_)
        ));
    }

    #[test]
    #[should_panic(expected = "no topology")]
    fn a_shard_that_cannot_exist_is_our_mistake() {
        InterestTable::new().add(&Topic::User([0; 16]), 4096);
    }

    fn topic() -> impl Strategy<Value = Topic> {
        (0..3_u8, 0..4_u8).prop_map(|(domain, id)| match domain {
            0 => Topic::Channel([id; 16]),
            1 => Topic::Presence([id; 16]),
            _ => Topic::User([id; 16]),
        })
    }

    fn shard() -> impl Strategy<Value = u16> {
        prop_oneof![0..4_u16, 60..70_u16, 4090..4096_u16]
    }

    proptest! {
        #[test]
        fn behaves_like_a_map_of_sets(
            steps in prop::collection::vec((any::<bool>(), topic(), shard()), 0..200),
        ) {
            let mut table = InterestTable::new();
            let mut model: BTreeMap<Topic, BTreeSet<u16>> = BTreeMap::new();
            for (adds, topic, shard) in steps {
                let set = model.entry(topic).or_default();
                if adds {
                    prop_assert_eq!(table.add(&topic, shard), set.insert(shard));
                } else {
                    prop_assert_eq!(table.remove(&topic, shard), set.remove(&shard));
                }
                model.retain(|_, set| !set.is_empty());
                prop_assert_eq!(table.topics(), model.len());
                let expected: Vec<u16> = model.get(&topic).into_iter().flatten().copied().collect();
                prop_assert_eq!(table.shards(&topic).collect::<Vec<_>>(), expected);
            }
        }
    }
}
