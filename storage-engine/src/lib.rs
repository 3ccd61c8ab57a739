//! An append-only, log-structured message store with daily segment buckets. One hot log per
//! shard; records are opaque, so it knows nothing of chat. `FORMAT.md` says what lies on disk.
//!
//! It never reads a clock, starts a thread or draws a random number by itself: time is an
//! argument, and everything that touches a device goes through [`Disk`].
//!
//! Invariants: what [`Log::commit`] returned is written and synced; a written block is never
//! written again; damage to what was acknowledged is reported, never cut away.

mod config;
mod key;
mod place;
mod record;
mod stored;

mod format;
#[cfg(test)]
mod format_doc;
mod log;
mod segment;
mod tail;
mod upkeep;

mod index;
mod reader;

mod catalog;
mod recovery;
mod scan;

mod disk;
mod error;
mod sim_disk;

pub use config::{BLOCK_BYTES, Durability, StoreConfig};
pub use disk::{Disk, DiskFile, GlommioDisk, GlommioFile, StoreLock};
pub use error::{CommitError, Damage, DiskError, DiskOp, StoreError};
pub use index::{Head, Index, Query};
pub use key::{AuthorKey, ChannelKey, MessageKey, NonceKey, SegmentId};
pub use log::Log;
pub use place::Place;
pub use reader::Reader;
pub use record::{Location, Record, RecordKind, RecordMeta};
pub use recovery::{RecentNonce, Recovered, RecoveryReport, TornTail, recover};
pub use segment::{Day, SegmentInfo, SegmentTable, SharedSegments};
pub use sim_disk::{SimDisk, SimFault, SimFile, SimLatency};
pub use stored::Stored;
pub use upkeep::{Upkeep, Upkept};
