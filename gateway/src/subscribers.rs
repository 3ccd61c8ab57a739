//! Which of this shard's sessions hear a channel.
//!
//! The list of a channel is shared with the broadcasts that are still on their way out and is
//! copied only when it changes meanwhile, so a broadcast is one output whatever the number of
//! subscribers.
//!
//! Invariants: a channel is here exactly while somebody hears it, is being told its past, or
//! waits for its owner's word; from the owner's word on, live messages arrive without a gap.

use std::collections::HashMap;
use std::rc::Rc;

use throng_protocol::{ChannelId, Rev, Seq};

use crate::io::ConnId;

/// The channels that sessions of this shard hear.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    channels: HashMap<ChannelId, Heard>,
}

/// One channel as seen from a shard that hears it.
#[derive(Debug, Default)]
struct Heard {
    live: Rc<Vec<ConnId>>,
    /// Sessions that wait for the owner's word or are being told the past.
    waiting: u32,
    /// The owner has confirmed: nothing is missed from here on.
    registered: bool,
    seq: Seq,
    rev: Rev,
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
            !heard.registered || heard.seq == seq,
            "nothing was missed while registered"
        );
        heard.registered = true;
        heard.seq = seq;
        heard.rev = rev;
    }

    /// The newest message and record heard.
    pub(crate) fn head(&mut self, channel: ChannelId) -> (Seq, Rev) {
        let heard = self.heard(channel);
        (heard.seq, heard.rev)
    }

    /// One that waited goes live; returns its place in the list.
    pub(crate) fn join(&mut self, channel: ChannelId, conn: ConnId) -> u32 {
        let heard = self.heard(channel);
        assert!(
            heard.registered && heard.waiting > 0,
            "only who waited goes live"
        );
        heard.waiting -= 1;
        let live = Rc::make_mut(&mut heard.live);
        live.push(conn);
        u32::try_from(live.len() - 1).unwrap_or(u32::MAX)
    }

    /// One that waited does so no more. Returns true when the channel is not heard any longer.
    pub(crate) fn abandon(&mut self, channel: ChannelId) -> bool {
        let heard = self.heard(channel);
        assert!(heard.waiting > 0, "only who waits can stop");
        heard.waiting -= 1;
        self.drop_if_unheard(channel)
    }

    /// The live one at `place` leaves. Returns who has taken its place, and whether the channel is
    /// not heard any longer.
    pub(crate) fn leave(&mut self, channel: ChannelId, place: u32) -> (Option<ConnId>, bool) {
        let heard = self.heard(channel);
        let live = Rc::make_mut(&mut heard.live);
        live.swap_remove(place as usize);
        let moved = live.get(place as usize).copied();
        (moved, self.drop_if_unheard(channel))
    }

    /// A stored message arrived; returns who hears it.
    pub(crate) fn published(
        &mut self,
        channel: ChannelId,
        seq: Seq,
        rev: Rev,
    ) -> Option<Rc<Vec<ConnId>>> {
        let heard = self.channels.get_mut(&channel)?;
        if !heard.registered {
            return None;
        }
        assert!(
            seq.0 == heard.seq.0 + 1,
            "live messages arrive without a gap"
        );
        heard.seq = seq;
        heard.rev = rev;
        Some(Rc::clone(&heard.live)).filter(|live| !live.is_empty())
    }

    /// Who hears something that is not stored.
    pub(crate) fn live(&self, channel: ChannelId) -> Option<Rc<Vec<ConnId>>> {
        let heard = self.channels.get(&channel)?;
        Some(Rc::clone(&heard.live)).filter(|live| !live.is_empty())
    }

    fn heard(&mut self, channel: ChannelId) -> &mut Heard {
        self.channels
            .get_mut(&channel)
            .expect("the channel is heard")
    }

    fn drop_if_unheard(&mut self, channel: ChannelId) -> bool {
        let heard = self.heard(channel);
        let unheard = heard.live.is_empty() && heard.waiting == 0;
        if unheard {
            self.channels.remove(&channel);
        }
        unheard
    }
}
