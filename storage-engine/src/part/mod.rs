//! Sorted parts: the records of a few segments in the order of a bucket, as they are, written once
//! and read once while a day is sealed.
//!
//! They are scratch, never part of the store: nothing is synced, nothing looked up, and nothing
//! reads one after a restart. Nothing is folded here.
//!
//! Invariants: every byte of a part is covered by a checksum, or must be zero; memory is one block
//! and one piece of the file, whose size the reader chooses.

mod format;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub(crate) use reader::PartStream;
pub(crate) use writer::PartWriter;

/// A part that was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Part {
    pub(crate) path: PathBuf,
    /// The file's length.
    pub(crate) bytes: u64,
    /// Length of its blocks, uncompressed.
    pub(crate) raw_bytes: u64,
}
