//! The frame codec: RFC 6455, section 5, and of extensions the bit that says that a message is
//! compressed (RFC 7692, section 6).
//!
//! It never waits and never copies what it need not: a message that arrived whole is unmasked
//! where it lies and borrowed from there. tungstenite's header codec reads and writes the
//! headers; the rules that it leaves to its user are kept here.
//!
//! Invariants: a message is bounded by its header before a byte of it is kept; bytes that are
//! kept are freed with the message; after an error or a close nothing more is read.

mod aside;
mod decoder;
mod encode;
mod header;
mod mask;

pub use decoder::{Decoder, Incomplete};
pub(crate) use encode::header_of;
pub use encode::{encode_header, encode_masked, encode_message};

use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::close::CloseReason;
use crate::deflate::InflateError;

/// The longest header: 2 bytes, 8 of length, 4 of mask (RFC 6455, section 5.2).
pub const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a close, ping or pong (RFC 6455, section 5.5).
pub const CONTROL_PAYLOAD_BYTES_MAX: usize = 125;

/// What a frame is (RFC 6455, section 5.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Opcode {
    /// A further fragment of a message.
    Continuation,
    /// A text message, or its first fragment.
    Text,
    /// A binary message, or its first fragment.
    Binary,
    /// The end of the connection.
    Close,
    /// A question whether the peer is there.
    Ping,
    /// The answer to a ping.
    Pong,
}

impl Opcode {
    /// All opcodes, in the order of WIRE.md.
    pub const ALL: [Self; 6] = [
        Self::Continuation,
        Self::Text,
        Self::Binary,
        Self::Close,
        Self::Ping,
        Self::Pong,
    ];

    /// The number in the header.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xA,
        }
    }

    /// Whether the frame stands on its own, between the fragments of a message if need be.
    #[must_use]
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl From<Opcode> for OpCode {
    fn from(opcode: Opcode) -> Self {
        match opcode {
            Opcode::Continuation => Self::Data(Data::Continue),
            Opcode::Text => Self::Data(Data::Text),
            Opcode::Binary => Self::Data(Data::Binary),
            Opcode::Close => Self::Control(Control::Close),
            Opcode::Ping => Self::Control(Control::Ping),
            Opcode::Pong => Self::Control(Control::Pong),
        }
    }
}

/// Bytes as they arrived, and how far they have been read. They change in place.
#[derive(Debug)]
pub struct Chunk<'b> {
    bytes: &'b mut [u8],
    at: usize,
}

impl<'b> Chunk<'b> {
    /// Nothing of these bytes has been read yet.
    #[must_use]
    pub const fn new(bytes: &'b mut [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// What has not been read.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Moves on by `bytes`, which must be there, and gives where they lie.
    fn take(&mut self, bytes: usize) -> std::ops::Range<usize> {
        let start = self.at;
        self.at += bytes;
        assert!(self.at <= self.bytes.len(), "took more than there is");
        start..self.at
    }
}

/// What the peer said: a whole message or control frame, unmasked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
    /// A ping; the pong shall hold the same bytes.
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes, with its code if it gave one. Nothing comes after it.
    Close(Option<u16>),
}

/// The peer broke a rule of RFC 6455, or a limit. The connection is to be closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProtocolError {
    /// A reserved bit is set though no extension was agreed on (section 5.2).
    #[error("a reserved bit is set")]
    ReservedBits,
    /// The opcode has no meaning (section 5.2).
    #[error("reserved opcode {opcode:#x}")]
    ReservedOpcode {
        /// The opcode.
        opcode: u8,
    },
    /// A client's frame is not masked (section 5.1).
    #[error("a client's frame is not masked")]
    Unmasked,
    /// A server's frame is masked (section 5.1).
    #[error("a server's frame is masked")]
    Masked,
    /// The length is not in its shortest form (section 5.2).
    #[error("the length {bytes} is not in its shortest form")]
    LengthNotMinimal {
        /// The length.
        bytes: u64,
    },
    /// The top bit of a 64-bit length is set (section 5.2).
    #[error("the top bit of a 64-bit length is set")]
    LengthTopBit,
    /// A close, ping or pong has more than 125 bytes (section 5.5).
    #[error("a control frame of {bytes} bytes")]
    ControlTooLong {
        /// Its length.
        bytes: u64,
    },
    /// A close, ping or pong is fragmented (section 5.5).
    #[error("a fragmented control frame")]
    ControlFragmented,
    /// A continuation without a message to continue (section 5.4).
    #[error("a continuation of nothing")]
    ContinuationOfNothing,
    /// A new message within a fragmented one (section 5.4).
    #[error("a message within a fragmented message")]
    MessageWithinMessage,
    /// A message is longer than the limit.
    #[error("a message of at least {bytes} bytes, {bytes_max} are allowed")]
    MessageTooBig {
        /// The length that its headers announced so far.
        bytes: u64,
        /// The limit.
        bytes_max: usize,
    },
    /// A compressed message is not DEFLATE (RFC 7692, section 7.2.2).
    #[error("a compressed message cannot be decompressed")]
    DeflateCorrupt,
    /// A text message is not UTF-8 (section 8.1).
    #[error("a text message is not UTF-8")]
    TextNotUtf8,
    /// The reason of a close is not UTF-8 (section 5.5.1).
    #[error("the reason of a close is not UTF-8")]
    CloseReasonNotUtf8,
    /// A close with one byte, which is half a code (section 5.5.1).
    #[error("a close with half a code")]
    CloseCodeCut,
    /// A close with a code that no peer may send (section 7.4).
    #[error("a close with the code {code}")]
    CloseCodeInvalid {
        /// The code.
        code: u16,
    },
}

impl From<InflateError> for ProtocolError {
    fn from(error: InflateError) -> Self {
        match error {
            InflateError::Corrupt => Self::DeflateCorrupt,
            InflateError::TooBig { bytes_max } => Self::MessageTooBig {
                bytes: bytes_max as u64 + 1,
                bytes_max,
            },
        }
    }
}

impl ProtocolError {
    /// What to close the connection with.
    #[must_use]
    pub const fn close_reason(&self) -> CloseReason {
        match self {
            Self::MessageTooBig { .. } => CloseReason::TooBig,
            Self::TextNotUtf8 | Self::CloseReasonNotUtf8 => CloseReason::InvalidUtf8,
            Self::DeflateCorrupt
            | Self::ReservedBits
            | Self::ReservedOpcode { .. }
            | Self::Unmasked
            | Self::Masked
            | Self::LengthNotMinimal { .. }
            | Self::LengthTopBit
            | Self::ControlTooLong { .. }
            | Self::ControlFragmented
            | Self::ContinuationOfNothing
            | Self::MessageWithinMessage
            | Self::CloseCodeCut
            | Self::CloseCodeInvalid { .. } => CloseReason::ProtocolError,
        }
    }
}
