//! A segment's index file: for each channel, where its records lie in the segment, without the
//! segment being read.
//!
//! It keeps the header and the fences in memory, a few bytes for each 4 KiB of the file; other
//! blocks are kept by a cache, if it is given one.
//!
//! Invariants: nothing is believed whose checksum does not hold; looking a channel up reads one
//! block, finding a time at most two.

mod format;
#[cfg(test)]
mod tests;
mod write;

use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;

use bytes::Bytes;
use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use crate::cache::{BlockCache, BlockKey, Claim};
use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::hot::{ChangeEntry, Entry, Run, SegmentOrigin};
use crate::index::Break;
use crate::key::{ChannelKey, MessageKey, SegmentId};
use crate::segment::{Day, Paths};
use format::{Item, Layout, decode_block, is_sound};

pub(crate) use format::{
    INDEX_MAGIC, INDEX_VERSION, IndexChange, IndexEntry, IndexHeader, IndexRun,
};
pub use write::index_segment;
pub(crate) use write::write_index;

/// Most blocks that one read takes.
const BLOCKS_PER_READ: u32 = 64;

/// A channel's part of an indexed segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct IndexedRun {
    pub(crate) channel: ChannelKey,
    pub(crate) run: Run,
    first_entry: u32,
    first_change: u32,
}

/// An opened index file.
#[derive(Debug)]
pub(crate) struct SegmentIndex<D: Disk> {
    file: D::File,
    path: PathBuf,
    header: IndexHeader,
    layout: Layout,
    fences: Fences,
    /// Where blocks are kept, if they are.
    cache: Option<Rc<BlockCache>>,
}

/// What each block begins with: it says which block to read.
#[derive(Debug)]
struct Fences {
    channels: Vec<ChannelKey>,
    times: Vec<u32>,
    seqs: Vec<u64>,
}

impl<D: Disk> SegmentIndex<D> {
    /// Opens the index file of a segment.
    ///
    /// # Errors
    /// [`Damage::Index`] if it is damaged or another segment's.
    pub(crate) async fn open(
        disk: &D,
        paths: &Paths,
        segment: SegmentId,
        day: Day,
    ) -> Result<Self, StoreError> {
        let path = paths.index(segment, day);
        let file = disk.open(&path).await?;
        let opened = read_opening::<D>(&file, &path, segment, day).await;
        match opened {
            Ok((header, fences)) => Ok(Self {
                file,
                path,
                header,
                layout: header.layout(),
                fences,
                cache: None,
            }),
            Err(error) => {
                file.close().await?;
                Err(error)
            }
        }
    }

    /// Keeps the blocks that it reads in this cache.
    #[must_use]
    pub(crate) fn with_cache(self, cache: Rc<BlockCache>) -> Self {
        Self {
            cache: Some(cache),
            ..self
        }
    }

    /// As [`SegmentIndex::open`]; `None` if there is no such file, or none that can be believed.
    pub(crate) async fn open_valid(
        disk: &D,
        paths: &Paths,
        segment: SegmentId,
        day: Day,
    ) -> Result<Option<Self>, StoreError> {
        match Self::open(disk, paths, segment, day).await {
            Ok(index) => Ok(Some(index)),
            Err(StoreError::Corrupt { .. } | StoreError::Unsupported { .. }) => Ok(None),
            Err(StoreError::Disk(error)) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Which segment it is of.
    pub(crate) fn origin(&self) -> SegmentOrigin {
        self.header.origin()
    }

    /// Where the segment's frames end, in bytes.
    pub(crate) fn end(&self) -> u32 {
        self.header.end.get()
    }

    /// Time of the newest key, in milliseconds since 1970.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.header.newest_ms.get()
    }

    /// How many records the segment has.
    pub(crate) fn records(&self) -> u64 {
        u64::from(self.header.entries.get()) + u64::from(self.header.changes.get())
    }

    /// What the segment has of a channel.
    pub(crate) async fn run(&self, channel: ChannelKey) -> Result<Option<IndexedRun>, StoreError> {
        let block = self
            .fences
            .channels
            .partition_point(|first| *first <= channel);
        let Some(block) = block.checked_sub(1) else {
            return Ok(None);
        };
        let runs = self.directory_block(count(block)).await?;
        let position = runs.binary_search_by_key(&channel, |run| run.channel);
        Ok(position.ok().map(|position| runs[position]))
    }

    /// How many blocks the directory has.
    pub(crate) fn directory_blocks(&self) -> u32 {
        self.layout.runs
    }

    /// The runs of one block of the directory, in order of channels; the blocks follow each other
    /// in that order too.
    pub(crate) async fn directory_block(&self, block: u32) -> Result<Vec<IndexedRun>, StoreError> {
        self.runs_of(block..block + 1).await
    }

    /// The runs of several blocks, at most [`BLOCKS_PER_READ`] of them.
    async fn runs_of(&self, blocks: Range<u32>) -> Result<Vec<IndexedRun>, StoreError> {
        let mut runs = Vec::new();
        let items = blocks.start * IndexRun::PER_BLOCK
            ..(blocks.end * IndexRun::PER_BLOCK).min(self.header.runs.get());
        self.read_items(1, items, |item: &IndexRun| runs.push(indexed(item)))
            .await?;
        let is_sane = runs.iter().all(|run| self.holds(run));
        let is_sorted = runs.is_sorted_by(|one, next| one.channel < next.channel);
        if is_sane && is_sorted {
            Ok(runs)
        } else {
            Err(self.damaged(blocks.start + 1))
        }
    }

    /// Whether a run lies inside the regions that it names.
    fn holds(&self, found: &IndexedRun) -> bool {
        let fits = |first: u32, count: u32, all: U32| {
            u64::from(first) + u64::from(count) <= u64::from(all.get())
        };
        fits(found.first_entry, found.run.count, self.header.entries)
            && fits(found.first_change, found.run.changes, self.header.changes)
            && found.run.records() > 0
            && (found.run.count == 0 || found.run.first_seq > 0)
    }

    /// All runs, in order of channels, a few blocks at a time.
    pub(crate) fn directory(&self) -> Directory<'_, D> {
        Directory {
            index: self,
            next_block: 0,
            runs: Vec::new().into_iter(),
        }
    }

    /// The entries of messages with these seqs, in order; those that the run does not have are
    /// left out.
    pub(crate) async fn entries(
        &self,
        found: &IndexedRun,
        seqs: Range<u64>,
    ) -> Result<Vec<Entry>, StoreError> {
        let own = found.run.seqs();
        let start = seqs.start.max(own.start);
        let end = seqs.end.min(own.end);
        let mut entries = Vec::new();
        if start < end {
            let nth = |seq: u64| found.first_entry + narrow(seq - own.start);
            self.read_items(
                self.layout.first_entry_block(),
                nth(start)..nth(end),
                |item: &IndexEntry| entries.push(item.into()),
            )
            .await?;
        }
        Ok(entries)
    }

    /// The changes of messages with these seqs, in order of seq, then rev.
    pub(crate) async fn changes(
        &self,
        found: &IndexedRun,
        seqs: Range<u64>,
    ) -> Result<Vec<ChangeEntry>, StoreError> {
        let all = found.first_change..found.first_change + found.run.changes;
        let near = near::<IndexChange, _>(&all, &self.fences.seqs, |first| {
            (*first < seqs.start, *first < seqs.end)
        });
        let mut changes = Vec::new();
        self.read_items(
            self.layout.first_change_block(),
            near,
            |item: &IndexChange| {
                if seqs.contains(&item.seq.get()) {
                    changes.push(item.into());
                }
            },
        )
        .await?;
        Ok(changes)
    }

    /// The seqs of those messages that share the key's millisecond, see
    /// [`crate::hot::HotSegment::ties`]; `None` without messages.
    pub(crate) async fn ties(
        &self,
        found: &IndexedRun,
        key: MessageKey,
    ) -> Result<Option<Range<u64>>, StoreError> {
        if found.run.count == 0 {
            return Ok(None);
        }
        let time_ms = self.origin().time_ms(key);
        let below = self.position(found, |time| time < time_ms).await?;
        let up_to = self.position(found, |time| time <= time_ms).await?;
        let first_seq = found.run.first_seq;
        Ok(Some(
            first_seq + u64::from(below)..first_seq + u64::from(up_to),
        ))
    }

    /// How many of the run's entries have such a time: those come first.
    async fn position(
        &self,
        found: &IndexedRun,
        is_before: impl Fn(u32) -> bool,
    ) -> Result<u32, StoreError> {
        let all = found.first_entry..found.first_entry + found.run.count;
        let near = near::<IndexEntry, _>(&all, &self.fences.times, |first| {
            (is_before(*first), is_before(*first))
        });
        let mut before = near.start - all.start;
        self.read_items(
            self.layout.first_entry_block(),
            near,
            |item: &IndexEntry| before += u32::from(is_before(item.time_ms.get())),
        )
        .await?;
        Ok(before)
    }

    /// Reads the items of a region, which begins at this block, with these numbers.
    async fn read_items<T: Item>(
        &self,
        region: u32,
        items: Range<u32>,
        mut on_item: impl FnMut(&T),
    ) -> Result<(), StoreError> {
        let mut next = items.start;
        while next < items.end {
            let first = next / T::PER_BLOCK;
            let last = (items.end - 1) / T::PER_BLOCK;
            let blocks = (last - first + 1).min(BLOCKS_PER_READ);
            let read = self.blocks(region + first, blocks).await?;
            for (block, bytes) in (first..).zip(&read) {
                let start = next - block * T::PER_BLOCK;
                let end = (items.end - block * T::PER_BLOCK).min(T::PER_BLOCK);
                let number = region + block;
                let found = decode_block::<T>(self.origin().segment, number, bytes, end);
                let found = found.ok_or_else(|| self.damaged(number))?;
                found[start as usize..].iter().for_each(&mut on_item);
                next = block * T::PER_BLOCK + end;
            }
        }
        Ok(())
    }

    /// These blocks, from the cache as far as they are there.
    async fn blocks(&self, first: u32, count: u32) -> Result<Vec<Bytes>, StoreError> {
        match &self.cache {
            Some(cache) => self.cached_blocks(cache, first..first + count).await,
            None => self.read_blocks(first, count).await,
        }
    }

    async fn read_blocks(&self, first: u32, count: u32) -> Result<Vec<Bytes>, StoreError> {
        let offset = u64::from(first) * u64::from(BLOCK_BYTES);
        let read = self.file.read_at(offset, count * BLOCK_BYTES).await?;
        let blocks = read.chunks_exact(BLOCK_BYTES as usize);
        Ok(blocks.map(Bytes::copy_from_slice).collect())
    }

    /// Reads what is missing with one read, waits for what others are reading, and looks again
    /// for what they gave up.
    async fn cached_blocks(
        &self,
        cache: &BlockCache,
        blocks: Range<u32>,
    ) -> Result<Vec<Bytes>, StoreError> {
        let segment = self.origin().segment;
        let mut found: Vec<Option<Bytes>> = blocks.clone().map(|_| None).collect();
        while found.iter().any(Option::is_none) {
            let mut leads = Vec::new();
            let mut waits = Vec::new();
            for (block, slot) in blocks.clone().zip(&mut found) {
                if slot.is_some() {
                    continue;
                }
                match cache.claim(BlockKey::Index { segment, block }) {
                    Claim::Here(bytes) => *slot = Some(bytes),
                    Claim::Mine(lead) => leads.push((block, slot, lead)),
                    Claim::Others(wait) => waits.push((slot, wait)),
                }
            }
            if let (Some((first, ..)), Some((last, ..))) = (leads.first(), leads.last()) {
                let (first, count) = (*first, last - first + 1);
                cache.count(|stats| {
                    stats.device_reads += 1;
                    stats.device_bytes += u64::from(count * BLOCK_BYTES);
                    stats.blocks_read += leads.len() as u64;
                });
                let read = self.read_blocks(first, count).await?;
                for (block, slot, lead) in leads {
                    let bytes = read[(block - first) as usize].clone();
                    if !is_sound(segment, block, &bytes) {
                        return Err(self.damaged(block));
                    }
                    lead.fill(bytes.clone());
                    *slot = Some(bytes);
                }
            }
            for (slot, wait) in waits {
                *slot = wait.await;
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn damaged(&self, block: u32) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            offset: block.saturating_mul(BLOCK_BYTES),
            damage: Damage::Index,
        }
    }

    /// The error that a run means which does not follow what is known of its channel.
    pub(crate) fn broken(&self, channel: ChannelKey, broken: Break) -> StoreError {
        broken.at(channel, &self.path, 0)
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        Ok(self.file.close().await?)
    }
}

/// Reads a directory from its first channel to its last.
pub(crate) struct Directory<'a, D: Disk> {
    index: &'a SegmentIndex<D>,
    next_block: u32,
    runs: std::vec::IntoIter<IndexedRun>,
}

impl<D: Disk> Directory<'_, D> {
    /// The next channel's run.
    pub(crate) async fn next(&mut self) -> Result<Option<IndexedRun>, StoreError> {
        if self.runs.as_slice().is_empty() && self.next_block < self.index.directory_blocks() {
            let end = (self.next_block + BLOCKS_PER_READ).min(self.index.directory_blocks());
            self.runs = self.index.runs_of(self.next_block..end).await?.into_iter();
            self.next_block = end;
        }
        Ok(self.runs.next())
    }
}

fn indexed(item: &IndexRun) -> IndexedRun {
    IndexedRun {
        channel: ChannelKey(item.channel),
        run: item.run(),
        first_entry: item.first_entry.get(),
        first_change: item.first_change.get(),
    }
}

/// Which of the sorted items `all` need to be read to find where two conditions end, each of
/// which holds for the first ones only: whole blocks, cut to `all`. Only blocks that begin inside
/// `all` have a fence that counts.
fn near<T: Item, F>(
    all: &Range<u32>,
    fences: &[F],
    holds: impl Fn(&F) -> (bool, bool),
) -> Range<u32> {
    let first = all.start / T::PER_BLOCK;
    let inner = first as usize + 1..all.end.div_ceil(T::PER_BLOCK) as usize;
    let inner = fences.get(inner).unwrap_or_default();
    let start = first + count(inner.partition_point(|fence| holds(fence).0));
    let end = first + count(inner.partition_point(|fence| holds(fence).1)) + 1;
    (start * T::PER_BLOCK).max(all.start)..(end * T::PER_BLOCK).min(all.end)
}

async fn read_opening<D: Disk>(
    file: &D::File,
    path: &std::path::Path,
    segment: SegmentId,
    day: Day,
) -> Result<(IndexHeader, Fences), StoreError> {
    let damaged = |offset| StoreError::Corrupt {
        path: path.to_path_buf(),
        offset,
        damage: Damage::Index,
    };
    let length = file.length().await?;
    if length < u64::from(BLOCK_BYTES) {
        return Err(damaged(0));
    }
    let block = file.read_at(0, BLOCK_BYTES).await?;
    let (header, _) = IndexHeader::read_from_prefix(&block).map_err(|_| damaged(0))?;
    if header.magic != INDEX_MAGIC || header.header_crc.get() != header.crc() {
        return Err(damaged(0));
    }
    if header.version.get() != INDEX_VERSION {
        let version = header.version.get();
        return Err(StoreError::Unsupported {
            path: path.to_path_buf(),
            version,
        });
    }
    let layout = header.layout();
    let (offset, bytes) = (layout.fences_offset(), layout.fences_bytes());
    let fences_at = u32::try_from(offset).unwrap_or(u32::MAX);
    let is_own = header.origin().segment == segment && header.origin().day == day;
    if !is_own || length < offset + bytes {
        return Err(damaged(0));
    }
    let mut read = Vec::new();
    while (read.len() as u64) < bytes {
        let left = bytes - read.len() as u64;
        let next = narrow(left.min(u64::from(BLOCKS_PER_READ * BLOCK_BYTES)));
        read.extend_from_slice(&file.read_at(offset + read.len() as u64, next).await?);
    }
    if crc32c::crc32c(&read) != header.fences_crc.get() {
        return Err(damaged(fences_at));
    }
    let fences = Fences::decode(&read, &layout).ok_or_else(|| damaged(fences_at))?;
    Ok((header, fences))
}

impl Fences {
    fn decode(bytes: &[u8], layout: &Layout) -> Option<Self> {
        let (channels, rest) = split::<[u8; 16]>(bytes, layout.runs)?;
        let (times, rest) = split::<U32>(rest, layout.entries)?;
        let (seqs, _) = split::<U64>(rest, layout.changes)?;
        Some(Self {
            channels: channels
                .iter()
                .map(|channel| ChannelKey(*channel))
                .collect(),
            times: times.iter().map(|time| time.get()).collect(),
            seqs: seqs.iter().map(|seq| seq.get()).collect(),
        })
    }
}

fn split<T: FromBytes + Immutable + KnownLayout + Unaligned>(
    bytes: &[u8],
    count: u32,
) -> Option<(&[T], &[u8])> {
    <[T]>::ref_from_prefix_with_elems(bytes, count as usize).ok()
}

fn count(blocks: usize) -> u32 {
    u32::try_from(blocks).expect("an index file is far below 4 billion blocks")
}

fn narrow(number: u64) -> u32 {
    u32::try_from(number).expect("less than an index file holds")
}
