//! What became of a speech, and whether that is what should have.
//!
//! It sends nothing and waits for nothing: counts before and after are all it sees.
//!
//! Invariants: every count is a difference, so what went wrong in one speech is no fault of the
//! next; whatever was stored is due to all who watched its channel, also to those who were thrown
//! out meanwhile.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::loopback::LoopbackLosses;
use crate::report::Latency;
use crate::swarm::course::Course;
use crate::swarm::ledger::{Counts, Ledger};
use crate::swarm::people::People;

/// Parts of a speech whose latencies are worth a line.
const COURSE_PARTS_MIN: usize = 5;

/// What became of it.
#[derive(Clone, Default, Debug, serde::Serialize)]
pub struct Spoken {
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that were acknowledged.
    pub acked: u64,
    /// Messages that were refused.
    pub refused: u64,
    /// Messages without an answer.
    pub unanswered: u64,
    /// Messages whose speaker was not live when they were due: not sent.
    pub skipped: u64,
    /// Deliveries that were due: all who watch the channel, for each message that was stored.
    pub due: u64,
    /// Deliveries, all subscribers together; each message counts once for each of them.
    pub deliveries: u64,
    /// Deliveries a second, from the first message to the last delivery.
    pub deliveries_per_s: f64,
    /// Due, and not delivered.
    pub lost: u64,
    /// Delivered again.
    pub duplicated: u64,
    /// Delivered after a later one.
    pub out_of_order: u64,
    /// Delivered to clients that do not watch the channel.
    pub unasked: u64,
    /// Times that one nonce stood at a second place of its channel.
    pub doubled: u64,
    /// Delivered in another channel than they were sent to.
    pub misplaced: u64,
    /// Live connections that ended.
    pub dropped: u64,
    /// Times that a client was told to fetch anew.
    pub resyncs: u64,
    /// Due time to delivery.
    pub delivery_latency_us: Latency,
    /// The same in the course of time: of what was due in each part.
    pub delivery_latency_by_part_us: Vec<Latency>,
    /// Length of a part, seconds.
    pub part_s: f64,
    /// Due time to acknowledgement.
    pub ack_latency_us: Latency,
    /// How late the generator was; part of the other two.
    pub generator_late_us: Latency,
    /// From the first message's due time to the last delivery, seconds.
    pub seconds: f64,
    /// Processor time of the generator until nothing was missing any more, percent of one core.
    pub generator_cpu_percent: f64,
    /// What the kernel dropped meanwhile.
    #[serde(flatten)]
    pub losses: LoopbackLosses,
}

impl Spoken {
    /// Whether all that was said was acknowledged and reached everybody once, in order.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.faults().next().is_none()
    }

    /// What went wrong, and how often.
    pub fn faults(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("out of order", self.out_of_order),
            ("unasked", self.unasked),
            ("at two places", self.doubled),
            ("in another channel", self.misplaced),
            ("not due", self.deliveries.saturating_sub(self.due)),
            ("connections dropped", self.dropped),
            ("told to fetch anew", self.resyncs),
            ("refused", self.refused),
            ("unanswered", self.unanswered),
            ("not sent", self.skipped),
        ];
        counts.into_iter().filter(|&(_, count)| count > 0)
    }
}

impl fmt::Display for Spoken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} sent, {} acknowledged; {} of {} deliveries, {:.0}/s",
            self.sent, self.acked, self.deliveries, self.due, self.deliveries_per_s
        )?;
        let (latency, late) = (&self.delivery_latency_us, &self.generator_late_us);
        writeln!(
            f,
            "delivery us: p50 {} p99 {} p99.9 {} max {} (generator late: p99 {}; its CPU {:.0} %); {}",
            latency.p50,
            latency.p99,
            latency.p999,
            latency.max,
            late.p99,
            self.generator_cpu_percent,
            self.losses
        )?;
        self.write_course(f)?;
        let faults: Vec<String> = self
            .faults()
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        if faults.is_empty() {
            writeln!(f, "everything arrived once, in order")
        } else {
            writeln!(f, "NOT CLEAN: {}", faults.join(", "))
        }
    }
}

impl Spoken {
    /// The 99th percentiles of the parts, if there is more to see than one of the whole.
    fn write_course(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.delivery_latency_by_part_us.len() < COURSE_PARTS_MIN {
            return Ok(());
        }
        write!(f, "delivery p99 ms, each {:.1} s:", self.part_s)?;
        for part in &self.delivery_latency_by_part_us {
            match part.count {
                0 => write!(f, " -")?,
                _ => write!(f, " {}", part.p99.div_ceil(1_000))?,
            }
        }
        writeln!(f)
    }
}

/// Counts before a speech, which are taken off after it.
#[derive(Clone, Debug)]
pub(super) struct Account {
    sent: u64,
    acked: u64,
    refused: u64,
    doubled: u64,
    misplaced: u64,
    dropped: u64,
    resyncs: u64,
    ledger: Counts,
}

impl Account {
    /// A speech begins. What was said before and has no answer is no part of it.
    pub(super) fn open(people: &mut People, course: Course) -> Self {
        people.talk.abandon();
        people.talk.begin(Some(course));
        Self::of(people)
    }

    fn of(people: &People) -> Self {
        let (talk, tally) = (&people.talk, &people.tally);
        let ledger = people.ledger.as_ref().map(Ledger::counts);
        Self {
            sent: talk.sent(),
            acked: talk.acked_count(),
            refused: talk.refusals().values().sum(),
            doubled: talk.doubled(),
            misplaced: talk.misplaced(),
            dropped: tally.dropped,
            resyncs: tally.resyncs,
            ledger: ledger.unwrap_or_default(),
        }
    }

    /// It is over: what has no answer by now gets none. Times and the generator's own figures are
    /// left to whoever kept the clock.
    pub(super) fn close(&self, people: &mut People, start_ns: u64) -> Spoken {
        let unanswered = people.talk.abandon();
        let after = Self::of(people);
        let talk = &people.talk;
        let took_ns = talk.last_delivery_ns().saturating_sub(start_ns);
        let seconds = Duration::from_nanos(took_ns).as_secs_f64();
        Spoken {
            sent: after.sent - self.sent,
            acked: after.acked - self.acked,
            refused: after.refused - self.refused,
            unanswered,
            due: talk.due(),
            deliveries: talk.heard(),
            deliveries_per_s: super::rate(talk.heard(), seconds),
            lost: talk.due().saturating_sub(talk.heard()),
            duplicated: after.ledger.duplicated - self.ledger.duplicated,
            out_of_order: after.ledger.out_of_order - self.ledger.out_of_order,
            unasked: after.ledger.unasked - self.ledger.unasked,
            doubled: after.doubled - self.doubled,
            misplaced: after.misplaced - self.misplaced,
            dropped: after.dropped - self.dropped,
            resyncs: after.resyncs - self.resyncs,
            delivery_latency_us: Latency::from(talk.delivery_us()),
            delivery_latency_by_part_us: talk.course().map_or_else(Vec::new, Course::parts),
            part_s: talk.course().map_or(0.0, Course::part_s),
            ack_latency_us: Latency::from(talk.ack_us()),
            seconds,
            ..Spoken::default()
        }
    }
}

/// What the generator itself did during a speech.
pub(super) struct Own<'a> {
    pub(super) skipped: u64,
    pub(super) late_us: &'a Histogram<u64>,
    pub(super) cpu_percent: f64,
    pub(super) losses: LoopbackLosses,
}

impl Spoken {
    pub(super) fn with(self, own: &Own<'_>) -> Self {
        Self {
            skipped: own.skipped,
            generator_late_us: Latency::from(own.late_us),
            generator_cpu_percent: own.cpu_percent,
            losses: own.losses,
            ..self
        }
    }
}

#[cfg(test)]
mod tests;
