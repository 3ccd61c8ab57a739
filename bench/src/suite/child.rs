//! One benchmark as a process of its own.
//!
//! It passes on what the benchmark says on standard error, its progress, and throws its table away:
//! the report is read as JSON.
//!
//! Invariants: when the suite is ended the process is, too; no report is made up for one that wrote
//! none.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use serde_json::Value;

use super::model::Verdict;
use crate::error::BenchError;
use crate::files;
use crate::interrupt::Interrupt;
use crate::process::Process;
use crate::swarm::options::system;

/// What a benchmark brought.
pub(super) struct Run {
    pub(super) verdict: Verdict,
    /// None when it had to be killed.
    pub(super) status: Option<ExitStatus>,
    /// Its report, if it wrote one.
    pub(super) report: Option<Value>,
    /// What went wrong around it.
    pub(super) troubles: Vec<String>,
}

impl Run {
    /// For people.
    pub(super) fn how_it_ended(&self) -> String {
        match self.status {
            Some(status) => format!("a round ended with {status}"),
            None => "a round did not end and was killed".to_owned(),
        }
    }
}

/// Runs this program with these arguments.
pub(super) fn run(
    args: &[String],
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Run, BenchError> {
    let json = folder.join("report.json");
    // What an earlier one has left.
    let _ = std::fs::remove_file(&json);
    let own = std::env::current_exe().map_err(system("looking for this program"))?;
    let mut command = Command::new(own);
    command.args(args).arg("--json").arg(&json);
    command.stdout(Stdio::null());
    let process = Process::start(&mut command, None).map_err(system("starting a benchmark"))?;
    let status = process
        .finish(interrupt)
        .map_err(system("waiting for a benchmark"))?;
    let report = files::read_report(&json).ok();
    Ok(Run {
        verdict: match (status.and_then(|status| status.code()), &report) {
            (Some(0), Some(_)) => Verdict::Kept,
            (Some(1), Some(_)) => Verdict::Broken,
            _ => Verdict::None,
        },
        status,
        report,
        troubles: Vec::new(),
    })
}
