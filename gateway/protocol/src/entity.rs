//! What commands and events speak about: users, guilds, channels, messages.
//!
//! These are the shapes on the wire and nothing else; how they are stored is another matter.
//! None of them depends on who looks, with one exception that only REST fills: `Reaction::me`.
//!
//! Invariants: field order here is field order in JSON; an optional field is `null` where the
//! seeds say so and absent otherwise.

use serde::{Deserialize, Serialize};
use ts_rs::TS;

use crate::id::{AttachmentId, ChannelId, GuildId, MessageId, Nonce, Rev, Seq, UserId};
use crate::timestamp::Timestamp;

/// An account as others see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its unique name, 2-32 of `[a-z0-9_.]`.
    pub username: String,
    /// Four digits, for display.
    pub discriminator: String,
    /// Where its picture is.
    pub avatar_url: Option<String>,
    /// Whether it is there.
    pub status: UserStatus,
    /// A line of its own beside the status, at most 128 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub custom_status: Option<String>,
}

/// Whether a user is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum UserStatus {
    /// Connected.
    Online,
    /// Connected, but away.
    Idle,
    /// Connected, but not to be disturbed.
    Dnd,
    /// Not connected, or not to be seen.
    Offline,
}

/// Who wrote a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
pub struct Author {
    /// The user's id.
    pub id: UserId,
    /// The user's name when the message was written.
    pub username: String,
}

/// A guild and its channels.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Guild {
    /// Its id.
    pub id: GuildId,
    /// Its name, 2-100 characters.
    pub name: String,
    /// Where its picture is.
    pub icon_url: Option<String>,
    /// Who owns it.
    pub owner_id: UserId,
    /// Its channels, at most 500.
    pub channels: Vec<Channel>,
    /// How many members it has.
    pub member_count: u64,
}

/// A channel of a guild.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// The guild it belongs to.
    pub guild_id: GuildId,
    /// Its name, 1-100 of `[a-z0-9-]`.
    pub name: String,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: ChannelType,
    /// Its place among its siblings, from 0.
    pub position: u32,
    /// The category it is shown under.
    pub parent_id: Option<ChannelId>,
}

/// What a channel is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "lowercase")]
pub enum ChannelType {
    /// Messages.
    Text,
    /// Voice.
    Voice,
    /// A heading over other channels.
    Category,
}

/// A message. The same for all who see it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Its id, UUIDv7.
    pub id: MessageId,
    /// The channel it was sent to.
    pub channel_id: ChannelId,
    /// Its place among the channel's messages.
    pub seq: Seq,
    /// The channel's newest durable record that this state of the message includes.
    pub rev: Rev,
    /// Who wrote it.
    pub author: Author,
    /// What it says, 1-2000 characters.
    pub content: String,
    /// When it was stored, ISO 8601 in UTC with milliseconds.
    pub timestamp: Timestamp,
    /// When it was last edited, in the same form.
    pub edited_at: Option<Timestamp>,
    /// Its files.
    pub attachments: Vec<Attachment>,
    /// Its reactions, at most 20 different emoji.
    pub reactions: Vec<Reaction>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// The sender's nonce, in live events only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub nonce: Option<Nonce>,
}

/// A file of a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// Its id.
    pub id: AttachmentId,
    /// The name it was uploaded with.
    pub filename: String,
    /// Where to fetch it.
    pub url: String,
    /// Its media type.
    pub content_type: String,
    /// Its size in bytes.
    pub size: u64,
}

/// One emoji under a message.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
pub struct Reaction {
    /// The emoji.
    pub emoji: String,
    /// How many users chose it.
    pub count: u64,
    /// The first few of them.
    pub users: Vec<UserId>,
    /// Whether the asking user did: in REST answers only, since live frames are shared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[ts(optional)]
    pub me: Option<bool>,
}

/// How far a user has read in a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ReadState {
    /// The channel.
    pub channel_id: ChannelId,
    /// The newest message that was read.
    pub message_id: MessageId,
}

/// A channel's newest positions; zeros while it is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, TS)]
#[serde(rename_all = "camelCase")]
pub struct ChannelHead {
    /// The channel.
    pub channel_id: ChannelId,
    /// Its newest message.
    pub seq: Seq,
    /// Its newest durable record.
    pub rev: Rev,
}
