//! Which segments are indexed, and when the node's catalog covers them.
//!
//! It asks no shard: the catalog is made from the last one and from index files, and a log that
//! could not wait has written some of these itself.
//!
//! Invariants: one replacement at a time; segments are covered in the order in which each shard
//! ended them; a segment stays named until its day is sealed.

use crate::catalog::{Checkpoint, EndedSegment, checkpoint};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::maintenance::Maintenance;
use crate::segment::{Day, SegmentInfo, parse_file_name};
use crate::segment_index::SegmentIndex;

impl<D: Disk> Maintenance<D> {
    /// Lets the catalog cover all segments that have an index file.
    pub(crate) async fn checkpoint(&self) -> Result<(), StoreError> {
        let _turn = self.catalog_turns.take().await;
        self.adopt_indexed(Day(0)).await?;
        let mut wanted = {
            let state = self.state.borrow();
            Checkpoint {
                goes_on: true,
                add: state.uncovered.clone(),
                gone: state.gone.clone(),
            }
        };
        if wanted.add.is_empty() {
            return Ok(());
        }
        let added = wanted.add.len();
        wanted.add.sort_by_key(|ended| ended.segment);
        checkpoint(&self.disk, &self.paths, &wanted).await?;
        let mut state = self.state.borrow_mut();
        state.uncovered.drain(..added);
        state.gone.retain(|segment| !wanted.gone.contains(segment));
        Ok(())
    }

    /// Notes segments that have an index file, though nobody said so: all those that logs have
    /// indexed themselves. Returns whether all segments of days up to this one are indexed.
    pub(crate) async fn adopt_indexed(&self, through: Day) -> Result<bool, StoreError> {
        let sealed_through = self.state.borrow().manifest.sealed_through;
        let mut are_all = true;
        for name in self.disk.list(&self.paths.segments()).await? {
            let day = Day::parse(&name).filter(|day| *day > sealed_through);
            if let Some(day) = day {
                let is_whole = self.adopt_of_day(day).await?;
                are_all &= is_whole || day > through;
            }
        }
        Ok(are_all)
    }

    async fn adopt_of_day(&self, day: Day) -> Result<bool, StoreError> {
        let names = self.disk.list(&self.paths.day(day)).await?;
        let mut is_whole = true;
        for segment in names.iter().filter_map(|name| parse_file_name(name)) {
            if self.state.borrow().segments.contains_key(&segment) {
                continue;
            }
            let index = SegmentIndex::open_valid(&self.disk, &self.paths, segment, day).await?;
            let Some(index) = index else {
                is_whole = false;
                continue;
            };
            let end = index.end();
            index.close().await?;
            self.note_indexed(EndedSegment { segment, day, end });
        }
        Ok(is_whole)
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
