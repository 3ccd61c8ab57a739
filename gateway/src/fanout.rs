//! From a stored message to everybody who hears its channel.
//!
//! The frame was encoded once. It travels once per interested shard, gathers there with others of
//! its channel, and leaves as one broadcast for each slice of the listeners. Lanes carry live
//! frames on credit: the owner counts the bytes that each shard, itself included, has not yet told
//! its listeners, and admits a message only while there is room.
//!
//! Invariants: what is published and not told is at most the credit of each pair of shards, plus
//! what one commit admitted before a shard became interested; frames of one channel leave in the
//! order of its commits; one step tells fewer than two slices of listeners.

use bytes::Bytes;
use smallvec::SmallVec;
use throng_protocol::{ChannelId, Rev, Seq};

use crate::audience::{Move, Told};
use crate::commit::PendingMessage;
use crate::io::{Outbox, Output, ShardId};
use crate::lane::LaneMessage;
use crate::shard::{Shard, topic};
use crate::subscribers::HeardId;

/// Bytes of live frames under way between this shard and each one, itself included.
#[derive(Debug)]
pub(crate) struct Credits {
    /// Sent and not given back.
    outstanding: Vec<u64>,
    /// Admitted and not sent.
    reserved: Vec<u64>,
    /// Told or dropped, and not given back.
    owed: Vec<u64>,
    bytes_max: u64,
}

impl Credits {
    /// `bytes_max` bytes of credit on each lane.
    pub(crate) fn new(shards: u16, bytes_max: u64) -> Self {
        let none = || vec![0; usize::from(shards)];
        Self {
            outstanding: none(),
            reserved: none(),
            owed: none(),
            bytes_max,
        }
    }

    /// Whether the lane to this shard takes so many bytes more.
    pub(crate) fn has(&self, shard: ShardId, bytes: u64) -> bool {
        let shard = usize::from(shard.0);
        self.outstanding[shard] + self.reserved[shard] + bytes <= self.bytes_max
    }

    /// Keeps room for a frame.
    pub(crate) fn reserve(&mut self, shard: ShardId, bytes: u64) {
        self.reserved[usize::from(shard.0)] += bytes;
    }

    /// Gives up the room kept for a frame.
    pub(crate) fn release(&mut self, shards: &[ShardId], bytes: u64) {
        for shard in shards {
            self.reserved[usize::from(shard.0)] -= bytes;
        }
    }

    fn sent(&mut self, shard: ShardId, bytes: u64) {
        self.outstanding[usize::from(shard.0)] += bytes;
    }

    /// The other shard has told its listeners so many bytes.
    pub(crate) fn returned(&mut self, shard: ShardId, bytes: u64) {
        let outstanding = &mut self.outstanding[usize::from(shard.0)];
        assert!(
            *outstanding >= bytes,
            "what was not sent cannot be given back"
        );
        *outstanding -= bytes;
    }

    /// Notes that frames of a shard were told or dropped; returns what to give back, from time to time.
    fn received(&mut self, shard: ShardId, bytes: u64) -> Option<u64> {
        let owed = &mut self.owed[usize::from(shard.0)];
        *owed += bytes;
        (*owed >= self.bytes_max / 8).then(|| std::mem::take(owed))
    }

    fn take_owed(&mut self) -> Vec<(ShardId, u64)> {
        let owed = (0..).map(ShardId).zip(&mut self.owed);
        owed.map(|(shard, owed)| (shard, std::mem::take(owed)))
            .filter(|(_, b)| *b > 0)
            .collect()
    }
}

impl Shard {
    /// A message is stored: deliver it.
    pub(crate) fn publish(
        &mut self,
        channel: ChannelId,
        pending: PendingMessage,
        out: &mut Outbox,
    ) {
        let PendingMessage {
            seq,
            rev,
            frame,
            reserved,
            ..
        } = pending;
        self.credits.release(&reserved, frame.len() as u64);
        let shards = self.interested(channel);
        for shard in shards {
            self.credits.sent(shard, frame.len() as u64);
            let frame = frame.clone();
            self.say(
                shard,
                LaneMessage::Publish {
                    channel,
                    seq,
                    rev,
                    frame,
                },
                out,
            );
        }
    }

    /// The shards that hear a channel.
    fn interested(&self, channel: ChannelId) -> SmallVec<[ShardId; 8]> {
        self.interest.shards(&topic(channel)).map(ShardId).collect()
    }

    /// Somebody types: tell who listens, unless a lane is full.
    pub(crate) fn publish_typing(&mut self, channel: ChannelId, frame: Bytes, out: &mut Outbox) {
        let shards = self.interested(channel);
        for shard in shards {
            if !self.credits.has(shard, frame.len() as u64) {
                continue;
            }
            self.credits.sent(shard, frame.len() as u64);
            let frame = frame.clone();
            self.say(shard, LaneMessage::PublishTyping { channel, frame }, out);
        }
    }

    /// A stored message arrived from the channel's owner.
    pub(crate) fn published(
        &mut self,
        from: ShardId,
        channel: ChannelId,
        seq: Seq,
        rev: Rev,
        frame: Bytes,
        out: &mut Outbox,
    ) {
        let bytes = frame.len();
        if self.subscribers.published(channel, seq, rev, frame) {
            self.ask_again(out);
        } else {
            self.handed_on(from, bytes, out);
        }
    }

    /// Something that is not stored arrived from the channel's owner.
    pub(crate) fn published_typing(
        &mut self,
        from: ShardId,
        channel: ChannelId,
        frame: Bytes,
        out: &mut Outbox,
    ) {
        let bytes = frame.len();
        if self.subscribers.published_typing(channel, frame) {
            self.ask_again(out);
        } else {
            self.handed_on(from, bytes, out);
        }
    }

    /// Wants a turn, unless one is due already.
    fn ask_again(&mut self, out: &mut Outbox) {
        if !std::mem::replace(&mut self.asked_again, true) {
            out.push(Output::Again);
        }
    }

    /// Tells about a slice of listeners what they are due, each channel in its turn.
    pub(crate) fn again(&mut self, out: &mut Outbox) {
        self.asked_again = false;
        let slice = self.config.limits.fanout_slice_max;
        let mut moves = std::mem::take(&mut self.moves);
        let mut recipients = 0;
        while recipients < slice
            && let Some((heard, told)) = self.walk(slice, &mut moves, out)
        {
            recipients += told.recipients.max(1);
            for (session, place) in moves.drain(..) {
                self.move_live(session, heard, place);
            }
            let owner = self.channel_owner(self.subscribers.channel(heard));
            self.handed_on(owner, told.released_bytes, out);
        }
        self.moves = moves;
        if self.subscribers.is_due() {
            self.ask_again(out);
        }
    }

    fn walk(
        &mut self,
        slice: usize,
        moves: &mut Vec<Move>,
        out: &mut Outbox,
    ) -> Option<(HeardId, Told)> {
        let sessions = &self.sessions;
        let socket_of = |session| sessions.tenant(session).expect("who hears is there");
        self.subscribers.walk(slice, moves, &socket_of, out)
    }

    /// Frames of this owner are told or dropped: its credit returns, from time to time.
    pub(crate) fn handed_on(&mut self, owner: ShardId, bytes: usize, out: &mut Outbox) {
        if let Some(bytes) = self.credits.received(owner, bytes as u64) {
            self.say(owner, LaneMessage::Credit { bytes }, out);
        }
    }

    /// Gives back the credit that has not yet been given back.
    pub(crate) fn settle_credits(&mut self, out: &mut Outbox) {
        for (shard, bytes) in self.credits.take_owed() {
            self.say(shard, LaneMessage::Credit { bytes }, out);
        }
    }
}
