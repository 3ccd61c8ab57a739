//! `throng-bench peers`: other servers, measured in the same run, by the same client, on the same
//! machine, at the same work as Throng.
//!
//! It starts every server itself, on a core of its own, and asks nothing of one that is running
//! already. None of the others is a chat server or stores a message before it is delivered; the
//! report says so.
//!
//! Invariants: servers take turns within each benchmark of each round; each benchmark meets a server
//! that was started for it; what is not installed is named, with what installs it.

mod error;
mod places;
mod recipes;
mod run;
mod scale;
mod server;
mod subject;

mod client;
mod dialect;
mod inbound;
mod person;

mod audience;
mod ear;
mod echo;
mod idle;
mod numbers;
mod open;
mod throng;

mod findings;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::clock::{Clock, utc_now};
use crate::error::BenchError;
use crate::interrupt::{INTERRUPTED_STATUS, Interrupt};
use crate::machine::Watched;
use crate::suite::REVISION;
use crate::suite::exports::Exports;
use crate::suite::model::{SUITE_VERSION, SuiteReport, Verdict};
use crate::swarm::options::{pin, places_allowed};
pub use error::PeersError;
use findings::Findings;
use run::Run;
use scale::Scale;
use subject::{Benchmark, Subject};

/// Other servers beside Throng, at the same work.
#[derive(Args, Debug)]
#[command(
    after_help = "bench/peers/README.md says what the servers are and how to install them; \
    bench/peers/install.sh does it. They listen on loopback, and end with their benchmark.\n\nExit \
    status: 0 when every message that was due came once and in order, 1 when not, 2 when a server \
    that is installed could not be measured, or none is, 130 after Ctrl-C, with what was measured by then."
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
    #[command(flatten)]
    exports: Exports,
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
            print!("{}", table::Table(&report));
            if let Err(error) = args.exports.write(&report) {
                eprintln!("throng-bench: {error}");
                return ExitCode::from(2);
            }
            match (is_kept, report.complete, failures) {
                (false, ..) => ExitCode::from(1),
                (true, false, 0) => ExitCode::from(INTERRUPTED_STATUS),
                (true, _, 1..) => ExitCode::from(2),
                (true, true, 0) => ExitCode::SUCCESS,
            }
        }
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// The report, and how many times a server could not be measured that is installed.
fn measure(args: &PeersArgs) -> Result<(SuiteReport, u32), BenchError> {
    let clock = Clock::start();
    let mut run = Run::new(args, Interrupt::listen()?);
    let mut report = SuiteReport {
        version: SUITE_VERSION,
        tool: "throng-bench peers".to_owned(),
        scale: args.scale.name().to_owned(),
        revision: REVISION.to_owned(),
        started: utc_now(),
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
    report.server = run.throng_version();
    let temporary = std::env::temp_dir();
    let watched = Watched::begin(args.data.as_deref().unwrap_or(&temporary));
    let mut findings = Findings::default();
    let mut failures = 0;
    'rounds: for round in 1..=args.rounds.unwrap_or(run.sizes.rounds) {
        for (benchmark, subject) in run.turns() {
            if run.is_interrupted() {
                break 'rounds;
            }
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
                Err(_) if run.is_interrupted() => break 'rounds,
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
    report.complete = failures == 0 && !run.is_interrupted();
    report.machine = watched.end();
    report.machine.cores_used = run.cores_used();
    report.warnings.extend(report.machine.warnings());
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
