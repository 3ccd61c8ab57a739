//! Why a connection ends: the close codes that Throng sends, and those it takes.
//!
//! Nothing here decides to close; the session does. The reason texts never quote the peer.
//!
//! Invariants: the numbers are the wire format and never reused for another meaning; every
//! close frame fits a control frame (RFC 6455, section 5.5).

use bytes::{BufMut, Bytes, BytesMut};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::frame::{CONTROL_PAYLOAD_BYTES_MAX, Opcode, encode_message};

/// IANA's registry has 1014 (bad gateway), which tungstenite counts as reserved.
const BAD_GATEWAY: u16 = 1014;

/// Why the server closes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// Both sides are done.
    Normal,
    /// The peer broke the rules of RFC 6455.
    ProtocolError,
    /// A text message or close reason was not UTF-8.
    InvalidUtf8,
    /// A message was longer than the limit.
    TooBig,
    /// Too much that clients began to send and did not end is kept already.
    TryAgainLater,
    /// No IDENTIFY came in time.
    IdentifyTimeout,
    /// The token was not good; ERROR with INVALID_SESSION went before.
    BadToken,
    /// The client did not take what was sent to it: connect again and resume.
    SlowConsumer,
    /// Neither a heartbeat nor a pong came in time.
    HeartbeatTimeout,
    /// The user has as many sessions as are allowed.
    TooManySessions,
    /// The server stops or hands over: connect again and resume.
    GoingAway,
}

impl CloseReason {
    /// All reasons, in the order of WIRE.md.
    pub const ALL: [Self; 11] = [
        Self::Normal,
        Self::ProtocolError,
        Self::InvalidUtf8,
        Self::TooBig,
        Self::TryAgainLater,
        Self::IdentifyTimeout,
        Self::BadToken,
        Self::SlowConsumer,
        Self::HeartbeatTimeout,
        Self::TooManySessions,
        Self::GoingAway,
    ];

    /// The close code (RFC 6455, section 7.4; 4000-4999 are Throng's own).
    #[must_use]
    pub const fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ProtocolError => 1002,
            Self::InvalidUtf8 => 1007,
            Self::TooBig => 1009,
            Self::TryAgainLater => 1013,
            Self::IdentifyTimeout => 4001,
            Self::BadToken => 4004,
            Self::SlowConsumer => 4008,
            Self::HeartbeatTimeout => 4009,
            Self::TooManySessions => 4012,
            Self::GoingAway => 4013,
        }
    }

    /// The reason text in the close frame, for people.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Normal => "done",
            Self::ProtocolError => "protocol error",
            Self::InvalidUtf8 => "text is not UTF-8",
            Self::TooBig => "message too big",
            Self::TryAgainLater => "short of memory: reconnect later and resume",
            Self::IdentifyTimeout => "no IDENTIFY in time",
            Self::BadToken => "bad token",
            Self::SlowConsumer => "too slow: reconnect and resume",
            Self::HeartbeatTimeout => "no heartbeat in time",
            Self::TooManySessions => "too many sessions",
            Self::GoingAway => "going away: reconnect and resume",
        }
    }
}

/// The complete close frame for this reason.
#[must_use]
pub fn close_frame(reason: CloseReason) -> Bytes {
    let mut payload = BytesMut::with_capacity(CONTROL_PAYLOAD_BYTES_MAX);
    payload.put_u16(reason.code());
    payload.put_slice(reason.text().as_bytes());
    encode_message(Opcode::Close, &payload)
}

/// The complete frame that answers a peer's close: its own code again, or none if it gave none
/// (RFC 6455, section 5.5.1).
#[must_use]
pub fn close_reply(code: Option<u16>) -> Bytes {
    match code {
        Some(code) => encode_message(Opcode::Close, &code.to_be_bytes()),
        None => encode_message(Opcode::Close, &[]),
    }
}

/// Whether a peer may send this code (RFC 6455, section 7.4.1, and IANA's registry).
pub(crate) fn may_be_received(code: u16) -> bool {
    code == BAD_GATEWAY || CloseCode::from(code).is_allowed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_hold_code_and_text() {
        for reason in CloseReason::ALL {
            let frame = close_frame(reason);
            assert_eq!(frame[0], 0x88);
            assert_eq!(usize::from(frame[1]), frame.len() - 2);
            assert_eq!(frame[2..4], reason.code().to_be_bytes());
            assert_eq!(&frame[4..], reason.text().as_bytes());
            assert!(may_be_received(reason.code()));
        }
        assert_eq!(close_reply(None)[..], [0x88, 0]);
        assert_eq!(close_reply(Some(1000))[..], [0x88, 2, 0x03, 0xE8]);
    }

    #[test]
    fn codes_that_no_peer_may_send() {
        let refused = [
            0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535,
        ];
        for code in refused {
            assert!(!may_be_received(code), "{code}");
        }
        for code in [
            1000, 1001, 1002, 1003, 1007, 1011, 1012, 1014, 3000, 3999, 4000, 4999,
        ] {
            assert!(may_be_received(code), "{code}");
        }
    }
}
