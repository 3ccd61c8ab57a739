//! Messages said at a fixed rate, whatever the server answers, until all have been heard.
//!
//! It picks no channel: whoever asks for a speech says who speaks where.
//!
//! Invariants: a message is due by the plan alone, and its latency counts from then; the end waits
//! for every acknowledged message at every subscriber, or until nothing moves any more.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::crowd::Crowd;
use super::links::Link;
use super::options::system;
use super::people::Phase;
use super::talk::latencies;
use crate::error::BenchError;
use crate::report::Latency;
use crate::tally::record;

const MS: u64 = 1_000_000;
/// Nothing has moved for so long: what is missing will not come.
const QUIET_NS: u64 = 5_000 * MS;
/// How often it is counted whether something is missing: with a million clients that takes time.
const COUNT_EVERY_NS: u64 = 500 * MS;

/// How much is said.
#[derive(Clone, Copy, Debug)]
pub struct Speech {
    /// Messages a second.
    pub rate: u32,
    /// For how long.
    pub duration: Duration,
    /// Bytes of each message's text.
    pub size: usize,
}

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
    /// Deliveries, all subscribers together.
    pub deliveries: u64,
    /// Deliveries a second, from the first message to the last delivery.
    pub deliveries_per_s: f64,
    /// Due, and not delivered.
    pub lost: u64,
    /// Delivered again.
    pub duplicated: u64,
    /// Delivered after a later one.
    pub out_of_order: u64,
    /// Due time to delivery.
    pub delivery_latency_us: Latency,
    /// Due time to acknowledgement.
    pub ack_latency_us: Latency,
    /// How late the generator was; part of the other two.
    pub generator_late_us: Latency,
    /// From the first message's due time to the last delivery, seconds.
    pub seconds: f64,
}

impl Spoken {
    /// Whether everything that was acknowledged arrived once, in order.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.unanswered == 0
            && self.refused == 0
            && self.skipped == 0
    }
}

impl std::fmt::Display for Spoken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            f,
            "{} sent, {} acknowledged, {} refused, {} unanswered, {} not sent; {} deliveries, {:.0}/s",
            self.sent,
            self.acked,
            self.refused,
            self.unanswered,
            self.skipped,
            self.deliveries,
            self.deliveries_per_s
        )?;
        let (latency, late) = (&self.delivery_latency_us, &self.generator_late_us);
        writeln!(
            f,
            "delivery us: p50 {} p99 {} p99.9 {} max {} (generator late: p99 {})",
            latency.p50, latency.p99, latency.p999, latency.max, late.p99
        )?;
        writeln!(
            f,
            "lost {}, duplicated {}, out of order {}",
            self.lost, self.duplicated, self.out_of_order
        )
    }
}

/// Counters before a speech, which are taken off after it.
struct Before {
    sent: u64,
    acked: u64,
    refused: u64,
    lost: u64,
    ledger: super::ledger::Counts,
    start_ns: u64,
}

impl Before {
    fn of(crowd: &mut Crowd) -> Self {
        crowd.people.talk.restart_latencies();
        let talk = &crowd.people.talk;
        Self {
            sent: talk.sent(),
            acked: talk.acked_count(),
            refused: talk.refusals().values().sum(),
            lost: lost(crowd),
            ledger: counts(crowd),
            start_ns: crowd.clock().now_ns(),
        }
    }
}

/// Says everything and waits until it was heard. `pick` says who speaks where, by the message's
/// number.
///
/// # Errors
/// When a ring fails.
pub fn speak(
    crowd: &mut Crowd,
    speech: Speech,
    mut pick: impl FnMut(&Crowd, u64) -> (Link, u128),
) -> Result<Spoken, BenchError> {
    let before = Before::of(crowd);
    let content = text(speech.size);
    let total = u128::from(speech.rate) * speech.duration.as_nanos() / 1_000_000_000;
    let total = u64::try_from(total).unwrap_or(u64::MAX).max(1);
    let mut late_us = latencies();
    let mut skipped = 0;
    let mut next = 0;
    while next < total {
        let now_ns = crowd.clock().now_ns();
        while next < total {
            let due_ns = before.start_ns + next * 1_000_000_000 / u64::from(speech.rate.max(1));
            if due_ns > now_ns {
                break;
            }
            let (link, channel) = pick(crowd, next);
            next += 1;
            if crowd.people.phase(link) != Phase::Live {
                skipped += 1;
                continue;
            }
            crowd.say(link, channel, &content, due_ns);
            record(&mut late_us, crowd.clock().now_ns().saturating_sub(due_ns));
        }
        crowd.turn(MS / 4).map_err(system("speaking"))?;
    }
    drain(crowd)?;
    Ok(conclude(crowd, &before, skipped, &late_us))
}

/// Waits until nothing is missing, or nothing moves.
///
/// # Errors
/// When a ring fails.
pub fn drain(crowd: &mut Crowd) -> Result<(), BenchError> {
    let mut moved = (crowd.clock().now_ns(), 0);
    let mut counted_ns = 0;
    loop {
        crowd.turn(MS).map_err(system("listening"))?;
        let now_ns = crowd.clock().now_ns();
        let progress = counts(crowd).deliveries + crowd.people.talk.acked_count();
        if progress != moved.1 {
            moved = (now_ns, progress);
        }
        let is_answered = crowd.people.talk.unanswered() == 0;
        if is_answered && now_ns - counted_ns > COUNT_EVERY_NS {
            counted_ns = now_ns;
            if lost(crowd) == 0 {
                return Ok(());
            }
        }
        if now_ns - moved.0 > QUIET_NS {
            return Ok(());
        }
    }
}

fn conclude(crowd: &Crowd, before: &Before, skipped: u64, late_us: &Histogram<u64>) -> Spoken {
    let talk = &crowd.people.talk;
    let counts = counts(crowd);
    let deliveries = counts.deliveries - before.ledger.deliveries;
    let took_ns = talk.last_delivery_ns().saturating_sub(before.start_ns);
    let seconds = Duration::from_nanos(took_ns).as_secs_f64();
    let refused: u64 = talk.refusals().values().sum();
    Spoken {
        sent: talk.sent() - before.sent,
        acked: talk.acked_count() - before.acked,
        refused: refused - before.refused,
        unanswered: talk.unanswered(),
        skipped,
        deliveries,
        deliveries_per_s: rate(deliveries, seconds),
        lost: lost(crowd).saturating_sub(before.lost),
        duplicated: counts.duplicated - before.ledger.duplicated,
        out_of_order: counts.out_of_order - before.ledger.out_of_order,
        delivery_latency_us: Latency::from(talk.delivery_us()),
        ack_latency_us: Latency::from(talk.ack_us()),
        generator_late_us: Latency::from(late_us),
        seconds,
    }
}

/// So many a second.
#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people: 53 bits are plenty"
)]
#[must_use]
pub fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(1e-6)
}

/// Text of so many bytes.
#[must_use]
pub fn text(bytes: usize) -> String {
    let words = "a message of a certain length, said to everybody who listens, ";
    words.chars().cycle().take(bytes.max(1)).collect()
}

/// Deliveries that are due by now and have not come.
#[must_use]
pub fn lost(crowd: &Crowd) -> u64 {
    let ledger = crowd.people.ledger.as_ref();
    ledger.map_or(0, |ledger| {
        ledger.lost(|channel| crowd.people.talk.head(channel))
    })
}

fn counts(crowd: &Crowd) -> super::ledger::Counts {
    let ledger = crowd.people.ledger.as_ref();
    ledger.map_or_else(Default::default, super::ledger::Ledger::counts)
}

/// The channel that the first and the last of those who came watch: everybody's.
#[must_use]
pub fn everyone(crowd: &Crowd, clients: u32) -> Option<u128> {
    let ledger = crowd.people.ledger.as_ref()?;
    let came = |link: &Link| ledger.watched(*link).next().is_some();
    let last = (0..clients).rev().map(Link).find(came)?;
    let mut shared = ledger.watched(Link(0)).filter(|&(channel, _)| {
        let mut others = ledger.watched(last);
        others.any(|(other, _)| other == channel)
    });
    shared.next().map(|(channel, _)| channel)
}
