//! What shards and the control plane say to each other.
//!
//! Plain owned data: nothing in here points into a shard, a database or a request, so that both
//! sides may keep it as long as they like. Nothing here does anything.
//!
//! Invariants: an [`Ask`] gets exactly one [`Answer`] with its [`AskId`] while both sides run; a
//! ticket is answered at most once per shard; a [`GuildFragment`] never changes, a newer state of
//! the guild is a new fragment with a higher version.

use std::sync::Arc;

use bytes::Bytes;
use throng_protocol::{ChannelId, GuildId, Message, MessageId, User, UserId};

/// Numbers a shard's questions. The shard chooses it, the answer repeats it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct AskId(pub u64);

/// What a shard wants to know.
#[derive(Clone, PartialEq, Eq)]
pub enum Ask {
    /// Whose token is this, and which guilds are theirs?
    Identify {
        /// The token as the client sent it: a secret, so it stays out of `Debug`.
        token: String,
    },
    /// May this user read and write this channel?
    Access {
        /// Who.
        user: UserId,
        /// Where.
        channel: ChannelId,
    },
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Identify { .. } => f.write_str("Identify { .. }"),
            Self::Access { user, channel } => {
                write!(f, "Access {{ user: {user}, channel: {channel} }}")
            }
        }
    }
}

/// What the control plane answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// The token is good.
    Identified {
        /// Its user.
        user: User,
        /// The user's guilds, oldest membership first.
        guilds: Vec<Arc<GuildFragment>>,
    },
    /// The token is malformed, forged, expired, or its user is gone.
    BadToken,
    /// The answer to [`Ask::Access`].
    Access {
        /// The channel's guild; the nil id when there is no such channel.
        guild: GuildId,
        /// The guild's version that the answer holds for; 0 when there is no such channel. A
        /// shard drops an answer older than the last invalidation it saw of that guild.
        guild_version: u64,
        /// The answer.
        access: Access,
    },
    /// The database did not answer: ask again later.
    Unavailable,
}

/// What a user is to a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// A member of the channel's guild.
    Member,
    /// Not a member. Keep this for a bounded time only: accounts may be added to a guild by an
    /// operator's command, which invalidates nothing.
    NotMember,
    /// No channel has this id (yet: do not keep this answer).
    NoSuchChannel,
}

/// A guild's JSON as it stands in READY and GUILD_CREATE, encoded once per version.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GuildFragment {
    /// Which guild.
    pub id: GuildId,
    /// Increases with every change of the guild.
    pub version: u64,
    /// A complete `Guild` object.
    pub json: Bytes,
    /// The guild's channels, by position.
    pub channels: Vec<ChannelId>,
}

/// What the control plane says to a shard.
#[derive(Clone, Debug)]
pub enum ToShard {
    /// The answer to a question of this shard.
    Answer {
        /// Which question.
        ask: AskId,
        /// The answer.
        answer: Answer,
    },
    /// Drop what is kept about access to this guild, then say [`FromShard::Invalidated`].
    Invalidate {
        /// To be repeated.
        ticket: u64,
        /// Which guild changed.
        guild: GuildId,
        /// The version after the change.
        version: u64,
        /// Only this user's membership changed, when given.
        user: Option<UserId>,
        /// Only this channel changed, when given.
        channel: Option<ChannelId>,
    },
    /// Read a page of a channel that this shard owns. Membership has been checked.
    History {
        /// To be repeated.
        ticket: u64,
        /// Which channel.
        channel: ChannelId,
        /// Where in it.
        query: HistoryQuery,
        /// At most so many messages, 1 to 100.
        limit: usize,
    },
    /// How are you?
    Status {
        /// To be repeated.
        ticket: u64,
    },
}

/// What a shard says to the control plane.
#[derive(Clone, Debug)]
pub enum FromShard {
    /// A question.
    Ask {
        /// To be repeated.
        ask: AskId,
        /// The question.
        ask_body: Ask,
    },
    /// What was kept is dropped; no access decided by it is left.
    Invalidated {
        /// Of [`ToShard::Invalidate`].
        ticket: u64,
    },
    /// A page.
    History {
        /// Of [`ToShard::History`].
        ticket: u64,
        /// The messages, newest first.
        result: Result<Vec<Message>, HistoryError>,
    },
    /// The shard's state.
    Status {
        /// Of [`ToShard::Status`].
        ticket: u64,
        /// The state.
        status: ShardStatus,
    },
}

/// Which page of a channel. The message named need not exist: ids are ordered by time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryQuery {
    /// The newest.
    Newest,
    /// Those directly preceding this message.
    Before(MessageId),
    /// Those directly following this message.
    After(MessageId),
    /// Those around this message, itself included.
    Around(MessageId),
}

/// Why a page could not be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HistoryError {
    /// Too much is asked of the shard right now: try again.
    Unavailable,
    /// What is stored there cannot be read; trying again does not help.
    Damaged,
}

/// How a shard is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ShardStatus {
    /// Open sockets, identified or not.
    pub connections: u64,
    /// Identified sessions.
    pub sessions: u64,
    /// What is wrong with the store, with the file's name, if anything is.
    pub store_error: Option<String>,
}
