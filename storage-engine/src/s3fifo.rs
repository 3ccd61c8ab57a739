//! Which blocks stay in memory: the S3-FIFO rule (Yang et al., "FIFO queues are all you need for
//! cache eviction", SOSP 2023) over a budget in bytes.
//!
//! It reads nothing and waits for nothing; who looks up what is [`crate::cache`]'s business.
//!
//! Invariants: what is counted never exceeds the budget, the bookkeeping included; a block asked
//! for once leaves before one asked for twice, so that scrolling through history does not push
//! out what many read.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::Hash;

use bytes::Bytes;

/// What one resident block costs beside its bytes: its slot in a hash table that may be half
/// empty, its place in a queue that may be half empty, and the allocation that `Bytes` shares.
pub(crate) const ENTRY_BYTES: u64 = 256;
/// What it costs to remember that a block was here: a slot in a set and a place in a queue.
const GHOST_BYTES: u64 = 64;
/// A block's uses are counted up to this; more make no difference.
const USES_MAX: u8 = 3;
/// The part of the budget for blocks that were asked for once: one in ten.
const PROBATION_SHARE: u64 = 10;

/// Blocks by key, within a budget.
#[derive(Debug)]
pub(crate) struct S3Fifo<K> {
    budget_bytes: u64,
    entries: HashMap<K, Entry>,
    /// Asked for once, oldest first.
    probation: VecDeque<K>,
    probation_bytes: u64,
    /// Asked for again, oldest first.
    main: VecDeque<K>,
    main_bytes: u64,
    /// Gone from probation lately: when asked for again, they go to the main queue at once.
    ghosts: VecDeque<K>,
    is_ghost: HashSet<K>,
}

#[derive(Debug)]
struct Entry {
    block: Bytes,
    uses: u8,
}

impl Entry {
    fn cost(&self) -> u64 {
        cost_of(&self.block)
    }
}

fn cost_of(block: &Bytes) -> u64 {
    block.len() as u64 + ENTRY_BYTES
}

impl<K: Copy + Eq + Hash> S3Fifo<K> {
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            budget_bytes,
            entries: HashMap::new(),
            probation: VecDeque::new(),
            probation_bytes: 0,
            main: VecDeque::new(),
            main_bytes: 0,
            ghosts: VecDeque::new(),
            is_ghost: HashSet::new(),
        }
    }

    /// What is held and what it costs to hold it, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.probation_bytes + self.main_bytes + self.ghosts.len() as u64 * GHOST_BYTES
    }

    /// The block, which thereby counts as used once more.
    pub(crate) fn get(&mut self, key: K) -> Option<Bytes> {
        let entry = self.entries.get_mut(&key)?;
        entry.uses = (entry.uses + 1).min(USES_MAX);
        Some(entry.block.clone())
    }

    /// Takes a block in, if it fits into the budget at all, and lets others go for it.
    pub(crate) fn insert(&mut self, key: K, block: Bytes) {
        let cost = cost_of(&block);
        if cost > self.budget_bytes || self.entries.contains_key(&key) {
            return;
        }
        while self.bytes() + cost > self.budget_bytes {
            self.let_one_go();
        }
        if self.is_ghost.contains(&key) {
            self.main.push_back(key);
            self.main_bytes += cost;
        } else {
            self.probation.push_back(key);
            self.probation_bytes += cost;
        }
        self.entries.insert(key, Entry { block, uses: 0 });
    }

    /// Brings the cost down by at least one step: a ghost forgotten, a use forgotten, a block
    /// moved out of probation, or a block gone. Ends, because uses are counted up to a limit.
    fn let_one_go(&mut self) {
        if self.ghosts.len() > self.entries.len() {
            self.forget_ghost();
        } else if self.probation_bytes > self.budget_bytes / PROBATION_SHARE || self.main.is_empty()
        {
            self.leave_probation();
        } else {
            self.leave_main();
        }
    }

    fn forget_ghost(&mut self) {
        if let Some(key) = self.ghosts.pop_front() {
            self.is_ghost.remove(&key);
        }
    }

    fn leave_probation(&mut self) {
        let Some(key) = self.probation.pop_front() else {
            self.forget_ghost();
            return;
        };
        let entry = self.entries.get_mut(&key).expect("queued blocks are held");
        let cost = entry.cost();
        self.probation_bytes -= cost;
        if entry.uses > 0 {
            entry.uses = 0;
            self.main.push_back(key);
            self.main_bytes += cost;
            return;
        }
        self.entries.remove(&key);
        if self.is_ghost.insert(key) {
            self.ghosts.push_back(key);
        }
    }

    fn leave_main(&mut self) {
        let key = self.main.pop_front().expect("the queue was looked at");
        let entry = self.entries.get_mut(&key).expect("queued blocks are held");
        if entry.uses > 0 {
            entry.uses -= 1;
            self.main.push_back(key);
            return;
        }
        self.main_bytes -= entry.cost();
        self.entries.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block(bytes: usize) -> Bytes {
        Bytes::from(vec![0; bytes])
    }

    #[test]
    fn what_is_read_twice_outlives_a_scan() {
        let mut cache = S3Fifo::new(100 * (1000 + ENTRY_BYTES));
        cache.insert(0, block(1000));
        assert!(cache.get(0).is_some());
        for key in 1..10_000 {
            cache.insert(key, block(1000));
        }
        assert!(cache.get(0).is_some(), "the scan did not push it out");
        assert!(cache.get(1).is_none(), "the scan itself is gone");
    }

    #[test]
    fn what_comes_back_soon_skips_probation() {
        let mut cache = S3Fifo::new(20 * (1000 + ENTRY_BYTES));
        for key in 0..30 {
            cache.insert(key, block(1000));
        }
        let gone = (0..30).find(|key| cache.get(*key).is_none()).unwrap();
        cache.insert(gone, block(1000));
        assert!(cache.main.contains(&gone));
    }

    #[test]
    fn a_block_larger_than_the_budget_is_not_kept() {
        let mut cache = S3Fifo::new(1000);
        cache.insert(1, block(1000));
        assert_eq!((cache.bytes(), cache.get(1)), (0, None));
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_the_count_is_true(
            budget in 0_u64..50_000,
            uses in prop::collection::vec((0_u8..40, 0_usize..4000, any::<bool>()), 0..300),
        ) {
            let mut cache = S3Fifo::new(budget);
            for (key, bytes, is_insert) in uses {
                if is_insert {
                    cache.insert(key, block(bytes));
                } else {
                    cache.get(key);
                }
                let held: u64 = cache.entries.values().map(Entry::cost).sum();
                let ghosts = cache.is_ghost.len() as u64 * GHOST_BYTES;
                prop_assert_eq!(cache.bytes(), held + ghosts);
                prop_assert_eq!(cache.ghosts.len(), cache.is_ghost.len());
                prop_assert_eq!(cache.probation.len() + cache.main.len(), cache.entries.len());
                prop_assert!(cache.bytes() <= budget);
            }
        }
    }
}
