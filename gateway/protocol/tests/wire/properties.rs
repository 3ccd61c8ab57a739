//! What holds for all inputs: cutting makes no difference, decoding undoes encoding, nothing
//! panics.
//!
//! No test here has an expectation of its own beyond that; the examples are in the vectors.
//!
//! Invariant: a failure that proptest finds becomes a vector.

use std::borrow::Cow;

use flate2::{Compress, Compression, FlushCompress};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use throng_protocol::frame::{Decoder, Opcode, encode_masked};
use throng_protocol::handshake::{Head, parse_head};
use throng_protocol::{
    ChannelId, Command, Event, MessageId, Nonce, Resume, ResumeChannel, Rev, Seq, TextLimits,
    encode_command, encode_frame, parse,
};

use crate::said::{SaidItem, listen};

const MESSAGE_BYTES_MAX: usize = 70_000;

/// One item, and where to cut it into fragments with a ping before each further one.
#[derive(Clone, Debug)]
struct Saying {
    item: SaidItem,
    cuts: Vec<Index>,
    mask: [u8; 4],
    /// Whether it travels compressed, where it may.
    deflated: bool,
}

fn item() -> impl Strategy<Value = SaidItem> {
    let control = || vec(any::<u8>(), 0..=125);
    prop_oneof![
        ".{0,300}".prop_map(SaidItem::Text),
        vec(any::<u8>(), 0..300).prop_map(SaidItem::Binary),
        (65_530_usize..65_540).prop_map(|bytes| SaidItem::Binary(vec![b'x'; bytes])),
        control().prop_map(SaidItem::Ping),
        control().prop_map(SaidItem::Pong),
    ]
}

fn saying() -> impl Strategy<Value = Saying> {
    let parts = (
        item(),
        vec(any::<Index>(), 0..4),
        any::<[u8; 4]>(),
        any::<bool>(),
    );
    parts.prop_map(|(item, cuts, mask, deflated)| Saying {
        item,
        cuts,
        mask,
        deflated,
    })
}

/// Offsets in ascending order at which to cut this many bytes.
fn offsets(cuts: &[Index], bytes: usize) -> Vec<usize> {
    let mut offsets: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes + 1)).collect();
    offsets.sort_unstable();
    offsets
}

/// As permessage-deflate wants it (RFC 7692, section 7.2.1).
fn deflated(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() * 2 + 100);
    Compress::new(Compression::fast(), false)
        .compress_vec(payload, &mut out, FlushCompress::Sync)
        .expect("there is room for it");
    out.truncate(out.len() - 4);
    out
}

/// The frames of a saying, and what they say.
fn frames(saying: &Saying, may_deflate: bool, wire: &mut Vec<u8>, said: &mut Vec<SaidItem>) {
    let (opcode, payload) = match &saying.item {
        SaidItem::Text(text) => (Opcode::Text, text.as_bytes()),
        SaidItem::Binary(bytes) => (Opcode::Binary, bytes.as_slice()),
        SaidItem::Ping(bytes) => (Opcode::Ping, bytes.as_slice()),
        SaidItem::Pong(bytes) => (Opcode::Pong, bytes.as_slice()),
        SaidItem::Close(_) => unreachable!("no saying is a close"),
    };
    let is_deflated = may_deflate && saying.deflated && !opcode.is_control();
    let payload = match is_deflated {
        true => Cow::from(deflated(payload)),
        false => Cow::from(payload),
    };
    let cuts = if opcode.is_control() {
        vec![]
    } else {
        offsets(&saying.cuts, payload.len())
    };
    let mut start = 0;
    for (fragment, end) in cuts.iter().copied().chain([payload.len()]).enumerate() {
        if fragment > 0 {
            wire.extend(encode_masked(Opcode::Ping, b"between", saying.mask));
            said.push(SaidItem::Ping(b"between".to_vec()));
        }
        let opcode = if fragment == 0 {
            opcode
        } else {
            Opcode::Continuation
        };
        let mut frame = encode_masked(opcode, &payload[start..end], saying.mask).to_vec();
        if fragment < cuts.len() {
            frame[0] &= 0x7F;
        }
        if fragment == 0 && is_deflated {
            frame[0] |= 0x40;
        }
        wire.extend(frame);
        start = end;
    }
    said.push(saying.item.clone());
}

fn decoder(message_bytes_max: usize, deflate: bool) -> Decoder {
    Decoder::server(message_bytes_max).with_deflate(deflate)
}

fn id() -> impl Strategy<Value = [u8; 16]> {
    any::<[u8; 16]>()
}

/// Text that passes as content.
fn content() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{0,80}x[^\\p{Cc}]{0,80}"
}

fn resume() -> impl Strategy<Value = Resume> {
    proptest::collection::btree_map(id(), any::<(u64, Option<u64>)>(), 0..20).prop_map(|channels| {
        let channel = |(id, (seq, rev)): ([u8; 16], (u64, Option<u64>))| ResumeChannel {
            channel_id: ChannelId::from_bytes(id),
            after_seq: Seq(seq),
            after_rev: rev.map(Rev),
        };
        Resume {
            channels: channels.into_iter().map(channel).collect(),
        }
    })
}

fn command() -> impl Strategy<Value = Command<'static>> {
    let channel = || id().prop_map(ChannelId::from_bytes);
    prop_oneof![
        (".{1,80}", proptest::option::of(resume())).prop_map(|(token, resume)| Command::Identify {
            token: token.into(),
            resume
        }),
        Just(Command::Heartbeat),
        (channel(), any::<(Option<u64>, Option<u64>)>()).prop_map(|(channel_id, (seq, rev))| {
            Command::SubscribeChannel {
                channel_id,
                after_seq: seq.map(Seq),
                after_rev: rev.map(Rev),
            }
        }),
        channel().prop_map(|channel_id| Command::UnsubscribeChannel { channel_id }),
        (channel(), content(), id(), proptest::option::of(id())).prop_map(
            |(channel_id, content, nonce, reply_to)| Command::SendMessage {
                channel_id,
                content: content.into(),
                nonce: Nonce::from_bytes(nonce),
                reply_to: reply_to.map(MessageId::from_bytes),
            }
        ),
        channel().prop_map(|channel_id| Command::StartTyping { channel_id }),
        channel().prop_map(|channel_id| Command::StopTyping { channel_id }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cutting_makes_no_difference(
        sayings in vec(saying(), 0..8),
        deflate in any::<bool>(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let (mut wire, mut said) = (Vec::new(), Vec::new());
        for saying in &sayings {
            frames(saying, deflate, &mut wire, &mut said);
        }
        let cuts = offsets(&cuts, wire.len());
        let heard = listen(decoder(MESSAGE_BYTES_MAX, deflate), &wire, &cuts);
        prop_assert_eq!(heard, (said, None));
    }

    #[test]
    fn nor_for_bytes_that_mean_nothing(
        mut wire in vec(any::<u8>(), 0..400),
        opcode in 0_u8..16,
        deflate in any::<bool>(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        // A plausible start gets further than the first header.
        if let [first, second, ..] = wire.as_mut_slice() {
            *first = *first & (0x80 | u8::from(deflate) << 6) | opcode;
            *second |= 0x80;
        }
        let cuts = offsets(&cuts, wire.len());
        let whole = listen(decoder(200, deflate), &wire, &[]);
        prop_assert_eq!(listen(decoder(200, deflate), &wire, &cuts), whole);
    }

    #[test]
    fn one_wrong_bit_is_told_alike_however_it_is_cut(
        sayings in vec(saying(), 1..4),
        deflate in any::<bool>(),
        bit in any::<Index>(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let (mut wire, mut said) = (Vec::new(), Vec::new());
        for saying in &sayings {
            frames(saying, deflate, &mut wire, &mut said);
        }
        let bit = bit.index(wire.len() * 8);
        wire[bit / 8] ^= 1 << (bit % 8);
        let cuts = offsets(&cuts, wire.len());
        let whole = listen(decoder(MESSAGE_BYTES_MAX, deflate), &wire, &[]);
        prop_assert_eq!(listen(decoder(MESSAGE_BYTES_MAX, deflate), &wire, &cuts), whole);
    }

    #[test]
    fn parsing_undoes_encoding(command in command()) {
        let text = encode_command(&command);
        prop_assert_eq!(parse(&text, &TextLimits::default()), Ok(command));
    }

    #[test]
    fn no_text_panics_the_parser(text in ".{0,200}") {
        let _ = parse(&text, &TextLimits::default());
    }

    #[test]
    fn no_damaged_command_panics_the_parser(command in command(), damage in ".{0,4}", at in any::<Index>()) {
        let mut text = encode_command(&command);
        let mut at = at.index(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        text.insert_str(at, &damage);
        let error = parse(&text, &TextLimits::default()).err();
        prop_assert!(error.is_none_or(|error| error.message.len() < 300));
    }

    #[test]
    fn a_frame_holds_its_event_at_every_length(bytes in prop_oneof![0_usize..200, 65_400_usize..65_600]) {
        let event = Event::Reconnect { reason: "r".repeat(bytes), retry_after_ms: 1 };
        let text = serde_json::to_string(&event).unwrap();
        let heard = listen(Decoder::client(MESSAGE_BYTES_MAX), &encode_frame(&event), &[]);
        prop_assert_eq!(heard, (vec![SaidItem::Text(text)], None));
    }

    #[test]
    fn a_head_is_judged_by_itself(head in ".{0,300}", cut in any::<Index>(), follows in vec(any::<u8>(), 0..20)) {
        let head = [head.as_bytes(), b"\r\n\r\n", &follows].concat();
        let whole = parse_head(&head, 256, true);
        let part = parse_head(&head[..cut.index(head.len() + 1)], 256, true);
        if let (Some(part), Some(whole)) = (&part, &whole) {
            prop_assert_eq!(part, whole);
        }
        prop_assert!(part.is_none() || whole.is_some());
    }

    #[test]
    fn an_upgrade_is_found_wherever_it_is_cut(cut in any::<Index>(), follows in vec(any::<u8>(), 0..20)) {
        const HEAD: &[u8] = b"GET /gateway?v=1 HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
            Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        prop_assert_eq!(parse_head(&HEAD[..cut.index(HEAD.len())], 16_384, true), None);
        let Some(Head::Upgrade { head_bytes, .. }) = parse_head(&[HEAD, &follows].concat(), 16_384, true)
        else {
            return Err(TestCaseError::fail("not an upgrade"));
        };
        prop_assert_eq!(head_bytes, HEAD.len());
    }
}
