//! Reads records at known places: neighbours in one read, several reads at a time.
//!
//! It caches open files, never data, and never looks for a record elsewhere.
//!
//! Invariants: every record that is returned has the checksum it was written with; open files
//! and concurrent reads are bounded by the configuration.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use crate::config::StoreConfig;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::format::{BadRecord, RecordView};
use crate::key::{ChannelKey, SegmentId};
use crate::record::{Location, Record};
use crate::segment::{Paths, SharedSegments};

/// Reads what one shard's index knows.
pub struct Reader<D: Disk> {
    disk: D,
    paths: Paths,
    config: StoreConfig,
    segments: SharedSegments,
    files: RefCell<HashMap<SegmentId, OpenFile<D::File>>>,
    uses: Cell<u64>,
}

struct OpenFile<F> {
    file: Rc<F>,
    last_use: u64,
}

/// Several records that one read covers.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Run {
    segment: SegmentId,
    offset: u32,
    bytes: u32,
    /// Which of the asked locations lie in it.
    members: Vec<usize>,
}

impl<D: Disk> Reader<D> {
    /// A reader of the segments in `segments`, which the log goes on adding to.
    #[must_use]
    pub fn new(disk: D, root: &Path, segments: SharedSegments, config: StoreConfig) -> Self {
        config.assert_consistent();
        Self {
            disk,
            paths: Paths::new(root),
            config,
            segments,
            files: RefCell::new(HashMap::new()),
            uses: Cell::new(0),
        }
    }

    /// Reads the records at these places, in the order asked for.
    ///
    /// # Errors
    /// If the disk fails, a segment is unknown, or a record is not what was written. Nothing
    /// else is affected: other reads may go on.
    pub async fn read(&self, locations: &[Location]) -> Result<Vec<Record>, StoreError> {
        let runs = self.plan(locations);
        let mut found: Vec<Option<Record>> = vec![None; locations.len()];
        for batch in runs.chunks(self.config.reads_at_once_max) {
            let mut reads = Vec::with_capacity(batch.len());
            for run in batch {
                let file = self.file(run.segment).await?;
                reads.push(self.read_run(file, run, locations));
            }
            for records in all(reads).await {
                for (position, record) in records? {
                    found[position] = Some(record);
                }
            }
        }
        Ok(found
            .into_iter()
            .map(|record| record.expect("every location is in a run"))
            .collect())
    }

    /// Reads a page of one channel, oldest first, and checks that it is one: records of that
    /// channel whose seqs rise. Finds what was written to a wrong place with a valid checksum.
    ///
    /// # Errors
    /// As [`Reader::read`], and if a record is another channel's or out of order.
    pub async fn read_page(
        &self,
        channel: ChannelKey,
        locations: &[Location],
    ) -> Result<Vec<Record>, StoreError> {
        let records = self.read(locations).await?;
        let mut last_seq = 0;
        for (record, location) in records.iter().zip(locations) {
            if record.channel != channel || record.seq <= last_seq {
                return Err(self.corrupt(*location, Damage::RecordMisplaced));
            }
            last_seq = record.seq;
        }
        Ok(records)
    }

    /// Groups the locations into reads: neighbours in one segment together, within the limits.
    fn plan(&self, locations: &[Location]) -> Vec<Run> {
        let mut order: Vec<usize> = (0..locations.len()).collect();
        order.sort_by_key(|position| {
            let location = &locations[*position];
            (location.segment, location.offset)
        });
        let mut runs: Vec<Run> = Vec::new();
        for position in order {
            let location = locations[position];
            match runs.last_mut().filter(|run| self.joins(run, location)) {
                Some(run) => {
                    let end = location.offset.saturating_add(location.bytes);
                    run.bytes = run.bytes.max(end - run.offset);
                    run.members.push(position);
                }
                None => runs.push(Run {
                    segment: location.segment,
                    offset: location.offset,
                    bytes: location.bytes,
                    members: vec![position],
                }),
            }
        }
        runs
    }

    fn joins(&self, run: &Run, location: Location) -> bool {
        let run_end = run.offset.saturating_add(run.bytes);
        run.segment == location.segment
            && location.offset.saturating_sub(run_end) <= self.config.read_gap_bytes_max
            && location.offset.saturating_add(location.bytes) - run.offset
                <= self.config.read_bytes_max
    }

    async fn read_run(
        &self,
        file: Rc<D::File>,
        run: &Run,
        locations: &[Location],
    ) -> Result<Vec<(usize, Record)>, StoreError> {
        let bytes = file.read_at(run.offset.into(), run.bytes).await?;
        let mut records = Vec::with_capacity(run.members.len());
        for position in &run.members {
            let location = locations[*position];
            let start = (location.offset - run.offset) as usize;
            let record = RecordView::decode(&bytes[start..start + location.bytes as usize])
                .map_err(|bad| self.bad_record(location, bad))?;
            if record.bytes() != location.bytes {
                return Err(self.corrupt(location, Damage::Record));
            }
            records.push((*position, record.to_record()));
        }
        Ok(records)
    }

    fn bad_record(&self, location: Location, bad: BadRecord) -> StoreError {
        match bad {
            BadRecord::Damaged => self.corrupt(location, Damage::Record),
            BadRecord::Unknown(version) => StoreError::Unsupported {
                path: self.path(location.segment),
                version,
            },
        }
    }

    fn corrupt(&self, location: Location, damage: Damage) -> StoreError {
        let path = self.path(location.segment);
        StoreError::Corrupt {
            path,
            offset: location.offset,
            damage,
        }
    }

    /// The segment's file; the root if it is unknown, which is only asked about known ones.
    fn path(&self, segment: SegmentId) -> std::path::PathBuf {
        match self.segments.borrow().get(segment) {
            Some(info) => self.paths.segment(segment, info.day),
            None => self.paths.root().to_path_buf(),
        }
    }

    async fn file(&self, segment: SegmentId) -> Result<Rc<D::File>, StoreError> {
        if let Some(file) = self.cached(segment) {
            return Ok(file);
        }
        let info = self.segments.borrow().get(segment);
        let info = info.ok_or(StoreError::SegmentUnknown(segment))?;
        let file = Rc::new(
            self.disk
                .open(&self.paths.segment(segment, info.day))
                .await?,
        );
        if let Some(evicted) = self.remember(segment, &file) {
            // Another read may still hold it; then the last one to let go closes it.
            if let Ok(evicted) = Rc::try_unwrap(evicted) {
                evicted.close().await?;
            }
        }
        Ok(file)
    }

    fn cached(&self, segment: SegmentId) -> Option<Rc<D::File>> {
        let mut files = self.files.borrow_mut();
        let open = files.get_mut(&segment)?;
        open.last_use = self.next_use();
        Some(Rc::clone(&open.file))
    }

    /// Puts an opened file into the cache. Returns the one that had to leave for it.
    fn remember(&self, segment: SegmentId, file: &Rc<D::File>) -> Option<Rc<D::File>> {
        let last_use = self.next_use();
        let mut files = self.files.borrow_mut();
        let oldest = files
            .iter()
            .min_by_key(|(_, open)| open.last_use)
            .map(|(id, _)| *id);
        let oldest = oldest.filter(|_| files.len() >= self.config.open_files_max);
        let evicted = oldest.and_then(|oldest| files.remove(&oldest));
        let replaced = files.insert(
            segment,
            OpenFile {
                file: Rc::clone(file),
                last_use,
            },
        );
        evicted.or(replaced).map(|open| open.file)
    }

    fn next_use(&self) -> u64 {
        self.uses.set(self.uses.get() + 1);
        self.uses.get()
    }
}

/// Runs the futures together until all are done; results in their order.
async fn all<T>(futures: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<Option<Pin<Box<_>>>> = futures
        .into_iter()
        .map(|future| Some(Box::pin(future)))
        .collect();
    let mut results: Vec<Option<T>> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (slot, result) in waiting.iter_mut().zip(&mut results) {
            let Some(future) = slot else { continue };
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                *result = Some(value);
                *slot = None;
            }
        }
        if results.iter().any(Option::is_none) {
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut results).into_iter().flatten().collect())
    })
    .await
}
