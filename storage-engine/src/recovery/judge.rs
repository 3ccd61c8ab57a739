//! Holds every segment against what is recorded of it, and brings the table of channels together:
//! from the catalog, from index files, and from records where there is no index.
//!
//! It changes nothing on disk, apart from index files: of segments that memory has no room for,
//! and of those that the catalog covers and whose own are lost.
//!
//! Invariants: segments are judged in the order of their numbers, in which channels go on; a
//! channel's numbers are dense from 1 over all of them.

use std::collections::BTreeMap;

use super::{Judged, Known, Recovery, Verdict};
use crate::catalog::{CatalogReader, node_path};
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::format::RecordView;
use crate::key::{ChannelKey, SegmentId};
use crate::record::Location;
use crate::scan::Candidate;
use crate::segment::Day;
use crate::segment_index::{IndexedRun, SegmentIndex, write_index};

impl<D: Disk> Recovery<'_, D> {
    pub(super) fn is_sealed(&self, day: Day) -> bool {
        day <= self.sealed_through
    }

    pub(super) fn has_sealed_days(&self) -> bool {
        self.sealed_through > Day(0)
    }

    /// Judges all segments in order of their numbers: in that order channels go on.
    pub(super) async fn judge_all(
        &mut self,
        candidates: Vec<Candidate>,
    ) -> Result<Vec<Judged>, StoreError> {
        if self.has_base() {
            self.load_base().await?;
        } else {
            self.require_no_sealed_days()?;
        }
        let mut covered = self.judge_covered(&candidates).await?;
        let mut judged = Vec::with_capacity(candidates.len());
        for candidate in candidates {
            let known = covered.remove(&candidate.segment);
            let one = match known {
                Some(known) => Judged {
                    candidate,
                    verdict: known.verdict,
                    end: known.end,
                    records: known.records,
                    newest_ms: known.newest_ms,
                    is_torn: false,
                },
                None => self.judge(candidate).await?,
            };
            self.nonces.note_newest(one.newest_ms);
            judged.push(one);
        }
        Ok(judged)
    }

    /// Judges the segments that the catalog covers. They must have valid index files, or pages
    /// could not be found in them: those that are lost are made anew.
    async fn judge_covered(
        &self,
        candidates: &[Candidate],
    ) -> Result<BTreeMap<SegmentId, Known>, StoreError> {
        let mut judged = BTreeMap::new();
        let mut unsealed = Vec::new();
        let mut is_any_lost = false;
        for candidate in candidates {
            let covered = self.notes.covered.as_ref();
            let Some(ended) = covered.and_then(|covered| covered.get(&candidate.segment)) else {
                continue;
            };
            if self.is_sealed(candidate.day) {
                judged.insert(candidate.segment, Known::covered(ended.end, 0, 0));
                continue;
            }
            require_length(candidate, ended.end)?;
            unsealed.push(candidate);
            let Some(index) = self.valid_index(candidate).await? else {
                is_any_lost = true;
                continue;
            };
            let known = Known::covered(ended.end, index.records(), index.newest_ms());
            judged.insert(candidate.segment, known);
            index.close().await?;
        }
        if is_any_lost {
            self.rebuild_lost(&unsealed, &mut judged).await?;
        }
        Ok(judged)
    }

    /// Without a catalog to begin with, everything must follow from the segments.
    fn require_no_sealed_days(&self) -> Result<(), StoreError> {
        if !self.has_sealed_days() {
            return Ok(());
        }
        Err(StoreError::CatalogMissing {
            path: node_path(self.paths),
        })
    }

    async fn load_base(&mut self) -> Result<(), StoreError> {
        let mut catalog = CatalogReader::open(self.disk, &node_path(self.paths)).await?;
        while let Some(entry) = catalog.next().await? {
            self.index.restore(&entry);
        }
        self.nonces.note_newest(self.notes.newest_ms);
        catalog.close().await
    }

    /// The index file of a segment, if it is this one's. Another end than the recorded one is an
    /// error: whichever of the two is wrong, nothing may be cut off by it.
    async fn valid_index(
        &self,
        candidate: &Candidate,
    ) -> Result<Option<SegmentIndex<D>>, StoreError> {
        let (segment, day) = (candidate.segment, candidate.day);
        let index = SegmentIndex::open_valid(self.disk, self.paths, segment, day).await?;
        let Some(index) = index else {
            return Ok(None);
        };
        let recorded_end = self.ends.get(&segment).copied();
        if candidate.origin() != Some(index.origin()) {
            index.close().await?;
            return Ok(None);
        }
        match recorded_end {
            Some(recorded_end) if recorded_end != index.end() => {
                let indexed_end = index.end();
                index.close().await?;
                Err(StoreError::Corrupt {
                    path: self.paths.index(segment, day),
                    offset: 0,
                    damage: Damage::EndsDiffer {
                        indexed_end,
                        recorded_end,
                    },
                })
            }
            _ => Ok(Some(index)),
        }
    }

    /// Whether a segment's index file is valid, and so is its directory.
    pub(super) async fn has_sound_directory(
        &self,
        candidate: &Candidate,
    ) -> Result<bool, StoreError> {
        let Some(index) = self.valid_index(candidate).await? else {
            return Ok(false);
        };
        let is_sound = all_runs(&index).await?.is_some();
        index.close().await?;
        Ok(is_sound)
    }

    /// Judges a segment that the base does not cover, and adds its records to the table.
    async fn judge(&mut self, candidate: Candidate) -> Result<Judged, StoreError> {
        if let Some(index) = self.valid_index(&candidate).await? {
            let end = index.end();
            require_length(&candidate, end)?;
            // Its header says so, whatever the rest of it is worth.
            self.ends.insert(candidate.segment, end);
            let runs = all_runs(&index).await?;
            let mut verdict = Verdict::Indexed;
            if let Some(runs) = &runs {
                let first = runs.first().map(|run| (run.channel, run.run.last_rev));
                if first.is_some_and(|(channel, rev)| self.is_known(&candidate, channel, rev)) {
                    verdict = Verdict::Covered;
                } else {
                    self.apply(&index, runs)?;
                }
            }
            let (records, newest_ms) = (index.records(), index.newest_ms());
            index.close().await?;
            if runs.is_some() {
                return Ok(Judged {
                    candidate,
                    verdict,
                    end,
                    records,
                    newest_ms,
                    is_torn: false,
                });
            }
        }
        self.scan(candidate).await
    }

    /// Whether the base already has this record, and with it all of its segment: a catalog does
    /// not name the segments of sealed days, but one may still be here after a crash.
    fn is_known(&self, candidate: &Candidate, channel: ChannelKey, rev: u64) -> bool {
        self.is_sealed(candidate.day) && rev <= self.index.head(channel).rev
    }

    fn apply(&mut self, index: &SegmentIndex<D>, runs: &[IndexedRun]) -> Result<(), StoreError> {
        let place = index.origin().place();
        for found in runs {
            let applied = self.index.apply(found.channel, &found.run, place);
            applied.map_err(|broken| index.broken(found.channel, broken))?;
        }
        Ok(())
    }

    /// Reads a segment's records one by one.
    async fn scan(&mut self, candidate: Candidate) -> Result<Judged, StoreError> {
        let recorded_end = self.ends.get(&candidate.segment).copied();
        if let Some(origin) = candidate.origin() {
            self.index.begin_segment(origin);
        }
        let is_sealed = self.is_sealed(candidate.day);
        let mut is_known = false;
        let (index, nonces) = (&mut self.index, &mut self.nonces);
        let on_record = |record: RecordView<'_>, location: Location| {
            let meta = record.meta();
            let head = index.head(meta.channel);
            // As in `is_known`, for a segment that has lost its index, too.
            is_known |= is_sealed && meta.rev <= head.rev;
            if is_known {
                return Ok(());
            }
            let checked = head.check(&meta);
            let checked =
                checked.map_err(|broken| broken.at(meta.channel, &candidate.path, location.offset));
            checked?;
            index.insert(&meta, location);
            nonces.add(&record);
            Ok(())
        };
        let scanned = candidate
            .scan(self.disk, self.config, recorded_end, on_record)
            .await?;
        let is_empty = scanned.records == 0 && recorded_end.is_none();
        if is_known || is_empty {
            self.index.forget_segment();
        } else {
            self.index.end_segment(scanned.end);
            self.limit_unindexed().await?;
        }
        let verdict = match (is_known, is_empty) {
            (true, _) => Verdict::Covered,
            (false, true) => Verdict::Empty,
            (false, false) => Verdict::Scanned,
        };
        Ok(Judged {
            candidate,
            verdict,
            end: scanned.end,
            records: scanned.records,
            newest_ms: 0,
            is_torn: scanned.is_torn,
        })
    }

    /// Keeps the memory of segments that are being indexed within its limit. Index files are the
    /// only thing that may be written before everything has been found sound: they only repeat
    /// what their segments say, and their segments are made durable first.
    async fn limit_unindexed(&mut self) -> Result<(), StoreError> {
        let unindexed = self.index.unindexed();
        if unindexed.len() < self.config.unindexed_segments_max {
            return Ok(());
        }
        for hot in unindexed {
            let path = self.paths.segment(hot.segment(), hot.day());
            let file = self.disk.open(&path).await?;
            file.sync().await?;
            file.close().await?;
            self.index_oldest().await?;
        }
        Ok(())
    }

    /// Writes the index file of the oldest segment that is still in memory; whether there was one.
    pub(super) async fn index_oldest(&mut self) -> Result<bool, StoreError> {
        let unindexed = self.index.unindexed();
        let Some(oldest) = unindexed.first() else {
            return Ok(false);
        };
        write_index(self.disk, self.paths, oldest, "start").await?;
        self.index.drop_hot(oldest.segment());
        Ok(true)
    }

    /// No channel may end below what a catalog remembers that was not the base.
    pub(super) fn check_against_catalogs(&self) -> Result<(), StoreError> {
        for (channel, seq, rev) in &self.notes.heads {
            self.check_head(*channel, *seq, *rev)?;
        }
        Ok(())
    }

    fn check_head(&self, channel: ChannelKey, seq: u64, rev: u64) -> Result<(), StoreError> {
        let recovered = self.index.head(channel);
        if recovered.seq >= seq && recovered.rev >= rev {
            return Ok(());
        }
        Err(StoreError::BelowCatalog {
            channel,
            recovered: recovered.seq,
            recorded: seq,
        })
    }

    /// Reads those segments again, as far as they were not read, whose records may be young
    /// enough for their nonces to matter: index files hold none.
    pub(super) async fn find_nonces(&mut self, judged: &[Judged]) -> Result<(), StoreError> {
        for one in judged.iter().rev() {
            let is_read = matches!(one.verdict, Verdict::Scanned | Verdict::Empty);
            if is_read || self.nonces.is_old(one.newest_ms) {
                continue;
            }
            let nonces = &mut self.nonces;
            let on_record = |record: RecordView<'_>, _| {
                nonces.add(&record);
                Ok(())
            };
            one.candidate
                .scan(self.disk, self.config, Some(one.end), on_record)
                .await?;
        }
        Ok(())
    }
}

/// All runs of an index file; `None` if its directory is damaged.
async fn all_runs<D: Disk>(index: &SegmentIndex<D>) -> Result<Option<Vec<IndexedRun>>, StoreError> {
    let mut runs = Vec::new();
    let mut directory = index.directory();
    loop {
        match directory.next().await {
            Ok(Some(run)) => runs.push(run),
            Ok(None) => return Ok(Some(runs)),
            Err(StoreError::Corrupt { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

fn require_length(candidate: &Candidate, end: u32) -> Result<(), StoreError> {
    if candidate.length >= end {
        return Ok(());
    }
    Err(StoreError::Corrupt {
        path: candidate.path.clone(),
        offset: candidate.length,
        damage: Damage::BeforeRecordedEnd {
            lost: 0,
            recorded_end: end,
        },
    })
}
