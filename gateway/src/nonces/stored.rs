//! Nonces of messages that are stored, in the order in which they are to be forgotten.
//!
//! It never reads a clock, and knows nothing of messages that are still being committed.
//!
//! Invariants: entries lie side by side in blocks of [`BLOCK_ENTRIES`], which come and go with the
//! messages of the last minutes, so that no list doubles and none stays large; a key is found as
//! long as its last entry is here.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Bucketed;
use throng_protocol::{MessageId, Seq};

use super::NonceKey;

/// Entries that memory is taken for at a time: 80 KiB.
const BLOCK_ENTRIES: u32 = 1_024;
/// Most entries: a quarter of the numbers, so that none stands for two of them.
pub(super) const ENTRIES_MAX: usize = 1 << 30;

/// A message that is stored.
#[derive(Debug)]
struct Entry {
    key: NonceKey,
    message: MessageId,
    seq: Seq,
    due_ms: u64,
}

/// Where a key's entry lies. The hash is kept so that a growing table looks at no entry.
#[derive(Debug)]
struct Bucket {
    hash: u32,
    number: u32,
}

/// Bytes of an entry and its bucket, without what the table of buckets leaves empty.
#[cfg(test)]
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>() + size_of::<Bucket>() + 1;

/// Stored messages by their nonces.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// Oldest first; all but the last one are full.
    blocks: VecDeque<Vec<Entry>>,
    /// The number of the first block's first entry; numbers go round.
    first: u32,
    /// Entries of the first block that are forgotten.
    forgotten: u32,
    buckets: HashTable<Bucket>,
    hasher: RandomState,
}

impl Stored {
    /// How many keys are remembered.
    pub(super) fn len(&self) -> usize {
        self.buckets.len()
    }

    /// The message of this key.
    pub(super) fn get(&self, key: &NonceKey) -> Option<(MessageId, Seq)> {
        let hash = self.hash(key);
        let is_it = |bucket: &Bucket| bucket.hash == hash && self.at(bucket.number).key == *key;
        let bucket = self.buckets.find(spread(hash), is_it)?;
        let entry = self.at(bucket.number);
        Some((entry.message, entry.seq))
    }

    /// Remembers a message until `due_ms`; it takes the place of an older one with this key.
    /// Whoever is stored later is due no earlier.
    pub(super) fn insert(&mut self, key: NonceKey, message: MessageId, seq: Seq, due_ms: u64) {
        let hash = self.hash(&key);
        let number = self.push(Entry {
            key,
            message,
            seq,
            due_ms,
        });
        let Self {
            blocks,
            first,
            buckets,
            ..
        } = self;
        let is_it = |bucket: &Bucket| {
            bucket.hash == hash && lying_at(blocks, *first, bucket.number).key == key
        };
        match buckets.entry(spread(hash), is_it, |bucket| spread(bucket.hash)) {
            Bucketed::Occupied(mut older) => older.get_mut().number = number,
            Bucketed::Vacant(vacant) => {
                vacant.insert(Bucket { hash, number });
            }
        }
    }

    /// Forgets what is due.
    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some(block) = self.blocks.front() {
            let Some(entry) = block.get(self.forgotten as usize) else {
                return;
            };
            if entry.due_ms > now_ms {
                return;
            }
            let hash = self.hash(&entry.key);
            let number = self.first.wrapping_add(self.forgotten);
            let is_it = |bucket: &Bucket| bucket.number == number;
            // A key that a later message has taken over is that one's.
            if let Ok(bucket) = self.buckets.find_entry(spread(hash), is_it) {
                bucket.remove();
            }
            self.forgotten += 1;
            if self.forgotten == BLOCK_ENTRIES {
                self.blocks.pop_front();
                self.first = self.first.wrapping_add(BLOCK_ENTRIES);
                self.forgotten = 0;
            }
        }
    }

    /// Adds an entry behind all others; returns its number.
    fn push(&mut self, entry: Entry) -> u32 {
        let is_full = |block: &Vec<Entry>| block.len() == BLOCK_ENTRIES as usize;
        if self.blocks.back().is_none_or(is_full) {
            self.blocks
                .push_back(Vec::with_capacity(BLOCK_ENTRIES as usize));
        }
        let behind = self.blocks.len() - 1;
        let block = &mut self.blocks[behind];
        let place = behind * BLOCK_ENTRIES as usize + block.len();
        block.push(entry);
        let place = u32::try_from(place).expect("there is room for fewer than 2^31");
        self.first.wrapping_add(place)
    }

    fn at(&self, number: u32) -> &Entry {
        lying_at(&self.blocks, self.first, number)
    }

    fn hash(&self, key: &NonceKey) -> u32 {
        // Half of it is kept, and says as much.
        u32::try_from(self.hasher.hash_one(key) >> 32).expect("32 bits are left")
    }
}

/// The entry with this number, where the first one has the number `first`.
fn lying_at(blocks: &VecDeque<Vec<Entry>>, first: u32, number: u32) -> &Entry {
    let place = number.wrapping_sub(first);
    &blocks[(place / BLOCK_ENTRIES) as usize][(place % BLOCK_ENTRIES) as usize]
}

/// The kept half of a hash where the table looks: at the low bits for the place, at the seven
/// highest for the tag.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use throng_protocol::{ChannelId, Nonce, UserId};

    use super::*;

    fn key(nonce: u128) -> NonceKey {
        NonceKey {
            channel: ChannelId::from_u128(1),
            author: UserId::from_u128(2),
            nonce: Nonce::from_u128(nonce),
        }
    }

    fn fill(stored: &mut Stored, nonces: std::ops::Range<u128>, due_ms: u64) {
        for nonce in nonces {
            let message = MessageId::from_u128(nonce);
            stored.insert(key(nonce), message, Seq(7), due_ms);
        }
    }

    #[test]
    fn memory_follows_the_messages_down() {
        let mut stored = Stored::default();
        let block = u128::from(BLOCK_ENTRIES);
        fill(&mut stored, 0..3 * block + 1, 10);
        assert_eq!((stored.len(), stored.blocks.len()), (3 * 1_024 + 1, 4));
        stored.expire(10);
        assert_eq!((stored.len(), stored.blocks.len()), (0, 1));
        fill(&mut stored, 0..block, 20);
        stored.expire(19);
        assert_eq!((stored.len(), stored.blocks.len()), (1_024, 2));
        stored.expire(20);
        assert_eq!((stored.len(), stored.blocks.len()), (0, 1));
    }

    #[test]
    fn numbers_go_round() {
        let mut stored = Stored {
            first: 0_u32.wrapping_sub(BLOCK_ENTRIES),
            ..Stored::default()
        };
        fill(&mut stored, 0..3_000, 10);
        let all_are_here = (0..3_000)
            .all(|nonce| stored.get(&key(nonce)) == Some((MessageId::from_u128(nonce), Seq(7))));
        assert!(all_are_here);
        stored.expire(10);
        assert_eq!((stored.len(), stored.first), (0, BLOCK_ENTRIES));
    }

    #[test]
    fn a_key_that_comes_again_is_the_later_messages() {
        let mut stored = Stored::default();
        let (older, later) = (MessageId::from_u128(1), MessageId::from_u128(2));
        stored.insert(key(5), older, Seq(1), 10);
        stored.insert(key(5), later, Seq(2), 20);
        stored.expire(10);
        assert_eq!(stored.get(&key(5)), Some((later, Seq(2))));
        stored.expire(20);
        assert_eq!(stored.get(&key(5)), None);
    }

    proptest! {
        #[test]
        fn it_remembers_what_a_plain_list_does(
            steps in prop::collection::vec((0_u128..40, 0_u64..4, prop::bool::ANY), 1..200),
        ) {
            let mut stored = Stored::default();
            let mut list: Vec<(NonceKey, MessageId, Seq, u64)> = Vec::new();
            let mut now_ms = 0;
            for (seq, (nonce, later_ms, is_message)) in (1..).zip(steps) {
                now_ms += later_ms;
                if is_message {
                    let message = MessageId::from_u128(u128::from(seq));
                    stored.insert(key(nonce), message, Seq(seq), now_ms + 20);
                    list.push((key(nonce), message, Seq(seq), now_ms + 20));
                } else {
                    stored.expire(now_ms);
                    list.retain(|(_, _, _, due_ms)| *due_ms > now_ms);
                }
                for nonce in 0..40 {
                    let last = list.iter().rfind(|(known, ..)| *known == key(nonce));
                    let expected = last.map(|(_, message, seq, _)| (*message, *seq));
                    prop_assert_eq!(stored.get(&key(nonce)), expected);
                }
            }
        }
    }
}
