//! From a stored message to everybody who hears its channel.
//!
//! The frame was encoded once. It travels once per interested shard, gathers there with others of
//! its channel, and leaves as one broadcast for each slice of the listeners. Lanes carry live
//! frames on credit: the owner counts the bytes that each shard, itself included, has not yet told
//! its listeners, and admits a message only while there is room.
//!
//! A channel that takes up too much of that is named to its owner, which admits nothing more in it
//! until its listeners have caught up, so that other channels go on.
//!
//! Invariants: what is published and not told is at most the credit of each pair of shards, plus
//! what one commit admitted before a shard became interested; frames of one channel leave in the
//! order of its commits; one step tells fewer than two slices of listeners.

use std::collections::HashSet;

use bytes::Bytes;
use smallvec::SmallVec;
use throng_protocol::{ChannelId, Rev, Seq};

use crate::audience::{Move, Told};
use crate::commit::PendingMessage;
use crate::io::{Outbox, Output, ShardId};
use crate::lane::LaneMessage;
use crate::shard::{Shard, topic};
use crate::subscribers::{Due, HeardId};

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
    /// Channels of which more gathers in a shard than it tells.
    crowded: HashSet<(ChannelId, ShardId)>,
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
            crowded: HashSet::new(),
        }
    }

    /// Whether the shard takes so many bytes more of this channel.
    pub(crate) fn admits(&self, channel: ChannelId, shard: ShardId, bytes: u64) -> bool {
        self.has(shard, bytes) && !self.crowded.contains(&(channel, shard))
    }

    /// More of the channel gathers in the shard than it tells.
    pub(crate) fn crowded(&mut self, channel: ChannelId, shard: ShardId) {
        self.crowded.insert((channel, shard));
    }

    /// No more.
    pub(crate) fn caught_up(&mut self, channel: ChannelId, shard: ShardId) {
        self.crowded.remove(&(channel, shard));
    }

    /// Whether the lane to this shard takes so many bytes more.
    fn has(&self, shard: ShardId, bytes: u64) -> bool {
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
            if !self.credits.admits(channel, shard, frame.len() as u64) {
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
        let due = self.subscribers.published(channel, seq, rev, frame);
        self.gathered(from, channel, due, bytes, out);
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
        let due = self.subscribers.published_typing(channel, frame);
        self.gathered(from, channel, due, bytes, out);
    }

    /// What follows from a frame that arrived from a channel's owner.
    fn gathered(
        &mut self,
        owner: ShardId,
        channel: ChannelId,
        due: Due,
        bytes: usize,
        out: &mut Outbox,
    ) {
        match due {
            Due::ToNobody => return self.give_credit_back(owner, bytes, out),
            Due::Later => {}
            Due::TooMuch => self.say(owner, LaneMessage::Crowded { channel }, out),
        }
        self.ask_again(out);
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
            self.handed_on(self.subscribers.channel(heard), told, out);
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

    /// Frames of a channel are told, or nobody is left to be told: its owner may admit more.
    pub(crate) fn handed_on(&mut self, channel: ChannelId, told: Told, out: &mut Outbox) {
        let owner = self.channel_owner(channel);
        self.give_credit_back(owner, told.released_bytes, out);
        if told.caught_up {
            self.say(owner, LaneMessage::CaughtUp { channel }, out);
        }
    }

    /// An owner's credit returns, from time to time.
    fn give_credit_back(&mut self, owner: ShardId, bytes: usize, out: &mut Outbox) {
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
