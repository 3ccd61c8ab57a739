//! The bytes of a segment's index file. `FORMAT.md` is the specification, and a test compares its
//! tables with the structures here.
//!
//! Nothing here reads or writes a file.
//!
//! Invariants: all numbers are little-endian; every block ends with a checksum that also covers
//! which block of which segment it is, so that a block in a wrong place is no block.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::BLOCK_BYTES;
use crate::hot::{ChangeEntry, Entry, Run, SegmentOrigin};
use crate::key::{ChannelKey, MessageKey, SegmentId};
use crate::place::Place;
use crate::segment::Day;

/// First bytes of an index file.
pub(crate) const INDEX_MAGIC: [u8; 4] = *b"THRI";
/// Version of the index files' format.
pub(crate) const INDEX_VERSION: u16 = 1;
/// Length of [`IndexHeader`].
pub(crate) const INDEX_HEADER_BYTES: usize = 64;
/// What a block holds before its checksum, in bytes.
const PAYLOAD_BYTES: usize = BLOCK_BYTES as usize - 4;

/// What an index file begins with; the rest of the block is zeroes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct IndexHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) shard: U16,
    pub(crate) segment: U32,
    pub(crate) day: U32,
    pub(crate) salt: U64,
    pub(crate) created_ms: U64,
    pub(crate) newest_ms: U64,
    pub(crate) end: U32,
    pub(crate) runs: U32,
    pub(crate) entries: U32,
    pub(crate) changes: U32,
    pub(crate) fences_crc: U32,
    pub(crate) header_crc: U32,
}

/// A channel's part of the segment.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct IndexRun {
    pub(crate) channel: [u8; 16],
    pub(crate) last_message: [u8; 16],
    pub(crate) first_seq: U64,
    pub(crate) last_rev: U64,
    pub(crate) changes_min_seq: U64,
    pub(crate) prev_segment: U32,
    pub(crate) prev_day: U32,
    pub(crate) prev_changes_segment: U32,
    pub(crate) prev_changes_day: U32,
    pub(crate) first_entry: U32,
    pub(crate) count: U32,
    pub(crate) first_change: U32,
    pub(crate) changes: U32,
}

/// A message.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct IndexEntry {
    pub(crate) offset: U32,
    pub(crate) bytes: U32,
    pub(crate) time_ms: U32,
}

/// A change.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct IndexChange {
    pub(crate) seq: U64,
    pub(crate) rev: U64,
    pub(crate) offset: U32,
    pub(crate) bytes: U32,
}

/// What fills blocks.
pub(crate) trait Item:
    FromBytes + IntoBytes + Immutable + KnownLayout + Unaligned + Copy
{
    /// How many fit into a block.
    const PER_BLOCK: u32;
}

macro_rules! items {
    ($($item:ty: $per_block:literal),+) => {$(
        impl Item for $item {
            const PER_BLOCK: u32 = $per_block;
        }
        const _: () = assert!($per_block == PAYLOAD_BYTES / size_of::<$item>());
    )+};
}

items!(IndexRun: 46, IndexEntry: 341, IndexChange: 170);

impl IndexHeader {
    /// The header of a segment's index, its checksums aside.
    pub(crate) fn of(origin: &SegmentOrigin, newest_ms: u64, end: u32) -> Self {
        Self {
            magic: INDEX_MAGIC,
            version: INDEX_VERSION.into(),
            shard: origin.shard.into(),
            segment: origin.segment.0.into(),
            day: origin.day.0.into(),
            salt: origin.salt.into(),
            created_ms: origin.created_ms.into(),
            newest_ms: newest_ms.into(),
            end: end.into(),
            runs: 0.into(),
            entries: 0.into(),
            changes: 0.into(),
            fences_crc: 0.into(),
            header_crc: 0.into(),
        }
    }

    pub(crate) fn origin(&self) -> SegmentOrigin {
        SegmentOrigin {
            segment: SegmentId(self.segment.get()),
            day: Day(self.day.get()),
            shard: self.shard.get(),
            salt: self.salt.get(),
            created_ms: self.created_ms.get(),
        }
    }

    /// The checksum that belongs into the header.
    pub(crate) fn crc(&self) -> u32 {
        crc32c::crc32c(&self.as_bytes()[..INDEX_HEADER_BYTES - 4])
    }

    /// Where the regions lie.
    pub(crate) fn layout(&self) -> Layout {
        Layout {
            runs: blocks::<IndexRun>(self.runs.get()),
            entries: blocks::<IndexEntry>(self.entries.get()),
            changes: blocks::<IndexChange>(self.changes.get()),
        }
    }
}

fn blocks<T: Item>(items: u32) -> u32 {
    items.div_ceil(T::PER_BLOCK)
}

/// How many blocks each region has. The regions follow the header in this order; the fences come
/// last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Layout {
    pub(crate) runs: u32,
    pub(crate) entries: u32,
    pub(crate) changes: u32,
}

impl Layout {
    pub(crate) fn first_entry_block(&self) -> u32 {
        1 + self.runs
    }

    pub(crate) fn first_change_block(&self) -> u32 {
        self.first_entry_block() + self.entries
    }

    pub(crate) fn fences_offset(&self) -> u64 {
        u64::from(self.first_change_block() + self.changes) * u64::from(BLOCK_BYTES)
    }

    pub(crate) fn fences_bytes(&self) -> u64 {
        u64::from(self.runs) * 16 + u64::from(self.entries) * 4 + u64::from(self.changes) * 8
    }
}

/// The checksum of a block that lies at this place of the index of this segment.
fn block_crc(segment: SegmentId, number: u32, payload: &[u8]) -> u32 {
    let place = crc32c::crc32c_append(
        crc32c::crc32c(&segment.0.to_le_bytes()),
        &number.to_le_bytes(),
    );
    crc32c::crc32c_append(place, payload)
}

/// Lays items out as one block.
pub(crate) fn encode_block<T: Item>(segment: SegmentId, number: u32, items: &[T]) -> Vec<u8> {
    assert!(
        items.len() <= T::PER_BLOCK as usize,
        "a block's items fit into it"
    );
    let mut block = vec![0; BLOCK_BYTES as usize];
    block[..size_of_val(items)].copy_from_slice(items.as_bytes());
    let crc = block_crc(segment, number, &block[..PAYLOAD_BYTES]);
    block[PAYLOAD_BYTES..].copy_from_slice(&crc.to_le_bytes());
    block
}

/// Whether a block is undamaged, and the one with this number.
pub(crate) fn is_sound(segment: SegmentId, number: u32, block: &[u8]) -> bool {
    block
        .split_at_checked(PAYLOAD_BYTES)
        .is_some_and(|(payload, crc)| crc == block_crc(segment, number, payload).to_le_bytes())
}

/// The first `count` items of a block; `None` if it is damaged or another one.
pub(crate) fn decode_block<T: Item>(
    segment: SegmentId,
    number: u32,
    block: &[u8],
    count: u32,
) -> Option<&[T]> {
    if !is_sound(segment, number, block) {
        return None;
    }
    let (items, _) =
        <[T]>::ref_from_prefix_with_elems(&block[..PAYLOAD_BYTES], count as usize).ok()?;
    Some(items)
}

impl IndexRun {
    pub(crate) fn of(channel: ChannelKey, run: &Run, first_entry: u32, first_change: u32) -> Self {
        Self {
            channel: channel.0,
            last_message: run.last_message.0,
            first_seq: run.first_seq.into(),
            last_rev: run.last_rev.into(),
            changes_min_seq: run.changes_min_seq.into(),
            prev_segment: run.prev.segment.0.into(),
            prev_day: run.prev.day.0.into(),
            prev_changes_segment: run.prev_changes.segment.0.into(),
            prev_changes_day: run.prev_changes.day.0.into(),
            first_entry: first_entry.into(),
            count: run.count.into(),
            first_change: first_change.into(),
            changes: run.changes.into(),
        }
    }

    pub(crate) fn run(&self) -> Run {
        let place = |segment: U32, day: U32| Place {
            segment: SegmentId(segment.get()),
            day: Day(day.get()),
        };
        Run {
            first_seq: self.first_seq.get(),
            count: self.count.get(),
            changes: self.changes.get(),
            changes_min_seq: self.changes_min_seq.get(),
            last_rev: self.last_rev.get(),
            last_message: MessageKey(self.last_message),
            prev: place(self.prev_segment, self.prev_day),
            prev_changes: place(self.prev_changes_segment, self.prev_changes_day),
        }
    }
}

impl From<&Entry> for IndexEntry {
    fn from(entry: &Entry) -> Self {
        Self {
            offset: entry.offset.into(),
            bytes: entry.bytes.into(),
            time_ms: entry.time_ms.into(),
        }
    }
}

impl From<&IndexEntry> for Entry {
    fn from(entry: &IndexEntry) -> Self {
        Self {
            offset: entry.offset.get(),
            bytes: entry.bytes.get(),
            time_ms: entry.time_ms.get(),
        }
    }
}

impl From<&ChangeEntry> for IndexChange {
    fn from(change: &ChangeEntry) -> Self {
        Self {
            seq: change.seq.into(),
            rev: change.rev.into(),
            offset: change.offset.into(),
            bytes: change.bytes.into(),
        }
    }
}

impl From<&IndexChange> for ChangeEntry {
    fn from(change: &IndexChange) -> Self {
        Self {
            seq: change.seq.get(),
            rev: change.rev.get(),
            offset: change.offset.get(),
            bytes: change.bytes.get(),
        }
    }
}
