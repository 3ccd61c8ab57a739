//! One engine's process, as its parent sees it.
//!
//! Nothing is asked of a process before it has answered what was asked last.
//!
//! Invariants: the process ends with its handle, whatever it is doing.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Serialize;

use super::engine::EngineName;
use super::error::StoreBenchError;
use super::order::{Answer, Appended, Memory, Order, PageKind, Pages, Settled, Setup};
use crate::clock::Clock;

/// How long appends go on before the process is killed among them.
const KILLED_AFTER: Duration = Duration::from_millis(300);

/// A running engine.
pub(super) struct Process {
    engine: EngineName,
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Process {
    /// Starts the engine's process and waits until the store is open. Says how long it took, from
    /// opening to the first page, in milliseconds.
    pub(super) fn start(engine: EngineName, setup: &Setup) -> Result<(Self, f64), StoreBenchError> {
        let started = spawn(engine).and_then(|mut child| {
            let orders = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let answers = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
            Ok((child, orders, BufReader::new(answers)))
        });
        let doing = "starting its process";
        let (child, orders, answers) = started.map_err(|source| StoreBenchError::Process {
            engine,
            doing,
            source,
        })?;
        let mut process = Self {
            engine,
            child,
            orders,
            answers,
        };
        process.say("opening", setup)?;
        match process.hear("opening")? {
            Answer::Opened { first_page_ns } => Ok((process, ms(first_page_ns))),
            _ => Err(process.out_of_step("opening")),
        }
    }

    pub(super) fn append(
        &mut self,
        messages: u64,
        batch: usize,
    ) -> Result<Appended, StoreBenchError> {
        match self.ask("appending", &Order::Append { messages, batch })? {
            Answer::Appended(appended) => Ok(appended),
            _ => Err(self.out_of_step("appending")),
        }
    }

    pub(super) fn settle(&mut self) -> Result<Settled, StoreBenchError> {
        match self.ask("settling", &Order::Settle)? {
            Answer::Settled(settled) => Ok(settled),
            _ => Err(self.out_of_step("settling")),
        }
    }

    pub(super) fn pages(
        &mut self,
        kind: PageKind,
        from: usize,
        count: usize,
    ) -> Result<Pages, StoreBenchError> {
        match self.ask("reading pages", &Order::Pages { kind, from, count })? {
            Answer::Pages(pages) => Ok(pages),
            _ => Err(self.out_of_step("reading pages")),
        }
    }

    pub(super) fn memory(&mut self) -> Result<Memory, StoreBenchError> {
        match self.ask("counting memory", &Order::Memory)? {
            Answer::Memory(memory) => Ok(memory),
            _ => Err(self.out_of_step("counting memory")),
        }
    }

    /// Closes the store in order.
    pub(super) fn close(mut self) -> Result<(), StoreBenchError> {
        match self.ask("closing", &Order::Close)? {
            Answer::Closed { .. } => {
                self.child
                    .wait()
                    .map(|_| ())
                    .map_err(|source| StoreBenchError::Process {
                        engine: self.engine,
                        doing: "closing",
                        source,
                    })
            }
            _ => Err(self.out_of_step("closing")),
        }
    }

    /// Kills the process among appends. Returns how many messages of the stream it had
    /// acknowledged by then.
    pub(super) fn kill_while_appending(mut self, batch: usize) -> Result<u64, StoreBenchError> {
        let doing = "being killed";
        self.say(doing, &Order::AppendUntilKilled { batch })?;
        let clock = Clock::start();
        let mut acked;
        loop {
            match self.hear(doing)? {
                Answer::Acked { stored } => acked = stored,
                _ => return Err(self.out_of_step(doing)),
            }
            if clock.seconds() >= KILLED_AFTER.as_secs_f64() {
                break;
            }
        }
        self.kill().map_err(|source| self.failed(doing, source))?;
        let mut line = String::new();
        while matches!(self.answers.read_line(&mut line), Ok(1..)) {
            if let Ok(Answer::Acked { stored }) = serde_json::from_str(&line) {
                acked = stored;
            }
            line.clear();
        }
        Ok(acked)
    }

    fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    fn ask(&mut self, doing: &'static str, order: &Order) -> Result<Answer, StoreBenchError> {
        self.say(doing, order)?;
        self.hear(doing)
    }

    fn say(&mut self, doing: &'static str, what: &impl Serialize) -> Result<(), StoreBenchError> {
        let mut line = serde_json::to_vec(what).expect("orders are plain data");
        line.push(b'\n');
        let said = self.orders.write_all(&line);
        said.map_err(|source| self.failed(doing, source))
    }

    fn hear(&mut self, doing: &'static str) -> Result<Answer, StoreBenchError> {
        let mut line = String::new();
        let heard = self.answers.read_line(&mut line);
        let bytes = heard.map_err(|source| self.failed(doing, source))?;
        if bytes == 0 {
            return Err(self.failed(doing, io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_str(&line) {
            Ok(Answer::Failed { error }) => Err(StoreBenchError::Engine {
                engine: self.engine,
                doing,
                error: error.into(),
            }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.failed(doing, error.into())),
        }
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> StoreBenchError {
        StoreBenchError::Process {
            engine: self.engine,
            doing,
            source,
        }
    }

    fn out_of_step(&self, doing: &'static str) -> StoreBenchError {
        self.failed(doing, io::ErrorKind::InvalidData.into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A process that has ended already cannot be killed, and need not be.
        let _ = self.kill();
    }
}

fn spawn(engine: EngineName) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["store-engine", engine.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
}

fn ms(ns: u64) -> f64 {
    (ns as f64 / 1e4).round() / 100.0
}
