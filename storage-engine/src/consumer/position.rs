//! How far a consumer has come: for every log a segment and a place in it, and a low-water mark.
//!
//! It does not know which segments there are.
//!
//! Invariants: a segment is passed if its number is below the low-water mark, or below that of its
//! log's head; heads only move forward; heads of another number of logs are taken over only when
//! nothing of the runs before is left to read, so that what was passed never has to be listed.

use std::path::Path;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ends::{Ends, SegmentEnd};
use super::name::ConsumerName;
use crate::config::BLOCK_BYTES;
use crate::error::{Damage, StoreError};
use crate::format::FORMAT_VERSION;
use crate::key::SegmentId;

/// First bytes of a position file.
pub(crate) const POSITION_MAGIC: [u8; 4] = *b"THRP";
const HEADER_BYTES: usize = size_of::<PositionHeader>();

/// What a position file begins with. One [`PositionHead`] per log follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct PositionHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) heads: U16,
    pub(crate) low: U32,
    pub(crate) name_crc: U32,
    pub(crate) newest_ms: U64,
    pub(crate) body_crc: U32,
    pub(crate) header_crc: U32,
}

/// How far one log was consumed.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct PositionHead {
    pub(crate) segment: U32,
    pub(crate) offset: U32,
    pub(crate) taken: U32,
    pub(crate) reserved: [u8; 4],
    pub(crate) records: U64,
}

/// A place in a segment: everything before it was consumed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) segment: SegmentId,
    /// Where the next frame begins, in bytes.
    pub(crate) offset: u32,
    /// How many of that frame's records were consumed.
    pub(crate) taken: u32,
    /// How many of the segment's records were consumed.
    pub(crate) records: u64,
}

impl Head {
    /// The beginning of a segment.
    pub(crate) fn begin(segment: SegmentId) -> Self {
        Self {
            segment,
            offset: 0,
            taken: 0,
            records: 0,
        }
    }
}

/// A consumer's place in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    low: SegmentId,
    heads: Vec<Head>,
    newest_ms: u64,
}

impl Position {
    /// Before everything.
    pub(crate) fn oldest() -> Self {
        Self {
            low: SegmentId(0),
            heads: vec![Head::begin(SegmentId(0))],
            newest_ms: 0,
        }
    }

    /// Behind everything that is durable now.
    pub(crate) fn newest(ends: &Ends) -> Self {
        let mut position = Self::oldest();
        position.rebase(ends);
        for (segment, end) in ends.iter().filter(|(segment, _)| *segment >= ends.first()) {
            let head = Head {
                offset: end.end,
                records: end.records,
                ..Head::begin(segment)
            };
            position.advance(head, end.newest_ms);
        }
        position.newest_ms = ends.newest_ms();
        position
    }

    /// Whether it may still lie among the segments of earlier runs.
    pub(crate) fn is_before(&self, ends: &Ends) -> bool {
        self.low < ends.first() || self.heads.len() != usize::from(ends.shards())
    }

    /// Whether it speaks of segments that no earlier run has given out: it is of another store.
    pub(crate) fn is_ahead_of(&self, ends: &Ends) -> bool {
        let reaches = |head: &Head| head.segment >= ends.first();
        self.low > ends.first() || (self.is_before(ends) && self.heads.iter().any(reaches))
    }

    /// Goes over to this run's logs, everything before having been consumed.
    pub(crate) fn rebase(&mut self, ends: &Ends) {
        self.low = ends.first();
        self.heads = vec![Head::begin(SegmentId(0)); ends.shards().into()];
    }

    /// Where to go on in a segment; `None` if it was passed.
    pub(crate) fn head_in(&self, segment: SegmentId) -> Option<Head> {
        let head = self.heads[self.log_of(segment)];
        if segment < self.low || segment < head.segment {
            return None;
        }
        Some(if segment == head.segment {
            head
        } else {
            Head::begin(segment)
        })
    }

    /// The segment in which one of this run's logs goes on.
    pub(crate) fn segment_of(&self, log: u16) -> SegmentId {
        self.heads[usize::from(log)].segment
    }

    /// Whether anything of the segment is still to be consumed.
    pub(crate) fn needs(&self, segment: SegmentId, end: u32) -> bool {
        self.head_in(segment).is_some_and(|head| head.offset < end)
    }

    /// Bytes and records of the segment that are still to be consumed.
    pub(crate) fn left_in(&self, segment: SegmentId, end: &SegmentEnd) -> (u64, u64) {
        let Some(head) = self.head_in(segment) else {
            return (0, 0);
        };
        let bytes = end.end.saturating_sub(head.offset);
        (bytes.into(), end.records.saturating_sub(head.records))
    }

    /// Moves forward in a log. `newest_ms` is the time of what was consumed.
    pub(crate) fn advance(&mut self, to: Head, newest_ms: u64) {
        let log = self.log_of(to.segment);
        let head = &mut self.heads[log];
        let order = |head: &Head| (head.segment, head.offset, head.taken);
        assert!(order(head) <= order(&to), "a consumer never goes back");
        *head = to;
        self.newest_ms = self.newest_ms.max(newest_ms);
    }

    /// Time of the newest record consumed, in milliseconds since 1970; 0 if there is none.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.newest_ms
    }

    fn log_of(&self, segment: SegmentId) -> usize {
        segment.0 as usize % self.heads.len()
    }

    /// The whole file, padded to blocks.
    pub(crate) fn encode(&self, name: &ConsumerName) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        for head in &self.heads {
            let head = PositionHead {
                segment: head.segment.0.into(),
                offset: head.offset.into(),
                taken: head.taken.into(),
                reserved: [0; 4],
                records: head.records.into(),
            };
            bytes.extend_from_slice(head.as_bytes());
        }
        let heads = u16::try_from(self.heads.len()).expect("there are as many heads as shards");
        let mut header = PositionHeader {
            magic: POSITION_MAGIC,
            version: FORMAT_VERSION.into(),
            heads: heads.into(),
            low: self.low.0.into(),
            name_crc: name.crc().into(),
            newest_ms: self.newest_ms.into(),
            body_crc: crc32c::crc32c(&bytes[HEADER_BYTES..]).into(),
            header_crc: 0.into(),
        };
        header.header_crc = header_crc(&header).into();
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        bytes
    }

    /// Reads a whole file.
    pub(crate) fn decode(
        bytes: &[u8],
        name: &ConsumerName,
        path: &Path,
    ) -> Result<Self, StoreError> {
        let damaged = || StoreError::Corrupt {
            path: path.to_path_buf(),
            offset: 0,
            damage: Damage::Position,
        };
        let (header, rest) = PositionHeader::read_from_prefix(bytes).map_err(|_| damaged())?;
        if header.magic != POSITION_MAGIC || header.header_crc.get() != header_crc(&header) {
            return Err(damaged());
        }
        if header.version.get() != FORMAT_VERSION {
            return Err(StoreError::Unsupported {
                path: path.to_path_buf(),
                version: header.version.get(),
            });
        }
        let count = usize::from(header.heads.get());
        let heads = <[PositionHead]>::ref_from_prefix_with_elems(rest, count);
        let (heads, _) = heads.map_err(|_| damaged())?;
        let is_valid = crc32c::crc32c(heads.as_bytes()) == header.body_crc.get()
            && header.name_crc.get() == name.crc()
            && !heads.is_empty();
        if !is_valid {
            return Err(damaged());
        }
        Ok(Self {
            low: SegmentId(header.low.get()),
            heads: heads.iter().map(decode_head).collect(),
            newest_ms: header.newest_ms.get(),
        })
    }
}

fn decode_head(head: &PositionHead) -> Head {
    Head {
        segment: SegmentId(head.segment.get()),
        offset: head.offset.get(),
        taken: head.taken.get(),
        records: head.records.get(),
    }
}

fn header_crc(header: &PositionHeader) -> u32 {
    crc32c::crc32c(&header.as_bytes()[..HEADER_BYTES - 4])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::segment::Day;

    fn name() -> ConsumerName {
        ConsumerName::parse("search").unwrap()
    }

    fn ends(first: u32, shards: u16, segments: &[(u32, u32)]) -> Ends {
        let mut ends = Ends::new(SegmentId(first), shards);
        for (segment, end) in segments {
            let end = SegmentEnd {
                day: Day(20_000),
                end: *end,
                records: 1,
                newest_ms: 5,
                is_ended: true,
            };
            ends.note(SegmentId(*segment), end);
        }
        ends
    }

    #[test]
    fn a_log_that_is_behind_does_not_hold_the_others_back() {
        let ends = ends(10, 2, &[(10, 100), (11, 100), (12, 100), (14, 100)]);
        let mut position = Position::oldest();
        position.rebase(&ends);
        let at = |segment, offset| Head {
            offset,
            ..Head::begin(SegmentId(segment))
        };
        position.advance(at(14, 50), 1);
        assert!(!position.needs(SegmentId(10), 100), "its log has gone on");
        assert!(position.needs(SegmentId(11), 100), "another log's");
        assert!(position.needs(SegmentId(14), 100));
        assert!(!position.needs(SegmentId(9), 100), "below the mark");
    }

    #[test]
    fn the_newest_position_needs_nothing_there_is() {
        let ends = ends(10, 3, &[(4, 100), (11, 200), (12, 300), (14, 50)]);
        let position = Position::newest(&ends);
        for (segment, end) in ends.iter() {
            assert!(!position.needs(segment, end.end), "{segment}");
        }
        assert!(position.needs(SegmentId(14), 51), "but what comes");
        assert!(position.needs(SegmentId(13), 1));
    }

    proptest! {
        #[test]
        fn a_position_reads_back(
            heads in prop::collection::vec(any::<(u32, u32, u32, u64)>(), 1..9),
            low in any::<u32>(),
            bit in 0_usize..(32 + 24) * 8,
        ) {
            let heads: Vec<Head> = (heads.into_iter())
                .map(|(segment, offset, taken, records)| Head { segment: SegmentId(segment), offset, taken, records })
                .collect();
            let position = Position { low: SegmentId(low), heads, newest_ms: 7 };
            let mut bytes = position.encode(&name());
            let read = Position::decode(&bytes, &name(), Path::new("x"));
            prop_assert_eq!(read.unwrap(), position);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Position::decode(&bytes, &name(), Path::new("x")).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Position::decode(&bytes, &name(), Path::new("x")).is_err());
        }
    }
}
