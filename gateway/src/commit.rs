//! Group commit: what is written together, and what follows when it is.
//!
//! While one commit is being written, the next gathers. There is no timer: at low load a message
//! is written at once, at high load a commit holds what came during the one before.
//!
//! Invariants: at most one commit is in flight; acknowledgement and delivery come after the sync
//! and in the order of the commit; when a commit is refused, nothing of it or of the one
//! gathering behind it happened, and their places are given out again.

use std::collections::HashMap;

use bytes::Bytes;
use smallvec::SmallVec;
use throng_protocol::{ChannelId, MessageId, Rev, Seq};
use throng_storage_engine::Record;

use crate::io::{CommitId, CommitRefused, Outbox, Output, ShardId};
use crate::lane::{LaneMessage, Refusal, Reply, ReplyTo};
use crate::nonces::NonceKey;
use crate::shard::Shard;

/// Room for so many messages is kept for the next commit.
const SPARE_MESSAGES_MAX: usize = 1_024;

/// A message whose commit is not synced.
#[derive(Debug)]
pub(crate) struct PendingMessage {
    /// Who waits for the acknowledgement.
    pub(crate) reply_to: ReplyTo,
    /// Whether the author's shard has counted it.
    pub(crate) counted: bool,
    /// What the client calls it.
    pub(crate) key: NonceKey,
    /// Its id.
    pub(crate) message: MessageId,
    /// Its place.
    pub(crate) seq: Seq,
    /// The channel's record count with it.
    pub(crate) rev: Rev,
    /// MESSAGE_CREATE, complete.
    pub(crate) frame: Bytes,
    /// The shards on whose lanes room for the frame is reserved.
    pub(crate) reserved: SmallVec<[ShardId; 4]>,
}

/// Bytes of a message that is being committed, its texts and its frame aside.
#[cfg(test)]
pub(crate) const PENDING_BYTES: usize = size_of::<PendingMessage>() + size_of::<Record>();

/// The commit that gathers and the one in flight.
#[derive(Debug)]
pub(crate) struct Commits {
    records: Vec<Record>,
    gathering: Vec<PendingMessage>,
    /// Empty: the list of the commit that landed last, for the next one to gather in.
    spare: Vec<PendingMessage>,
    gathered_bytes: u64,
    bytes_max: u64,
    in_flight: Option<(CommitId, Vec<PendingMessage>)>,
    next: u64,
    /// The last place given out in channels that have uncommitted messages.
    tails: HashMap<ChannelId, (Seq, Rev)>,
}

impl Commits {
    /// Commits of at most `bytes_max` bytes of records.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            records: Vec::new(),
            gathering: Vec::new(),
            spare: Vec::new(),
            gathered_bytes: 0,
            bytes_max: bytes_max as u64,
            in_flight: None,
            next: 0,
            tails: HashMap::new(),
        }
    }

    /// Nothing gathers and nothing is in flight.
    pub(crate) fn is_idle(&self) -> bool {
        self.records.is_empty() && self.in_flight.is_none()
    }

    /// Whether the gathering commit takes this record.
    pub(crate) fn has_room(&self, record: &Record) -> bool {
        self.gathered_bytes + record.bytes() <= self.bytes_max
    }

    /// Adds a message to the gathering commit.
    pub(crate) fn gather(&mut self, record: Record, pending: PendingMessage) {
        self.gathered_bytes += record.bytes();
        self.tails
            .insert(pending.key.channel, (pending.seq, pending.rev));
        self.records.push(record);
        self.gathering.push(pending);
    }

    /// The last place given out, if it is not committed.
    pub(crate) fn tail(&self, channel: ChannelId) -> Option<(Seq, Rev)> {
        self.tails.get(&channel).copied()
    }

    /// The gathering commit becomes the one in flight.
    fn take(&mut self) -> Option<(CommitId, Vec<Record>)> {
        if self.in_flight.is_some() || self.records.is_empty() {
            return None;
        }
        let commit = CommitId(self.next);
        self.next += 1;
        // A commit is one frame of one day's bucket.
        let first_day = day_of(&self.records[0]);
        let end = self
            .records
            .partition_point(|record| day_of(record) == first_day);
        let later_records = self.records.split_off(end);
        let mut later_messages = std::mem::take(&mut self.spare);
        later_messages.extend(self.gathering.drain(end..));
        let records = std::mem::replace(&mut self.records, later_records);
        let messages = std::mem::replace(&mut self.gathering, later_messages);
        self.gathered_bytes = self.records.iter().map(Record::bytes).sum();
        self.in_flight = Some((commit, messages));
        Some((commit, records))
    }

    fn landed(&mut self, commit: CommitId) -> Vec<PendingMessage> {
        let (in_flight, messages) = self.in_flight.take().expect("a commit is in flight");
        assert!(in_flight == commit, "commits come back in their order");
        messages
    }
}

/// The day of a record's id, counted from 1970.
fn day_of(record: &Record) -> u64 {
    record.message.timestamp_ms() / 86_400_000
}

impl Shard {
    /// Starts writing what has gathered, unless a commit is in flight.
    pub(crate) fn commit_if_idle(&mut self, out: &mut Outbox) {
        if let Some((commit, records)) = self.commits.take() {
            out.push(Output::Append { commit, records });
        }
    }

    /// The commit in flight is synced, or was refused.
    pub(crate) fn committed(
        &mut self,
        commit: CommitId,
        result: Result<(), CommitRefused>,
        out: &mut Outbox,
    ) {
        let messages = self.commits.landed(commit);
        match result {
            Ok(()) => self.stored(messages, out),
            Err(CommitRefused) => self.commit_refused(messages, out),
        }
    }

    fn stored(&mut self, mut messages: Vec<PendingMessage>, out: &mut Outbox) {
        for message in messages.drain(..) {
            let channel = message.key.channel;
            self.heads.advance(channel, message.seq, message.rev);
            if self.commits.tail(channel) == Some((message.seq, message.rev)) {
                self.commits.tails.remove(&channel);
            }
            self.acknowledge(&message, out);
            self.publish(channel, message, out);
        }
        if messages.capacity() <= SPARE_MESSAGES_MAX {
            self.commits.spare = messages;
        }
    }

    fn acknowledge(&mut self, pending: &PendingMessage, out: &mut Outbox) {
        let (message, seq) = (pending.message, pending.seq);
        self.reply(pending.reply_to, Reply::Acked { message, seq }, out);
        for waiter in self.nonces.stored(pending.key, message, seq, self.now_ms) {
            self.reply(waiter, Reply::Acked { message, seq }, out);
        }
    }

    /// Nothing was written. What gathered behind the commit counted on its places, so it is
    /// refused with it.
    fn commit_refused(&mut self, messages: Vec<PendingMessage>, out: &mut Outbox) {
        let behind = std::mem::take(&mut self.commits.gathering);
        self.commits.records.clear();
        self.commits.gathered_bytes = 0;
        self.commits.tails.clear();
        for pending in messages.into_iter().chain(behind) {
            self.credits
                .release(&pending.reserved, pending.frame.len() as u64);
            if pending.counted {
                let user = pending.key.author;
                let owner = self.user_owner(user);
                self.say(owner, LaneMessage::GiveBack { user }, out);
            }
            self.refuse(pending.reply_to, Refusal::UNAVAILABLE, out);
            for waiter in self.nonces.refused(pending.key) {
                self.refuse(waiter, Refusal::UNAVAILABLE, out);
            }
        }
    }
}
