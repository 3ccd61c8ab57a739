//! Who watches what, and which messages reached whom: the oracle of a swarm.
//!
//! A few numbers for each subscription instead of a set of messages: the newest `seq`, and the
//! missing ones only where some are missing. It judges nothing before the end.
//!
//! Invariants: every delivery is counted once, as new, repeated or late; what is lost is what is
//! missing at the end, so nothing is lost that came late.

use std::collections::HashMap;

use super::links::Link;

/// A longer gap is not kept message by message.
const GAP_MAX: u32 = 1 << 16;

/// What a delivery was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// The next one.
    New,
    /// One that was missing, after a later one.
    Late,
    /// One that this client had.
    Again,
    /// Of a channel that this client does not watch.
    Unasked,
}

/// What was delivered to whom.
#[derive(Debug)]
pub struct Ledger {
    width: usize,
    /// `width` for each client; 0 where there is none.
    channels: Vec<u128>,
    newest: Vec<u32>,
    missing: HashMap<usize, Vec<u32>>,
    /// How many clients watch each channel.
    watchers: HashMap<u128, u32>,
    /// Messages of gaps too large to be kept: lost, whatever comes.
    gone: u64,
    counts: Counts,
}

/// How deliveries went.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Those of channels that the client watches.
    pub deliveries: u64,
    /// Delivered again.
    pub duplicated: u64,
    /// Delivered after a later one.
    pub out_of_order: u64,
    /// Of channels that the client does not watch.
    pub unasked: u64,
}

impl Ledger {
    /// Nobody watches anything. Each client may watch `width` channels.
    #[must_use]
    pub fn new(clients: usize, width: usize) -> Self {
        Self {
            width,
            channels: vec![0; clients * width],
            newest: vec![0; clients * width],
            missing: HashMap::new(),
            watchers: HashMap::new(),
            gone: 0,
            counts: Counts::default(),
        }
    }

    /// A client is to watch this channel; false when it watches as many as it may, and for 0, which
    /// names no channel.
    pub fn watch(&mut self, link: Link, channel: u128) -> bool {
        if channel == 0 {
            return false;
        }
        let row = self.row(link);
        let Some(place) = row
            .clone()
            .find(|&place| self.channels[place] == 0 || self.channels[place] == channel)
        else {
            return false;
        };
        if self.channels[place] == 0 {
            self.channels[place] = channel;
            *self.watchers.entry(channel).or_default() += 1;
        }
        true
    }

    /// A client is subscribed. What comes after `head` is due to it, and with `resumed` also what
    /// came since its newest.
    pub fn subscribed(&mut self, link: Link, channel: u128, head: u64, resumed: bool) {
        if let Some(place) = self.place(link, channel)
            && !resumed
        {
            self.newest[place] = narrow(head);
        }
    }

    /// A message arrived.
    pub fn delivered(&mut self, link: Link, channel: u128, seq: u64) -> Arrival {
        let Some(place) = self.place(link, channel) else {
            self.counts.unasked += 1;
            return Arrival::Unasked;
        };
        self.counts.deliveries += 1;
        let seq = narrow(seq);
        let newest = self.newest[place];
        if newest.checked_add(1) == Some(seq) {
            self.newest[place] = seq;
            return Arrival::New;
        }
        if seq > newest {
            if seq - newest > GAP_MAX {
                self.gone += u64::from(seq - newest - 1);
            } else {
                let missing = self.missing.entry(place).or_default();
                missing.extend(newest + 1..seq);
            }
            self.newest[place] = seq;
            return Arrival::New;
        }
        let missing = self.missing.entry(place).or_default();
        if let Some(at) = missing.iter().position(|&missed| missed == seq) {
            missing.swap_remove(at);
            self.counts.out_of_order += 1;
            return Arrival::Late;
        }
        self.counts.duplicated += 1;
        Arrival::Again
    }

    /// How many clients watch a channel, whether or not they are there.
    #[must_use]
    pub fn watchers(&self, channel: u128) -> u32 {
        self.watchers.get(&channel).copied().unwrap_or(0)
    }

    /// The channels that a client watches, with its newest message in each.
    pub fn watched(&self, link: Link) -> impl Iterator<Item = (u128, u32)> + '_ {
        self.row(link)
            .map(|place| (self.channels[place], self.newest[place]))
            .take_while(|&(channel, _)| channel != 0)
    }

    /// How deliveries went so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Deliveries that are missing, given the head of each channel.
    #[must_use]
    pub fn lost(&self, head: impl Fn(u128) -> u64) -> u64 {
        let gaps: usize = self.missing.values().map(Vec::len).sum();
        let behind = |place: usize| {
            let head = head(self.channels[place]);
            head.saturating_sub(u64::from(self.newest[place]))
        };
        let watched = (0..self.channels.len()).filter(|&place| self.channels[place] != 0);
        self.gone + gaps as u64 + watched.map(behind).sum::<u64>()
    }

    fn row(&self, link: Link) -> std::ops::Range<usize> {
        let start = link.place() * self.width;
        start..start + self.width
    }

    fn place(&self, link: Link, channel: u128) -> Option<usize> {
        self.row(link)
            .find(|&place| channel != 0 && self.channels[place] == channel)
    }
}

/// A run has fewer than 2^32 messages in a channel; whatever says otherwise is wrong and stays so.
fn narrow(seq: u64) -> u32 {
    u32::try_from(seq).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u128 = 10;
    const B: u128 = 11;

    #[test]
    fn lost_repeated_and_late() {
        let mut ledger = Ledger::new(2, 2);
        let (one, two) = (Link(0), Link(1));
        for link in [one, two] {
            assert!(ledger.watch(link, A) && ledger.watch(link, B) && ledger.watch(link, A));
            assert!(!ledger.watch(link, 12));
            ledger.subscribed(link, A, 5, false);
        }
        for (seq, expected) in [
            (6, Arrival::New),
            (6, Arrival::Again),
            (9, Arrival::New),
            (8, Arrival::Late),
            (8, Arrival::Again),
            (10, Arrival::New),
        ] {
            assert_eq!(ledger.delivered(one, A, seq), expected, "{seq}");
        }
        for nobodys in [12, 0] {
            assert_eq!(ledger.delivered(two, nobodys, 1), Arrival::Unasked);
            assert_eq!(ledger.watchers(nobodys), 0);
        }
        assert_eq!(ledger.watchers(A), 2);
        // One misses 7; the other everything after 5.
        assert_eq!(
            ledger.lost(|channel| if channel == A { 10 } else { 0 }),
            1 + 5
        );
        assert_eq!(ledger.lost(|_| 0), 1);
        let counts = ledger.counts();
        assert_eq!((counts.deliveries, counts.duplicated), (6, 2));
        assert_eq!((counts.out_of_order, counts.unasked), (1, 2));
        assert_eq!(ledger.watched(one).collect::<Vec<_>>(), [(A, 10), (B, 0)]);
    }

    #[test]
    fn a_number_that_cannot_be_is_no_panic() {
        let mut ledger = Ledger::new(1, 2);
        assert!(ledger.watch(Link(0), A) && !ledger.watch(Link(0), 0));
        for expected in [Arrival::New, Arrival::Again] {
            assert_eq!(ledger.delivered(Link(0), A, u64::MAX), expected);
        }
    }

    #[test]
    fn who_resumes_is_due_what_was_missed() {
        let mut ledger = Ledger::new(1, 1);
        ledger.watch(Link(0), A);
        ledger.subscribed(Link(0), A, 3, false);
        ledger.subscribed(Link(0), A, 5, true);
        assert_eq!(ledger.lost(|_| 5), 2);
        assert_eq!(ledger.delivered(Link(0), A, 4), Arrival::New);
        assert_eq!(ledger.delivered(Link(0), A, 5), Arrival::New);
        assert_eq!(ledger.lost(|_| 5), 0);
    }
}
