//! How far the log may be read: the durable end of every segment, as the writers tell it.
//!
//! It reads no segment by itself, except when asked to measure one of an earlier run.
//!
//! Invariants: an end never moves back; everything before it is durable, so whoever reads up to it
//! sees nothing that a crash could take away.

use std::collections::BTreeMap;
use std::path::Path;

use crate::config::StoreConfig;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::held::find;
use crate::key::SegmentId;
use crate::scan::Candidate;
use crate::segment::{Day, Paths};

/// How far one segment may be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentEnd {
    /// Whose directory it is in.
    pub day: Day,
    /// Where its durable frames end, in bytes.
    pub end: u32,
    /// Records in them.
    pub records: u64,
    /// Time of the newest of these, in milliseconds since 1970.
    pub newest_ms: u64,
    /// Nothing will be appended any more.
    pub is_ended: bool,
}

impl SegmentEnd {
    /// Walks a segment of an earlier run, also one that is held for consumers.
    ///
    /// # Errors
    /// If the disk fails or the segment is damaged.
    pub async fn measure<D: Disk>(
        disk: &D,
        root: &Path,
        config: &StoreConfig,
        segment: SegmentId,
        day: Day,
    ) -> Result<Self, StoreError> {
        let path = find(disk, &Paths::new(root), segment, day).await?;
        let candidate = Candidate::examine_at(disk, path, segment, day).await?;
        let mut newest_ms = 0;
        let scanned = candidate
            .scan(disk, config, None, |record, _| {
                newest_ms = newest_ms.max(record.meta().message.timestamp_ms());
                Ok(())
            })
            .await?;
        Ok(Self {
            day,
            end: scanned.end,
            records: scanned.records,
            newest_ms,
            is_ended: true,
        })
    }
}

/// The durable ends of all segments that can still be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ends {
    first: SegmentId,
    shards: u16,
    segments: BTreeMap<SegmentId, SegmentEnd>,
}

impl Ends {
    /// Ends without a segment yet. `first` is the lowest number that this run's logs may give out,
    /// above those of all earlier runs; `shards` is how many logs there are.
    ///
    /// # Panics
    /// If there are no shards.
    #[must_use]
    pub fn new(first: SegmentId, shards: u16) -> Self {
        assert!(shards > 0, "a log belongs to a shard");
        Self {
            first,
            shards,
            segments: BTreeMap::new(),
        }
    }

    /// Takes what is known of a segment now.
    ///
    /// # Panics
    /// If its end moves back, or it goes on after it has ended.
    pub fn note(&mut self, segment: SegmentId, end: SegmentEnd) {
        if let Some(known) = self.segments.get(&segment) {
            assert!(known.end <= end.end, "what is durable stays so");
            assert!(
                !known.is_ended || known.end == end.end,
                "an ended segment stays as it is"
            );
        }
        self.segments.insert(segment, end);
    }

    /// Forgets a segment whose file is removed.
    pub fn remove(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    /// What is known of a segment.
    #[must_use]
    pub fn get(&self, segment: SegmentId) -> Option<SegmentEnd> {
        self.segments.get(&segment).copied()
    }

    /// All segments in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SegmentId, SegmentEnd)> + '_ {
        self.segments.iter().map(|(id, end)| (*id, *end))
    }

    /// The lowest number of this run.
    #[must_use]
    pub fn first(&self) -> SegmentId {
        self.first
    }

    /// How many logs this run has.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// The segments of earlier runs.
    pub(crate) fn earlier(&self) -> impl Iterator<Item = (SegmentId, SegmentEnd)> + '_ {
        let segments = self.segments.range(..self.first);
        segments.map(|(id, end)| (*id, *end))
    }

    /// The segments of one of this run's logs, from a number on.
    pub(crate) fn of_log(
        &self,
        log: u16,
        from: SegmentId,
    ) -> impl Iterator<Item = (SegmentId, SegmentEnd)> + '_ {
        let shards = u32::from(self.shards);
        let segments = self.segments.range(from.max(self.first)..);
        let own = segments.filter(move |(id, _)| id.0 % shards == u32::from(log));
        own.map(|(id, end)| (*id, *end))
    }

    /// Time of the newest durable record, in milliseconds since 1970; 0 if there is none.
    pub(crate) fn newest_ms(&self) -> u64 {
        let times = self.segments.values().map(|end| end.newest_ms);
        times.max().unwrap_or(0)
    }
}
