//! Mixed chat: anybody in one of their small channels, texts of all lengths, now and then typing.
//!
//! It waits for nothing: the load is open loop.
//!
//! Invariants: who says what where is drawn from one seed; the channel that all watch is left
//! alone, since one message there would be as many deliveries as there are clients.

use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::seq::IteratorRandom;
use rand::{RngExt, SeedableRng};

use super::letters::{Letters, Text};
use super::pace::Pace;
use crate::swarm::crowd::Crowd;
use crate::swarm::links::Link;
use crate::swarm::people::Phase;
use crate::swarm::talk::latencies;
use crate::tally::record;

/// Draws that look for a live speaker with a small channel.
const DRAWS_MAX: u32 = 64;
/// One message in so many is announced by START_TYPING.
const TYPING_ONE_IN: u32 = 8;

/// Lets clients talk.
pub(super) struct Chatter {
    pace: Pace,
    senders: u32,
    shared: Option<u128>,
    random: StdRng,
    skipped: u64,
    late_us: Histogram<u64>,
}

impl Chatter {
    /// So many messages a second of the first `senders` clients; never in the channel that all
    /// share.
    pub(super) fn new(rate: u32, senders: u32, shared: Option<u128>, seed: u64, ns: u64) -> Self {
        Self {
            pace: Pace::new(rate, ns),
            senders,
            shared,
            random: StdRng::seed_from_u64(seed),
            skipped: 0,
            late_us: latencies(),
        }
    }

    /// Says what is due.
    pub(super) fn turn(&mut self, crowd: &mut Crowd, letters: &mut Letters, now_ns: u64) {
        while let Some(due_ns) = self.pace.take(now_ns) {
            let Some((link, channel)) = self.speaker(crowd) else {
                self.skipped += 1;
                continue;
            };
            if self.random.random_range(0..TYPING_ONE_IN) == 0 {
                crowd.type_in(link, channel);
            }
            let text = Text::of(self.random.random_range(0..Text::COUNT));
            letters.say(crowd, (link, channel), text, due_ns);
            record(&mut self.late_us, now_ns - due_ns);
        }
    }

    /// Messages that nobody was there for.
    pub(super) const fn skipped(&self) -> u64 {
        self.skipped
    }

    /// How late the generator was, microseconds.
    pub(super) const fn late_us(&self) -> &Histogram<u64> {
        &self.late_us
    }

    /// A live client that reads, and one of its small channels.
    pub(super) fn speaker(&mut self, crowd: &Crowd) -> Option<(Link, u128)> {
        let people = &crowd.people;
        let ledger = people.ledger.as_ref()?;
        for _ in 0..DRAWS_MAX {
            let link = Link(self.random.random_range(0..self.senders));
            if people.phase(link) != Phase::Live || people.manners.is_slow(link) {
                continue;
            }
            let channels = ledger.watched(link).map(|(channel, _)| channel);
            let small = channels.filter(|&channel| Some(channel) != self.shared);
            if let Some(channel) = small.choose(&mut self.random) {
                return Some((link, channel));
            }
        }
        None
    }
}
