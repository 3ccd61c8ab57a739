//! Opens a data directory: locks it, checks every segment against what is recorded of it, and
//! rebuilds the index.
//!
//! It repairs nothing before everything has been found sound, and then only cuts off what was
//! never acknowledged.
//!
//! Invariants: after it returns, every segment is durable up to its end, and that end is
//! recorded; logs go on in fresh segments; a channel's records are dense from 1.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::catalog::Catalog;
use crate::config::StoreConfig;
use crate::disk::{Disk, DiskFile, StoreLock};
use crate::error::{Damage, StoreError};
use crate::format::RecordView;
use crate::index::Index;
use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey, SegmentId};
use crate::record::Location;
use crate::scan::{Candidate, Scanned};
use crate::segment::{Day, Paths, SegmentInfo, SegmentTable, parse_file_name};

/// A record that is young enough for its nonce to matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecentNonce {
    /// The channel.
    pub channel: ChannelKey,
    /// Who wrote it.
    pub author: AuthorKey,
    /// The writer's mark.
    pub nonce: NonceKey,
    /// The message.
    pub message: MessageKey,
    /// Its place among the channel's messages.
    pub seq: u64,
}

/// A write that was cut short by a crash. Nobody was told that it had succeeded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TornTail {
    /// The file.
    pub path: PathBuf,
    /// Where the valid frames end, in bytes; the rest was cut off.
    pub end: u32,
}

/// What recovery saw and did.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct RecoveryReport {
    /// Segments with records.
    pub segments: usize,
    /// Records in them.
    pub records: u64,
    /// Bytes of their valid frames.
    pub bytes: u64,
    /// Writes that were cut short, now cut off.
    pub torn: Vec<TornTail>,
    /// Segments without any record, now removed.
    pub removed: Vec<PathBuf>,
}

/// An opened data directory.
#[derive(Debug)]
pub struct Recovered {
    /// Every message of every channel.
    pub index: Index,
    /// The newest message's time, in milliseconds since 1970; 0 if there is none.
    pub newest_ms: u64,
    /// All segments.
    pub segments: SegmentTable,
    /// Records within the configured time before the newest one, if they carry a nonce.
    pub recent: Vec<RecentNonce>,
    /// What was seen and done.
    pub report: RecoveryReport,
    /// Keeps other processes out; to be held for as long as the store is used.
    pub lock: StoreLock,
}

/// Opens the data directory `root`, creating it if its parent exists. To be called once, before
/// any log is opened.
///
/// # Errors
/// [`StoreError::Locked`] if another process has it. [`StoreError::Corrupt`] and its relatives if
/// something that was acknowledged is damaged or missing: nothing was changed then, and what is
/// named must be restored from a copy.
///
/// # Panics
/// If the limits contradict each other.
pub async fn recover<D: Disk>(
    disk: &D,
    root: &Path,
    config: &StoreConfig,
) -> Result<Recovered, StoreError> {
    config.assert_consistent();
    let paths = Paths::new(root);
    create_root(disk, paths.root()).await?;
    let lock = disk.lock(&paths.lock()).await?;
    create_directories(disk, &paths).await?;
    let catalog = Catalog::load(disk, &paths).await?;
    let candidates = examine_all(disk, &paths).await?;
    let ends = recorded_ends(&catalog, &candidates, &paths)?;
    let mut found = Collector::new(config.recent_ms);
    let mut scans = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        let end = ends.get(&candidate.segment).copied();
        let scanned = candidate
            .scan(disk, config, end, |record, location| {
                found.add(&record, location, &candidate)
            })
            .await?;
        scans.push((candidate, scanned, end));
    }
    check_against_catalog(&found.index, &catalog)?;
    remove_spares(disk, &paths).await?;
    let mut report = RecoveryReport::default();
    let segments = settle(disk, &paths, &scans, &mut report).await?;
    record(&found.index, &segments)
        .store_node(disk, &paths)
        .await?;
    Ok(Recovered {
        recent: found.recent(),
        newest_ms: found.newest_ms,
        index: found.index,
        segments,
        report,
        lock,
    })
}

async fn create_root<D: Disk>(disk: &D, root: &Path) -> Result<(), StoreError> {
    disk.create_dir(root).await?;
    match root.parent() {
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new(".")).await?,
        Some(parent) => disk.sync_dir(parent).await?,
        None => {}
    }
    Ok(())
}

async fn create_directories<D: Disk>(disk: &D, paths: &Paths) -> Result<(), StoreError> {
    for directory in [paths.segments(), paths.spares(), paths.catalogs()] {
        disk.create_dir(&directory).await?;
    }
    disk.sync_dir(paths.root()).await?;
    Ok(())
}

/// All segment files in order of their numbers. Other files and directories are left alone.
async fn examine_all<D: Disk>(disk: &D, paths: &Paths) -> Result<Vec<Candidate>, StoreError> {
    let mut days: BTreeMap<SegmentId, Day> = BTreeMap::new();
    for name in disk.list(&paths.segments()).await? {
        let Some(day) = Day::parse(&name) else {
            continue;
        };
        for name in disk.list(&paths.day(day)).await? {
            let Some(segment) = parse_file_name(&name) else {
                continue;
            };
            if days.insert(segment, day).is_some() {
                let path = paths.segment(segment, day);
                let damage = Damage::TwiceTheSameSegment;
                return Err(StoreError::Corrupt {
                    path,
                    offset: 0,
                    damage,
                });
            }
        }
    }
    let mut candidates = Vec::with_capacity(days.len());
    for (segment, day) in days {
        candidates.push(Candidate::examine(disk, paths, segment, day).await?);
    }
    Ok(candidates)
}

/// Where segments must end, by the catalog and by the openings of those that followed them.
fn recorded_ends(
    catalog: &Catalog,
    candidates: &[Candidate],
    paths: &Paths,
) -> Result<BTreeMap<SegmentId, u32>, StoreError> {
    let is_there = |id: SegmentId| {
        candidates
            .binary_search_by_key(&id, |found| found.segment)
            .is_ok()
    };
    let mut ends = BTreeMap::new();
    for (segment, _, end) in catalog.segments() {
        if !is_there(segment) {
            return Err(StoreError::SegmentMissing {
                segment,
                referrer: paths.catalogs(),
            });
        }
        ends.insert(segment, end);
    }
    for candidate in candidates {
        let Some((segment, end)) = candidate.previous() else {
            continue;
        };
        if !is_there(segment) {
            let referrer = candidate.path.clone();
            return Err(StoreError::SegmentMissing { segment, referrer });
        }
        let known = ends.entry(segment).or_insert(end);
        *known = end.max(*known);
    }
    Ok(ends)
}

/// What the walk over all segments brings together.
struct Collector {
    index: Index,
    newest_ms: u64,
    recent_ms: u64,
    recent: Vec<RecentNonce>,
    /// Length at which `recent` is next rid of what has become too old.
    prune_at: usize,
}

impl Collector {
    fn new(recent_ms: u64) -> Self {
        Self {
            index: Index::new(),
            newest_ms: 0,
            recent_ms,
            recent: Vec::new(),
            prune_at: 1024,
        }
    }

    fn add(
        &mut self,
        record: &RecordView<'_>,
        location: Location,
        candidate: &Candidate,
    ) -> Result<(), StoreError> {
        let meta = record.meta();
        let head = self.index.head(meta.channel);
        for (expected, found) in [(head.seq + 1, meta.seq), (head.rev + 1, meta.rev)] {
            if expected != found {
                return Err(StoreError::SeqBreak {
                    channel: meta.channel,
                    expected,
                    found,
                    path: candidate.path.clone(),
                    offset: location.offset,
                });
            }
        }
        if self.index.last_message(meta.channel) >= Some(meta.message) {
            let path = candidate.path.clone();
            let damage = Damage::RecordMisplaced;
            return Err(StoreError::Corrupt {
                path,
                offset: location.offset,
                damage,
            });
        }
        self.index.insert(&meta, location);
        self.newest_ms = self.newest_ms.max(meta.message.timestamp_ms());
        self.note_nonce(record);
        Ok(())
    }

    fn note_nonce(&mut self, record: &RecordView<'_>) {
        let meta = record.meta();
        if record.nonce().is_zero() || self.is_old(meta.message) {
            return;
        }
        if self.recent.len() >= self.prune_at {
            self.prune();
            self.prune_at = (self.recent.len() * 2).max(1024);
        }
        self.recent.push(RecentNonce {
            channel: meta.channel,
            author: record.author(),
            nonce: record.nonce(),
            message: meta.message,
            seq: meta.seq,
        });
    }

    fn is_old(&self, message: MessageKey) -> bool {
        message.timestamp_ms().saturating_add(self.recent_ms) < self.newest_ms
    }

    fn prune(&mut self) {
        let mut recent = std::mem::take(&mut self.recent);
        recent.retain(|nonce| !self.is_old(nonce.message));
        self.recent = recent;
    }

    fn recent(&mut self) -> Vec<RecentNonce> {
        self.prune();
        std::mem::take(&mut self.recent)
    }
}

fn check_against_catalog(index: &Index, catalog: &Catalog) -> Result<(), StoreError> {
    for (channel, recorded) in catalog.heads() {
        let recovered = index.head(channel);
        if recovered.seq < recorded.seq || recovered.rev < recorded.rev {
            let (recovered, recorded) = (recovered.seq, recorded.seq);
            return Err(StoreError::BelowCatalog {
                channel,
                recovered,
                recorded,
            });
        }
    }
    Ok(())
}

async fn remove_spares<D: Disk>(disk: &D, paths: &Paths) -> Result<(), StoreError> {
    for name in disk.list(&paths.spares()).await? {
        disk.remove(&paths.spares().join(name)).await?;
    }
    Ok(())
}

/// Makes every segment end where its valid frames end, durably, and removes empty ones.
async fn settle<D: Disk>(
    disk: &D,
    paths: &Paths,
    scans: &[(Candidate, Scanned, Option<u32>)],
    report: &mut RecoveryReport,
) -> Result<SegmentTable, StoreError> {
    let mut segments = SegmentTable::default();
    for (candidate, scanned, recorded_end) in scans {
        if scanned.is_torn {
            let torn = TornTail {
                path: candidate.path.clone(),
                end: scanned.end,
            };
            report.torn.push(torn);
        }
        if scanned.records == 0 && recorded_end.is_none() {
            disk.remove(&candidate.path).await?;
            disk.sync_dir(&paths.day(candidate.day)).await?;
            report.removed.push(candidate.path.clone());
            continue;
        }
        make_durable(disk, candidate, scanned.end).await?;
        let info = SegmentInfo {
            day: candidate.day,
            end: Some(scanned.end),
        };
        segments.insert(candidate.segment, info);
        report.segments += 1;
        report.records += scanned.records;
        report.bytes += u64::from(scanned.end);
    }
    Ok(segments)
}

/// What survived a crash may so far only have reached the device's cache: it is synced before
/// anything is built on it.
async fn make_durable<D: Disk>(
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

fn record(index: &Index, segments: &SegmentTable) -> Catalog {
    let mut catalog = Catalog::default();
    for (segment, info) in segments.iter() {
        let end = info
            .end
            .expect("every segment has ended when recovery is done");
        catalog.note_segment(segment, info.day, end);
    }
    for (channel, head) in index.channels() {
        catalog.note_head(channel, head);
    }
    catalog
}
