//! Reading what is stored: pages for history (REST) and for replays.
//!
//! The store finds and reads the messages of a page; here they become JSON or frames. Only the
//! owner of a channel reads it.
//!
//! Invariants: pages being read are bounded; a page shows nothing that is not synced; damage is
//! an error of that page and of nothing else.

use std::collections::HashMap;

use bytes::{Bytes, BytesMut};
use throng_control::{FromShard, HistoryError, HistoryQuery, ShardStatus};
use throng_protocol::{ChannelId, Event, Message, MessageId, Rev, Seq, UserId, encode_frame_into};
use throng_storage_engine::{ChannelKey, MessageKey, PageQuery, Query, StoreError, Stored};

use crate::io::{Outbox, Output, ReadId};
use crate::lane::{Refusal, Reply, ReplyTo};
use crate::missed::Asked;
use crate::record;
use crate::shard::Shard;

/// Messages in one page of a replay.
const REPLAY_PAGE_MESSAGES: usize = 100;

/// Bytes of frames in one page of a replay; a page holds at least one message.
const REPLAY_PAGE_BYTES: usize = 64 << 10;

/// Pages being read.
#[derive(Debug)]
pub(crate) struct Reads {
    for_whom: HashMap<ReadId, (ChannelId, ReadFor)>,
    next: u64,
    reads_max: usize,
    /// The last damage found.
    damage: Option<String>,
    /// What the store's maintenance fails at.
    trouble: Option<String>,
}

#[derive(Clone, Copy, Debug)]
enum ReadFor {
    History {
        ticket: u64,
    },
    /// What whoever stopped after this message missed.
    Replay {
        after: Seq,
        head: (Seq, Rev),
    },
    /// A message of this user answers another.
    Answered {
        user: UserId,
        answered: MessageId,
    },
}

impl Reads {
    /// At most `reads_max` pages at a time.
    pub(crate) fn new(reads_max: usize) -> Self {
        Self {
            for_whom: HashMap::new(),
            next: 0,
            reads_max,
            damage: None,
            trouble: None,
        }
    }

    fn open(&mut self, channel: ChannelId, read_for: ReadFor) -> Option<ReadId> {
        if self.for_whom.len() >= self.reads_max {
            return None;
        }
        let read = ReadId(self.next);
        self.next += 1;
        self.for_whom.insert(read, (channel, read_for));
        Some(read)
    }
}

impl Shard {
    /// The control plane wants a page of a channel; it has checked that its user may.
    pub(crate) fn history(
        &mut self,
        ticket: u64,
        channel: ChannelId,
        query: HistoryQuery,
        limit: usize,
        out: &mut Outbox,
    ) {
        let query = match query {
            HistoryQuery::Newest => Query::Newest,
            HistoryQuery::Before(id) => Query::Before(key(id)),
            HistoryQuery::After(id) => Query::After(key(id)),
            HistoryQuery::Around(id) => Query::Around(key(id)),
        };
        let (head, _) = self.committed_head(channel);
        if head == Seq(0) {
            return answer(ticket, Ok(Vec::new()), out);
        }
        let query = page(channel, query, limit, head);
        if !self.read(channel, ReadFor::History { ticket }, query, out) {
            answer(ticket, Err(HistoryError::Unavailable), out);
        }
    }

    /// Looks for the message that one of this user's answers; false when too much is being read.
    pub(crate) fn look_for(
        &mut self,
        user: UserId,
        channel: ChannelId,
        answered: MessageId,
        out: &mut Outbox,
    ) -> bool {
        let (head, _) = self.committed_head(channel);
        let query = page(channel, Query::Around(key(answered)), 1, head);
        self.read(channel, ReadFor::Answered { user, answered }, query, out)
    }

    fn read(
        &mut self,
        channel: ChannelId,
        read_for: ReadFor,
        query: PageQuery,
        out: &mut Outbox,
    ) -> bool {
        let read = self.reads.open(channel, read_for);
        if let Some(read) = read {
            out.push(Output::Read { read, query });
        }
        read.is_some()
    }

    /// A shard wants the page after a position.
    pub(crate) fn read_after(
        &mut self,
        reply_to: ReplyTo,
        channel: ChannelId,
        after: Seq,
        out: &mut Outbox,
    ) {
        // What is committed after this moment is published after it, and not shown by the page.
        let head = self.committed_head(channel);
        if head.0 <= after {
            let nothing = Reply::Page {
                frames: Bytes::new(),
                last: after,
            };
            return self.reply(reply_to, nothing, out);
        }
        match self.missed.ask((channel, after), head, reply_to) {
            Asked::Kept(page) => return self.reply(reply_to, page, out),
            Asked::Waits => return,
            Asked::First => {}
        }
        let query = PageQuery {
            bytes_max: REPLAY_PAGE_BYTES,
            ..page(
                channel,
                Query::AfterSeq(after.0),
                REPLAY_PAGE_MESSAGES,
                head.0,
            )
        };
        if self.read(channel, ReadFor::Replay { after, head }, query, out) {
            self.missed.begin((channel, after), head, reply_to);
        } else {
            self.refuse(reply_to, Refusal::UNAVAILABLE, out);
        }
    }

    /// A page of what was missed was read, or could not be.
    fn missed_read(
        &mut self,
        channel: ChannelId,
        after: Seq,
        head: (Seq, Rev),
        messages: Option<Vec<Message>>,
        out: &mut Outbox,
    ) {
        let page = messages.map(|messages| replay_page(messages, head.0));
        let at = (channel, after);
        let waiting = self.missed.read(at, page.clone(), head, self.now_ms);
        for reply_to in waiting {
            match page.clone() {
                Some((frames, last)) => self.reply(reply_to, Reply::Page { frames, last }, out),
                None => self.refuse(reply_to, Refusal::UNAVAILABLE, out),
            }
        }
    }

    /// A page was read.
    pub(crate) fn page_read(
        &mut self,
        read: ReadId,
        result: Result<Vec<Stored>, StoreError>,
        out: &mut Outbox,
    ) {
        let (channel, read_for) = self
            .reads
            .for_whom
            .remove(&read)
            .expect("a page is read once");
        let messages = self.messages_of(channel, result);
        match (read_for, messages) {
            (ReadFor::History { ticket }, Some(mut messages)) => {
                messages.reverse();
                answer(ticket, Ok(messages), out);
            }
            (ReadFor::History { ticket }, None) => {
                answer(ticket, Err(HistoryError::Damaged), out);
            }
            (ReadFor::Replay { after, head }, messages) => {
                self.missed_read(channel, after, head, messages, out);
            }
            (ReadFor::Answered { user, answered }, messages) => {
                let is_it = |message: &Message| message.id == answered;
                let exists = messages.map(|messages| messages.iter().any(is_it));
                self.looked_for(user, channel, exists, out);
            }
        }
    }

    /// The messages of a page, unless it is damaged. A record of another channel, where this one's
    /// should lie, is damage too, and nobody's to see.
    fn messages_of(
        &mut self,
        channel: ChannelId,
        result: Result<Vec<Stored>, StoreError>,
    ) -> Option<Vec<Message>> {
        let found = match result {
            Ok(found) => found,
            Err(error) => {
                self.reads.damage = Some(error.to_string());
                return None;
            }
        };
        let is_foreign = |stored: &Stored| stored.create.channel.0 != *channel.as_bytes();
        if found.iter().any(is_foreign) {
            self.reads.damage = Some(format!("a record of another channel lies in {channel}"));
            return None;
        }
        let messages: Result<Vec<Message>, _> = found.iter().map(record::message).collect();
        messages
            .map_err(|error| self.reads.damage = Some(error.to_string()))
            .ok()
    }

    /// The store is not as it should be: `/health` says so.
    pub(crate) fn store_trouble(&mut self, error: Option<String>) {
        self.reads.trouble = error;
    }

    /// The control plane wants to know how this shard is.
    pub(crate) fn status(&mut self, ticket: u64, out: &mut Outbox) {
        let status = ShardStatus {
            connections: self.sessions.count() as u64,
            sessions: self.users.sessions(),
            store_error: self.reads.damage.clone().or(self.reads.trouble.clone()),
        };
        out.push(Output::Control(FromShard::Status { ticket, status }));
    }
}

fn answer(ticket: u64, result: Result<Vec<Message>, HistoryError>, out: &mut Outbox) {
    out.push(Output::Control(FromShard::History { ticket, result }));
}

fn key(id: MessageId) -> MessageKey {
    MessageKey(*id.as_bytes())
}

/// A page of what is stored and not deleted, up to the channel's head.
fn page(channel: ChannelId, query: Query, limit: usize, head: Seq) -> PageQuery {
    PageQuery {
        channel: ChannelKey(*channel.as_bytes()),
        query,
        limit,
        upto_seq: head.0,
        with_deleted: false,
        bytes_max: usize::MAX,
    }
}

/// As many messages as fit in a page, oldest first, and the seq of the last. Without any, nothing is left up to the head
/// that the page was read under.
fn replay_page(messages: Vec<Message>, head: Seq) -> (Bytes, Seq) {
    let mut frames = BytesMut::new();
    let mut last = head;
    for message in messages {
        last = message.seq;
        encode_frame_into(&Event::MessageCreate { message }, &mut frames);
        if frames.len() >= REPLAY_PAGE_BYTES {
            break;
        }
    }
    (frames.freeze(), last)
}
