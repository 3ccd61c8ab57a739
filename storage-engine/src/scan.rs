//! Walks one segment from its first frame to its end, and judges what it finds there.
//!
//! It changes nothing on disk.
//!
//! Invariants: a bad frame is a torn tail only if nothing that was durable before it was lost,
//! as far as the file can tell: no later frame of the same use of the file says that the bad one
//! was synced, and no recorded end lies behind it.

use std::path::PathBuf;

use crate::config::{BLOCK_BYTES, StoreConfig};
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, DiskError, StoreError};
use crate::format::{
    BadRecord, FORMAT_VERSION, Frame, FrameKind, Opening, RecordView, decode_opening,
};
use crate::key::SegmentId;
use crate::record::Location;
use crate::segment::{Day, Paths};

/// One segment file, its opening read.
pub(crate) struct Candidate {
    pub(crate) segment: SegmentId,
    pub(crate) day: Day,
    pub(crate) path: PathBuf,
    pub(crate) length: u32,
    opening: Option<Opened>,
}

#[derive(Clone, Copy)]
struct Opened {
    salt: u64,
    previous: u32,
    previous_end: u32,
}

/// What a scan found.
pub(crate) struct Scanned {
    /// Where the valid frames end, in bytes.
    pub(crate) end: u32,
    pub(crate) records: u64,
    /// Something that is no valid frame lies behind the end.
    pub(crate) is_torn: bool,
}

impl Candidate {
    /// Looks at a segment file's length and first frame.
    pub(crate) async fn examine<D: Disk>(
        disk: &D,
        paths: &Paths,
        segment: SegmentId,
        day: Day,
    ) -> Result<Self, StoreError> {
        let path = paths.segment(segment, day);
        let file = disk.open(&path).await?;
        let length = file.length().await?;
        let length = u32::try_from(length).unwrap_or(u32::MAX) / BLOCK_BYTES * BLOCK_BYTES;
        let opening = if length == 0 {
            None
        } else {
            let block = file.read_at(0, BLOCK_BYTES).await?;
            read_opening(&block, segment, &path)?
        };
        file.close().await?;
        Ok(Self {
            segment,
            day,
            path,
            length,
            opening,
        })
    }

    /// The segment before this one in its log and where that one ends, if there is one.
    pub(crate) fn previous(&self) -> Option<(SegmentId, u32)> {
        let opened = self.opening?;
        (opened.previous != 0).then_some((SegmentId(opened.previous), opened.previous_end))
    }

    /// Walks the segment. `on_record` gets every record in order.
    pub(crate) async fn scan<D: Disk>(
        &self,
        disk: &D,
        config: &StoreConfig,
        recorded_end: Option<u32>,
        on_record: impl FnMut(RecordView<'_>, Location) -> Result<(), StoreError>,
    ) -> Result<Scanned, StoreError> {
        let file = disk.open(&self.path).await?;
        let window = Window {
            file: &file,
            length: self.length,
            chunk_bytes: config.chunk_bytes,
            start: 0,
            bytes: None,
        };
        let mut walk = Walk {
            candidate: self,
            window,
            offset: 0,
            next_frame: 0,
            records: 0,
        };
        let scanned = walk.run(recorded_end, on_record).await;
        file.close().await?;
        scanned
    }

    fn corrupt(&self, offset: u32, damage: Damage) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            offset,
            damage,
        }
    }
}

fn read_opening(
    block: &[u8],
    segment: SegmentId,
    path: &std::path::Path,
) -> Result<Option<Opened>, StoreError> {
    let Some(frame) = Frame::decode(block) else {
        return Ok(None);
    };
    if frame.version != FORMAT_VERSION {
        return Err(StoreError::Unsupported {
            path: path.to_path_buf(),
            version: frame.version,
        });
    }
    let is_opening = frame.kind == Some(FrameKind::Opening)
        && frame.place.segment == segment
        && frame.place.frame_seq == 0;
    let body = frame.body(block).filter(|_| is_opening);
    Ok(body
        .and_then(decode_opening)
        .map(|opening: Opening| Opened {
            salt: frame.place.salt,
            previous: opening.previous.get(),
            previous_end: opening.previous_end.get(),
        }))
}

struct Walk<'a, F: DiskFile> {
    candidate: &'a Candidate,
    window: Window<'a, F>,
    offset: u32,
    next_frame: u64,
    records: u64,
}

impl<F: DiskFile> Walk<'_, F> {
    async fn run(
        &mut self,
        recorded_end: Option<u32>,
        mut on_record: impl FnMut(RecordView<'_>, Location) -> Result<(), StoreError>,
    ) -> Result<Scanned, StoreError> {
        if let Some(end) = recorded_end.filter(|end| *end > self.candidate.length) {
            let damage = Damage::BeforeRecordedEnd {
                lost: 0,
                recorded_end: end,
            };
            return Err(self.candidate.corrupt(self.candidate.length, damage));
        }
        while Some(self.offset) != recorded_end && self.offset < self.candidate.length {
            match self.frame().await? {
                Some(frame) => self.take(&frame, &mut on_record).await?,
                None => break,
            }
        }
        match recorded_end {
            Some(end) if end == self.offset => Ok(self.found(false)),
            Some(recorded_end) => {
                let damage = Damage::BeforeRecordedEnd {
                    lost: self.next_frame,
                    recorded_end,
                };
                Err(self.candidate.corrupt(self.offset, damage))
            }
            None => {
                let is_torn = self.look_ahead().await?;
                Ok(self.found(is_torn))
            }
        }
    }

    fn found(&self, is_torn: bool) -> Scanned {
        Scanned {
            end: self.offset,
            records: self.records,
            is_torn,
        }
    }

    /// The valid frame at the present offset, if there is one and it is the next.
    async fn frame(&mut self) -> Result<Option<Frame>, StoreError> {
        let Some(opened) = self.candidate.opening else {
            return Ok(None);
        };
        let block = self.window.at(self.offset, BLOCK_BYTES).await?;
        let Some(frame) = Frame::decode(block) else {
            return Ok(None);
        };
        let is_next = frame.place.salt == opened.salt
            && frame.place.segment == self.candidate.segment
            && frame.place.frame_seq == self.next_frame;
        if !is_next {
            return Ok(None);
        }
        if frame.version != FORMAT_VERSION || frame.kind.is_none() {
            let path = self.candidate.path.clone();
            return Err(StoreError::Unsupported {
                path,
                version: frame.version,
            });
        }
        let room = self.candidate.length - self.offset;
        let Some(span) = frame.blocks_bytes(room) else {
            return Ok(None);
        };
        let bytes = self.window.at(self.offset, span).await?;
        Ok(frame.body(bytes).is_some().then_some(frame))
    }

    /// Hands the records of a valid frame over and moves behind it.
    async fn take(
        &mut self,
        frame: &Frame,
        on_record: &mut impl FnMut(RecordView<'_>, Location) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let room = self.candidate.length - self.offset;
        let span = frame
            .blocks_bytes(room)
            .expect("checked when the frame was found");
        if frame.kind == Some(FrameKind::Records) {
            let bytes = self.window.at(self.offset, span).await?;
            let body = frame.body(bytes).expect("checked when the frame was found");
            let records = each_record(self.candidate, self.offset, body, on_record)?;
            if records != frame.records {
                return Err(self.candidate.corrupt(self.offset, Damage::FrameContent));
            }
            self.records += u64::from(records);
        }
        self.offset += span;
        self.next_frame += 1;
        Ok(())
    }

    /// Looks at every block behind a bad frame. An error if the bad one was durable; otherwise
    /// whether there is anything but zeroes.
    async fn look_ahead(&mut self) -> Result<bool, StoreError> {
        let lost = self.next_frame;
        let mut is_torn = false;
        let mut offset = self.offset;
        while offset < self.candidate.length {
            let block = self.window.at(offset, BLOCK_BYTES).await?;
            is_torn |= block.iter().any(|byte| *byte != 0);
            let frame = Frame::decode(block).filter(|_| offset > self.offset);
            if let Some(frame) = frame.filter(|frame| self.proves_loss(frame, lost)) {
                let later = frame.place.frame_seq;
                let damage = Damage::FrameLost {
                    lost,
                    later,
                    later_offset: offset,
                };
                return Err(self.candidate.corrupt(self.offset, damage));
            }
            offset += BLOCK_BYTES;
        }
        Ok(is_torn)
    }

    /// Whether a later frame says that the lost one was durable. Without an opening the salt is
    /// unknown; then the segment's number alone tells this use of the file.
    fn proves_loss(&self, frame: &Frame, lost: u64) -> bool {
        let salt = self
            .candidate
            .opening
            .map_or(frame.place.salt, |opened| opened.salt);
        frame.place.segment == self.candidate.segment
            && frame.place.salt == salt
            && frame.place.frame_seq >= lost
            && frame.place.synced_frames > lost
    }
}

fn each_record(
    candidate: &Candidate,
    frame_offset: u32,
    body: &[u8],
    on_record: &mut impl FnMut(RecordView<'_>, Location) -> Result<(), StoreError>,
) -> Result<u32, StoreError> {
    let mut rest = body;
    let mut offset = frame_offset + crate::format::FRAME_HEADER_BYTES;
    let mut records = 0;
    while !rest.is_empty() {
        let record = RecordView::decode(rest).map_err(|bad| match bad {
            BadRecord::Damaged => candidate.corrupt(offset, Damage::Record),
            BadRecord::Unknown(version) => StoreError::Unsupported {
                path: candidate.path.clone(),
                version,
            },
        })?;
        let bytes = record.bytes();
        on_record(
            record,
            Location {
                segment: candidate.segment,
                offset,
                bytes,
            },
        )?;
        rest = &rest[bytes as usize..];
        offset += bytes;
        records += 1;
    }
    Ok(records)
}

/// The part of a file that was read last.
struct Window<'a, F: DiskFile> {
    file: &'a F,
    length: u32,
    chunk_bytes: u32,
    start: u32,
    bytes: Option<F::Read>,
}

impl<F: DiskFile> Window<'_, F> {
    /// Bytes of the file, which must lie within its length.
    async fn at(&mut self, offset: u32, bytes: u32) -> Result<&[u8], DiskError> {
        assert!(
            bytes <= self.length - offset,
            "only what the file holds is asked for"
        );
        let is_here = self.bytes.as_ref().is_some_and(|read| {
            offset >= self.start && (offset - self.start + bytes) as usize <= read.len()
        });
        if !is_here {
            let wanted = bytes.max(self.chunk_bytes).min(self.length - offset);
            self.bytes = Some(self.file.read_at(offset.into(), wanted).await?);
            self.start = offset;
        }
        let read = self.bytes.as_ref().expect("read just now or before");
        let start = (offset - self.start) as usize;
        Ok(&read[start..start + bytes as usize])
    }
}
