//! The bytes of a segment: frames in whole blocks, records inside frames. `FORMAT.md` is the
//! specification, and a test compares its tables with the structures here.
//!
//! Nothing here reads or writes a file.
//!
//! Invariants: all numbers are little-endian; a frame begins at a multiple of the block size and
//! is padded with zeroes to one; decoding looks at checksums before it believes anything.

use bytes::Bytes;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::BLOCK_BYTES;
use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey, SegmentId};
use crate::record::{Record, RecordKind, RecordMeta};

/// First bytes of every frame.
pub(crate) const FRAME_MAGIC: [u8; 4] = *b"THRF";
/// Version of the segment format.
pub(crate) const FORMAT_VERSION: u16 = 1;
/// Length of [`FrameHeader`].
pub(crate) const FRAME_HEADER_BYTES: u32 = 64;
/// Length of [`RecordHeader`].
pub(crate) const RECORD_HEADER_BYTES: u32 = 112;
/// Length of [`Opening`].
pub(crate) const OPENING_BYTES: u32 = 32;

/// What a frame is for. Numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum FrameKind {
    /// Frame 0 of a segment: what the segment is. Its body is an [`Opening`].
    Opening = 1,
    /// A commit: records, one after the other.
    Records = 2,
    /// Nothing; proves that everything before it was acknowledged.
    Idle = 3,
}

impl FrameKind {
    fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Opening),
            2 => Some(Self::Records),
            3 => Some(Self::Idle),
            _ => None,
        }
    }
}

/// What every frame begins with.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct FrameHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) kind: U16,
    pub(crate) salt: U64,
    pub(crate) segment: U32,
    pub(crate) day: U32,
    pub(crate) frame_seq: U64,
    pub(crate) synced_frames: U64,
    pub(crate) body_bytes: U32,
    pub(crate) records: U32,
    pub(crate) reserved: [u8; 8],
    pub(crate) body_crc: U32,
    pub(crate) header_crc: U32,
}

/// The body of a segment's first frame.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct Opening {
    pub(crate) shard: U16,
    pub(crate) shards: U16,
    pub(crate) segment_bytes: U32,
    pub(crate) created_ms: U64,
    pub(crate) previous: U32,
    pub(crate) previous_end: U32,
    pub(crate) previous_day: U32,
    pub(crate) reserved: [u8; 4],
}

/// What every record begins with; its body follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct RecordHeader {
    pub(crate) bytes: U32,
    pub(crate) crc: U32,
    pub(crate) kind: U16,
    pub(crate) schema: U16,
    pub(crate) reserved: [u8; 4],
    pub(crate) channel: [u8; 16],
    pub(crate) message: [u8; 16],
    pub(crate) author: [u8; 16],
    pub(crate) target: [u8; 16],
    pub(crate) nonce: [u8; 16],
    pub(crate) seq: U64,
    pub(crate) rev: U64,
}

/// Where a frame stands: all that its header needs beside its content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FramePlace {
    pub(crate) salt: u64,
    pub(crate) segment: SegmentId,
    pub(crate) day: u32,
    pub(crate) frame_seq: u64,
    /// How many of the segment's frames were known to be synced when this one was written.
    pub(crate) synced_frames: u64,
}

/// Rounds up to whole blocks.
pub(crate) fn whole_blocks(bytes: u32) -> u32 {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// Writes an opening frame into the first block of `out`.
pub(crate) fn encode_opening(place: FramePlace, opening: &Opening, out: &mut [u8]) {
    assert_eq!(place.frame_seq, 0, "a segment opens with its first frame");
    let body_end = (FRAME_HEADER_BYTES + OPENING_BYTES) as usize;
    out[FRAME_HEADER_BYTES as usize..body_end].copy_from_slice(opening.as_bytes());
    out[body_end..BLOCK_BYTES as usize].fill(0);
    let body = FrameBody::of(out, OPENING_BYTES, 0);
    finish_frame(place, FrameKind::Opening, body, out);
}

/// Writes an empty frame into the first block of `out`.
pub(crate) fn encode_idle(place: FramePlace, out: &mut [u8]) {
    out[..BLOCK_BYTES as usize].fill(0);
    finish_frame(place, FrameKind::Idle, FrameBody::of(out, 0, 0), out);
}

/// Records that are copied before their checksums are made.
const COPY_RECORDS: usize = 16;

/// Writes records into `out`, which is exactly as long as their frame in whole blocks and may hold
/// anything. The first [`FRAME_HEADER_BYTES`] are left for [`finish_frame`].
pub(crate) fn encode_body(records: &[Record], out: &mut [u8]) {
    let mut at = FRAME_HEADER_BYTES as usize;
    // Bodies come from all over memory. Copied one after the other, with no checksum between
    // them, they are waited for together.
    for some in records.chunks(COPY_RECORDS) {
        let mut sealed = at;
        for record in some {
            at += copy_record(record, &mut out[at..]);
        }
        for record in some {
            let end = sealed + record_length(record);
            seal_record(&mut out[sealed..end]);
            sealed = end;
        }
    }
    assert_eq!(
        whole_blocks(number(at)) as usize,
        out.len(),
        "the buffer fits the frame"
    );
    out[at..].fill(0);
}

/// Bytes of a frame with these records, header included, before rounding up to blocks.
pub(crate) fn frame_bytes(records: &[Record]) -> u64 {
    u64::from(FRAME_HEADER_BYTES) + records.iter().map(Record::bytes).sum::<u64>()
}

/// Writes one record to the start of `out`. Returns its length.
pub(crate) fn encode_record(record: &Record, out: &mut [u8]) -> usize {
    let bytes = copy_record(record, out);
    seal_record(&mut out[..bytes]);
    bytes
}

fn record_length(record: &Record) -> usize {
    RECORD_HEADER_BYTES as usize + record.body.len()
}

/// Writes one record without its checksum. Returns its length.
fn copy_record(record: &Record, out: &mut [u8]) -> usize {
    let bytes = record_length(record);
    let header = RecordHeader {
        bytes: number(bytes).into(),
        crc: 0.into(),
        kind: record.kind.number().into(),
        schema: record.schema.into(),
        reserved: [0; 4],
        channel: record.channel.0,
        message: record.message.0,
        author: record.author.0,
        target: record.target.0,
        nonce: record.nonce.0,
        seq: record.seq.into(),
        rev: record.rev.into(),
    };
    let out = &mut out[..bytes];
    out[..RECORD_HEADER_BYTES as usize].copy_from_slice(header.as_bytes());
    out[RECORD_HEADER_BYTES as usize..].copy_from_slice(&record.body);
    bytes
}

/// Writes a record's checksum.
fn seal_record(record: &mut [u8]) {
    let crc = record_crc(record);
    record[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The checksum covers everything but itself: the length, then all that follows the checksum.
fn record_crc(record: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&record[..4]), &record[8..])
}

/// What a frame's body is, as its header says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FrameBody {
    pub(crate) bytes: u32,
    pub(crate) records: u32,
    crc: u32,
}

impl FrameBody {
    /// Of the frame that lies at the start of `frame`, behind a header still to be written.
    pub(crate) fn of(frame: &[u8], bytes: u32, records: u32) -> Self {
        let body = &frame[header_range()][..bytes as usize];
        Self {
            bytes,
            records,
            crc: crc32c::crc32c(body),
        }
    }
}

/// Writes a frame's header, before a body that is there already.
pub(crate) fn finish_frame(place: FramePlace, kind: FrameKind, body: FrameBody, out: &mut [u8]) {
    let mut header = FrameHeader {
        magic: FRAME_MAGIC,
        version: FORMAT_VERSION.into(),
        kind: (kind as u16).into(),
        salt: place.salt.into(),
        segment: place.segment.0.into(),
        day: place.day.into(),
        frame_seq: place.frame_seq.into(),
        synced_frames: place.synced_frames.into(),
        body_bytes: body.bytes.into(),
        records: body.records.into(),
        reserved: [0; 8],
        body_crc: body.crc.into(),
        header_crc: 0.into(),
    };
    header.header_crc = header_crc(&header).into();
    out[..FRAME_HEADER_BYTES as usize].copy_from_slice(header.as_bytes());
}

fn header_range() -> std::ops::RangeFrom<usize> {
    FRAME_HEADER_BYTES as usize..
}

fn header_crc(header: &FrameHeader) -> u32 {
    let bytes = header.as_bytes();
    crc32c::crc32c(&bytes[..bytes.len() - 4])
}

fn number(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("everything inside a segment is below 1 GiB")
}

/// A frame's header whose checksum holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Option<FrameKind>,
    pub(crate) version: u16,
    pub(crate) place: FramePlace,
    pub(crate) body_bytes: u32,
    pub(crate) records: u32,
    body_crc: u32,
}

impl Frame {
    /// Reads the header at the start of `block`; `None` if there is no valid one.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let (header, _) = FrameHeader::read_from_prefix(block).ok()?;
        if header.magic != FRAME_MAGIC || header.header_crc.get() != header_crc(&header) {
            return None;
        }
        Some(Self {
            kind: FrameKind::from_number(header.kind.get()),
            version: header.version.get(),
            place: FramePlace {
                salt: header.salt.get(),
                segment: SegmentId(header.segment.get()),
                day: header.day.get(),
                frame_seq: header.frame_seq.get(),
                synced_frames: header.synced_frames.get(),
            },
            body_bytes: header.body_bytes.get(),
            records: header.records.get(),
            body_crc: header.body_crc.get(),
        })
    }

    /// Bytes of the frame in whole blocks; `None` if its body cannot be that long.
    pub(crate) fn blocks_bytes(&self, segment_bytes: u32) -> Option<u32> {
        let bytes = self.body_bytes.checked_add(FRAME_HEADER_BYTES)?;
        (bytes <= segment_bytes).then(|| whole_blocks(bytes))
    }

    /// The frame's body, if its checksum holds. `bytes` begins with the frame.
    pub(crate) fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(header_range())?.get(..self.body_bytes as usize)?;
        (crc32c::crc32c(body) == self.body_crc).then_some(body)
    }
}

/// Reads the body of an opening frame.
pub(crate) fn decode_opening(body: &[u8]) -> Option<Opening> {
    Opening::read_from_bytes(body).ok()
}

/// Why a record could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BadRecord {
    /// Its length or checksum is wrong.
    Damaged,
    /// It is valid, but of a kind that this version does not know.
    Unknown(u16),
}

/// A record as it lies in a segment, checksum verified.
#[derive(Clone, Copy)]
pub(crate) struct RecordView<'a> {
    header: &'a RecordHeader,
    body: &'a [u8],
    kind: RecordKind,
}

impl<'a> RecordView<'a> {
    /// Reads the record at the start of `bytes`, which may go on behind it.
    pub(crate) fn decode(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        let view = Self::decode_copy(bytes)?;
        if record_crc(&bytes[..view.bytes() as usize]) != view.header.crc.get() {
            return Err(BadRecord::Damaged);
        }
        Ok(view)
    }

    /// As [`RecordView::decode`], for a copy in memory of what was verified on its way there.
    pub(crate) fn decode_copy(bytes: &'a [u8]) -> Result<Self, BadRecord> {
        let (header, _) = RecordHeader::ref_from_prefix(bytes).map_err(|_| BadRecord::Damaged)?;
        let length = header.bytes.get() as usize;
        if length < RECORD_HEADER_BYTES as usize || length > bytes.len() {
            return Err(BadRecord::Damaged);
        }
        let bytes = &bytes[..length];
        let kind = header.kind.get();
        let kind = RecordKind::from_number(kind).ok_or(BadRecord::Unknown(kind))?;
        Ok(Self {
            header,
            body: &bytes[RECORD_HEADER_BYTES as usize..],
            kind,
        })
    }

    /// Its length, header and body.
    pub(crate) fn bytes(&self) -> u32 {
        self.header.bytes.get()
    }

    /// The part that the index keeps.
    pub(crate) fn meta(&self) -> RecordMeta {
        RecordMeta {
            kind: self.kind,
            channel: ChannelKey(self.header.channel),
            message: MessageKey(self.header.message),
            seq: self.header.seq.get(),
            rev: self.header.rev.get(),
        }
    }

    pub(crate) fn author(&self) -> AuthorKey {
        AuthorKey(self.header.author)
    }

    pub(crate) fn nonce(&self) -> NonceKey {
        NonceKey(self.header.nonce)
    }

    /// Copies it as it lies there.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.header.as_bytes());
        out.extend_from_slice(self.body);
    }

    /// A copy that stands by itself.
    pub(crate) fn to_record(self) -> Record {
        self.with_body(Bytes::copy_from_slice(self.body))
    }

    /// A copy whose body is shared with the memory that the record lies in.
    pub(crate) fn to_record_within(self, memory: &Bytes) -> Record {
        self.with_body(memory.slice_ref(self.body))
    }

    fn with_body(self, body: Bytes) -> Record {
        Record {
            kind: self.kind,
            schema: self.header.schema.get(),
            channel: ChannelKey(self.header.channel),
            message: MessageKey(self.header.message),
            author: self.author(),
            seq: self.header.seq.get(),
            rev: self.header.rev.get(),
            target: MessageKey(self.header.target),
            nonce: self.nonce(),
            body,
        }
    }
}
