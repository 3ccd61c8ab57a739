//! Which of this shard's sessions hear a channel.
//!
//! It keeps an [`Audience`] for each channel and a queue of those that are due something, so that
//! they are told in turns and no large channel keeps a small one waiting. It sends nothing.
//!
//! Invariants: a channel is here exactly while somebody hears it, is being told its past, or
//! waits for its owner's word; from the owner's word on, live messages arrive without a gap; a
//! channel is in the queue exactly while it is due something, and once.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use smallvec::SmallVec;
use throng_protocol::{ChannelId, Rev, Seq};

use crate::audience::{Audience, Head, Kept, Move, Spares, Told};
use crate::io::{ConnId, Outbox};

/// The channels that sessions of this shard hear.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    channels: HashMap<ChannelId, Heard>,
    due: VecDeque<ChannelId>,
    spares: Spares,
}

/// One channel as seen from a shard that hears it.
#[derive(Debug, Default)]
struct Heard {
    audience: Audience,
    /// Sessions that wait for the owner's word or are being told the past.
    waiting: u32,
    /// The owner has confirmed: nothing is missed from here on.
    registered: bool,
    head: Head,
}

/// What follows when somebody left a channel.
#[derive(Debug)]
pub(crate) struct Left {
    /// Who has got another place.
    pub(crate) moves: SmallVec<[Move; 2]>,
    /// The channel is not heard any longer.
    pub(crate) unheard: bool,
    /// Bytes of published frames that nobody is due any more.
    pub(crate) released_bytes: usize,
}

impl Subscribers {
    /// A session asks the owner for this channel.
    pub(crate) fn expect(&mut self, channel: ChannelId) {
        self.channels.entry(channel).or_default().waiting += 1;
    }

    /// The owner's word: everything after `seq` will be heard.
    pub(crate) fn registered(&mut self, channel: ChannelId, seq: Seq, rev: Rev) {
        let heard = self.heard(channel);
        assert!(
            !heard.registered || heard.head.0 == seq,
            "nothing was missed while registered"
        );
        heard.registered = true;
        heard.head = (seq, rev);
    }

    /// The newest message and record that arrived here.
    pub(crate) fn head(&mut self, channel: ChannelId) -> Head {
        self.heard(channel).head
    }

    /// The newest message and record that the live one at `place` has been told.
    pub(crate) fn told(&mut self, channel: ChannelId, place: u32) -> Head {
        let heard = self.heard(channel);
        heard.audience.told(place).unwrap_or(heard.head)
    }

    /// One that waited goes live; returns its place.
    pub(crate) fn join(&mut self, channel: ChannelId, conn: ConnId) -> u32 {
        let heard = self.heard(channel);
        assert!(
            heard.registered && heard.waiting > 0,
            "only who waited goes live"
        );
        heard.waiting -= 1;
        heard.audience.join(conn, heard.head)
    }

    /// One that waited does so no more. Returns true when the channel is not heard any longer.
    pub(crate) fn abandon(&mut self, channel: ChannelId) -> bool {
        let heard = self.heard(channel);
        assert!(heard.waiting > 0, "only who waits can stop");
        heard.waiting -= 1;
        self.drop_if_unheard(channel)
    }

    /// The live one at `place` leaves.
    pub(crate) fn leave(&mut self, channel: ChannelId, place: u32) -> Left {
        let heard = self.channels.get_mut(&channel).expect("it is heard");
        let moves = heard.audience.leave(place);
        let mut released_bytes = 0;
        if heard.audience.is_empty() && heard.audience.is_due() {
            released_bytes = heard.audience.give_up(&mut self.spares);
            self.due.retain(|due| *due != channel);
        }
        Left {
            moves,
            unheard: self.drop_if_unheard(channel),
            released_bytes,
        }
    }

    /// A stored message arrived: it is due to who hears it. Says whether that is anybody.
    pub(crate) fn published(
        &mut self,
        channel: ChannelId,
        seq: Seq,
        rev: Rev,
        frame: Bytes,
    ) -> bool {
        let heard = self.channels.get_mut(&channel);
        let Some(heard) = heard.filter(|heard| heard.registered) else {
            return false;
        };
        assert!(
            seq.0 == heard.head.0.0 + 1,
            "live messages arrive without a gap"
        );
        let before = std::mem::replace(&mut heard.head, (seq, rev));
        self.push(channel, frame, before)
    }

    /// Something that is not stored arrived; it is dropped where it would be late for many. Says
    /// whether it is due to anybody.
    pub(crate) fn published_typing(&mut self, channel: ChannelId, frame: Bytes) -> bool {
        match self.channels.get(&channel) {
            Some(heard) if !heard.audience.is_walking() => {
                let head = heard.head;
                self.push(channel, frame, head)
            }
            _ => false,
        }
    }

    fn push(&mut self, channel: ChannelId, frame: Bytes, before: Head) -> bool {
        let heard = self.channels.get_mut(&channel).expect("it is heard");
        let after = heard.head;
        let kept = heard.audience.push(frame, before, after, &mut self.spares);
        if kept == Kept::First {
            self.due.push_back(channel);
        }
        kept != Kept::No
    }

    /// Whether some channel is due something.
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// Tells about `slice` listeners of the channel whose turn it is what they are due; notes who
    /// has got another place by that.
    pub(crate) fn walk(
        &mut self,
        slice: usize,
        moves: &mut Vec<Move>,
        out: &mut Outbox,
    ) -> Option<(ChannelId, Told)> {
        let channel = self.due.pop_front()?;
        let heard = self.channels.get_mut(&channel).expect("it is heard");
        let told = heard.audience.walk(slice, moves, &mut self.spares, out);
        if heard.audience.is_due() {
            self.due.push_back(channel);
        }
        Some((channel, told))
    }

    fn heard(&mut self, channel: ChannelId) -> &mut Heard {
        self.channels
            .get_mut(&channel)
            .expect("the channel is heard")
    }

    fn drop_if_unheard(&mut self, channel: ChannelId) -> bool {
        let heard = self.heard(channel);
        let unheard = heard.audience.is_empty() && heard.waiting == 0;
        if unheard {
            self.channels.remove(&channel);
        }
        unheard
    }
}
