//! Messages going out, compressed (RFC 7692, section 7.2.1).
//!
//! It never fragments and never touches a control frame or a short message: their headers alone
//! would cost more than is saved.
//!
//! Invariants: what comes out says exactly what went in, frame by frame; a frame is at most as
//! long as it was.

use bytes::{Bytes, BytesMut};
use flate2::{Compress, Compression, FlushCompress, Status};

use super::TAIL;
use crate::frame::{Opcode, encode_header};
use crate::limits::DEFLATE_BYTES_MIN;

/// First byte of a final text frame (RFC 6455, section 5.2).
const TEXT: u8 = 0x81;
/// Says in the first byte that the message is compressed (RFC 7692, section 6).
const RSV1: u8 = 0x40;

/// The compressor of one shard: about 270 KB, whatever the number of connections.
pub struct Deflater {
    state: Compress,
    compressed: Vec<u8>,
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Deflater").finish_non_exhaustive()
    }
}

impl Default for Deflater {
    fn default() -> Self {
        Self {
            state: Compress::new(Compression::fast(), false),
            compressed: Vec::new(),
        }
    }
}

impl Deflater {
    /// Compresses each text message of a run of complete, unmasked frames, one behind the other,
    /// as `encode_message` makes them. `None` when nothing became shorter, or when these are no
    /// such frames: then they go out as they are.
    pub fn run(&mut self, frames: &[u8]) -> Option<Bytes> {
        let mut out = BytesMut::new();
        let (mut at, mut kept_from) = (0, 0);
        while at < frames.len() {
            let (header_bytes, payload_bytes) = lengths(&frames[at..])?;
            let end = at + header_bytes + payload_bytes;
            let payload = frames.get(at + header_bytes..end)?;
            if frames[at] == TEXT
                && payload.len() >= DEFLATE_BYTES_MIN
                && let Some(compressed) = self.message(payload)
            {
                out.extend_from_slice(&frames[kept_from..at]);
                let header_at = out.len();
                encode_header(Opcode::Text, compressed.len(), &mut out);
                out[header_at] |= RSV1;
                out.extend_from_slice(compressed);
                kept_from = end;
            }
            at = end;
        }
        if kept_from == 0 {
            return None;
        }
        out.extend_from_slice(&frames[kept_from..]);
        Some(out.freeze())
    }

    /// The payload of one message, compressed; its first frame then says RSV1. `None` when that is
    /// not shorter.
    pub fn message(&mut self, payload: &[u8]) -> Option<&[u8]> {
        self.state.reset();
        self.compressed.clear();
        // What needs more room is not worth it.
        self.compressed.reserve_exact(payload.len());
        let flushed = self
            .state
            .compress_vec(payload, &mut self.compressed, FlushCompress::Sync);
        let is_whole = matches!(flushed, Ok(Status::Ok))
            && self.state.total_in() == payload.len() as u64
            && self.compressed.ends_with(&TAIL);
        let bytes = self.compressed.len().saturating_sub(TAIL.len());
        (is_whole && bytes < payload.len()).then(|| &self.compressed[..bytes])
    }
}

/// The lengths of the header and the payload of an unmasked frame, or `None` when it is cut.
fn lengths(frame: &[u8]) -> Option<(usize, usize)> {
    match *frame.get(1)? {
        126 => {
            let length = frame.get(2..4)?.try_into().ok()?;
            Some((4, usize::from(u16::from_be_bytes(length))))
        }
        127 => {
            let length = u64::from_be_bytes(frame.get(2..10)?.try_into().ok()?);
            Some((10, usize::try_from(length).ok()?))
        }
        length @ 0..126 => Some((2, usize::from(length))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Inflater;
    use super::*;
    use crate::frame::encode_message;

    fn text(bytes: usize) -> Vec<u8> {
        b"the same words again and "
            .iter()
            .copied()
            .cycle()
            .take(bytes)
            .collect()
    }

    fn opened(frame: &[u8]) -> Vec<u8> {
        let (header_bytes, payload_bytes) = lengths(frame).unwrap();
        assert_eq!(frame.len(), header_bytes + payload_bytes, "one whole frame");
        assert_eq!(frame[0], TEXT | RSV1);
        let mut inflater = Inflater::default();
        inflater
            .inflate(&frame[header_bytes..], 1 << 20)
            .unwrap()
            .to_vec()
    }

    #[test]
    fn a_message_comes_back_from_what_was_sent() {
        let mut deflater = Deflater::default();
        for bytes in [DEFLATE_BYTES_MIN, 1_000, 65_535, 200_000] {
            let payload = text(bytes);
            let frame = deflater
                .run(&encode_message(Opcode::Text, &payload))
                .unwrap();
            assert!(frame.len() < bytes / 2, "{} of {bytes}", frame.len());
            assert_eq!(opened(&frame), payload);
            // Nothing of one message helps the next: it would not be understood.
            assert_eq!(
                deflater
                    .run(&encode_message(Opcode::Text, &payload))
                    .unwrap(),
                frame
            );
        }
    }

    #[test]
    fn short_messages_noise_and_control_frames_stay_as_they_are() {
        let mut deflater = Deflater::default();
        let mut noise: Vec<u8> = Vec::new();
        let mut state = 1_u64;
        for _ in 0..1_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            noise.push(state.to_be_bytes()[0]);
        }
        for (opcode, payload) in [
            (Opcode::Text, text(DEFLATE_BYTES_MIN - 1)),
            (Opcode::Text, noise),
            (Opcode::Binary, text(1_000)),
            (Opcode::Close, text(100)),
        ] {
            assert_eq!(deflater.run(&encode_message(opcode, &payload)), None);
        }
        assert_eq!(
            deflater.run(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            None
        );
    }

    #[test]
    fn only_what_is_worth_it_changes_in_a_run() {
        let (short, long) = (text(10), text(3_000));
        let frames = [&short, &long, &short, &long, &short]
            .map(|payload| encode_message(Opcode::Text, payload));
        let run = Deflater::default().run(&frames.concat()).unwrap();
        let alone = Deflater::default().run(&frames[1]).unwrap();
        let expected = [&frames[0], &alone, &frames[0], &alone, &frames[0]];
        assert_eq!(run, expected.map(|frame| &frame[..]).concat());
    }
}
