//! What was said in a run, and how long it took to be heard.
//!
//! It sends nothing and knows no connection. A message is named by its nonce: the run's tag and a
//! number, so that what other runs left in a channel is told apart.
//!
//! Invariants: a latency counts from when a message was due, not from when there was time for it;
//! a channel's head is the newest message that was acknowledged there.

use std::collections::{BTreeMap, HashMap};

use hdrhistogram::Histogram;
use throng_protocol::Nonce;

use crate::index::MessageIndex;
use crate::plan::Nonces;
use crate::tally::record;

/// The longest latency that is told apart, microseconds: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
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

impl Said {
    /// Hears where it stands; false when it stands elsewhere already.
    fn stands(&mut self, seq: u64) -> bool {
        let seq = u32::try_from(seq).unwrap_or(u32::MAX);
        if self.seq == 0 {
            self.seq = seq;
        }
        self.seq == seq
    }
}

/// The messages of a run.
#[derive(Debug)]
pub struct Talk {
    nonces: Nonces,
    tag: [u8; TAG_CHARS],
    said: Vec<Said>,
    heads: HashMap<u128, u64>,
    acked: u64,
    abandoned: u64,
    doubled: u64,
    refused: BTreeMap<&'static str, u64>,
    ack_us: Histogram<u64>,
    delivery_us: Histogram<u64>,
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
            heads: HashMap::new(),
            acked: 0,
            abandoned: 0,
            doubled: 0,
            refused: BTreeMap::new(),
            ack_us: latencies(),
            delivery_us: latencies(),
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

    /// MESSAGE_ACK. Acknowledgements of other runs' messages, and second ones, change nothing.
    pub fn acked(&mut self, nonce: &[u8; 36], seq: u64, now_ns: u64) {
        let Some(said) = self.named(nonce) else {
            return;
        };
        let channel = said.channel;
        let late_ns = now_ns.saturating_sub(said.due_ns);
        let is_same = said.stands(seq);
        let was_answered = std::mem::replace(&mut said.is_answered, true);
        self.doubled += u64::from(!is_same);
        if was_answered {
            return;
        }
        let head = self.heads.entry(channel).or_default();
        *head = seq.max(*head);
        self.acked += 1;
        record(&mut self.ack_us, late_ns);
    }

    /// ERROR for a message.
    pub fn refused(&mut self, nonce: &[u8; 36], code: &'static str) {
        if let Some(said) = self.named(nonce)
            && !std::mem::replace(&mut said.is_answered, true)
        {
            *self.refused.entry(code).or_default() += 1;
        }
    }

    /// A message arrived somewhere.
    pub fn delivered(&mut self, nonce: &[u8; 36], seq: u64, now_ns: u64) {
        if let Some(said) = self.named(nonce) {
            let late_ns = now_ns.saturating_sub(said.due_ns);
            let is_same = said.stands(seq);
            self.doubled += u64::from(!is_same);
            record(&mut self.delivery_us, late_ns);
            self.last_delivery_ns = now_ns;
        }
    }

    /// What has no answer by now gets none: its connection is gone. Says how many.
    pub fn abandon(&mut self) -> u64 {
        let open = self.said.iter_mut().filter(|said| !said.is_answered);
        let abandoned = open.map(|said| said.is_answered = true).count() as u64;
        self.abandoned += abandoned;
        abandoned
    }

    /// Latencies are counted anew from here on.
    pub fn restart_latencies(&mut self) {
        self.ack_us.reset();
        self.delivery_us.reset();
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

    /// When the last message of this run arrived.
    #[must_use]
    pub const fn last_delivery_ns(&self) -> u64 {
        self.last_delivery_ns
    }

    fn named(&mut self, nonce: &[u8; 36]) -> Option<&mut Said> {
        let digits = nonce.strip_prefix(&self.tag)?;
        let mut index = 0_usize;
        for &digit in digits {
            index = index << 4 | char::from(digit).to_digit(16)? as usize;
        }
        self.said.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(nonce: Nonce) -> [u8; 36] {
        nonce.to_string().as_bytes().try_into().unwrap()
    }

    #[test]
    fn a_message_is_known_by_its_nonce() {
        let mut talk = Talk::new(0x1234_5678_9ABC_DEF0);
        let mut other = Talk::new(0x1234_5678_9ABC_DEF1);
        let nonces: Vec<Nonce> = (0..300).map(|n| talk.say(7, n * 1_000)).collect();
        let foreign = text(other.say(7, 0));
        talk.acked(&text(nonces[299]), 40, 500_000);
        assert_eq!(talk.doubled(), 0);
        talk.acked(&text(nonces[299]), 41, 500_000);
        assert_eq!(talk.doubled(), 1);
        talk.acked(&foreign, 99, 0);
        talk.delivered(&text(nonces[0]), 3, 2_000_000);
        talk.delivered(&foreign, 3, 9_000_000);
        talk.refused(&text(nonces[1]), "UNAVAILABLE");
        assert_eq!(
            (talk.sent(), talk.acked_count(), talk.unanswered()),
            (300, 1, 298)
        );
        assert_eq!((talk.abandon(), talk.unanswered()), (298, 0));
        talk.acked(&text(nonces[2]), 50, 0);
        assert_eq!((talk.head(7), talk.head(8)), (40, 0));
        assert_eq!(talk.delivery_us().len(), 1);
        assert_eq!(talk.delivery_us().max(), 2_000);
        assert_eq!(talk.last_delivery_ns(), 2_000_000);
    }
}
