//! The load: talk, departures and slow readers at once, turn by turn.
//!
//! It waits for nobody: what the server answers changes nothing of what is due.
//!
//! Invariants: one thread drives all sessions; when it ends, nobody is deaf any more.

use std::sync::atomic::{AtomicU64, Ordering};

use super::SoakArgs;
use super::chatter::Chatter;
use super::churn::Churn;
use super::letters::Letters;
use super::report::SoakReport;
use super::slow::Slow;
use crate::error::BenchError;
use crate::progress::Progress;
use crate::report::Latency;
use crate::swarm::crowd::Crowd;
use crate::swarm::options::system;
use crate::swarm::speech::everyone;

const MS: u64 = 1_000_000;
/// Part of the load that is the warm-up, where nobody says how long.
const WARM_UP_ONE_IN: u32 = 3;

/// Everything at once, for as long as asked for; says from when to when, seconds, and
/// what is still without an answer.
pub(super) fn run(
    args: &SoakArgs,
    crowd: &mut Crowd,
    live: &AtomicU64,
    report: &mut SoakReport,
) -> Result<((f64, f64), Letters), BenchError> {
    let shared = everyone(crowd, args.connections);
    let clock = crowd.clock();
    let begun_ns = clock.now_ns();
    let senders = args
        .senders
        .unwrap_or(args.connections)
        .min(args.connections);
    let mut chatter = Chatter::new(args.rate, senders, shared, args.seed, begun_ns);
    let mut churn = Churn::new(args.churn, args.away, args.connections, args.seed, begun_ns);
    let mut letters = Letters::new();
    let mut slow = Slow::new(crowd, shared, args.slow_rate, args.seed);
    let seconds = usize::try_from(args.duration.as_secs()).unwrap_or(usize::MAX);
    let progress = Progress::new("soaking", seconds.max(1));
    let from_s = clock.seconds();
    let until_s = from_s + args.duration.as_secs_f64();
    while clock.seconds() < until_s {
        let now_ns = clock.now_ns();
        chatter.turn(crowd, &mut letters, now_ns);
        churn.turn(crowd, now_ns);
        slow.turn(crowd, &mut letters, now_ns);
        letters.turn(crowd, now_ns);
        crowd.turn(MS / 4).map_err(system("soaking"))?;
        live.store(crowd.live(), Ordering::Relaxed);
        progress.set((now_ns - begun_ns) / (1_000 * MS));
    }
    slow.end(crowd);
    let to_s = clock.seconds();
    report.load_s = to_s - from_s;
    let warm_up = args.warm_up.unwrap_or(args.duration / WARM_UP_ONE_IN);
    report.warm_up_s = warm_up.as_secs_f64();
    report.skipped = chatter.skipped();
    report.generator_late_us = Latency::from(chatter.late_us());
    report.disconnects = churn.departures().all;
    report.goodbyes = churn.departures().goodbyes;
    report.slow = slow.count();
    report.slow_stalls = slow.stalls();
    Ok(((from_s, to_s), letters))
}
