//! Opens a data directory: locks it, holds every segment against what is recorded of it, and
//! brings the table of channels together.
//!
//! It repairs nothing before everything has been found sound, and then only cuts off what was
//! never acknowledged.
//!
//! Invariants: after it returns, every segment has ended, is durable, has its index file and is
//! covered by the catalog; logs go on in fresh segments; a channel's records are dense from 1.

mod judge;
mod nonces;
mod rebuild;
mod settle;
mod survey;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::catalog::{EndedSegment, Notes};
use crate::config::StoreConfig;
use crate::disk::{Disk, StoreLock};
use crate::error::StoreError;
use crate::index::Index;
use crate::key::SegmentId;
use crate::manifest::Manifest;
use crate::scan::Candidate;
use crate::segment::{Day, Paths, SegmentTable};
use nonces::Nonces;
pub use nonces::RecentNonce;
use survey::{create_directories, create_root};
pub(crate) use survey::{recorded_ends, survey};

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
    /// Segments with records, of days that are not sealed.
    pub segments: usize,
    /// Records in them.
    pub records: u64,
    /// Bytes of their valid frames.
    pub bytes: u64,
    /// Segments whose records were read one by one, since they had no index file.
    pub scanned: usize,
    /// Writes that were cut short, now cut off.
    pub torn: Vec<TornTail>,
    /// Segments without any record or of sealed days, now removed.
    pub removed: Vec<PathBuf>,
}

/// An opened data directory.
#[derive(Debug)]
pub struct Recovered {
    /// Every channel.
    pub index: Index,
    /// The newest record's time, in milliseconds since 1970; 0 if there is none.
    pub newest_ms: u64,
    /// All segments of days that are not sealed.
    pub segments: SegmentTable,
    /// Days up to this one are sealed: no segment of them counts any more; day 0 if none is.
    pub sealed_through: Day,
    /// Records within the configured time before the newest one, if they carry a nonce, in order
    /// of their keys.
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
/// named must be restored from a copy. [`StoreError::CatalogMissing`] if the catalog must first
/// be made anew from the sealed days.
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
    let sealed_through = sealed_through(disk, &paths).await?;
    let notes = Notes::load(disk, &paths).await?;
    let found = survey(disk, &paths).await?;
    let ends = recorded_ends(&notes, &found.candidates, &paths, sealed_through)?;
    let mut recovery = Recovery {
        disk,
        paths: &paths,
        config,
        sealed_through,
        notes,
        ends,
        index: Index::new(disk.salt()),
        nonces: Nonces::new(config.recent_ms),
    };
    let judged = recovery.judge_all(found.candidates).await?;
    recovery.check_against_catalogs()?;
    recovery.find_nonces(&judged).await?;
    let is_scanned = |one: &&Judged| matches!(one.verdict, Verdict::Scanned | Verdict::Rebuilt);
    let scanned = judged.iter().filter(is_scanned);
    let mut report = RecoveryReport {
        scanned: scanned.count(),
        ..RecoveryReport::default()
    };
    let segments = recovery
        .settle(&judged, &found.leftovers, &mut report)
        .await?;
    Ok(Recovered {
        newest_ms: recovery.nonces.newest_ms(),
        index: recovery.index,
        recent: recovery.nonces.finish(),
        segments,
        sealed_through,
        report,
        lock,
    })
}

/// Up to which day the store is sealed; day 0 if nothing is.
pub(crate) async fn sealed_through<D: Disk>(disk: &D, paths: &Paths) -> Result<Day, StoreError> {
    disk.create_dir(&paths.manifests()).await?;
    // A manifest that was replaced just before the end may not be durable yet, and what it makes
    // obsolete will be removed.
    disk.sync_dir(&paths.manifests()).await?;
    Ok(Manifest::load(disk, paths).await?.sealed_through)
}

/// What is known while a directory is being judged.
struct Recovery<'a, D: Disk> {
    disk: &'a D,
    paths: &'a Paths,
    config: &'a StoreConfig,
    sealed_through: Day,
    notes: Notes,
    /// Where segments must end.
    ends: BTreeMap<SegmentId, u32>,
    index: Index,
    nonces: Nonces,
}

/// How a segment was judged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// The catalog that the table began with has it.
    Covered,
    /// It is covered likewise, but its index file was lost and has been made anew.
    Rebuilt,
    /// Its index file says what it holds.
    Indexed,
    /// Its records were read.
    Scanned,
    /// It has no records, and nothing says that it should.
    Empty,
}

/// What is known of a segment that the catalog covers.
struct Known {
    verdict: Verdict,
    end: u32,
    records: u64,
    newest_ms: u64,
}

impl Known {
    fn covered(end: u32, records: u64, newest_ms: u64) -> Self {
        Self {
            verdict: Verdict::Covered,
            end,
            records,
            newest_ms,
        }
    }
}

struct Judged {
    candidate: Candidate,
    verdict: Verdict,
    end: u32,
    records: u64,
    newest_ms: u64,
    is_torn: bool,
}

impl<D: Disk> Recovery<'_, D> {
    /// Whether the table of channels begins with the node's catalog.
    fn has_base(&self) -> bool {
        self.notes.covered.is_some()
    }
}

impl Judged {
    /// Whether the catalog that the table began with has it.
    fn is_covered(&self) -> bool {
        matches!(self.verdict, Verdict::Covered | Verdict::Rebuilt)
    }

    fn ended(&self) -> EndedSegment {
        EndedSegment {
            segment: self.candidate.segment,
            day: self.candidate.day,
            end: self.end,
        }
    }
}
