//! Nonces of messages that are stored, in the order in which they are to be forgotten.
//!
//! It never reads a clock, and knows nothing of messages that are still being committed.
//!
//! Invariants: entries lie side by side in blocks of [`BLOCK_ENTRIES`], which come and go with the
//! messages of the last minutes; only the buckets that lead to them, a tenth of the memory, double, and
//! shrink when most are empty; a key is found as long as its last entry is here.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Bucketed;
use throng_protocol::{MessageId, Seq};

use super::NonceKey;

/// Entries that memory is taken for at a time: 80 KiB. A few in tests, so that blocks come and go.
const BLOCK_ENTRIES: u32 = if cfg!(test) { 8 } else { 1_024 };
/// So few buckets are kept, however empty.
const BUCKETS_MIN: usize = 4 * BLOCK_ENTRIES as usize;

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

/// Bytes of an entry.
#[cfg(test)]
pub(super) const ENTRY_BYTES: usize = size_of::<Entry>();

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
        let at = |number| lying_at(&self.blocks, self.first, number);
        let is_it = |bucket: &Bucket| bucket.hash == hash && at(bucket.number).key == *key;
        let entry = at(self.buckets.find(spread(hash), is_it)?.number);
        Some((entry.message, entry.seq))
    }

    /// Remembers a message until `due_ms`, or for as long as one that came before it and is due
    /// later; it takes the place of an older one with this key.
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
                self.give_room_back();
            }
        }
    }

    /// After a burst the buckets follow the entries down.
    fn give_room_back(&mut self) {
        let keys = self.buckets.len();
        if self.buckets.capacity() > 8 * keys + BUCKETS_MIN {
            let rehash = |bucket: &Bucket| spread(bucket.hash);
            self.buckets.shrink_to(2 * keys, rehash);
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
        let place = u32::try_from(place).expect("a shard's memory holds fewer than 2^32");
        self.first.wrapping_add(place)
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

    use super::super::tests::key;
    use super::*;

    fn fill(stored: &mut Stored, nonces: std::ops::Range<u128>, due_ms: u64) {
        for nonce in nonces {
            let message = MessageId::from_u128(nonce);
            stored.insert(key(nonce), message, Seq(7), due_ms);
        }
    }

    /// Nobody yet; numbers are about to go round.
    fn before_the_turn() -> Stored {
        Stored {
            first: 0_u32.wrapping_sub(2 * BLOCK_ENTRIES),
            ..Stored::default()
        }
    }

    #[test]
    fn memory_follows_the_messages_down() {
        let mut stored = Stored::default();
        fill(&mut stored, 0..1_000, 10);
        assert_eq!((stored.len(), stored.blocks.len()), (1_000, 125));
        fill(&mut stored, 1_000..1_004, 20);
        assert!(stored.buckets.capacity() >= 1_004);
        stored.expire(10);
        assert_eq!((stored.len(), stored.blocks.len()), (4, 1));
        let buckets = stored.buckets.capacity();
        assert!(buckets <= 8 * 4 + BUCKETS_MIN, "{buckets} buckets for 4");
        let are_here = (1_000..1_004).all(|nonce| stored.get(&key(nonce)).is_some());
        assert!(are_here && stored.get(&key(999)).is_none());
    }

    #[test]
    fn a_key_that_comes_again_is_the_later_messages() {
        let mut stored = Stored::default();
        let (older, later) = (MessageId::from_u128(1), MessageId::from_u128(2));
        stored.insert(key(5), older, Seq(1), 10);
        fill(&mut stored, 100..120, 10);
        stored.insert(key(5), later, Seq(2), 20);
        stored.expire(10);
        assert_eq!(stored.get(&key(5)), Some((later, Seq(2))));
        assert_eq!((stored.len(), stored.blocks.len()), (1, 1));
        stored.expire(20);
        assert_eq!((stored.get(&key(5)), stored.len()), (None, 0));
    }

    proptest! {
        #[test]
        fn it_remembers_what_a_plain_list_does(
            steps in prop::collection::vec((0_u128..40, 0_u64..4, 0..4), 1..300),
        ) {
            let mut stored = before_the_turn();
            let mut list: Vec<(NonceKey, MessageId, Seq, u64)> = Vec::new();
            let mut now_ms = 0;
            for (seq, (nonce, later_ms, kind)) in (1..).zip(steps) {
                now_ms += later_ms;
                if kind > 0 {
                    let message = MessageId::from_u128(u128::from(seq));
                    stored.insert(key(nonce), message, Seq(seq), now_ms + 30);
                    list.push((key(nonce), message, Seq(seq), now_ms + 30));
                } else {
                    stored.expire(now_ms);
                    list.retain(|(_, _, _, due_ms)| *due_ms > now_ms);
                }
                let mut keys = 0;
                for nonce in 0..40 {
                    let last = list.iter().rfind(|(known, ..)| *known == key(nonce));
                    let expected = last.map(|(_, message, seq, _)| (*message, *seq));
                    keys += usize::from(expected.is_some());
                    prop_assert_eq!(stored.get(&key(nonce)), expected);
                }
                prop_assert_eq!(stored.len(), keys);
            }
        }
    }
}
