//! `throng-bench connect`: how fast sessions come, from the first SYN to the last SUBSCRIBED.
//!
//! Without `--rate` it finds what the server takes: always so many handshakes under way, in rounds
//! that begin from nothing. With one it is an open loop: each connection is due by the plan, and its
//! latency counts from then.
//!
//! Invariants: a session counts when it is identified and has all its subscriptions; between two
//! rounds all have left.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::chat::parse_duration;
use crate::clock::{pause, thread_cpu};
use crate::error::BenchError;
use crate::fanout::median;
use crate::files;
use crate::loopback::LoopbackLosses;
use crate::memory::ProcessUse;
use crate::report::Latency;
use crate::swarm::crowd::Crowd;
use crate::swarm::hold;
use crate::swarm::options::{Ending, SwarmOptions, pin, system};
use crate::swarm::people::CUT;

/// Dials a second where as many are begun as may be under way.
const UNBOUNDED: u32 = 1_000_000;
/// Handshakes under way of an open loop: so many that the plan is never held up.
const OPEN_UNDER_WAY: u32 = 65_536;
/// Sessions that come and leave before anything is measured.
const WARM_UP: u32 = 200;
/// Between two rounds: time for the server to forget who left.
const PAUSE: Duration = Duration::from_millis(500);

/// Connects, identifies and subscribes, as fast as the server takes it or at a rate.
#[derive(Args, Debug)]
#[command(
    after_help = "The users need as many channels as --subscriptions says: `throng admin seed-users \
    --everyone NAME --circles 4` gives five.\n\nExit status: 0 when every session came at its first attempt and \
    stayed, 1 when one did not, 2 when the run could not be made or somebody never came."
)]
pub struct ConnectArgs {
    #[command(flatten)]
    swarm: SwarmOptions,
    /// Sessions of a round.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    connections: u32,
    /// Connections due per second [default: as many as --under-way lets begin].
    #[arg(long, conflicts_with = "under_way", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Rounds are begun for so long; there is at least one.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// The core that the generator runs on.
    #[arg(long)]
    core: Option<usize>,
}

/// The report of `throng-bench connect`.
#[derive(Clone, Default, Debug, Serialize)]
pub struct ConnectReport {
    /// Sessions of a round.
    pub connections: u32,
    /// Connections due per second, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Sessions that became live, a second, median of the rounds.
    pub handshakes_per_s: f64,
    /// From when a connection was begun, or was due in an open loop, to its last SUBSCRIBED.
    pub connect_latency_us: Latency,
    /// Processor time of the server a session, microseconds, median of the rounds. Absent without --pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_handshake: Option<f64>,
    /// Processor time of the generator, percent of one core, the highest of the rounds.
    pub generator_cpu_percent: f64,
    /// Live sessions that ended before their round did.
    pub dropped: u64,
    /// Attempts that ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Errors of the server, by code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Each round's sessions a second.
    pub rounds: Vec<f64>,
    /// What the kernel dropped meanwhile.
    #[serde(flatten)]
    pub losses: LoopbackLosses,
}

impl ConnectReport {
    /// Whether all sessions came at their first attempt and stayed until their round was over.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.dropped == 0 && self.ended.is_empty() && self.errors.is_empty()
    }
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &ConnectArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => files::conclude(&report, args.swarm.json.as_deref(), report.is_clean()),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &ConnectArgs) -> Result<ConnectReport, BenchError> {
    let mut options = args.swarm.clone();
    if args.rate.is_some() {
        options.under_way = OPEN_UNDER_WAY;
    }
    let rate = args.rate.unwrap_or(UNBOUNDED);
    let mut crowd = options.crowd(args.connections, rate, Ending::Reset)?;
    if args.rate.is_some() {
        crowd.count_from_plan();
    }
    if let Some(core) = args.core {
        pin(core)?;
    }
    let losses = LoopbackLosses::now();
    let warm_up = args.connections.min(WARM_UP);
    hold::come(&mut crowd, warm_up, options.connect_timeout)?;
    leave(&mut crowd, warm_up)?;
    crowd.restart_handshakes();
    let mut report = ConnectReport {
        connections: args.connections,
        rate: args.rate,
        ..ConnectReport::default()
    };
    let mut cpu_us = Vec::new();
    let begun = crowd.clock().seconds();
    while report.rounds.is_empty() || crowd.clock().seconds() - begun < args.duration.as_secs_f64()
    {
        let before = options.pid.and_then(ProcessUse::of);
        let own_before = thread_cpu();
        let seconds = hold::come(&mut crowd, args.connections, options.connect_timeout)?;
        let own = thread_cpu().saturating_sub(own_before).as_secs_f64();
        let after = options.pid.and_then(ProcessUse::of);
        let sessions = f64::from(args.connections);
        report.rounds.push(sessions / seconds.max(1e-6));
        report.generator_cpu_percent =
            (report.generator_cpu_percent).max(100.0 * own / seconds.max(1e-6));
        let used = before.zip(after);
        cpu_us.extend(used.map(|(before, after)| (after.cpu_s - before.cpu_s) * 1e6 / sessions));
        report.dropped = crowd.people.tally.dropped;
        leave(&mut crowd, args.connections)?;
    }
    report.handshakes_per_s = median(report.rounds.iter().copied()).unwrap_or(0.0);
    report.server_cpu_us_per_handshake = median(cpu_us.into_iter());
    report.connect_latency_us = Latency::from(crowd.handshake_us());
    report.ended.clone_from(&crowd.people.tally.ended);
    report.ended.remove(CUT);
    report.errors.clone_from(&crowd.people.tally.errors);
    report.losses = losses.until_now();
    Ok(report)
}

/// All leave, and the server forgets them.
fn leave(crowd: &mut Crowd, count: u32) -> Result<(), BenchError> {
    crowd.dismiss(count).map_err(system("leaving"))?;
    pause(PAUSE);
    Ok(())
}

impl fmt::Display for ConnectReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let due = self.rate.map_or_else(
            || "as fast as they are taken".to_owned(),
            |rate| format!("{rate} due a second"),
        );
        writeln!(
            f,
            "{} sessions a round, {due}: {:.0} sessions/s, {} rounds; {}",
            self.connections,
            self.handshakes_per_s,
            self.rounds.len(),
            self.losses
        )?;
        let latency = &self.connect_latency_us;
        writeln!(
            f,
            "until subscribed, us: p50 {} p99 {} p99.9 {} max {}",
            latency.p50, latency.p99, latency.p999, latency.max
        )?;
        if let Some(cpu_us) = self.server_cpu_us_per_handshake {
            writeln!(f, "server CPU: {cpu_us:.1} us a session")?;
        }
        writeln!(f, "generator CPU: {:.0} %", self.generator_cpu_percent)?;
        for (reason, count) in &self.ended {
            writeln!(f, "ended: {count} {reason}")?;
        }
        for (code, count) in &self.errors {
            writeln!(f, "error: {count} {code}")?;
        }
        if !self.is_clean() {
            writeln!(f, "NOT CLEAN: {} sessions were dropped", self.dropped)?;
        }
        Ok(())
    }
}
