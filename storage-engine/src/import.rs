//! Takes what an export gave out into a store: buckets become buckets, records of segments are
//! appended to a log.
//!
//! It changes no number and no body. It fills an empty store, or goes on behind what a store
//! holds; it never puts anything in between.
//!
//! Invariants: a record is taken only if it follows what the store has of its channel, so what is
//! refused leaves no hole that is not reported; buckets count all at once, with the manifest;
//! nothing is complete before [`Importer::finish`] has returned.

mod bucket;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::rc::Rc;

use crate::catalog::{CatalogEntry, CatalogWriter, node_path};
use crate::config::StoreConfig;
use crate::disk::{Disk, StoreLock};
use crate::error::{CommitError, StoreError};
use crate::export::{Exported, ExportedHead};
use crate::format::FRAME_HEADER_BYTES;
use crate::index::{Break, Head, SharedIndex};
use crate::key::{ChannelKey, SegmentId};
use crate::log::{Log, LogPlace};
use crate::manifest::Manifest;
use crate::record::Record;
use crate::recovery::{Recovered, recover};
use crate::segment::{Day, Paths, SegmentTable};
use crate::segment_index::write_index;

use self::bucket::ImportedBucket;

/// Most records of a commit.
const COMMIT_RECORDS: usize = 256;

/// Why something was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Its number does not follow.
    #[error("the channel goes on with number {expected}, this one has {found}")]
    Number {
        /// The seq or rev that follows.
        expected: u64,
        /// The one found.
        found: u64,
    },
    /// Its key is not above the channel's last, or it changes a message that there is not.
    #[error("its key does not rise, or it changes a message that there is not")]
    Key,
    /// Records of a bucket rise by channel, seq and rev.
    #[error("records of a bucket rise by channel, seq and rev, changes behind their messages")]
    Order,
    /// It is longer than a record may be.
    #[error("it has {bytes} bytes, and {bytes_max} are allowed")]
    TooLong {
        /// Its length.
        bytes: u64,
        /// The longest that is allowed.
        bytes_max: u32,
    },
    /// Buckets go into an empty store, in order of their days, before everything else.
    #[error("buckets go into an empty store, in order of their days, before segments")]
    Bucket,
    /// Heads are set in a store that was empty, before the channel's first record in a segment.
    #[error("a head is set in a store that was empty, before the channel goes on in segments")]
    Head,
}

impl From<Break> for Refusal {
    fn from(broken: Break) -> Self {
        match broken {
            Break::Number { expected, found } => Self::Number { expected, found },
            Break::Key => Self::Key,
        }
    }
}

/// What was taken.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Imported {
    /// Records.
    pub records: u64,
    /// Buckets.
    pub buckets: u64,
}

/// A store that is being filled.
pub struct Importer<D: Disk> {
    disk: D,
    paths: Paths,
    config: StoreConfig,
    was_empty: bool,
    manifest: Manifest,
    bucket: Option<ImportedBucket<D>>,
    /// The channels that buckets and heads brought, as the catalog has to know them.
    base: BTreeMap<ChannelKey, CatalogEntry>,
    /// Channels with records in segments.
    in_segments: BTreeSet<ChannelKey>,
    /// Last numbers, where records wait to be committed.
    waiting_heads: BTreeMap<ChannelKey, Head>,
    waiting: Vec<Record>,
    waiting_bytes: u64,
    segments: SegmentTable,
    index: SharedIndex,
    log: Option<Log<D>>,
    dictionary: Option<bytes::Bytes>,
    done: Imported,
    lock: StoreLock,
}

impl<D: Disk> Importer<D> {
    /// Opens a store, or makes an empty one if its parent directory exists.
    ///
    /// # Errors
    /// As [`recover`].
    pub async fn open(disk: &D, root: &Path, config: &StoreConfig) -> Result<Self, StoreError> {
        let paths = Paths::new(root);
        let recovered = recover(disk, root, config).await?;
        let manifest = Manifest::load(disk, &paths).await?;
        crate::inspect::prepare(disk, root).await?;
        let Recovered {
            index,
            segments,
            lock,
            ..
        } = recovered;
        Ok(Self {
            disk: disk.clone(),
            paths,
            config: *config,
            was_empty: segments.is_empty() && manifest == Manifest::default(),
            manifest,
            bucket: None,
            base: BTreeMap::new(),
            in_segments: BTreeSet::new(),
            waiting_heads: BTreeMap::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            segments,
            index: Rc::new(RefCell::new(index)),
            log: None,
            dictionary: None,
            done: Imported::default(),
            lock,
        })
    }

    /// Takes the next thing of an export, or says why not; then it is left out.
    ///
    /// # Errors
    /// If the disk fails: the store is then not complete, and nothing more can be taken.
    pub async fn push(&mut self, item: Exported) -> Result<Result<(), Refusal>, StoreError> {
        match item {
            Exported::Bucket {
                first_day,
                last_day,
            } => self.begin_bucket(first_day, last_day).await,
            Exported::Segments => {
                self.end_bucket().await?;
                self.begin_log().await?;
                Ok(Ok(()))
            }
            Exported::Head { channel, head } => {
                self.end_bucket().await?;
                Ok(self.set_head(channel, head))
            }
            Exported::Record(record) => {
                if record.bytes() > self.config.record_bytes_max.into() {
                    let bytes_max = self.config.record_bytes_max;
                    let bytes = record.bytes();
                    return Ok(Err(Refusal::TooLong { bytes, bytes_max }));
                }
                let taken = match &mut self.bucket {
                    Some(bucket) => bucket.push(&record, &self.base).await?,
                    None => self.append(record).await?,
                };
                self.done.records += u64::from(taken.is_ok());
                Ok(taken)
            }
        }
    }

    /// Ends the import: from here on the store is one like any other.
    ///
    /// # Errors
    /// If the disk fails: the store is then not complete.
    pub async fn finish(mut self) -> Result<Imported, StoreError> {
        self.end_bucket().await?;
        self.flush().await?;
        if let Some(log) = self.log.take() {
            log.close().await?;
            self.index_ended().await?;
        }
        if !self.manifest.buckets.is_empty() && self.was_empty {
            let stored = self.manifest.store(&self.disk, &self.paths).await;
            stored.map_err(|unstored| unstored.error)?;
        }
        if !self.base.is_empty() {
            self.store_catalog().await?;
        }
        drop(self.lock);
        Ok(self.done)
    }

    async fn begin_bucket(
        &mut self,
        first_day: Day,
        last_day: Day,
    ) -> Result<Result<(), Refusal>, StoreError> {
        self.end_bucket().await?;
        let is_next = first_day <= last_day && first_day > self.manifest.sealed_through;
        if !self.was_empty || self.log.is_some() || !is_next {
            return Ok(Err(Refusal::Bucket));
        }
        let number = self.manifest.next_number;
        self.manifest.next_number += 1;
        let dictionary = self.dictionary.clone();
        let begun = ImportedBucket::begin(
            &self.disk,
            &self.paths,
            number,
            (first_day, last_day),
            dictionary,
        );
        self.bucket = Some(begun.await?);
        Ok(Ok(()))
    }

    async fn end_bucket(&mut self) -> Result<(), StoreError> {
        let Some(bucket) = self.bucket.take() else {
            return Ok(());
        };
        let trained = bucket
            .finish(&self.disk, &mut self.manifest, &mut self.base)
            .await?;
        self.dictionary = self.dictionary.take().or(trained);
        self.done.buckets += 1;
        Ok(())
    }

    fn set_head(&mut self, channel: ChannelKey, head: ExportedHead) -> Result<(), Refusal> {
        let is_begun = self.in_segments.contains(&channel);
        let entry = self.base.get(&channel).copied();
        let mut entry = entry.unwrap_or_else(|| CatalogEntry::new(channel));
        let is_back = head.seq < entry.head.seq || head.rev < entry.head.rev;
        if !self.was_empty || is_begun || is_back {
            return Err(Refusal::Head);
        }
        entry.head = Head {
            seq: head.seq,
            rev: head.rev,
            last_message: head.last_message.max(entry.head.last_message),
        };
        self.base.insert(channel, entry);
        if self.log.is_some() {
            self.index.borrow_mut().restore(&entry);
        }
        Ok(())
    }

    /// Opens the log behind all that was taken before.
    async fn begin_log(&mut self) -> Result<(), StoreError> {
        if self.log.is_some() {
            return Ok(());
        }
        for entry in self.base.values() {
            self.index.borrow_mut().restore(entry);
        }
        let place = LogPlace {
            shard: 0,
            shards: 1,
            sealed_through: self.manifest.sealed_through,
        };
        let log = Log::open(
            self.disk.clone(),
            self.paths.root(),
            self.config,
            place,
            &self.segments,
            Rc::clone(&self.index),
            0,
        );
        self.log = Some(log.await?);
        Ok(())
    }

    /// Takes a record that goes into a segment.
    async fn append(&mut self, record: Record) -> Result<Result<(), Refusal>, StoreError> {
        self.begin_log().await?;
        let known = self.waiting_heads.get(&record.channel).copied();
        let mut head = known.unwrap_or_else(|| self.index.borrow().head(record.channel));
        if let Err(broken) = head.check(&record.meta()) {
            return Ok(Err(broken.into()));
        }
        let day_of = |record: &Record| Day::of_ms(record.message.timestamp_ms());
        let is_other_day =
            (self.waiting.last()).is_some_and(|last| day_of(last) != day_of(&record));
        let bytes = self.waiting_bytes + record.bytes() + u64::from(FRAME_HEADER_BYTES);
        let is_full =
            self.waiting.len() >= COMMIT_RECORDS || bytes > self.config.commit_bytes_max.into();
        if is_other_day || is_full {
            self.flush().await?;
        }
        head.note(&record.meta());
        self.waiting_heads.insert(record.channel, head);
        self.in_segments.insert(record.channel);
        self.waiting_bytes += record.bytes();
        self.waiting.push(record);
        Ok(Ok(()))
    }

    async fn flush(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.waiting.last() else {
            return Ok(());
        };
        let now_ms = last.message.timestamp_ms();
        let log = self.log.as_mut().expect("records wait for an open log");
        let committed = log.commit(now_ms, &self.waiting).await;
        committed.map_err(|error| match error {
            CommitError::Full(error) | CommitError::Poisoned(error) => error,
        })?;
        log.upkeep().run().await?;
        self.waiting.clear();
        self.waiting_bytes = 0;
        self.waiting_heads.clear();
        self.index_ended().await
    }

    /// Writes the index files of segments that have ended.
    async fn index_ended(&self) -> Result<(), StoreError> {
        let ended = self.index.borrow_mut().filled();
        for hot in ended {
            write_index(&self.disk, &self.paths, &hot, "import").await?;
            self.index.borrow_mut().drop_hot(hot.segment());
        }
        Ok(())
    }

    /// Writes the catalog that recovery begins with: what is known of channels before segments.
    async fn store_catalog(&self) -> Result<(), StoreError> {
        let path = node_path(&self.paths);
        let mut writer = CatalogWriter::create(&self.disk, &path, &[]).await?;
        let newest = self.base.values().map(|entry| entry.head.last_message);
        let newest_ms = newest.map(|message| message.timestamp_ms()).max();
        let sealed_through = self.manifest.sealed_through;
        writer.note_newest(newest_ms.unwrap_or(0), SegmentId(0), sealed_through);
        for entry in self.base.values() {
            writer.push(entry).await?;
        }
        writer.finish().await
    }
}
