//! Which of this shard's sessions hear a channel.
//!
//! It keeps an [`Audience`] for each channel and a queue of those that are due something, so that
//! they are told in turns and no large channel keeps a small one waiting. It sends nothing.
//!
//! Invariants: a channel is here exactly while somebody hears it, is being told its past, or
//! waits for its owner's word; from the owner's word on, live messages arrive without a gap; a
//! channel is in the queue exactly while it is due something, and once.

use std::collections::VecDeque;
use std::hash::{BuildHasher, RandomState};
use std::num::NonZeroU32;

use bytes::Bytes;
use hashbrown::HashTable;
use smallvec::SmallVec;
use throng_protocol::{ChannelId, Rev, Seq};

use crate::audience::{Audience, Head, Kept, Move, Spares, Told};
use crate::io::{ConnId, Outbox};
use crate::pages::Slab;
use crate::session::SessionIndex;

/// The channels that sessions of this shard hear.
#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    channels: Slab<Heard>,
    /// The number of each by its id.
    numbers: HashTable<HeardId>,
    hasher: RandomState,
    due: VecDeque<HeardId>,
    spares: Spares,
    /// Bytes of one channel that may gather before its owner is told.
    gathered_bytes_max: usize,
}

/// Numbers a channel in a shard while it is heard there; used again afterwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct HeardId(NonZeroU32);

impl HeardId {
    /// The channel at this place of the slab.
    pub(crate) fn of(place: u32) -> Self {
        Self(NonZeroU32::MIN.saturating_add(place))
    }

    fn place(self) -> u32 {
        self.0.get() - 1
    }
}

/// One channel as seen from a shard that hears it: 64 bytes.
#[derive(Debug)]
struct Heard {
    channel: ChannelId,
    audience: Audience,
    head: PackedHead,
    waiting: Waiting,
}

/// Sessions that wait for the owner's word or are being told the past: one more than there are, so
/// that an empty place of the slab needs no byte to say so.
#[derive(Clone, Copy, Debug)]
struct Waiting(NonZeroU32);

impl Waiting {
    const NOBODY: Self = Self(NonZeroU32::MIN);

    fn is_nobody(self) -> bool {
        self.0 == NonZeroU32::MIN
    }

    fn begin(&mut self) {
        let more = self.0.checked_add(1);
        self.0 = more.expect("a shard has fewer than 2^32 sessions");
    }

    fn end(&mut self) {
        let less = NonZeroU32::new(self.0.get() - 1);
        self.0 = less.expect("only who waits can stop");
    }
}

/// The newest message and record that arrived, in 12 bytes, and whether the owner has confirmed
/// that nothing is missed from there on: nothing is known before.
#[derive(Clone, Copy, Debug)]
struct PackedHead {
    low: [u32; 2],
    high: [u16; 2],
}

impl PackedHead {
    /// The owner's word is still to come.
    const UNKNOWN: Self = Self {
        low: [u32::MAX; 2],
        high: [u16::MAX; 2],
    };

    fn new((seq, rev): Head) -> Self {
        let low = |number: u64| u32::try_from(number & 0xFFFF_FFFF).expect("it was cut off");
        let high = |number: u64| u16::try_from(number >> 32).expect("2^48 are a channel's most");
        Self {
            low: [low(seq.0), low(rev.0)],
            high: [high(seq.0), high(rev.0)],
        }
    }

    fn get(self) -> Option<Head> {
        if self.high == Self::UNKNOWN.high {
            return None;
        }
        let number = |of: usize| u64::from(self.high[of]) << 32 | u64::from(self.low[of]);
        Some((Seq(number(0)), Rev(number(1))))
    }
}

/// Bytes of one channel, its place in the table of ids aside.
#[cfg(test)]
pub(crate) const HEARD_BYTES: usize = size_of::<Option<Heard>>();

impl Heard {
    fn head(&self) -> Head {
        self.head.get().unwrap_or_default()
    }
}

/// What follows when somebody left a channel.
#[derive(Debug)]
pub(crate) struct Left {
    /// Who has got another place.
    pub(crate) moves: SmallVec<[Move; 2]>,
    /// The channel is not heard any longer.
    pub(crate) unheard: bool,
    /// What nobody is due any more.
    pub(crate) given_up: Told,
}

/// To whom a published frame is due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Due {
    /// Nobody hears the channel.
    ToNobody,
    /// It waits for its turn.
    Later,
    /// The same, and by now more waits than the channel's owner should go on to admit. Said once.
    TooMuch,
}

impl Subscribers {
    /// Nobody hears anything yet. What gathers for one channel may be so many bytes before its
    /// owner is told.
    pub(crate) fn new(gathered_bytes_max: usize) -> Self {
        Self {
            gathered_bytes_max,
            ..Self::default()
        }
    }

    /// The number of a channel that is heard here.
    pub(crate) fn number(&self, channel: ChannelId) -> Option<HeardId> {
        let is_it = |heard: &HeardId| self.channels.at(heard.place()).channel == channel;
        let found = self.numbers.find(self.hasher.hash_one(channel), is_it);
        found.copied()
    }

    /// Which channel has this number.
    pub(crate) fn channel(&self, heard: HeardId) -> ChannelId {
        self.channels.at(heard.place()).channel
    }

    /// A session asks the owner for this channel.
    pub(crate) fn expect(&mut self, channel: ChannelId) -> HeardId {
        let heard = self.number(channel).unwrap_or_else(|| self.add(channel));
        self.at_mut(heard).waiting.begin();
        heard
    }

    fn add(&mut self, channel: ChannelId) -> HeardId {
        let Self {
            channels,
            numbers,
            hasher,
            ..
        } = self;
        let heard = HeardId::of(channels.insert(Heard {
            channel,
            audience: Audience::default(),
            head: PackedHead::UNKNOWN,
            waiting: Waiting::NOBODY,
        }));
        let hash = |heard: &HeardId| hasher.hash_one(channels.at(heard.place()).channel);
        numbers.insert_unique(hasher.hash_one(channel), heard, hash);
        heard
    }

    /// The owner's word: everything after `seq` will be heard.
    pub(crate) fn registered(&mut self, heard: HeardId, seq: Seq, rev: Rev) {
        let heard = self.at_mut(heard);
        let known = heard.head.get();
        assert!(
            known.is_none_or(|known| known.0 == seq),
            "nothing was missed while registered"
        );
        heard.head = PackedHead::new((seq, rev));
    }

    /// The newest message and record that arrived here.
    pub(crate) fn head(&self, heard: HeardId) -> Head {
        self.channels.at(heard.place()).head()
    }

    /// The newest message and record that the live one at `place` has been told.
    pub(crate) fn told(&self, heard: HeardId, place: u32) -> Head {
        let heard = self.channels.at(heard.place());
        heard.audience.told(place).unwrap_or(heard.head())
    }

    /// One that waited goes live; returns its place.
    pub(crate) fn join(&mut self, heard: HeardId, session: SessionIndex) -> u32 {
        let heard = self.at_mut(heard);
        let head = heard.head.get().expect("only who waited goes live");
        heard.waiting.end();
        heard.audience.join(session, head)
    }

    /// One that waited does so no more. Returns true when the channel is not heard any longer.
    pub(crate) fn abandon(&mut self, heard: HeardId) -> bool {
        self.at_mut(heard).waiting.end();
        self.drop_if_unheard(heard)
    }

    /// The live one at `place` leaves.
    pub(crate) fn leave(&mut self, heard: HeardId, place: u32) -> Left {
        let audience = &mut self.channels.at_mut(heard.place()).audience;
        let moves = audience.leave(place);
        let mut given_up = Told::default();
        if audience.is_empty() && audience.is_due() {
            given_up = audience.give_up(&mut self.spares);
            self.due.retain(|due| *due != heard);
        }
        Left {
            moves,
            unheard: self.drop_if_unheard(heard),
            given_up,
        }
    }

    /// A stored message arrived: it is due to who hears it.
    pub(crate) fn published(
        &mut self,
        channel: ChannelId,
        seq: Seq,
        rev: Rev,
        frame: Bytes,
    ) -> Due {
        let Some(number) = self.number(channel) else {
            return Due::ToNobody;
        };
        let heard = self.at_mut(number);
        let Some(before) = heard.head.get() else {
            return Due::ToNobody;
        };
        assert!(
            seq.0 == before.0.0 + 1,
            "live messages arrive without a gap"
        );
        heard.head = PackedHead::new((seq, rev));
        self.push(number, frame, before)
    }

    /// Something that is not stored arrived; it is dropped where it would be late for many.
    pub(crate) fn published_typing(&mut self, channel: ChannelId, frame: Bytes) -> Due {
        let Some(number) = self.number(channel) else {
            return Due::ToNobody;
        };
        let heard = self.channels.at(number.place());
        if heard.audience.is_walking() {
            return Due::ToNobody;
        }
        self.push(number, frame, heard.head())
    }

    fn push(&mut self, number: HeardId, frame: Bytes, before: Head) -> Due {
        let heard = self.channels.at_mut(number.place());
        let after = heard.head();
        let kept = heard.audience.push(frame, before, after, &mut self.spares);
        if kept == Kept::First {
            self.due.push_back(number);
        }
        if kept == Kept::No {
            Due::ToNobody
        } else if heard.audience.is_crowded_now(self.gathered_bytes_max) {
            Due::TooMuch
        } else {
            Due::Later
        }
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
        socket_of: &impl Fn(SessionIndex) -> ConnId,
        out: &mut Outbox,
    ) -> Option<(HeardId, Told)> {
        let number = self.due.pop_front()?;
        let audience = &mut self.channels.at_mut(number.place()).audience;
        let told = audience.walk(slice, moves, &mut self.spares, socket_of, out);
        if audience.is_due() {
            self.due.push_back(number);
        }
        Some((number, told))
    }

    fn at_mut(&mut self, heard: HeardId) -> &mut Heard {
        self.channels.at_mut(heard.place())
    }

    fn drop_if_unheard(&mut self, number: HeardId) -> bool {
        let heard = self.at_mut(number);
        let unheard = heard.audience.is_empty() && heard.waiting.is_nobody();
        if unheard {
            let Heard { channel, .. } = self.channels.remove(number.place());
            let hash = self.hasher.hash_one(channel);
            let bucket = self.numbers.find_entry(hash, |found| *found == number);
            bucket.expect("what is heard is found by its id").remove();
            self.give_room_back();
        }
        unheard
    }

    /// A table that once was large does not stay so.
    fn give_room_back(&mut self) {
        let Self {
            channels,
            numbers,
            hasher,
            ..
        } = self;
        if numbers.capacity() > 8 * numbers.len() + 64 {
            let hash = |heard: &HeardId| hasher.hash_one(channels.at(heard.place()).channel);
            numbers.shrink_to(2 * numbers.len(), hash);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heard_channel_is_small() {
        assert_eq!(size_of::<Option<Heard>>(), 64);
    }

    #[test]
    fn heads_come_back_from_12_bytes() {
        assert_eq!(PackedHead::UNKNOWN.get(), None);
        for number in [0, 1, u64::from(u32::MAX), 1 << 32, (1 << 48) - 2] {
            let head = (Seq(number), Rev(number / 2));
            assert_eq!(PackedHead::new(head).get(), Some(head));
        }
    }
}
