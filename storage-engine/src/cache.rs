//! Blocks of files that never change, kept in memory, and read once however many ask for them at
//! the same time.
//!
//! It does no I/O: whoever is told that a block is theirs to read reads it and hands it over. It
//! keeps no error: the next one to ask reads again.
//!
//! Invariants: at most one reading of a block is under way; one that is given up, by an error or
//! because its reader was dropped, wakes those who wait for it, and one of them takes over.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use crate::key::SegmentId;
use crate::s3fifo::S3Fifo;

/// Which block of which file. Numbers of files are never used again, so nothing here gets stale.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum BlockKey {
    /// Of a sealed file, decompressed.
    Sealed {
        /// The file's number.
        file: u32,
        /// The block's number in it.
        block: u32,
    },
    /// Of a segment's index.
    Index {
        /// The segment.
        segment: SegmentId,
        /// The block's number in its index file.
        block: u32,
    },
}

/// What reading has cost one shard so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ReadStats {
    /// Pages asked for.
    pub pages: u64,
    /// Pages that were answered from recent messages.
    pub pages_recent: u64,
    /// Parts of a channel's history that were looked into.
    pub hops: u64,
    /// Reads sent to the device.
    pub device_reads: u64,
    /// Bytes that they asked for.
    pub device_bytes: u64,
    /// Blocks of sealed files and of indexes that were read.
    pub blocks_read: u64,
    /// Blocks that were in the cache.
    pub blocks_cached: u64,
    /// Blocks that another page was reading already.
    pub blocks_coalesced: u64,
}

/// One shard's cache, and what reading has cost.
#[derive(Debug)]
pub(crate) struct BlockCache {
    stats: Cell<ReadStats>,
    held: RefCell<S3Fifo<BlockKey>>,
    flights: RefCell<HashMap<BlockKey, Rc<Flight>>>,
}

/// One reading of a block.
#[derive(Debug)]
struct Flight(RefCell<Outcome>);

#[derive(Debug)]
enum Outcome {
    /// Under way; these want to hear of its end.
    Reading(Vec<Waker>),
    Read(Bytes),
    GivenUp,
}

/// What to do for a block.
pub(crate) enum Claim<'a> {
    /// Nothing: here it is.
    Here(Bytes),
    /// Read it: nobody else does.
    Mine(Lead<'a>),
    /// Wait: somebody else is reading it.
    Others(Wait),
}

/// The duty to read a block. Dropped without [`Lead::fill`], it passes to one of those who wait.
pub(crate) struct Lead<'a> {
    cache: &'a BlockCache,
    key: BlockKey,
    flight: Rc<Flight>,
}

/// Somebody else's reading; gives `None` if it was given up, which is when to claim again.
pub(crate) struct Wait(Rc<Flight>);

impl BlockCache {
    /// An empty cache that never holds more than `budget_bytes`, bookkeeping included.
    pub(crate) fn new(budget_bytes: u64) -> Self {
        Self {
            stats: Cell::default(),
            held: RefCell::new(S3Fifo::new(budget_bytes)),
            flights: RefCell::new(HashMap::new()),
        }
    }

    /// What it holds and what holding it costs, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.held.borrow().bytes()
    }

    /// What reading has cost so far.
    pub(crate) fn stats(&self) -> ReadStats {
        self.stats.get()
    }

    /// Counts something.
    pub(crate) fn count(&self, change: impl FnOnce(&mut ReadStats)) {
        let mut stats = self.stats.get();
        change(&mut stats);
        self.stats.set(stats);
    }

    /// The block, or who is to read it.
    pub(crate) fn claim(&self, key: BlockKey) -> Claim<'_> {
        if let Some(block) = self.held.borrow_mut().get(key) {
            self.count(|stats| stats.blocks_cached += 1);
            return Claim::Here(block);
        }
        let mut flights = self.flights.borrow_mut();
        if let Some(flight) = flights.get(&key) {
            self.count(|stats| stats.blocks_coalesced += 1);
            return Claim::Others(Wait(Rc::clone(flight)));
        }
        let flight = Rc::new(Flight(RefCell::new(Outcome::Reading(Vec::new()))));
        flights.insert(key, Rc::clone(&flight));
        Claim::Mine(Lead {
            cache: self,
            key,
            flight,
        })
    }
}

impl Lead<'_> {
    /// Hands the block to all who wait for it, and to the cache.
    pub(crate) fn fill(self, block: Bytes) {
        let mut held = self.cache.held.borrow_mut();
        held.insert(self.key, block.clone());
        drop(held);
        self.flight.end(Outcome::Read(block));
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        self.cache.flights.borrow_mut().remove(&self.key);
        self.flight.end(Outcome::GivenUp);
    }
}

impl Flight {
    /// The first end counts.
    fn end(&self, outcome: Outcome) {
        let mut state = self.0.borrow_mut();
        if !matches!(*state, Outcome::Reading(_)) {
            return;
        }
        let before = std::mem::replace(&mut *state, outcome);
        drop(state);
        if let Outcome::Reading(waiting) = before {
            waiting.into_iter().for_each(Waker::wake);
        }
    }
}

impl Future for Wait {
    type Output = Option<Bytes>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        match &mut *self.0.0.borrow_mut() {
            Outcome::Reading(waiting) => {
                if !waiting.iter().any(|known| known.will_wake(context.waker())) {
                    waiting.push(context.waker().clone());
                }
                Poll::Pending
            }
            Outcome::Read(block) => Poll::Ready(Some(block.clone())),
            Outcome::GivenUp => Poll::Ready(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    const KEY: BlockKey = BlockKey::Sealed { file: 1, block: 2 };

    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn poll(wait: &mut Wait, waker: &Arc<Count>) -> Poll<Option<Bytes>> {
        let waker = Waker::from(Arc::clone(waker));
        Pin::new(wait).poll(&mut Context::from_waker(&waker))
    }

    fn mine(cache: &BlockCache) -> Lead<'_> {
        match cache.claim(KEY) {
            Claim::Mine(lead) => lead,
            Claim::Here(_) | Claim::Others(_) => panic!("nobody reads it yet"),
        }
    }

    fn others(cache: &BlockCache) -> Wait {
        match cache.claim(KEY) {
            Claim::Others(wait) => wait,
            Claim::Here(_) | Claim::Mine(_) => panic!("somebody reads it"),
        }
    }

    #[test]
    fn ten_who_ask_at_once_get_one_reading() {
        let cache = BlockCache::new(1 << 20);
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let lead = mine(&cache);
        let mut waits: Vec<Wait> = (0..9).map(|_| others(&cache)).collect();
        for wait in &mut waits {
            assert!(poll(wait, &woken).is_pending());
        }
        waits.truncate(5);
        lead.fill(Bytes::from_static(b"block"));
        assert!(woken.0.load(Ordering::Relaxed) > 0);
        for wait in &mut waits {
            assert_eq!(
                poll(wait, &woken),
                Poll::Ready(Some(Bytes::from_static(b"block")))
            );
        }
        assert!(matches!(cache.claim(KEY), Claim::Here(block) if block == b"block".as_slice()));
    }

    #[test]
    fn a_reading_that_is_given_up_passes_on() {
        let cache = BlockCache::new(1 << 20);
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        let lead = mine(&cache);
        let mut wait = others(&cache);
        assert!(poll(&mut wait, &woken).is_pending());
        drop(lead);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(poll(&mut wait, &woken), Poll::Ready(None));
        mine(&cache).fill(Bytes::from_static(b"second"));
    }

    #[test]
    fn without_a_budget_waiting_still_helps() {
        let cache = BlockCache::new(0);
        let lead = mine(&cache);
        let mut wait = others(&cache);
        lead.fill(Bytes::from_static(b"block"));
        let woken = Arc::new(Count(AtomicUsize::new(0)));
        assert!(poll(&mut wait, &woken).is_ready());
        assert_eq!(cache.bytes(), 0);
        drop(mine(&cache));
    }
}
