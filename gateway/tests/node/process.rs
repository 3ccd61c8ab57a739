//! Processes of the binary: started, heard, stopped, killed.
//!
//! It never ends a process by anything but its own id, and inherits no `THRONG_*` variable.
//!
//! Invariants: a process ends with the value that holds it; each wait is at most [`PATIENCE`].

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest that anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// Small, so that a test writes megabytes where a server writes gigabytes.
const SEGMENT_BYTES: &str = "4194304";

/// What a process is to be started with.
pub(crate) struct Launch {
    args: Vec<OsString>,
    variables: Vec<(String, String)>,
    directory: Option<PathBuf>,
}

/// A process, its output and its end.
pub(crate) struct Process {
    child: Child,
    lines: Receiver<String>,
    errors: File,
}

/// A process that serves.
pub(crate) struct Server {
    /// Where.
    pub(crate) address: SocketAddr,
    process: Process,
}

/// How a process ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its status; `None` when a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote to stderr.
    pub(crate) errors: String,
}

impl Launch {
    /// The binary with these arguments.
    pub(crate) fn new<A: Into<OsString>>(args: impl IntoIterator<Item = A>) -> Self {
        let args = args.into_iter().map(Into::into).collect();
        Self {
            args,
            variables: Vec::new(),
            directory: None,
        }
    }

    /// `throng serve` on a free port with two shards, and no limit on what users do how often,
    /// however little memory others leave.
    pub(crate) fn serve(data: &Path) -> Self {
        Self::new(["serve", "--listen", "127.0.0.1:0", "--data"])
            .arg(data)
            .set("SHARDS", "2")
            .set("DRAIN_S", "1")
            .set("MEMORY_RESERVE_BYTES", "1")
            .set("STORE__SEGMENT_BYTES", SEGMENT_BYTES)
            .set("LIMITS__MESSAGE__COUNT", "0")
            .set("LIMITS__IDENTIFY__COUNT", "0")
            .set("LIMITS__REGISTER__COUNT", "0")
            .set("LIMITS__CHANNEL_CREATE__COUNT", "0")
    }

    /// One more argument.
    pub(crate) fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// A variable, without its `THRONG_`; the last word on a name counts.
    pub(crate) fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.variables
            .push((format!("THRONG_{name}"), value.to_string()));
        self
    }

    /// Starts it in this directory.
    pub(crate) fn within(mut self, directory: &Path) -> Self {
        self.directory = Some(directory.to_owned());
        self
    }

    /// Starts the process.
    pub(crate) fn spawn(&self) -> Process {
        let errors = tempfile::tempfile().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_throng"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("THRONG_")) {
            command.env_remove(name);
        }
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        let mut child = command
            .args(&self.args)
            .envs(self.variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors.try_clone().unwrap())
            .spawn()
            .unwrap();
        let (said, lines) = channel();
        let out = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = said.send(line); // Whoever wanted to know may have gone.
            }
        });
        Process {
            child,
            lines,
            errors,
        }
    }

    /// Starts a server and waits until it serves.
    pub(crate) fn start(&self) -> Server {
        let mut process = self.spawn();
        let line = process.line();
        let address = line.strip_prefix("listening on http://").expect(&line);
        Server {
            address: address.parse().unwrap(),
            process,
        }
    }

    /// Runs the process to its own end.
    pub(crate) fn run(&self) -> Ended {
        let mut process = self.spawn();
        drop(process.child.stdin.take());
        process.ended()
    }
}

impl Process {
    /// The next line of its output.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("no line came"),
            Err(RecvTimeoutError::Disconnected) => panic!("ended early: {:?}", self.ended()),
        }
    }

    /// The next line that holds this text; those before it are dropped.
    pub(crate) fn line_with(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Its standard input.
    pub(crate) fn input(&mut self) -> &mut Option<ChildStdin> {
        &mut self.child.stdin
    }

    /// SIGTERM.
    pub(crate) fn terminate(&self) {
        let id = Pid::from_child(&self.child);
        kill_process(id, Signal::TERM).unwrap();
    }

    /// Waits until it has ended.
    pub(crate) fn ended(&mut self) -> Ended {
        let code = self.wait().code();
        let errors = self.errors();
        assert!(!errors.contains('\x1b'), "colours are for terminals");
        Ended { code, errors }
    }

    fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            let waited = began.elapsed();
            assert!(waited < PATIENCE, "it does not end: {}", self.errors());
            thread::sleep(Duration::from_millis(5));
        }
    }

    fn errors(&self) -> String {
        // The process writes where its own offset says, which this leaves alone.
        let length = self.errors.metadata().unwrap().len();
        let mut text = vec![0; usize::try_from(length).unwrap()];
        self.errors.read_exact_at(&mut text, 0).unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Server {
    /// SIGTERM, without waiting for the end.
    pub(crate) fn terminate(&self) {
        self.process.terminate();
    }

    /// Waits for the end, which must be an orderly one.
    pub(crate) fn ends_well(mut self) {
        let ended = self.process.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
    }

    /// SIGTERM and an orderly end.
    pub(crate) fn stop(self) {
        self.terminate();
        self.ends_well();
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub(crate) fn kill(mut self) {
        self.process.child.kill().unwrap();
        let code = self.process.wait().code();
        let errors = self.process.errors();
        assert_eq!(code, None, "it ended before it was killed: {errors}");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- stderr of a server ---\n{}---", self.errors());
        }
    }
}
