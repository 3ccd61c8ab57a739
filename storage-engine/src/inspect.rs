//! What a store consists of, for people and programs that ask.
//!
//! It changes nothing and reads no records; `verify` does.
//!
//! Invariants: everything is counted from the files themselves and what they say of themselves.

use std::path::Path;

use crate::config::StoreConfig;
use crate::consumer::{ConsumerName, Consumers};
use crate::dead_letter::DeadLetters;
use crate::disk::{Disk, StoreLock};
use crate::error::StoreError;
use crate::key::SegmentId;
use crate::manifest::Manifest;
use crate::segment::{Day, Paths};
use crate::survey::Survey;

/// One segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentView {
    /// Its number.
    pub segment: SegmentId,
    /// Its day.
    pub day: Day,
    /// Length of its file, in bytes.
    pub bytes: u64,
    /// Where its frames end, in bytes, if that is recorded.
    pub end: Option<u32>,
    /// Its day is sealed: it is kept for a consumer, or about to be removed.
    pub is_sealed: bool,
}

/// One sealed bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BucketView {
    /// Its number.
    pub number: u32,
    /// The first day that it covers.
    pub first_day: Day,
    /// The last day that it covers.
    pub last_day: Day,
    /// Length of its file, in bytes.
    pub bytes: u64,
    /// Messages in it.
    pub messages: u64,
    /// Channels in it.
    pub channels: u64,
}

/// One consumer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerView {
    /// Its name.
    pub name: ConsumerName,
    /// Its dead letters.
    pub dead_letters: usize,
    /// Segments up to this one were removed before it had read them.
    pub lost: Option<SegmentId>,
}

/// A whole store.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Inspection {
    /// In order of their numbers.
    pub segments: Vec<SegmentView>,
    /// In order of their days.
    pub buckets: Vec<BucketView>,
    /// In order of their names.
    pub consumers: Vec<ConsumerView>,
    /// Channels that the catalog knows.
    pub channels: u64,
    /// Days before this one were dropped; `None` if nothing was.
    pub retained_from: Option<Day>,
    /// Days up to this one are sealed; `None` if none is.
    pub sealed_through: Option<Day>,
    /// Erasures that are not yet done everywhere.
    pub pending_erasures: usize,
}

/// Takes a store for a tool, which then is the only one that uses it.
///
/// # Errors
/// [`StoreError::Locked`] if a server, or another tool, uses it.
pub async fn lock<D: Disk>(disk: &D, root: &Path) -> Result<StoreLock, StoreError> {
    disk.lock(&Paths::new(root).lock()).await
}

/// Makes the directories of a store that an older version left, or that is new.
///
/// # Errors
/// If the disk fails.
pub async fn prepare<D: Disk>(disk: &D, root: &Path) -> Result<(), StoreError> {
    let paths = Paths::new(root);
    let directories = [
        paths.segments(),
        paths.spares(),
        paths.catalogs(),
        paths.manifests(),
        paths.sealed(),
        paths.consumers(),
        paths.dead_letters(),
    ];
    for directory in directories {
        disk.create_dir(&directory).await?;
    }
    disk.sync_dir(paths.root()).await?;
    Ok(())
}

/// Looks at a store whose directories are there.
///
/// # Errors
/// If the disk fails, or what describes the store is damaged.
pub async fn inspect<D: Disk>(
    disk: &D,
    root: &Path,
    config: &StoreConfig,
) -> Result<Inspection, StoreError> {
    let paths = Paths::new(root);
    let manifest = Manifest::load(disk, &paths).await?;
    let survey = Survey::of(disk, &paths, &manifest).await?;
    let mut segments: Vec<SegmentView> = Vec::new();
    for candidate in survey.sealed().chain(survey.live()) {
        segments.push(SegmentView {
            segment: candidate.segment,
            day: candidate.day,
            bytes: candidate.length.into(),
            end: survey.recorded_end(candidate.segment),
            is_sealed: candidate.day <= manifest.sealed_through,
        });
    }
    segments.sort_unstable_by_key(|segment| segment.segment);
    let buckets = manifest.buckets.iter().map(|bucket| BucketView {
        number: bucket.number,
        first_day: bucket.first_day,
        last_day: bucket.last_day,
        bytes: bucket.bytes,
        messages: bucket.messages,
        channels: bucket.channels,
    });
    let some = |day: Day| (day != Day(0)).then_some(day);
    Ok(Inspection {
        segments,
        buckets: buckets.collect(),
        consumers: consumers(disk, root, config).await?,
        channels: survey.heads(disk, &paths).await?.len() as u64,
        retained_from: some(manifest.retained_from),
        sealed_through: some(manifest.sealed_through),
        pending_erasures: manifest.erasures.len(),
    })
}

async fn consumers<D: Disk>(
    disk: &D,
    root: &Path,
    config: &StoreConfig,
) -> Result<Vec<ConsumerView>, StoreError> {
    let known = Consumers::load(disk, root, config).await?;
    let mut found = Vec::new();
    for name in known.names() {
        let dead = DeadLetters::open(disk, root, &name, config.consumers).await?;
        found.push(ConsumerView {
            dead_letters: dead.len(),
            lost: known.lost(&name),
            name,
        });
    }
    Ok(found)
}
