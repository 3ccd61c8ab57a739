//! What an event says, found at the places where the server puts it, without parsing.
//!
//! A generator that plays a million people on one core cannot parse what they hear. It looks for
//! the members it counts, in the form that the server writes; `people` parses a sample, and whatever
//! does not look as expected, whole.
//!
//! Invariants: no input makes it panic; what is not in the expected form is `None`, never a guess.

/// `type` is the first member of every event (WIRE.md).
const TYPE: &[u8] = br#"{"type":""#;
const CREATE: &[u8] = br#"{"type":"MESSAGE_CREATE","message":{"id":""#;
const CHANNEL: &[u8] = br#"","channelId":""#;
const SEQ: &[u8] = br#"","seq":"#;
const NONCE: &[u8] = br#","nonce":""#;
const SUBSCRIBED: &[u8] = br#"{"type":"SUBSCRIBED","channelId":""#;
const ACK: &[u8] = br#"{"type":"MESSAGE_ACK","nonce":""#;
const MESSAGE_ID: &[u8] = br#"","messageId":""#;
const ID: &[u8] = br#"{"id":""#;
const GUILD_OF_CHANNEL: &[u8] = br#"","guildId":""#;
const UUID_BYTES: usize = 36;

/// A message, as far as it is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Created<'a> {
    /// The channel's id, in text.
    pub channel: &'a [u8; UUID_BYTES],
    /// Its place there.
    pub seq: u64,
    /// The nonce, in text, if it is live.
    pub nonce: Option<&'a [u8; UUID_BYTES]>,
}

/// The event's type.
#[must_use]
pub fn kind(text: &[u8]) -> Option<&[u8]> {
    let rest = text.strip_prefix(TYPE)?;
    let end = rest.iter().position(|&byte| byte == b'"')?;
    Some(&rest[..end])
}

/// A MESSAGE_CREATE in the server's own form.
#[must_use]
pub fn created(text: &[u8]) -> Option<Created<'_>> {
    let rest = text.strip_prefix(CREATE)?.get(UUID_BYTES..)?;
    let (channel, rest) = rest.strip_prefix(CHANNEL)?.split_first_chunk()?;
    let seq = number(rest.strip_prefix(SEQ)?)?;
    let nonce = text.strip_suffix(br#""}}"#).and_then(|rest| {
        let (rest, nonce) = rest.split_last_chunk()?;
        rest.ends_with(NONCE).then_some(nonce)
    });
    Some(Created {
        channel,
        seq,
        nonce,
    })
}

/// SUBSCRIBED: the channel and its newest `seq`.
#[must_use]
pub fn subscribed(text: &[u8]) -> Option<(u128, u64)> {
    let (channel, rest) = text.strip_prefix(SUBSCRIBED)?.split_first_chunk()?;
    Some((uuid(channel)?, number(rest.strip_prefix(SEQ)?)?))
}

/// MESSAGE_ACK: the nonce and the message's `seq`.
#[must_use]
pub fn acked(text: &[u8]) -> Option<(&[u8; UUID_BYTES], u64)> {
    let (nonce, rest) = text.strip_prefix(ACK)?.split_first_chunk()?;
    let rest = rest.strip_prefix(MESSAGE_ID)?.get(UUID_BYTES..)?;
    Some((nonce, number(rest.strip_prefix(SEQ)?)?))
}

/// The ids of the channels that READY names, in its order.
pub fn channels_of_ready(text: &[u8], mut found: impl FnMut(&[u8; UUID_BYTES])) {
    let mut at = 0;
    while let Some(offset) = find(&text[at..], ID) {
        at += offset + ID.len();
        let Some((id, rest)) = text[at..].split_first_chunk() else {
            return;
        };
        if rest.starts_with(GUILD_OF_CHANNEL) {
            found(id);
        }
    }
}

/// A UUID in its usual form.
#[must_use]
pub fn uuid(text: &[u8; UUID_BYTES]) -> Option<u128> {
    let mut value = 0_u128;
    for (place, &byte) in text.iter().enumerate() {
        if matches!(place, 8 | 13 | 18 | 23) {
            if byte != b'-' {
                return None;
            }
            continue;
        }
        let digit = char::from(byte).to_digit(16)?;
        value = value << 4 | u128::from(digit);
    }
    Some(value)
}

/// Where `needle` first is.
#[must_use]
pub fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    text.windows(needle.len())
        .position(|window| window == needle)
}

fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    let mut value = None;
    for digit in digits.take(16) {
        value = Some(value.unwrap_or(0) * 10 + u64::from(digit - b'0'));
    }
    value
}

#[cfg(test)]
mod tests {
    use throng_protocol::{
        Author, Channel, ChannelId, ChannelType, Event, Guild, GuildId, Message, MessageId, Nonce,
        Rev, Seq, SessionId, Timestamp, User, UserId, UserStatus,
    };

    use super::*;

    fn message(nonce: Option<Nonce>) -> Event {
        Event::MessageCreate {
            message: Message {
                id: MessageId::from_u128(1),
                channel_id: ChannelId::from_u128(0xAB << 96),
                seq: Seq(4_711),
                rev: Rev(5_000),
                author: Author {
                    id: UserId::from_u128(4),
                    username: "a".to_owned(),
                },
                content: r#"","seq":9,"nonce":"x"}}"#.to_owned(),
                timestamp: Timestamp(1_767_225_600_000),
                edited_at: None,
                attachments: Vec::new(),
                reactions: Vec::new(),
                reply_to: None,
                nonce,
            },
        }
    }

    #[test]
    fn a_message_as_the_server_encodes_it() {
        let text = serde_json::to_vec(&message(Some(Nonce::from_u128(7)))).unwrap();
        let created = created(&text).unwrap();
        assert_eq!(kind(&text), Some(&b"MESSAGE_CREATE"[..]));
        assert_eq!(uuid(created.channel), Some(0xAB << 96));
        assert_eq!(created.seq, 4_711);
        assert_eq!(created.nonce.and_then(uuid), Some(7));
        for cut in 0..text.len() {
            let _ = super::created(&text[..cut]);
        }
    }

    #[test]
    fn a_replayed_message_has_no_nonce() {
        let text = serde_json::to_vec(&message(None)).unwrap();
        assert_eq!(created(&text).unwrap().nonce, None);
    }

    #[test]
    fn channels_and_no_guilds() {
        let channel = |id| Channel {
            id: ChannelId::from_u128(id),
            guild_id: GuildId::from_u128(9),
            name: "general".to_owned(),
            kind: ChannelType::Text,
            position: 0,
            parent_id: None,
        };
        let guild = |id, channels| Guild {
            id: GuildId::from_u128(id),
            name: "a".to_owned(),
            icon_url: None,
            owner_id: UserId::from_u128(7),
            channels,
            member_count: 3,
        };
        let event = Event::Ready {
            user: User {
                id: UserId::from_u128(7),
                username: "a".to_owned(),
                discriminator: "0001".to_owned(),
                avatar_url: None,
                status: UserStatus::Online,
                custom_status: None,
            },
            guilds: vec![
                guild(8, vec![channel(1)]),
                guild(9, vec![channel(2), channel(3)]),
            ],
            dms: Vec::new(),
            read_states: Vec::new(),
            session_id: SessionId::from_u128(5),
        };
        let text = serde_json::to_vec(&event).unwrap();
        let mut found = Vec::new();
        channels_of_ready(&text, |id| found.push(uuid(id).unwrap()));
        assert_eq!(found, [1, 2, 3]);
    }

    #[test]
    fn heads() {
        let event = Event::Subscribed {
            channel_id: ChannelId::from_u128(3),
            seq: Seq(0),
            rev: Rev(1),
        };
        let text = serde_json::to_vec(&event).unwrap();
        assert_eq!(subscribed(&text), Some((3, 0)));
        let event = Event::MessageAck {
            nonce: Nonce::from_u128(3),
            message_id: MessageId::from_u128(4),
            seq: Seq(17),
        };
        let text = serde_json::to_vec(&event).unwrap();
        let (nonce, seq) = acked(&text).unwrap();
        assert_eq!((uuid(nonce), seq), (Some(3), 17));
        for text in ["", "{}", r#"{"type":"SUBSCRIBED","channelId":"1"}"#] {
            assert_eq!(subscribed(text.as_bytes()), None, "{text}");
        }
        assert_eq!(kind(br#"{"type":"X"#), None);
        assert_eq!(number(b"99999999999999999999"), Some(9_999_999_999_999_999));
    }
}
