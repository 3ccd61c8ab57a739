//! One benchmark as a process of its own.
//!
//! It passes on what the benchmark says on standard error, its progress, and throws its table away:
//! the report is read as JSON.
//!
//! Invariants: when the suite is ended the process is, too; no report is made up for one that wrote
//! none.

use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::model::Verdict;
use super::server::end_with_us;
use crate::clock::pause;
use crate::error::BenchError;
use crate::files;
use crate::swarm::options::system;

/// How often it is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What a benchmark brought.
pub(super) struct Run {
    pub(super) verdict: Verdict,
    pub(super) status: ExitStatus,
    /// Its report, if it wrote one.
    pub(super) report: Option<Value>,
    /// What went wrong around it.
    pub(super) troubles: Vec<String>,
}

/// Runs this program with these arguments.
pub(super) fn run(args: &[String], folder: &Path, ended: &AtomicBool) -> Result<Run, BenchError> {
    let json = folder.join("report.json");
    // What an earlier one has left.
    let _ = std::fs::remove_file(&json);
    let own = std::env::current_exe().map_err(system("looking for this program"))?;
    let mut command = Command::new(own);
    command
        .args(args)
        .arg("--json")
        .arg(&json)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    let mut child = end_with_us(&mut command)
        .spawn()
        .map_err(system("starting a benchmark"))?;
    let status = loop {
        if let Some(status) = child
            .try_wait()
            .map_err(system("waiting for a benchmark"))?
        {
            break status;
        }
        if ended.load(Ordering::Relaxed) {
            let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            break child.wait().map_err(system("waiting for a benchmark"))?;
        }
        pause(LOOK);
    };
    let report = files::read_report(&json).ok();
    Ok(Run {
        verdict: match (status.code(), &report) {
            (Some(0), Some(_)) => Verdict::Kept,
            (Some(1), Some(_)) => Verdict::Broken,
            _ => Verdict::None,
        },
        status,
        report,
        troubles: Vec::new(),
    })
}
