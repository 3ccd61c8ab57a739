//! One frame's header: read with tungstenite's codec, then held against the rules.
//!
//! It never looks at the payload, and knows of the message in progress only what it is told.
//!
//! Invariant: a [`Frame`] that comes out of here obeys every rule of RFC 6455, section 5, that
//! can be checked on a header, and fits the limit together with what came before it.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{CONTROL_PAYLOAD_BYTES_MAX, Opcode, ProtocolError};

/// A frame whose header was read and found good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    /// What it is.
    pub(super) opcode: Opcode,
    /// Whether its message is compressed; said by the first frame (RFC 7692, section 6).
    pub(super) is_deflated: bool,
    /// Whether its message ends with it.
    pub(super) is_final: bool,
    /// What the payload is masked with.
    pub(super) mask: Option<[u8; 4]>,
    /// Length of the payload.
    pub(super) payload_bytes: usize,
}

impl Frame {
    /// Whether the frame is a whole item of its own.
    pub(super) const fn stands_alone(&self) -> bool {
        self.opcode.is_control() || (self.is_final && !matches!(self.opcode, Opcode::Continuation))
    }
}

/// What a header is held against.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Whether frames are to be masked: those of clients are.
    pub(super) masked: bool,
    /// Whether messages may be compressed.
    pub(super) may_deflate: bool,
    /// The longest message.
    pub(super) message_bytes_max: usize,
    /// How many bytes of a fragmented message came before, if there is one.
    pub(super) message_so_far_bytes: Option<usize>,
}

/// Reads the header at the start of `bytes` and says how long it is, or `None` when more
/// bytes are needed.
pub(super) fn read(bytes: &[u8], rules: Rules) -> Result<Option<(Frame, usize)>, ProtocolError> {
    let mut cursor = Cursor::new(bytes);
    // Reading from memory fails in one way only: the opcode has no meaning.
    let parsed = FrameHeader::parse(&mut cursor).map_err(|_| ProtocolError::ReservedOpcode {
        opcode: bytes[0] & 0x0F,
    })?;
    let Some((header, payload_bytes)) = parsed else {
        return Ok(None);
    };
    let header_bytes = usize::try_from(cursor.position()).expect("the cursor is within the bytes");

    match (rules.masked, header.mask) {
        (true, None) => return Err(ProtocolError::Unmasked),
        (false, Some(_)) => return Err(ProtocolError::Masked),
        (true, Some(_)) | (false, None) => {}
    }
    if payload_bytes >> 63 != 0 {
        return Err(ProtocolError::LengthTopBit);
    }
    if header_bytes != header.len(payload_bytes) {
        return Err(ProtocolError::LengthNotMinimal {
            bytes: payload_bytes,
        });
    }
    let opcode = opcode(header.opcode)?;
    let begins_message = matches!(opcode, Opcode::Text | Opcode::Binary);
    let may_deflate = rules.may_deflate && begins_message;
    if (header.rsv1 && !may_deflate) || header.rsv2 || header.rsv3 {
        return Err(ProtocolError::ReservedBits);
    }
    let payload_bytes = if opcode.is_control() {
        check_control(header.is_final, payload_bytes)?
    } else {
        check_data(opcode, payload_bytes, rules)?
    };
    let frame = Frame {
        opcode,
        is_deflated: header.rsv1,
        is_final: header.is_final,
        mask: header.mask,
        payload_bytes,
    };
    Ok(Some((frame, header_bytes)))
}

fn opcode(opcode: OpCode) -> Result<Opcode, ProtocolError> {
    match opcode {
        OpCode::Data(Data::Continue) => Ok(Opcode::Continuation),
        OpCode::Data(Data::Text) => Ok(Opcode::Text),
        OpCode::Data(Data::Binary) => Ok(Opcode::Binary),
        OpCode::Control(Control::Close) => Ok(Opcode::Close),
        OpCode::Control(Control::Ping) => Ok(Opcode::Ping),
        OpCode::Control(Control::Pong) => Ok(Opcode::Pong),
        OpCode::Data(Data::Reserved(opcode)) | OpCode::Control(Control::Reserved(opcode)) => {
            Err(ProtocolError::ReservedOpcode { opcode })
        }
    }
}

fn check_control(is_final: bool, payload_bytes: u64) -> Result<usize, ProtocolError> {
    if !is_final {
        return Err(ProtocolError::ControlFragmented);
    }
    usize::try_from(payload_bytes)
        .ok()
        .filter(|&bytes| bytes <= CONTROL_PAYLOAD_BYTES_MAX)
        .ok_or(ProtocolError::ControlTooLong {
            bytes: payload_bytes,
        })
}

fn check_data(opcode: Opcode, payload_bytes: u64, rules: Rules) -> Result<usize, ProtocolError> {
    let so_far_bytes = match (opcode, rules.message_so_far_bytes) {
        (Opcode::Continuation, None) => return Err(ProtocolError::ContinuationOfNothing),
        (Opcode::Continuation, Some(bytes)) => bytes,
        (_, Some(_)) => return Err(ProtocolError::MessageWithinMessage),
        (_, None) => 0,
    };
    let bytes_max = rules.message_bytes_max;
    let room_bytes = bytes_max - so_far_bytes;
    usize::try_from(payload_bytes)
        .ok()
        .filter(|&bytes| bytes <= room_bytes)
        .ok_or(ProtocolError::MessageTooBig {
            bytes: payload_bytes + so_far_bytes as u64,
            bytes_max,
        })
}
