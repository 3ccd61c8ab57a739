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
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use super::Stage;
use super::plan::Step;
use crate::clock::pause;
use crate::error::BenchError;

/// The limits that would stop one generator that plays thousands of people.
const LIMITS: &str = include_str!("../../../perf/bench.toml");
/// How long a server may take until it says where it listens.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a server has to end after SIGTERM, in steps.
const END_STEPS: u32 = 600;
const END_STEP: Duration = Duration::from_millis(50);

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

/// The server's program: the one that was named, or the one beside this program.
pub(super) fn program(named: Option<&Path>) -> Result<PathBuf, BenchError> {
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
    child: Child,
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
        fs::create_dir(&kept).map_err(starting)?;
        let mut seed = untouched(&stage.program);
        seed.args(["admin", "seed-users", "--everyone", "lobby"])
            .args(["--circles", "4", "--count", &accounts.to_string()])
            .arg("--data")
            .arg(&kept)
            .arg("--out")
            .arg(&tokens);
        let seeded = seed.output().map_err(starting)?;
        if !seeded.status.success() {
            let said = String::from_utf8_lossy(&seeded.stderr);
            return Err(BenchError::ServerEnded {
                doing: "making accounts",
                status: format!("{}: {}", seeded.status, said.trim()),
            });
        }
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
        let child = command
            .env("THRONG_LOG", "error")
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut server = Self {
            child: end_with_us(child).spawn().map_err(starting)?,
            target: String::new(),
            tokens,
            _data: data,
        };
        let said = server.first_line().map_err(starting)?;
        let Some(target) = said.trim().strip_prefix("listening on ") else {
            return Err(BenchError::ServerEnded {
                doing: "starting",
                status: format!("no address but {said:?}"),
            });
        };
        server.target = target.to_owned();
        if let Some(core) = stage.cores.server().filter(|_| step.is_pinned) {
            keep_on(server.pid(), core).map_err(starting)?;
        }
        Ok(server)
    }

    /// What it says first; nothing when it says nothing for too long.
    fn first_line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if let Some(stdout) = self.child.stdout.take() {
            let patience = Timespec::try_from(START_MAX).ok();
            let said = poll(
                &mut [PollFd::new(&stdout, PollFlags::IN)],
                patience.as_ref(),
            )?;
            if said > 0 {
                BufReader::new(stdout).read_line(&mut line)?;
            }
        }
        Ok(line)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGTERM; the exit status must be 0.
    pub(super) fn stop(mut self) -> Result<(), BenchError> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // One that has ended by itself says so by its status.
            let _ = kill_process(pid, Signal::TERM);
        }
        for _ in 0..END_STEPS {
            if let Some(status) = self.child.try_wait().map_err(starting)? {
                return match status.success() {
                    true => Ok(()),
                    false => Err(BenchError::ServerEnded {
                        doing: "ending",
                        status: status.to_string(),
                    }),
                };
            }
            pause(END_STEP);
        }
        Err(BenchError::ServerEnded {
            doing: "ending",
            status: "not at all within 30 s".to_owned(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's program without the settings that are meant for another server: what is measured is
/// what the report says.
fn untouched(program: &Path) -> Command {
    let mut command = Command::new(program);
    let names = std::env::vars_os().map(|(name, _)| name);
    for name in names.filter(|name| name.to_string_lossy().starts_with("THRONG_")) {
        command.env_remove(name);
    }
    command
}

/// The process ends when this one does, however that ends.
#[expect(
    unsafe_code,
    reason = "what a child does before its program has no safe interface"
)]
pub(super) fn end_with_us(command: &mut Command) -> &mut Command {
    let ask = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
    // SAFETY: between fork and exec only one system call is made: nothing is allocated or locked.
    unsafe { command.pre_exec(ask) }
}

/// Keeps all threads of a process on one core.
fn keep_on(pid: u32, core: usize) -> std::io::Result<()> {
    let mut set = CpuSet::new();
    set.set(core);
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let name = task?.file_name();
        let id = name.to_str().and_then(|name| name.parse().ok());
        if let Some(id) = id.and_then(Pid::from_raw) {
            match sched_setaffinity(Some(id), &set) {
                // A thread that has ended meanwhile.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

fn starting(source: std::io::Error) -> BenchError {
    BenchError::System {
        doing: "running the server",
        source,
    }
}
