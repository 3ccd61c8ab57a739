//! Every limit of the store, and the relations that must hold between them.
//!
//! Nothing is read from a file or the environment here: the server's configuration is.
//!
//! Invariants: [`StoreConfig::assert_consistent`] runs before a store is opened, so that a
//! commit within its limit always fits into an empty segment, behind the opening block and
//! before the closing one.

use crate::format::{FRAME_HEADER_BYTES, RECORD_HEADER_BYTES};
use crate::sealed::SEALED_BLOCK_BYTES_MAX;

/// The unit in which segments are written, in bytes: no two frames share a block.
pub const BLOCK_BYTES: u32 = 4096;

/// When a commit counts as done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// After the device confirmed a sync. What was acknowledged survives power loss.
    Sync,
    /// After the write; a sync follows at most this many milliseconds of commits later. What was
    /// acknowledged survives the end of the process; power loss takes up to that much.
    Interval {
        /// The longest time between two syncs of a busy log, in milliseconds.
        sync_ms_max: u64,
    },
    /// After the write; nothing is synced but a full segment. What was acknowledged survives the
    /// end of the process only.
    Off,
}

/// The limits of a store. All sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct StoreConfig {
    /// Size of a segment file: a multiple of [`BLOCK_BYTES`], at most 1 GiB.
    pub segment_bytes: u32,
    /// Largest commit: its records and the frame's header together.
    pub commit_bytes_max: u32,
    /// Largest record: header and body.
    pub record_bytes_max: u32,
    /// Two records that lie at most this far apart are read at once.
    pub read_gap_bytes_max: u32,
    /// Largest single read of a page.
    pub read_bytes_max: u32,
    /// Most reads of one page that are under way at the same time.
    pub reads_at_once_max: usize,
    /// Most segments and sealed files that one reader keeps open.
    pub open_files_max: usize,
    /// Most index files of segments that one reader keeps open.
    pub open_indexes_max: usize,
    /// Memory of one shard for blocks of sealed files and index files, bookkeeping included.
    pub cache_bytes: u64,
    /// Memory of one shard for the newest messages of channels that are read, bookkeeping included.
    pub recent_bytes: u64,
    /// Most messages of one channel that are kept as recent.
    pub recent_messages_max: usize,
    /// Most messages that one page reads in one step; a page that finds most of them deleted
    /// takes several.
    pub page_step_max: u64,
    /// Most segments whose index files are still to be written: beyond it a log writes the oldest
    /// one's itself before it goes on, and recovery before it looks further. Each takes memory in
    /// proportion to its records.
    pub unindexed_segments_max: usize,
    /// Most prewritten files that wait to become segments, at least 1: one is made whenever there
    /// is none, the others while nothing is committed ([`crate::Upkeep::stock`]). A burst of so
    /// many segments does not share the device with prewriting.
    pub spares_max: usize,
    /// Unit in which segments are prewritten and scanned: a multiple of [`BLOCK_BYTES`].
    pub chunk_bytes: u32,
    /// How far back recovery reports nonces, in milliseconds before the newest record.
    pub recent_ms: u64,
    /// When a commit counts as done.
    pub durability: Durability,
    /// Limits of consumers.
    pub consumers: ConsumerLimits,
}

/// The limits of the consumers that read the log.
#[derive(Clone, Copy, Debug)]
pub struct ConsumerLimits {
    /// Most consumers of a node.
    pub count_max: usize,
    /// Most records of a batch, at least 1.
    pub batch_records_max: usize,
    /// Most bytes of a batch; a batch of one record may be larger.
    pub batch_bytes_max: u64,
    /// For how many days after its own a segment waits for consumers that have not passed it. What
    /// is to be erased stays in it for as long: 1 keeps within the time stated for erasures.
    pub hold_days: u32,
    /// Most dead letters of a consumer, at least 1.
    pub dead_letters_max: usize,
    /// Most bytes that these take on disk.
    pub dead_letter_bytes_max: u64,
    /// Longest reason of a dead letter, in bytes; the rest is cut off.
    pub reason_bytes_max: usize,
}

impl Default for ConsumerLimits {
    fn default() -> Self {
        Self {
            count_max: 64,
            batch_records_max: 1_024,
            batch_bytes_max: 1 << 20,
            hold_days: 1,
            dead_letters_max: 10_000,
            dead_letter_bytes_max: 64 << 20,
            reason_bytes_max: 1_024,
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            commit_bytes_max: 1 << 20,
            record_bytes_max: 64 << 10,
            read_gap_bytes_max: 64 << 10,
            read_bytes_max: 1 << 20,
            reads_at_once_max: 16,
            open_files_max: 64,
            open_indexes_max: 64,
            cache_bytes: 16 << 20,
            recent_bytes: 16 << 20,
            recent_messages_max: 128,
            page_step_max: 1024,
            unindexed_segments_max: 8,
            spares_max: 4,
            chunk_bytes: 1 << 20,
            recent_ms: 5 * 60 * 1000,
            durability: Durability::Sync,
            consumers: ConsumerLimits::default(),
        }
    }
}

impl StoreConfig {
    /// Small segments and limits, for tests and simulations: 1 MiB a segment.
    #[must_use]
    pub fn small() -> Self {
        Self {
            segment_bytes: 1 << 20,
            commit_bytes_max: 256 << 10,
            chunk_bytes: 256 << 10,
            ..Self::default()
        }
    }

    /// Checks the relations between the limits.
    ///
    /// # Panics
    /// If one does not hold: nothing can be opened with such limits.
    pub fn assert_consistent(&self) {
        assert!(
            self.segment_bytes.is_multiple_of(BLOCK_BYTES),
            "segments are whole blocks"
        );
        assert!(
            self.segment_bytes <= 1 << 30,
            "offsets inside a segment stay far below 4 GiB"
        );
        assert!(self.chunk_bytes.is_multiple_of(BLOCK_BYTES) && self.chunk_bytes > 0);
        assert!(
            self.commit_bytes_max.div_ceil(BLOCK_BYTES) + 2 <= self.segment_bytes / BLOCK_BYTES,
            "the largest commit must fit into a segment, beside an opening and a closing block"
        );
        assert!(
            self.record_bytes_max <= self.commit_bytes_max - FRAME_HEADER_BYTES,
            "the largest record must fit into a commit"
        );
        assert!(
            self.record_bytes_max > RECORD_HEADER_BYTES,
            "a record needs a body"
        );
        assert!(
            self.record_bytes_max <= self.read_bytes_max,
            "a record is read at once"
        );
        assert!(
            self.record_bytes_max <= SEALED_BLOCK_BYTES_MAX / 2,
            "a record must fit into a sealed block, behind smaller ones"
        );
        assert!(self.reads_at_once_max > 0 && self.open_files_max > 0);
        let consumers = &self.consumers;
        assert!(consumers.batch_records_max > 0 && consumers.dead_letters_max > 0);
        assert!(
            consumers.reason_bytes_max <= self.record_bytes_max as usize,
            "a reason is shorter than a record"
        );
        assert!(self.spares_max > 0, "the next segment's file is made ahead");
        assert!(self.open_indexes_max > 0 && self.recent_messages_max > 0);
        assert!(self.page_step_max > 0, "a page is read in steps");
        assert!(
            self.unindexed_segments_max > 0,
            "a segment that ends is first in memory"
        );
    }
}

/// How long one channel's messages are kept. Without limits: for ever.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ChannelLimits {
    /// Days after which a message may go; it goes with the rest of its bucket at the latest.
    pub days_max: Option<u32>,
    /// Bytes of sealed records, uncompressed, beyond which older buckets are left.
    pub bytes_max: Option<u64>,
}

/// How long messages are kept. Without limits, the default: for ever.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Retention {
    /// Days after which a bucket is removed, counted from its last day.
    pub days_max: Option<u32>,
    /// Bytes of all sealed buckets, beyond which the oldest are removed.
    pub bytes_max: Option<u64>,
    /// What holds for channels that have no limits of their own.
    pub channel: ChannelLimits,
}

/// The limits of what is done with ended days. Sizes in bytes, times in milliseconds.
///
/// Memory at its peak is what is sorted (`sort_bytes_max` and 48 bytes a record), or else what is
/// merged (`merge_bytes_max` and 32 KiB for each of at most `merge_inputs_max` inputs); beside that
/// 5 MiB of samples for a dictionary, 1 MiB for writing, and the index of the bucket that is
/// written: 72 bytes for each channel, 44 for each block of 16 KiB.
#[derive(Clone, Copy, Debug)]
pub struct MaintenanceConfig {
    /// How long after its end a day is sealed, so that commits begun before midnight are in.
    pub grace_ms: u64,
    /// Segments that are read into memory at once, to be sorted: at least one, beyond this no
    /// more. The peak of memory is this and 48 bytes for each record in them.
    pub sort_bytes_max: u64,
    /// Most sorted inputs that are merged at once.
    pub merge_inputs_max: usize,
    /// Pieces of all inputs of a merge that are in memory together: an input is read in pieces of
    /// its share of this, between 64 KiB and 1 MiB.
    pub merge_bytes_max: u64,
    /// The level of zstd for buckets.
    pub zstd_level: i32,
    /// The level of zstd for sorted parts, which live for one sealing.
    pub part_zstd_level: i32,
    /// Whether the days of an ended month become one bucket, and small neighbouring buckets a
    /// larger one.
    pub merge_months: bool,
    /// Bytes of files beyond which neighbouring buckets are not merged, months aside; less where
    /// messages are kept up to a size or for a time. 0: never.
    pub neighbours_bytes_max: u64,
    /// How long messages are kept.
    pub retention: Retention,
    /// Time between two runs that hold channels against their limits.
    pub compact_ms_min: u64,
    /// How long an erasure waits for others, to share a rewrite with them.
    pub erase_wait_ms: u64,
    /// Within which time sealed buckets are free of what is asked to be erased; also, after the
    /// end of a day, what was written on that day.
    pub erase_within_ms: u64,
    /// Most erasures that may wait.
    pub erasures_max: usize,
    /// The catalog is replaced after so many segments were indexed, and whenever a day is sealed.
    pub checkpoint_segments: usize,
}

/// Smallest and largest unit in which an input of a merge is read.
const PIECE_BYTES_MIN: u64 = 64 << 10;
const PIECE_BYTES_MAX: u64 = 1 << 20;

const HOUR_MS: u64 = 60 * 60 * 1000;

impl Default for MaintenanceConfig {
    fn default() -> Self {
        Self {
            grace_ms: HOUR_MS / 4,
            sort_bytes_max: 64 << 20,
            merge_inputs_max: 512,
            merge_bytes_max: 64 << 20,
            zstd_level: 3,
            part_zstd_level: 1,
            merge_months: true,
            neighbours_bytes_max: 4 << 30,
            retention: Retention::default(),
            compact_ms_min: 24 * HOUR_MS,
            erase_wait_ms: 6 * HOUR_MS,
            erase_within_ms: 24 * HOUR_MS,
            erasures_max: 4096,
            checkpoint_segments: 16,
        }
    }
}

impl MaintenanceConfig {
    /// Checks the relations between the limits.
    ///
    /// # Panics
    /// If one does not hold.
    pub fn assert_consistent(&self) {
        assert!(self.merge_inputs_max >= 2, "a merge has two inputs or more");
        assert!(
            self.merge_bytes_max / PIECE_BYTES_MIN >= self.merge_inputs_max as u64,
            "every input of a merge has a piece in memory"
        );
        assert!(self.checkpoint_segments > 0 && self.erasures_max > 0);
        assert!(
            self.erasures_max <= 1 << 15,
            "the manifest holds all erasures that wait"
        );
        assert!(
            self.erase_wait_ms < self.erase_within_ms,
            "time is left for erasing"
        );
    }

    /// Unit in which each of so many inputs of a merge is read: whole blocks.
    pub(crate) fn piece_bytes(&self, inputs: usize) -> u32 {
        let share = self.merge_bytes_max / inputs.max(1) as u64;
        let bytes = share.clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let bytes = u32::try_from(bytes).expect("at most 1 MiB");
        bytes / BLOCK_BYTES * BLOCK_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sets_of_limits_are_consistent() {
        StoreConfig::default().assert_consistent();
        StoreConfig::small().assert_consistent();
        MaintenanceConfig::default().assert_consistent();
    }

    #[test]
    #[should_panic(expected = "largest commit must fit")]
    fn a_commit_larger_than_a_segment_is_refused() {
        let config = StoreConfig {
            commit_bytes_max: 1 << 20,
            ..StoreConfig::small()
        };
        config.assert_consistent();
    }
}
