//! What is measured in a run, and one benchmark of one server.
//!
//! It keeps no findings.
//!
//! Invariants: a server is started for one benchmark and stopped behind it; all of them get the
//! same sizes.

use std::thread::available_parallelism;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use super::audience::Audience;
use super::findings::{CLOSED, CONNECT, ECHO, IDLE, OPEN, PartKind, Round};
use super::places::Places;
use super::scale::{Scale, Sizes};
use super::server::Server;
use super::subject::{Benchmark, Subject};
use super::{Only, PeersArgs, echo, idle, open, throng};
use crate::error::BenchError;
use crate::interrupt::Interrupt;
use crate::program;

/// What is to be measured, and where.
pub(super) struct Run {
    pub(super) sizes: Sizes,
    scale: Scale,
    places: Places,
    /// The generator's core.
    pub(super) core: Option<usize>,
    /// Servers that are there, and can be started as far as is known.
    pub(super) subjects: Vec<Subject>,
    benchmarks: Vec<Benchmark>,
}

impl Run {
    /// What the command line says.
    pub(super) fn new(args: &PeersArgs, interrupt: Interrupt) -> Self {
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
                interrupt,
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

    /// Leaves out what is not installed, and says what that is.
    pub(super) fn leave_out_missing(&mut self, skipped: &mut Vec<(String, String)>) {
        let places = &self.places;
        self.subjects.retain(|&subject| {
            let missing = places.missing(subject, Benchmark::Idle);
            let is_there = missing.is_none();
            skipped.extend(missing.map(|what| (subject.name(), what)));
            is_there
        });
    }

    /// Whether Ctrl-C or SIGTERM came.
    pub(super) fn is_interrupted(&self) -> bool {
        self.places.interrupt.has_come()
    }

    /// What Throng says about its version, where it is measured.
    pub(super) fn throng_version(&self) -> String {
        let is_throng = |&subject: &Subject| subject.is_chat(Benchmark::Idle);
        let is_measured = self.subjects.iter().any(is_throng);
        let path = self.places.throng().filter(|_| is_measured);
        path.map_or_else(String::new, |path| program::version(&path))
    }

    /// Something could not be measured: says what. A server that does not start is tried no more.
    pub(super) fn give_up(
        &mut self,
        subject: Subject,
        benchmark: Benchmark,
        error: &BenchError,
    ) -> String {
        let is_final = matches!(error, BenchError::Peers(error) if error.is_final());
        if is_final {
            self.subjects.retain(|&other| other != subject);
            return subject.name();
        }
        format!("{} of {}", benchmark_name(benchmark), subject.name())
    }

    /// Which core is whose.
    pub(super) fn cores_used(&self) -> String {
        let name =
            |core: Option<usize>| core.map_or("any core".to_owned(), |n| format!("core {n}"));
        let (servers, own) = (name(self.places.server_core), name(self.core));
        format!("servers on {servers}, the generator on {own}")
    }

    /// One round: each benchmark of each server.
    pub(super) fn turns(&self) -> Vec<(Benchmark, Subject)> {
        let mut turns = Vec::new();
        for &benchmark in &self.benchmarks {
            let subjects = self.subjects.iter().copied();
            let takers = subjects.filter(|subject| subject.takes(benchmark));
            turns.extend(takers.map(|subject| (benchmark, subject)));
        }
        turns
    }

    /// One benchmark of one server, which is started for it and stopped.
    pub(super) fn one(
        &self,
        subject: Subject,
        benchmark: Benchmark,
    ) -> Result<Vec<Round>, BenchError> {
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
                let outcome = audience.closed(duration)?;
                let latency_us = audience.latency_us().clone();
                let mut report = json(&outcome);
                report["subscribers"] = subscribers.into();
                (report, Some(latency_us), outcome.is_clean())
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
type Met = (Value, Option<Histogram<u64>>, bool);

/// The parts that a benchmark's round belongs to.
const fn kinds(benchmark: Benchmark) -> &'static [&'static PartKind] {
    match benchmark {
        Benchmark::Idle => &[&IDLE, &CONNECT],
        Benchmark::Echo => &[&ECHO],
        Benchmark::FanoutClosed => &[&CLOSED],
        Benchmark::FanoutOpen => &[&OPEN],
    }
}

fn json(round: &impl Serialize) -> Value {
    serde_json::to_value(round).expect("a round has string keys only")
}

fn benchmark_name(benchmark: Benchmark) -> &'static str {
    match benchmark {
        Benchmark::Idle => IDLE.name,
        Benchmark::Echo => ECHO.name,
        Benchmark::FanoutClosed => CLOSED.name,
        Benchmark::FanoutOpen => OPEN.name,
    }
}
