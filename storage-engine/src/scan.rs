//! Walks one segment from its first frame to its end, and judges what it finds there.
//!
//! It changes nothing on disk.
//!
//! Invariants: a bad frame is a torn tail only if nothing that was durable before it was lost,
//! as far as the file can tell: no later frame of the same use of the file says that the bad one
//! was synced, and no recorded end lies behind it.

use std::path::{Path, PathBuf};

use crate::config::{BLOCK_BYTES, StoreConfig};
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::format::{
    BadRecord, FORMAT_VERSION, FRAME_HEADER_BYTES, Frame, FrameKind, Opening, RecordView,
    decode_opening,
};
use crate::hot::SegmentOrigin;
use crate::key::SegmentId;
use crate::record::{Location, Record};
use crate::segment::{Day, Paths};
use crate::window::Window;

/// One segment file, its opening read.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) segment: SegmentId,
    pub(crate) day: Day,
    pub(crate) path: PathBuf,
    /// Of the file, in whole blocks.
    pub(crate) length: u32,
    opening: Option<Opened>,
}

#[derive(Clone, Copy, Debug)]
struct Opened {
    salt: u64,
    shard: u16,
    created_ms: u64,
    previous: Option<Previous>,
}

/// What an opening says of its log's segment before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Previous {
    pub(crate) segment: SegmentId,
    /// Where it ends, in bytes.
    pub(crate) end: u32,
    /// Its day; `None` in segments that were written before this was noted.
    pub(crate) day: Option<Day>,
}

/// What a scan found.
#[derive(Clone, Copy, Debug)]
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
        Self::examine_at(disk, paths.segment(segment, day), segment, day).await
    }

    /// As [`Candidate::examine`], for a segment that may lie elsewhere.
    pub(crate) async fn examine_at<D: Disk>(
        disk: &D,
        path: PathBuf,
        segment: SegmentId,
        day: Day,
    ) -> Result<Self, StoreError> {
        let file = disk.open(&path).await?;
        let length = file.length().await?;
        let length = u32::try_from(length).unwrap_or(u32::MAX) / BLOCK_BYTES * BLOCK_BYTES;
        let opening = if length == 0 {
            None
        } else {
            let block = file.read_at(0, BLOCK_BYTES).await?;
            match read_opening(&block, segment, &path)? {
                Some(opening) => Some(opening),
                // Nothing is cut off for what a single read said.
                None => read_opening(&file.read_at(0, BLOCK_BYTES).await?, segment, &path)?,
            }
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

    /// The segment before this one in its log, if there is one.
    pub(crate) fn previous(&self) -> Option<Previous> {
        self.opening?.previous
    }

    /// What its index counts from; `None` without a valid opening.
    pub(crate) fn origin(&self) -> Option<SegmentOrigin> {
        let opened = self.opening?;
        Some(SegmentOrigin {
            segment: self.segment,
            day: self.day,
            shard: opened.shard,
            salt: opened.salt,
            created_ms: opened.created_ms,
        })
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
        let mut walk = Walk::new(self.clone(), file, config);
        let scanned = walk.run(recorded_end, on_record).await;
        walk.window.close().await?;
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

/// Reads a segment's records in order, one commit at a time, up to an end that is known.
pub struct SegmentScan<D: Disk> {
    walk: Walk<D::File>,
    end: u32,
}

impl<D: Disk> SegmentScan<D> {
    /// Begins at the start of a segment of the data directory `root`; all its frames up to `end`,
    /// in bytes, are known to be acknowledged.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn open(
        disk: &D,
        root: &Path,
        config: &StoreConfig,
        segment: SegmentId,
        day: Day,
        end: u32,
    ) -> Result<Self, StoreError> {
        let paths = Paths::new(root);
        let mut candidate = Candidate::examine(disk, &paths, segment, day).await?;
        if end > candidate.length {
            let damage = Damage::BeforeRecordedEnd {
                lost: 0,
                recorded_end: end,
            };
            return Err(candidate.corrupt(candidate.length, damage));
        }
        candidate.length = 0;
        let file = disk.open(&candidate.path).await?;
        let mut scan = Self {
            walk: Walk::new(candidate, file, config),
            end: 0,
        };
        scan.extend(end);
        Ok(scan)
    }

    /// Where the next frame begins, in bytes: what [`SegmentScan::skip_to`] takes.
    #[must_use]
    pub fn position(&self) -> u32 {
        self.walk.offset
    }

    /// The next commit's records and where each lies; `None` at the end.
    ///
    /// # Errors
    /// If the disk fails, or what lies before the end is damaged.
    pub async fn next_commit(&mut self) -> Result<Option<Vec<(Record, Location)>>, StoreError> {
        let mut records = Vec::new();
        while records.is_empty() && self.walk.offset < self.end {
            let Some(frame) = self.walk.frame().await? else {
                return Err(self.walk.before_end(self.end));
            };
            let mut push = |record: RecordView<'_>, location| {
                records.push((record.to_record(), location));
                Ok(())
            };
            self.walk.take(&frame, &mut push).await?;
        }
        Ok((!records.is_empty()).then_some(records))
    }

    /// Goes on at a frame's beginning, of which everything before was read earlier.
    ///
    /// # Errors
    /// If no valid frame of this segment begins there.
    pub async fn skip_to(&mut self, position: u32) -> Result<(), StoreError> {
        self.walk.offset = position;
        if position < self.end {
            let found = self.walk.number_at(position).await?;
            self.walk.next_frame = found.ok_or_else(|| self.walk.before_end(self.end))?;
        }
        Ok(())
    }

    /// Notes that the segment is known to be acknowledged up to a later end, in bytes.
    pub fn extend(&mut self, end: u32) {
        self.end = self.end.max(end);
        // Nothing behind the end is read, since it may still change.
        self.walk.candidate.length = self.end;
        self.walk.window.extend(self.end.into());
    }

    /// Gives the file back.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn close(self) -> Result<(), StoreError> {
        Ok(self.walk.window.close().await?)
    }
}

fn read_opening(
    block: &[u8],
    segment: SegmentId,
    path: &Path,
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
        .map(|opening| opened(frame.place.salt, &opening)))
}

fn opened(salt: u64, opening: &Opening) -> Opened {
    let previous = Previous {
        segment: SegmentId(opening.previous.get()),
        end: opening.previous_end.get(),
        day: Some(Day(opening.previous_day.get())).filter(|day| *day != Day(0)),
    };
    Opened {
        salt,
        shard: opening.shard.get(),
        created_ms: opening.created_ms.get(),
        previous: (previous.segment != SegmentId(0)).then_some(previous),
    }
}

struct Walk<F: DiskFile> {
    candidate: Candidate,
    window: Window<F>,
    offset: u32,
    next_frame: u64,
    records: u64,
}

impl<F: DiskFile> Walk<F> {
    fn new(candidate: Candidate, file: F, config: &StoreConfig) -> Self {
        Self {
            window: Window::new(file, candidate.length.into(), config.chunk_bytes),
            candidate,
            offset: 0,
            next_frame: 0,
            records: 0,
        }
    }

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
            match self.frame_read_twice().await? {
                Some(frame) => self.take(&frame, &mut on_record).await?,
                None => break,
            }
        }
        match recorded_end {
            Some(end) if end == self.offset => Ok(self.found(false)),
            Some(end) => Err(self.before_end(end)),
            None => {
                let is_torn = self.look_ahead().await?;
                Ok(self.found(is_torn))
            }
        }
    }

    /// No frame where one must be, since the segment is known to go on up to this end.
    fn before_end(&self, recorded_end: u32) -> StoreError {
        let damage = Damage::BeforeRecordedEnd {
            lost: self.next_frame,
            recorded_end,
        };
        self.candidate.corrupt(self.offset, damage)
    }

    fn found(&self, is_torn: bool) -> Scanned {
        Scanned {
            end: self.offset,
            records: self.records,
            is_torn,
        }
    }

    /// As [`Walk::frame`], but asks the device again before it says no: a read that went wrong
    /// must not have anything cut off.
    async fn frame_read_twice(&mut self) -> Result<Option<Frame>, StoreError> {
        if let Some(frame) = self.frame().await? {
            return Ok(Some(frame));
        }
        self.window.forget();
        self.frame().await
    }

    /// The valid frame at the present offset, if there is one and it is the next.
    async fn frame(&mut self) -> Result<Option<Frame>, StoreError> {
        let Some(opened) = self.candidate.opening else {
            return Ok(None);
        };
        let block = self.window.at(self.offset.into(), BLOCK_BYTES).await?;
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
        let bytes = self.window.at(self.offset.into(), span).await?;
        Ok(frame.body(bytes).is_some().then_some(frame))
    }

    /// The number of the frame at an offset, if one of this segment's begins there.
    async fn number_at(&mut self, offset: u32) -> Result<Option<u64>, StoreError> {
        let is_inside = offset.saturating_add(BLOCK_BYTES) <= self.candidate.length;
        if !offset.is_multiple_of(BLOCK_BYTES) || !is_inside {
            return Ok(None);
        }
        let block = self.window.at(offset.into(), BLOCK_BYTES).await?;
        let frame = Frame::decode(block);
        let frame = frame.filter(|frame| frame.place.segment == self.candidate.segment);
        Ok(frame.map(|frame| frame.place.frame_seq))
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
            let bytes = self.window.at(self.offset.into(), span).await?;
            let body = frame.body(bytes).expect("checked when the frame was found");
            let records = each_record(&self.candidate, self.offset, body, on_record)?;
            if records != frame.records {
                return Err(self.candidate.corrupt(self.offset, Damage::FrameContent));
            }
            self.records += u64::from(records);
        }
        self.offset += span;
        self.next_frame += 1;
        Ok(())
    }

    /// Looks at the block of a bad frame and every one behind it. An error if the bad one was durable; otherwise
    /// whether there is anything but zeroes.
    async fn look_ahead(&mut self) -> Result<bool, StoreError> {
        let lost = self.next_frame;
        let mut is_torn = false;
        let mut offset = self.offset;
        while offset < self.candidate.length {
            let block = self.window.at(offset.into(), BLOCK_BYTES).await?;
            is_torn |= block.iter().any(|byte| *byte != 0);
            // Also at the lost one's own place: a later one may have been written over it.
            let frame = Frame::decode(block);
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
    let mut offset = frame_offset + FRAME_HEADER_BYTES;
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
