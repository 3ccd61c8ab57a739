//! A table by number whose memory follows what is in it, a page at a time.
//!
//! A vector that doubles has room for twice what is in it, copies all of it when it grows, and never gives
//! anything back. Here room comes and goes in pages. It never moves what it holds.
//!
//! Invariants: a page exists exactly while something is in it; a number names at most one thing.

/// Things in one page.
pub(crate) const PAGE: usize = 256;

/// Things by numbers that whoever uses the table gives out.
#[derive(Debug)]
pub(crate) struct Pages<T> {
    pages: Vec<Page<T>>,
    count: usize,
}

#[derive(Debug)]
struct Page<T> {
    /// Empty, or [`PAGE`] long.
    slots: Box<[Option<T>]>,
    count: usize,
}

impl<T> Default for Pages<T> {
    fn default() -> Self {
        Self {
            pages: Vec::new(),
            count: 0,
        }
    }
}

impl<T> Pages<T> {
    /// Puts a thing in its place, which must be empty.
    pub(crate) fn insert(&mut self, index: u32, thing: T) {
        let (number, slot) = split(index);
        while self.pages.len() <= number {
            self.pages.push(Page {
                slots: Box::default(),
                count: 0,
            });
        }
        let page = &mut self.pages[number];
        if page.slots.is_empty() {
            page.slots = std::iter::repeat_with(|| None).take(PAGE).collect();
        }
        let before = page.slots[slot].replace(thing);
        assert!(before.is_none(), "a place has one tenant at a time");
        page.count += 1;
        self.count += 1;
    }

    /// What is in a place, if anything is.
    pub(crate) fn get(&self, index: u32) -> Option<&T> {
        let (number, slot) = split(index);
        self.pages.get(number)?.slots.get(slot)?.as_ref()
    }

    /// What is in a place, if anything is.
    pub(crate) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (number, slot) = split(index);
        self.pages.get_mut(number)?.slots.get_mut(slot)?.as_mut()
    }

    /// Takes a thing out.
    pub(crate) fn remove(&mut self, index: u32) -> Option<T> {
        let (number, slot) = split(index);
        let page = self.pages.get_mut(number)?;
        let thing = page.slots.get_mut(slot)?.take()?;
        page.count -= 1;
        self.count -= 1;
        if page.count == 0 {
            page.slots = Box::default();
        }
        Some(thing)
    }

    /// How many things there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// No number in use is this large.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.pages.len() * PAGE).expect("numbers have 32 bits")
    }
}

/// Page and place in it.
fn split(index: u32) -> (usize, usize) {
    (index as usize / PAGE, index as usize % PAGE)
}

/// Things by numbers that the table gives out itself, used ones again first.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    pages: Pages<T>,
    free: Vec<u32>,
    next: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            pages: Pages::default(),
            free: Vec::new(),
            next: 0,
        }
    }
}

impl<T> Slab<T> {
    /// Keeps a thing; returns its number.
    pub(crate) fn insert(&mut self, thing: T) -> u32 {
        let index = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.pages.insert(index, thing);
        index
    }

    /// Takes out what has this number, which must be in use.
    pub(crate) fn remove(&mut self, index: u32) -> T {
        let thing = self.pages.remove(index).expect("the number is in use");
        self.free.push(index);
        if self.pages.count() == 0 {
            self.free = Vec::new();
            self.next = 0;
        }
        thing
    }

    /// What has this number, which must be in use.
    pub(crate) fn at(&self, index: u32) -> &T {
        self.pages.get(index).expect("the number is in use")
    }

    /// What has this number, which must be in use.
    pub(crate) fn at_mut(&mut self, index: u32) -> &mut T {
        self.pages.get_mut(index).expect("the number is in use")
    }

    /// How many things there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.pages.count()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_slab_behaves_like_a_map(steps in prop::collection::vec((any::<bool>(), any::<usize>()), 0..2_000)) {
            let (mut slab, mut model) = (Slab::default(), BTreeMap::new());
            for (inserts, value) in steps {
                if inserts || model.is_empty() {
                    let index = slab.insert(value);
                    prop_assert_eq!(model.insert(index, value), None);
                } else {
                    let index = *model.keys().nth(value % model.len()).expect("not empty");
                    prop_assert_eq!(slab.remove(index), model.remove(&index).expect("there"));
                }
                prop_assert_eq!(slab.count(), model.len());
                prop_assert!(model.iter().all(|(index, value)| slab.at(*index) == value));
            }
        }
    }

    #[test]
    fn pages_come_and_go() {
        let mut pages = Pages::default();
        pages.insert(70_000, 'a');
        pages.insert(70_001, 'b');
        let used = |pages: &Pages<char>| pages.pages.iter().filter(|p| !p.slots.is_empty()).count();
        assert_eq!((used(&pages), pages.count()), (1, 2));
        assert_eq!(pages.get(3), None);
        assert_eq!(pages.remove(70_000), Some('a'));
        assert_eq!(pages.remove(70_000), None);
        assert_eq!(pages.get_mut(70_001), Some(&mut 'b'));
        assert_eq!(pages.remove(70_001), Some('b'));
        assert_eq!((used(&pages), pages.count()), (0, 0));
        assert!(pages.end() > 70_001);
    }
}
