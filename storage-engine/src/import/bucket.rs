//! A bucket that is being imported.
//!
//! It puts nothing in order: whoever exported it did.
//!
//! Invariants: what the writer of sealed segments would take for our own mistake is refused before
//! it gets there; a bucket's records follow those of the buckets before it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

use super::Refusal;
use crate::catalog::CatalogEntry;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::ChannelKey;
use crate::manifest::{Bucket, Manifest};
use crate::place::Place;
use crate::record::{Record, RecordKind};
use crate::sealed::{Samples, SealedOptions, SealedWriter, install};
use crate::segment::{Day, Paths};

/// How hard buckets are compressed.
const ZSTD_LEVEL: i32 = 3;

/// A bucket's file in the making.
pub(super) struct ImportedBucket<D: Disk> {
    writer: SealedWriter<D>,
    path: PathBuf,
    number: u32,
    first_day: Day,
    last_day: Day,
    samples: Option<Samples>,
    /// The channel that records are taken of, as it is behind the last one.
    current: Option<Current>,
    /// The channels before it.
    ended: Vec<CatalogEntry>,
}

#[derive(Clone, Copy)]
struct Current {
    entry: CatalogEntry,
    /// The channel's head before this bucket.
    rev_before: u64,
    seq_before: u64,
    last: (u64, u64),
    is_last_create: bool,
    messages: u64,
    orphans: u64,
}

impl<D: Disk> ImportedBucket<D> {
    pub(super) async fn begin(
        disk: &D,
        paths: &Paths,
        number: u32,
        (first_day, last_day): (Day, Day),
        dictionary: Option<Bytes>,
    ) -> Result<Self, StoreError> {
        let path = paths.bucket(number, first_day, last_day);
        let samples = dictionary.is_none().then(|| Samples::of(u64::MAX));
        let options = SealedOptions {
            number,
            first_day,
            last_day,
            dictionary,
            zstd_level: ZSTD_LEVEL,
        };
        Ok(Self {
            writer: SealedWriter::create(disk, &path, options).await?,
            path,
            number,
            first_day,
            last_day,
            samples,
            current: None,
            ended: Vec::new(),
        })
    }

    /// Takes the next record. `base` holds all channels as they were before this bucket.
    pub(super) async fn push(
        &mut self,
        record: &Record,
        base: &BTreeMap<ChannelKey, CatalogEntry>,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let current = self
            .current
            .filter(|current| current.entry.channel == record.channel);
        let is_new = current.is_none();
        let before = self.current.map(|current| current.entry.channel);
        if is_new && before > Some(record.channel) {
            return Ok(Err(Refusal::Order));
        }
        let mut next = current.unwrap_or_else(|| Current::begin(record.channel, base));
        if let Err(refusal) = next.take(record) {
            return Ok(Err(refusal));
        }
        if is_new {
            self.end_channel();
            let (prev, prev_changes) = next.links();
            self.writer
                .begin_channel(record.channel, prev, prev_changes);
        }
        self.current = Some(next);
        if let Some(samples) = &mut self.samples {
            samples.show(record);
        }
        self.writer.push(record).await?;
        Ok(Ok(()))
    }

    fn end_channel(&mut self) {
        if let Some(mut current) = self.current.take() {
            if current.messages > 0 {
                current.entry.newest = Place::sealed(self.last_day);
            }
            if current.orphans > 0 {
                current.entry.newest_changes = Place::sealed(self.last_day);
            }
            self.ended.push(current.entry);
        }
    }

    /// Completes the file and notes it. Returns a dictionary for the next one, if there was none.
    pub(super) async fn finish(
        mut self,
        disk: &D,
        manifest: &mut Manifest,
        base: &mut BTreeMap<ChannelKey, CatalogEntry>,
    ) -> Result<Option<Bytes>, StoreError> {
        self.end_channel();
        if self.ended.is_empty() {
            // A bucket without records is only a stretch of days.
            self.writer.abandon().await?;
            manifest.sealed_through = self.last_day;
            return Ok(None);
        }
        let summary = self.writer.finish().await?;
        install(disk, &self.path).await?;
        manifest.install(Bucket {
            number: self.number,
            first_day: self.first_day,
            last_day: self.last_day,
            bytes: summary.bytes,
            footer_crc: summary.footer_crc,
            messages: summary.messages,
            channels: summary.channels,
            erased_through: 0,
        });
        base.extend(self.ended.iter().map(|entry| (entry.channel, *entry)));
        Ok(self.samples.and_then(Samples::train))
    }
}

impl Current {
    fn begin(channel: ChannelKey, base: &BTreeMap<ChannelKey, CatalogEntry>) -> Self {
        let known = base.get(&channel).copied();
        let entry = known.unwrap_or_else(|| CatalogEntry::new(channel));
        Self {
            entry,
            rev_before: entry.head.rev,
            seq_before: entry.head.seq,
            last: (0, 0),
            is_last_create: false,
            messages: 0,
            orphans: 0,
        }
    }

    fn links(&self) -> (Day, Day) {
        (self.entry.newest.day, self.entry.newest_changes.day)
    }

    /// Moves behind a record, if it may come next.
    fn take(&mut self, record: &Record) -> Result<(), Refusal> {
        let is_create = record.kind == RecordKind::Create;
        let number = (record.seq, record.rev);
        // The deletion of an erased message may have its creation's rev.
        let is_deletion = record.kind == RecordKind::Delete && self.is_last_create;
        let rises = number > self.last || (is_deletion && number == self.last);
        let rises = rises && !(is_create && record.seq == self.last.0);
        if !rises || record.rev == 0 || record.seq == 0 {
            return Err(Refusal::Order);
        }
        if record.rev <= self.rev_before {
            return Err(Refusal::Number {
                expected: self.rev_before + 1,
                found: record.rev,
            });
        }
        let head = &mut self.entry.head;
        if is_create {
            let is_first_ever = self.messages == 0 && self.seq_before == 0;
            if !is_first_ever && record.seq != head.seq + 1 {
                return Err(Refusal::Number {
                    expected: head.seq + 1,
                    found: record.seq,
                });
            }
            if record.message <= head.last_message {
                return Err(Refusal::Key);
            }
            head.seq = record.seq;
            head.last_message = record.message;
            self.messages += 1;
        } else if self.messages > 0 {
            if record.seq != head.seq {
                return Err(Refusal::Order);
            }
        } else {
            self.orphans += 1;
        }
        head.rev = head.rev.max(record.rev);
        self.last = number;
        self.is_last_create = is_create;
        Ok(())
    }
}
