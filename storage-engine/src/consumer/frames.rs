//! Reads the frames of one segment from a place up to its durable end.
//!
//! It takes nothing for a write that was cut short: everything before the end was acknowledged, so
//! whatever is not valid there is damage.
//!
//! Invariants: frames are of the segment's present use (salt) and follow each other; no read goes
//! beyond the end it was given.

use std::path::{Path, PathBuf};

use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::format::{FORMAT_VERSION, Frame, FrameKind};
use crate::key::SegmentId;

/// A place in a segment file.
pub(crate) struct Frames<F: DiskFile> {
    file: F,
    path: PathBuf,
    segment: SegmentId,
    chunk_bytes: u32,
    salt: u64,
    /// Number of the frame expected next; `None` before the first was read.
    next_frame: Option<u64>,
    start: u32,
    bytes: Option<F::Read>,
}

/// One valid frame.
pub(crate) struct FrameRead<'a> {
    /// Its length in whole blocks.
    pub(crate) span: u32,
    /// Its records; empty for other frames.
    pub(crate) body: &'a [u8],
    /// Where the body begins, from the start of the file.
    pub(crate) body_offset: u32,
}

impl<F: DiskFile> Frames<F> {
    /// Opens a segment whose first frame is durable.
    pub(crate) async fn open<D: Disk<File = F>>(
        disk: &D,
        path: &Path,
        segment: SegmentId,
        chunk_bytes: u32,
    ) -> Result<Self, StoreError> {
        let file = disk.open(path).await?;
        let mut frames = Self {
            file,
            path: path.to_path_buf(),
            segment,
            chunk_bytes,
            salt: 0,
            next_frame: None,
            start: 0,
            bytes: None,
        };
        let block = frames.file.read_at(0, BLOCK_BYTES).await?;
        let opening = Frame::decode(&block).filter(|frame| {
            frame.place.segment == segment && frame.kind == Some(FrameKind::Opening)
        });
        frames.salt = opening
            .ok_or_else(|| frames.lost(0, BLOCK_BYTES))?
            .place
            .salt;
        Ok(frames)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The frame at `offset`, where one must begin before `end`.
    pub(crate) async fn frame_at(
        &mut self,
        offset: u32,
        end: u32,
    ) -> Result<FrameRead<'_>, StoreError> {
        assert!(offset < end, "only what is durable is asked for");
        let lost = self.lost(offset, end);
        let block = self.at(offset, BLOCK_BYTES.min(end - offset), end).await?;
        let Some(frame) = Frame::decode(block) else {
            return Err(lost);
        };
        if frame.version != FORMAT_VERSION || frame.kind.is_none() {
            return Err(StoreError::Unsupported {
                path: self.path.clone(),
                version: frame.version,
            });
        }
        let is_next = frame.place.salt == self.salt
            && frame.place.segment == self.segment
            && self
                .next_frame
                .is_none_or(|next| next == frame.place.frame_seq);
        let span = frame.blocks_bytes(end - offset);
        let Some(span) = span.filter(|span| is_next && *span <= end - offset) else {
            return Err(lost);
        };
        self.next_frame = Some(frame.place.frame_seq + 1);
        let body = frame.body(self.at(offset, span, end).await?);
        let body = body.ok_or(lost)?;
        Ok(FrameRead {
            span,
            body: if frame.kind == Some(FrameKind::Records) {
                body
            } else {
                &[]
            },
            body_offset: offset + crate::format::FRAME_HEADER_BYTES,
        })
    }

    /// Forgets which frame comes next, to read one again.
    pub(crate) fn seek(&mut self) {
        self.next_frame = None;
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        self.file.close().await?;
        Ok(())
    }

    fn lost(&self, offset: u32, recorded_end: u32) -> StoreError {
        let lost = self.next_frame.unwrap_or(0);
        StoreError::Corrupt {
            path: self.path.clone(),
            offset,
            damage: Damage::BeforeRecordedEnd { lost, recorded_end },
        }
    }

    /// Bytes of the file, from what was read last if they are there.
    async fn at(&mut self, offset: u32, bytes: u32, end: u32) -> Result<&[u8], StoreError> {
        let is_here = self.bytes.as_ref().is_some_and(|read| {
            offset >= self.start && (offset - self.start + bytes) as usize <= read.len()
        });
        if !is_here {
            let wanted = bytes.max(self.chunk_bytes).min(end - offset);
            self.bytes = Some(self.file.read_at(offset.into(), wanted).await?);
            self.start = offset;
        }
        let read = self.bytes.as_ref().expect("read just now or before");
        let start = (offset - self.start) as usize;
        Ok(&read[start..start + bytes as usize])
    }
}
