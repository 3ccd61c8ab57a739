//! Server frames (RFC 6455, section 5.2), found in a receive buffer without any state.
//!
//! A decoder per connection would be the largest part of an idle client. Here a frame is found
//! whole in a buffer or not at all; what is not whole is kept aside by the caller, rarely.
//!
//! Invariants: no input makes it panic; a frame that a server may not send is an error.

/// The longest frame of a server that is understood, bytes: as WIRE.md asks of a client.
const PAYLOAD_BYTES_MAX: u64 = 16 << 20;

/// A whole frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What it is, 0 to 15.
    pub opcode: u8,
    /// What it holds.
    pub payload: &'a [u8],
    /// Its length with its header, bytes.
    pub bytes: usize,
}

/// The opcodes that matter here.
pub const TEXT: u8 = 0x1;
/// Binary data: what an echo gets.
pub const BINARY: u8 = 0x2;
/// The end of the connection.
pub const CLOSE: u8 = 0x8;
/// To be answered with a pong.
pub const PING: u8 = 0x9;

/// The server broke the framing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the server broke the framing")]
pub struct Broken;

/// The first frame; none while it is not whole.
///
/// # Errors
/// When a server may not send that: masked, fragmented, with reserved bits or endless.
pub fn first(bytes: &[u8]) -> Result<Option<Frame<'_>>, Broken> {
    const FIN: u8 = 0x80;
    let &[head, length, ref rest @ ..] = bytes else {
        return Ok(None);
    };
    if head & 0xF0 != FIN || head & 0x0F == 0 || length > 127 {
        return Err(Broken);
    }
    let (length, header) = match length {
        126 => match rest.first_chunk::<2>() {
            Some(&length) => (u64::from(u16::from_be_bytes(length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(&length) => (u64::from_be_bytes(length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    if length > PAYLOAD_BYTES_MAX {
        return Err(Broken);
    }
    let end = header + usize::try_from(length).map_err(|_| Broken)?;
    Ok(bytes.get(header..end).map(|payload| Frame {
        opcode: head & 0x0F,
        payload,
        bytes: end,
    }))
}

#[cfg(test)]
mod tests {
    use throng_protocol::frame::{Opcode, encode_masked, encode_message};

    use super::*;

    #[test]
    fn frames_of_the_codec_in_any_cut() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 70_000] {
            let payload = vec![b'x'; length];
            let frame = encode_message(Opcode::Text, &payload);
            let longer = [&frame[..], b"next"].concat();
            let found = first(&longer).unwrap().unwrap();
            assert_eq!(found.opcode, TEXT);
            assert_eq!(found.payload, payload);
            assert_eq!(found.bytes, frame.len());
            for cut in (0..frame.len().min(12)).chain([frame.len() - 1]) {
                assert_eq!(first(&frame[..cut]), Ok(None), "{length} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_a_server_may_not_send() {
        let masked = encode_masked(Opcode::Text, b"x", [1; 4]);
        for bytes in [
            &masked[..],
            &[0x01, 0x00],
            &[0x80, 0x00],
            &[0xC1, 0x00],
            &[0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(first(bytes), Err(Broken), "{bytes:?}");
        }
    }
}
