//! The server's program: how every run calls `throng`.
//!
//! It measures nothing and keeps nothing running.
//!
//! Invariants: what is measured is what the report says: no setting that is meant for another server
//! reaches one that is started here.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::BenchError;
use crate::files;
use crate::interrupt::Interrupt;
use crate::process::{END_S_MAX, Process};
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
        Ok(facts) if !facts.is_dir() => Ok(path),
        Ok(_) => Err(BenchError::NoServer {
            path,
            source: ErrorKind::IsADirectory.into(),
        }),
        Err(source) => Err(BenchError::NoServer { path, source }),
    }
}

/// A program without this one's `THRONG_` variables.
pub(crate) fn untouched(program: &Path) -> Command {
    let mut command = Command::new(program);
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

/// Accounts to be made in a store that does not run.
pub(crate) struct Accounts<'a> {
    /// How many. All share the channel `lobby`.
    pub(crate) count: u32,
    /// Have circles of so many, each with channels of its own.
    pub(crate) circles: Option<u32>,
    /// The store's folder.
    pub(crate) data: &'a Path,
    /// Where their tokens go, one a line; what the program says goes beside it.
    pub(crate) tokens: &'a Path,
}

impl Accounts<'_> {
    /// Makes them.
    ///
    /// # Errors
    /// When the program does not start, or does not end well, or is interrupted.
    pub(crate) fn seed(&self, program: &Path, interrupt: &Interrupt) -> Result<(), BenchError> {
        let mut command = untouched(program);
        command
            .args(["admin", "seed-users", "--everyone", "lobby"])
            .args(["--count", &self.count.to_string()]);
        if let Some(size) = self.circles {
            command.args(["--circles", &size.to_string()]);
        }
        command.arg("--data").arg(self.data);
        command.arg("--out").arg(self.tokens);
        let doing = "making accounts";
        let log = self.tokens.with_extension("log");
        command.stdout(Stdio::null()).stderr(files::create(&log)?);
        let process = Process::start(&mut command, None).map_err(system(doing))?;
        let ended = process.finish(interrupt).map_err(system(doing))?;
        interrupt.check()?;
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(BenchError::ServerEnded {
                doing,
                status,
                said: files::read_text(&log).unwrap_or_default().trim().to_owned(),
            }),
            None => Err(BenchError::ServerStays { seconds: END_S_MAX }),
        }
    }
}
