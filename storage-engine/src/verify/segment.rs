//! Checks one segment: its frames and records, how its channels go on, and its index file against
//! what was read.
//!
//! It builds the same index that a log does, and compares.
//!
//! Invariants: numbers are dense from a channel's first record in segments on; what comes before it
//! may have gaps only where days are sealed or a catalog was the beginning.

use std::collections::{HashMap, HashSet};

use super::{Check, Known, Report};
use crate::catalog::CatalogEntry;
use crate::disk::Disk;
use crate::error::{Damage, StoreError};
use crate::format::RecordView;
use crate::hot::HotSegment;
use crate::index::{Head, Index};
use crate::key::ChannelKey;
use crate::record::{Location, RecordKind, RecordMeta};
use crate::scan::Candidate;
use crate::segment::Day;
use crate::segment_index::{IndexedRun, SegmentIndex};

/// What is known of all channels while segments are walked.
pub(super) struct SegmentCheck {
    index: Index,
    sealed_through: Day,
    /// The days of the buckets that channels were last seen in.
    buckets: HashMap<ChannelKey, (Day, Day)>,
    /// Channels that went on in a segment: from here on without gaps.
    seen: HashSet<ChannelKey>,
    /// A segment could not be read to its end: channels may have gaps there.
    has_hole: bool,
}

impl SegmentCheck {
    pub(super) fn new(salt: u64, sealed_through: Day) -> Self {
        Self {
            index: Index::new(salt),
            sealed_through,
            buckets: HashMap::new(),
            seen: HashSet::new(),
            has_hole: false,
        }
    }

    /// Takes over what the buckets hold.
    pub(super) fn begin(&mut self, channels: &HashMap<ChannelKey, Known>) {
        for (channel, known) in channels {
            self.index.restore(&CatalogEntry {
                channel: *channel,
                head: known.head,
                newest: known.newest,
                newest_changes: known.newest_changes,
            });
            self.buckets
                .extend(known.bucket.map(|days| (*channel, days)));
        }
    }

    pub(super) fn head(&self, channel: ChannelKey) -> Head {
        self.index.head(channel)
    }

    /// Before a channel's first record in a segment: its head may be further than its records say.
    fn meet(&mut self, meta: &RecordMeta, is_catalogued: bool) {
        if !self.seen.insert(meta.channel) {
            return;
        }
        let may_skip = self.has_hole || is_catalogued;
        let may_differ = may_skip || self.sealed_through > Day(0);
        let mut head = self.index.head(meta.channel);
        if !may_differ || head.rev >= meta.rev {
            return;
        }
        let (newest, newest_changes) = self.index.newest(meta.channel);
        let is_create = meta.kind == RecordKind::Create;
        head.rev = meta.rev - 1;
        if is_create && (head.seq == 0 || may_skip) {
            head.seq = head.seq.max(meta.seq.saturating_sub(1));
        } else if !is_create {
            head.seq = head.seq.max(meta.seq);
        }
        self.index.restore(&CatalogEntry {
            channel: meta.channel,
            head,
            newest,
            newest_changes,
        });
    }
}

impl<D: Disk, R: Report> Check<'_, D, R> {
    pub(super) async fn segment(
        &mut self,
        check: &mut SegmentCheck,
        candidate: &Candidate,
        recorded_end: Option<u32>,
    ) {
        let Some(origin) = candidate.origin() else {
            // Without a valid opening there must be nothing that was acknowledged.
            let scanned = candidate.scan(self.disk, self.config, recorded_end, |_, _| Ok(()));
            let scanned = scanned.await.map(|_| ());
            self.file_done(&candidate.path, candidate.length.into(), scanned);
            return;
        };
        check.index.begin_segment(origin);
        let before = self.done;
        let (done, report, catalogued) = (&mut self.done, &mut *self.report, &self.catalogued);
        let mut read_to = 0;
        let on_record = |record: RecordView<'_>, location: Location| {
            let meta = record.meta();
            check.meet(&meta, catalogued.contains_key(&meta.channel));
            let checked = check.index.head(meta.channel).check(&meta);
            checked.map_err(|broken| broken.at(meta.channel, &candidate.path, location.offset))?;
            check.index.insert(&meta, location);
            read_to = location.offset + location.bytes;
            done.records += 1;
            if done.records.is_multiple_of(4096) {
                done.bytes = before.bytes + u64::from(location.offset);
                report.checked(done);
            }
            Ok(())
        };
        let scanned = candidate
            .scan(self.disk, self.config, recorded_end, on_record)
            .await;
        self.done.bytes = before.bytes;
        let is_whole = scanned.is_ok();
        let end = scanned.as_ref().map_or(read_to, |scanned| scanned.end);
        if end > 0 {
            check.index.end_segment(end);
        } else {
            check.index.forget_segment();
        }
        self.file_done(
            &candidate.path,
            candidate.length.into(),
            scanned.map(|_| ()),
        );
        for hot in check.index.filled() {
            if is_whole && let Err(error) = self.against_index(check, candidate, &hot).await {
                self.found(&self.paths.index(candidate.segment, candidate.day), error);
            }
            check.index.drop_hot(hot.segment());
        }
        if !is_whole {
            check.has_hole = true;
            check.seen.clear();
        }
    }

    /// The segment's index file, if there is one, against what was read.
    async fn against_index(
        &mut self,
        check: &SegmentCheck,
        candidate: &Candidate,
        hot: &HotSegment,
    ) -> Result<(), StoreError> {
        let (segment, day) = (candidate.segment, candidate.day);
        let index = match SegmentIndex::open(self.disk, &self.paths, segment, day).await {
            Err(StoreError::Disk(error)) if error.is_missing() => return Ok(()),
            opened => opened?,
        };
        let path = self.paths.index(segment, day);
        let differs = |damage| StoreError::Corrupt {
            path: path.clone(),
            offset: 0,
            damage,
        };
        let mut directory = index.directory();
        let mut runs = 0;
        while let Some(found) = directory.next().await? {
            runs += 1;
            if !is_same(&index, &found, hot).await? {
                return Err(differs(Damage::IndexContent));
            }
            let days = check.buckets.get(&found.channel).copied();
            let read = hot.run(found.channel).expect("compared just now");
            let is_sealed = |day: Day| day <= check.sealed_through;
            let was_dropped = read.prev.is_none() && is_sealed(found.run.prev.day);
            let is_linked = Known::is_linked_by(found.run.prev, read.prev, days);
            if !is_linked && !was_dropped {
                return Err(differs(Damage::Link));
            }
        }
        if runs != hot.sorted().len() || index.end() != hot.end() {
            return Err(differs(Damage::IndexContent));
        }
        index.close().await?;
        self.done.files += 1;
        Ok(())
    }
}

/// Whether an index file says of a channel what was read, but for where older records lie.
async fn is_same<D: Disk>(
    index: &SegmentIndex<D>,
    found: &IndexedRun,
    hot: &HotSegment,
) -> Result<bool, StoreError> {
    let Some(mut read) = hot.run(found.channel) else {
        return Ok(false);
    };
    (read.prev, read.prev_changes) = (found.run.prev, found.run.prev_changes);
    if found.run != read {
        return Ok(false);
    }
    let entries = index.entries(found, read.seqs()).await?;
    let changes = index.changes(found, 0..u64::MAX).await?;
    let mut read_changes = hot.changes(found.channel).to_vec();
    read_changes.sort_by_key(|change| (change.seq, change.rev));
    Ok(entries == hot.entries(found.channel) && changes == read_changes)
}
