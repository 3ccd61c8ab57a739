//! From a stored message to everybody who hears its channel.
//!
//! The frame was encoded once. It travels once per interested shard and leaves that shard as one
//! broadcast. Lanes carry live frames on credit: the owner counts the bytes that each shard has
//! not taken off its lane, and admits a message only while there is room.
//!
//! Invariants: a lane holds at most its credit, plus what one commit admitted before a shard
//! became interested; frames of one channel leave in the order of its commits.

use bytes::Bytes;
use throng_protocol::{ChannelId, Rev, Seq};

use crate::commit::PendingMessage;
use crate::io::{Outbox, Output, ShardId};
use crate::lane::LaneMessage;
use crate::shard::{Shard, topic};

/// Bytes of live frames under way between this shard and each other one.
#[derive(Debug)]
pub(crate) struct Credits {
    /// Sent and not given back.
    outstanding: Vec<u64>,
    /// Admitted and not sent.
    reserved: Vec<u64>,
    /// Received and not given back.
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

    /// The other shard has taken bytes off its lane.
    pub(crate) fn returned(&mut self, shard: ShardId, bytes: u64) {
        let outstanding = &mut self.outstanding[usize::from(shard.0)];
        assert!(
            *outstanding >= bytes,
            "what was not sent cannot be given back"
        );
        *outstanding -= bytes;
    }

    /// Notes bytes taken off the lane from a shard; returns what to give back, from time to time.
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
        let shards: Vec<ShardId> = self.interest.shards(&topic(channel)).map(ShardId).collect();
        for shard in shards {
            if shard != self.id {
                self.credits.sent(shard, frame.len() as u64);
            }
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

    /// Somebody types: tell who listens, unless a lane is full.
    pub(crate) fn publish_typing(&mut self, channel: ChannelId, frame: Bytes, out: &mut Outbox) {
        let shards: Vec<ShardId> = self.interest.shards(&topic(channel)).map(ShardId).collect();
        for shard in shards {
            if shard != self.id {
                if !self.credits.has(shard, frame.len() as u64) {
                    continue;
                }
                self.credits.sent(shard, frame.len() as u64);
            }
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
        self.taken_off_lane(from, &frame, out);
        if let Some(to) = self.subscribers.published(channel, seq, rev) {
            out.push(Output::Broadcast { bytes: frame, to });
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
        self.taken_off_lane(from, &frame, out);
        if let Some(to) = self.subscribers.live(channel) {
            out.push(Output::Broadcast { bytes: frame, to });
        }
    }

    fn taken_off_lane(&mut self, from: ShardId, frame: &Bytes, out: &mut Outbox) {
        if from == self.id {
            return;
        }
        if let Some(bytes) = self.credits.received(from, frame.len() as u64) {
            self.say(from, LaneMessage::Credit { bytes }, out);
        }
    }

    /// Gives back the credit that has not yet been given back.
    pub(crate) fn settle_credits(&mut self, out: &mut Outbox) {
        for (shard, bytes) in self.credits.take_owed() {
            self.say(shard, LaneMessage::Credit { bytes }, out);
        }
    }
}
