//! Every limit of the store, and the relations that must hold between them.
//!
//! Nothing is read from a file or the environment here: the server's configuration is.
//!
//! Invariants: [`StoreConfig::assert_consistent`] runs before a store is opened, so that a
//! commit within its limit always fits into an empty segment, behind the opening block and
//! before the closing one.

use crate::format::{FRAME_HEADER_BYTES, RECORD_HEADER_BYTES};

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
    /// Most segment files that one reader keeps open.
    pub open_files_max: usize,
    /// Unit in which segments are prewritten and scanned: a multiple of [`BLOCK_BYTES`].
    pub chunk_bytes: u32,
    /// How far back recovery reports nonces, in milliseconds before the newest record.
    pub recent_ms: u64,
    /// When a commit counts as done.
    pub durability: Durability,
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
            chunk_bytes: 1 << 20,
            recent_ms: 5 * 60 * 1000,
            durability: Durability::Sync,
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
        assert!(self.reads_at_once_max > 0 && self.open_files_max > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sets_of_limits_are_consistent() {
        StoreConfig::default().assert_consistent();
        StoreConfig::small().assert_consistent();
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
