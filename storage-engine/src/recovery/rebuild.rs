//! Makes index files anew that are missing or damaged, of segments that the catalog covers.
//!
//! It adds nothing to the table of channels: that began with the catalog, which has the records
//! of these segments.
//!
//! Invariants: an index file is made only of a segment that was read up to its recorded end, each
//! record of which follows its channel's last one and is known to the catalog; it links each
//! channel to the newest older place that has it, be it a segment or a sealed bucket.

use std::collections::{BTreeMap, BTreeSet};

use super::{Known, Recovery, Verdict};
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::format::RecordView;
use crate::hot::{HotSegment, Run};
use crate::index::{Break, Head};
use crate::key::{ChannelKey, SegmentId};
use crate::manifest::Manifest;
use crate::place::Place;
use crate::record::{Location, RecordKind, RecordMeta};
use crate::scan::Candidate;
use crate::sealed::{ChannelRun, Sealed};
use crate::segment_index::{SegmentIndex, write_index};

/// What one segment's records say. Of a channel that began before it only what follows is checked.
struct Rebuilding {
    hot: HotSegment,
    channels: BTreeMap<ChannelKey, Part>,
}

struct Part {
    slot: u32,
    /// Its `seq` is only a lower bound before the first message, which brings it.
    head: Head,
}

/// Where a channel goes on below a segment.
struct Links {
    prev: Place,
    prev_changes: Place,
}

impl<D: Disk> Recovery<'_, D> {
    /// Makes the index files anew that are not sound, directories included. The segments are all
    /// those of unsealed days that the catalog covers, in order of their numbers.
    pub(super) async fn rebuild_lost(
        &self,
        covered: &[&Candidate],
        judged: &mut BTreeMap<SegmentId, Known>,
    ) -> Result<(), StoreError> {
        for (at, candidate) in covered.iter().enumerate() {
            if !self.has_sound_directory(candidate).await? {
                let known = self.rebuild(candidate, &covered[..at]).await?;
                judged.insert(candidate.segment, known);
            }
        }
        Ok(())
    }

    /// The index files of all `older` segments are sound.
    async fn rebuild(
        &self,
        candidate: &Candidate,
        older: &[&Candidate],
    ) -> Result<Known, StoreError> {
        let mut hot = self.read_again(candidate).await?;
        self.link(&mut hot, older).await?;
        let file = self.disk.open(&candidate.path).await?;
        file.sync().await?;
        file.close().await?;
        write_index(self.disk, self.paths, &hot, "start").await?;
        Ok(Known {
            verdict: Verdict::Rebuilt,
            end: hot.end(),
            records: hot.records(),
            newest_ms: hot.newest_ms(),
        })
    }

    /// Reads a segment's records; none of its channels is linked to anything older yet.
    async fn read_again(&self, candidate: &Candidate) -> Result<HotSegment, StoreError> {
        let recorded_end = self.ends[&candidate.segment];
        let origin = candidate.origin().ok_or_else(|| StoreError::Corrupt {
            path: candidate.path.clone(),
            offset: 0,
            damage: Damage::BeforeRecordedEnd {
                lost: 0,
                recorded_end,
            },
        })?;
        let mut rebuilding = Rebuilding {
            hot: self.index.hot_segment(origin),
            channels: BTreeMap::new(),
        };
        let on_record = |record: RecordView<'_>, location: Location| {
            let meta = record.meta();
            let added = rebuilding.add(&meta, location, self.index.head(meta.channel));
            added.map_err(|broken| broken.at(meta.channel, &candidate.path, location.offset))
        };
        let scan = candidate.scan(self.disk, self.config, Some(recorded_end), on_record);
        let scanned = scan.await?;
        rebuilding.hot.finish(scanned.end);
        Ok(rebuilding.hot)
    }

    /// Links each channel to the newest older place that has it: that one tells the rest.
    async fn link(&self, hot: &mut HotSegment, older: &[&Candidate]) -> Result<(), StoreError> {
        let sorted = hot.sorted().into_iter();
        let mut open: BTreeSet<ChannelKey> = sorted.map(|(channel, _)| channel).collect();
        for candidate in older.iter().rev() {
            if open.is_empty() {
                return Ok(());
            }
            let (segment, day) = (candidate.segment, candidate.day);
            let index = SegmentIndex::open(self.disk, self.paths, segment, day).await?;
            let place = index.origin().place();
            let mut directory = index.directory();
            while let Some(found) = directory.next().await? {
                if open.remove(&found.channel) {
                    let links = Links::to_run(&found.run, place);
                    hot.link(found.channel, links.prev, links.prev_changes);
                }
            }
            index.close().await?;
        }
        self.link_sealed(hot, open).await
    }

    async fn link_sealed(
        &self,
        hot: &mut HotSegment,
        mut open: BTreeSet<ChannelKey>,
    ) -> Result<(), StoreError> {
        if !self.has_sealed_days() {
            return Ok(());
        }
        let manifest = Manifest::load(self.disk, self.paths).await?;
        for bucket in manifest.buckets.iter().rev() {
            if open.is_empty() {
                break;
            }
            let (first_day, last_day) = (bucket.first_day, bucket.last_day);
            let path = self.paths.bucket(bucket.number, first_day, last_day);
            let sealed = Sealed::open(self.disk, &path, Some(&bucket.identity())).await?;
            open.retain(|channel| {
                let Some(found) = sealed.find(*channel) else {
                    return true;
                };
                let first_seq = hot.run(*channel).map_or(0, |run| run.first_seq);
                let links = Links::to_sealed(&found, Place::sealed(last_day), first_seq);
                hot.link(*channel, links.prev, links.prev_changes);
                false
            });
        }
        Ok(())
    }
}

impl Links {
    fn to_run(run: &Run, place: Place) -> Self {
        Self {
            prev: if run.count > 0 { place } else { run.prev },
            prev_changes: if run.changes > 0 {
                place
            } else {
                run.prev_changes
            },
        }
    }

    /// `first_seq` is that of the first message above, 0 if there is none.
    fn to_sealed(run: &ChannelRun, place: Place, first_seq: u64) -> Self {
        let older = |day| match Place::sealed(day) {
            place if place.is_none() => Place::NONE,
            place => place,
        };
        // What lay between was kept no longer, and so is everything below.
        let is_cut = run.count > 0 && first_seq > 0 && run.seqs().end != first_seq;
        Self {
            prev: match run.count {
                _ if is_cut => Place::NONE,
                0 => older(run.prev_day),
                _ => place,
            },
            // Other changes are part of the messages that they are of.
            prev_changes: match run.changes_min_seq {
                0 => older(run.prev_changes_day),
                _ => place,
            },
        }
    }
}

impl Rebuilding {
    /// Adds the next record, if it follows and `known`, its channel's last numbers, has it.
    fn add(&mut self, record: &RecordMeta, location: Location, known: Head) -> Result<(), Break> {
        for (last, found) in [(known.rev, record.rev), (known.seq, record.seq)] {
            if found > last {
                let expected = last;
                return Err(Break::Number { expected, found });
            }
        }
        let hot = &mut self.hot;
        let part = self.channels.entry(record.channel).or_insert_with(|| Part {
            slot: hot.begin_run(record.channel, Place::NONE, Place::NONE),
            head: Head {
                rev: record.rev.saturating_sub(1),
                ..Head::default()
            },
        });
        part.expect(record);
        part.head.check(record)?;
        part.head.note(record);
        hot.insert(part.slot, record, location);
        Ok(())
    }
}

impl Part {
    /// Before the segment's first message of the channel any seq may come that no change here
    /// has passed.
    fn expect(&mut self, record: &RecordMeta) {
        let head = &mut self.head;
        if !head.last_message.is_zero() {
            return;
        }
        let is_message = record.kind == RecordKind::Create;
        let last = record.seq.saturating_sub(u64::from(is_message));
        head.seq = head.seq.max(last);
    }
}
