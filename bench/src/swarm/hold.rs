//! Sessions that come, and stay.
//!
//! It measures nothing but time.
//!
//! Invariants: who does not come in time ends the run.

use std::time::Duration;

use crate::error::BenchError;
use crate::progress::{Progress, TimedProgress};
use crate::swarm::crowd::Crowd;
use crate::swarm::options::system;

const MS: u64 = 1_000_000;

/// Lets clients below `count` come; says how long it took, seconds.
///
/// # Errors
/// When not all are live in time, or some failed too often.
pub(crate) fn come(crowd: &mut Crowd, count: u32, timeout: Duration) -> Result<f64, BenchError> {
    come_seen(crowd, count, timeout, &mut |_| {})
}

/// [`come`], and `see` is told how many are live whenever that may have changed.
///
/// # Errors
/// As [`come`].
pub(crate) fn come_seen(
    crowd: &mut Crowd,
    count: u32,
    timeout: Duration,
    see: &mut dyn FnMut(u64),
) -> Result<f64, BenchError> {
    let progress = Progress::new("connecting", count as usize);
    let begun = crowd.clock().seconds();
    crowd.invite(count);
    while crowd.live() < u64::from(count) {
        crowd.turn(MS).map_err(system("connecting"))?;
        progress.set(crowd.live());
        see(crowd.live());
        let is_late = crowd.clock().seconds() - begun > timeout.as_secs_f64();
        if is_late || crowd.gave_up() > 0 {
            return Err(not_all_live(crowd, count));
        }
    }
    Ok(crowd.clock().seconds() - begun)
}

/// What to say when clients did not come.
pub(crate) fn not_all_live(crowd: &Crowd, count: u32) -> BenchError {
    let ended = &crowd.people.tally.ended;
    let most = ended.iter().max_by_key(|(_, count)| **count);
    BenchError::NotAllLive {
        live: crowd.live(),
        clients: count as usize,
        last: most.map_or_else(|| "none".to_owned(), |(reason, _)| reason.clone()),
    }
}

/// Goes on for so long; says the least number of live clients at any moment.
///
/// # Errors
/// When a ring fails.
pub(crate) fn stay(crowd: &mut Crowd, duration: Duration) -> Result<u64, BenchError> {
    let begun = crowd.clock().seconds();
    let mut progress = TimedProgress::new("holding", "heartbeats", duration);
    let beats = |crowd: &Crowd| crowd.people.tally.heartbeat_acks;
    let (before, mut least) = (beats(crowd), crowd.live());
    while crowd.clock().seconds() - begun < duration.as_secs_f64() {
        crowd.turn(5 * MS).map_err(system("holding sessions"))?;
        least = least.min(crowd.live());
        progress.count(crowd.clock().seconds() - begun, beats(crowd) - before);
    }
    Ok(least)
}
