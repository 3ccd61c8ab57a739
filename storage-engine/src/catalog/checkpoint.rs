//! Makes the node's next catalog out of its last one and the directories of the index files that
//! it does not cover yet.
//!
//! It asks no shard and holds no table of channels: everything is sorted, and is merged as it is
//! read.
//!
//! Invariants: a channel's runs must follow each other without a gap, or no catalog is written;
//! memory is a piece of each of at most [`INPUTS_MAX`] files.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use super::{CatalogEntry, CatalogReader, CatalogWriter, EndedSegment, NODE_FILE};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::{ChannelKey, SegmentId};
use crate::segment::Paths;
use crate::segment_index::{Directory, IndexedRun, SegmentIndex};

/// Most index files that are merged at once; more take several rounds.
const INPUTS_MAX: usize = 32;

/// What the next catalog shall say.
#[derive(Clone, Default, Debug)]
pub(crate) struct Checkpoint {
    /// Whether the present catalog is what the next one is made from; otherwise there is nothing
    /// before the segments that are added.
    pub(crate) goes_on: bool,
    /// Segments that it shall cover beside those of the present one, in order of their numbers.
    /// All of them have index files.
    pub(crate) add: Vec<EndedSegment>,
    /// Segments that it shall not name any more: their days are sealed.
    pub(crate) gone: BTreeSet<SegmentId>,
}

/// Replaces the node's catalog.
///
/// # Errors
/// If the disk fails, the present catalog or an index file is damaged, or the runs of a channel
/// do not follow each other. The present catalog stays then.
pub(crate) async fn checkpoint<D: Disk>(
    disk: &D,
    paths: &Paths,
    wanted: &Checkpoint,
) -> Result<(), StoreError> {
    let mut goes_on = wanted.goes_on;
    let mut rounds: Vec<&[EndedSegment]> = wanted.add.chunks(INPUTS_MAX).collect();
    if rounds.is_empty() {
        rounds.push(&[]);
    }
    for added in rounds {
        round(disk, paths, goes_on, added, &wanted.gone).await?;
        goes_on = true;
    }
    Ok(())
}

/// One source of the merge and the channel it stands at.
struct Input<'a, D: Disk> {
    index: &'a SegmentIndex<D>,
    directory: Directory<'a, D>,
    next: Option<IndexedRun>,
}

async fn round<D: Disk>(
    disk: &D,
    paths: &Paths,
    goes_on: bool,
    added: &[EndedSegment],
    gone: &BTreeSet<SegmentId>,
) -> Result<(), StoreError> {
    let path = paths.catalogs().join(NODE_FILE);
    let mut old = match goes_on {
        true => Some(CatalogReader::open(disk, &path).await?),
        false => None,
    };
    let mut indexes = Vec::with_capacity(added.len());
    for ended in added {
        indexes.push(SegmentIndex::open(disk, paths, ended.segment, ended.day).await?);
    }
    let covered = covered(old.as_ref(), added, gone);
    let mut writer = CatalogWriter::create(disk, &path, &covered).await?;
    if let Some(old) = &old {
        let (segment, day) = old.newest();
        writer.note_newest(old.newest_ms(), segment, day);
    }
    for index in &indexes {
        let origin = index.origin();
        writer.note_newest(index.newest_ms(), origin.segment, origin.day);
    }
    merge(&mut old, &indexes, &mut writer).await?;
    for index in indexes {
        index.close().await?;
    }
    if let Some(old) = old {
        old.close().await?;
    }
    writer.finish().await
}

fn covered<D: Disk>(
    old: Option<&CatalogReader<D>>,
    added: &[EndedSegment],
    gone: &BTreeSet<SegmentId>,
) -> Vec<EndedSegment> {
    let before = old.map_or(&[][..], |old| old.segments());
    let all: BTreeMap<SegmentId, EndedSegment> = (before.iter().chain(added))
        .filter(|ended| !gone.contains(&ended.segment))
        .map(|ended| (ended.segment, *ended))
        .collect();
    all.into_values().collect()
}

/// Merges in order of channels; among the same channel's runs in order of segments.
async fn merge<D: Disk>(
    old: &mut Option<CatalogReader<D>>,
    indexes: &[SegmentIndex<D>],
    writer: &mut CatalogWriter<D>,
) -> Result<(), StoreError> {
    let mut inputs = Vec::with_capacity(indexes.len());
    let mut order: BinaryHeap<Reverse<(ChannelKey, usize)>> = BinaryHeap::new();
    for (number, index) in indexes.iter().enumerate() {
        let mut directory = index.directory();
        let next = directory.next().await?;
        order.extend(next.map(|run| Reverse((run.channel, number))));
        inputs.push(Input {
            index,
            directory,
            next,
        });
    }
    let mut known = next_of(old).await?;
    loop {
        let first_added = order.peek().map(|Reverse((channel, _))| *channel);
        let first_known = known.map(|entry| entry.channel);
        let Some(channel) = [first_added, first_known].into_iter().flatten().min() else {
            return Ok(());
        };
        let mut entry = CatalogEntry::new(channel);
        if let Some(found) = known.filter(|found| found.channel == channel) {
            entry = found;
            known = next_of(old).await?;
        }
        while let Some(Reverse((_, number))) = pop_if(&mut order, channel) {
            let input = &mut inputs[number];
            let found = input.next.take().expect("an input in the heap has a run");
            apply(&mut entry, &found, input.index)?;
            input.next = input.directory.next().await?;
            order.extend(input.next.map(|run| Reverse((run.channel, number))));
        }
        writer.push(&entry).await?;
    }
}

fn pop_if(
    order: &mut BinaryHeap<Reverse<(ChannelKey, usize)>>,
    channel: ChannelKey,
) -> Option<Reverse<(ChannelKey, usize)>> {
    let is_same = order
        .peek()
        .is_some_and(|Reverse((first, _))| *first == channel);
    if is_same { order.pop() } else { None }
}

async fn next_of<D: Disk>(
    old: &mut Option<CatalogReader<D>>,
) -> Result<Option<CatalogEntry>, StoreError> {
    match old {
        Some(old) => old.next().await,
        None => Ok(None),
    }
}

fn apply<D: Disk>(
    entry: &mut CatalogEntry,
    found: &IndexedRun,
    index: &SegmentIndex<D>,
) -> Result<(), StoreError> {
    let applied = entry.apply(&found.run, index.origin().place());
    applied.map_err(|broken| index.broken(entry.channel, broken))
}
