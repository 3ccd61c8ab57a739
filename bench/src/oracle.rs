//! The checker: from what all clients saw, which of the server's promises were broken.
//!
//! It knows no socket and no clock, and never repairs what it sees: a stream that is wrong stays
//! wrong in the verdict.
//!
//! Invariants: the verdict does not depend on how clients were spread over threads (`merge`);
//! what is expected is what anybody acknowledged or delivered, whether or not it was this client
//! that heard of it.

use std::collections::BTreeMap;
use std::collections::HashMap;

use throng_protocol::{MessageId, Seq};

use crate::index::{ChannelIndex, ClientIndex, MessageIndex};
use crate::watch::{Arrival, Span};

/// A subscription of one client to one channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct WatchId(usize);

/// Which messages were seen by whom.
#[derive(Debug)]
pub struct Oracle {
    timelines: Vec<Timeline>,
    watches: Vec<Watch>,
    /// Where each planned message was stored; 0 while that is not known.
    stored_at: Vec<u64>,
    acked: Vec<bool>,
    faults: Faults,
}

/// What is known of one channel, by sequence number.
#[derive(Debug, Default)]
struct Timeline {
    entries: HashMap<u64, Entry>,
}

/// A message of the channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its id, as first heard.
    pub message: MessageId,
    /// Which planned message it is, once a nonce has told.
    pub index: Option<MessageIndex>,
}

#[derive(Debug)]
struct Watch {
    channel: ChannelIndex,
    spans: Vec<Span>,
}

/// What was seen to be wrong while it happened.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Faults {
    repeated: u64,
    stored_twice: u64,
    late: u64,
    disagreements: u64,
    wrong_content: u64,
    unasked: u64,
    forgotten: u64,
}

/// The outcome. All counts but the first four are 0 when every promise was kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Messages that the server acknowledged.
    pub acked: u64,
    /// Different (message, subscriber) pairs that arrived.
    pub delivered: u64,
    /// Pairs that were due: each known message to each subscriber of its channel.
    pub expected: u64,
    /// Messages known in all channels.
    pub stored: u64,
    /// Due, and not delivered.
    pub lost: u64,
    /// Delivered again to the same subscriber, or stored twice under one nonce.
    pub duplicated: u64,
    /// Delivered late, ids not ascending with `seq`, or one sender's messages swapped.
    pub out_of_order: u64,
    /// Two accounts of the same (channel, seq) that name different messages.
    pub disagreements: u64,
    /// Sequence numbers that nobody saw, between ones that were seen.
    pub gaps: u64,
    /// The content was not what was sent under that nonce.
    pub wrong_content: u64,
    /// Events for channels that the client does not watch, or answers to nothing.
    pub unasked: u64,
    /// Acknowledged or delivered, and beyond the channel's head when the client came back.
    pub forgotten: u64,
}

impl Verdict {
    /// Whether every promise was kept.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.disagreements == 0
            && self.gaps == 0
            && self.wrong_content == 0
            && self.unasked == 0
            && self.forgotten == 0
    }
}

impl Oracle {
    /// Nothing seen yet.
    #[must_use]
    pub fn new(channels: usize, messages: usize) -> Self {
        Self {
            timelines: (0..channels).map(|_| Timeline::default()).collect(),
            watches: Vec::new(),
            stored_at: vec![0; messages],
            acked: vec![false; messages],
            faults: Faults::default(),
        }
    }

    /// A client subscribed; what comes after `head` is due to it.
    pub fn watch(&mut self, channel: ChannelIndex, head: Seq) -> WatchId {
        self.watches.push(Watch {
            channel,
            spans: vec![Span::after(head)],
        });
        WatchId(self.watches.len() - 1)
    }

    /// The server said that too much was missed: the subscription goes on after `head`.
    pub fn resynced(&mut self, watch: WatchId, head: Seq) {
        let watch = &mut self.watches[watch.0];
        current_mut(watch).close();
        watch.spans.push(Span::after(head));
    }

    /// A message arrived at a subscriber.
    pub fn delivered(
        &mut self,
        watch: WatchId,
        seq: Seq,
        message: MessageId,
        index: Option<MessageIndex>,
    ) {
        let watch = &mut self.watches[watch.0];
        let channel = watch.channel;
        match current_mut(watch).take(seq) {
            Arrival::New => {}
            Arrival::Late => self.faults.late += 1,
            Arrival::Again => self.faults.repeated += 1,
        }
        self.note(channel, seq, message, index);
    }

    /// The sender got its acknowledgement.
    pub fn acked(
        &mut self,
        channel: ChannelIndex,
        seq: Seq,
        message: MessageId,
        index: MessageIndex,
    ) {
        self.acked[index.place()] = true;
        self.note(channel, seq, message, Some(index));
    }

    /// A message arrived with other text than was sent.
    pub const fn wrong_content(&mut self) {
        self.faults.wrong_content += 1;
    }

    /// Something arrived that this client did not ask for.
    pub const fn unasked(&mut self) {
        self.faults.unasked += 1;
    }

    /// The server no longer has so many messages that it had acknowledged or delivered.
    pub const fn forgotten(&mut self, messages: u64) {
        self.faults.forgotten += messages;
    }

    /// The resume cursor: the newest number that the subscriber has.
    #[must_use]
    pub fn newest(&self, watch: WatchId) -> Seq {
        current(&self.watches[watch.0]).newest()
    }

    /// Whether the subscriber has everything up to `head`.
    #[must_use]
    pub fn has_all_to(&self, watch: WatchId, head: Seq) -> bool {
        current(&self.watches[watch.0]).has_all_to(head)
    }

    /// Where a planned message was stored, as far as is known.
    #[must_use]
    pub fn stored_at(&self, index: MessageIndex) -> Option<Seq> {
        let seq = self.stored_at[index.place()];
        (seq != 0).then_some(Seq(seq))
    }

    /// What is known of a channel, in ascending order of `seq`.
    #[must_use]
    pub fn timeline(&self, channel: ChannelIndex) -> BTreeMap<Seq, Entry> {
        let entries = &self.timelines[channel.place()].entries;
        entries
            .iter()
            .map(|(&seq, &entry)| (Seq(seq), entry))
            .collect()
    }

    /// Adds what another thread's clients saw.
    pub fn merge(&mut self, other: Self) {
        self.watches.extend(other.watches);
        for (mine, theirs) in self.acked.iter_mut().zip(other.acked) {
            *mine |= theirs;
        }
        for (channel, timeline) in other.timelines.into_iter().enumerate() {
            for (seq, entry) in timeline.entries {
                self.note(
                    ChannelIndex::at(channel),
                    Seq(seq),
                    entry.message,
                    entry.index,
                );
            }
        }
        self.faults.repeated += other.faults.repeated;
        self.faults.stored_twice += other.faults.stored_twice;
        self.faults.late += other.faults.late;
        self.faults.disagreements += other.faults.disagreements;
        self.faults.wrong_content += other.faults.wrong_content;
        self.faults.unasked += other.faults.unasked;
        self.faults.forgotten += other.faults.forgotten;
    }

    /// The outcome. `sender` names who sent a message, for those whose order is promised (a
    /// message that was sent again after a disconnect has none).
    #[must_use]
    pub fn verdict(&self, sender: impl Fn(MessageIndex) -> Option<ClientIndex>) -> Verdict {
        let known: Vec<Vec<u64>> = self.timelines.iter().map(Timeline::ascending).collect();
        let mut verdict = Verdict {
            acked: count(self.acked.iter().filter(|&&acked| acked).count()),
            stored: count(known.iter().map(Vec::len).sum()),
            duplicated: self.faults.repeated + self.faults.stored_twice,
            out_of_order: self.faults.late,
            disagreements: self.faults.disagreements,
            wrong_content: self.faults.wrong_content,
            unasked: self.faults.unasked,
            forgotten: self.faults.forgotten,
            ..Verdict::default()
        };
        for watch in &self.watches {
            for span in &watch.spans {
                verdict.expected += span.due(&known[watch.channel.place()]);
                verdict.delivered += span.received();
            }
        }
        for (timeline, known) in self.timelines.iter().zip(&known) {
            verdict.gaps += known
                .windows(2)
                .map(|pair| pair[1] - pair[0] - 1)
                .sum::<u64>();
            verdict.out_of_order += timeline.descents(known, &sender);
        }
        verdict.lost = verdict
            .expected
            .checked_sub(verdict.delivered)
            .expect("a delivery makes its message known, so it is expected");
        verdict
    }

    fn note(
        &mut self,
        channel: ChannelIndex,
        seq: Seq,
        message: MessageId,
        index: Option<MessageIndex>,
    ) {
        let entries = &mut self.timelines[channel.place()].entries;
        let known = entries.entry(seq.0).or_insert(Entry {
            message,
            index: None,
        });
        if known.message != message {
            self.faults.disagreements += 1;
            return;
        }
        let Some(index) = index else { return };
        if known.index.is_some_and(|known| known != index) {
            self.faults.disagreements += 1;
            return;
        }
        if known.index.is_none() {
            known.index = Some(index);
            let stored_at = &mut self.stored_at[index.place()];
            if *stored_at != 0 && *stored_at != seq.0 {
                self.faults.stored_twice += 1;
            }
            *stored_at = seq.0;
        }
    }
}

impl Timeline {
    fn ascending(&self) -> Vec<u64> {
        let mut known: Vec<u64> = self.entries.keys().copied().collect();
        known.sort_unstable();
        known
    }

    /// Neighbours by `seq` whose ids do not ascend, or that one sender sent the other way round.
    fn descents(
        &self,
        ascending: &[u64],
        sender: &impl Fn(MessageIndex) -> Option<ClientIndex>,
    ) -> u64 {
        let mut descents = 0;
        let mut newest: Option<MessageId> = None;
        let mut by_sender: HashMap<ClientIndex, MessageIndex> = HashMap::new();
        for seq in ascending {
            let entry = self.entries[seq];
            if newest.is_some_and(|newest| entry.message <= newest) {
                descents += 1;
            }
            newest = Some(entry.message);
            let Some((index, client)) = entry.index.and_then(|index| Some((index, sender(index)?)))
            else {
                continue;
            };
            if by_sender
                .insert(client, index)
                .is_some_and(|earlier| earlier > index)
            {
                descents += 1;
            }
        }
        descents
    }
}

fn current(watch: &Watch) -> &Span {
    watch.spans.last().expect("a watch begins with a span")
}

fn current_mut(watch: &mut Watch) -> &mut Span {
    watch.spans.last_mut().expect("a watch begins with a span")
}

fn count(items: usize) -> u64 {
    u64::try_from(items).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
