//! What can go wrong in the store, with enough context to find the place on disk.
//!
//! Nothing is logged here and nothing retried.
//!
//! Invariants: a full disk while the next segment is being allocated is the only failure of a
//! commit that a caller may survive; every other one is [`CommitError::Poisoned`].

use std::io;
use std::path::PathBuf;

use crate::key::{ChannelKey, SegmentId};

/// What was asked of a disk when it failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskOp {
    /// Creating a directory.
    CreateDir,
    /// Syncing a directory.
    SyncDir,
    /// Listing a directory.
    List,
    /// Creating a file.
    Create,
    /// Opening a file.
    Open,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Bringing part of a file into memory.
    Map,
    /// Reserving space for a file.
    Allocate,
    /// Writing.
    Write,
    /// Reading.
    Read,
    /// Syncing a file.
    Sync,
    /// Cutting a file short.
    Truncate,
    /// Asking for a file's length.
    Length,
    /// Closing a file.
    Close,
    /// Locking the data directory.
    Lock,
}

/// A disk refused or failed an operation.
#[derive(Debug, thiserror::Error)]
#[error("{op:?} of {} failed: {source}", path.display())]
pub struct DiskError {
    /// What was asked.
    pub op: DiskOp,
    /// Of which file or directory.
    pub path: PathBuf,
    /// What the system answered.
    pub source: io::Error,
}

impl DiskError {
    /// Whether there was no space left (also by quota).
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.raw_os_error(),
            Some(libc::ENOSPC | libc::EDQUOT)
        )
    }
}

/// What is wrong with bytes that should be valid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Damage {
    /// No frame where one must be, although a later one proves that it was acknowledged.
    #[error("frame {lost} is damaged, yet frame {later} follows at offset {later_offset}")]
    FrameLost {
        /// Number of the damaged frame within its segment.
        lost: u64,
        /// Number of the later valid frame.
        later: u64,
        /// Where that one begins.
        later_offset: u32,
    },
    /// No frame where one must be, although the segment's recorded end lies behind it.
    #[error("frame {lost} is damaged, yet the segment is recorded as valid up to {recorded_end}")]
    BeforeRecordedEnd {
        /// Number of the damaged frame within its segment.
        lost: u64,
        /// The recorded end, in bytes.
        recorded_end: u32,
    },
    /// The records inside a valid frame do not add up.
    #[error("a frame's records do not fill it exactly")]
    FrameContent,
    /// A record's checksum, length or kind is wrong.
    #[error("a record is damaged")]
    Record,
    /// A valid record of another channel, or out of order: something was written elsewhere.
    #[error("a record lies where another one was expected")]
    RecordMisplaced,
    /// The file ends before the place that was asked for.
    #[error("the file ends too early")]
    TooShort,
    /// Two files bear the same segment number.
    #[error("two files bear the same segment number")]
    TwiceTheSameSegment,
    /// A catalog's checksum or length is wrong.
    #[error("the catalog is damaged")]
    Catalog,
}

/// Why a store cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Another process has the data directory.
    #[error("{} is locked: another process uses this data directory", path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// Stored bytes are not what was written.
    #[error("{} at offset {offset}: {damage}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u32,
        /// What is wrong.
        damage: Damage,
    },
    /// A file was written by a newer version.
    #[error("{} has format version {version}, which this version cannot read", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The format version, or the record kind, found in it.
        version: u16,
    },
    /// A segment that others refer to is gone.
    #[error("segment {segment} is missing, although {} refers to it", referrer.display())]
    SegmentMissing {
        /// The missing one.
        segment: SegmentId,
        /// The file that refers to it.
        referrer: PathBuf,
    },
    /// A location names a segment that this reader has never heard of.
    #[error("segment {0} is unknown")]
    SegmentUnknown(SegmentId),
    /// A channel's records do not follow each other.
    #[error(
        "channel {channel}: expected number {expected}, found {found} in {} at {offset}",
        path.display()
    )]
    SeqBreak {
        /// The channel.
        channel: ChannelKey,
        /// The seq, or the rev, that should follow.
        expected: u64,
        /// The one that was found.
        found: u64,
        /// The file.
        path: PathBuf,
        /// Where the record begins, in bytes.
        offset: u32,
    },
    /// A channel ends before the place that the catalog remembers.
    #[error("channel {channel}: {recovered} messages recovered, but {recorded} were recorded")]
    BelowCatalog {
        /// The channel.
        channel: ChannelKey,
        /// Last seq found.
        recovered: u64,
        /// Last seq recorded.
        recorded: u64,
    },
    /// An earlier commit failed or was abandoned half-way.
    #[error("the log failed before and takes no more commits")]
    Poisoned,
    /// All segment numbers are used up.
    #[error("all segment numbers are used up")]
    SegmentsExhausted,
}

impl StoreError {
    /// Whether the disk has no space left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Disk(error) if error.is_full())
    }
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// No space for the next segment. Nothing was written; a later commit may succeed.
    #[error("no space for the next segment: {0}")]
    Full(StoreError),
    /// The log's state on disk is unknown. The process must end; recovery decides.
    #[error("the log failed: {0}")]
    Poisoned(StoreError),
}
