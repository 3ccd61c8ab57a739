//! The receive buffers of one ring: the kernel picks one for each arrival (a provided-buffer
//! ring, Linux 5.19), the shard reads it in place and gives it back.
//!
//! It never grows. When all are taken the kernel says ENOBUFS and the sockets wait for the next
//! round.
//!
//! Invariants: a buffer belongs either to the kernel or to the shard; the shard holds one only
//! between its completion and [`Buffers::give_back`]; both mappings outlive the ring.

#![expect(
    unsafe_code,
    reason = "memory that is shared with the kernel has no safe interface"
)]

use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use memmap2::{Advice, MmapMut};

use super::error::EdgeError;

/// The only group of buffers of a ring.
pub(super) const GROUP: u16 = 0;
/// What lies between two buffers: a cache line. Most arrivals are short, and at distances of a power
/// of two the first lines of all buffers would share a few sets of the caches.
const GAP_BYTES: usize = 64;

/// Receive buffers that are shared with the kernel.
pub(super) struct Buffers {
    entries: MmapMut,
    data: MmapMut,
    count: u16,
    bytes: u32,
    tail: u16,
    published: u16,
}

impl Buffers {
    /// Maps and registers `count` (a power of two) buffers of so many bytes.
    pub(super) fn register(
        submitter: &Submitter<'_>,
        count: u16,
        bytes: u32,
    ) -> Result<Self, EdgeError> {
        assert!(count.is_power_of_two());
        let mut buffers = Self {
            entries: map_all(usize::from(count) * size_of::<BufRingEntry>())?,
            data: map_all(usize::from(count) * (bytes as usize + GAP_BYTES))?,
            count,
            bytes,
            tail: 0,
            published: 0,
        };
        for id in 0..count {
            buffers.give_back(id);
        }
        buffers.publish();
        let address = buffers.entries.as_mut_ptr() as u64;
        // SAFETY: the mapping is page-aligned, holds `count` entries and lives as long as `self`,
        // which its owner drops only after the ring.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0) }
            .map_err(EdgeError::kernel("registering the receive buffers"))?;
        Ok(buffers)
    }

    /// Where a buffer begins.
    fn start(&self, id: u16) -> usize {
        usize::from(id) * (self.bytes as usize + GAP_BYTES)
    }

    /// The bytes that the kernel put into a buffer.
    pub(super) fn filled(&mut self, id: u16, bytes: usize) -> &mut [u8] {
        assert!(
            id < self.count && bytes <= self.bytes as usize,
            "the kernel fills what it got"
        );
        let start = self.start(id);
        // SAFETY: the range lies within the mapping by the assertion, and the kernel does not
        // touch a buffer between its completion and `give_back`. `&mut self` keeps it unique.
        unsafe { std::slice::from_raw_parts_mut(self.data.as_mut_ptr().add(start), bytes) }
    }

    /// Gives a buffer back; the kernel sees it after [`Buffers::publish`].
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count);
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: the offset lies within the mapping by the assertion.
        let address = unsafe { self.data.as_mut_ptr().add(self.start(id)) };
        // SAFETY: the slot lies within the mapping, which is zeroed at first and aligned to a
        // page; the kernel reads a slot only once the tail is beyond it.
        let entry = unsafe { &mut *self.entries.as_mut_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(address as u64);
        entry.set_len(self.bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes the buffers that were given back visible to the kernel.
    pub(super) fn publish(&mut self) {
        if self.published == self.tail {
            return;
        }
        self.published = self.tail;
        // SAFETY: the pointer is that of the first entry of the mapping.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr().cast()) };
        // SAFETY: the tail is a `u16` in the mapping that only this thread writes.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }

    /// Keeps the memory for ever: the kernel may still write to it.
    pub(super) fn leak(&mut self) {
        if let Ok(other) = MmapMut::map_anon(1) {
            std::mem::forget(std::mem::replace(&mut self.data, other));
        }
        (self.count, self.bytes) = (0, 0);
    }
}

/// Maps memory and takes all of it at once: all of it is used in turn before long, and is not to be
/// mistaken later for what connections cost. The first ring's is large enough for huge pages, which
/// spare most arrivals a look for their page.
fn map_all(len: usize) -> Result<MmapMut, EdgeError> {
    let map = || {
        let mapped = MmapMut::map_anon(len)?;
        // A kernel without huge pages refuses; small ones do.
        let _ = mapped.advise(Advice::HugePage);
        mapped.advise(Advice::PopulateWrite)?;
        Ok(mapped)
    };
    map().map_err(EdgeError::kernel("mapping the receive buffers"))
}
