//! Checks one sealed bucket: its bytes, by reading all of them, and how its channels go on from
//! the buckets before it.
//!
//! It looks into no segment.
//!
//! Invariants: a channel's messages are dense over all buckets that still hold it; its link to
//! older messages leads to the bucket that holds them.

use std::path::Path;
use std::sync::Arc;

use super::{Check, Known, Report};
use crate::disk::Disk;
use crate::error::{Damage, StoreError};
use crate::index::Head;
use crate::key::ChannelKey;
use crate::manifest::Bucket;
use crate::place::Place;
use crate::record::{Record, RecordKind};
use crate::sealed::{ChannelRun, Sealed, SealedIdentity, SealedStream};

impl<D: Disk, R: Report> Check<'_, D, R> {
    pub(super) async fn bucket(&mut self, bucket: &Bucket) {
        let path = self
            .paths
            .bucket(bucket.number, bucket.first_day, bucket.last_day);
        let before = self.done.bytes;
        let checked = self.read_bucket(bucket, &path).await;
        self.done.bytes = before;
        self.file_done(&path, bucket.bytes, checked);
    }

    async fn read_bucket(&mut self, bucket: &Bucket, path: &Path) -> Result<(), StoreError> {
        let identity = SealedIdentity {
            number: bucket.number,
            bytes: bucket.bytes,
            footer_crc: bucket.footer_crc,
        };
        let sealed = Sealed::open(self.disk, path, Some(&identity)).await?;
        for run in sealed.channels() {
            if !sealed.may_contain(run.channel) {
                self.found(path, misplaced(path, Damage::SealedIndex));
            }
            self.links(bucket, &run, path);
        }
        let blocks = u64::from(sealed.block_count().max(1));
        let before = self.done.bytes;
        let mut stream = SealedStream::open(self.disk, Arc::clone(&sealed)).await?;
        let mut channel: Option<(ChannelKey, Head)> = None;
        while let Some(record) = stream.next().await? {
            let is_new = channel.is_none_or(|(channel, _)| channel != record.channel);
            if is_new {
                let known = self.channels.entry(record.channel).or_default();
                channel = Some((record.channel, known.head));
            }
            let (_, start) = channel.expect("set with the channel's first record");
            self.sealed_record(bucket, start, &record, path);
            self.done.records += 1;
            if self.done.records.is_multiple_of(4096) {
                let share = u64::from(stream.blocks_read()) * bucket.bytes / blocks;
                self.done.bytes = before + share;
                self.report.checked(&self.done);
            }
        }
        stream.close().await
    }

    /// Where a channel's older records lie, by its run, against where they were seen.
    fn links(&mut self, bucket: &Bucket, run: &ChannelRun, path: &Path) {
        let known = self.channels.get(&run.channel).copied().unwrap_or_default();
        let leads_back = run.prev_day < bucket.first_day && run.prev_changes_day < bucket.first_day;
        let is_found = known
            .bucket
            .is_none_or(|(first, last)| (first..=last).contains(&run.prev_day));
        if !leads_back || !is_found {
            self.found(path, misplaced(path, Damage::Link));
        }
    }

    /// One record against what came before it. The order inside the bucket was checked by the
    /// stream; `start` is the channel's head before this bucket.
    fn sealed_record(&mut self, bucket: &Bucket, start: Head, record: &Record, path: &Path) {
        let known = self.channels.entry(record.channel).or_default();
        let (mut expected, mut is_broken) = (0, false);
        if record.rev <= start.rev {
            (expected, is_broken) = (start.rev + 1, true);
        }
        if record.kind == RecordKind::Create {
            if known.head.seq > 0 && record.seq != known.head.seq + 1 {
                (expected, is_broken) = (known.head.seq + 1, true);
            }
            is_broken |= record.message <= known.head.last_message;
            known.head.seq = record.seq;
            known.head.last_message = record.message;
            known.newest = Place::sealed(bucket.last_day);
            known.bucket = Some((bucket.first_day, bucket.last_day));
        } else {
            known.newest_changes = Place::sealed(bucket.last_day);
        }
        known.head.rev = known.head.rev.max(record.rev);
        if is_broken {
            let reason = StoreError::SeqBreak {
                channel: record.channel,
                expected,
                found: if expected == start.rev + 1 {
                    record.rev
                } else {
                    record.seq
                },
                path: path.to_path_buf(),
                offset: 0,
            };
            self.found(path, reason);
        }
    }
}

impl Known {
    /// Whether a link that was made before a day was sealed leads to where this says.
    pub(super) fn is_linked_by(
        link: Place,
        place: Place,
        bucket: Option<(crate::segment::Day, crate::segment::Day)>,
    ) -> bool {
        if link == place {
            return true;
        }
        match bucket {
            Some((first, last)) => place.segment.0 == 0 && (first..=last).contains(&link.day),
            None => false,
        }
    }
}

fn misplaced(path: &Path, damage: Damage) -> StoreError {
    StoreError::Corrupt {
        path: path.to_path_buf(),
        offset: 0,
        damage,
    }
}
