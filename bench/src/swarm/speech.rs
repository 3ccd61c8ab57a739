//! Messages said at a fixed rate, whatever the server answers, until all have been heard.
//!
//! It picks no channel: whoever asks for a speech says who speaks where.
//!
//! Invariants: a message is due by the plan alone, and its latency counts from then; the end waits
//! for every stored message at every subscriber, or until nothing moves any more; nothing is walked
//! through while latencies are measured.

mod spoken;

use std::time::Duration;

use super::course::Course;
use super::crowd::Crowd;
use super::links::Link;
use super::options::system;
use super::people::Phase;
use super::talk::latencies;
use crate::clock::thread_cpu;
use crate::error::BenchError;
use crate::loopback::LoopbackLosses;
use crate::progress::TimedProgress;
use crate::tally::record;
pub use spoken::Spoken;
use spoken::{Account, Own};

const MS: u64 = 1_000_000;
/// Nothing has moved for so long: what is missing will not come.
const QUIET_NS: u64 = 5_000 * MS;
/// Nothing has moved for so long: time to count what is missing, which takes long with a million
/// clients.
const STILL_NS: u64 = 200 * MS;

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
    let start_ns = crowd.clock().now_ns();
    let account = Account::open(&mut crowd.people, Course::new(start_ns, speech.duration));
    let (cpu, losses) = (thread_cpu(), LoopbackLosses::now());
    let content = text(speech.size);
    let total = u128::from(speech.rate) * speech.duration.as_nanos() / 1_000_000_000;
    let total = u64::try_from(total).unwrap_or(u64::MAX).max(1);
    let mut late_us = latencies();
    let mut progress = TimedProgress::new("speaking", "deliveries", speech.duration);
    let mut skipped = 0;
    let mut next = 0;
    while next < total {
        let now_ns = crowd.clock().now_ns();
        while next < total {
            let due_ns = start_ns + next * 1_000_000_000 / u64::from(speech.rate.max(1));
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
        let since_ns = now_ns.saturating_sub(start_ns);
        progress.count(float(since_ns) / 1e9, crowd.people.talk.heard());
        crowd.turn(MS / 4).map_err(system("speaking"))?;
    }
    drop(progress);
    hear_out(crowd)?;
    let took_ns = crowd.clock().now_ns().saturating_sub(start_ns);
    let cpu_s = thread_cpu().saturating_sub(cpu).as_secs_f64();
    let own = Own {
        skipped,
        late_us: &late_us,
        cpu_percent: 100.0 * cpu_s / Duration::from_nanos(took_ns).as_secs_f64().max(1e-6),
        losses: losses.until_now(),
    };
    Ok(account.close(&mut crowd.people, start_ns).with(&own))
}

/// Waits until nothing of the speech under way is missing, or nothing moves. Two counters say
/// whether something is: the time of a walk over all subscribers would be part of the figures.
fn hear_out(crowd: &mut Crowd) -> Result<(), BenchError> {
    let heard = |crowd: &Crowd| crowd.people.talk.heard() + crowd.people.talk.acked_count();
    until(crowd, heard, |crowd, _| {
        let talk = &crowd.people.talk;
        talk.unanswered() == 0 && talk.heard() == talk.due()
    })
}

/// Waits until nothing is missing that was ever due, caught up on or live, or nothing moves. Only
/// when nothing has moved for a while is it counted what is missing.
///
/// # Errors
/// When a ring fails.
pub fn drain(crowd: &mut Crowd) -> Result<(), BenchError> {
    let moved = |crowd: &Crowd| counts(crowd).deliveries + crowd.people.talk.acked_count();
    let mut counted_ns = 0;
    until(crowd, moved, |crowd, moved_ns| {
        let now_ns = crowd.clock().now_ns();
        let is_due = now_ns - moved_ns > STILL_NS && now_ns - counted_ns > STILL_NS;
        let is_over = is_due && crowd.people.talk.unanswered() == 0 && lost(crowd) == 0;
        if is_due {
            counted_ns = crowd.clock().now_ns();
        }
        is_over
    })
}

/// Carries on until it is over, or what is counted has not changed for too long. Who decides is told
/// when it last changed.
fn until(
    crowd: &mut Crowd,
    counted: impl Fn(&Crowd) -> u64,
    mut is_over: impl FnMut(&Crowd, u64) -> bool,
) -> Result<(), BenchError> {
    let mut count = counted(crowd);
    let mut moved_ns = crowd.clock().now_ns();
    while !is_over(crowd, moved_ns) {
        crowd.turn(MS).map_err(system("listening"))?;
        let now_ns = crowd.clock().now_ns();
        if counted(crowd) != count {
            (count, moved_ns) = (counted(crowd), now_ns);
        }
        if now_ns - moved_ns > QUIET_NS {
            return Ok(());
        }
    }
    Ok(())
}

/// So many a second.
#[must_use]
pub fn rate(count: u64, seconds: f64) -> f64 {
    float(count) / seconds.max(1e-6)
}

/// A count, to be divided.
#[expect(
    clippy::cast_precision_loss,
    reason = "a figure for people: 53 bits are plenty"
)]
#[must_use]
pub const fn float(count: u64) -> f64 {
    count as f64
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
