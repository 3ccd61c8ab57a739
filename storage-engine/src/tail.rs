//! The segment that is being written: where its next frame goes, and the frames themselves.
//!
//! It does not know when a segment is full, and makes no files.
//!
//! Invariants: `next` lies behind every byte written or under way, so a frame is only ever
//! appended; the opening and the first commit are one write; an idle frame stands only behind
//! what is synced; a frame counts others as synced only if it is written after they were.

use std::rc::Rc;

use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::format::{FramePlace, Opening, encode_idle, encode_opening, whole_blocks};
use crate::key::SegmentId;
use crate::prepared::Prepared;
use crate::segment::Day;
use crate::under_way::{Content, Write};

/// A segment that takes frames.
pub(crate) struct Tail<F> {
    segment: SegmentId,
    day: Day,
    /// Shared with the writes under way.
    file: Rc<F>,
    salt: u64,
    /// Still to be written, together with the first commit.
    opening: Option<Opening>,
    /// Behind all that is written.
    end: u32,
    /// Behind all that is written or under way: where the next frame goes.
    next: u32,
    next_frame: u64,
    /// How many frames are durable, or will be before another one can be written.
    synced_frames: u64,
    /// Where the synced frames end, in bytes.
    synced_end: u32,
    /// The last frame is an idle one.
    is_idle: bool,
}

impl<F: DiskFile> Tail<F> {
    /// A segment without frames, in a prewritten file.
    pub(crate) fn new(segment: SegmentId, day: Day, file: F, salt: u64, opening: Opening) -> Self {
        Self {
            segment,
            day,
            file: Rc::new(file),
            salt,
            opening: Some(opening),
            end: 0,
            next: 0,
            next_frame: 0,
            synced_frames: 0,
            synced_end: 0,
            is_idle: false,
        }
    }

    pub(crate) fn segment(&self) -> SegmentId {
        self.segment
    }

    pub(crate) fn day(&self) -> Day {
        self.day
    }

    /// Where the frames written so far end, in bytes.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// Where the synced frames end, in bytes.
    pub(crate) fn synced_end(&self) -> u32 {
        self.synced_end
    }

    /// The file.
    ///
    /// # Panics
    /// If a write is under way.
    pub(crate) fn into_file(self) -> F {
        let file = Rc::try_unwrap(self.file);
        file.unwrap_or_else(|_| panic!("a segment is left when its writes are done"))
    }

    /// Whether a synced commit may be begun while others are under way.
    pub(crate) fn queues_synced(&self) -> bool {
        self.file.queues_synced()
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
        self.next + self.span(frame_bytes) + BLOCK_BYTES <= segment_bytes
    }

    /// The write of a commit behind all others, to be started at once; with a sync if `must_sync`.
    /// Unless [`Tail::queues_synced`] and all are synced, no other write may be under way. If one
    /// fails no more may be begun.
    pub(crate) fn append<D>(
        &mut self,
        disk: &D,
        prepared: Prepared<D>,
        must_sync: bool,
    ) -> (Write, Content)
    where
        D: Disk<File = F, Buffer = F::Buffer>,
    {
        let (offset, mut place) = (self.next, self.place());
        let mut start = offset;
        self.next += self.span(prepared.frame_bytes());
        let opening = self.opening.take();
        if opening.is_some() {
            place.frame_seq += 1;
            start += BLOCK_BYTES;
        }
        let (mut buffer, records) = prepared.finish(place);
        if let Some(opening) = opening {
            let opening_place = self.place();
            let mut both = disk.commit_buffer(self.next - offset);
            let (first, rest) = both.as_mut().split_at_mut(BLOCK_BYTES as usize);
            encode_opening(opening_place, &opening, first);
            rest.copy_from_slice(buffer.as_mut());
            buffer = both;
        }
        self.next_frame = place.frame_seq + 1;
        self.is_idle = false;
        if must_sync {
            self.synced_frames = self.next_frame;
        }
        let file = Rc::clone(&self.file);
        let write: Write = Box::pin(async move {
            match must_sync {
                true => file.write_synced(buffer, offset.into()).await,
                false => file.write_at(buffer, offset.into()).await,
            }
        });
        let content = Content {
            segment: self.segment,
            start,
            end: self.next,
            is_synced: must_sync,
            records,
        };
        (write, content)
    }

    /// Takes note that a commit is written, of this segment or an older one.
    pub(crate) fn note_written(&mut self, content: &Content) {
        if content.segment == self.segment {
            self.end = content.end;
            if content.is_synced {
                self.synced_end = content.end;
            }
        }
    }

    /// Syncs what is written, then writes and syncs an idle frame behind it.
    pub(crate) async fn append_idle<D: Disk<Buffer = F::Buffer>>(
        &mut self,
        disk: &D,
    ) -> Result<(), StoreError> {
        assert_eq!(self.end, self.next, "nothing is under way");
        if self.has_unsynced() {
            self.sync().await?;
        }
        let mut buffer = disk.commit_buffer(BLOCK_BYTES);
        encode_idle(self.place(), buffer.as_mut());
        self.file.write_synced(buffer, self.end.into()).await?;
        self.end += BLOCK_BYTES;
        self.next = self.end;
        self.next_frame += 1;
        self.synced_frames = self.next_frame;
        self.synced_end = self.end;
        self.is_idle = true;
        Ok(())
    }

    /// Makes everything written durable.
    pub(crate) async fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync().await?;
        self.synced_frames = self.next_frame;
        self.synced_end = self.end;
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
