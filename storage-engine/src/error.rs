//! What can go wrong in the store, with enough context to find the place on disk.
//!
//! Nothing is logged here and nothing retried.
//!
//! Invariants: a full disk while the next segment is being allocated is the only failure of a
//! commit that a caller may survive; every other one is [`CommitError::Poisoned`].

use std::io;
use std::path::PathBuf;

use crate::consumer::ConsumerName;
use crate::key::{ChannelKey, SegmentId};
use crate::segment::Day;

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

    /// Whether what was asked for does not exist.
    #[must_use]
    pub fn is_missing(&self) -> bool {
        self.source.raw_os_error() == Some(libc::ENOENT)
    }

    /// Whether what was to be created exists already.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EEXIST)
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
    /// A consumer's position, or the note of what it lost, is damaged.
    #[error("a consumer's position is damaged")]
    Position,
    /// A dead letter, or the row of them, is damaged.
    #[error("a dead letter is damaged")]
    DeadLetter,
    /// An index file is valid, but says something else than its segment.
    #[error("the segment's index is not that of its records")]
    IndexContent,
    /// An index file is valid, but its segment is recorded to end elsewhere.
    #[error("the index is valid up to {indexed_end}, yet {recorded_end} is recorded")]
    EndsDiffer {
        /// The end by the index file, in bytes.
        indexed_end: u32,
        /// The recorded end, in bytes.
        recorded_end: u32,
    },
    /// A channel's older records do not lie where its newer ones say.
    #[error("the link to a channel's older records leads elsewhere")]
    Link,
    /// A catalog's checksum or length is wrong.
    #[error("the catalog is damaged")]
    Catalog,
    /// The manifest's checksum, length or order is wrong.
    #[error("the manifest is damaged")]
    Manifest,
    /// The first or the last block of a sealed segment is not valid.
    #[error("the header or footer of a sealed segment is damaged")]
    SealedEnds,
    /// The index of a sealed segment is not valid.
    #[error("the index of a sealed segment is damaged")]
    SealedIndex,
    /// A block of a sealed segment is not valid.
    #[error("a block of a sealed segment is damaged")]
    SealedBlock,
    /// Valid blocks and a valid index that contradict each other.
    #[error("a sealed segment's records are not those of its index")]
    SealedRecords,
    /// A valid sealed segment, but not the one that is referred to.
    #[error("this is not the sealed segment that was expected here")]
    SealedOther,
    /// A sorted part is not what was written, in the same run of the process.
    #[error("a sorted part is damaged")]
    Part,
    /// An index file's checksum or content is wrong.
    #[error("the segment's index is damaged; removed by hand, it is made anew at the next start")]
    Index,
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
    /// A sealed segment's bytes are not what was written.
    #[error("{} at offset {offset}: {damage}", path.display())]
    SealedCorrupt {
        /// The file.
        path: PathBuf,
        /// Where, in bytes.
        offset: u64,
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
    /// A channel's older messages are not where its newer ones say.
    #[error("channel {channel}: nothing of it in segment {segment} of {day}, or in that day")]
    HistoryMissing {
        /// The channel.
        channel: ChannelKey,
        /// The segment; 0 if it should be sealed.
        segment: SegmentId,
        /// The day.
        day: Day,
    },
    /// A channel's older messages do not end where its newer ones begin.
    #[error("channel {channel}: history should go on below message {expected}, not {found}")]
    HistoryBreak {
        /// The channel.
        channel: ChannelKey,
        /// The first seq of the newer part.
        expected: u64,
        /// The seq behind the last one of the older part.
        found: u64,
    },
    /// Days are sealed, but no catalog says which channels they hold.
    #[error("{} does not say what sealed days hold: it must be made anew from them", path.display())]
    CatalogMissing {
        /// The catalog.
        path: PathBuf,
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
    /// A consumer did not read a segment in time, and it was removed.
    #[error("consumer {name} is too far behind: segments up to {segment} were removed unread")]
    ConsumerTooFarBehind {
        /// The consumer.
        name: ConsumerName,
        /// The newest segment that it lost.
        segment: SegmentId,
    },
    /// A consumer's position speaks of segments that this store has never had.
    #[error("the position in {} is ahead of the log: it is of another store", path.display())]
    PositionAhead {
        /// The position file.
        path: PathBuf,
    },
    /// A consumer of this name is open already.
    #[error("consumer {name} is open already")]
    ConsumerOpen {
        /// The consumer.
        name: ConsumerName,
    },
    /// There are as many consumers as there may be.
    #[error("there are {count} consumers already")]
    ConsumersFull {
        /// How many there are.
        count: usize,
    },
    /// A consumer has as many dead letters as it may have.
    #[error("consumer {name} has no room for more dead letters: {count} take {bytes} bytes")]
    DeadLettersFull {
        /// The consumer.
        name: ConsumerName,
        /// How many there are.
        count: usize,
        /// Bytes that they take.
        bytes: u64,
    },
    /// What should be merged does not fit together: a message is missing, or there twice.
    #[error("channel {channel}: expected message {expected} to be merged, found {found}")]
    MergeBreak {
        /// The channel.
        channel: ChannelKey,
        /// The seq that should follow.
        expected: u64,
        /// The one that was found.
        found: u64,
    },
    /// As many erasures are waiting as may.
    #[error("{max} erasures are waiting already")]
    ErasuresFull {
        /// How many may wait.
        max: usize,
    },
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
