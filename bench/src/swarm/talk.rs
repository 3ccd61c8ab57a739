//! What was said in a run, and how long it took to be heard.
//!
//! It sends nothing and knows no connection. A message is named by its nonce: the run's tag and a
//! number, so that what other runs left in a channel is told apart.
//!
//! Invariants: a latency counts from when a message was due, not from when there was time for it;
//! a channel's head is the newest message that was acknowledged there; each message has one place:
//! nonce, channel and `seq` of its answer and of all its deliveries belong together.

use std::collections::{BTreeMap, HashMap};

use hdrhistogram::Histogram;
use throng_protocol::Nonce;

use crate::index::MessageIndex;
use crate::plan::Nonces;
use crate::swarm::course::Course;
use crate::tally::{LATENCY_US_MAX, record};

/// Characters of a nonce that are the same for the whole run.
const TAG_CHARS: usize = 28;

/// An empty histogram of latencies, microseconds.
#[must_use]
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("3 digits over an hour fit")
}

#[derive(Clone, Copy, Debug)]
struct Said {
    channel: u128,
    due_ns: u64,
    /// Where it stands in its channel, once that was heard; 0 before.
    seq: u32,
    is_answered: bool,
}

/// A message that arrived somewhere.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Its nonce, in text.
    pub nonce: &'a [u8; 36],
    /// The channel that it arrived in.
    pub channel: u128,
    /// Its place there.
    pub seq: u64,
}

/// The messages of a run.
#[derive(Debug)]
pub struct Talk {
    nonces: Nonces,
    tag: [u8; TAG_CHARS],
    said: Vec<Said>,
    /// The first message of the speech under way.
    from: usize,
    /// Deliveries that are due to the watchers of its messages.
    due: u64,
    /// Those that came.
    heard: u64,
    heads: HashMap<u128, u64>,
    acked: u64,
    abandoned: u64,
    doubled: u64,
    misplaced: u64,
    refused: BTreeMap<&'static str, u64>,
    ack_us: Histogram<u64>,
    delivery_us: Histogram<u64>,
    /// Of the speech under way, if somebody wants to know.
    course: Option<Course>,
    last_delivery_ns: u64,
}

impl Talk {
    /// Nothing was said; `tag` is the run's own.
    #[must_use]
    pub fn new(tag: u64) -> Self {
        let nonces = Nonces::new(tag);
        let text = nonces.of(MessageIndex(0)).to_string();
        let (tag, _) = text.as_bytes().split_first_chunk().expect("36 characters");
        Self {
            nonces,
            tag: *tag,
            said: Vec::new(),
            from: 0,
            due: 0,
            heard: 0,
            heads: HashMap::new(),
            acked: 0,
            abandoned: 0,
            doubled: 0,
            misplaced: 0,
            refused: BTreeMap::new(),
            ack_us: latencies(),
            delivery_us: latencies(),
            course: None,
            last_delivery_ns: 0,
        }
    }

    /// A message is sent to this channel, due then; says its nonce.
    pub fn say(&mut self, channel: u128, due_ns: u64) -> Nonce {
        let index = MessageIndex::at(self.said.len());
        self.said.push(Said {
            channel,
            due_ns,
            seq: 0,
            is_answered: false,
        });
        self.nonces.of(index)
    }

    /// The nonce of a message that was sent, to send it again.
    ///
    /// # Panics
    /// If there is no such message.
    #[must_use]
    pub fn nonce(&self, index: MessageIndex) -> Nonce {
        assert!(index.place() < self.said.len(), "it was sent");
        self.nonces.of(index)
    }

    /// Whether a message was acknowledged, refused or given up.
    #[must_use]
    pub fn is_answered(&self, index: MessageIndex) -> bool {
        self.said[index.place()].is_answered
    }

    /// MESSAGE_ACK. Acknowledgements of other runs' messages, and second ones, change nothing. Says
    /// the channel to whose watchers the message is due from now on, once.
    pub fn acked(&mut self, nonce: &[u8; 36], seq: u64, now_ns: u64) -> Option<u128> {
        let place = self.place(nonce)?;
        let said = &mut self.said[place];
        let channel = said.channel;
        let late_ns = now_ns.saturating_sub(said.due_ns);
        let was_answered = std::mem::replace(&mut said.is_answered, true);
        let due = self.stands(place, seq);
        if !was_answered {
            let head = self.heads.entry(channel).or_default();
            *head = seq.max(*head);
            self.acked += 1;
            record(&mut self.ack_us, late_ns);
        }
        due
    }

    /// ERROR for a message.
    pub fn refused(&mut self, nonce: &[u8; 36], code: &'static str) {
        if let Some(place) = self.place(nonce)
            && !std::mem::replace(&mut self.said[place].is_answered, true)
        {
            *self.refused.entry(code).or_default() += 1;
        }
    }

    /// A message arrived at somebody who waits for it; at `now_ns`, if its latency counts. Says the
    /// channel to whose watchers it is due from now on, once: it was stored, answered or not.
    pub fn delivered(&mut self, delivery: Delivery<'_>, now_ns: Option<u64>) -> Option<u128> {
        let place = self.place(delivery.nonce)?;
        let said = self.said[place];
        if said.channel != delivery.channel {
            self.misplaced += 1;
            return None;
        }
        // What comes from an earlier speech comes too late to be part of this one.
        if place >= self.from {
            self.heard += 1;
            if let Some(now_ns) = now_ns {
                let late_ns = now_ns.saturating_sub(said.due_ns);
                record(&mut self.delivery_us, late_ns);
                if let Some(course) = &mut self.course {
                    course.record(said.due_ns, late_ns);
                }
                self.last_delivery_ns = now_ns;
            }
        }
        self.stands(place, delivery.seq)
    }

    /// A message is due to so many.
    pub fn fall_due(&mut self, watchers: u32) {
        self.due += u64::from(watchers);
    }

    /// Hears where a message stands; says its channel the first time, if it is of this speech.
    fn stands(&mut self, place: usize, seq: u64) -> Option<u128> {
        let seq = u32::try_from(seq).unwrap_or(u32::MAX);
        let said = &mut self.said[place];
        let is_first = said.seq == 0;
        if is_first {
            said.seq = seq;
        }
        self.doubled += u64::from(said.seq != seq);
        (is_first && place >= self.from).then_some(said.channel)
    }

    /// What has no answer by now gets none: its connection is gone. Says how many.
    pub fn abandon(&mut self) -> u64 {
        let open = self.said.iter_mut().filter(|said| !said.is_answered);
        let abandoned = open.map(|said| said.is_answered = true).count() as u64;
        self.abandoned += abandoned;
        abandoned
    }

    /// A speech begins: latencies, and what is due and heard, are of messages from here on.
    pub fn begin(&mut self, course: Option<Course>) {
        self.course = course;
        self.ack_us.reset();
        self.delivery_us.reset();
        self.from = self.said.len();
        (self.due, self.heard) = (0, 0);
    }

    /// Deliveries that are due to the watchers of this speech's messages.
    #[must_use]
    pub const fn due(&self) -> u64 {
        self.due
    }

    /// Those that came.
    #[must_use]
    pub const fn heard(&self) -> u64 {
        self.heard
    }

    /// The newest message of a channel that was acknowledged in this run, 0 for none.
    #[must_use]
    pub fn head(&self, channel: u128) -> u64 {
        self.heads.get(&channel).copied().unwrap_or(0)
    }

    /// Messages that were sent.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.said.len() as u64
    }

    /// Messages that were acknowledged.
    #[must_use]
    pub const fn acked_count(&self) -> u64 {
        self.acked
    }

    /// Messages that were refused, by code.
    #[must_use]
    pub const fn refusals(&self) -> &BTreeMap<&'static str, u64> {
        &self.refused
    }

    /// Times that a message was told of at a second place of its channel: one nonce, two messages.
    #[must_use]
    pub const fn doubled(&self) -> u64 {
        self.doubled
    }

    /// Deliveries in another channel than the one that the message was sent to.
    #[must_use]
    pub const fn misplaced(&self) -> u64 {
        self.misplaced
    }

    /// Messages without an answer.
    #[must_use]
    pub fn unanswered(&self) -> u64 {
        self.sent() - self.acked - self.abandoned - self.refused.values().sum::<u64>()
    }

    /// Due time to acknowledgement, microseconds.
    #[must_use]
    pub const fn ack_us(&self) -> &Histogram<u64> {
        &self.ack_us
    }

    /// Due time to delivery, microseconds.
    #[must_use]
    pub const fn delivery_us(&self) -> &Histogram<u64> {
        &self.delivery_us
    }

    /// The same in the course of the speech.
    #[must_use]
    pub const fn course(&self) -> Option<&Course> {
        self.course.as_ref()
    }

    /// When the last message of this run arrived.
    #[must_use]
    pub const fn last_delivery_ns(&self) -> u64 {
        self.last_delivery_ns
    }

    fn place(&self, nonce: &[u8; 36]) -> Option<usize> {
        let digits = nonce.strip_prefix(&self.tag)?;
        let mut index = 0_usize;
        for &digit in digits {
            index = index << 4 | char::from(digit).to_digit(16)? as usize;
        }
        (index < self.said.len()).then_some(index)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn text(nonce: Nonce) -> [u8; 36] {
        nonce.to_string().as_bytes().try_into().unwrap()
    }

    fn at(nonce: &[u8; 36], channel: u128, seq: u64) -> Delivery<'_> {
        Delivery {
            nonce,
            channel,
            seq,
        }
    }

    #[test]
    fn a_message_is_known_by_its_nonce() {
        let mut talk = Talk::new(0x1234_5678_9ABC_DEF0);
        let mut other = Talk::new(0x1234_5678_9ABC_DEF1);
        let nonces: Vec<Nonce> = (0..300).map(|n| talk.say(7, n * 1_000)).collect();
        let foreign = text(other.say(7, 0));
        talk.acked(&text(nonces[299]), 40, 500_000);
        talk.acked(&foreign, 99, 0);
        talk.delivered(at(&text(nonces[0]), 7, 3), Some(2_000_000));
        talk.delivered(at(&text(nonces[0]), 7, 3), None);
        talk.delivered(at(&foreign, 7, 3), Some(9_000_000));
        talk.refused(&text(nonces[1]), "UNAVAILABLE");
        assert_eq!(
            (talk.sent(), talk.acked_count(), talk.unanswered()),
            (300, 1, 298)
        );
        assert_eq!((talk.abandon(), talk.unanswered()), (298, 0));
        talk.acked(&text(nonces[2]), 50, 0);
        assert_eq!((talk.head(7), talk.head(8)), (40, 0));
        assert_eq!((talk.delivery_us().len(), talk.heard()), (1, 2));
        assert_eq!(talk.delivery_us().max(), 2_000);
        assert_eq!(talk.last_delivery_ns(), 2_000_000);
        assert_eq!((talk.doubled(), talk.misplaced()), (0, 0));
    }

    #[test]
    fn a_message_has_one_place() {
        let mut talk = Talk::new(1);
        let nonces = [7, 7, 7].map(|channel| text(talk.say(channel, 0)));
        // A second answer, and a delivery, with another seq; a delivery in another channel.
        assert_eq!(talk.acked(&nonces[0], 40, 0), Some(7));
        assert_eq!(talk.delivered(at(&nonces[0], 7, 40), Some(0)), None);
        assert_eq!((talk.doubled(), talk.misplaced()), (0, 0));
        assert_eq!(talk.acked(&nonces[0], 41, 0), None);
        assert_eq!(talk.doubled(), 1);
        assert_eq!(talk.delivered(at(&nonces[1], 7, 41), Some(0)), Some(7));
        assert_eq!(talk.acked(&nonces[1], 42, 0), None);
        assert_eq!((talk.doubled(), talk.misplaced()), (2, 0));
        assert_eq!(talk.delivered(at(&nonces[2], 8, 43), Some(0)), None);
        assert_eq!((talk.doubled(), talk.misplaced()), (2, 1));
        assert_eq!(talk.heard(), 2);
    }

    #[test]
    fn what_comes_from_an_earlier_speech_is_no_part_of_this_one() {
        let mut talk = Talk::new(1);
        let earlier = text(talk.say(7, 0));
        talk.begin(Some(Course::new(0, Duration::from_secs(3))));
        let now = text(talk.say(7, 1_500_000_000));
        assert_eq!(talk.delivered(at(&earlier, 7, 1), Some(9_000)), None);
        assert_eq!((talk.heard(), talk.delivery_us().len()), (0, 0));
        assert_eq!(talk.delivered(at(&now, 7, 2), Some(1_500_009_000)), Some(7));
        talk.fall_due(5);
        assert_eq!((talk.heard(), talk.due()), (1, 5));
        let course = talk.course().unwrap();
        let counts: Vec<u64> = course.parts().iter().map(|part| part.count).collect();
        assert_eq!(counts, [0, 1]);
        assert_eq!(course.parts()[1].max, 9);
        talk.begin(None);
        assert_eq!((talk.heard(), talk.due()), (0, 0));
        assert!(talk.course().is_none());
    }
}
