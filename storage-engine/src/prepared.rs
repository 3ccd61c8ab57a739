//! Commits made ready: records in the form in which they are written, before it is their turn.
//!
//! Where a commit will lie is not known here; its frame's header is written when it is.
//!
//! Invariants: what is prepared is within the limits, so an empty segment takes it.

use crate::config::{Durability, StoreConfig};
use crate::disk::Disk;
use crate::format::{
    FRAME_HEADER_BYTES, FrameBody, FrameKind, FramePlace, encode_body, finish_frame, frame_bytes,
    whole_blocks,
};
use crate::key::SegmentId;
use crate::record::{Location, Record};

/// Makes commits ready for one log while it writes others: most of a commit's work beside the
/// write itself. See [`crate::Log::begin`].
#[derive(Clone)]
pub struct Encoder<D> {
    disk: D,
    config: StoreConfig,
}

impl<D: Disk> Encoder<D> {
    pub(crate) fn new(disk: D, config: StoreConfig) -> Self {
        Self { disk, config }
    }

    /// Makes a commit of these records, copied.
    ///
    /// # Panics
    /// If there are no records, or one record or all together exceed the limits.
    #[must_use]
    pub fn prepare(&self, records: &[Record]) -> Prepared<D> {
        self.assert_within_limits(records);
        let frame_bytes = number(frame_bytes(records));
        let span = whole_blocks(frame_bytes);
        let mut buffer = match self.config.durability {
            Durability::Sync => self.disk.commit_buffer(span),
            Durability::Interval { .. } | Durability::Off => self.disk.buffer(span),
        };
        let out = buffer.as_mut();
        encode_body(records, out);
        let count = number(records.len() as u64);
        let body = FrameBody::of(out, frame_bytes - FRAME_HEADER_BYTES, count);
        Prepared {
            buffer,
            frame_bytes,
            body,
            places: places(records),
        }
    }

    fn assert_within_limits(&self, records: &[Record]) {
        assert!(!records.is_empty(), "a commit holds something");
        for record in records {
            assert!(
                record.bytes() <= self.config.record_bytes_max.into(),
                "record too large"
            );
        }
        assert!(
            frame_bytes(records) <= self.config.commit_bytes_max.into(),
            "commit too large"
        );
    }
}

fn places(records: &[Record]) -> Vec<PreparedRecord> {
    let mut offset = FRAME_HEADER_BYTES;
    let place = |record: &Record| {
        let bytes = number(record.bytes());
        let place = PreparedRecord {
            record: record.clone(),
            offset,
            bytes,
        };
        offset += bytes;
        place
    };
    records.iter().map(place).collect()
}

fn number(bytes: u64) -> u32 {
    u32::try_from(bytes).expect("everything inside a commit is below 1 GiB")
}

/// A commit that is ready to be written.
pub struct Prepared<D: Disk> {
    buffer: D::Buffer,
    frame_bytes: u32,
    body: FrameBody,
    places: Vec<PreparedRecord>,
}

/// A record of a commit, and where it lies from the start of its frame.
pub(crate) struct PreparedRecord {
    pub(crate) record: Record,
    offset: u32,
    bytes: u32,
}

impl PreparedRecord {
    /// Where it lies if its frame begins there.
    pub(crate) fn location(&self, segment: SegmentId, frame_start: u32) -> Location {
        Location {
            segment,
            offset: frame_start + self.offset,
            bytes: self.bytes,
        }
    }
}

impl<D: Disk> Prepared<D> {
    /// Length of its frame, in bytes, before rounding up to blocks.
    pub(crate) fn frame_bytes(&self) -> u32 {
        self.frame_bytes
    }

    /// The finished frame, and what is in it.
    pub(crate) fn finish(mut self, place: FramePlace) -> (D::Buffer, Vec<PreparedRecord>) {
        finish_frame(place, FrameKind::Records, self.body, self.buffer.as_mut());
        (self.buffer, self.places)
    }
}
