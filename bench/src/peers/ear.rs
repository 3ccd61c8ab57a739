//! What all subscribers heard: how much of what was due, in which order, and how late.
//!
//! It reads no clock and knows no connection's state.
//!
//! Invariants: a delivery counts once for each subscriber and number; its latency counts from when
//! the message was due; what is left of earlier messages counts for nobody.

use hdrhistogram::Histogram;

use super::numbers::{Heard, Letters, Numbers};
use crate::swarm::links::Link;
use crate::swarm::talk::latencies;
use crate::tally::record;

/// What all subscribers heard since the counts began.
pub(super) struct Ear {
    pub(super) letters: Letters,
    pub(super) numbers: Vec<Numbers>,
    pub(super) sent: u64,
    /// Number and due time of the first message that counts, and the time between two.
    pub(super) first: u64,
    pub(super) first_due_ns: u64,
    pub(super) interval_ns: f64,
    pub(super) deliveries: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    pub(super) wrong: u64,
    pub(super) last_ns: u64,
    pub(super) latency_us: Histogram<u64>,
}

impl Ear {
    pub(super) fn new(letters: Letters, subscribers: u32) -> Self {
        Self {
            letters,
            numbers: vec![Numbers::default(); subscribers as usize],
            sent: 0,
            first: 0,
            first_due_ns: 0,
            interval_ns: 0.0,
            deliveries: 0,
            duplicated: 0,
            out_of_order: 0,
            wrong: 0,
            last_ns: 0,
            latency_us: latencies(),
        }
    }

    pub(super) fn begin(&mut self, first: u64, now_ns: u64, interval_ns: f64) {
        (self.first, self.first_due_ns) = (first, now_ns);
        (self.interval_ns, self.last_ns) = (interval_ns, now_ns);
        (self.deliveries, self.duplicated) = (0, 0);
        (self.out_of_order, self.wrong) = (0, 0);
        self.latency_us.reset();
    }

    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "messages of one loop times their interval: minutes in nanoseconds"
    )]
    pub(super) fn due_ns(&self, number: u64) -> u64 {
        let behind = number.saturating_sub(self.first) as f64;
        self.first_due_ns + (behind * self.interval_ns) as u64
    }

    pub(super) fn hear(&mut self, link: Link, payload: &[u8], now_ns: u64) {
        let number = self.letters.read(payload);
        let Some(number) = number.filter(|&number| number < self.sent) else {
            self.wrong += 1;
            return;
        };
        match self.numbers[link.place()].hear(number) {
            Heard::Again => return self.duplicated += 1,
            Heard::Late => self.out_of_order += 1,
            Heard::InOrder => {}
        }
        if number >= self.first {
            self.deliveries += 1;
            self.last_ns = now_ns;
            let late_ns = now_ns.saturating_sub(self.due_ns(number));
            record(&mut self.latency_us, late_ns);
        }
    }
}
