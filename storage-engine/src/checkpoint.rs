//! Which segments are indexed, and when the node's catalog covers them.
//!
//! It asks no shard: the catalog is made from the last one and from index files, and a log that
//! could not wait has written some of these itself.
//!
//! Invariants: one replacement at a time; segments are covered in the order in which each shard
//! ended them; a segment stays named until its day is sealed.

use std::collections::BTreeMap;

use crate::catalog::{Checkpoint, EndedSegment, checkpoint};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::SegmentId;
use crate::maintenance::Maintenance;
use crate::segment::{Day, SegmentInfo, parse_file_name};
use crate::segment_index::SegmentIndex;

/// The first segment without an index file, and its day, of each shard that has one.
pub(crate) type Unindexed = BTreeMap<usize, (SegmentId, Day)>;

impl<D: Disk> Maintenance<D> {
    /// Lets the catalog cover all segments that have an index file.
    pub(crate) async fn checkpoint(&self) -> Result<(), StoreError> {
        let _turn = self.catalog_turns.take().await;
        let unindexed = self.adopt_indexed().await?;
        let mut wanted = {
            let state = self.state.borrow();
            let uncovered = state.uncovered.iter().copied();
            let is_ready = |ended: &EndedSegment| {
                let first = unindexed.get(&self.shard_of(ended.segment));
                first.is_none_or(|(first, _)| ended.segment <= *first)
            };
            Checkpoint {
                goes_on: true,
                add: uncovered.filter(is_ready).collect(),
                gone: state.gone.clone(),
            }
        };
        if wanted.add.is_empty() {
            return Ok(());
        }
        wanted.add.sort_by_key(|ended| ended.segment);
        checkpoint(&self.disk, &self.paths, &wanted).await?;
        let mut state = self.state.borrow_mut();
        state.uncovered.retain(|ended| !wanted.add.contains(ended));
        state.gone.retain(|segment| !wanted.gone.contains(segment));
        Ok(())
    }

    /// Notes segments that have an index file, though nobody said so: all those that logs have
    /// indexed themselves. Returns each shard's first segment without one, if there is any:
    /// nothing behind it is noted, since channels go on from one to the next.
    pub(crate) async fn adopt_indexed(&self) -> Result<Unindexed, StoreError> {
        let mut unindexed = Unindexed::new();
        for (segment, day) in self.unnoted().await? {
            let shard = self.shard_of(segment);
            if !unindexed.contains_key(&shard) && !self.adopt(segment, day).await? {
                unindexed.insert(shard, (segment, day));
            }
        }
        Ok(unindexed)
    }

    /// Segments of days that are not sealed of which it is not known that they have an index
    /// file, in order of their numbers.
    async fn unnoted(&self) -> Result<BTreeMap<SegmentId, Day>, StoreError> {
        let sealed_through = self.state.borrow().manifest.sealed_through;
        let mut unnoted = BTreeMap::new();
        for name in self.disk.list(&self.paths.segments()).await? {
            let Some(day) = Day::parse(&name).filter(|day| *day > sealed_through) else {
                continue;
            };
            let names = self.disk.list(&self.paths.day(day)).await?;
            let segments = names.iter().filter_map(|name| parse_file_name(name));
            let state = self.state.borrow();
            let unknown = segments.filter(|segment| !state.segments.contains_key(segment));
            unnoted.extend(unknown.map(|segment| (segment, day)));
        }
        Ok(unnoted)
    }

    /// Notes a segment if it has an index file.
    async fn adopt(&self, segment: SegmentId, day: Day) -> Result<bool, StoreError> {
        let index = SegmentIndex::open_valid(&self.disk, &self.paths, segment, day).await?;
        let Some(index) = index else {
            return Ok(false);
        };
        let end = index.end();
        index.close().await?;
        // Its log may have moved it there just now, and not be done.
        self.disk.sync_dir(&self.paths.day(day)).await?;
        self.note_indexed(EndedSegment { segment, day, end });
        Ok(true)
    }

    /// Whose segment it is, if recovery did not find it: shards give out numbers in turns.
    fn shard_of(&self, segment: SegmentId) -> usize {
        let shards = self.state.borrow().ended_through.len();
        segment.0 as usize % shards
    }

    /// Notes that a segment has its index file.
    pub(crate) fn note_indexed(&self, ended: EndedSegment) {
        let mut state = self.state.borrow_mut();
        let info = SegmentInfo {
            day: ended.day,
            end: Some(ended.end),
        };
        if state.segments.insert(ended.segment, info).is_none() {
            state.uncovered.push(ended);
            state.progress.segments_indexed += 1;
        }
    }
}
