//! Servers of a suite: started on loopback for one benchmark, ended after it.
//!
//! It never touches a process that it did not start. The configuration lifts limits only, unless a
//! step says otherwise: what is measured is the server that is shipped.
//!
//! Invariants: a server ends with its value, and with this process however that ends; its data is
//! removed, unless this process is killed.

use std::fmt;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::thread::{CpuSet, sched_getaffinity};
use tempfile::TempDir;

use super::Stage;
use super::plan::Step;
use crate::clock::Clock;
use crate::error::BenchError;
use crate::interrupt::Interrupt;
use crate::process::{END_S_MAX, Process};
use crate::program::{Accounts, LIMITS, untouched};
use crate::swarm::options::system;

/// How long a server may take until it says where it listens, seconds.
const START_S_MAX: f64 = 60.0;
/// How often it is looked whether there is time to wait for that.
const LOOK: Duration = Duration::from_millis(100);
const STARTING: &str = "starting the server";
/// How many people of an account's circle talk to each other.
const CIRCLE: u32 = 4;

/// A new folder for what a suite writes, removed when it is dropped.
pub(super) fn folder(parent: &Path) -> Result<TempDir, BenchError> {
    let named = |source| BenchError::File {
        path: parent.to_owned(),
        source,
    };
    fs::create_dir_all(parent).map_err(named)?;
    tempfile::Builder::new()
        .prefix("throng-bench-suite-")
        .tempdir_in(parent)
        .map_err(named)
}

/// Which core is whose where both get one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Cores {
    /// One core: both share it.
    Shared,
    /// The server's, the generator's.
    Apart(usize, usize),
}

impl Cores {
    pub(super) fn of_this_machine() -> Self {
        let allowed = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
        let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
        match (cores.next(), cores.next()) {
            (Some(own), Some(server)) => Self::Apart(server, own),
            _ => Self::Shared,
        }
    }

    const fn server(self) -> Option<usize> {
        match self {
            Self::Shared => None,
            Self::Apart(server, _) => Some(server),
        }
    }

    /// What the generator is told of it.
    pub(super) fn generator_args(self, name: &str) -> Vec<String> {
        let Self::Apart(server, own) = self else {
            return Vec::new();
        };
        let mut args = vec!["--core".to_owned(), own.to_string()];
        // The yardsticks run where the server does.
        match name {
            "echo" => args.extend(["--raw-core".to_owned(), server.to_string()]),
            "fanout-closed" => args.extend(["--bare-core".to_owned(), server.to_string()]),
            _ => {}
        }
        args
    }
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared => write!(f, "server and generator share all"),
            Self::Apart(server, own) => write!(
                f,
                "echo and fan-out: server on core {server}, generator on core {own}; others share all"
            ),
        }
    }
}

/// A server that runs.
pub(super) struct Server {
    process: Process,
    pub(super) target: String,
    pub(super) tokens: Option<PathBuf>,
    _data: TempDir,
}

impl Server {
    /// `throng serve` with so many accounts, who share a channel and have circles of four.
    pub(super) fn serve(stage: &Stage<'_>, step: &Step, accounts: u32) -> Result<Self, BenchError> {
        let data = folder(stage.folder)?;
        let [tokens, config, kept] =
            ["tokens", "limits.toml", "kept"].map(|name| data.path().join(name));
        #[expect(
            clippy::disallowed_methods,
            reason = "this is the edge that prepares a server"
        )]
        fs::write(&config, LIMITS).map_err(|source| BenchError::File {
            path: config.clone(),
            source,
        })?;
        fs::create_dir(&kept).map_err(system(STARTING))?;
        Accounts {
            count: accounts,
            circles: Some(CIRCLE),
            data: &kept,
            tokens: &tokens,
        }
        .seed(&stage.program, &stage.interrupt)?;
        let mut command = untouched(&stage.program);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(config)
            .arg("--data")
            .arg(&kept)
            .envs(step.settings.iter().copied());
        if step.shards > 0 {
            command.args(["--shards", &step.shards.to_string()]);
        }
        Self::start(command, stage, step, data, Some(tokens))
    }

    /// `throng echo`.
    pub(super) fn echo(stage: &Stage<'_>, step: &Step) -> Result<Self, BenchError> {
        let mut command = untouched(&stage.program);
        command.args(["echo", "--listen", "127.0.0.1:0"]);
        command.args(["--shards", &step.shards.max(1).to_string()]);
        Self::start(command, stage, step, folder(stage.folder)?, None)
    }

    fn start(
        mut command: Command,
        stage: &Stage<'_>,
        step: &Step,
        data: TempDir,
        tokens: Option<PathBuf>,
    ) -> Result<Self, BenchError> {
        let core = stage.cores.server().filter(|_| step.is_pinned);
        command.env("THRONG_LOG", "error").stdout(Stdio::piped());
        let process = Process::start(&mut command, core).map_err(system(STARTING))?;
        let mut server = Self {
            process,
            target: String::new(),
            tokens,
            _data: data,
        };
        let said = server.first_line(&stage.interrupt);
        let said = said.map_err(system(STARTING))?;
        stage.interrupt.check()?;
        let Some(target) = said.trim().strip_prefix("listening on ") else {
            return Err(BenchError::NoAddress { said });
        };
        server.target = target.to_owned();
        Ok(server)
    }

    /// What it says first; nothing when it says nothing for too long, or there is no time.
    fn first_line(&mut self, interrupt: &Interrupt) -> std::io::Result<String> {
        let mut line = String::new();
        let Some(stdout) = self.process.take_stdout() else {
            return Ok(line);
        };
        let clock = Clock::start();
        let look = Timespec::try_from(LOOK).ok();
        while clock.seconds() < START_S_MAX && !interrupt.has_come() {
            match poll(&mut [PollFd::new(&stdout, PollFlags::IN)], look.as_ref()) {
                // A signal, perhaps the one that ends the suite.
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => {
                    BufReader::new(stdout).read_line(&mut line)?;
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(line)
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// SIGTERM; the exit status must be 0.
    pub(super) fn stop(self) -> Result<(), BenchError> {
        let doing = "ending the server";
        match self.process.end().map_err(system(doing))? {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(BenchError::ServerEnded {
                doing,
                status,
                said: String::new(),
            }),
            None => Err(BenchError::ServerStays { seconds: END_S_MAX }),
        }
    }
}
