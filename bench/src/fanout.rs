//! `throng-bench fanout`: one message to many, beside a bare loop of `send()` to as many sockets.
//!
//! Closed: one sender, and the next message leaves when all have the last one. Open: the highest
//! rate at which 99 % of the deliveries come within 100 ms of the message's due time.
//!
//! Invariants: rounds of the server and of the bare loop take turns, with frames of the same size
//! and the same kind of receiver; every delivery is checked against its subscriber's last.

mod bare;
pub(crate) mod highest;
mod open;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::chat::parse_duration;
use crate::clock::thread_cpu;
use crate::error::BenchError;
use crate::files;
use crate::loopback::LoopbackLosses;
use crate::memory::ProcessUse;
use crate::progress::TimedProgress;
use crate::swarm::crowd::Crowd;
use crate::swarm::hold;
use crate::swarm::links::Link;
use crate::swarm::options::{Ending, SwarmOptions, pin, system};
use crate::swarm::speech::{Speech, Spoken, everyone, rate, speak, text};
use crate::target::Target;
use bare::Bare;
pub use report::FanoutReport;
pub(crate) use report::median;

const MS: u64 = 1_000_000;
/// A round of the closed loop.
const ROUND_S: f64 = 1.0;
/// No delivery for so long: the round cannot end.
const STALLED_S: f64 = 30.0;

/// One channel, many subscribers: how fast messages reach all of them.
#[derive(Args, Debug)]
#[command(
    after_help = "The users must share a channel: `throng admin seed-users --everyone NAME`. Limits \
    that stop one sender must be off: [limits.message] count = 0.\n\nExit status: 0 when every \
    message arrived once and in order, 1 when not, 2 when the run could not be made."
)]
pub struct FanoutArgs {
    #[command(flatten)]
    swarm: SwarmOptions,
    /// Subscribers of the channel; the first of them is the sender.
    #[arg(long, visible_alias = "connections", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    subscribers: u32,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    size: u16,
    /// The closed loop, both sides together; or the load at one --rate.
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    duration: Duration,
    /// With --rate: for how long that goes on before it counts. Losses count from the start.
    #[arg(long, default_value = "0s", value_parser = parse_duration, requires = "rate")]
    warm_up: Duration,
    /// Only the closed loop.
    #[arg(long, conflicts_with = "rate")]
    closed: bool,
    /// Only the open loop, at so many messages a second, without looking for the highest rate.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Only the open loop: looks for the highest rate.
    #[arg(long, conflicts_with_all = ["closed", "rate"])]
    open: bool,
    /// How long one rate is tried when the highest is looked for.
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    probe: Duration,
    /// Connections begun per second.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..))]
    connect_rate: u32,
    /// The core that the generator runs on.
    #[arg(long)]
    core: Option<usize>,
    /// The core that the bare loop sends from; give it the server's.
    #[arg(long)]
    bare_core: Option<usize>,
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &FanoutArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => files::conclude(&report, args.swarm.json.as_deref(), report.is_clean()),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &FanoutArgs) -> Result<FanoutReport, BenchError> {
    let options = &args.swarm;
    let mut crowd = options.crowd(args.subscribers, args.connect_rate, Ending::Orderly)?;
    crowd.people.keep_ledger();
    if let Some(core) = args.core {
        pin(core)?;
    }
    let losses = LoopbackLosses::now();
    hold::come(&mut crowd, args.subscribers, options.connect_timeout)?;
    let channel = everyone(&crowd, args.subscribers).ok_or(BenchError::NoSharedChannel)?;
    let mut report = FanoutReport::new(args.subscribers);
    if !args.open && args.rate.is_none() {
        closed(args, &mut crowd, channel, &mut report)?;
    }
    match args.rate {
        Some(rate) => at_rate(args, &mut crowd, channel, rate, &mut report)?,
        None if !args.closed => open::search(args, &mut crowd, channel, &mut report)?,
        None => {}
    }
    report.conclude(&crowd);
    report.losses = losses.until_now();
    Ok(report)
}

/// The open loop at one rate, behind its warm-up.
fn at_rate(
    args: &FanoutArgs,
    crowd: &mut Crowd,
    channel: u128,
    rate: u32,
    report: &mut FanoutReport,
) -> Result<(), BenchError> {
    let speech = |duration| Speech {
        rate,
        duration,
        size: usize::from(args.size),
    };
    if !args.warm_up.is_zero() {
        let spoken = speak(crowd, speech(args.warm_up), |_, _| (Link(0), channel))?;
        report.lost += spoken.lost;
        report.warm_up = Some(spoken);
        report.warm_up_s = args.warm_up.as_secs_f64();
    }
    let before = args.swarm.pid.and_then(ProcessUse::of);
    let spoken = speak(crowd, speech(args.duration), |_, _| (Link(0), channel))?;
    report.cpu(before, args.swarm.pid.and_then(ProcessUse::of), &spoken);
    report.best(rate, spoken);
    Ok(())
}

/// Rounds of the server and of the bare loop in turn.
fn closed(
    args: &FanoutArgs,
    crowd: &mut Crowd,
    channel: u128,
    report: &mut FanoutReport,
) -> Result<(), BenchError> {
    let content = text(usize::from(args.size));
    let losses = |crowd: &Crowd| crowd.people.tally.dropped + crowd.people.tally.resyncs;
    let before = losses(crowd);
    crowd.people.talk.begin(None);
    // The first message tells how long a frame is, and warms both up.
    all_hear(crowd, channel, &content)?;
    let frame = crowd.people.tally.message_frame_bytes;
    let target = Target::resolve(&args.swarm.target)?;
    let links = args.swarm.links(&target, args.subscribers)?;
    let doing = "opening the bare loop's sockets";
    let mut bare = Bare::open(links, frame, args.bare_core).map_err(system(doing))?;
    bare.pass().map_err(system("a bare round"))?;
    let start_s = crowd.clock().seconds();
    let mut progress = TimedProgress::new("fan-out", "deliveries", args.duration);
    while crowd.clock().seconds() - start_s < args.duration.as_secs_f64() {
        let before = args.swarm.pid.and_then(ProcessUse::of);
        let own_before = thread_cpu();
        let (messages, seconds) = round(crowd, channel, &content)?;
        let own_s = thread_cpu().saturating_sub(own_before).as_secs_f64();
        let after = args.swarm.pid.and_then(ProcessUse::of);
        let deliveries = messages * u64::from(args.subscribers);
        report.server_round(deliveries, seconds, before, after, own_s);
        progress.rate(crowd.clock().seconds() - start_s, rate(deliveries, seconds));
        let begun = crowd.clock().seconds();
        let mut passes = 0;
        while crowd.clock().seconds() - begun < ROUND_S {
            bare.pass().map_err(system("a bare round"))?;
            passes += 1;
        }
        let deliveries = passes * u64::from(args.subscribers);
        let seconds = crowd.clock().seconds() - begun;
        report.bare_round(rate(deliveries, seconds));
    }
    let talk = &crowd.people.talk;
    report.lost += talk.due().saturating_sub(talk.heard());
    report.undue = talk.heard().saturating_sub(talk.due());
    report.thrown_out = losses(crowd) - before;
    Ok(())
}

fn round(crowd: &mut Crowd, channel: u128, content: &str) -> Result<(u64, f64), BenchError> {
    let begun = crowd.clock().seconds();
    let mut messages = 0;
    while crowd.clock().seconds() - begun < ROUND_S {
        all_hear(crowd, channel, content)?;
        messages += 1;
    }
    Ok((messages, crowd.clock().seconds() - begun))
}

/// One message, until all subscribers have it and the sender its acknowledgement.
fn all_hear(crowd: &mut Crowd, channel: u128, content: &str) -> Result<(), BenchError> {
    let due_ns = crowd.clock().now_ns();
    let begun = crowd.clock().seconds();
    let acked = crowd.people.talk.acked_count();
    let ledger = crowd.people.ledger.as_ref();
    let watchers = ledger.map_or(0, |ledger| ledger.watchers(channel));
    let heard = |crowd: &Crowd| crowd.people.talk.heard();
    let all = heard(crowd) + u64::from(watchers);
    crowd.say(Link(0), channel, content, due_ns);
    while heard(crowd) < all || crowd.people.talk.acked_count() == acked {
        crowd.turn(MS).map_err(system("hearing"))?;
        if crowd.clock().seconds() - begun > STALLED_S {
            return Err(BenchError::Stalled {
                missing: all - heard(crowd).min(all),
            });
        }
    }
    Ok(())
}

/// Whether a probe is within the promise that is looked for.
fn is_good(spoken: &Spoken) -> bool {
    spoken.is_clean() && spoken.delivery_latency_us.p99 < highest::P99_US_MAX
}
