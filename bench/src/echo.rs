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
use crate::clock::Clock;
use crate::error::BenchError;
use crate::fanout::median;
use crate::files;
use crate::memory::ProcessUse;
use crate::report::Latency;
use crate::swarm::links::Receiving;
use crate::swarm::options::{pin, swarm_links, system};
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
    pub server_cpu_us_per_message: f64,
    /// The same of the minimal echo.
    pub raw_ring_cpu_us_per_message: f64,
    /// The first by the second, median of the pairs of rounds.
    pub ratio: f64,
    /// Messages a second of the minimal echo.
    pub raw_ring_messages_per_s: f64,
    /// Echoes of the server.
    pub messages: u64,
    /// Echoes that were not what was sent.
    pub wrong: u64,
    /// Connections that ended.
    pub ended: u64,
    /// Each pair of rounds: microseconds a message of the server, of the minimal echo.
    pub rounds: Vec<[f64; 2]>,
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
    /// Of each round: messages a second, microseconds of processor time a message.
    rounds: Vec<[f64; 2]>,
}

impl Side {
    fn open(args: &EchoArgs, target: &Target, pid: Option<u32>) -> Result<Self, BenchError> {
        let links = swarm_links(target, args.connections, args.recv, None)?;
        let client = EchoClient::open(Clock::start(), links, &target.authority, args.size);
        let mut client = client.map_err(system("opening the client"))?;
        client.connect().map_err(system("connecting"))?;
        client.round(WARM_UP).map_err(system("an echo round"))?;
        client.restart_latencies();
        let rounds = Vec::new();
        Ok(Self {
            client,
            pid,
            rounds,
        })
    }

    fn round(&mut self) -> Result<(), BenchError> {
        let cpu_s = |pid: Option<u32>| pid.and_then(ProcessUse::of).map_or(0.0, |now| now.cpu_s);
        let before_s = cpu_s(self.pid);
        let round = self.client.round(ROUND).map_err(system("an echo round"))?;
        let used_us = (cpu_s(self.pid) - before_s) * 1e6;
        let messages = crate::swarm::speech::rate(round.messages.max(1), 1.0);
        self.rounds
            .push([messages / round.seconds, used_us / messages]);
        Ok(())
    }

    fn median(&self, of: usize) -> f64 {
        median(self.rounds.iter().map(|round| round[of]))
    }
}

fn measure(args: &EchoArgs) -> Result<EchoReport, BenchError> {
    let target = Target::resolve(&args.target)?;
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
    while clock.seconds() < args.duration.as_secs_f64() {
        server.round()?;
        if let Some(yardstick) = &mut yardstick {
            yardstick.round()?;
        }
    }
    let raw_of = |of| yardstick.as_ref().map_or(0.0, |side| side.median(of));
    let other = yardstick.iter().flat_map(|side| &side.rounds);
    let pairs = server.rounds.iter().zip(other);
    let rounds: Vec<[f64; 2]> = pairs.map(|(own, raw)| [own[1], raw[1]]).collect();
    Ok(EchoReport {
        connections: args.connections,
        size: args.size,
        messages_per_s: server.median(0),
        latency_us: Latency::from(server.client.latency_us()),
        server_cpu_us_per_message: server.median(1),
        raw_ring_cpu_us_per_message: raw_of(1),
        raw_ring_messages_per_s: raw_of(0),
        ratio: median(rounds.iter().map(|round| round[0] / round[1].max(1e-9))),
        messages: server.client.messages(),
        wrong: server.client.wrong(),
        ended: server.client.ended(),
        rounds,
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
            "{} connections, {} B: {:.0} messages/s, server CPU {:.2} us a message",
            self.connections, self.size, self.messages_per_s, self.server_cpu_us_per_message
        )?;
        let latency = &self.latency_us;
        writeln!(
            f,
            "latency us: p50 {} p99 {} p99.9 {} max {}",
            latency.p50, latency.p99, latency.p999, latency.max
        )?;
        if !self.rounds.is_empty() {
            writeln!(
                f,
                "minimal echo: {:.0} messages/s, CPU {:.2} us a message; ratio {:.3}",
                self.raw_ring_messages_per_s, self.raw_ring_cpu_us_per_message, self.ratio
            )?;
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
