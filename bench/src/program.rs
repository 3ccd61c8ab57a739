//! The server's program: how every run calls `throng`.
//!
//! It measures nothing and keeps nothing running.
//!
//! Invariants: what is measured is what the report says: no setting that is meant for another server
//! reaches one that is started here.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::BenchError;
use crate::swarm::options::system;

/// The limits that would stop one generator that plays thousands of people.
pub(crate) const LIMITS: &str = include_str!("../../perf/bench.toml");

/// Where it is: as it was named, or beside this program.
///
/// # Errors
/// When there is none.
pub(crate) fn locate(named: Option<&Path>) -> Result<PathBuf, BenchError> {
    let beside = || std::env::current_exe().map(|own| own.with_file_name("throng"));
    let path = match named {
        Some(path) => path.to_owned(),
        None => beside().unwrap_or_else(|_| "throng".into()),
    };
    match fs::metadata(&path) {
        Ok(_) => Ok(path),
        Err(source) => Err(BenchError::NoServer { path, source }),
    }
}

/// A program without this one's `THRONG_` variables, which Ctrl-C on the terminal does not reach.
pub(crate) fn untouched(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.process_group(0);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with("THRONG_")) {
        command.env_remove(name);
    }
    command
}

/// What it says about its version, with the revision it was built from; empty when it does not say.
pub(crate) fn version(program: &Path) -> String {
    let output = untouched(program).arg("--version").output();
    output.map_or_else(
        |_| String::new(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}

/// Makes accounts in a store that does not run: all share the channel `lobby`, and have circles of so
/// many where there are circles. Their tokens go to a file.
///
/// # Errors
/// When the program does not start, or does not end well.
pub(crate) fn seed(
    program: &Path,
    accounts: u32,
    circles: Option<u32>,
    data: &Path,
    tokens: &Path,
) -> Result<(), BenchError> {
    let mut command = untouched(program);
    command
        .args(["admin", "seed-users", "--everyone", "lobby"])
        .args(["--count", &accounts.to_string()]);
    if let Some(size) = circles {
        command.args(["--circles", &size.to_string()]);
    }
    command.arg("--data").arg(data).arg("--out").arg(tokens);
    let doing = "making accounts";
    let seeded = command.output().map_err(system(doing))?;
    if seeded.status.success() {
        return Ok(());
    }
    Err(BenchError::ServerEnded {
        doing,
        status: seeded.status,
        said: String::from_utf8_lossy(&seeded.stderr).trim().to_owned(),
    })
}
