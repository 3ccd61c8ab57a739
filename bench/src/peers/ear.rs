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
    /// How messages read.
    pub(super) letters: Letters,
    /// What each subscriber has heard.
    pub(super) numbers: Vec<Numbers>,
    /// Messages that were ever sent: numbers from here on are nobody's.
    pub(super) sent: u64,
    /// The first message that counts, by number.
    pub(super) first: u64,
    /// When that was due, nanoseconds.
    pub(super) first_due_ns: u64,
    /// Between two messages that are due, nanoseconds.
    interval_ns: f64,
    /// New to their subscribers, of the messages that count.
    pub(super) deliveries: u64,
    /// Heard before.
    pub(super) duplicated: u64,
    /// New, but a later one came first.
    pub(super) out_of_order: u64,
    /// No message that was sent.
    pub(super) wrong: u64,
    /// When the last delivery came, nanoseconds.
    pub(super) last_ns: u64,
    /// Due time to delivery.
    pub(super) latency_us: Histogram<u64>,
}

impl Ear {
    /// Of so many subscribers, none of whom has heard anything.
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

    /// Counts anew, from this message on.
    pub(super) fn begin(&mut self, first: u64, now_ns: u64, interval_ns: f64) {
        (self.first, self.first_due_ns) = (first, now_ns);
        (self.interval_ns, self.last_ns) = (interval_ns, now_ns);
        (self.deliveries, self.duplicated) = (0, 0);
        (self.out_of_order, self.wrong) = (0, 0);
        self.latency_us.reset();
    }

    /// When a message is due, nanoseconds.
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

    /// A delivery came.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_count_from_when_they_were_due() {
        const MS: u64 = 1_000_000;
        let mut ear = Ear::new(Letters::new(64), 2);
        ear.sent = 5;
        ear.begin(2, 100 * MS, 10.0 * 1e6);
        let letter = |number| Letters::new(64).write(number);
        for (link, number, now_ms) in [
            (0, 2, 103),
            (0, 4, 125),
            (0, 3, 126),
            (0, 3, 127),
            (1, 1, 99),
        ] {
            ear.hear(Link(link), &letter(number), now_ms * MS);
        }
        // Of the future, and of nobody.
        ear.hear(Link(1), &letter(5), 130 * MS);
        ear.hear(Link(1), b"something else", 130 * MS);
        assert_eq!(
            (ear.deliveries, ear.duplicated, ear.out_of_order, ear.wrong),
            (3, 1, 1, 2)
        );
        assert_eq!(ear.last_ns, 126 * MS);
        let (least, most) = (ear.latency_us.min(), ear.latency_us.max());
        assert!((2_990..3_010).contains(&least), "{least}");
        assert!((15_980..16_020).contains(&most), "{most}");
        ear.begin(5, 200 * MS, 0.0);
        assert_eq!((ear.deliveries, ear.wrong, ear.latency_us.len()), (0, 0, 0));
    }
}
