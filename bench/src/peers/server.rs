//! A server under test: its processes, on their core, until it is dropped.
//!
//! It never touches a process that it did not start, and no server listens beyond loopback.
//!
//! Invariants: every process is on the server's core from its first instruction on; all of them end
//! with this, by their process ids, and their folder is removed.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::dialect::Dialect;
use super::error::PeersError;
use super::places::Places;
use super::subject::{Benchmark, Subject};
use crate::clock::{Clock, pause};
use crate::error::BenchError;
use crate::files;
use crate::interrupt::Interrupt;
use crate::memory::ProcessUse;
use crate::process::Process;
use crate::program::untouched;
use crate::swarm::options::system;
use crate::target::Target;

/// How long a server may take to listen.
const START_S_MAX: u64 = 30;

/// A running server.
pub(super) struct Server {
    /// Whether measuring is to end.
    interrupt: Interrupt,
    dialect: Dialect,
    target: Target,
    // Ended in the order opposite to their start, before the folder goes.
    processes: Vec<Process>,
    folder: TempDir,
}

impl Server {
    /// Starts it with data in this folder and waits until it listens.
    ///
    /// # Errors
    /// When one of its programs does not start, or does not listen.
    pub(super) fn start(
        places: &Places,
        subject: Subject,
        benchmark: Benchmark,
        folder: TempDir,
    ) -> Result<Self, BenchError> {
        let recipe = subject.recipe(benchmark);
        let ports = Ports::free().map_err(|source| PeersError::Start {
            program: recipe.programs[0].name,
            source,
        })?;
        let fill = |text: &str| ports.fill(text, folder.path(), &places.peers);
        if let Some((name, text)) = recipe.config {
            write(&folder.path().join(name), &fill(text))?;
        }
        let mut server = Self {
            dialect: subject.dialect(),
            target: Target {
                authority: ports.target().to_string(),
                address: ports.target(),
            },
            interrupt: places.interrupt.clone(),
            processes: Vec::new(),
            folder,
        };
        for program in recipe.programs {
            let failed = |source| PeersError::Start {
                program: program.name,
                source,
            };
            let path = places.find(program).ok_or(io::ErrorKind::NotFound);
            let mut command = untouched(&path.map_err(|kind| failed(kind.into()))?);
            let fill = |text: &str| ports.fill(text, server.folder.path(), &places.peers);
            command.args(program.arguments.iter().map(|text| fill(text)));
            command.envs(program.settings.iter().copied());
            let log = server.folder.path().join(format!("{}.log", program.name));
            let started = spawn(&mut command, files::create(&log)?, places.server_core);
            server.processes.push(started.map_err(failed)?);
            let port = if program.port == "{second}" {
                ports.second
            } else {
                ports.server
            };
            server.wait(program.name, port, &log)?;
        }
        Ok(server)
    }

    /// Where it listens.
    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// What it is talked to in.
    pub(super) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The process that clients meet.
    pub(super) fn pid(&self) -> u32 {
        self.processes.last().map_or(0, Process::pid)
    }

    /// Whether measuring is to end.
    pub(super) const fn interrupt(&self) -> &Interrupt {
        &self.interrupt
    }

    /// Its folder.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Processor time of all its processes so far, seconds.
    pub(super) fn cpu_s(&self) -> f64 {
        self.uses().map(|used| used.cpu_s).sum()
    }

    /// Resident memory of all its processes, bytes.
    pub(super) fn resident_bytes(&self) -> i64 {
        self.uses().map(|used| used.resident).sum()
    }

    fn uses(&self) -> impl Iterator<Item = ProcessUse> {
        let pids = self.processes.iter().map(Process::pid);
        pids.filter_map(ProcessUse::of)
    }

    /// Until its newest process listens on this port.
    fn wait(&mut self, program: &'static str, port: u16, log: &Path) -> Result<(), BenchError> {
        let clock = Clock::start();
        let process = self.processes.last_mut();
        let process = process.expect("it was started just now");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        while TcpStream::connect(address).is_err() {
            self.interrupt.check()?;
            if !process.is_running() {
                let log = end_of(log);
                return Err(PeersError::EndedAtOnce { program, log }.into());
            }
            if clock.seconds() > Duration::from_secs(START_S_MAX).as_secs_f64() {
                let seconds = START_S_MAX;
                return Err(PeersError::NotListening { program, seconds }.into());
            }
            pause(Duration::from_millis(20));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        while let Some(process) = self.processes.pop() {
            drop(process);
        }
    }
}

/// Ports that were free a moment ago.
#[derive(Clone, Copy)]
struct Ports {
    server: u16,
    second: u16,
}

impl Ports {
    fn free() -> io::Result<Self> {
        // Both at once, so that they differ.
        let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
        let [server, second] = listeners.map(|listener| Ok(listener?.local_addr()?.port()));
        let (server, second): (io::Result<u16>, io::Result<u16>) = (server, second);
        Ok(Self {
            server: server?,
            second: second?,
        })
    }

    fn target(self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.server))
    }

    fn fill(self, text: &str, data: &Path, peers: &Path) -> String {
        text.replace("{port}", &self.server.to_string())
            .replace("{second}", &self.second.to_string())
            .replace("{data}", &data.display().to_string())
            .replace("{peers}", &peers.display().to_string())
    }
}

/// Starts a program on a core; what it writes goes to a file.
fn spawn(command: &mut Command, output: File, core: Option<usize>) -> io::Result<Process> {
    command.stdout(output.try_clone()?).stderr(output);
    Process::start(command, core)
}

/// Runs a program to its end, on the generator's core; says whether it went well, and the end of
/// what it wrote.
pub(super) fn finish(
    command: &mut Command,
    log: &Path,
    interrupt: &Interrupt,
) -> Result<(Option<i32>, String), BenchError> {
    let process = spawn(command, files::create(log)?, None);
    let status = process.and_then(|process| process.finish(interrupt));
    let status = status.map_err(system("running a measurement"))?;
    interrupt.check()?;
    Ok((status.and_then(|status| status.code()), end_of(log)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that writes servers' settings"
)]
fn write(path: &Path, text: &str) -> Result<(), PeersError> {
    std::fs::write(path, text).map_err(|source| PeersError::Folder {
        path: path.to_owned(),
        source,
    })
}

/// What a program wrote last, or the error in it: a line for people.
fn end_of(log: &Path) -> String {
    let text = files::read_text(log).unwrap_or_default();
    let is_said = |line: &&str| !line.trim().is_empty();
    let mut lines = text.lines().filter(is_said);
    let error = lines.clone().find(|line| line.contains("rror: "));
    let told = error.or_else(|| lines.next_back());
    told.unwrap_or("it wrote nothing").trim().to_owned()
}
