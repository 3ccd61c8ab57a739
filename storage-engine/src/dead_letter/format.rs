//! The frames of a dead-letter log: letters, and what became of them.
//!
//! Nothing here reads or writes a file.
//!
//! Invariants: all numbers are little-endian; a frame begins at a multiple of the block size and is
//! padded with zeroes to one; decoding looks at checksums before it believes anything.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::BLOCK_BYTES;
use crate::format::FORMAT_VERSION;

/// First bytes of every frame.
pub(crate) const DEAD_LETTER_MAGIC: [u8; 4] = *b"THRX";
/// Length of [`DeadLetterHeader`].
pub(crate) const HEADER_BYTES: usize = size_of::<DeadLetterHeader>();

/// What a frame is for. Numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum LetterKind {
    /// A dead letter: the reason, then the record. One of the same id is replaced.
    Letter = 1,
    /// The letters whose ids follow are to be tried again.
    Retry = 2,
    /// The letters whose ids follow are done with.
    Gone = 3,
    /// Nothing; proves that everything before it was acknowledged.
    Closing = 4,
}

impl LetterKind {
    fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Letter),
            2 => Some(Self::Retry),
            3 => Some(Self::Gone),
            4 => Some(Self::Closing),
            _ => None,
        }
    }
}

/// What every frame begins with; its body follows.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct DeadLetterHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) kind: U16,
    pub(crate) salt: U64,
    pub(crate) frame_seq: U64,
    pub(crate) id: U64,
    pub(crate) first_ms: U64,
    pub(crate) last_ms: U64,
    pub(crate) attempts: U32,
    pub(crate) reason_bytes: U32,
    pub(crate) body_bytes: U32,
    pub(crate) name_crc: U32,
    pub(crate) body_crc: U32,
    pub(crate) header_crc: U32,
}

/// A frame's header whose checksum holds, with the numbers as they are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct LetterFrame {
    /// `None` for a kind that this version does not know.
    pub(crate) kind: Option<LetterKind>,
    pub(crate) version: u16,
    pub(crate) salt: u64,
    pub(crate) frame_seq: u64,
    pub(crate) name_crc: u32,
    pub(crate) id: u64,
    pub(crate) first_ms: u64,
    pub(crate) last_ms: u64,
    pub(crate) attempts: u32,
    pub(crate) reason_bytes: u32,
    pub(crate) body_bytes: u32,
    pub(crate) body_crc: u32,
}

impl LetterFrame {
    /// A frame without an id, for now.
    pub(crate) fn new(kind: LetterKind, salt: u64, frame_seq: u64, name_crc: u32) -> Self {
        Self {
            kind: Some(kind),
            version: FORMAT_VERSION,
            salt,
            frame_seq,
            name_crc,
            id: 0,
            first_ms: 0,
            last_ms: 0,
            attempts: 0,
            reason_bytes: 0,
            body_bytes: 0,
            body_crc: 0,
        }
    }

    /// The frame with this body, padded to whole blocks.
    pub(crate) fn encode(&self, body: &[u8]) -> Vec<u8> {
        let kind = self.kind.expect("only known kinds are written");
        let body_bytes = u32::try_from(body.len()).expect("a letter is far below 4 GiB");
        let mut header = DeadLetterHeader {
            magic: DEAD_LETTER_MAGIC,
            version: self.version.into(),
            kind: (kind as u16).into(),
            salt: self.salt.into(),
            frame_seq: self.frame_seq.into(),
            id: self.id.into(),
            first_ms: self.first_ms.into(),
            last_ms: self.last_ms.into(),
            attempts: self.attempts.into(),
            reason_bytes: self.reason_bytes.into(),
            body_bytes: body_bytes.into(),
            name_crc: self.name_crc.into(),
            body_crc: crc32c::crc32c(body).into(),
            header_crc: 0.into(),
        };
        header.header_crc = header_crc(&header).into();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        bytes
    }

    /// Reads the header at the start of `block`; `None` if there is no valid one.
    pub(crate) fn decode(block: &[u8]) -> Option<Self> {
        let (header, _) = DeadLetterHeader::read_from_prefix(block).ok()?;
        if header.magic != DEAD_LETTER_MAGIC || header.header_crc.get() != header_crc(&header) {
            return None;
        }
        Some(Self {
            kind: LetterKind::from_number(header.kind.get()),
            version: header.version.get(),
            salt: header.salt.get(),
            frame_seq: header.frame_seq.get(),
            name_crc: header.name_crc.get(),
            id: header.id.get(),
            first_ms: header.first_ms.get(),
            last_ms: header.last_ms.get(),
            attempts: header.attempts.get(),
            reason_bytes: header.reason_bytes.get(),
            body_bytes: header.body_bytes.get(),
            body_crc: header.body_crc.get(),
        })
    }

    /// Its length in whole blocks.
    pub(crate) fn span(&self) -> u64 {
        let bytes = HEADER_BYTES as u64 + u64::from(self.body_bytes);
        bytes.next_multiple_of(BLOCK_BYTES.into())
    }

    /// The frame's body, if its checksum holds. `bytes` begins with the frame.
    pub(crate) fn body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(HEADER_BYTES..)?.get(..self.body_bytes as usize)?;
        (crc32c::crc32c(body) == self.body_crc).then_some(body)
    }
}

/// A list of ids as a frame's body.
pub(crate) fn encode_ids(ids: &[u64]) -> Vec<u8> {
    ids.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// The ids in a frame's body; `None` if it is no such list.
pub(crate) fn decode_ids(body: &[u8]) -> Option<Vec<u64>> {
    let (ids, rest) = body.as_chunks::<8>();
    rest.is_empty()
        .then(|| ids.iter().map(|id| u64::from_le_bytes(*id)).collect())
}

fn header_crc(header: &DeadLetterHeader) -> u32 {
    let bytes = header.as_bytes();
    crc32c::crc32c(&bytes[..bytes.len() - 4])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_frame_reads_back_and_no_flipped_bit_goes_unnoticed(
            ids in prop::collection::vec(any::<u64>(), 1..20),
            bit in 0_usize..(72 + 8) * 8,
        ) {
            let frame = LetterFrame { id: 3, attempts: 9, ..LetterFrame::new(LetterKind::Retry, 4, 5, 8) };
            let mut bytes = frame.encode(&encode_ids(&ids));
            let read = LetterFrame::decode(&bytes).unwrap();
            prop_assert_eq!((read.id, read.attempts, read.frame_seq), (3, 9, 5));
            prop_assert_eq!(read.span(), bytes.len() as u64);
            prop_assert_eq!(decode_ids(read.body(&bytes).unwrap()).unwrap(), ids);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let read = LetterFrame::decode(&bytes);
            prop_assert!(read.is_none_or(|frame| frame.body(&bytes).is_none()));
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(LetterFrame::decode(&bytes).is_none());
        }
    }
}
