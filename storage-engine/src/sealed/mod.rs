//! Sealed segments: the messages of ended days, sorted by channel and seq, compressed in blocks,
//! with an index that is mapped. One file is a bucket: a day, or days that were merged.
//!
//! It never changes a file: a bucket is written once, under another name, and then renamed. It
//! decides neither what is sealed nor when.
//!
//! Invariants: every byte of a file is covered by a checksum, or must be zero; an open file's
//! index has been verified whole; a page of n bytes lies in at most n / 16 KiB, rounded up, + 1
//! blocks, which follow each other in the file.

pub(crate) mod any_bytes;
mod appender;
mod block;
mod dictionary;
mod file;
mod filter;
mod format;
mod index;
mod stream;
mod tally;
mod writer;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod model;

pub(crate) use appender::{Appender, install};
pub(crate) use block::{BlockBuilder, BlockRecords};
pub(crate) use dictionary::{DictionaryPlan, Samples};
pub use file::Sealed;
pub(crate) use format::SEALED_BLOCK_BYTES_MAX;
#[cfg(test)]
pub(crate) use format::{
    SEALED_BLOCK_BYTES, SEALED_MAGIC, SEALED_VERSION, SealedBlock, SealedEntry, SealedFooter,
    SealedGroup, SealedHeader, SealedRecordHeader, SealedRegion,
};
pub(crate) use index::ChannelRun;
pub(crate) use stream::SealedStream;
pub(crate) use writer::{SealedOptions, SealedSummary, SealedWriter};

use crate::segment::Day;

/// What a manifest holds of a sealed segment, so that no other file is taken for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SealedIdentity {
    /// The file's number, unique within a node.
    pub(crate) number: u32,
    /// Its length.
    pub(crate) bytes: u64,
    /// The checksum of its footer, which holds those of all else.
    pub(crate) footer_crc: u32,
}

/// A sealed segment's file name: `2026-11-01_2026-11-30-0000002a.seg`.
pub(crate) fn file_name(number: u32, first_day: Day, last_day: Day) -> String {
    format!("{first_day}_{last_day}-{number:08x}.seg")
}
