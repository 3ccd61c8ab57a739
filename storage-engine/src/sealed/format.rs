//! The bytes of a sealed segment: its first and last block, and the tables of its index.
//! `FORMAT.md` is the specification, and a test compares its tables with the structures here.
//!
//! Nothing here reads or writes a file.
//!
//! Invariants: all numbers are little-endian; nothing is aligned, so that tables can be read in
//! place wherever they are mapped; a structure is believed only after its checksum held.

use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::BLOCK_BYTES;
use crate::segment::Day;

/// First bytes of a sealed segment, and of its last block.
pub(crate) const SEALED_MAGIC: [u8; 4] = *b"THRS";
/// Version of the sealed format.
pub(crate) const SEALED_VERSION: u16 = 1;
/// A block is closed by the record that brings it to this many bytes, uncompressed.
pub(crate) const SEALED_BLOCK_BYTES: u32 = 16 << 10;
/// No block is longer, uncompressed.
pub(crate) const SEALED_BLOCK_BYTES_MAX: u32 = 4 << 20;

/// The first block of the file.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SealedHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) reserved: [u8; 2],
    pub(crate) number: U32,
    pub(crate) first_day: U32,
    pub(crate) last_day: U32,
    pub(crate) padding: [u8; 4072],
    pub(crate) crc: U32,
}

/// Where a region of the index lies.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SealedRegion {
    pub(crate) offset: U64,
    pub(crate) bytes: U64,
    pub(crate) crc: U32,
    pub(crate) reserved: [u8; 4],
}

/// The last block of the file.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SealedFooter {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) reserved: [u8; 2],
    pub(crate) number: U32,
    pub(crate) first_day: U32,
    pub(crate) last_day: U32,
    pub(crate) blocks_end: U64,
    pub(crate) dictionary: SealedRegion,
    pub(crate) filter: SealedRegion,
    pub(crate) directory: SealedRegion,
    pub(crate) blocks: SealedRegion,
    pub(crate) meta: SealedRegion,
    pub(crate) padding: [u8; 3944],
    pub(crate) crc: U32,
}

/// One channel of the directory.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SealedEntry {
    pub(crate) channel: [u8; 16],
    pub(crate) first_seq: U64,
    pub(crate) last_rev: U64,
    pub(crate) changes_min_seq: U64,
    pub(crate) bytes: U64,
    pub(crate) count: U32,
    pub(crate) prev_day: U32,
    pub(crate) prev_changes_day: U32,
    pub(crate) first_block: U32,
}

/// One block of the block index.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SealedBlock {
    pub(crate) offset: U64,
    pub(crate) first_seq: U64,
    pub(crate) first_ms: U64,
    pub(crate) bytes: U32,
    pub(crate) raw_bytes: U32,
    pub(crate) crc: U32,
    pub(crate) first_entry: U32,
    pub(crate) continues: U32,
}

/// Inside a block: what a channel's records, which follow, begin with.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SealedGroup {
    pub(crate) bytes: U32,
    pub(crate) channel: [u8; 16],
    pub(crate) seq: U64,
    pub(crate) rev: U64,
}

/// Inside a group: what a record begins with. Its target follows if it has one, then its body.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct SealedRecordHeader {
    pub(crate) bytes: U32,
    pub(crate) schema: U16,
    pub(crate) kind: u8,
    pub(crate) has_target: u8,
    pub(crate) seq_step: U32,
    pub(crate) rev_step: I32,
    pub(crate) author: [u8; 16],
    pub(crate) message: [u8; 16],
}

/// Sums over a whole file, in rkyv: frozen with [`SEALED_VERSION`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(crate) struct SealedMeta {
    /// Messages: records that create one.
    pub(crate) messages: u64,
    /// Channels with at least one record.
    pub(crate) channels: u64,
    /// Records of all kinds.
    pub(crate) records: u64,
    /// Length of all blocks, uncompressed.
    pub(crate) raw_bytes: u64,
    /// The first day that the file covers.
    pub(crate) first_day: u32,
    /// The last day that it covers.
    pub(crate) last_day: u32,
    /// Time of the oldest record, in milliseconds since 1970; 0 if there is none.
    pub(crate) oldest_ms: u64,
    /// Time of the newest record, in milliseconds since 1970; 0 if there is none.
    pub(crate) newest_ms: u64,
}

impl SealedMeta {
    /// The sums over no record.
    pub(super) fn of_nothing(first_day: Day, last_day: Day) -> Self {
        Self {
            messages: 0,
            channels: 0,
            records: 0,
            raw_bytes: 0,
            first_day: first_day.0,
            last_day: last_day.0,
            oldest_ms: 0,
            newest_ms: 0,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let bytes = rkyv::to_bytes::<rkyv::rancor::Error>(self).expect("numbers can be archived");
        bytes.to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut aligned = rkyv::util::AlignedVec::<16>::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        rkyv::from_bytes::<Self, rkyv::rancor::Error>(&aligned).ok()
    }
}

/// What both ends of a file say of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ends {
    pub(super) number: u32,
    pub(super) first_day: u32,
    pub(super) last_day: u32,
}

impl SealedHeader {
    pub(super) fn new(ends: Ends) -> Self {
        let mut header = Self {
            magic: SEALED_MAGIC,
            version: SEALED_VERSION.into(),
            reserved: [0; 2],
            number: ends.number.into(),
            first_day: ends.first_day.into(),
            last_day: ends.last_day.into(),
            padding: [0; 4072],
            crc: 0.into(),
        };
        header.crc = block_crc(header.as_bytes()).into();
        header
    }

    /// Reads a file's first block, if it is sound.
    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        let header = Self::read_from_bytes(block).ok()?;
        (header.magic == SEALED_MAGIC && header.crc.get() == block_crc(block)).then_some(header)
    }

    pub(super) fn ends(&self) -> Ends {
        Ends {
            number: self.number.get(),
            first_day: self.first_day.get(),
            last_day: self.last_day.get(),
        }
    }
}

impl SealedFooter {
    pub(super) fn new(ends: Ends, blocks_end: u64, regions: [SealedRegion; 5]) -> Self {
        let [dictionary, filter, directory, blocks, meta] = regions;
        let mut footer = Self {
            magic: SEALED_MAGIC,
            version: SEALED_VERSION.into(),
            reserved: [0; 2],
            number: ends.number.into(),
            first_day: ends.first_day.into(),
            last_day: ends.last_day.into(),
            blocks_end: blocks_end.into(),
            dictionary,
            filter,
            directory,
            blocks,
            meta,
            padding: [0; 3944],
            crc: 0.into(),
        };
        footer.crc = block_crc(footer.as_bytes()).into();
        footer
    }

    /// Reads a file's last block, if it is sound.
    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        let footer = Self::read_from_bytes(block).ok()?;
        (footer.magic == SEALED_MAGIC && footer.crc.get() == block_crc(block)).then_some(footer)
    }

    pub(super) fn ends(&self) -> Ends {
        Ends {
            number: self.number.get(),
            first_day: self.first_day.get(),
            last_day: self.last_day.get(),
        }
    }

    /// The regions, in the order in which they lie in the file.
    pub(super) fn regions(&self) -> [SealedRegion; 5] {
        [
            self.dictionary,
            self.filter,
            self.directory,
            self.blocks,
            self.meta,
        ]
    }
}

/// The checksum in the last four bytes of a block covers all before them.
fn block_crc(block: &[u8]) -> u32 {
    crc32c::crc32c(&block[..BLOCK_BYTES as usize - 4])
}

const _: () = assert!(size_of::<SealedHeader>() == BLOCK_BYTES as usize);
const _: () = assert!(size_of::<SealedFooter>() == BLOCK_BYTES as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_reads_back_and_damage_is_no_panic() {
        let meta = SealedMeta {
            messages: 1,
            channels: 2,
            records: 3,
            raw_bytes: 4,
            first_day: 5,
            last_day: 6,
            oldest_ms: 7,
            newest_ms: 8,
        };
        let bytes = meta.encode();
        assert_eq!(SealedMeta::decode(&bytes), Some(meta));
        for length in 0..bytes.len() {
            assert_eq!(SealedMeta::decode(&bytes[..length]), None);
        }
    }
}
