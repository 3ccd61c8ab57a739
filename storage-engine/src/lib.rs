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
mod prepared;
mod segment;
mod tail;
mod under_way;
mod upkeep;

mod hot;
mod index;

mod cache;
mod chain;
mod fetch;
mod gather;
mod lru;
mod page;
mod segment_index;

mod reader;
#[cfg(test)]
mod reader_tests;
mod recent;
mod s3fifo;
mod view;

mod sealed;

mod aside;
mod catalog;
mod recovery;
mod scan;
mod window;

mod compact;
mod consumer;
mod dead_letter;
mod event;
mod export;
mod held;
mod import;
mod inspect;
mod maintenance;
#[cfg(test)]
mod maintenance_model;
#[cfg(test)]
mod maintenance_world;
mod manifest;
mod turns;

mod bucket;
mod checkpoint;
mod leftovers;
mod merge;
mod part;
mod policy;
mod seal;
mod sorted;
mod survey;
mod verify;
mod whole_file;

mod compaction;
mod erasing;
mod erasure;
mod month;
mod neighbours;
mod retention;

#[doc(hidden)]
pub mod any_bytes;
mod disk;
mod error;
mod sim_disk;

pub use cache::ReadStats;
pub use compact::compact;
pub use config::{
    BLOCK_BYTES, ChannelLimits, ConsumerLimits, Durability, MaintenanceConfig, Retention,
    StoreConfig,
};
pub use consumer::{
    Batch, Consumer, ConsumerName, Consumers, Delivery, Ends, Lag, Position, SegmentEnd, StartAt,
};
pub use dead_letter::{DeadLetter, DeadLetters};
pub use disk::{Disk, DiskFile, GlommioDisk, GlommioFile, StoreLock};
pub use erasure::{Erasure, PendingErasure};
pub use error::{CommitError, Damage, DiskError, DiskOp, StoreError};
pub use event::{Buckets, Did, Event, Installed, Progress, Ran};
pub use export::{ExportFilter, Exported, ExportedHead, Exporting, export};
pub use hot::HotSegment;
pub use import::{Imported, Importer, Refusal};
pub use index::{Head, Index, Query, SharedIndex};
pub use inspect::{BucketView, ConsumerView, Inspection, SegmentView, inspect, lock, prepare};
pub use key::{AuthorKey, ChannelKey, MessageKey, NonceKey, SegmentId};
pub use log::{Log, LogPlace, Synced};
pub use maintenance::Maintenance;
pub use page::PageQuery;
pub use place::Place;
pub use prepared::{Encoder, Prepared};
pub use reader::{Live, Reader, SharedSealed};
pub use recent::{Recent, SharedRecent};
pub use record::{Location, Record, RecordKind, RecordMeta};
pub use recovery::{RecentNonce, Recovered, RecoveryReport, TornTail, recover};
pub use scan::SegmentScan;
pub use sealed::Sealed;
pub use segment::{Day, SegmentInfo, SegmentTable, SharedSegments};
pub use segment_index::index_segment;
pub use sim_disk::{SimDisk, SimFault, SimFile, SimHarm, SimLatency};
pub use stored::Stored;
pub use upkeep::{Upkeep, Upkept};
pub use verify::{Finding, Report, Verified, verify};
pub use view::{Bucket, View};
