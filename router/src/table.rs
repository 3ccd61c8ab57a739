//! A hash map whose entries lie side by side, and whose buckets cost 5 bytes.
//!
//! A map of whole entries pays for its empty buckets too, and those are an eighth to more than a
//! half of all. Here the buckets hold a number each, and the entries lie in a vector without holes. It
//! never says in which order its keys hash: entries stand in the order in which they came, but for
//! those that took the place of a removed one.
//!
//! Invariants: an entry's place is below `len` and changes only when another one is removed;
//! memory follows the number of entries, up and down.

use std::hash::{BuildHasher, Hash, RandomState};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// Room that is made at a time: an eighth of what there is, at least this many entries.
const GROWTH_ENTRIES_MIN: usize = 8;

/// Entries of `K` and `V`, each found by its key or by its place.
#[derive(Clone, Debug)]
pub struct Table<K, V> {
    entries: Vec<(K, V)>,
    places: HashTable<u32>,
    hasher: RandomState,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            places: HashTable::new(),
            hasher: RandomState::new(),
        }
    }
}

impl<K: Hash + Eq, V> Table<K, V> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The value of this key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        Some(self.at(self.place(key)?).1)
    }

    /// The value of this key.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let place = self.place(key)?;
        Some(&mut self.entries[place as usize].1)
    }

    /// Where this key's entry lies.
    #[must_use]
    pub fn place(&self, key: &K) -> Option<u32> {
        let is_it = |place: &u32| self.entries[*place as usize].0 == *key;
        self.places.find(self.hasher.hash_one(key), is_it).copied()
    }

    /// The entry at this place.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn at(&self, place: u32) -> (&K, &V) {
        let (key, value) = &self.entries[place as usize];
        (key, value)
    }

    /// The value at this place.
    ///
    /// # Panics
    /// When there is none.
    pub fn at_mut(&mut self, place: u32) -> &mut V {
        &mut self.entries[place as usize].1
    }

    /// Where this key's entry lies, made of `make` if there is none.
    ///
    /// # Panics
    /// When there are 2^32 entries.
    pub fn place_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> u32 {
        let Self {
            entries,
            places,
            hasher,
        } = self;
        let is_it = |place: &u32| entries[*place as usize].0 == key;
        let rehash = |place: &u32| hasher.hash_one(&entries[*place as usize].0);
        let vacant = match places.entry(hasher.hash_one(&key), is_it, rehash) {
            Entry::Occupied(found) => return *found.get(),
            Entry::Vacant(vacant) => vacant,
        };
        let place = u32::try_from(entries.len()).expect("a shard holds fewer than 2^32 of a thing");
        vacant.insert(place);
        if entries.len() == entries.capacity() {
            entries.reserve_exact((entries.len() / 8).max(GROWTH_ENTRIES_MIN));
        }
        entries.push((key, make()));
        place
    }

    /// The value of this key, made of `make` if there is none.
    pub fn get_or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let place = self.place_or_insert_with(key, make);
        self.at_mut(place)
    }

    /// Takes an entry out; the last one moves to its place.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let place = self.place(key)?;
        let hash = self.hasher.hash_one(key);
        let bucket = self.places.find_entry(hash, |found| *found == place);
        bucket.expect("every entry has a bucket").remove();
        let (_, value) = self.entries.swap_remove(place as usize);
        let last = u32::try_from(self.entries.len()).expect("there were fewer than 2^32");
        if place < last {
            // The entry that has moved is found under its old place once more.
            let hash = self.hasher.hash_one(&self.entries[place as usize].0);
            let moved = self.places.find_mut(hash, |found| *found == last);
            *moved.expect("every entry has a bucket") = place;
        }
        self.give_room_back();
        Some(value)
    }

    /// Forgets everything, and gives the memory back.
    pub fn clear(&mut self) {
        self.entries = Vec::new();
        self.places = HashTable::new();
    }

    fn give_room_back(&mut self) {
        let Self {
            entries,
            places,
            hasher,
        } = self;
        if entries.capacity() > 2 * entries.len() + 2 * GROWTH_ENTRIES_MIN {
            entries.shrink_to(entries.len() + entries.len() / 8);
        }
        if places.capacity() > 8 * places.len() + 8 * GROWTH_ENTRIES_MIN {
            places.shrink_to(2 * entries.len(), |place| {
                hasher.hash_one(&entries[*place as usize].0)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_map(steps in prop::collection::vec((0..3_u8, 0..40_u16, any::<u8>()), 0..300)) {
            let mut table = Table::new();
            let mut model = BTreeMap::new();
            for (step, key, value) in steps {
                match step {
                    0 => {
                        let held = *table.get_or_insert_with(key, || value);
                        prop_assert_eq!(held, *model.entry(key).or_insert(value));
                    }
                    1 => prop_assert_eq!(table.remove(&key), model.remove(&key)),
                    _ => prop_assert_eq!(table.get_mut(&key), model.get_mut(&key)),
                }
                prop_assert_eq!(table.len(), model.len());
                for (key, value) in &model {
                    prop_assert_eq!(table.get(key), Some(value));
                    let place = table.place(key).expect("it is there");
                    prop_assert_eq!(table.at(place), (key, value));
                }
            }
        }
    }

    #[test]
    fn memory_follows_the_number_of_entries() {
        let mut table = Table::new();
        for key in 0..100_000_u32 {
            table.get_or_insert_with(key, || [0_u8; 16]);
            assert!(table.entries.capacity() <= 9 * table.len() / 8 + GROWTH_ENTRIES_MIN);
        }
        for key in 0..99_990 {
            assert!(table.remove(&key).is_some());
        }
        assert_eq!(table.len(), 10);
        assert!(table.entries.capacity() < 100 && table.places.capacity() < 1_000);
        assert!((99_990..100_000).all(|key| table.get(&key).is_some()));
    }
}
