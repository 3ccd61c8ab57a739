//! What a server told a peer: the first thing in its bytes that decides.
//!
//! It does not know what was right.
//!
//! Invariants: no input makes it panic; a server's greeting is no answer.

use std::fmt;

use throng_protocol::Event;

use crate::swarm::frames;

/// What a peer was told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Answer {
    /// An HTTP status other than 101.
    Status(u16),
    /// A close frame with this code.
    Close(u16),
    /// ERROR with this code.
    Error(&'static str),
    /// The connection ended without a word.
    CutOff,
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status}"),
            Self::Close(code) => write!(f, "closed with {code}"),
            Self::Error(code) => write!(f, "ERROR {code}"),
            Self::CutOff => write!(f, "cut off"),
        }
    }
}

/// The first answer in what a server said; none while there is none.
#[must_use]
pub(super) fn answer(said: &[u8]) -> Option<Answer> {
    let end = said.windows(4).position(|window| window == b"\r\n\r\n")?;
    let status = said
        .get(9..12)
        .and_then(|digits| std::str::from_utf8(digits).ok());
    let status = status.and_then(|digits| digits.parse().ok()).unwrap_or(0);
    if status != 101 {
        return Some(Answer::Status(status));
    }
    let mut rest = &said[end + 4..];
    while let Ok(Some(frame)) = frames::first(rest) {
        if frame.opcode == frames::CLOSE {
            let code = frame.payload.first_chunk::<2>();
            return Some(Answer::Close(
                code.map_or(1005, |code| u16::from_be_bytes(*code)),
            ));
        }
        if let Ok(Event::Error { code, .. }) = serde_json::from_slice(frame.payload) {
            return Some(Answer::Error(code.as_str()));
        }
        rest = &rest[frame.bytes..];
    }
    None
}

#[cfg(test)]
mod tests {
    use throng_protocol::frame::{Opcode, encode_message};
    use throng_protocol::{CloseReason, close_frame};

    use super::*;

    const UPGRADED: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\n";

    #[test]
    fn answers_are_read() {
        let hello = encode_message(Opcode::Text, br#"{"type":"HELLO","heartbeatIntervalMs":1}"#);
        let error = br#"{"type":"ERROR","code":"INVALID_PAYLOAD","message":"no"}"#;
        let error = encode_message(Opcode::Text, error);
        let close = close_frame(CloseReason::TooBig);
        for (parts, expected) in [
            (vec![UPGRADED, &hello], None),
            (vec![UPGRADED, &hello, &close], Some(Answer::Close(1009))),
            (vec![UPGRADED, &close[..3]], None),
            (
                vec![UPGRADED, &hello, &error, &close],
                Some(Answer::Error("INVALID_PAYLOAD")),
            ),
            (
                vec![b"HTTP/1.1 400 Bad Request\r\n\r\n"],
                Some(Answer::Status(400)),
            ),
            (vec![b"HTTP/1.1 40"], None),
        ] {
            assert_eq!(answer(&parts.concat()), expected, "{parts:?}");
        }
    }
}
