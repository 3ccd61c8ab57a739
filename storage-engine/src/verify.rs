//! Checks every byte and every order of a store that nobody else uses: what recovery trusts, this
//! reads.
//!
//! It changes nothing and repairs nothing.
//!
//! Invariants: one damaged file does not keep the others from being checked; what is reported is
//! certain, what is missing without being required (an index file, a catalog) is not reported.

mod bucket;
mod segment;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::catalog::{CatalogReader, Notes, node_path};
use crate::config::StoreConfig;
use crate::consumer::ConsumerName;
use crate::consumer::check_position;
use crate::dead_letter::DeadLetters;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::index::Head;
use crate::key::ChannelKey;
use crate::manifest::Manifest;
use crate::place::Place;
use crate::segment::{Day, Paths};
use crate::survey::Survey;

use self::segment::SegmentCheck;

/// Something that is not as it must be.
#[derive(Debug)]
pub struct Finding {
    /// The file.
    pub path: PathBuf,
    /// Where in it, in bytes, if that is known.
    pub offset: Option<u64>,
    /// What is wrong.
    pub reason: StoreError,
}

/// How far a check has come, and what it has seen.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Verified {
    /// Bytes checked.
    pub bytes: u64,
    /// Bytes of all files that are to be checked.
    pub bytes_total: u64,
    /// Files checked.
    pub files: u64,
    /// Records read.
    pub records: u64,
    /// Findings.
    pub findings: u64,
}

/// What to report to.
pub trait Report {
    /// Something was found.
    fn found(&mut self, finding: Finding);

    /// More was checked.
    fn checked(&mut self, so_far: &Verified);
}

/// Checks a store whose directories are there. Nothing is left out because of something found,
/// unless it cannot be read without that.
pub async fn verify<D: Disk>(
    disk: &D,
    root: &Path,
    config: &StoreConfig,
    report: &mut impl Report,
) -> Verified {
    let mut check = Check {
        disk,
        paths: Paths::new(root),
        config,
        channels: HashMap::new(),
        catalogued: HashMap::new(),
        done: Verified::default(),
        report,
    };
    check.consumers(root).await;
    if let Err((path, reason)) = check.store().await {
        check.found(&path, reason);
    }
    check.done
}

/// What is known of a channel from the files checked so far.
#[derive(Clone, Copy)]
struct Known {
    head: Head,
    newest: Place,
    newest_changes: Place,
    /// The days of the bucket that holds its newest sealed messages.
    bucket: Option<(Day, Day)>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            head: Head::default(),
            newest: Place::NONE,
            newest_changes: Place::NONE,
            bucket: None,
        }
    }
}

struct Check<'a, D: Disk, R: Report> {
    disk: &'a D,
    paths: Paths,
    config: &'a StoreConfig,
    channels: HashMap<ChannelKey, Known>,
    /// What the node's catalog says.
    catalogued: HashMap<ChannelKey, Head>,
    done: Verified,
    report: &'a mut R,
}

/// What keeps a check from going on, and the file that it lies in.
type Stopped = (PathBuf, StoreError);

impl<D: Disk, R: Report> Check<'_, D, R> {
    async fn store(&mut self) -> Result<(), Stopped> {
        let at = |path: PathBuf| move |error: StoreError| (path, error);
        let manifest = Manifest::load(self.disk, &self.paths).await;
        let manifest = manifest.map_err(at(self.paths.manifests()))?;
        if let Err(error) = self.catalog().await {
            self.found(&node_path(&self.paths), error);
        }
        let survey = Survey::of(self.disk, &self.paths, &manifest).await;
        let survey = survey.map_err(at(self.paths.segments()))?;
        let segments = survey.sealed().chain(survey.live());
        self.done.bytes_total = manifest.buckets.iter().map(|one| one.bytes).sum::<u64>()
            + segments.map(|one| u64::from(one.length)).sum::<u64>();
        for bucket in &manifest.buckets {
            self.bucket(bucket).await;
        }
        for candidate in survey.sealed() {
            let end = survey.recorded_end(candidate.segment);
            let scanned = candidate
                .scan(self.disk, self.config, end, |_, _| Ok(()))
                .await;
            self.file_done(
                &candidate.path,
                candidate.length.into(),
                scanned.map(|_| ()),
            );
        }
        let mut check = SegmentCheck::new(self.disk.salt(), manifest.sealed_through);
        check.begin(&self.channels);
        for candidate in survey.live() {
            let end = survey.recorded_end(candidate.segment);
            self.segment(&mut check, candidate, end).await;
        }
        self.against_catalog(&check, manifest.sealed_through);
        Ok(())
    }

    /// Reads the node's catalog to its end.
    async fn catalog(&mut self) -> Result<(), StoreError> {
        if Notes::load(self.disk, &self.paths).await?.covered.is_none() {
            return Ok(());
        }
        let mut catalog = CatalogReader::open(self.disk, &node_path(&self.paths)).await?;
        while let Some(entry) = catalog.next().await? {
            self.catalogued.insert(entry.channel, entry.head);
        }
        self.done.files += 1;
        catalog.close().await
    }

    /// No channel ends below what the catalog remembers, unless it was dropped as a whole.
    fn against_catalog(&mut self, check: &SegmentCheck, sealed_through: Day) {
        let catalogued = std::mem::take(&mut self.catalogued);
        for (channel, recorded) in catalogued {
            let head = check.head(channel);
            let may_be_less = sealed_through > Day(0);
            let is_dropped = may_be_less && head == Head::default();
            // Changes that count no more, and their revs, go when a day is sealed.
            let is_below = head.seq < recorded.seq || (head.rev < recorded.rev && !may_be_less);
            if is_below && !is_dropped {
                let reason = StoreError::BelowCatalog {
                    channel,
                    recovered: head.seq,
                    recorded: recorded.seq,
                };
                self.found(&node_path(&self.paths), reason);
            }
        }
    }

    async fn consumers(&mut self, root: &Path) {
        let directory = self.paths.consumers();
        let names = match self.disk.list(&directory).await {
            Ok(names) => names,
            Err(error) => return self.found(&directory, error.into()),
        };
        let names = names.iter().filter_map(|name| name.strip_suffix(".pos"));
        for name in names.filter_map(ConsumerName::parse) {
            let checked = check_position(self.disk, root, &name).await;
            self.file_done(&self.paths.position(&name), 0, checked);
            let limits = self.config.consumers;
            let checked = DeadLetters::check(self.disk, root, &name, limits).await;
            self.file_done(&self.paths.dead_letter_log(&name), 0, checked);
        }
    }

    /// Notes that a file was checked, and how that ended.
    fn file_done(&mut self, path: &Path, bytes: u64, checked: Result<(), StoreError>) {
        if let Err(error) = checked {
            self.found(path, error);
        }
        self.done.bytes += bytes;
        self.done.files += 1;
        self.report.checked(&self.done);
    }

    fn found(&mut self, path: &Path, reason: StoreError) {
        self.done.findings += 1;
        let (path, offset) = match &reason {
            StoreError::Corrupt { path, offset, .. }
            | StoreError::SeqBreak { path, offset, .. } => (path.clone(), Some(u64::from(*offset))),
            StoreError::Disk(error) => (error.path.clone(), None),
            _ => (path.to_path_buf(), None),
        };
        self.report.found(Finding {
            path,
            offset,
            reason,
        });
    }
}
