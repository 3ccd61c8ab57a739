//! `throng-bench suite`: all benchmarks, one after the other and that several times, in one report.
//!
//! Every benchmark runs as a process of its own, as anybody would run it, against a server that is
//! started for it on loopback and ended afterwards. Rounds are interleaved: each part runs once,
//! then each a second time, so that a slow minute of the machine does not fall on one part alone.
//!
//! Invariants: Ctrl-C ends what runs, and what was measured by then is the report; the exit status
//! is 0 only when all of it ran and every promise was kept.

mod child;
pub mod compare;
pub(crate) mod exports;
pub mod figures;
pub mod html;
mod label;
pub mod model;
pub mod plan;
mod server;
mod text;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::clock::{Clock, utc_now};
use crate::error::BenchError;
use crate::interrupt::{INTERRUPTED_STATUS, Interrupt};
use crate::machine::Watched;
use crate::program;
use crate::store::Scale;
use child::Run;
use exports::Exports;
use model::{Part, SUITE_VERSION, SuiteReport, Verdict};
use plan::{ServerKind, Step};
use server::{Cores, Server};

/// The git revision of this program, where the build was told it: `make` tells it.
pub const REVISION: &str = match option_env!("BUILD_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

/// Runs every benchmark, several times in turn, and puts all of it into one report.
#[derive(Args, Debug)]
#[command(
    after_help = "It starts servers of its own on loopback (the `throng` beside this program, unless \
    --server names another) and keeps their data in a temporary folder that it removes. `smoke` \
    takes some three minutes and shows that everything works, `standard` some twenty, `full` an hour.\n\n\
    Exit status: 0 when everything ran and every promise was kept, 1 when one was broken, 2 when \
    something could not be run, 130 after Ctrl-C when nothing was broken by then; the report has what \
    was done."
)]
pub struct SuiteArgs {
    /// How much is measured.
    #[arg(long, value_enum, default_value_t = Scale::Standard)]
    scale: Scale,
    /// Only these parts; may be given several times.
    #[arg(long)]
    only: Vec<String>,
    /// How often each part runs [default: 2, 3 or 5, by the scale].
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: Option<u32>,
    /// The server's program [default: `throng` beside this one].
    #[arg(long)]
    server: Option<PathBuf>,
    /// Where servers and stores keep their data, in a new folder below it [default: the current one].
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    exports: Exports,
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &SuiteArgs) -> ExitCode {
    let written = measure(args).and_then(|report| {
        print!("{report}");
        args.exports.write(&report)?;
        Ok(report)
    });
    match written {
        Ok(report) => ExitCode::from(report.exit_status()),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

impl SuiteReport {
    /// 0 when everything ran and every promise was kept, 1 when one was broken, 2 when something
    /// could not be run, 130 when it was ended.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        let has = |verdict| self.parts.iter().any(|part| part.verdict == verdict);
        if has(Verdict::Broken) {
            1
        } else if !self.complete {
            INTERRUPTED_STATUS
        } else if has(Verdict::None) {
            2
        } else {
            0
        }
    }
}

fn measure(args: &SuiteArgs) -> Result<SuiteReport, BenchError> {
    let steps = steps(args)?;
    let rounds = args.rounds.unwrap_or_else(|| plan::rounds(args.scale));
    let parent = args.dir.as_deref().unwrap_or(Path::new("."));
    let folder = server::folder(parent)?;
    let stage = Stage {
        program: program::locate(args.server.as_deref())?,
        folder: folder.path(),
        cores: Cores::of_this_machine(),
        interrupt: Interrupt::listen()?,
    };
    let (clock, started) = (Clock::start(), utc_now());
    let has_server = steps.iter().any(|step| step.server != ServerKind::None);
    let server = has_server.then(|| program::version(&stage.program));
    let watched = Watched::begin(folder.path());
    let mut parts: Vec<Part> = steps.iter().map(Step::part).collect();
    let runs = steps.len() * rounds as usize;
    for number in 0..runs {
        let (step, part) = (
            &steps[number % steps.len()],
            &mut parts[number % steps.len()],
        );
        eprintln!("[{} of {runs}] {}: {}", number + 1, part.name, part.subject);
        stage.run(step, part);
        if stage.interrupt.has_come() {
            break;
        }
    }
    for (step, part) in steps.iter().zip(&mut parts) {
        let troubles = std::mem::take(&mut part.warnings);
        step.wanted.fill(part);
        part.warnings.extend(troubles);
    }
    let mut machine = watched.end();
    machine.cores_used = stage.cores.to_string();
    let complete = !stage.interrupt.has_come();
    parts.retain(|part| complete || !part.rounds.is_empty());
    Ok(SuiteReport {
        version: SUITE_VERSION,
        tool: "throng-bench suite".to_owned(),
        scale: args.scale.to_string(),
        revision: REVISION.to_owned(),
        server: server.unwrap_or_default(),
        started,
        took_s: clock.seconds(),
        complete,
        warnings: machine.warnings(),
        machine,
        parts,
        skipped: Vec::new(),
    })
}

fn steps(args: &SuiteArgs) -> Result<Vec<Step>, BenchError> {
    let mut steps = plan::steps(args.scale);
    let has = |name: &String| steps.iter().any(|step| step.name == name);
    if let Some(unknown) = args.only.iter().find(|name| !has(name)) {
        let mut names: Vec<&str> = steps.iter().map(|step| step.name).collect();
        names.dedup();
        return Err(BenchError::NoSuchPart {
            name: unknown.clone(),
            allowed: names.join(", "),
        });
    }
    steps.retain(|step| args.only.is_empty() || args.only.iter().any(|name| name == step.name));
    Ok(steps)
}

impl Step {
    /// The part that its rounds will fill.
    fn part(&self) -> Part {
        let settings: Vec<String> = self
            .settings
            .iter()
            .map(|(name, value)| format!("{name}={value} "))
            .collect();
        let shards = match self.shards {
            0 => String::new(),
            shards => format!(" --shards {shards}"),
        };
        let configuration = match self.server {
            ServerKind::Serve(_) => format!(
                "{}throng serve{shards}, limits per user lifted",
                settings.concat()
            ),
            ServerKind::Echo => format!("throng echo{shards}"),
            ServerKind::None => "in the benchmark's own process".to_owned(),
        };
        Part {
            name: self.name.to_owned(),
            about: self.about.to_owned(),
            subject: self.subject.to_owned(),
            configuration,
            command: format!("throng-bench {}", self.args.join(" ")),
            verdict: Verdict::Kept,
            ..Part::default()
        }
    }
}

/// What all runs share.
struct Stage<'a> {
    program: PathBuf,
    folder: &'a Path,
    cores: Cores,
    interrupt: Interrupt,
}

impl Stage<'_> {
    /// One round of one step: what it found goes into its part.
    fn run(&self, step: &Step, part: &mut Part) {
        match self.measured(step) {
            Ok(run) => {
                part.verdict = worse(part.verdict, run.verdict);
                if run.verdict != Verdict::Kept && !self.interrupt.has_come() {
                    part.warnings.push(run.how_it_ended());
                }
                part.rounds.extend(run.report);
                part.warnings.extend(run.troubles);
            }
            // No round was made; that the suite was ended says its report.
            Err(_) if self.interrupt.has_come() => {}
            Err(error) => {
                eprintln!("throng-bench: {error}");
                part.verdict = worse(part.verdict, Verdict::None);
                part.warnings.push(error.to_string());
            }
        }
    }

    fn measured(&self, step: &Step) -> Result<Run, BenchError> {
        let server = match step.server {
            ServerKind::Serve(accounts) => Some(Server::serve(self, step, accounts)?),
            ServerKind::Echo => Some(Server::echo(self, step)?),
            ServerKind::None => None,
        };
        let mut args = step.args.clone();
        if let Some(server) = &server {
            args.extend(["--target".to_owned(), server.target.clone()]);
            if let Some(tokens) = &server.tokens {
                args.extend(["--tokens".to_owned(), tokens.display().to_string()]);
            }
            if step.name != "chat" && step.name != "storm" {
                args.extend(["--pid".to_owned(), server.pid().to_string()]);
            }
        } else {
            args.extend(["--dir".to_owned(), self.folder.display().to_string()]);
        }
        if step.is_pinned {
            args.extend(self.cores.generator_args(step.name));
        }
        let mut run = child::run(&args, self.folder, &self.interrupt)?;
        // What the benchmark found stands, also where its server did not end well.
        if let Some(Err(error)) = server.map(Server::stop) {
            run.verdict = worse(run.verdict, Verdict::None);
            run.troubles.push(error.to_string());
        }
        Ok(run)
    }
}

/// The worse of two verdicts.
fn worse(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::Broken, _) | (_, Verdict::Broken) => Verdict::Broken,
        (Verdict::None, _) | (_, Verdict::None) => Verdict::None,
        (Verdict::Kept, Verdict::Kept) => Verdict::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_the_worst_of_all() {
        let check = |verdicts: &[Verdict], complete, expected| {
            let part = |&verdict| Part {
                verdict,
                ..Part::default()
            };
            let report = SuiteReport {
                complete,
                parts: verdicts.iter().map(part).collect(),
                ..SuiteReport::default()
            };
            assert_eq!(report.exit_status(), expected, "{verdicts:?}");
        };
        check(&[Verdict::Kept, Verdict::Kept], true, 0);
        check(&[Verdict::Kept, Verdict::Broken, Verdict::None], true, 1);
        check(&[Verdict::Kept, Verdict::None], true, 2);
        check(&[Verdict::Kept, Verdict::None], false, 130);
        check(&[], true, 0);
    }

    #[test]
    fn parts_say_how_they_were_run() {
        for step in plan::steps(Scale::Smoke) {
            let part = step.part();
            assert!(part.command.starts_with("throng-bench "));
            assert!(!part.configuration.is_empty() && !part.about.is_empty());
        }
    }
}
