//! `throng-bench soak`: many sessions that talk for long, among people who come and go, read
//! slowly, or break the rules.
//!
//! It starts and stops no server and changes none of its settings. What the server does about slow
//! readers and malformed peers is looked at from outside only.
//!
//! Invariants: the load follows the plan, whatever the server answers; every delivery is checked
//! against its session's last, across each reconnect; everything random follows from one seed.

mod answer;
mod chatter;
mod churn;
mod descriptors;
mod health;
mod letters;
mod load;
mod malformed;
mod offence;
mod pace;
mod report;
mod samples;
mod slow;
mod text;
mod trend;
mod verdict;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;

use crate::chat::parse_duration;
use crate::clock::pause;
use crate::error::BenchError;
use crate::files;
use crate::loopback::LoopbackLosses;
use crate::report::Latency;
use crate::swarm::crowd::Crowd;
use crate::swarm::hold;
use crate::swarm::links::{Link, Receiving};
use crate::swarm::options::{Ending, SwarmOptions, system};
use crate::swarm::speech::{Speech, drain, everyone, speak};
use crate::target::Target;
use chatter::Chatter;
use letters::Letters;
use malformed::Malformed;
pub use report::SoakReport;
use samples::{Sample, Sampler, Subject};

const MS: u64 = 1_000_000;
/// How long everybody talks in the end, when all are back.
const AFTER: Duration = Duration::from_secs(2);
/// Of this length.
const AFTER_BYTES: usize = 64;
/// Between two looks at whether the server has let all go.
const LOOK: Duration = Duration::from_millis(500);
/// So few closed connections that are remembered do not matter.
const LINGERING_MAX: i64 = 500;

/// Mixed chat for long, with disconnects, slow readers and malformed peers.
#[derive(Args, Debug)]
#[command(
    after_help = "The users need small channels: `throng admin seed-users --circles 4`. Limits that stop \
    one sender or one address must be off: [limits.message] count = 0, [limits.identify] count = 0.\n\n\
    Exit status: 0 when every message arrived once and in order, nobody who behaved was dropped, every \
    malformed peer was answered, nothing was left behind and, in a load of at least 10 minutes, memory \
    was flat; 1 when not, 2 when the run could not be made."
)]
pub struct SoakArgs {
    #[command(flatten)]
    swarm: SwarmOptions,
    /// Sessions.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(4..=10_000_000))]
    connections: u32,
    /// Of them, so many speak [default: all].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    senders: Option<u32>,
    /// Messages a second, in channels that not all watch.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// How long they talk.
    #[arg(long, default_value = "2m", value_parser = parse_duration)]
    duration: Duration,
    /// What counts as warm-up, whose samples are not judged [default: a third of the duration].
    #[arg(long, value_parser = parse_duration)]
    warm_up: Option<Duration>,
    /// Connections begun per second.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connect_rate: u32,
    /// Sessions that lose their connection, a second, and come back.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    churn: u32,
    /// The longest that one of them stays away; most stay for an eighth of it.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    away: Duration,
    /// Sessions that read slowly; at most one in four.
    #[arg(long, default_value_t = 8)]
    slow: u32,
    /// Long messages a second to each of them while it does not read.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slow_rate: u32,
    /// Malformed peers a second, beside the sessions.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=200))]
    malformed: u32,
    /// Between two samples of the server's state.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    every: Duration,
    /// How long the server may take to let go of everything in the end.
    #[arg(long, default_value = "90s", value_parser = parse_duration)]
    grace: Duration,
    /// What everything random follows from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &SoakArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => files::conclude(&report, args.swarm.json.as_deref(), report.is_clean()),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &SoakArgs) -> Result<SoakReport, BenchError> {
    if args.slow > 0 && args.swarm.recv != Receiving::Dense {
        return Err(BenchError::SlowNeedDense);
    }
    let target = Target::resolve(&args.swarm.target)?;
    let mut crowd = args
        .swarm
        .crowd(args.connections, args.connect_rate, Ending::Resume)?;
    crowd.people.keep_ledger();
    crowd.people.manners.slow_from = slow_from(args.connections, args.slow);
    let subject = Subject {
        target: target.clone(),
        pid: args.swarm.pid,
        clock: crowd.clock(),
        live: Arc::default(),
    };
    let mut report = SoakReport {
        connections: args.connections,
        before: subject.now(),
        ..SoakReport::default()
    };
    let losses = LoopbackLosses::now();
    hold::come(&mut crowd, args.connections, args.swarm.connect_timeout)?;
    subject.live.store(crowd.live(), Ordering::Relaxed);
    report.come = subject.now();
    let sampler = Sampler::start(subject.clone(), args.every);
    let malformed = Malformed::start(target, args.malformed, args.seed);
    let ((from_s, to_s), letters) = load::run(args, &mut crowd, &subject.live, &mut report)?;
    report.samples = sampler.stop();
    malformed.end();
    calm(args, &mut crowd, letters, &mut report)?;
    while !malformed.is_finished() {
        crowd
            .turn(10 * MS)
            .map_err(system("waiting for malformed peers"))?;
    }
    report.offences(malformed.stop());
    report.count(&crowd);
    report.losses = losses.until_now();
    report.memory(from_s, to_s, args.swarm.pid.is_some());
    crowd.dismiss(args.connections).map_err(system("leaving"))?;
    let gone = wait_until_gone(args, &subject, &report.before);
    report.left(gone, args.swarm.pid.is_some());
    Ok(report)
}

/// Where the last of each four is slow, so that there are as many as asked for.
fn slow_from(connections: u32, slow: u32) -> u32 {
    let fours = connections / 4;
    if slow == 0 {
        return u32::MAX;
    }
    4 * fours.saturating_sub(slow)
}

/// All come back, get every answer and what they are due, and talk a last time.
fn calm(
    args: &SoakArgs,
    crowd: &mut Crowd,
    mut letters: Letters,
    report: &mut SoakReport,
) -> Result<(), BenchError> {
    let all = u64::from(args.connections);
    let until_s = crowd.clock().seconds() + args.swarm.connect_timeout.as_secs_f64();
    while (crowd.live() < all || crowd.people.talk.unanswered() > 0)
        && crowd.clock().seconds() < until_s
    {
        crowd.turn(5 * MS).map_err(system("coming back"))?;
        letters.turn(crowd, crowd.clock().now_ns());
    }
    report.missing = all - crowd.live();
    report.resent = letters.resent();
    report.unanswered = crowd.people.talk.abandon();
    drain(crowd)?;
    report.ack_latency_us = Latency::from(crowd.people.talk.ack_us());
    report.delivery_latency_us = Latency::from(crowd.people.talk.delivery_us());
    let shared = everyone(crowd, args.connections);
    let mut last = Chatter::new(1, args.connections, shared, args.seed, 0);
    let speech = Speech {
        rate: args.rate,
        duration: AFTER,
        size: AFTER_BYTES,
    };
    report.after = speak(crowd, speech, |crowd, number| {
        last.speaker(crowd)
            .unwrap_or_else(|| anybody(crowd, number))
    })?;
    Ok(())
}

/// Somebody who is live and has a channel; where nobody is, the message is not sent.
fn anybody(crowd: &Crowd, number: u64) -> (Link, u128) {
    let link = u32::try_from(number % u64::from(crowd.count())).expect("below a 32-bit count");
    let watched = crowd.people.ledger.as_ref().and_then(|ledger| {
        let mut watched = ledger.watched(Link(link));
        watched.next()
    });
    (Link(link), watched.map_or(0, |(channel, _)| channel))
}

/// Waits until the server counts nobody any more and the kernel has forgotten whom it remembered;
/// the state then, or when the grace is over.
fn wait_until_gone(args: &SoakArgs, subject: &Subject, before: &Sample) -> Sample {
    let until_s = subject.clock.seconds() + args.grace.as_secs_f64();
    subject.live.store(0, Ordering::Relaxed);
    loop {
        let now = subject.now();
        let has_left = verdict::have_left(before, &now).unwrap_or(true);
        let is_quiet = now.lingering <= before.lingering.max(LINGERING_MAX);
        if (has_left && is_quiet) || subject.clock.seconds() > until_s {
            return now;
        }
        pause(LOOK);
    }
}
