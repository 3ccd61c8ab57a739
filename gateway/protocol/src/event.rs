//! What the server says: one JSON object per text frame, told apart by `type`.
//!
//! An event that goes to many never holds anything that depends on the receiver, so that it is
//! encoded once (see `encode`). Clients parse the same types.
//!
//! Invariants: `type` is the first member; names are SCREAMING_SNAKE_CASE, fields camelCase.

use std::fmt;

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::entity::{Channel, ChannelHead, Guild, Message, ReadState, User};
use crate::id::{ChannelId, MessageId, Nonce, Rev, Seq, SessionId, UserId};

/// An event. WIRE.md says when each is sent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(
    tag = "type",
    rename_all = "SCREAMING_SNAKE_CASE",
    rename_all_fields = "camelCase"
)]
pub enum Event {
    /// The first event on a connection.
    Hello {
        /// How often the client shall send HEARTBEAT, in milliseconds.
        heartbeat_interval_ms: u64,
    },
    /// The session is identified; commands are taken from here on.
    Ready {
        /// The account.
        user: User,
        /// Its guilds; what does not fit follows as GUILD_CREATE.
        guilds: Vec<Guild>,
        /// Its direct channels.
        dms: Vec<Channel>,
        /// How far it has read.
        read_states: Vec<ReadState>,
        /// The session's id.
        session_id: SessionId,
    },
    /// Answers HEARTBEAT.
    HeartbeatAck,
    /// A message was stored in a subscribed channel.
    MessageCreate {
        /// The message.
        message: Message,
    },
    /// Answers SEND_MESSAGE: the message is stored and synced.
    MessageAck {
        /// The nonce of the command.
        nonce: Nonce,
        /// The message's id.
        message_id: MessageId,
        /// The message's place in its channel.
        seq: Seq,
    },
    /// Somebody writes in a subscribed channel.
    TypingStart {
        /// The channel.
        channel_id: ChannelId,
        /// Who.
        user_id: UserId,
    },
    /// Somebody stopped writing, or fell silent.
    TypingStop {
        /// The channel.
        channel_id: ChannelId,
        /// Who.
        user_id: UserId,
    },
    /// A guild that the user is in from now on, or that READY had no room for.
    GuildCreate {
        /// The guild.
        guild: Guild,
    },
    /// Answers SUBSCRIBE_CHANNEL and each channel of a resume; comes before a replay.
    Subscribed {
        /// The channel.
        channel_id: ChannelId,
        /// Its newest message, 0 when it is empty.
        seq: Seq,
        /// Its newest durable record, 0 when it is empty.
        rev: Rev,
    },
    /// Too much was missed for a replay: fetch the channels anew; they are live from these
    /// heads on.
    Resync {
        /// The guilds as they are now.
        guilds: Vec<Guild>,
        /// The channels that are not replayed.
        channels: Vec<ChannelHead>,
    },
    /// The server will close this connection: connect again after the time given.
    Reconnect {
        /// Why, for people.
        reason: String,
        /// When to come back, in milliseconds, different for each client.
        retry_after_ms: u64,
    },
    /// A command was refused; the connection goes on.
    Error {
        /// Why, for programs.
        code: ErrorCode,
        /// Why, for people.
        message: String,
        /// The nonce of the refused command, if it had one.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        nonce: Option<Nonce>,
        /// When to try again, in milliseconds, if that helps.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[ts(optional)]
        retry_after_ms: Option<u64>,
    },
}

/// Why a command was refused, for programs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// The token is not (or no longer) good: log in again.
    InvalidSession,
    /// Too fast: wait `retryAfterMs`.
    RateLimited,
    /// There is no such channel, or none that this user may know of.
    ChannelNotFound,
    /// The user may not do that.
    PermissionDenied,
    /// The command could not be read; `message` says what is allowed.
    InvalidPayload,
    /// There is no such message in that channel.
    MessageNotFound,
    /// Commands come after READY; send it again then.
    NotIdentified,
    /// The server cannot do it now; nothing was done.
    Unavailable,
}

impl ErrorCode {
    /// All codes, in the order of WIRE.md.
    pub const ALL: [Self; 8] = [
        Self::InvalidSession,
        Self::RateLimited,
        Self::ChannelNotFound,
        Self::PermissionDenied,
        Self::InvalidPayload,
        Self::MessageNotFound,
        Self::NotIdentified,
        Self::Unavailable,
    ];

    /// The code as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSession => "INVALID_SESSION",
            Self::RateLimited => "RATE_LIMITED",
            Self::ChannelNotFound => "CHANNEL_NOT_FOUND",
            Self::PermissionDenied => "PERMISSION_DENIED",
            Self::InvalidPayload => "INVALID_PAYLOAD",
            Self::MessageNotFound => "MESSAGE_NOT_FOUND",
            Self::NotIdentified => "NOT_IDENTIFIED",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_spelled_alike_by_serde() {
        for code in ErrorCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
        }
    }
}
