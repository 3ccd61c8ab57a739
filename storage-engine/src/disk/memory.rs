//! Memory that commits are written from, used again and again.
//!
//! It is never cleared: whoever takes it fills it from end to end.
//!
//! Invariants: memory begins at a block; what a pool keeps is at most [`KEPT_MAX`] pieces of at
//! most [`KEPT_BLOCKS_MAX`] blocks each.

use std::cell::RefCell;
use std::rc::Rc;

use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::config::BLOCK_BYTES;

/// Most pieces of memory that wait to be used again: one is written, one waits behind it, one is
/// filled, and one is about to be given back.
const KEPT_MAX: usize = 4;
/// Largest piece that is kept, in blocks: 1 MiB, a commit of the default limit.
const KEPT_BLOCKS_MAX: usize = 256;

/// A block of memory, aligned as direct I/O wants it.
#[derive(FromBytes, IntoBytes, Immutable, Clone, Copy)]
#[repr(C, align(4096))]
struct Block([u8; BLOCK_BYTES as usize]);

/// Whole blocks of memory. Unlike [`Pooled`] it may move to another thread.
pub(super) struct Blocks {
    blocks: Box<[Block]>,
    bytes: usize,
}

impl Blocks {
    fn new(blocks: usize) -> Self {
        Self {
            blocks: vec![Block([0; BLOCK_BYTES as usize]); blocks].into(),
            bytes: blocks * BLOCK_BYTES as usize,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.blocks.as_bytes()[..self.bytes]
    }
}

/// Memory that waits to be used again.
#[derive(Default)]
pub(super) struct Pool {
    kept: RefCell<Vec<Blocks>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pool")
    }
}

impl Pool {
    /// Memory of this length, which holds anything.
    pub(super) fn take(self: &Rc<Self>, bytes: u32) -> Pooled {
        let needed = bytes.div_ceil(BLOCK_BYTES) as usize;
        let mut kept = self.kept.borrow_mut();
        let fitting = kept.iter().rposition(|own| own.blocks.len() >= needed);
        let mut blocks = match fitting {
            Some(position) => kept.swap_remove(position),
            // Powers of two, so that commits of about the same size share memory.
            None => Blocks::new(needed.next_power_of_two()),
        };
        blocks.bytes = bytes as usize;
        Pooled {
            blocks: Some(blocks),
            pool: Rc::clone(self),
        }
    }

    fn give_back(&self, blocks: Blocks) {
        let mut kept = self.kept.borrow_mut();
        if blocks.blocks.len() > KEPT_BLOCKS_MAX {
            return;
        }
        if kept.len() == KEPT_MAX {
            // The oldest goes, so that pieces that have become too small do not stay.
            kept.remove(0);
        }
        kept.push(blocks);
    }
}

/// Memory of a [`Pool`], given back when it is dropped.
pub(super) struct Pooled {
    blocks: Option<Blocks>,
    pool: Rc<Pool>,
}

impl std::fmt::Debug for Pooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pooled")
    }
}

impl Pooled {
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let blocks = self.blocks.as_mut().expect("held until dropped or lent");
        &mut blocks.blocks.as_mut_bytes()[..blocks.bytes]
    }

    /// The memory itself, and where it is to be given back by [`Lent::give_back`].
    pub(super) fn lend(mut self) -> (Blocks, Lent) {
        let blocks = self.blocks.take().expect("held until dropped or lent");
        (blocks, Lent(Rc::clone(&self.pool)))
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        if let Some(blocks) = self.blocks.take() {
            self.pool.give_back(blocks);
        }
    }
}

/// The pool that lent memory belongs to.
pub(super) struct Lent(Rc<Pool>);

impl Lent {
    pub(super) fn give_back(self, blocks: Blocks) {
        self.0.give_back(blocks);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(pooled: &mut Pooled) -> usize {
        pooled.bytes_mut().as_ptr().addr()
    }

    #[test]
    fn memory_is_aligned_and_used_again() {
        let pool = Rc::new(Pool::default());
        let mut first = pool.take(3 * BLOCK_BYTES);
        let place = address(&mut first);
        assert!(place.is_multiple_of(BLOCK_BYTES as usize));
        drop(first);
        let mut second = pool.take(4 * BLOCK_BYTES);
        assert_eq!(address(&mut second), place);
        assert_eq!(second.bytes_mut().len(), 4 * BLOCK_BYTES as usize);
        let mut third = pool.take(BLOCK_BYTES);
        assert_ne!(address(&mut third), place);
    }

    #[test]
    fn a_pool_keeps_little() {
        let pool = Rc::new(Pool::default());
        let many: Vec<Pooled> = (0..10).map(|_| pool.take(BLOCK_BYTES)).collect();
        drop(many);
        assert_eq!(pool.kept.borrow().len(), KEPT_MAX);
        let too_large = u32::try_from(KEPT_BLOCKS_MAX + 1).unwrap() * BLOCK_BYTES;
        drop(pool.take(too_large));
        assert!(
            pool.kept
                .borrow()
                .iter()
                .all(|own| own.blocks.len() <= KEPT_BLOCKS_MAX)
        );
    }
}
