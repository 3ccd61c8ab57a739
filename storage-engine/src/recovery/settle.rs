//! Makes what recovery found sound the state on disk: ends, index files, the catalog.
//!
//! It decides nothing, and runs only when everything has been found sound.
//!
//! Invariants: a segment is durable up to its end before its index file is written, index files
//! are before the catalog that covers their segments, and that is before anything sealed goes.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Judged, Recovery, RecoveryReport, TornTail, Verdict};
use crate::catalog::{Checkpoint, EndedSegment, checkpoint, remove_shards};
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::held::Needed;
use crate::key::SegmentId;
use crate::scan::Candidate;
use crate::segment::{Day, Paths, SegmentInfo, SegmentTable};

impl<D: Disk> Recovery<'_, D> {
    /// Brings the disk into the state that was found. Returns all segments that are left.
    pub(super) async fn settle(
        &mut self,
        judged: &[Judged],
        leftovers: &[PathBuf],
        report: &mut RecoveryReport,
    ) -> Result<SegmentTable, StoreError> {
        remove_spares(self.disk, self.paths).await?;
        for path in leftovers {
            match self.disk.remove(path).await {
                // An index file that was made anew had the same name on its way.
                Err(error) if !error.is_missing() => return Err(error.into()),
                _ => {}
            }
        }
        let mut segments = SegmentTable::default();
        if let Some((segment, day)) = self.notes.newest {
            segments.note_newest(segment, day);
        }
        for one in judged {
            self.settle_segment(one, &mut segments, report).await?;
        }
        while self.index_oldest().await? {}
        self.checkpoint(judged).await?;
        remove_shards(self.disk, self.paths).await?;
        self.unlink_sealed(judged, report).await?;
        Ok(segments)
    }

    async fn settle_segment(
        &self,
        one: &Judged,
        segments: &mut SegmentTable,
        report: &mut RecoveryReport,
    ) -> Result<(), StoreError> {
        let candidate = &one.candidate;
        if one.verdict == Verdict::Empty {
            self.disk.remove(&candidate.path).await?;
            self.disk.sync_dir(&self.paths.day(candidate.day)).await?;
            report.removed.push(candidate.path.clone());
            return Ok(());
        }
        if one.is_torn {
            report.torn.push(TornTail {
                path: candidate.path.clone(),
                end: one.end,
            });
        }
        if one.verdict == Verdict::Scanned || candidate.length > one.end {
            make_durable(self.disk, candidate, one.end).await?;
        }
        segments.note_newest(candidate.segment, candidate.day);
        if !self.is_sealed(candidate.day) {
            let info = SegmentInfo {
                day: candidate.day,
                end: Some(one.end),
            };
            segments.insert(candidate.segment, info);
            report.segments += 1;
            report.records += one.records;
            report.bytes += u64::from(one.end);
        }
        Ok(())
    }

    /// Makes the node's catalog cover every segment, unless it does.
    async fn checkpoint(&self, judged: &[Judged]) -> Result<(), StoreError> {
        let left = judged.iter().filter(|one| one.verdict != Verdict::Empty);
        let (sealed, unsealed): (Vec<&Judged>, Vec<&Judged>) =
            left.partition(|one| self.is_sealed(one.candidate.day));
        let gone = self.gone(judged);
        let both = sealed.iter().chain(&unsealed);
        let added = both.filter(|one| !one.is_covered());
        let mut add: Vec<EndedSegment> = added.map(|one| one.ended()).collect();
        add.sort_unstable_by_key(|ended| ended.segment);
        if self.has_base() && add.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let wanted = Checkpoint {
            goes_on: self.has_base(),
            add,
            gone,
        };
        checkpoint(self.disk, self.paths, &wanted).await
    }

    /// Segments of sealed days that the catalog names and that are not there any more. The others
    /// stay named until they have been removed for good: a segment that a crash brought back must
    /// not be counted twice.
    fn gone(&self, judged: &[Judged]) -> BTreeSet<SegmentId> {
        let is_there: BTreeSet<SegmentId> =
            judged.iter().map(|one| one.candidate.segment).collect();
        let named = self
            .notes
            .covered
            .iter()
            .flat_map(|covered| covered.values());
        named
            .filter(|ended| self.is_sealed(ended.day) && !is_there.contains(&ended.segment))
            .map(|ended| ended.segment)
            .collect()
    }

    /// Removes the segments of sealed days, and the days' directories.
    async fn unlink_sealed(
        &self,
        judged: &[Judged],
        report: &mut RecoveryReport,
    ) -> Result<(), StoreError> {
        let mut days: BTreeSet<Day> = BTreeSet::new();
        let needed = Needed::load(self.disk, self.paths).await?;
        for one in judged {
            let candidate = &one.candidate;
            if one.verdict == Verdict::Empty || !self.is_sealed(candidate.day) {
                continue;
            }
            // The segment first: an index file alone is a leftover, a segment alone is read.
            let (segment, day) = (candidate.segment, candidate.day);
            let retired = needed.retire(self.disk, self.paths, segment, day);
            retired.await?;
            let index = self.paths.index(candidate.segment, candidate.day);
            match self.disk.remove(&index).await {
                Err(error) if !error.is_missing() => return Err(error.into()),
                _ => {}
            }
            report.removed.push(candidate.path.clone());
            days.insert(candidate.day);
        }
        for day in days {
            self.disk.sync_dir(&self.paths.day(day)).await?;
            if self.disk.list(&self.paths.day(day)).await?.is_empty() {
                self.disk.remove_dir(&self.paths.day(day)).await?;
            }
        }
        Ok(())
    }
}

async fn remove_spares<D: Disk>(disk: &D, paths: &Paths) -> Result<(), StoreError> {
    for name in disk.list(&paths.spares()).await? {
        disk.remove(&paths.spares().join(name)).await?;
    }
    Ok(())
}

/// What survived a crash may so far only have reached the device's cache: it is synced before
/// anything is built on it.
pub(super) async fn make_durable<D: Disk>(
    disk: &D,
    candidate: &Candidate,
    end: u32,
) -> Result<(), StoreError> {
    let file = disk.open(&candidate.path).await?;
    if file.length().await? > end.into() {
        file.truncate(end.into()).await?;
    }
    file.sync().await?;
    file.close().await?;
    Ok(())
}
