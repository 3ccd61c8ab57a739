//! `throng-bench peers`: other servers, measured in the same run, by the same client, on the same
//! machine, at the same work as Throng.
//!
//! It starts every server itself, on a core of its own, and asks nothing of one that is running
//! already. None of the others is a chat server or stores a message before it is delivered; the
//! report says so.
//!
//! Invariants: servers take turns within each benchmark of each round; each benchmark meets a server
//! that was started for it; what is not installed is named, with what installs it.

mod audience;
mod client;
mod dialect;
mod echo;
mod error;
mod findings;
mod idle;
mod inbound;
mod numbers;
mod open;
mod scale;
mod server;
mod subject;
mod table;
mod throng;

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::available_parallelism;

use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::clock::Clock;
use crate::error::BenchError;
use crate::files;
use crate::suite::model::{SUITE_VERSION, SuiteReport, Verdict};
use crate::swarm::options::{pin, places_allowed};
use audience::Audience;
pub use error::PeersError;
use findings::{CLOSED, CONNECT, ECHO, Findings, IDLE, OPEN, PartKind, Round};
use scale::{Scale, Sizes};
use server::{Places, Server};
use subject::{Benchmark, Subject};

/// Other servers beside Throng, at the same work.
#[derive(Args, Debug)]
#[command(
    after_help = "bench/peers/README.md says what the servers are and how to install them; \
    bench/peers/install.sh does it. They listen on loopback, and end with their benchmark.\n\nExit \
    status: 0 when every message that was due came once and in order, 1 when not, 2 when a server \
    that is installed could not be measured, or none is."
)]
pub struct PeersArgs {
    /// Measure only this: a server, or a benchmark; may be given several times.
    #[arg(long, value_parser = Only::parse, value_name = "NAME")]
    only: Vec<Only>,
    /// Rounds [default: 1, 3 or 5, by --scale].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// How much is measured.
    #[arg(long, value_enum, default_value_t = Scale::Standard)]
    scale: Scale,
    /// Where to write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The core of servers [default: 1, where there are two].
    #[arg(long)]
    server_core: Option<usize>,
    /// The core that the generator runs on [default: 0, where there are two].
    #[arg(long)]
    core: Option<usize>,
    /// The folder with the other servers' programs.
    #[arg(long, default_value = "bench/peers")]
    peers: PathBuf,
    /// The `throng` to measure [default: the one beside this program].
    #[arg(long)]
    throng: Option<PathBuf>,
    /// Where servers put their data, in a new folder each [default: the system's for temporary files].
    #[arg(long)]
    data: Option<PathBuf>,
}

/// A server, or a benchmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Only {
    Subject(Subject),
    Benchmark(Benchmark),
}

impl Only {
    fn parse(name: &str) -> Result<Self, String> {
        let subject = Subject::from_str(name, true).map(Self::Subject);
        subject
            .or_else(|_| Benchmark::from_str(name, true).map(Self::Benchmark))
            .map_err(|_| {
                let subjects = Subject::all().iter().map(|subject| subject.name());
                let names: Vec<String> = subjects.collect();
                format!(
                    "one of {}, idle, echo, fanout-closed, fanout-open",
                    names.join(", ")
                )
            })
    }
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &PeersArgs) -> ExitCode {
    match measure(args) {
        Ok((report, failures)) => {
            let is_kept = report
                .parts
                .iter()
                .all(|part| part.verdict == Verdict::Kept);
            let status = files::conclude(&table::Table(&report), args.json.as_deref(), is_kept);
            if is_kept && failures > 0 {
                return ExitCode::from(2);
            }
            status
        }
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// What is to be measured, and where.
struct Run {
    sizes: Sizes,
    scale: Scale,
    places: Places,
    core: Option<usize>,
    subjects: Vec<Subject>,
    benchmarks: Vec<Benchmark>,
}

/// The report, and how many times a server could not be measured that is installed.
fn measure(args: &PeersArgs) -> Result<(SuiteReport, u32), BenchError> {
    let clock = Clock::start();
    let mut run = Run::new(args);
    let mut report = SuiteReport {
        version: SUITE_VERSION,
        tool: "throng-bench peers".to_owned(),
        scale: args.scale.name().to_owned(),
        warnings: WARNINGS.map(str::to_owned).to_vec(),
        ..SuiteReport::default()
    };
    run.leave_out_missing(&mut report.skipped);
    if run.subjects.is_empty() {
        for (name, reason) in &report.skipped {
            eprintln!("{name}: {reason}");
        }
        return Err(PeersError::NoServer.into());
    }
    // Before any server starts, which inherits it.
    places_allowed()?;
    if let Some(core) = run.core {
        pin(core)?;
    }
    let mut findings = Findings::default();
    let mut failures = 0;
    for round in 1..=args.rounds.unwrap_or(run.sizes.rounds) {
        for (benchmark, subject) in run.turns() {
            if !run.subjects.contains(&subject) {
                continue;
            }
            match run.one(subject, benchmark) {
                Ok(rounds) => {
                    for found in rounds {
                        eprintln!("round {round}: {}", found.brief());
                        findings.add(found);
                    }
                }
                Err(error) => {
                    failures += 1;
                    let name = run.give_up(subject, benchmark, &error);
                    eprintln!("round {round}: {name}: {error}");
                    report.skipped.push((name, error.to_string()));
                }
            }
        }
    }
    report.parts = findings.parts();
    report.complete = failures == 0;
    report.took_s = clock.seconds();
    Ok((report, failures))
}

/// What any reader of the figures must know.
const WARNINGS: [&str; 3] = [
    "None of the other servers is a chat server, and none stores a message before it delivers it. \
     throng stores each one and syncs it to disk before; throng-off stores it and never syncs.",
    "A message is 64 bytes for all. Throng's fan-out carries it in a JSON event of some 400 bytes \
     with its id, author, place and time; the others deliver the 64 bytes in a few bytes of their own.",
    "Memory is the resident memory of the server's processes. What the kernel holds for each socket \
     comes on top, much the same for all: some 4.3 KB.",
];

fn benchmark_name(benchmark: Benchmark) -> &'static str {
    match benchmark {
        Benchmark::Idle => IDLE.name,
        Benchmark::Echo => ECHO.name,
        Benchmark::FanoutClosed => CLOSED.name,
        Benchmark::FanoutOpen => OPEN.name,
    }
}

impl Run {
    fn new(args: &PeersArgs) -> Self {
        let has_two = available_parallelism().is_ok_and(|cores| cores.get() >= 2);
        let given = |only: fn(&Only) -> bool| args.only.iter().any(only);
        let some_subject = given(|only| matches!(only, Only::Subject(_)));
        let some_benchmark = given(|only| matches!(only, Only::Benchmark(_)));
        let is_meant = |only| args.only.contains(&only);
        let subjects = Subject::all().iter().copied();
        let benchmarks = Benchmark::all().iter().copied();
        Self {
            sizes: args.scale.sizes(),
            scale: args.scale,
            places: Places {
                peers: args.peers.clone(),
                throng: args.throng.clone(),
                data: args.data.clone(),
                server_core: args.server_core.or(has_two.then_some(1)),
            },
            core: args.core.or(has_two.then_some(0)),
            subjects: subjects
                .filter(|&it| !some_subject || is_meant(Only::Subject(it)))
                .collect(),
            benchmarks: benchmarks
                .filter(|&it| !some_benchmark || is_meant(Only::Benchmark(it)))
                .collect(),
        }
    }

    fn leave_out_missing(&mut self, skipped: &mut Vec<(String, String)>) {
        let places = &self.places;
        self.subjects.retain(|&subject| {
            let missing = places.missing(subject, Benchmark::Idle);
            let is_there = missing.is_none();
            skipped.extend(missing.map(|what| (subject.name(), what)));
            is_there
        });
    }

    /// Something could not be measured: says what. A server that does not start is tried no more.
    fn give_up(&mut self, subject: Subject, benchmark: Benchmark, error: &BenchError) -> String {
        let is_final = matches!(error, BenchError::Peers(error) if error.is_final());
        if is_final {
            self.subjects.retain(|&other| other != subject);
            return subject.name();
        }
        format!("{} of {}", benchmark_name(benchmark), subject.name())
    }

    /// One round: each benchmark of each server.
    fn turns(&self) -> Vec<(Benchmark, Subject)> {
        let mut turns = Vec::new();
        for &benchmark in &self.benchmarks {
            let subjects = self.subjects.iter().copied();
            let takers = subjects.filter(|subject| subject.takes(benchmark));
            turns.extend(takers.map(|subject| (benchmark, subject)));
        }
        turns
    }

    /// One benchmark of one server, which is started for it and stopped.
    fn one(&self, subject: Subject, benchmark: Benchmark) -> Result<Vec<Round>, BenchError> {
        let folder = self.places.folder()?;
        let versions = self.places.versions(subject, benchmark);
        let server = Server::start(&self.places, subject, benchmark, folder)?;
        let round = |kind, report, is_clean| Round {
            kind,
            subject: subject.name(),
            configuration: format!("{}\n{versions}", subject.recipe(benchmark).describe()),
            command: format!(
                "throng-bench peers --scale {} --only {} --only {}",
                self.scale.name(),
                subject.name(),
                benchmark_name(benchmark)
            ),
            is_clean,
            report,
            latency_us: None,
        };
        if subject.is_chat(benchmark) {
            let found = throng::measure(&self.places, self.core, &server, benchmark, &self.sizes)?;
            let kinds = kinds(benchmark).iter();
            let rounds = kinds.map(|&kind| Round {
                command: found.command.clone(),
                ..round(kind, found.report.clone(), found.is_clean)
            });
            return Ok(rounds.collect());
        }
        let (report, latency_us, is_clean) = self.meet(&server, benchmark)?;
        let kinds = kinds(benchmark).iter();
        let rounds = kinds.map(|&kind| Round {
            latency_us: latency_us.clone(),
            ..round(kind, report.clone(), is_clean)
        });
        Ok(rounds.collect())
    }

    /// A benchmark by the client that all but Throng's chat protocol are met with.
    fn meet(&self, server: &Server, benchmark: Benchmark) -> Result<Met, BenchError> {
        let sizes = &self.sizes;
        let size = usize::from(sizes.size);
        Ok(match benchmark {
            Benchmark::Echo => {
                let (connections, duration) = sizes.echo;
                let (round, latency_us) = echo::measure(server, connections, size, duration)?;
                (json(&round), Some(latency_us), round.is_clean())
            }
            Benchmark::Idle => {
                let (connections, hold) = sizes.idle;
                let round = idle::measure(server, connections, size, hold)?;
                (json(&round), None, round.is_clean())
            }
            Benchmark::FanoutClosed => {
                let (subscribers, duration) = sizes.closed;
                let mut audience = Audience::open(server, subscribers, size)?;
                audience.come(subscribers)?;
                audience.closed_times(1)?;
                let said = audience.closed(duration)?;
                let latency_us = audience.latency_us().clone();
                let mut report = json(&said);
                report["subscribers"] = subscribers.into();
                (report, Some(latency_us), said.is_clean())
            }
            Benchmark::FanoutOpen => {
                let (subscribers, probe) = sizes.open;
                let (round, latency_us) = open::measure(server, subscribers, size, probe)?;
                (json(&round), Some(latency_us), round.is_clean())
            }
        })
    }
}

/// A round's report, its latencies, and whether all came as it should.
type Met = (
    serde_json::Value,
    Option<hdrhistogram::Histogram<u64>>,
    bool,
);

/// The parts that a benchmark's round belongs to.
const fn kinds(benchmark: Benchmark) -> &'static [&'static PartKind] {
    match benchmark {
        Benchmark::Idle => &[&IDLE, &CONNECT],
        Benchmark::Echo => &[&ECHO],
        Benchmark::FanoutClosed => &[&CLOSED],
        Benchmark::FanoutOpen => &[&OPEN],
    }
}

fn json(round: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(round).expect("a round has string keys only")
}
