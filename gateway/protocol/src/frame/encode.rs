//! Frames going out: whole messages and control frames, never fragmented.
//!
//! Nothing here decides what a frame says; whoever masks brings the mask.
//!
//! Invariants: lengths are in their shortest form; a control frame has at most 125 bytes.

use bytes::{BufMut, Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;

use super::mask::apply_mask;
use super::{CONTROL_PAYLOAD_BYTES_MAX, HEADER_BYTES_MAX, Opcode};

/// Appends the header of an unmasked, final frame with a payload of this length in bytes.
///
/// # Panics
/// When a control frame would have more than 125 bytes.
pub fn encode_header(opcode: Opcode, payload_bytes: usize, out: &mut BytesMut) {
    put_header(opcode, payload_bytes, None, out);
}

/// One complete frame as a server sends it.
///
/// # Panics
/// When a control frame would have more than 125 bytes.
#[must_use]
pub fn encode_message(opcode: Opcode, payload: &[u8]) -> Bytes {
    let (header, header_bytes) = header(opcode, payload.len(), None);
    // Exactly as long as it is: then whoever alone owns the bytes pays for no second block, which
    // would count who shares them.
    let mut out = Vec::with_capacity(header_bytes + payload.len());
    out.extend_from_slice(&header[..header_bytes]);
    out.extend_from_slice(payload);
    out.into()
}

/// One complete frame as a client sends it, masked with a mask that the peer cannot foresee.
///
/// # Panics
/// When a control frame would have more than 125 bytes.
#[must_use]
pub fn encode_masked(opcode: Opcode, payload: &[u8], mask: [u8; 4]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES_MAX + payload.len());
    put_header(opcode, payload.len(), Some(mask), &mut out);
    let payload_at = out.len();
    out.put_slice(payload);
    apply_mask(&mut out[payload_at..], mask, 0);
    out.freeze()
}

fn put_header(opcode: Opcode, payload_bytes: usize, mask: Option<[u8; 4]>, out: &mut BytesMut) {
    let (header, header_bytes) = header(opcode, payload_bytes, mask);
    out.put_slice(&header[..header_bytes]);
}

/// The header of an unmasked, final frame, and how long it is; nothing on the heap.
pub(crate) fn header_of(opcode: Opcode, payload_bytes: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    header(opcode, payload_bytes, None)
}

fn header(
    opcode: Opcode,
    payload_bytes: usize,
    mask: Option<[u8; 4]>,
) -> ([u8; HEADER_BYTES_MAX], usize) {
    assert!(
        !opcode.is_control() || payload_bytes <= CONTROL_PAYLOAD_BYTES_MAX,
        "a control frame of {payload_bytes} bytes"
    );
    let header = FrameHeader {
        opcode: opcode.into(),
        mask,
        ..FrameHeader::default()
    };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut rest = &mut bytes[..];
    header
        .format(payload_bytes as u64, &mut rest)
        .expect("14 bytes hold any header");
    let left = rest.len();
    (bytes, HEADER_BYTES_MAX - left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        // RFC 6455, section 5.7.
        assert_eq!(
            encode_message(Opcode::Text, b"Hello")[..],
            *b"\x81\x05Hello"
        );
        assert_eq!(
            encode_masked(Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d])[..],
            [
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
        assert_eq!(
            encode_message(Opcode::Binary, &[0; 256])[..4],
            [0x82, 0x7E, 0x01, 0x00]
        );
        assert_eq!(
            encode_message(Opcode::Binary, &[0; 65_536])[..10],
            [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    #[should_panic(expected = "a control frame of 126 bytes")]
    fn a_long_control_frame_is_our_own_mistake() {
        let _ = encode_message(Opcode::Ping, &[0; 126]);
    }
}
