//! One scenario with several engines in step: each round, every engine does its part in turn, so
//! that all meet the same noise.
//!
//! It never compares figures of different rounds.
//!
//! Invariants: an engine works alone, the others wait for orders; each engine's process is its
//! own, and each step begins where the last one ended.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::engine::{EngineName, Limits};
use super::error::StoreBenchError;
use super::figures::{Figures, Rounds};
use super::order::{Appended, PageKind, Pages, Setup};
use super::place::{disk_bytes, drop_page_cache};
use super::process::Process;
use super::samples::Samples;
use super::scale::{Aim, Scenario};
use crate::progress::Progress;

/// Most turns in which the pages of one kind are read.
const PAGE_TURNS: usize = 5;

/// What stays the same in all scenarios of a run.
pub(super) struct Stage<'a> {
    pub(super) root: &'a Path,
    pub(super) engines: &'a [EngineName],
    pub(super) limits: Limits,
    pub(super) corpus: Option<&'a Path>,
    pub(super) progress: &'a Progress,
}

/// One engine's store and what it came to so far.
struct Runner {
    engine: EngineName,
    setup: Setup,
    process: Option<Process>,
    /// Messages a second, by round.
    rates: Vec<f64>,
    commits: Samples,
    body_bytes: u64,
    settled_ns: u64,
    figures: Figures,
}

impl Stage<'_> {
    /// Runs a scenario and removes what it stored.
    pub(super) fn run(
        &self,
        scenario: &Scenario,
    ) -> Result<BTreeMap<EngineName, Figures>, StoreBenchError> {
        let mut runners = self
            .engines
            .iter()
            .map(|&engine| self.prepare(engine, scenario))
            .collect::<Result<Vec<_>, _>>()?;
        self.append(scenario, &mut runners)?;
        if scenario.aim != Aim::Bodies {
            for runner in &mut runners {
                runner.kill_and_settle(scenario)?;
                self.progress.advance();
            }
            for &kind in scenario.kinds() {
                self.read(scenario, kind, &mut runners)?;
            }
        }
        let best = runners.iter().map(Runner::own_and_rates).collect();
        runners
            .into_iter()
            .map(|runner| runner.finish(&best))
            .collect()
    }

    fn prepare(&self, engine: EngineName, scenario: &Scenario) -> Result<Runner, StoreBenchError> {
        let directory = self.root.join(engine.name());
        let made = std::fs::create_dir(&directory);
        made.map_err(failed(engine, "making its folder"))?;
        let mut runner = Runner {
            engine,
            setup: Setup {
                directory,
                shape: scenario.shape.clone(),
                stored: 0,
                limits: self.limits,
                corpus: self.corpus.map(PathBuf::from),
            },
            process: None,
            rates: Vec::new(),
            commits: Samples::default(),
            body_bytes: 0,
            settled_ns: 0,
            figures: Figures::default(),
        };
        runner.start()?;
        Ok(runner)
    }

    fn append(&self, scenario: &Scenario, runners: &mut [Runner]) -> Result<(), StoreBenchError> {
        for _ in 0..scenario.rounds {
            let messages = scenario.measured / scenario.rounds;
            for runner in &mut *runners {
                let appended = runner.process()?.append(messages, scenario.batch)?;
                runner.note_append(&appended);
                self.progress.advance();
            }
        }
        for runner in runners {
            let memory = runner.process()?.memory()?;
            if runner.engine != EngineName::Raw {
                runner.figures.set_memory(memory);
            }
        }
        Ok(())
    }

    /// Reads pages of one kind, each engine opened anew with nothing cached, then again.
    fn read(
        &self,
        scenario: &Scenario,
        kind: PageKind,
        runners: &mut [Runner],
    ) -> Result<(), StoreBenchError> {
        for runner in &mut *runners {
            runner.start_cold()?;
        }
        for is_warm in [false, true] {
            let mut read: Vec<Pages> = runners.iter().map(|_| Pages::default()).collect();
            let turn = scenario.pages.div_ceil(PAGE_TURNS);
            for from in (0..scenario.pages).step_by(turn) {
                let count = turn.min(scenario.pages - from);
                for (runner, read) in runners.iter_mut().zip(&mut read) {
                    let pages = runner.process()?.pages(kind, from, count)?;
                    read.reads.add(&pages.reads);
                    read.wrong += pages.wrong;
                    read.device_bytes += pages.device_bytes;
                    if let Some(reads) = pages.device_reads {
                        *read.device_reads.get_or_insert(0) += reads;
                    }
                }
            }
            for (runner, read) in runners.iter_mut().zip(&read) {
                runner.note_pages(kind, is_warm, read);
            }
        }
        for runner in runners {
            let memory = runner.process()?.memory()?;
            if runner.engine != EngineName::Raw {
                runner.figures.memory_reading_bytes = Some(memory.resident_bytes);
            }
            self.progress.advance();
        }
        Ok(())
    }
}

impl Runner {
    fn start(&mut self) -> Result<f64, StoreBenchError> {
        let (process, first_page_ms) = Process::start(self.engine, &self.setup)?;
        self.process = Some(process);
        Ok(first_page_ms)
    }

    fn process(&mut self) -> Result<&mut Process, StoreBenchError> {
        let doing = "being asked while it does not run";
        self.process
            .as_mut()
            .ok_or_else(|| failed(self.engine, doing)(io::ErrorKind::NotConnected.into()))
    }

    fn note_append(&mut self, appended: &Appended) {
        self.rates.push(per_second(appended.messages, appended.ns));
        self.commits.add(&appended.commits);
        self.body_bytes += appended.body_bytes;
        self.settled_ns += appended.settled.ns;
        self.figures.messages += appended.messages;
        self.setup.stored += appended.messages;
    }

    fn note_pages(&mut self, kind: PageKind, is_warm: bool, read: &Pages) {
        self.figures.set_pages(kind, is_warm, &read.reads);
        self.figures.wrong_pages += read.wrong;
        if !is_warm {
            let pages = read.reads.count();
            self.figures.set_device(kind, read, pages);
        }
    }

    /// Kills the process among appends, opens the store again, checks that what was acknowledged
    /// is there, and lets it do what it has put off.
    fn kill_and_settle(&mut self, scenario: &Scenario) -> Result<(), StoreBenchError> {
        let appended = self.setup.stored;
        if let Some(process) = self.process.take() {
            self.setup.stored = process.kill_while_appending(scenario.batch)?;
        }
        let first_page_ms = self.start()?;
        let kind = PageKind::Newest;
        let pages = self.process()?.pages(kind, 0, scenario.pages)?;
        let settled = self.process()?.settle()?;
        self.figures.wrong_pages += pages.wrong;
        self.figures.messages = self.setup.stored;
        self.close()?;
        if self.engine == EngineName::Raw {
            return Ok(());
        }
        let messages = self.setup.stored.max(1) as f64;
        let settled_ns = self.settled_ns + settled.ns;
        let bytes = disk_bytes(&self.setup.directory);
        let bytes = bytes.map_err(failed(self.engine, "measuring its files"))?;
        self.figures.recovery_ms = Some(first_page_ms);
        self.figures.settle_ms = Some(settled_ns as f64 / 1e6);
        let is_throng = self.engine == EngineName::Throng;
        let sealing = is_throng.then(|| per_second(self.setup.stored, settled_ns));
        self.figures.sealing_records_per_s = sealing;
        self.figures.bytes_per_message = Some(bytes as f64 / messages);
        self.figures.body_bytes_per_message = Some(self.body_bytes as f64 / appended.max(1) as f64);
        Ok(())
    }

    fn close(&mut self) -> Result<(), StoreBenchError> {
        self.process.take().map_or(Ok(()), Process::close)
    }

    /// Opens the store anew, with nothing of it in the kernel's cache.
    fn start_cold(&mut self) -> Result<(), StoreBenchError> {
        self.close()?;
        let dropped = drop_page_cache(&self.setup.directory);
        dropped.map_err(failed(self.engine, "dropping what is cached of it"))?;
        let first_page_ms = self.start()?;
        if self.engine != EngineName::Raw && self.figures.start_ms.is_none() {
            self.figures.start_ms = Some(first_page_ms);
        }
        Ok(())
    }

    fn own_and_rates(&self) -> (EngineName, Vec<f64>) {
        (self.engine, self.rates.clone())
    }

    /// Completes the figures and removes the store.
    fn finish(
        mut self,
        all: &BTreeMap<EngineName, Vec<f64>>,
    ) -> Result<(EngineName, Figures), StoreBenchError> {
        drop(self.process.take());
        let removed = std::fs::remove_dir_all(&self.setup.directory);
        removed.map_err(failed(self.engine, "removing its files"))?;
        let rounds = Rounds::of(&self.rates);
        self.figures.append_per_s = rounds.map(|rounds| rounds.median);
        self.figures.append_per_s_rounds = rounds;
        self.figures.set_commits(&self.commits);
        if self.engine != EngineName::Raw {
            let raw = |engine| engine == EngineName::Raw;
            self.figures.append_ratio_to_raw = ratio(&self.rates, all, raw);
            let other = |engine| engine != EngineName::Raw && engine != EngineName::Throng;
            let is_throng = self.engine == EngineName::Throng;
            let to_best = is_throng.then(|| ratio(&self.rates, all, other));
            self.figures.append_ratio_to_best = to_best.flatten();
        }
        Ok((self.engine, self.figures))
    }
}

/// The median, over the rounds, of an engine's rate divided by the best one's of some others.
fn ratio(
    own: &[f64],
    all: &BTreeMap<EngineName, Vec<f64>>,
    is_other: impl Fn(EngineName) -> bool,
) -> Option<f64> {
    let others: Vec<&Vec<f64>> = all
        .iter()
        .filter(|(engine, _)| is_other(**engine))
        .map(|(_, rates)| rates)
        .collect();
    if others.is_empty() {
        return None;
    }
    let ratios = own.iter().enumerate().map(|(round, rate)| {
        let best = others.iter().map(|rates| rates[round]).fold(0.0, f64::max);
        rate / best
    });
    Rounds::of(&ratios.collect::<Vec<f64>>()).map(|rounds| rounds.median)
}

pub(super) fn per_second(count: u64, ns: u64) -> f64 {
    count as f64 / (ns.max(1) as f64 / 1e9)
}

pub(super) fn failed(
    engine: EngineName,
    doing: &'static str,
) -> impl Fn(io::Error) -> StoreBenchError {
    move |source| StoreBenchError::Process {
        engine,
        doing,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_compare_rounds_and_not_runs() {
        let all: BTreeMap<EngineName, Vec<f64>> = [
            (EngineName::Throng, vec![10.0, 100.0, 30.0]),
            (EngineName::Raw, vec![10.0, 200.0, 60.0]),
            (EngineName::Fjall, vec![5.0, 10.0, 1.0]),
            (EngineName::Sqlite, vec![1.0, 20.0, 3.0]),
        ]
        .into();
        let throng = &all[&EngineName::Throng];
        assert_eq!(ratio(throng, &all, |e| e == EngineName::Raw), Some(0.5));
        assert_eq!(ratio(throng, &all, |e| e > EngineName::Raw), Some(5.0));
        assert_eq!(ratio(throng, &all, |_| false), None);
    }
}
