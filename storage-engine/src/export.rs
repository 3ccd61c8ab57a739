//! Everything that a store holds, record by record, for whoever keeps or moves it: sealed buckets
//! in order of their days, then the segments in order of their numbers.
//!
//! It changes nothing, holds no records back, and looks into no body.
//!
//! Invariants: a channel's messages come in order; a bucket's records come in the order that it
//! holds them in, between its announcement and the next one; a head is told wherever the records
//! alone would not lead to it, so that an importer that follows knows the same numbers.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::config::StoreConfig;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::{ChannelKey, MessageKey};
use crate::manifest::{Bucket, Manifest};
use crate::record::{Record, RecordKind};
use crate::sealed::{Sealed, SealedStream};
use crate::segment::{Day, Paths};
use crate::survey::Survey;

/// What to export.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ExportFilter {
    /// One channel only.
    pub channel: Option<ChannelKey>,
    /// Nothing stored before this day.
    pub from: Option<Day>,
    /// Nothing stored after this day.
    pub to: Option<Day>,
}

/// The last numbers of a channel, where the records that were exported do not say them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ExportedHead {
    /// Last seq.
    pub seq: u64,
    /// Last rev.
    pub rev: u64,
    /// The newest message; zero if none is known.
    pub last_message: MessageKey,
}

/// One thing exported.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Exported {
    /// The records that follow lie in a sealed bucket of these days, both included.
    Bucket {
        /// The first day.
        first_day: Day,
        /// The last day.
        last_day: Day,
    },
    /// The records that follow lie in segments.
    Segments,
    /// A channel has come to these numbers.
    Head {
        /// The channel.
        channel: ChannelKey,
        /// Its last numbers.
        head: ExportedHead,
    },
    /// A record.
    Record(Record),
}

/// How much of the store an export has gone through.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Exporting {
    /// Bytes of files read.
    pub bytes: u64,
    /// Bytes of all files that are to be read.
    pub bytes_total: u64,
    /// Records exported.
    pub records: u64,
}

/// Exports a store that nobody else uses. `sink` gets everything in order, and may fail.
///
/// # Errors
/// If the disk fails, something is damaged, or `sink` fails.
pub async fn export<D: Disk, E: From<StoreError>>(
    disk: &D,
    root: &Path,
    config: &StoreConfig,
    filter: &ExportFilter,
    sink: impl FnMut(Exported, &Exporting) -> Result<(), E>,
) -> Result<Exporting, E> {
    let paths = Paths::new(root);
    let manifest = Manifest::load(disk, &paths).await?;
    let survey = Survey::of(disk, &paths, &manifest).await?;
    let mut run = Export {
        filter: *filter,
        told: HashMap::new(),
        done: Exporting::default(),
        sink,
    };
    let buckets = manifest
        .buckets
        .iter()
        .filter(|bucket| run.wants_bucket(bucket));
    let buckets: Vec<Bucket> = buckets.copied().collect();
    let segments: Vec<_> = survey.live().filter(|one| run.wants_day(one.day)).collect();
    run.done.bytes_total = buckets.iter().map(|bucket| bucket.bytes).sum::<u64>()
        + segments
            .iter()
            .map(|one| u64::from(one.length))
            .sum::<u64>();
    for bucket in &buckets {
        run.bucket(disk, &paths, bucket).await?;
    }
    if !segments.is_empty() {
        run.give(Exported::Segments)?;
    }
    for candidate in &segments {
        let end = survey.recorded_end(candidate.segment);
        let before = run.done.bytes;
        let mut failed = None;
        let scanned = candidate.scan(disk, config, end, |record, location| {
            run.done.bytes = before + u64::from(location.offset);
            match run.segment_record(record.to_record()) {
                Ok(()) => Ok(()),
                Err(error) => {
                    failed = Some(error);
                    Err(StoreError::Poisoned)
                }
            }
        });
        let scanned = scanned.await;
        if let Some(error) = failed {
            return Err(error);
        }
        scanned?;
        run.done.bytes = before + u64::from(candidate.length);
    }
    run.last_heads(disk, &paths, &survey).await?;
    Ok(run.done)
}

struct Export<S> {
    filter: ExportFilter,
    /// What an importer that has followed so far takes for each channel's head.
    told: HashMap<ChannelKey, ExportedHead>,
    done: Exporting,
    sink: S,
}

impl<S, E: From<StoreError>> Export<S>
where
    S: FnMut(Exported, &Exporting) -> Result<(), E>,
{
    fn wants_day(&self, day: Day) -> bool {
        self.filter.from.is_none_or(|from| from <= day) && self.filter.to.is_none_or(|to| day <= to)
    }

    fn wants_bucket(&self, bucket: &Bucket) -> bool {
        self.filter.from.is_none_or(|from| from <= bucket.last_day)
            && self.filter.to.is_none_or(|to| bucket.first_day <= to)
    }

    fn wants(&self, channel: ChannelKey) -> bool {
        self.filter.channel.is_none_or(|wanted| wanted == channel)
    }

    fn give(&mut self, item: Exported) -> Result<(), E> {
        (self.sink)(item, &self.done)
    }

    async fn bucket<D: Disk>(&mut self, disk: &D, paths: &Paths, bucket: &Bucket) -> Result<(), E> {
        let path = paths.bucket(bucket.number, bucket.first_day, bucket.last_day);
        let sealed = Sealed::open(disk, &path, Some(&bucket.identity())).await?;
        if let Some(channel) = self.filter.channel
            && sealed.find(channel).is_none()
        {
            self.done.bytes += bucket.bytes;
            return Ok(());
        }
        self.give(Exported::Bucket {
            first_day: bucket.first_day,
            last_day: bucket.last_day,
        })?;
        let before = self.done.bytes;
        let mut stream = SealedStream::open(disk, Arc::clone(&sealed)).await?;
        while let Some(record) = stream.next().await? {
            let share = u128::from(bucket.bytes) * u128::from(stream.blocks_read());
            let share = share / u128::from(sealed.block_count().max(1));
            self.done.bytes = before + u64::try_from(share).unwrap_or(bucket.bytes);
            let day = Day::of_ms(record.message.timestamp_ms());
            let day = day.clamp(bucket.first_day, bucket.last_day);
            if self.wants(record.channel) && self.wants_day(day) {
                self.note(&record);
                self.record(record)?;
            }
        }
        stream.close().await?;
        self.done.bytes = before + bucket.bytes;
        Ok(())
    }

    /// A record of a segment follows its channel's head without a gap: where it does not follow
    /// what was told, the head before it is told first.
    fn segment_record(&mut self, record: Record) -> Result<(), E> {
        if !self.wants(record.channel) {
            return Ok(());
        }
        let told = self.told.get(&record.channel).copied().unwrap_or_default();
        let is_create = record.kind == RecordKind::Create;
        let seq = match is_create {
            true => record.seq.saturating_sub(1),
            false => told.seq.max(record.seq),
        };
        let before = ExportedHead {
            seq,
            rev: record.rev.saturating_sub(1),
            last_message: told.last_message,
        };
        if before != told {
            let channel = record.channel;
            self.told.insert(channel, before);
            self.give(Exported::Head {
                channel,
                head: before,
            })?;
        }
        self.note(&record);
        self.record(record)
    }

    /// Heads that no record leads to: the last changes of these channels count no more.
    async fn last_heads<D: Disk>(
        &mut self,
        disk: &D,
        paths: &Paths,
        survey: &Survey,
    ) -> Result<(), E> {
        if self.filter.to.is_some() {
            return Ok(());
        }
        for (channel, head) in survey.heads(disk, paths).await? {
            let told = self.told.get(&channel).copied().unwrap_or_default();
            if self.wants(channel) && (head.seq > told.seq || head.rev > told.rev) {
                self.give(Exported::Head { channel, head })?;
            }
        }
        Ok(())
    }

    fn note(&mut self, record: &Record) {
        let told = self.told.entry(record.channel).or_default();
        told.rev = told.rev.max(record.rev);
        if record.kind == RecordKind::Create {
            told.seq = told.seq.max(record.seq);
            told.last_message = told.last_message.max(record.message);
        }
    }

    fn record(&mut self, record: Record) -> Result<(), E> {
        self.done.records += 1;
        self.give(Exported::Record(record))
    }
}
