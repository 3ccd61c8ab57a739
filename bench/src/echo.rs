//! `throng-bench echo`: what one message costs a server, beside the least that it can cost.
//!
//! Every connection has one message on its way at any time. The server takes turns with a minimal
//! io_uring echo of our own, in a process of its own, with the same client.
//!
//! Invariants: both servers' connections are open all the time, and only one is sent to at a time;
//! processor time is that of the server's process, as the kernel counts it.

mod client;
pub mod raw;

use std::fmt;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::chat::parse_duration;
use crate::clock::{Clock, thread_cpu};
use crate::error::BenchError;
use crate::fanout::median;
use crate::files;
use crate::loopback::LoopbackLosses;
use crate::memory::ProcessUse;
use crate::progress::TimedProgress;
use crate::report::Latency;
use crate::swarm::links::{LinkSettings, Receiving};
use crate::swarm::options::{pin, swarm_links, system};
use crate::swarm::speech::float;
use crate::target::Target;
use client::EchoClient;

/// A round of one server.
const ROUND: Duration = Duration::from_secs(1);
/// What each server gets before it is measured.
const WARM_UP: Duration = Duration::from_millis(500);

/// A closed loop of echoes over many connections, beside the least that an echo can cost.
#[derive(Args, Debug)]
#[command(
    after_help = "The server is `throng echo` or any other that echoes WebSocket messages. Give it \
    one core, the one that --raw-core names, and the generator another.\n\nExit status: 0 when \
    every message came back, 1 when not, 2 when the run could not be made."
)]
pub struct EchoArgs {
    /// The server, http://ADDR:PORT, over IPv4.
    #[arg(long)]
    target: String,
    /// Connections, one message each on its way.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    /// Bytes of a message.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4_000))]
    size: u16,
    /// Both servers together.
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    duration: Duration,
    /// The server's process, for its processor time.
    #[arg(long)]
    pid: Option<u32>,
    /// Measures the server alone.
    #[arg(long)]
    no_raw: bool,
    /// The core of the minimal echo.
    #[arg(long, default_value_t = 0)]
    raw_core: usize,
    /// The core that the generator runs on.
    #[arg(long)]
    core: Option<usize>,
    /// How the generator receives.
    #[arg(long, value_enum, default_value_t = Receiving::Multishot)]
    recv: Receiving,
    /// Where to write the report as JSON.
    #[arg(long)]
    json: Option<std::path::PathBuf>,
}

/// The report of `throng-bench echo`.
#[derive(Clone, Default, Debug, Serialize)]
pub struct EchoReport {
    /// Connections, one message each on its way.
    pub connections: u32,
    /// Bytes of a message.
    pub size: u16,
    /// Messages a second of the server, median of the rounds.
    pub messages_per_s: f64,
    /// From sending a message to its echo.
    pub latency_us: Latency,
    /// Processor time of the server a message, microseconds, median of the rounds.
    /// Absent without --pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_message: Option<f64>,
    /// The same of the minimal echo; absent with --no-raw, like its rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_ring_cpu_us_per_message: Option<f64>,
    /// The first by the second, median of the pairs of rounds; absent where one of them is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Messages a second of the minimal echo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_ring_messages_per_s: Option<f64>,
    /// Processor time of the generator in the server's rounds, percent of one core.
    pub generator_cpu_percent: f64,
    /// The server's in its own, percent of one core. Absent without --pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_percent_of_core: Option<f64>,
    /// Echoes of the server.
    pub messages: u64,
    /// Echoes that were not what was sent.
    pub wrong: u64,
    /// Connections that ended.
    pub ended: u64,
    /// Each pair of rounds: microseconds a message of the server, of the minimal echo.
    pub rounds: Vec<[f64; 2]>,
    /// What the kernel dropped meanwhile.
    #[serde(flatten)]
    pub losses: LoopbackLosses,
}

impl EchoReport {
    /// Whether every message came back.
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.wrong == 0 && self.ended == 0 && self.messages > 0
    }
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &EchoArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => files::conclude(&report, args.json.as_deref(), report.is_clean()),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// A server under test, with its client.
struct Side {
    client: EchoClient,
    pid: Option<u32>,
    /// Of each round: messages a second.
    rates: Vec<f64>,
    /// Of each round: microseconds of processor time a message, where the process is known.
    cpu_us: Vec<f64>,
    /// Of each round: processor time of the generator, percent of one core.
    own_percent: Vec<f64>,
}

impl Side {
    fn open(args: &EchoArgs, target: &Target, pid: Option<u32>) -> Result<Self, BenchError> {
        let links = LinkSettings {
            is_abortive: true,
            ..swarm_links(target, args.connections, args.recv, None)?
        };
        let client = EchoClient::open(Clock::start(), links, &target.authority, args.size);
        let mut client = client.map_err(system("opening the client"))?;
        client.connect().map_err(system("connecting"))?;
        client.round(WARM_UP).map_err(system("an echo round"))?;
        client.restart_latencies();
        Ok(Self {
            client,
            pid,
            rates: Vec::new(),
            cpu_us: Vec::new(),
            own_percent: Vec::new(),
        })
    }

    /// Processor time of the server's process in its rounds, percent of one core.
    fn busy_percent(&self) -> Option<f64> {
        let rounds = self.rates.iter().zip(&self.cpu_us);
        median(rounds.map(|(per_s, cpu_us)| per_s * cpu_us / 1e4))
    }

    fn round(&mut self) -> Result<(), BenchError> {
        let pid = self.pid;
        let cpu_s = || pid.and_then(ProcessUse::of).map(|now| now.cpu_s);
        let before_s = cpu_s();
        let own_before = thread_cpu();
        let round = self.client.round(ROUND).map_err(system("an echo round"))?;
        let used_s = cpu_s()
            .zip(before_s)
            .map(|(after_s, before_s)| after_s - before_s);
        let messages = float(round.messages.max(1));
        let own_s = thread_cpu().saturating_sub(own_before).as_secs_f64();
        self.own_percent.push(100.0 * own_s / round.seconds);
        self.rates.push(messages / round.seconds);
        self.cpu_us
            .extend(used_s.map(|used_s| used_s * 1e6 / messages));
        Ok(())
    }
}

fn measure(args: &EchoArgs) -> Result<EchoReport, BenchError> {
    let target = Target::resolve(&args.target)?;
    let losses = LoopbackLosses::now();
    let raw = if args.no_raw {
        None
    } else {
        Some(RawEcho::start(args.raw_core)?)
    };
    if let Some(core) = args.core {
        pin(core)?;
    }
    let mut server = Side::open(args, &target, args.pid)?;
    let mut yardstick = match &raw {
        Some(raw) => Some(Side::open(args, &raw.target, Some(raw.child.id()))?),
        None => None,
    };
    let clock = Clock::start();
    let mut progress = TimedProgress::new("echo", "messages", args.duration);
    while clock.seconds() < args.duration.as_secs_f64() {
        server.round()?;
        let per_s = server.rates.last().copied();
        progress.rate(clock.seconds(), per_s.unwrap_or(0.0));
        if let Some(yardstick) = &mut yardstick {
            yardstick.round()?;
        }
    }
    drop(progress);
    let raw_cpu_us = yardstick
        .iter()
        .flat_map(|side| side.cpu_us.iter().copied());
    let pairs = server.cpu_us.iter().copied().zip(raw_cpu_us.clone());
    let rounds: Vec<[f64; 2]> = pairs.map(|(own, raw)| [own, raw]).collect();
    let raw_rates = yardstick.iter().flat_map(|side| side.rates.iter().copied());
    Ok(EchoReport {
        connections: args.connections,
        size: args.size,
        messages_per_s: median(server.rates.iter().copied()).unwrap_or(0.0),
        latency_us: Latency::from(server.client.latency_us()),
        server_cpu_us_per_message: median(server.cpu_us.iter().copied()),
        raw_ring_cpu_us_per_message: median(raw_cpu_us),
        raw_ring_messages_per_s: median(raw_rates),
        generator_cpu_percent: median(server.own_percent.iter().copied()).unwrap_or(0.0),
        server_cpu_percent_of_core: server.busy_percent(),
        ratio: median(rounds.iter().map(|round| round[0] / round[1].max(1e-9))),
        messages: server.client.messages(),
        wrong: server.client.wrong(),
        ended: server.client.ended(),
        rounds,
        losses: losses.until_now(),
    })
}

/// The minimal echo's process, which ends with this.
struct RawEcho {
    child: Child,
    target: Target,
}

impl RawEcho {
    fn start(core: usize) -> Result<Self, BenchError> {
        let started = std::env::current_exe().and_then(|own| {
            let mut child = Command::new(own)
                .args(["raw-echo", "--listen", "127.0.0.1:0", "--core"])
                .arg(core.to_string())
                .stdout(Stdio::piped())
                .spawn()?;
            let stdout = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line)?;
            Ok((child, line))
        });
        let (child, line) = started.map_err(system("starting the minimal echo"))?;
        let address = line.trim().trim_start_matches("listening on ");
        let target = Target::resolve(address)?;
        Ok(Self { child, target })
    }
}

impl Drop for RawEcho {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for EchoReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} connections, {} B: {:.0} messages/s; {}",
            self.connections, self.size, self.messages_per_s, self.losses
        )?;
        let latency = &self.latency_us;
        writeln!(
            f,
            "latency us: p50 {} p99 {} p99.9 {} max {}",
            latency.p50, latency.p99, latency.p999, latency.max
        )?;
        if let Some(cpu_us) = self.server_cpu_us_per_message {
            writeln!(f, "server CPU: {cpu_us:.2} us a message")?;
        }
        if let (Some(per_s), Some(cpu_us)) = (
            self.raw_ring_messages_per_s,
            self.raw_ring_cpu_us_per_message,
        ) {
            writeln!(
                f,
                "minimal echo: {per_s:.0} messages/s, CPU {cpu_us:.2} us a message"
            )?;
        }
        if let Some(ratio) = self.ratio {
            writeln!(f, "ratio {ratio:.3}")?;
        }
        if !self.is_clean() {
            writeln!(
                f,
                "NOT CLEAN: {} echoes, {} wrong, {} connections ended",
                self.messages, self.wrong, self.ended
            )?;
        }
        Ok(())
    }
}
