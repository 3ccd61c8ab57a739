//! Which shards hold subscribers of a topic.
//!
//! The table belongs to the topic's owner. It knows shards, never sessions, and does no IO: a
//! shard reports when its first local subscriber comes and when its last one goes.
//!
//! Invariants: an entry exists only while at least one shard is in it, so the table is bounded
//! by the subscriptions that the shards admit; a shard is in an entry once or not at all; shards
//! come out in ascending order.

use crate::ring::SLOTS;
use crate::table::Table;
use crate::topic::Topic;

/// Topics and the shards that are interested in them.
#[derive(Clone, Debug, Default)]
pub struct InterestTable {
    /// Each with its [`ShardSet`].
    topics: Table<Topic, u32>,
    wide: WideSets,
}

impl InterestTable {
    /// Bytes of one entry, its place in the table of topics aside.
    pub const ENTRY_BYTES: usize = size_of::<(Topic, u32)>();

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
        let set = self
            .topics
            .get_or_insert_with(*topic, || ShardSet::Low(0).packed());
        match (ShardSet::unpacked(*set), low_bit(shard)) {
            (ShardSet::Low(bits), Some(bit)) => {
                *set = ShardSet::Low(bits | bit).packed();
                bits & bit == 0
            }
            (ShardSet::Low(bits), None) => {
                let mut wide = vec![u64::from(bits)];
                insert(&mut wide, shard);
                *set = ShardSet::Wide(self.wide.keep(wide)).packed();
                true
            }
            (ShardSet::Wide(number), _) => insert(self.wide.set_mut(number), shard),
        }
    }

    /// Notes that a shard is no longer interested; `false` if it was not.
    pub fn remove(&mut self, topic: &Topic, shard: u16) -> bool {
        let Some(set) = self.topics.get_mut(topic) else {
            return false;
        };
        let (removed, is_empty) = match ShardSet::unpacked(*set) {
            ShardSet::Low(bits) => {
                let left = bits & !low_bit(shard).unwrap_or(0);
                *set = ShardSet::Low(left).packed();
                (left != bits, left == 0)
            }
            ShardSet::Wide(number) => {
                let wide = self.wide.set_mut(number);
                let removed = remove(wide, shard);
                let is_empty = wide.iter().all(|&bits| bits == 0);
                if is_empty {
                    self.wide.give_back(number);
                }
                (removed, is_empty)
            }
        };
        if is_empty {
            self.topics.remove(topic);
        }
        removed
    }

    /// The interested shards in ascending order; none for a topic that nobody watches.
    pub fn shards(&self, topic: &Topic) -> impl Iterator<Item = u16> + '_ {
        let set = self.topics.get(topic).copied().unwrap_or_default();
        let (low, wide) = match ShardSet::unpacked(set) {
            ShardSet::Low(bits) => (bits, &[][..]),
            ShardSet::Wide(number) => (0, self.wide.set(number)),
        };
        let wide = (0_u16..)
            .zip(wide)
            .flat_map(|(word, &bits)| Bits(bits).map(move |bit| word * 64 + bit));
        Bits(u64::from(low)).chain(wide)
    }

    /// How many topics somebody is interested in.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.topics.len()
    }
}

/// A set of shard numbers, as it is before it is packed into 4 bytes.
#[derive(Clone, Copy)]
enum ShardSet {
    /// All are below 31: one bit each.
    Low(u32),
    /// The set with this number in [`WideSets`].
    Wide(u32),
}

/// Tells the two apart.
const WIDE: u32 = 1 << 31;

impl ShardSet {
    const fn packed(self) -> u32 {
        match self {
            Self::Low(bits) => bits,
            Self::Wide(number) => number | WIDE,
        }
    }

    const fn unpacked(packed: u32) -> Self {
        match packed & WIDE {
            0 => Self::Low(packed),
            _ => Self::Wide(packed & !WIDE),
        }
    }
}

/// The bit of a shard that has one among the low ones.
const fn low_bit(shard: u16) -> Option<u32> {
    if shard < 31 { Some(1 << shard) } else { None }
}

/// Sets of shards that have a number of 31 or more, which only large nodes have.
#[derive(Clone, Debug, Default)]
struct WideSets {
    sets: Vec<Vec<u64>>,
    free: Vec<u32>,
}

impl WideSets {
    fn keep(&mut self, set: Vec<u64>) -> u32 {
        if let Some(number) = self.free.pop() {
            self.sets[number as usize] = set;
            return number;
        }
        self.sets.push(set);
        let number = u32::try_from(self.sets.len() - 1).expect("one per topic");
        assert!(number < WIDE, "a shard holds fewer than 2^31 topics");
        number
    }

    fn set(&self, number: u32) -> &[u64] {
        &self.sets[number as usize]
    }

    fn set_mut(&mut self, number: u32) -> &mut Vec<u64> {
        &mut self.sets[number as usize]
    }

    fn give_back(&mut self, number: u32) {
        self.sets[number as usize] = Vec::new();
        self.free.push(number);
    }
}

fn insert(set: &mut Vec<u64>, shard: u16) -> bool {
    let word = usize::from(shard / 64);
    if word >= set.len() {
        set.resize(word + 1, 0);
    }
    let added = set[word] & bit(shard) == 0;
    set[word] |= bit(shard);
    added
}

fn remove(set: &mut [u64], shard: u16) -> bool {
    let Some(bits) = set.get_mut(usize::from(shard / 64)) else {
        return false;
    };
    let removed = *bits & bit(shard) != 0;
    *bits &= !bit(shard);
    removed
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
        assert_eq!(InterestTable::ENTRY_BYTES, 24);
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
        prop_oneof![0..4_u16, 29..33_u16, 60..70_u16, 4090..4096_u16]
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
