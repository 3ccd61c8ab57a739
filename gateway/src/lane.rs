//! What shards say to each other.
//!
//! Messages are owned values; nothing in them is shared and mutable. A lane between two shards is
//! FIFO. Three roles speak: the shard that holds a **session**, the shard that owns its **user**
//! (rates are per user, wherever the user's sessions are) and the shard that owns the **channel**.
//!
//! Invariants: every request that carries a [`RequestId`] is answered exactly once, by any of the
//! roles, with [`Reply`]; so the answers on their way to a shard are never more than the requests
//! it has open. Live frames (`Publish`) are bounded by credit in bytes instead, which the
//! receiver gives back with `Credit`.

use bytes::Bytes;
use throng_protocol::{ChannelId, ErrorCode, MessageId, Nonce, Rev, Seq, UserId};

use crate::io::ShardId;
use crate::record::CreateV1;

/// A request of one shard that has not been answered: a place in that shard's table.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RequestId(pub u32);

/// Where an answer goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplyTo {
    /// The shard that asked.
    pub shard: ShardId,
    /// Its request.
    pub request: RequestId,
}

/// One message from one shard to another.
#[derive(Clone, Debug)]
pub enum LaneMessage {
    /// Session to user: one more session of this user.
    OpenSession {
        /// Who asks.
        reply_to: ReplyTo,
        /// Whose session.
        user: UserId,
    },
    /// Session to user: a session that was opened has ended.
    CloseSession {
        /// Whose session.
        user: UserId,
    },
    /// Session to user: count this message, then pass it on to its channel.
    Count(Box<SendRequest>),
    /// Session (no limit set) or user to channel: a message to store and deliver.
    Send(Box<SendRequest>),
    /// Channel to user: a message that was counted was a resent one.
    GiveBack {
        /// Whose rate.
        user: UserId,
    },
    /// Session to channel: subscribe this shard, if the user may.
    Subscribe {
        /// Who asks.
        reply_to: ReplyTo,
        /// What.
        channel: ChannelId,
        /// For whom.
        user: UserId,
    },
    /// Listeners to channel: more of it gathers in this shard than can be told.
    Crowded {
        /// Of which channel.
        channel: ChannelId,
    },
    /// Listeners to channel: they have been told most of it.
    CaughtUp {
        /// Of which channel.
        channel: ChannelId,
    },
    /// Session to channel: this shard has no subscriber left.
    Unsubscribe {
        /// What.
        channel: ChannelId,
    },
    /// Session to channel: the stored messages after a position, as one page.
    ReadAfter {
        /// Who asks.
        reply_to: ReplyTo,
        /// What.
        channel: ChannelId,
        /// The last one that the reader has.
        after: Seq,
    },
    /// Session to channel: somebody started or stopped typing.
    Typing {
        /// Who asks.
        reply_to: ReplyTo,
        /// Where.
        channel: ChannelId,
        /// Who types.
        user: UserId,
        /// Started, or stopped.
        started: bool,
    },
    /// The answer to a request.
    Reply {
        /// Which request.
        request: RequestId,
        /// What came of it.
        reply: Reply,
    },
    /// Channel to sessions: a stored message.
    Publish {
        /// Where.
        channel: ChannelId,
        /// Its place.
        seq: Seq,
        /// The channel's record count with it.
        rev: Rev,
        /// MESSAGE_CREATE, complete.
        frame: Bytes,
    },
    /// Channel to sessions: something that is not stored.
    PublishTyping {
        /// Where.
        channel: ChannelId,
        /// TYPING_START or TYPING_STOP, complete.
        frame: Bytes,
    },
    /// Sessions to channel: this many bytes of published frames have been taken off the lane.
    Credit {
        /// Bytes given back.
        bytes: u64,
    },
}

/// A message on its way to the shard that orders its channel.
#[derive(Clone, Debug)]
pub struct SendRequest {
    /// Who waits for the acknowledgement.
    pub reply_to: ReplyTo,
    /// Author.
    pub user: UserId,
    /// Where to.
    pub channel: ChannelId,
    /// What is stored of it: the author's name as it is now, and the text, already checked.
    pub body: CreateV1,
    /// The client's name for this message.
    pub nonce: Nonce,
    /// The message that this one answers.
    pub reply_to_message: Option<MessageId>,
    /// Whether the user's shard has counted it, or why not.
    pub rate: RateState,
}

/// What the user's shard says of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RateState {
    /// No limit is set.
    Free,
    /// It passed and was counted; a resent one is given back.
    Counted,
    /// It is over the limit: only a resent one is still answered.
    Over {
        /// When the next one passes.
        retry_after_ms: u64,
    },
}

/// What came of a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// OpenSession: the session counts. Typing: passed on.
    Done,
    /// Send: stored and synced.
    Acked {
        /// The message's id.
        message: MessageId,
        /// Its place in the channel.
        seq: Seq,
    },
    /// Subscribe: every later message follows as `Publish` on this lane.
    Subscribed {
        /// The newest message.
        seq: Seq,
        /// The newest record.
        rev: Rev,
    },
    /// ReadAfter: one page.
    Page {
        /// Complete frames, one behind the other; empty when there was nothing more.
        frames: Bytes,
        /// The last message in them.
        last: Seq,
    },
    /// Not done.
    Refused(Refusal),
}

/// Why a request was not done; becomes an ERROR event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The code of the ERROR event.
    pub code: ErrorCode,
    /// What was wrong, for people.
    pub message: &'static str,
    /// When to try again, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Refusal {
    /// Something is full or away; the same request may pass later.
    pub const UNAVAILABLE: Self = Self {
        code: ErrorCode::Unavailable,
        message: "the server cannot take this right now; try again",
        retry_after_ms: Some(1_000),
    };

    /// No such channel.
    pub const CHANNEL_NOT_FOUND: Self = Self {
        code: ErrorCode::ChannelNotFound,
        message: "there is no such channel",
        retry_after_ms: None,
    };

    /// Not a member.
    pub const PERMISSION_DENIED: Self = Self {
        code: ErrorCode::PermissionDenied,
        message: "only members of the channel's guild may do this",
        retry_after_ms: None,
    };

    /// Too fast.
    #[must_use]
    pub const fn rate_limited(message: &'static str, retry_after_ms: u64) -> Self {
        Self {
            code: ErrorCode::RateLimited,
            message,
            retry_after_ms: Some(retry_after_ms),
        }
    }
}
