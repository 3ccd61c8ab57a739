//! `throng-bench storm`: all clients lose their connections at once and come back.
//!
//! The operator restarts the server, or `--drop` cuts all but a few speakers, who talk on. It
//! starts and stops no server and signals no process.
//!
//! Invariants: clients come back when the server says so (Retry-After, RECONNECT, ERROR), resume
//! where they were, and what was acknowledged meanwhile is due to them.

use std::collections::BTreeMap;
use std::fmt;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::chat::parse_duration;
use crate::error::BenchError;
use crate::files;
use crate::loopback::LoopbackLosses;
use crate::progress::Progress;
use crate::report::Latency;
use crate::swarm::crowd::Crowd;
use crate::swarm::hold;
use crate::swarm::links::Link;
use crate::swarm::options::{Ending, SwarmOptions, system};
use crate::swarm::people::Phase;
use crate::swarm::speech::{Speech, Spoken, drain, everyone, lost, speak, text};

const MS: u64 = 1_000_000;
/// With `--drop`, one client in so many keeps its connection and talks.
const SPEAKERS: u32 = 100;

/// Cuts everybody's connection and sees them come back, with everything they missed.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 when all came back and nothing was lost, 1 when not, 2 when the \
    run could not be made."
)]
pub struct StormArgs {
    #[command(flatten)]
    swarm: SwarmOptions,
    /// Clients.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=100_000_000))]
    connections: u32,
    /// Connections begun per second, the first time.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Connections begun per second when they come back [default: as fast as they can].
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    return_rate: u32,
    /// Messages a second of the speakers, before, meanwhile and after.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    message_rate: u32,
    /// Cuts the connections from this side; without it, waits for the server to go and come back.
    #[arg(long)]
    drop: bool,
    /// How long the server may take to go, and all clients to come back.
    #[arg(long, default_value = "5m", value_parser = parse_duration)]
    return_timeout: Duration,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

/// The report of `throng-bench storm`.
#[derive(Clone, Default, Debug, Serialize)]
pub struct StormReport {
    /// Clients.
    pub connections: u32,
    /// From the first connection that was made again until all were live, seconds.
    pub reconnect_s: f64,
    /// Acknowledged messages that did not reach a subscriber, before, meanwhile or after.
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
    /// From the cut until the first connection was made again, seconds.
    pub outage_s: f64,
    /// Clients that lost their connection.
    pub cut: u64,
    /// Acknowledged messages that were sent while clients were away.
    pub acked_meanwhile: u64,
    /// Messages whose connection went before their answer came.
    pub unanswered: u64,
    /// Subscriptions that were told to fetch anew instead.
    pub resyncs: u64,
    /// From dial to live, of those who came back.
    pub handshake_latency_us: Latency,
    /// The messages afterwards.
    pub after: Spoken,
    /// Attempts that ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Errors of the server, by code.
    pub errors: BTreeMap<&'static str, u64>,
    /// What the kernel dropped meanwhile.
    #[serde(flatten)]
    pub losses: LoopbackLosses,
}

impl StormReport {
    /// Whether all came back and nothing was lost.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.unasked == 0
            && self.doubled == 0
            && self.misplaced == 0
            && self.after.is_clean()
            && self.resyncs == 0
            && self.cut > 0
    }
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &StormArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => files::conclude(&report, args.swarm.json.as_deref(), report.is_clean()),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

const fn speaks(link: Link) -> bool {
    link.0.is_multiple_of(SPEAKERS)
}

fn measure(args: &StormArgs) -> Result<StormReport, BenchError> {
    let mut crowd = args
        .swarm
        .crowd(args.connections, args.rate, Ending::Resume)?;
    crowd.people.keep_ledger();
    let losses = LoopbackLosses::now();
    hold::come(&mut crowd, args.connections, args.swarm.connect_timeout)?;
    let shared = everyone(&crowd, args.connections);
    let talk = |crowd: &mut Crowd| {
        let speech = Speech {
            rate: args.message_rate,
            duration: Duration::from_secs(1),
            size: args.size,
        };
        speak(crowd, speech, |crowd, number| {
            choose(crowd, args.connections, shared, number)
        })
    };
    talk(&mut crowd)?;
    let mut report = StormReport {
        connections: args.connections,
        ..StormReport::default()
    };
    crowd.hurry(args.return_rate);
    crowd.restart_handshakes();
    let acked = crowd.people.talk.acked_count();
    come_back(args, &mut crowd, shared, &mut report)?;
    drain(&mut crowd)?;
    report.unanswered = crowd.people.talk.abandon();
    report.acked_meanwhile = crowd.people.talk.acked_count() - acked;
    report.after = talk(&mut crowd)?;
    conclude(&crowd, &mut report);
    report.losses = losses.until_now();
    Ok(report)
}

/// A speaker and one of its channels; a small one, where it has one.
fn choose(crowd: &Crowd, clients: u32, shared: Option<u128>, number: u64) -> (Link, u128) {
    let speakers = u64::from(clients.div_ceil(SPEAKERS));
    let speaker = u32::try_from(number % speakers).expect("fewer speakers than clients");
    let link = Link(speaker * SPEAKERS);
    let ledger = crowd.people.ledger.as_ref().expect("kept for this");
    let channels: Vec<u128> = ledger.watched(link).map(|(id, _)| id).collect();
    let small = channels.iter().copied().find(|&id| Some(id) != shared);
    (link, small.or(channels.first().copied()).unwrap_or(0))
}

/// Until everybody was cut and is live again. Speakers that are live talk all the time.
fn come_back(
    args: &StormArgs,
    crowd: &mut Crowd,
    shared: Option<u128>,
    report: &mut StormReport,
) -> Result<(), BenchError> {
    let begun_s = crowd.clock().seconds();
    let mut cut_s = None;
    let mut up_s = None;
    if args.drop {
        let before = crowd.live();
        crowd.part(|link| !speaks(link));
        report.cut = before - crowd.live();
        cut_s = Some(crowd.clock().seconds());
    } else {
        eprintln!("all are live: restart the server now");
    }
    let all = u64::from(args.connections);
    let made = crowd.people.tally.handshakes;
    let progress = Progress::new("coming back", args.connections as usize);
    let mut said = 0_u32;
    loop {
        crowd.turn(MS).map_err(system("coming back"))?;
        let now_s = crowd.clock().seconds();
        progress.set(crowd.live());
        if cut_s.is_none() && crowd.live() < all {
            cut_s = Some(now_s);
        }
        if !args.drop {
            report.cut = report.cut.max(all - crowd.live());
        }
        if cut_s.is_some() && up_s.is_none() && crowd.people.tally.handshakes > made {
            up_s = Some(now_s);
        }
        let back = crowd.people.tally.handshakes - made;
        if let (Some(cut_s), Some(up_s)) = (cut_s, up_s)
            && crowd.live() == all
            && back >= report.cut
        {
            report.outage_s = up_s - cut_s;
            report.reconnect_s = now_s - up_s;
            return Ok(());
        }
        if now_s - begun_s > args.return_timeout.as_secs_f64() {
            return Err(hold::not_all_live(crowd, args.connections));
        }
        if let Some(since_s) = cut_s {
            let due = (now_s - since_s) * f64::from(args.message_rate);
            if (f64::from(said)) < due {
                let (link, channel) = choose(crowd, args.connections, shared, u64::from(said));
                said += 1;
                if crowd.people.phase(link) == Phase::Live {
                    let now_ns = crowd.clock().now_ns();
                    crowd.say(link, channel, &text(args.size), now_ns);
                }
            }
        }
    }
}

fn conclude(crowd: &Crowd, report: &mut StormReport) {
    report.lost = lost(crowd);
    if let Some(ledger) = &crowd.people.ledger {
        let counts = ledger.counts();
        report.duplicated = counts.duplicated;
        report.out_of_order = counts.out_of_order;
        report.unasked = counts.unasked;
    }
    report.doubled = crowd.people.talk.doubled();
    report.misplaced = crowd.people.talk.misplaced();
    let tally = &crowd.people.tally;
    report.resyncs = tally.resyncs;
    report.handshake_latency_us = Latency::from(crowd.handshake_us());
    report.ended = tally.ended.clone();
    report.errors = tally.errors.clone();
}

impl fmt::Display for StormReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} of {} clients cut, away {:.2} s, all back {:.2} s after the first",
            self.cut, self.connections, self.outage_s, self.reconnect_s
        )?;
        let latency = &self.handshake_latency_us;
        writeln!(
            f,
            "handshake us: p50 {} p99 {} max {}; {} messages acknowledged meanwhile, {} never answered",
            latency.p50, latency.p99, latency.max, self.acked_meanwhile, self.unanswered
        )?;
        writeln!(
            f,
            "lost {}, duplicated {}, out of order {}, unasked {}, at two places {}, astray {}, told to fetch anew {}",
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.unasked,
            self.doubled,
            self.misplaced,
            self.resyncs
        )?;
        write!(f, "{}\nafterwards: {}", self.losses, self.after)?;
        for (reason, count) in &self.ended {
            writeln!(f, "ended: {count} {reason}")?;
        }
        for (code, count) in &self.errors {
            writeln!(f, "error: {count} {code}")?;
        }
        Ok(())
    }
}
