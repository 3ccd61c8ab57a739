//! What a client asks for: one JSON object per text frame, told apart by `type`.
//!
//! A command borrows its text from the frame and never knows who sent it; what only the server
//! can know (membership, rates, the existence of a channel) is checked elsewhere.
//!
//! Invariants: a [`Command`] that [`parse`] gave obeys every limit of WIRE.md that its text
//! alone can break; parse(encode_command(x)) = x for such commands.

mod parse;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::event::ErrorCode;
use crate::id::{ChannelId, MessageId, Nonce, Rev, Seq};
use crate::limits::CONTENT_CHARS_MAX;

pub use parse::parse;

/// A command. WIRE.md says what each does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, TS)]
#[serde(
    tag = "type",
    rename_all = "SCREAMING_SNAKE_CASE",
    rename_all_fields = "camelCase"
)]
pub enum Command<'a> {
    /// Says who the client is; the first command of a connection.
    Identify {
        /// What login or registration gave.
        token: Cow<'a, str>,
        /// Where to go on after a lost connection.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        resume: Option<Resume>,
    },
    /// Says that the client is there.
    Heartbeat,
    /// Asks for a channel's live events, and for what came after a position.
    SubscribeChannel {
        /// The channel.
        channel_id: ChannelId,
        /// The last message that the client has.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        after_seq: Option<Seq>,
        /// The last durable record that the client has.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        after_rev: Option<Rev>,
    },
    /// Ends a subscription.
    UnsubscribeChannel {
        /// The channel.
        channel_id: ChannelId,
    },
    /// Sends a message.
    SendMessage {
        /// The channel.
        channel_id: ChannelId,
        /// What it says.
        content: Cow<'a, str>,
        /// The sender's name for it.
        nonce: Nonce,
        /// The message it answers.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        reply_to: Option<MessageId>,
    },
    /// Says that the user writes.
    StartTyping {
        /// The channel.
        channel_id: ChannelId,
    },
    /// Says that the user writes no longer.
    StopTyping {
        /// The channel.
        channel_id: ChannelId,
    },
}

impl Command<'_> {
    /// The `type` of each command, in the order of WIRE.md.
    pub const TYPES: [&'static str; 7] = [
        "IDENTIFY",
        "HEARTBEAT",
        "SUBSCRIBE_CHANNEL",
        "UNSUBSCRIBE_CHANNEL",
        "SEND_MESSAGE",
        "START_TYPING",
        "STOP_TYPING",
    ];
}

/// Where a client goes on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
pub struct Resume {
    /// The channels it was subscribed to, each once, at most 1000.
    pub channels: Vec<ResumeChannel>,
}

/// Where a client goes on in one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ResumeChannel {
    /// The channel.
    pub channel_id: ChannelId,
    /// The last message that the client has, 0 for none.
    pub after_seq: Seq,
    /// The last durable record that the client has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub after_rev: Option<Rev>,
}

/// Limits that the configuration sets on text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TextLimits {
    /// The longest content in Unicode scalar values; 0 for no limit but the frame's.
    pub content_chars_max: usize,
}

impl Default for TextLimits {
    fn default() -> Self {
        Self {
            content_chars_max: CONTENT_CHARS_MAX,
        }
    }
}

/// A text that is no command: what ERROR will say.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{code}: {message}")]
pub struct CommandError {
    /// Always `INVALID_PAYLOAD`.
    pub code: ErrorCode,
    /// What was wrong, and what is allowed.
    pub message: Cow<'static, str>,
    /// The command's nonce, if one could be read.
    pub nonce: Option<Nonce>,
}

/// The JSON text of a command, as clients send it.
#[must_use]
pub fn encode_command(command: &Command<'_>) -> String {
    serde_json::to_string(command).expect("wire types have string keys only")
}
