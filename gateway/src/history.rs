//! Reading what is stored: pages for history (REST) and for replays.
//!
//! The index says where the messages of a page lie; the edge reads them; here they become JSON or
//! frames. Only the owner of a channel reads it.
//!
//! Invariants: pages being read are bounded; a page shows nothing that is not synced; damage is
//! an error of that page and of nothing else.

use std::collections::HashMap;

use bytes::BytesMut;
use throng_control::{FromShard, HistoryError, HistoryQuery, ShardStatus};
use throng_protocol::{ChannelId, Event, Message, MessageId, Seq, encode_frame_into};
use throng_storage_engine::{ChannelKey, Location, MessageKey, Query, Record, StoreError};

use crate::io::{Outbox, Output, ReadId};
use crate::lane::{Refusal, Reply, ReplyTo};
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
}

#[derive(Clone, Copy, Debug)]
enum ReadFor {
    History { ticket: u64 },
    Replay { reply_to: ReplyTo },
}

impl Reads {
    /// At most `reads_max` pages at a time.
    pub(crate) fn new(reads_max: usize) -> Self {
        Self {
            for_whom: HashMap::new(),
            next: 0,
            reads_max,
            damage: None,
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
        let key = |id: MessageId| MessageKey(*id.as_bytes());
        let query = match query {
            HistoryQuery::Newest => Query::Newest,
            HistoryQuery::Before(id) => Query::Before(key(id)),
            HistoryQuery::After(id) => Query::After(key(id)),
            HistoryQuery::Around(id) => Query::Around(key(id)),
        };
        let locations = self
            .index
            .page(ChannelKey(*channel.as_bytes()), query, limit);
        if locations.is_empty() {
            return answer(ticket, Ok(Vec::new()), out);
        }
        match self.reads.open(channel, ReadFor::History { ticket }) {
            Some(read) => out.push(Output::Read { read, locations }),
            None => answer(ticket, Err(HistoryError::Unavailable), out),
        }
    }

    /// A shard wants the page after a position.
    pub(crate) fn read_after(
        &mut self,
        reply_to: ReplyTo,
        channel: ChannelId,
        after: Seq,
        out: &mut Outbox,
    ) {
        let key = ChannelKey(*channel.as_bytes());
        let query = Query::AfterSeq(after.0);
        let mut locations = self.index.page(key, query, REPLAY_PAGE_MESSAGES);
        locations.truncate(fitting(&locations));
        if locations.is_empty() {
            let nothing = Reply::Page {
                frames: bytes::Bytes::new(),
                last: after,
            };
            return self.reply(reply_to, nothing, out);
        }
        match self.reads.open(channel, ReadFor::Replay { reply_to }) {
            Some(read) => out.push(Output::Read { read, locations }),
            None => self.refuse(reply_to, Refusal::UNAVAILABLE, out),
        }
    }

    /// A page was read.
    pub(crate) fn page_read(
        &mut self,
        read: ReadId,
        result: Result<Vec<Record>, StoreError>,
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
            (ReadFor::Replay { reply_to }, Some(messages)) => {
                self.reply(reply_to, replay_page(messages), out);
            }
            (ReadFor::Replay { reply_to }, None) => {
                self.refuse(reply_to, Refusal::UNAVAILABLE, out);
            }
        }
    }

    /// The messages of a page, unless it is damaged. A record of another channel, where this one's
    /// should lie, is damage too, and nobody's to see.
    fn messages_of(
        &mut self,
        channel: ChannelId,
        result: Result<Vec<Record>, StoreError>,
    ) -> Option<Vec<Message>> {
        let records = match result {
            Ok(records) => records,
            Err(error) => {
                self.reads.damage = Some(error.to_string());
                return None;
            }
        };
        let is_foreign = |record: &Record| record.channel.0 != *channel.as_bytes();
        if records.iter().any(is_foreign) {
            self.reads.damage = Some(format!("a record of another channel lies in {channel}"));
            return None;
        }
        let messages: Result<Vec<Message>, _> = records.iter().map(record::message).collect();
        messages
            .map_err(|error| self.reads.damage = Some(error.to_string()))
            .ok()
    }

    /// The control plane wants to know how this shard is.
    pub(crate) fn status(&mut self, ticket: u64, out: &mut Outbox) {
        let status = ShardStatus {
            connections: self.sessions.count() as u64,
            sessions: self.users.sessions(),
            store_error: self.reads.damage.clone(),
        };
        out.push(Output::Control(FromShard::Status { ticket, status }));
    }
}

fn answer(ticket: u64, result: Result<Vec<Message>, HistoryError>, out: &mut Outbox) {
    out.push(Output::Control(FromShard::History { ticket, result }));
}

/// How many of these records fit in a page; at least one.
fn fitting(locations: &[Location]) -> usize {
    let mut bytes = 0;
    let fits = |location: &&Location| {
        bytes += location.bytes as usize;
        bytes <= REPLAY_PAGE_BYTES
    };
    locations.iter().take_while(fits).count().max(1)
}

/// As many messages as fit in a page, oldest first.
fn replay_page(messages: Vec<Message>) -> Reply {
    let mut frames = BytesMut::new();
    let mut last = Seq(0);
    for message in messages {
        last = message.seq;
        encode_frame_into(&Event::MessageCreate { message }, &mut frames);
        if frames.len() >= REPLAY_PAGE_BYTES {
            break;
        }
    }
    Reply::Page {
        frames: frames.freeze(),
        last,
    }
}
