//! What is stored: a fixed set of keys and numbers around an opaque body, and where it lies.
//!
//! Bodies are never looked into.
//!
//! Invariants: the numbers of [`RecordKind`] are explicit and never reused.

use bytes::Bytes;

use crate::format::RECORD_HEADER_BYTES;
use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey, SegmentId};

/// What a record does to its channel.
///
/// All but [`RecordKind::Create`] are changes: their `target` is the changed message, their `seq`
/// is the changed message's, and their `message` is an id of their own, made when they were.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum RecordKind {
    /// A new message.
    Create = 1,
    /// A new body for a message.
    Edit = 2,
    /// The end of a message: its place stays, its content goes.
    Delete = 3,
    /// A reaction: who (`author`) and what (the body).
    ReactionAdd = 4,
    /// The end of the reaction with the same author and body.
    ReactionRemove = 5,
}

impl RecordKind {
    /// The kind with this number on disk, if this version knows it.
    pub(crate) fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::Create),
            2 => Some(Self::Edit),
            3 => Some(Self::Delete),
            4 => Some(Self::ReactionAdd),
            5 => Some(Self::ReactionRemove),
            _ => None,
        }
    }

    /// Its number on disk.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Create => 1,
            Self::Edit => 2,
            Self::Delete => 3,
            Self::ReactionAdd => 4,
            Self::ReactionRemove => 5,
        }
    }
}

/// One durable fact about a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// What it does.
    pub kind: RecordKind,
    /// Version of the body's layout, chosen by the caller.
    pub schema: u16,
    /// The channel.
    pub channel: ChannelKey,
    /// The message.
    pub message: MessageKey,
    /// Who wrote it.
    pub author: AuthorKey,
    /// Place among the channel's messages, dense from 1.
    pub seq: u64,
    /// Place among the channel's records, dense from 1.
    pub rev: u64,
    /// The message that this one answers or changes; zero if none.
    pub target: MessageKey,
    /// The writer's mark for repeated requests; zero if none.
    pub nonce: NonceKey,
    /// Opaque content.
    pub body: Bytes,
}

impl Record {
    /// Bytes that this record takes in a commit: header and body.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        u64::from(RECORD_HEADER_BYTES) + self.body.len() as u64
    }

    /// What the index needs of it.
    #[must_use]
    pub fn meta(&self) -> RecordMeta {
        RecordMeta {
            kind: self.kind,
            channel: self.channel,
            message: self.message,
            seq: self.seq,
            rev: self.rev,
        }
    }
}

/// The part of a record that the index keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordMeta {
    /// What the record does.
    pub kind: RecordKind,
    /// The channel.
    pub channel: ChannelKey,
    /// The message.
    pub message: MessageKey,
    /// Place among the channel's messages.
    pub seq: u64,
    /// Place among the channel's records.
    pub rev: u64,
}

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Location {
    /// The file.
    pub segment: SegmentId,
    /// Where its header begins, in bytes from the start of the file.
    pub offset: u32,
    /// Its length in bytes, header and body.
    pub bytes: u32,
}
