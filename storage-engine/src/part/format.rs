//! The bytes of a part: blocks one behind the other, and an end that counts them.
//!
//! Nothing here reads or writes a file, and no structure is versioned: the process that wrote a
//! part is the one that reads it.
//!
//! Invariants: all numbers are little-endian; nothing is aligned; nothing but a length below its
//! limit is believed before the checksum held.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::merge::Links;
use crate::segment::Day;

/// First bytes of a block.
const BLOCK_MAGIC: [u8; 4] = *b"THRP";
/// First bytes of the end.
const END_MAGIC: [u8; 4] = *b"THRE";
/// A block is closed by the record that brings it to this many bytes, uncompressed.
pub(super) const PART_BLOCK_BYTES: usize = 32 << 10;
/// No block is longer, uncompressed: a record is at most half of it.
pub(super) const PART_BLOCK_BYTES_MAX: usize = 4 << 20;
/// A block's checksum covers its header from here on, and its compressed bytes.
const CRC_FROM: usize = 8;

/// What a block begins with. Its compressed bytes follow: first [`PartLinks`] for each channel that
/// begins in it, then records as in a sealed block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct PartBlock {
    magic: [u8; 4],
    crc: U32,
    pub(super) bytes: U32,
    pub(super) raw_bytes: U32,
    pub(super) records: U32,
    pub(super) links: U32,
}

/// Where a channel goes on in older buckets.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct PartLinks {
    prev: U32,
    prev_changes: U32,
}

/// What follows the last block, with zeroes up to a whole block of the disk.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(super) struct PartEnd {
    magic: [u8; 4],
    crc: U32,
    blocks: U64,
    records: U64,
    links: U64,
}

/// What all blocks of a part come to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Totals {
    pub(super) blocks: u64,
    pub(super) records: u64,
    pub(super) links: u64,
}

impl Totals {
    pub(super) fn note(&mut self, block: &PartBlock) {
        self.blocks += 1;
        self.records += u64::from(block.records.get());
        self.links += u64::from(block.links.get());
    }
}

impl PartBlock {
    /// The header of these compressed bytes.
    pub(super) fn new(compressed: &[u8], raw_bytes: u32, records: u32, links: u32) -> Self {
        let bytes = u32::try_from(compressed.len()).expect("a block is a few MiB at most");
        let mut block = Self {
            magic: BLOCK_MAGIC,
            crc: 0.into(),
            bytes: bytes.into(),
            raw_bytes: raw_bytes.into(),
            records: records.into(),
            links: links.into(),
        };
        block.crc = block.crc_with(compressed).into();
        block
    }

    fn crc_with(&self, compressed: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.as_bytes()[CRC_FROM..]), compressed)
    }

    /// Whether the header and the bytes behind it are those that were written.
    pub(super) fn is_sound(&self, compressed: &[u8]) -> bool {
        self.crc.get() == self.crc_with(compressed)
    }
}

impl PartEnd {
    pub(super) fn new(totals: Totals) -> Self {
        let mut end = Self {
            magic: END_MAGIC,
            crc: 0.into(),
            blocks: totals.blocks.into(),
            records: totals.records.into(),
            links: totals.links.into(),
        };
        end.crc = crc32c::crc32c(&end.as_bytes()[CRC_FROM..]).into();
        end
    }

    /// Whether it is sound, and of these totals.
    pub(super) fn is_of(&self, totals: Totals) -> bool {
        self.as_bytes() == Self::new(totals).as_bytes()
    }
}

impl From<Links> for PartLinks {
    fn from(links: Links) -> Self {
        Self {
            prev: links.prev.0.into(),
            prev_changes: links.prev_changes.0.into(),
        }
    }
}

impl From<PartLinks> for Links {
    fn from(links: PartLinks) -> Self {
        Self {
            prev: Day(links.prev.get()),
            prev_changes: Day(links.prev_changes.get()),
        }
    }
}

/// What lies at a place of a part, by its first bytes.
pub(super) enum Next {
    Block(PartBlock),
    End(PartEnd),
}

impl Next {
    /// Reads it; `None` if it is neither.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        match *bytes.first_chunk::<4>()? {
            BLOCK_MAGIC => {
                let (block, _) = PartBlock::read_from_prefix(bytes).ok()?;
                let raw_bytes = block.raw_bytes.get() as usize;
                let is_sane = raw_bytes <= PART_BLOCK_BYTES_MAX
                    && block.bytes.get() as usize <= zstd::zstd_safe::compress_bound(raw_bytes);
                is_sane.then_some(Self::Block(block))
            }
            END_MAGIC => Some(Self::End(PartEnd::read_from_prefix(bytes).ok()?.0)),
            _ => None,
        }
    }
}
