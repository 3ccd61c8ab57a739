//! Writes a segment's index file from what memory knows of the segment.
//!
//! It does not look at the segment.
//!
//! Invariants: the file appears under its name as a whole and durable; beside the segment's
//! index it takes a list of its channels and one piece of the file in memory.

use std::path::Path;

use zerocopy::IntoBytes;

use super::format::{IndexChange, IndexEntry, IndexHeader, IndexRun, Item, encode_block};
use crate::aside::Aside;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::hot::HotSegment;
use crate::key::{ChannelKey, SegmentId};
use crate::segment::Paths;

/// Writes the index file of a segment that has ended. `writer` tells apart who writes.
///
/// # Errors
/// If the disk fails or is full: nothing has changed then, and it may be tried again.
pub(crate) async fn write_index<D: Disk>(
    disk: &D,
    paths: &Paths,
    hot: &HotSegment,
    writer: &str,
) -> Result<(), StoreError> {
    assert!(hot.end() > 0, "only a segment that has ended is indexed");
    let target = paths.index(hot.segment(), hot.day());
    let mut making = Making {
        aside: Aside::create(disk, &target, writer).await?,
        segment: hot.segment(),
        block: 1,
        fences: Vec::new(),
        header: IndexHeader::of(hot.origin(), hot.newest_ms(), hot.end()),
    };
    let order = hot.sorted();
    making.write_runs(hot, &order).await?;
    making.write_entries(hot, &order).await?;
    making.write_changes(hot, &order).await?;
    making.finish().await
}

/// Writes the index file of a segment that has ended, below the data directory `root`.
///
/// # Errors
/// If the disk fails or is full: nothing has changed then, and it may be tried again.
pub async fn index_segment<D: Disk>(
    disk: &D,
    root: &Path,
    hot: &HotSegment,
) -> Result<(), StoreError> {
    write_index(disk, &Paths::new(root), hot, "node").await
}

struct Making<D: Disk> {
    aside: Aside<D>,
    segment: SegmentId,
    /// Number of the next block.
    block: u32,
    fences: Vec<u8>,
    header: IndexHeader,
}

/// Items of the block that is being filled.
struct Filling<T>(Vec<T>);

impl<D: Disk> Making<D> {
    async fn write_runs(
        &mut self,
        hot: &HotSegment,
        order: &[(ChannelKey, u32)],
    ) -> Result<(), StoreError> {
        let mut filling = Filling::<IndexRun>(Vec::new());
        let (mut first_entry, mut first_change) = (0, 0);
        for (channel, slot) in order {
            let (run, ..) = hot.slot(*slot);
            let item = IndexRun::of(*channel, run, first_entry, first_change);
            first_entry += run.count;
            first_change += run.changes;
            self.push(&mut filling, item, |item| item.channel.to_vec())
                .await?;
        }
        self.header.runs = count(order.len()).into();
        self.header.entries = first_entry.into();
        self.header.changes = first_change.into();
        self.end_region(&mut filling).await
    }

    async fn write_entries(
        &mut self,
        hot: &HotSegment,
        order: &[(ChannelKey, u32)],
    ) -> Result<(), StoreError> {
        let mut filling = Filling::<IndexEntry>(Vec::new());
        for (_, slot) in order {
            let (_, entries, _) = hot.slot(*slot);
            for entry in entries {
                self.push(&mut filling, entry.into(), |item| {
                    item.time_ms.as_bytes().to_vec()
                })
                .await?;
            }
        }
        self.end_region(&mut filling).await
    }

    async fn write_changes(
        &mut self,
        hot: &HotSegment,
        order: &[(ChannelKey, u32)],
    ) -> Result<(), StoreError> {
        let mut filling = Filling::<IndexChange>(Vec::new());
        for (_, slot) in order {
            let (_, _, changes) = hot.slot(*slot);
            let mut changes = changes.to_vec();
            changes.sort_unstable_by_key(|change| (change.seq, change.rev));
            for change in &changes {
                self.push(&mut filling, change.into(), |item| {
                    item.seq.as_bytes().to_vec()
                })
                .await?;
            }
        }
        self.end_region(&mut filling).await
    }

    /// Adds an item to the present block; the first one of each block leaves a fence.
    async fn push<T: Item>(
        &mut self,
        filling: &mut Filling<T>,
        item: T,
        fence: impl Fn(&T) -> Vec<u8>,
    ) -> Result<(), StoreError> {
        if filling.0.is_empty() {
            self.fences.extend(fence(&item));
        }
        filling.0.push(item);
        if filling.0.len() == T::PER_BLOCK as usize {
            self.end_region(filling).await?;
        }
        Ok(())
    }

    async fn end_region<T: Item>(&mut self, filling: &mut Filling<T>) -> Result<(), StoreError> {
        if filling.0.is_empty() {
            return Ok(());
        }
        let block = encode_block(self.segment, self.block, &filling.0);
        self.aside.append(&block).await?;
        self.block += 1;
        filling.0.clear();
        Ok(())
    }

    async fn finish(mut self) -> Result<(), StoreError> {
        let layout = self.header.layout();
        assert_eq!(
            self.aside.position(),
            layout.fences_offset(),
            "the regions are as long as their counts say"
        );
        assert_eq!(self.fences.len() as u64, layout.fences_bytes());
        self.aside.append(&self.fences).await?;
        self.header.fences_crc = crc32c::crc32c(&self.fences).into();
        self.header.header_crc = self.header.crc().into();
        self.aside.install(self.header.as_bytes()).await
    }
}

fn count(items: usize) -> u32 {
    u32::try_from(items).expect("a segment is below 1 GiB")
}
