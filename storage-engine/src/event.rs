//! What maintenance and the shards tell each other.
//!
//! Nothing is done here.
//!
//! Invariants: a file that an [`Installed`] replaces stays until its ticket was given back.

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use crate::key::SegmentId;
use crate::sealed::Sealed;
use crate::segment::Day;
use crate::view::{self, Bucket, View};

/// What a shard has to do, in the order of events. `M` is the memory that indexes are in.
#[derive(Debug)]
pub enum Event<M> {
    /// To end its log's segments of this day and older ones, to begin none of them any more, to
    /// hand them to [`crate::Maintenance::filled`], and then to answer with
    /// [`crate::Maintenance::day_ended`].
    EndDay(Day),
    /// To read from other files from now on.
    Installed(Installed<M>),
}

impl<M> Clone for Event<M> {
    fn clone(&self) -> Self {
        match self {
            Self::EndDay(day) => Self::EndDay(*day),
            Self::Installed(installed) => Self::Installed(installed.clone()),
        }
    }
}

/// Files that count from now on, and files that do not.
#[derive(Debug)]
pub struct Installed<M> {
    /// For [`crate::Maintenance::released`].
    pub ticket: u64,
    /// A bucket that now stands for its days.
    pub(crate) bucket: Option<Arc<Sealed<M>>>,
    /// Segments whose records are in it.
    pub obsolete: Vec<SegmentId>,
    /// Numbers of the buckets that do not count any more.
    pub replaced: Vec<u32>,
    /// Days before this one are gone.
    pub retained_from: Day,
    /// Days up to this one are sealed.
    pub sealed_through: Day,
}

impl<M: Deref<Target = [u8]>> Installed<M> {
    /// What changes for a reader.
    pub(crate) fn change(&self) -> view::Installed<Arc<Sealed<M>>> {
        view::Installed {
            bucket: self.bucket.clone().map(Bucket::of),
            obsolete: self.obsolete.clone(),
            replaced: self.replaced.clone(),
            retained_from: self.retained_from,
        }
    }
}

impl<M: Deref<Target = [u8]>> View<Arc<Sealed<M>>> {
    /// A view of all sealed buckets.
    #[must_use]
    pub fn of(buckets: Buckets<M>) -> Self {
        let files = buckets.files.into_iter().map(Bucket::of);
        Self::new(files.collect(), buckets.retained_from)
    }
}

impl<M> Clone for Installed<M> {
    fn clone(&self) -> Self {
        Self {
            ticket: self.ticket,
            bucket: self.bucket.clone(),
            obsolete: self.obsolete.clone(),
            replaced: self.replaced.clone(),
            retained_from: self.retained_from,
            sealed_through: self.sealed_through,
        }
    }
}

impl<M: Deref<Target = [u8]>> Buckets<M> {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.files.len()
    }

    /// Memory that their indexes take, mapped and copied, in bytes; once in a process.
    #[must_use]
    pub fn index_bytes(&self) -> usize {
        self.files.iter().map(|file| file.index_bytes()).sum()
    }
}

impl<M> Clone for Buckets<M> {
    fn clone(&self) -> Self {
        Self {
            files: self.files.clone(),
            retained_from: self.retained_from,
            sealed_through: self.sealed_through,
        }
    }
}

/// The sealed buckets of a node.
#[derive(Debug)]
pub struct Buckets<M> {
    pub(crate) files: Vec<Arc<Sealed<M>>>,
    /// Days before this one are gone.
    pub retained_from: Day,
    /// Days up to this one are sealed.
    pub sealed_through: Day,
}

/// Files that may go once all shards have let go of them.
#[derive(Debug)]
pub(crate) struct Unlink {
    pub(crate) ticket: u64,
    pub(crate) is_released: bool,
    pub(crate) segments: Vec<(SegmentId, Day)>,
    pub(crate) buckets: Vec<PathBuf>,
}

/// One piece of work.
#[derive(Debug)]
pub struct Ran<M> {
    /// What was done.
    pub did: Did,
    /// What every shard has to hear, in this order.
    pub events: Vec<Event<M>>,
    /// When the next piece is due, in milliseconds since 1970, if nothing happens before.
    pub next_ms: u64,
}

impl<M> Ran<M> {
    pub(crate) fn idle(next_ms: u64) -> Self {
        Self {
            did: Did::Nothing,
            events: Vec::new(),
            next_ms,
        }
    }
}

/// What a piece of work was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    /// Nothing was due, or the shards are waited for, or another call is at it.
    Nothing,
    /// The shards were asked to end a day.
    AskedToEnd(Day),
    /// Segments of a day were sorted, or sorted parts of it merged; so many parts are left.
    Prepared {
        /// The day.
        day: Day,
        /// Sorted parts that wait to be merged.
        parts: usize,
        /// Segments that wait to be sorted.
        segments_left: usize,
    },
    /// A day was sealed.
    Sealed {
        /// The day.
        day: Day,
        /// Messages in its bucket.
        messages: u64,
        /// Length of its bucket, in bytes.
        bytes: u64,
    },
    /// Days up to this one turned out to be without records.
    Passed(Day),
    /// Files were removed.
    Unlinked {
        /// How many.
        files: usize,
    },
    /// A bucket beyond the retention was dropped, with everything before this day.
    Dropped {
        /// The first day that is kept.
        retained_from: Day,
    },
    /// A bucket was searched for what is to be erased, and has nothing of it.
    Searched {
        /// Its first day.
        first_day: Day,
    },
    /// A bucket was written anew without what is to be erased.
    Erased {
        /// Its first day.
        first_day: Day,
        /// Its last day.
        last_day: Day,
    },
    /// Erasures are done.
    Settled {
        /// How many.
        erasures: usize,
    },
    /// Neighbouring buckets became one.
    Merged {
        /// Its first day.
        first_day: Day,
        /// Its last day.
        last_day: Day,
    },
    /// The channels of a bucket were held against their limits.
    Held {
        /// Its first day.
        first_day: Day,
    },
    /// All buckets were; next, those that channels leave are written anew.
    Looked {
        /// Channels that leave a bucket.
        channels: usize,
    },
    /// A bucket was written anew without channels that are beyond their limits.
    Cut {
        /// Its first day.
        first_day: Day,
        /// Channels that left it.
        channels: usize,
    },
    /// No bucket holds what is beyond its channel's limits.
    HeldAll,
    /// The catalog was replaced.
    Checkpointed,
}

/// Counts of what was done since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Progress {
    /// Index files written.
    pub segments_indexed: u64,
    /// Days sealed.
    pub days_sealed: u64,
    /// Merges of neighbouring buckets.
    pub merges: u64,
    /// Buckets written anew, for erasing or by channels' limits.
    pub buckets_rewritten: u64,
    /// Buckets dropped.
    pub buckets_dropped: u64,
    /// Erasures done.
    pub erasures_done: u64,
    /// Records read to be sealed, merged or rewritten, sorted parts included.
    pub records_read: u64,
    /// Bytes of files written for that.
    pub bytes_written: u64,
    /// Files removed.
    pub files_removed: u64,
}
