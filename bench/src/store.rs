//! `throng-bench store`: the message store by itself, beside other engines and beside what the
//! device can do at all.
//!
//! It never calls a figure good or bad without the figures that it was measured beside.
//!
//! Invariants: every engine is given the same messages and the same durability, each commit
//! synced; each runs in a process of its own; what a run has written is removed when it ends.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use tempfile::TempDir;

use crate::error::BenchError;
use crate::files;
use crate::machine;
use crate::progress::Progress;

mod pool;
mod workload;

mod engine;
mod indexer;
#[cfg(any(feature = "fjall", feature = "rocksdb", feature = "sqlite"))]
mod others;
mod raw;
mod throng;

mod child;
mod order;
mod process_facts;
mod samples;

mod figures;
mod long;
mod measure;
mod place;
mod process;
mod raw_json;
mod report;
mod scale;

mod error;

pub use engine::EngineName;
pub use error::StoreBenchError;
pub use scale::Scale;

use long::{Long, LongReport};

use measure::Stage;
use report::{EngineReport, Options, REPORT_VERSION, Report};
use scale::{Aim, Scenario};

/// Measures the message store beside other engines, in a folder of its own.
#[derive(Args, Debug)]
#[command(
    after_help = "Built with `--features engines` it measures RocksDB, fjall and SQLite too. The \
    folder must be on a disk, not on tmpfs; what is written there is removed at the end.\n\nExit \
    status: 0 when every page was what had been stored, 1 when one was not or a long scenario \
    missed its limit, 2 when the run could not be made."
)]
pub struct StoreArgs {
    /// How much is measured.
    #[arg(long, value_enum, default_value_t = Scale::Standard)]
    scale: Scale,
    /// Measure only this: a part, or an engine; may be given several times.
    #[arg(long, value_enum)]
    only: Vec<Only>,
    /// Where to put the stores [default: the current folder].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Where to write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Text for the messages: JSON lines {"lang", "topic", "turns": [text, ...]}; made up without it.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Same seed, same messages.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Cache of each engine, in MiB.
    #[arg(long, default_value_t = 64)]
    cache_mib: u16,
    /// Messages of a long scenario, instead of 100 and 10 million (a hundredth below --scale full).
    #[arg(long, value_parser = clap::value_parser!(u64).range(10_000..=1_000_000_000))]
    messages: Option<u64>,
}

/// A part of the measurements, or an engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Only {
    /// Appends, pages of one day, recovery.
    Append,
    /// Pages of three years, sparse channels.
    History,
    /// One day of 100 million messages, Throng alone.
    MillionDay,
    /// 400 days of 10 million messages, Throng alone.
    Years,
    Throng,
    Raw,
    Rocksdb,
    Fjall,
    Sqlite,
}

impl Only {
    const fn engine(self) -> Option<EngineName> {
        match self {
            Self::Throng => Some(EngineName::Throng),
            Self::Raw => Some(EngineName::Raw),
            Self::Rocksdb => Some(EngineName::Rocksdb),
            Self::Fjall => Some(EngineName::Fjall),
            Self::Sqlite => Some(EngineName::Sqlite),
            Self::Append | Self::History | Self::MillionDay | Self::Years => None,
        }
    }
}

/// What the process of one engine is told on its command line.
#[derive(Args, Debug)]
pub struct EngineArgs {
    /// Which.
    #[arg(value_enum)]
    engine: EngineName,
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &StoreArgs) -> ExitCode {
    let measured = measure(args).and_then(|report| {
        print!("{report}");
        if let Some(path) = &args.json {
            files::write_json(path, &report)?;
        }
        Ok(report)
    });
    match measured {
        Ok(report) if report.is_sound() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::from(1),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs one engine, told what to do on standard input.
#[must_use]
pub fn serve(args: &EngineArgs) -> ExitCode {
    match child::serve(args.engine) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throng-bench, {}: {error}", args.engine);
            ExitCode::from(2)
        }
    }
}

fn measure(args: &StoreArgs) -> Result<Report, BenchError> {
    let mut engines = engines(args)?;
    let folder = folder(args.dir.as_deref())?;
    let limits = args.scale.limits(args.cache_mib);
    let scenarios = scenarios(args);
    let long = long_scenarios(args);
    if scenarios.is_empty() {
        engines.retain(|&engine| engine == EngineName::Throng);
    }
    let machine = machine::facts(folder.path());
    let steps: usize = scenarios.iter().map(|s| s.steps() * engines.len()).sum();
    let progress = Progress::new(
        "measuring",
        steps + long.iter().map(Long::steps).sum::<usize>(),
    );
    let stage = Stage {
        root: folder.path(),
        engines: &engines,
        limits,
        corpus: args.corpus.as_deref(),
        progress: &progress,
    };
    let mut reports: BTreeMap<EngineName, EngineReport> = engines
        .iter()
        .map(|&engine| (engine, EngineReport::new(engine.settings(limits))))
        .collect();
    for scenario in &scenarios {
        for (engine, figures) in stage.run(scenario)? {
            reports.entry(engine).or_default().take(scenario, figures);
        }
    }
    let long: Vec<LongReport> = long
        .iter()
        .map(|long| long.run(&stage))
        .collect::<Result<_, _>>()?;
    drop(progress);
    Ok(Report {
        version: REPORT_VERSION,
        options: options(args, &scenarios),
        machine,
        engines: reports,
        long,
    })
}

fn options(args: &StoreArgs, scenarios: &[Scenario]) -> Options {
    Options {
        scale: args.scale,
        seed: args.seed,
        corpus: args.corpus.as_ref().map(|path| path.display().to_string()),
        cache_mib: args.cache_mib,
        channels: scenarios.first().map_or(0, |s| s.shape.channels),
        rounds: scenarios.first().map_or(0, |s| s.rounds),
        cold: "store reopened, page cache dropped by posix_fadvise(POSIX_FADV_DONTNEED)",
    }
}

/// The engines that were asked for; all that are built in, unless some are named.
fn engines(args: &StoreArgs) -> Result<Vec<EngineName>, StoreBenchError> {
    let named: Vec<EngineName> = args.only.iter().filter_map(|only| only.engine()).collect();
    let mut engines: Vec<EngineName> = EngineName::ALL.into();
    if named.is_empty() {
        engines.retain(|engine| engine.is_built());
    } else {
        engines.retain(|engine| named.contains(engine));
    }
    match engines.iter().find(|engine| !engine.is_built()) {
        Some(&engine) => Err(StoreBenchError::NotBuilt { engine }),
        None => Ok(engines),
    }
}

/// Whether a part was asked for; those of the comparison are unless other parts are named.
fn wants(args: &StoreArgs, part: Only) -> bool {
    let mut parts = args.only.iter().filter(|only| only.engine().is_none());
    let is_default = matches!(part, Only::Append | Only::History);
    match parts.clone().next() {
        None => is_default || args.scale == Scale::Full,
        Some(_) => parts.any(|&only| only == part),
    }
}

fn scenarios(args: &StoreArgs) -> Vec<Scenario> {
    let mut scenarios = Vec::new();
    if wants(args, Only::Append) {
        scenarios = args.scale.days(args.seed);
        scenarios.sort_by_key(|scenario| scenario.aim == Aim::Bodies);
    }
    if wants(args, Only::History) {
        scenarios.push(args.scale.history(args.seed));
    }
    scenarios
}

fn long_scenarios(args: &StoreArgs) -> Vec<Long> {
    let sized = |long: fn(u64, u64) -> Long, whole: u64| {
        let fewer = if args.scale == Scale::Full {
            whole
        } else {
            whole / 100
        };
        long(args.seed, args.messages.unwrap_or(fewer))
    };
    let mut scenarios = Vec::new();
    if wants(args, Only::MillionDay) {
        scenarios.push(sized(Long::million_day, long::DAY_MESSAGES));
    }
    if wants(args, Only::Years) {
        scenarios.push(sized(Long::years, long::YEARS_MESSAGES));
    }
    scenarios
}

/// A new folder for the stores, on a disk.
fn folder(parent: Option<&Path>) -> Result<TempDir, BenchError> {
    let parent = parent.unwrap_or(Path::new("."));
    let named = |source| BenchError::File {
        path: parent.to_owned(),
        source,
    };
    fs::create_dir_all(parent).map_err(named)?;
    if place::is_tmpfs(parent).map_err(named)? {
        let path = parent.to_owned();
        return Err(StoreBenchError::NoDevice { path }.into());
    }
    tempfile::Builder::new()
        .prefix("throng-bench-store-")
        .tempdir_in(parent)
        .map_err(named)
}
