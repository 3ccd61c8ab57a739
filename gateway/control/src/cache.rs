//! A bounded map that forgets what has not been used for long.
//!
//! It never asks anybody for what it lacks, and never says "there is no such thing": only what
//! exists is kept.
//!
//! Invariants: what it holds weighs at most `bytes_max`, by the word of whoever puts it in. Two
//! generations: when the young one weighs half of that, the old one is dropped and the young one
//! grows old; a hit makes an entry young.

use std::collections::HashMap;
use std::hash::Hash;

/// See the file's head.
pub(crate) struct Cache<K, V> {
    young: HashMap<K, (V, usize)>,
    young_bytes: usize,
    old: HashMap<K, (V, usize)>,
    generation_bytes_max: usize,
}

/// What an entry weighs beside its value: its bucket, and its share of empty ones.
const ENTRY_BYTES: usize = 64;

impl<K: Hash + Eq + Copy, V: Clone> Cache<K, V> {
    /// An empty cache for at most so many bytes. What weighs more than half of them is not kept.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            young_bytes: 0,
            old: HashMap::new(),
            generation_bytes_max: bytes_max / 2,
        }
    }

    /// What is kept for this key.
    pub(crate) fn get(&mut self, key: &K) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        let (value, bytes) = self.old.remove(key)?;
        self.keep(*key, value.clone(), bytes);
        Some(value)
    }

    /// Keeps this, which weighs so many bytes on the heap, in place of what was there.
    pub(crate) fn put(&mut self, key: K, value: V, heap_bytes: usize) {
        self.forget(&key);
        let bytes = ENTRY_BYTES + size_of::<(K, V)>() + heap_bytes;
        if bytes <= self.generation_bytes_max {
            self.keep(key, value, bytes);
        }
    }

    fn keep(&mut self, key: K, value: V, bytes: usize) {
        if self.young_bytes + bytes > self.generation_bytes_max {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        self.young.insert(key, (value, bytes));
    }

    /// Forgets this key.
    pub(crate) fn forget(&mut self, key: &K) {
        if let Some((_, bytes)) = self.young.remove(key) {
            self.young_bytes -= bytes;
        }
        self.old.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let each = ENTRY_BYTES + size_of::<(i32, i32)>() + 100;
        let mut cache = Cache::new(8 * each);
        for key in 0..1000 {
            cache.put(key, key * 10, 100);
            assert_eq!(cache.get(&0), Some(0), "used all the time");
            assert!(cache.young.len() + cache.old.len() <= 8);
        }
        assert_eq!(cache.get(&999), Some(9990));
        assert_eq!(cache.get(&500), None);
    }

    #[test]
    fn what_weighs_too_much_is_not_kept_and_drives_nothing_out() {
        let mut cache = Cache::new(10_000);
        cache.put(1, "small", 100);
        cache.put(2, "large", 9_000);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some("small"), None));
        for _ in 0..100 {
            cache.put(1, "small", 4_000);
        }
        assert_eq!(
            cache.young_bytes,
            4_000 + ENTRY_BYTES + size_of::<(i32, &str)>()
        );
    }

    #[test]
    fn what_is_forgotten_or_replaced_does_not_come_back() {
        let mut cache = Cache::new(10_000);
        cache.put(1, "a", 3_000);
        cache.put(2, "b", 3_000);
        cache.put(3, "c", 3_000);
        cache.put(1, "new", 3_000);
        assert_eq!(cache.get(&1), Some("new"));
        for key in [1, 2, 3] {
            cache.forget(&key);
            assert_eq!(cache.get(&key), None);
        }
    }
}
