//! The receive buffers of one ring: the kernel picks one for each arrival (a provided-buffer
//! ring, Linux 5.19), the generator reads it in place and gives it back.
//!
//! It never grows. When all are taken the kernel says ENOBUFS and the sockets wait for the next
//! turn.
//!
//! Invariants: a buffer belongs either to the kernel or to the generator; the generator holds one
//! only between its completion and [`Buffers::give_back`]; both mappings outlive the ring.

#![expect(
    unsafe_code,
    reason = "memory that is shared with the kernel has no safe interface"
)]

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use memmap2::MmapMut;

/// The only group of buffers of a ring.
pub(crate) const GROUP: u16 = 0;

/// How many receive buffers a ring has, and of which size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BufferSizes {
    /// How many, a power of two.
    pub count: u16,
    /// Bytes of each.
    pub bytes: u32,
}

/// Receive buffers that are shared with the kernel.
pub(crate) struct Buffers {
    entries: MmapMut,
    data: MmapMut,
    sizes: BufferSizes,
    tail: u16,
}

impl Buffers {
    /// Maps and registers the buffers.
    pub(crate) fn register(submitter: &Submitter<'_>, sizes: BufferSizes) -> io::Result<Self> {
        assert!(sizes.count.is_power_of_two() && sizes.count <= 1 << 15);
        let count = usize::from(sizes.count);
        let mut buffers = Self {
            entries: MmapMut::map_anon(count * size_of::<BufRingEntry>())?,
            data: MmapMut::map_anon(count * sizes.bytes as usize)?,
            sizes,
            tail: 0,
        };
        for id in 0..sizes.count {
            buffers.give_back(id);
        }
        buffers.publish();
        let address = buffers.entries.as_mut_ptr() as u64;
        // SAFETY: the mapping is page-aligned, holds `count` entries and lives as long as `self`,
        // which its owner drops only after the ring.
        unsafe { submitter.register_buf_ring_with_flags(address, sizes.count, GROUP, 0) }?;
        Ok(buffers)
    }

    /// The bytes that the kernel put into a buffer.
    pub(crate) fn filled(&self, id: u16, bytes: usize) -> &[u8] {
        assert!(
            id < self.sizes.count && bytes <= self.sizes.bytes as usize,
            "the kernel fills what it got"
        );
        let start = usize::from(id) * self.sizes.bytes as usize;
        &self.data[start..start + bytes]
    }

    /// Whether so many bytes are a whole buffer: then there may be more behind them.
    pub(crate) const fn is_full(&self, bytes: usize) -> bool {
        bytes == self.sizes.bytes as usize
    }

    /// Gives a buffer back; the kernel sees it after [`Buffers::publish`].
    pub(crate) fn give_back(&mut self, id: u16) {
        assert!(id < self.sizes.count);
        let slot = usize::from(self.tail & (self.sizes.count - 1));
        let start = usize::from(id) * self.sizes.bytes as usize;
        let address = self.data[start..].as_mut_ptr();
        // SAFETY: the slot lies within the mapping, which is zeroed at first and aligned to a
        // page; the kernel reads a slot only once the tail is beyond it.
        let entry = unsafe { &mut *self.entries.as_mut_ptr().cast::<BufRingEntry>().add(slot) };
        entry.set_addr(address as u64);
        entry.set_len(self.sizes.bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes the buffers that were given back visible to the kernel.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the pointer is that of the first entry of the mapping.
        let tail = unsafe { BufRingEntry::tail(self.entries.as_ptr().cast()) };
        // SAFETY: the tail is a `u16` in the mapping that only this thread writes.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
    }
}
