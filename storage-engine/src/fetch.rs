//! Reads what a page needs: records of segments and blocks of sealed files, neighbours in one
//! read, several reads at a time.
//!
//! It does not know which records belong to a page, and looks for none elsewhere.
//!
//! Invariants: every record that is returned has the checksum it was written with, and every
//! block the one that its file's index holds; a block is read once however many pages wait for
//! it; open files and concurrent reads are bounded by the configuration.

use std::cell::RefCell;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;

use crate::cache::{BlockCache, BlockKey, Claim, Lead, Wait};
use crate::config::StoreConfig;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::format::{BadRecord, RecordView};
use crate::key::SegmentId;
use crate::lru::Lru;
use crate::record::{Location, Record};
use crate::sealed::Sealed;
use crate::segment::{Paths, SharedSegments};

/// Which file. Numbers of files are never used again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum FileKey {
    /// A segment.
    Segment(SegmentId),
    /// A sealed file, by its number.
    Sealed(u32),
}

/// A block of a sealed file.
pub(crate) struct WantedBlock<M> {
    pub(crate) sealed: Arc<Sealed<M>>,
    pub(crate) block: u32,
}

/// Reads for one shard.
pub(crate) struct Fetcher<D: Disk> {
    pub(crate) disk: D,
    pub(crate) paths: Paths,
    pub(crate) config: StoreConfig,
    pub(crate) segments: SharedSegments,
    files: RefCell<Lru<FileKey, D::File>>,
    pub(crate) cache: Rc<BlockCache>,
}

/// Several records of one segment that one read covers.
#[derive(Clone, PartialEq, Eq, Debug)]
struct RecordRun {
    segment: SegmentId,
    offset: u32,
    bytes: u32,
    /// Which of the asked locations lie in it.
    members: Vec<usize>,
}

/// Several blocks of one sealed file that one read covers.
struct BlockRun<'a, M> {
    sealed: Arc<Sealed<M>>,
    offset: u64,
    bytes: u32,
    /// Which of the wanted blocks lie in it, and the duty to read each.
    members: Vec<(usize, u32, Lead<'a>)>,
}

/// Blocks to be read here, as reads, and blocks that others are reading.
type Claimed<'a, M> = (Vec<BlockRun<'a, M>>, Vec<(usize, Wait)>);

/// One read, done.
enum Done {
    Records(Vec<(usize, Record)>),
    Blocks(Vec<(usize, Bytes)>),
}

type Job<'a> = Pin<Box<dyn Future<Output = Result<Done, StoreError>> + 'a>>;

impl<D: Disk> Fetcher<D> {
    pub(crate) fn new(
        disk: D,
        paths: Paths,
        segments: SharedSegments,
        config: StoreConfig,
    ) -> Self {
        Self {
            files: RefCell::new(Lru::new(config.open_files_max)),
            cache: Rc::new(BlockCache::new(config.cache_bytes)),
            disk,
            paths,
            config,
            segments,
        }
    }

    /// The file, opened if it is not.
    async fn file(&self, key: FileKey, path: &Path) -> Result<Rc<D::File>, StoreError> {
        let known = self.files.borrow_mut().get(key);
        if let Some(file) = known {
            return Ok(file);
        }
        let file = Rc::new(self.disk.open(path).await?);
        let leaving = self.files.borrow_mut().keep(key, Rc::clone(&file));
        if let Some(leaving) = leaving {
            leaving.close().await?;
        }
        Ok(file)
    }

    /// Closes a file that is about to be removed, once the reads under way are done with it.
    pub(crate) async fn forget(&self, key: FileKey) -> Result<(), StoreError> {
        let leaving = self.files.borrow_mut().forget(key);
        if let Some(leaving) = leaving {
            leaving.close().await?;
        }
        Ok(())
    }

    /// Reads records and blocks, each in the order asked for.
    pub(crate) async fn fetch(
        &self,
        locations: &[Location],
        wanted: &[WantedBlock<D::Mapped>],
    ) -> Result<(Vec<Record>, Vec<Bytes>), StoreError> {
        let mut records: Vec<Option<Record>> = vec![None; locations.len()];
        let mut blocks: Vec<Option<Bytes>> = vec![None; wanted.len()];
        let mut record_runs = self.plan_records(locations);
        loop {
            let (block_runs, waits) = self.claim(wanted, &mut blocks);
            let mut jobs: Vec<Job<'_>> = Vec::new();
            for run in std::mem::take(&mut record_runs) {
                jobs.push(Box::pin(self.read_records(run, locations)));
            }
            for run in block_runs {
                jobs.push(Box::pin(self.read_blocks(run)));
            }
            for done in all(jobs, self.config.reads_at_once_max).await {
                match done? {
                    Done::Records(read) => {
                        read.into_iter()
                            .for_each(|(at, record)| records[at] = Some(record));
                    }
                    Done::Blocks(read) => {
                        read.into_iter()
                            .for_each(|(at, block)| blocks[at] = Some(block));
                    }
                }
            }
            for (at, wait) in waits {
                blocks[at] = wait.await;
            }
            if blocks.iter().all(Option::is_some) {
                break;
            }
        }
        let records = records.into_iter();
        let records = records.map(|record| record.expect("every location is in a run"));
        Ok((records.collect(), blocks.into_iter().flatten().collect()))
    }

    /// Looks for blocks that are still missing.
    fn claim(
        &self,
        wanted: &[WantedBlock<D::Mapped>],
        blocks: &mut [Option<Bytes>],
    ) -> Claimed<'_, D::Mapped> {
        let mut runs: Vec<BlockRun<'_, D::Mapped>> = Vec::new();
        let mut waits = Vec::new();
        for (at, (want, block)) in wanted.iter().zip(blocks).enumerate() {
            if block.is_some() {
                continue;
            }
            let key = BlockKey::Sealed {
                file: want.sealed.identity().number,
                block: want.block,
            };
            match self.cache.claim(key) {
                Claim::Here(found) => *block = Some(found),
                Claim::Others(wait) => waits.push((at, wait)),
                Claim::Mine(lead) => self.add_block(&mut runs, want, (at, want.block, lead)),
            }
        }
        (runs, waits)
    }

    /// Adds a block to the last read, if it lies next to that, or begins another.
    fn add_block<'a>(
        &self,
        runs: &mut Vec<BlockRun<'a, D::Mapped>>,
        want: &WantedBlock<D::Mapped>,
        member: (usize, u32, Lead<'a>),
    ) {
        let place = want.sealed.block_place(want.block);
        if let Some(run) = runs.last_mut() {
            let run_end = run.offset + u64::from(run.bytes);
            let bytes = run.bytes.checked_add(place.bytes);
            let bytes = bytes.filter(|bytes| *bytes <= self.config.read_bytes_max);
            let is_next = place.offset == run_end && Arc::ptr_eq(&run.sealed, &want.sealed);
            if let Some(bytes) = bytes.filter(|_| is_next) {
                run.bytes = bytes;
                run.members.push(member);
                return;
            }
        }
        runs.push(BlockRun {
            sealed: Arc::clone(&want.sealed),
            offset: place.offset,
            bytes: place.bytes,
            members: vec![member],
        });
    }

    async fn read_blocks(&self, run: BlockRun<'_, D::Mapped>) -> Result<Done, StoreError> {
        let sealed = &run.sealed;
        let key = FileKey::Sealed(sealed.identity().number);
        let file = self.file(key, sealed.path()).await?;
        self.cache.count(|stats| {
            stats.device_reads += 1;
            stats.device_bytes += u64::from(run.bytes);
            stats.blocks_read += run.members.len() as u64;
        });
        let bytes = file.read_at(run.offset, run.bytes).await?;
        let mut read = Vec::with_capacity(run.members.len());
        let mut start = 0;
        for (at, block, lead) in run.members {
            let end = start + sealed.block_place(block).bytes as usize;
            let raw = sealed.decompress(block, &bytes[start..end])?;
            start = end;
            lead.fill(raw.clone());
            read.push((at, raw));
        }
        Ok(Done::Blocks(read))
    }

    /// Groups the locations into reads: neighbours in one segment together, within the limits.
    fn plan_records(&self, locations: &[Location]) -> Vec<RecordRun> {
        let mut order: Vec<usize> = (0..locations.len()).collect();
        order.sort_by_key(|position| {
            let location = &locations[*position];
            (location.segment, location.offset)
        });
        let mut runs: Vec<RecordRun> = Vec::new();
        for position in order {
            let location = locations[position];
            match runs.last_mut().filter(|run| self.joins(run, location)) {
                Some(run) => {
                    let end = location.offset.saturating_add(location.bytes);
                    run.bytes = run.bytes.max(end - run.offset);
                    run.members.push(position);
                }
                None => runs.push(RecordRun {
                    segment: location.segment,
                    offset: location.offset,
                    bytes: location.bytes,
                    members: vec![position],
                }),
            }
        }
        runs
    }

    fn joins(&self, run: &RecordRun, location: Location) -> bool {
        let run_end = run.offset.saturating_add(run.bytes);
        run.segment == location.segment
            && location.offset.saturating_sub(run_end) <= self.config.read_gap_bytes_max
            && location.offset.saturating_add(location.bytes) - run.offset
                <= self.config.read_bytes_max
    }

    async fn read_records(
        &self,
        run: RecordRun,
        locations: &[Location],
    ) -> Result<Done, StoreError> {
        let path = self.segment_path(run.segment)?;
        let file = self.file(FileKey::Segment(run.segment), &path).await?;
        self.cache.count(|stats| {
            stats.device_reads += 1;
            stats.device_bytes += u64::from(run.bytes);
        });
        let bytes = file.read_at(run.offset.into(), run.bytes).await?;
        let mut records = Vec::with_capacity(run.members.len());
        for position in run.members {
            let location = locations[position];
            let start = (location.offset - run.offset) as usize;
            let record = RecordView::decode(&bytes[start..start + location.bytes as usize])
                .map_err(|bad| self.bad_record(location, bad))?;
            if record.bytes() != location.bytes {
                return Err(self.corrupt(location, Damage::Record));
            }
            records.push((position, record.to_record()));
        }
        Ok(Done::Records(records))
    }

    fn bad_record(&self, location: Location, bad: BadRecord) -> StoreError {
        match (bad, self.segment_path(location.segment)) {
            (BadRecord::Damaged, _) => self.corrupt(location, Damage::Record),
            (BadRecord::Unknown(version), Ok(path)) => StoreError::Unsupported { path, version },
            (BadRecord::Unknown(_), Err(unknown)) => unknown,
        }
    }

    /// What lies at a location is not what was written there.
    pub(crate) fn corrupt(&self, location: Location, damage: Damage) -> StoreError {
        match self.segment_path(location.segment) {
            Ok(path) => StoreError::Corrupt {
                path,
                offset: location.offset,
                damage,
            },
            Err(unknown) => unknown,
        }
    }

    pub(crate) fn segment_path(&self, segment: SegmentId) -> Result<PathBuf, StoreError> {
        let info = self.segments.borrow().get(segment);
        let info = info.ok_or(StoreError::SegmentUnknown(segment))?;
        Ok(self.paths.segment(segment, info.day))
    }
}

/// Runs the futures, at most `at_once_max` at the same time, until all are done; results in their
/// order.
pub(crate) async fn all<F: Future + Unpin>(futures: Vec<F>, at_once_max: usize) -> Vec<F::Output> {
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    let mut waiting: Vec<Option<F>> = futures.into_iter().map(Some).collect();
    std::future::poll_fn(move |context| {
        let mut under_way = 0;
        for (slot, result) in waiting.iter_mut().zip(&mut results) {
            let Some(future) = slot else { continue };
            if under_way == at_once_max {
                return Poll::Pending;
            }
            match Pin::new(future).poll(context) {
                Poll::Ready(value) => {
                    *result = Some(value);
                    *slot = None;
                }
                Poll::Pending => under_way += 1,
            }
        }
        if under_way > 0 {
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut results).into_iter().flatten().collect())
    })
    .await
}
