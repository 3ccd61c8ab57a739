//! Things that are open: a bounded number, of which the one that was used longest ago leaves.
//!
//! It opens and closes nothing itself.
//!
//! Invariants: at most as many things as its limit says are kept, beside those that somebody
//! still holds.

use std::collections::HashMap;
use std::hash::Hash;
use std::rc::Rc;

/// Open things by their keys.
#[derive(Debug)]
pub(crate) struct Lru<K, V> {
    open_max: usize,
    open: HashMap<K, Open<V>>,
    uses: u64,
}

#[derive(Debug)]
struct Open<V> {
    value: Rc<V>,
    last_use: u64,
}

impl<K: Copy + Eq + Hash, V> Lru<K, V> {
    pub(crate) fn new(open_max: usize) -> Self {
        Self {
            open_max,
            open: HashMap::new(),
            uses: 0,
        }
    }

    /// The thing with this key, if it is open.
    pub(crate) fn get(&mut self, key: K) -> Option<Rc<V>> {
        self.uses += 1;
        let open = self.open.get_mut(&key)?;
        open.last_use = self.uses;
        Some(Rc::clone(&open.value))
    }

    /// Keeps what was just opened. Returns what has to leave for it and is nobody else's: that is
    /// to be closed.
    pub(crate) fn keep(&mut self, key: K, value: Rc<V>) -> Option<V> {
        self.uses += 1;
        let last_use = self.uses;
        let replaced = self.open.insert(key, Open { value, last_use });
        let leaving = replaced.or_else(|| {
            let is_full = self.open.len() > self.open_max;
            let others = self
                .open
                .iter()
                .filter(|(other, _)| is_full && **other != key);
            let oldest = others.min_by_key(|(_, open)| open.last_use)?;
            let oldest = *oldest.0;
            self.open.remove(&oldest)
        });
        Rc::try_unwrap(leaving?.value).ok()
    }

    /// Lets go of a thing. Returns it if it is nobody else's.
    pub(crate) fn forget(&mut self, key: K) -> Option<V> {
        Rc::try_unwrap(self.open.remove(&key)?.value).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_used_longest_ago_leaves() {
        let mut lru = Lru::new(2);
        assert_eq!(lru.keep(1, Rc::new("one")), None);
        assert_eq!(lru.keep(2, Rc::new("two")), None);
        assert_eq!(lru.get(1).as_deref(), Some(&"one"));
        assert_eq!(lru.keep(3, Rc::new("three")), Some("two"));
        assert_eq!(lru.get(2), None);
        assert_eq!(lru.keep(3, Rc::new("again")), Some("three"));
        assert_eq!(lru.forget(1), Some("one"));
    }

    #[test]
    fn what_somebody_holds_is_left_to_them() {
        let mut lru = Lru::new(1);
        let held = Rc::new("held");
        lru.keep(1, Rc::clone(&held));
        assert_eq!(lru.keep(2, Rc::new("next")), None);
        assert_eq!((lru.get(1), Rc::strong_count(&held)), (None, 1));
    }
}
