//! The records of a few segments in memory, in the order of a sealed bucket.
//!
//! It folds nothing and writes nothing.
//!
//! Invariants: the segments were read whole, every checksum held; memory is their records, and
//! 48 bytes for each record, and 24 for each channel of each segment.

use bytes::Bytes;

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

/// So many records are brought into the processor's cache together.
const TOUCHED_RECORDS: usize = 16;

/// Records in order of (channel, seq, rev).
pub(crate) struct SortedSegments {
    /// One after the other, as in the segments.
    records: Bytes,
    order: Vec<Position>,
    next: usize,
    /// Where each channel goes on below these segments, in order of channels.
    links: Vec<(ChannelKey, Links)>,
}

/// Records that are not all there yet.
#[derive(Default)]
struct Unsorted {
    records: Vec<u8>,
    order: Vec<Position>,
    links: Vec<(ChannelKey, Links)>,
}

/// Where a record comes and where it lies. A channel is a number here, since those are compared
/// faster than bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Position {
    channel: u128,
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
        let mut unsorted = Unsorted::default();
        let ends = segments.iter().filter_map(|(_, info)| info.end);
        let bytes = ends.map(|end| end as usize).sum();
        unsorted.records.reserve_exact(bytes);
        for (segment, info) in segments {
            let candidate = Candidate::examine(disk, paths, *segment, info.day).await?;
            let add = |record: RecordView<'_>, _| {
                unsorted.add(record);
                Ok(())
            };
            candidate.scan(disk, config, info.end, add).await?;
            unsorted.link(disk, paths, *segment, info.day).await?;
        }
        Ok(unsorted.sort())
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
        if self.next.is_multiple_of(TOUCHED_RECORDS) {
            self.touch();
        }
        let position = self.order.get(self.next)?;
        let record = self.record(position);
        self.next += 1;
        Some(record)
    }

    /// Brings the next few records into the processor's cache: they lie anywhere, and are waited
    /// for together here, one after the other later.
    fn touch(&self) {
        let ahead = self.order[self.next..].iter().take(TOUCHED_RECORDS);
        let touched = ahead.fold(0, |touched, position| {
            let lines = [0, 64, 128, 192].map(|at| self.records.get(position.offset + at));
            lines
                .into_iter()
                .flatten()
                .fold(touched, |sum, byte| sum ^ byte)
        });
        std::hint::black_box(touched);
    }

    fn record(&self, position: &Position) -> Record {
        let record = RecordView::decode_copy(&self.records[position.offset..]);
        let record = record.unwrap_or_else(|_| unreachable!("it was copied from a valid one"));
        record.to_record_within(&self.records)
    }

    /// Where a channel goes on below these segments.
    pub(crate) fn links(&self, channel: ChannelKey) -> Links {
        let place = (self.links).binary_search_by_key(&channel, |(channel, _)| *channel);
        place.map_or(Links::NONE, |place| self.links[place].1)
    }
}

impl Unsorted {
    fn add(&mut self, record: RecordView<'_>) {
        let meta = record.meta();
        self.order.push(Position {
            channel: u128::from_be_bytes(meta.channel.0),
            seq: meta.seq,
            rev: meta.rev,
            offset: self.records.len(),
        });
        record.append_to(&mut self.records);
    }

    /// Notes where the channels of a segment go on below it.
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
            let links = Links {
                prev: found.run.prev.day,
                prev_changes: found.run.prev_changes.day,
            };
            self.links.push((found.channel, links));
        }
        index.close().await
    }

    fn sort(mut self) -> SortedSegments {
        self.order.sort_unstable();
        // Of the segments that have a channel, the oldest says where it goes on below all.
        self.links.sort_by_key(|(channel, _)| *channel);
        self.links.dedup_by_key(|(channel, _)| *channel);
        SortedSegments {
            records: self.records.into(),
            order: self.order,
            next: 0,
            links: self.links,
        }
    }
}

#[cfg(test)]
impl SortedSegments {
    /// As if read from segments.
    pub(crate) fn of(
        records: &[Record],
        links: impl IntoIterator<Item = (ChannelKey, Links)>,
    ) -> Self {
        let mut unsorted = Unsorted {
            links: links.into_iter().collect(),
            ..Unsorted::default()
        };
        for record in records {
            let one = std::slice::from_ref(record);
            let bytes = u32::try_from(crate::format::frame_bytes(one)).unwrap();
            let mut frame = vec![0; crate::format::whole_blocks(bytes) as usize];
            crate::format::encode_body(one, &mut frame);
            let start = crate::format::FRAME_HEADER_BYTES as usize;
            let view = RecordView::decode(&frame[start..]);
            unsorted.add(view.unwrap_or_else(|bad| panic!("just encoded: {bad:?}")));
        }
        unsorted.sort()
    }
}
