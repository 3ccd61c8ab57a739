//! What a malformed peer does, and which answers are right.
//!
//! It opens no connection: it makes bytes and judges answers.
//!
//! Invariants: the same kind, seed and number make the same bytes; being cut off is always an
//! answer, being let go on never is.

use rand::RngExt;
use rand::rngs::StdRng;
use throng_protocol::CloseReason;
use throng_protocol::frame::{Opcode, encode_masked};

use super::answer::Answer;
use crate::upgrade::Upgrade;

/// RFC 6455's own example.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// What follows a frame's header to be a mask.
const MASK: [u8; 4] = [1, 2, 3, 4];
/// More than a server takes as one message, bytes.
const ENDLESS_BYTES: usize = 80 << 10;

/// What a peer does wrong.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Offence {
    /// Connects and says nothing.
    Silence,
    /// Half of a request, and no more.
    HalfRequest,
    /// A request, one byte at a time, without end.
    SlowRequest,
    /// A request whose head has no end.
    EndlessHead,
    /// Bytes that are no HTTP.
    NoHttp,
    /// A handshake without a key.
    NoKey,
    /// A handshake of a version that never was.
    OldVersion,
    /// A handshake, and then silence.
    NoIdentify,
    /// A frame that is announced and does not come.
    HalfFrame,
    /// A frame without a mask.
    Unmasked,
    /// A frame with reserved bits.
    ReservedBits,
    /// A frame of an unknown opcode.
    UnknownOpcode,
    /// A ping in two fragments.
    FragmentedPing,
    /// Text that is not UTF-8.
    BadUtf8,
    /// A frame that says to be longer than any may be.
    Oversized,
    /// Fragments without end.
    EndlessFragments,
    /// Text that is not JSON.
    NoJson,
    /// JSON that is no command.
    UnknownCommand,
    /// A message before IDENTIFY.
    NotIdentified,
    /// A token that nobody gave.
    BadToken,
    /// A close frame with a code that may not be sent.
    BadClose,
    /// Random bytes behind a good handshake.
    RandomFrames,
}

/// All of them.
pub(super) const ALL: [Offence; 22] = [
    Offence::Silence,
    Offence::HalfRequest,
    Offence::SlowRequest,
    Offence::EndlessHead,
    Offence::NoHttp,
    Offence::NoKey,
    Offence::OldVersion,
    Offence::NoIdentify,
    Offence::HalfFrame,
    Offence::Unmasked,
    Offence::ReservedBits,
    Offence::UnknownOpcode,
    Offence::FragmentedPing,
    Offence::BadUtf8,
    Offence::Oversized,
    Offence::EndlessFragments,
    Offence::NoJson,
    Offence::UnknownCommand,
    Offence::NotIdentified,
    Offence::BadToken,
    Offence::BadClose,
    Offence::RandomFrames,
];

impl Offence {
    /// What the peer says.
    #[must_use]
    pub(super) fn bytes(self, authority: &str, random: &mut StdRng) -> Vec<u8> {
        let request = Upgrade::begin(authority, KEY).1;
        let unfinished = || request.trim_end().to_owned();
        let said = match self {
            Self::Silence => String::new(),
            Self::HalfRequest => request[..request.len() / 2].to_owned(),
            Self::SlowRequest => format!("{}\r\nX-Slow: {}", unfinished(), "x".repeat(4_096)),
            Self::EndlessHead => format!("{}\r\nX-Long: {}", unfinished(), "x".repeat(20 << 10)),
            Self::NoHttp => "\u{1}\u{2}not HTTP\r\n\r\n".to_owned(),
            Self::NoKey => request.replace(KEY, ""),
            Self::OldVersion => request.replace("Version: 13", "Version: 7"),
            _ => return [request.into_bytes(), self.frames(random)].concat(),
        };
        said.into_bytes()
    }

    /// What follows a good handshake.
    fn frames(self, random: &mut StdRng) -> Vec<u8> {
        let text = |text: &[u8]| encode_masked(Opcode::Text, text, MASK).to_vec();
        match self {
            Self::HalfFrame => text(&[b'x'; 1_000])[..200].to_vec(),
            Self::Unmasked => b"\x81\x02{}".to_vec(),
            Self::ReservedBits => vec![0xF1, 0x80, 1, 2, 3, 4],
            Self::UnknownOpcode => vec![0x83, 0x80, 1, 2, 3, 4],
            Self::FragmentedPing => vec![0x09, 0x80, 1, 2, 3, 4],
            Self::BadUtf8 => text(b"{\"type\": \"\xFF\xFE\"}"),
            Self::Oversized => vec![0x81, 0xFF, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4],
            Self::EndlessFragments => endless(),
            Self::NoJson => text(b"{\"type\": "),
            Self::UnknownCommand => text(b"{\"type\": \"DANCE\"}"),
            Self::NotIdentified => text(
                b"{\"type\": \"SEND_MESSAGE\", \"channelId\": \"018f0000-0000-7000-8000-0000000000c1\", \
                \"content\": \"x\", \"nonce\": \"550e8400-e29b-41d4-a716-446655440001\"}",
            ),
            Self::BadToken => text(b"{\"type\": \"IDENTIFY\", \"token\": \"nobody\"}"),
            Self::BadClose => encode_masked(Opcode::Close, &999_u16.to_be_bytes(), MASK).to_vec(),
            Self::RandomFrames => (0..64).map(|_| random.random()).collect(),
            _ => Vec::new(),
        }
    }

    /// Whether it says its bytes one at a time.
    #[must_use]
    pub(super) fn drips(self) -> bool {
        self == Self::SlowRequest
    }

    /// Whether this is a right answer to it.
    #[must_use]
    pub(super) fn allows(self, answer: &Answer) -> bool {
        let code = match answer {
            Answer::CutOff => return true,
            Answer::Status(status) => {
                return self < Self::NoIdentify && (400..600).contains(status);
            }
            Answer::Error(code) => return self.expects_error(code),
            Answer::Close(code) => *code,
        };
        let expected = match self {
            Self::NoIdentify | Self::HalfFrame => CloseReason::IdentifyTimeout,
            Self::BadUtf8 => CloseReason::InvalidUtf8,
            Self::Oversized | Self::EndlessFragments => CloseReason::TooBig,
            Self::RandomFrames => return true,
            Self::Unmasked
            | Self::ReservedBits
            | Self::UnknownOpcode
            | Self::FragmentedPing
            | Self::BadClose => CloseReason::ProtocolError,
            _ => return false,
        };
        code == expected.code()
    }

    fn expects_error(self, code: &str) -> bool {
        match self {
            Self::NoJson | Self::UnknownCommand => code == "INVALID_PAYLOAD",
            Self::NotIdentified => code == "NOT_IDENTIFIED",
            Self::BadToken => code == "INVALID_SESSION",
            Self::RandomFrames => true,
            _ => false,
        }
    }
}

/// Text in more fragments than a message may have bytes.
fn endless() -> Vec<u8> {
    const FIN: u8 = 0x80;
    let mut bytes = Vec::new();
    while bytes.len() < ENDLESS_BYTES {
        let is_first = bytes.is_empty();
        let opcode = if is_first {
            Opcode::Text
        } else {
            Opcode::Continuation
        };
        let at = bytes.len();
        bytes.extend(encode_masked(opcode, &[b'x'; 8 << 10], MASK));
        bytes[at] &= !FIN;
    }
    bytes
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn being_let_in_is_no_answer_and_a_wrong_code_is_wrong() {
        for offence in ALL {
            assert!(offence.allows(&Answer::CutOff));
            assert!(!offence.allows(&Answer::Status(200)), "{offence:?}");
            let is_random = offence == Offence::RandomFrames;
            assert_eq!(
                offence.allows(&Answer::Close(1000)),
                is_random,
                "{offence:?}"
            );
        }
        assert!(Offence::NoKey.allows(&Answer::Status(400)));
        assert!(!Offence::Unmasked.allows(&Answer::Status(400)));
        assert!(Offence::Unmasked.allows(&Answer::Close(1002)));
    }

    #[test]
    fn one_seed_makes_the_same_bytes() {
        for offence in ALL {
            let bytes = |seed| offence.bytes("a:1", &mut StdRng::seed_from_u64(seed));
            assert_eq!(bytes(7), bytes(7), "{offence:?}");
        }
        let mut random = StdRng::seed_from_u64(1);
        let endless = Offence::EndlessFragments.bytes("a:1", &mut random);
        assert!(endless.len() > 64 << 10 && Offence::Silence.bytes("a:1", &mut random).is_empty());
    }
}
