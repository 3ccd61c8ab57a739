//! What a store must be able to do to be measured, and what it is asked.
//!
//! An engine measures nothing itself and is told the time.
//!
//! Invariants: when `acknowledged` returns, all of the batch is durable, or none of it; a page is
//! whole in memory that belongs to the caller.

use std::error::Error;
use std::fmt;
use std::path::Path;

use bytes::Bytes;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use throng_storage_engine::{AuthorKey, ChannelKey, MessageKey, Record};

/// What an engine reports of its own failures.
pub(super) type Failure = Box<dyn Error>;

/// The stores that can be measured.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum EngineName {
    /// This project's own.
    Throng,
    /// No store: the same bytes written and synced to a prewritten file.
    Raw,
    /// RocksDB.
    Rocksdb,
    /// fjall.
    Fjall,
    /// SQLite.
    Sqlite,
}

impl EngineName {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 5] = [
        Self::Throng,
        Self::Raw,
        Self::Rocksdb,
        Self::Fjall,
        Self::Sqlite,
    ];

    /// Whether this binary has it.
    #[must_use]
    pub const fn is_built(self) -> bool {
        match self {
            Self::Throng | Self::Raw => true,
            Self::Rocksdb => cfg!(feature = "rocksdb"),
            Self::Fjall => cfg!(feature = "fjall"),
            Self::Sqlite => cfg!(feature = "sqlite"),
        }
    }

    /// Its settings under these limits, in words; empty if it is not built in.
    pub(super) fn settings(self, limits: Limits) -> String {
        match self {
            Self::Throng => super::throng::Throng::settings(limits),
            Self::Raw => super::raw::Raw::settings(limits),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => super::others::Rocks::settings(limits),
            #[cfg(feature = "fjall")]
            Self::Fjall => super::others::Fjall::settings(limits),
            #[cfg(feature = "sqlite")]
            Self::Sqlite => super::others::Sqlite::settings(limits),
            #[cfg(not(all(feature = "fjall", feature = "rocksdb", feature = "sqlite")))]
            _ => String::new(),
        }
    }

    /// As it is written on a command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Throng => "throng",
            Self::Raw => "raw",
            Self::Rocksdb => "rocksdb",
            Self::Fjall => "fjall",
            Self::Sqlite => "sqlite",
        }
    }
}

impl fmt::Display for EngineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What all engines are given alike.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(super) struct Limits {
    /// Bytes for each engine's cache of blocks or pages.
    pub(super) cache_bytes: usize,
    /// Size of Throng's segments, in bytes.
    pub(super) segment_bytes: u32,
}

/// Which messages of a channel a page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    Newest,
    /// Those before this one.
    Before(MessageKey),
    /// Half of them before this one, the rest from it on.
    Around(MessageKey),
}

/// One message of a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PageMessage {
    pub(super) message: MessageKey,
    pub(super) author: AuthorKey,
    pub(super) body: Bytes,
}

/// Messages on a page.
pub(super) const PAGE_MESSAGES: usize = 50;

/// A store under measurement.
pub(super) trait Engine: Sized {
    /// Whether pages come back; what does not keep data cannot be checked.
    const HAS_PAGES: bool = true;

    /// Opens what lies in `directory`, which exists; a fresh store if it is empty.
    async fn open(directory: &Path, limits: Limits) -> Result<Self, Failure>;

    /// Its settings, in words.
    fn settings(limits: Limits) -> String;

    /// How many batches may be begun and not acknowledged.
    const UNDER_WAY: usize = 1;

    /// Makes the batch ready that is begun next, while others are written.
    fn gather(&mut self, _batch: &[Record]) {}

    /// Begins to make all of the batch durable. The records are of one day, `now_ms` is a time in
    /// it.
    async fn begin(&mut self, now_ms: u64, batch: &[Record]) -> Result<(), Failure>;

    /// Waits until the oldest batch begun is durable. What does one at a time has done it.
    async fn acknowledged(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// A page, oldest first, of [`PAGE_MESSAGES`] or as many as there are.
    async fn page(&self, channel: ChannelKey, ask: Ask) -> Result<Vec<PageMessage>, Failure>;

    /// Nothing is asked of it for a while. What has no threads of its own does here what it would
    /// do then.
    async fn idle(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// A day has ended, it is `now_ms`. For work that belongs to that moment.
    async fn day_ended(&mut self, _now_ms: u64) -> Result<(), Failure> {
        Ok(())
    }

    /// Does the work that it has put off, up to `now_ms`: sealing, compaction, checkpoint.
    async fn settle(&mut self, now_ms: u64) -> Result<(), Failure>;

    /// Reads that it has sent to the device so far, if it counts them.
    fn device_reads(&self) -> Option<u64> {
        None
    }

    /// Ends in order.
    async fn close(self) -> Result<(), Failure>;
}
