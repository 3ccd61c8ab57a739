//! What the server said, read as far as the checker needs it.
//!
//! It never trusts the shape: what cannot be read is an error, not something passed over.
//!
//! Invariants: a MESSAGE_CREATE, the event that comes by the hundred thousand, is read without
//! copying its text; every other event is read whole.

use std::borrow::Cow;

use serde::Deserialize;
use throng_protocol::{ChannelId, Event, MessageId, Nonce, Seq};

/// An event.
#[derive(Debug)]
pub enum Heard<'a> {
    /// MESSAGE_CREATE.
    Created(Created<'a>),
    /// Anything else.
    Event(Box<Event>),
}

/// The parts of a message that are checked.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Created<'a> {
    /// Its id.
    pub id: MessageId,
    /// Its channel.
    pub channel_id: ChannelId,
    /// Its place there.
    pub seq: Seq,
    /// Its text.
    #[serde(borrow)]
    pub content: Cow<'a, str>,
    /// Its nonce, in live events.
    pub nonce: Option<Nonce>,
}

/// `type` is the first member of every event (WIRE.md).
const CREATED: &str = r#"{"type":"MESSAGE_CREATE","#;

/// Reads an event.
///
/// # Errors
/// When the text is no event of the protocol.
pub fn hear(text: &str) -> Result<Heard<'_>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Create<'a> {
        #[serde(borrow)]
        message: Created<'a>,
    }
    if text.starts_with(CREATED) {
        let create: Create<'_> = serde_json::from_str(text)?;
        return Ok(Heard::Created(create.message));
    }
    serde_json::from_str(text).map(|event| Heard::Event(Box::new(event)))
}

#[cfg(test)]
mod tests {
    use throng_protocol::{Author, Message, Rev, Timestamp, UserId};

    use super::*;

    #[test]
    fn a_message_as_the_server_encodes_it() {
        let message = Message {
            id: MessageId::from_u128(1),
            channel_id: ChannelId::from_u128(2),
            seq: Seq(3),
            rev: Rev(3),
            author: Author {
                id: UserId::from_u128(4),
                username: "a".to_owned(),
            },
            content: "line\nquote \" ß".to_owned(),
            timestamp: Timestamp(1_767_225_600_000),
            edited_at: None,
            attachments: Vec::new(),
            reactions: Vec::new(),
            reply_to: None,
            nonce: Some(Nonce::from_u128(5)),
        };
        let event = Event::MessageCreate {
            message: message.clone(),
        };
        let text = serde_json::to_string(&event).unwrap();
        let Heard::Created(created) = hear(&text).unwrap() else {
            panic!("the short way was not taken for {text}");
        };
        assert_eq!(
            (created.id, created.channel_id, created.seq),
            (message.id, message.channel_id, Seq(3))
        );
        assert_eq!(
            (&*created.content, created.nonce),
            (&*message.content, message.nonce)
        );
    }

    #[test]
    fn other_events_and_nonsense() {
        let heard = hear(r#"{"type":"HELLO","heartbeatIntervalMs":30000}"#).unwrap();
        let Heard::Event(event) = heard else {
            panic!("{heard:?}")
        };
        assert_eq!(
            *event,
            Event::Hello {
                heartbeat_interval_ms: 30000
            }
        );
        for text in [
            "",
            "{}",
            r#"{"type":"NEW"}"#,
            r#"{"type":"MESSAGE_CREATE","message":{}}"#,
        ] {
            assert!(hear(text).is_err(), "{text}");
        }
    }
}
