//! The segment that is being written: where its next frame goes, and the frames themselves.
//!
//! It does not know when a segment is full, and makes no files.
//!
//! Invariants: `end` lies behind every byte written, so a frame is only ever appended; the
//! opening and the first commit are one write; an idle frame stands only behind what is synced.

use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::format::{
    FramePlace, Opening, encode_idle, encode_opening, encode_records, whole_blocks,
};
use crate::key::SegmentId;
use crate::record::{Location, Record};
use crate::segment::Day;

/// A segment that takes frames.
pub(crate) struct Tail<F> {
    segment: SegmentId,
    day: Day,
    file: F,
    salt: u64,
    /// Still to be written, together with the first commit.
    opening: Option<Opening>,
    end: u32,
    next_frame: u64,
    synced_frames: u64,
    /// The last frame is an idle one.
    is_idle: bool,
}

impl<F: DiskFile> Tail<F> {
    /// A segment without frames, in a prewritten file.
    pub(crate) fn new(segment: SegmentId, day: Day, file: F, salt: u64, opening: Opening) -> Self {
        Self {
            segment,
            day,
            file,
            salt,
            opening: Some(opening),
            end: 0,
            next_frame: 0,
            synced_frames: 0,
            is_idle: false,
        }
    }

    pub(crate) fn segment(&self) -> SegmentId {
        self.segment
    }

    pub(crate) fn day(&self) -> Day {
        self.day
    }

    /// Where the next frame goes, in bytes.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    pub(crate) fn into_file(self) -> F {
        self.file
    }

    /// Whether it holds a commit.
    pub(crate) fn is_begun(&self) -> bool {
        self.opening.is_none()
    }

    /// Whether an idle frame would prove nothing more.
    pub(crate) fn is_sealed(&self) -> bool {
        self.is_idle || !self.is_begun()
    }

    pub(crate) fn has_unsynced(&self) -> bool {
        self.synced_frames < self.next_frame
    }

    /// Whether a frame of this length fits, with a block to spare for an idle one.
    pub(crate) fn has_room(&self, frame_bytes: u32, segment_bytes: u32) -> bool {
        self.end + self.span(frame_bytes) + BLOCK_BYTES <= segment_bytes
    }

    /// Writes a commit, `frame_bytes` long with its header. Not synced.
    pub(crate) async fn append<D: Disk<Buffer = F::Buffer>>(
        &mut self,
        disk: &D,
        frame_bytes: u32,
        records: &[Record],
    ) -> Result<Vec<Location>, StoreError> {
        let span = self.span(frame_bytes);
        let mut buffer = disk.buffer(span);
        let (mut place, mut start) = (self.place(), self.end);
        let mut out = buffer.as_mut();
        if let Some(opening) = &self.opening {
            let (first, rest) = out.split_at_mut(BLOCK_BYTES as usize);
            encode_opening(place, opening, first);
            out = rest;
            place.frame_seq += 1;
            start += BLOCK_BYTES;
        }
        let offsets = encode_records(place, records, out);
        self.file.write_at(buffer, self.end.into()).await?;
        self.opening = None;
        self.end += span;
        self.next_frame = place.frame_seq + 1;
        self.is_idle = false;
        let located = records.iter().zip(offsets).map(|(record, offset)| {
            let bytes = u32::try_from(record.bytes()).expect("records are below 1 GiB");
            Location {
                segment: self.segment,
                offset: start + offset,
                bytes,
            }
        });
        Ok(located.collect())
    }

    /// Syncs what is written, then writes and syncs an idle frame behind it.
    pub(crate) async fn append_idle<D: Disk<Buffer = F::Buffer>>(
        &mut self,
        disk: &D,
    ) -> Result<(), StoreError> {
        if self.has_unsynced() {
            self.sync().await?;
        }
        let mut buffer = disk.buffer(BLOCK_BYTES);
        encode_idle(self.place(), buffer.as_mut());
        self.file.write_at(buffer, self.end.into()).await?;
        self.end += BLOCK_BYTES;
        self.next_frame += 1;
        self.is_idle = true;
        self.sync().await
    }

    /// Makes everything written durable.
    pub(crate) async fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync().await?;
        self.synced_frames = self.next_frame;
        Ok(())
    }

    fn place(&self) -> FramePlace {
        FramePlace {
            salt: self.salt,
            segment: self.segment,
            day: self.day.0,
            frame_seq: self.next_frame,
            synced_frames: self.synced_frames,
        }
    }

    /// Bytes that a frame of this length takes, with the opening if that is still due.
    fn span(&self, frame_bytes: u32) -> u32 {
        let opening_bytes = if self.is_begun() { 0 } else { BLOCK_BYTES };
        opening_bytes + whole_blocks(frame_bytes)
    }
}
