//! A bounded map that forgets what has not been used for long.
//!
//! It never asks anybody for what it lacks, and never says "there is no such thing": only what
//! exists is kept.
//!
//! Invariants: it holds at most `entries_max` entries. Two generations: when the young one is
//! half of that, the old one is dropped and the young one grows old; a hit makes an entry young.

use std::collections::HashMap;
use std::hash::Hash;

/// See the file's head.
pub(crate) struct Cache<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_max: usize,
}

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    /// An empty cache for at most so many entries, at least 2.
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max: (entries_max / 2).max(1),
        }
    }

    /// What is kept for this key.
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(*key, value.clone());
        Some(value)
    }

    /// Keeps this, in place of what was there.
    pub(crate) fn put(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
        debug_assert!(self.young.len() <= self.generation_max);
        debug_assert!(self.old.len() <= self.generation_max);
    }

    /// Forgets this key.
    pub(crate) fn forget(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let mut cache = Cache::new(8);
        for key in 0..1000 {
            cache.put(key, key * 10);
            assert_eq!(cache.get(&0), Some(0), "used all the time");
            assert!(cache.young.len() + cache.old.len() <= 8);
        }
        assert_eq!(cache.get(&999), Some(9990));
        assert_eq!(cache.get(&500), None);
    }

    #[test]
    fn what_is_forgotten_or_replaced_does_not_come_back() {
        let mut cache = Cache::new(4);
        cache.put(1, "a");
        cache.put(2, "b");
        cache.put(3, "c");
        cache.put(1, "new");
        assert_eq!(cache.get(&1), Some("new"));
        for key in [1, 2, 3] {
            cache.forget(&key);
            assert_eq!(cache.get(&key), None);
        }
    }
}
