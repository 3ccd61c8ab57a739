//! The records of a few segments in memory, in the order of a sealed bucket.
//!
//! It folds nothing and writes nothing.
//!
//! Invariants: the segments were read whole, every checksum held; memory is their records, and
//! 48 bytes for each record and each channel.

use std::collections::HashMap;

use crate::config::StoreConfig;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::format::RecordView;
use crate::key::{ChannelKey, SegmentId};
use crate::merge::Links;
use crate::record::Record;
use crate::scan::Candidate;
use crate::sealed::Samples;
use crate::segment::{Day, Paths, SegmentInfo};
use crate::segment_index::SegmentIndex;

/// Records in order of (channel, seq, rev).
#[derive(Default)]
pub(crate) struct SortedSegments {
    /// One after the other, as in the segments.
    records: Vec<u8>,
    order: Vec<Position>,
    next: usize,
    /// Where each channel goes on below these segments.
    links: HashMap<ChannelKey, Links>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    channel: ChannelKey,
    seq: u64,
    rev: u64,
    offset: usize,
}

impl SortedSegments {
    /// Reads ended segments, oldest first.
    ///
    /// # Errors
    /// If the disk fails, or a segment is not what was written.
    pub(crate) async fn load<D: Disk>(
        disk: &D,
        paths: &Paths,
        config: &StoreConfig,
        segments: &[(SegmentId, SegmentInfo)],
    ) -> Result<Self, StoreError> {
        let mut sorted = Self::default();
        for (segment, info) in segments {
            let candidate = Candidate::examine(disk, paths, *segment, info.day).await?;
            let add = |record: RecordView<'_>, _| {
                sorted.add(record);
                Ok(())
            };
            candidate.scan(disk, config, info.end, add).await?;
            sorted.link(disk, paths, *segment, info.day).await?;
        }
        sorted.order.sort_unstable();
        Ok(sorted)
    }

    fn add(&mut self, record: RecordView<'_>) {
        let meta = record.meta();
        self.order.push(Position {
            channel: meta.channel,
            seq: meta.seq,
            rev: meta.rev,
            offset: self.records.len(),
        });
        record.append_to(&mut self.records);
    }

    /// Notes where the channels of a segment go on below it, unless an older one has them too.
    async fn link<D: Disk>(
        &mut self,
        disk: &D,
        paths: &Paths,
        segment: SegmentId,
        day: Day,
    ) -> Result<(), StoreError> {
        let index = SegmentIndex::open(disk, paths, segment, day).await?;
        let mut directory = index.directory();
        while let Some(found) = directory.next().await? {
            self.links.entry(found.channel).or_insert(Links {
                prev: found.run.prev.day,
                prev_changes: found.run.prev_changes.day,
            });
        }
        index.close().await
    }

    /// Bytes of all records.
    pub(crate) fn bytes(&self) -> u64 {
        self.records.len() as u64
    }

    /// Shows all records.
    pub(crate) fn show(&self, samples: &mut Samples) {
        for position in &self.order {
            samples.show(&self.record(position));
        }
    }

    /// The next record.
    pub(crate) fn next(&mut self) -> Option<Record> {
        let position = self.order.get(self.next)?;
        let record = self.record(position);
        self.next += 1;
        Some(record)
    }

    fn record(&self, position: &Position) -> Record {
        let record = RecordView::decode(&self.records[position.offset..]);
        let record = record.unwrap_or_else(|_| unreachable!("it was copied from a valid one"));
        record.to_record()
    }

    /// Where a channel goes on below these segments.
    pub(crate) fn links(&self, channel: ChannelKey) -> Links {
        self.links.get(&channel).copied().unwrap_or(Links::NONE)
    }
}

#[cfg(test)]
impl SortedSegments {
    /// As if read from segments.
    pub(crate) fn of(records: &[Record], links: HashMap<ChannelKey, Links>) -> Self {
        let mut sorted = Self {
            links,
            ..Self::default()
        };
        for record in records {
            let one = std::slice::from_ref(record);
            let bytes = u32::try_from(crate::format::frame_bytes(one)).unwrap();
            let mut frame = vec![0; crate::format::whole_blocks(bytes) as usize];
            crate::format::encode_body(one, &mut frame);
            let start = crate::format::FRAME_HEADER_BYTES as usize;
            let view = RecordView::decode(&frame[start..]);
            sorted.add(view.unwrap_or_else(|bad| panic!("just encoded: {bad:?}")));
        }
        sorted.order.sort_unstable();
        sorted
    }
}
