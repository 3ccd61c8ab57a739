//! Scenarios that take long: Throng alone, at the sizes that it is designed for.
//!
//! They compare with limits, not with other engines.
//!
//! Invariants: limits are judged at the whole size only; below it the figures are shown.

use serde::Serialize;

use super::engine::EngineName;
use super::error::StoreBenchError;
use super::figures::Rounds;
use super::measure::{Stage, failed, per_second};
use super::order::{Appended, Memory, PageKind, Setup};
use super::place::{disk_bytes, drop_page_cache};
use super::process::Process;
use super::raw_json::raw_json_bytes;
use super::samples::Samples;
use super::workload::Shape;

/// Messages of the day, and of the years, at their whole size.
pub(super) const DAY_MESSAGES: u64 = 100_000_000;
pub(super) const YEARS_MESSAGES: u64 = 10_000_000;

/// Bytes of their bodies.
const BODY_BYTES: usize = 100;

/// Messages of a commit.
const BATCH: usize = 256;

/// Slices of the appends, between which memory is noted and pages are checked.
const SLICES: u64 = 20;

/// Pages checked after each slice, and at the end.
const PAGES_PER_SLICE: usize = 50;
const PAGES_AT_END: usize = 1000;

/// Most messages beyond the measured ones, for the kill.
const KEPT_MAX: u64 = 2_000_000;

/// One long scenario.
pub(super) struct Long {
    name: &'static str,
    shape: Shape,
    measured: u64,
    /// Whether `measured` is the whole size.
    is_whole: bool,
    limits: Vec<Limit>,
}

/// What a figure must not exceed.
struct Limit {
    name: &'static str,
    max: f64,
    figure: fn(&LongReport) -> Option<f64>,
}

/// How far the appends had come.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Slice {
    pub(super) messages: u64,
    pub(super) append_per_s: f64,
    pub(super) memory_bytes: u64,
    pub(super) memory_anonymous_bytes: u64,
}

/// A limit and whether it was kept.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) figure: f64,
    pub(super) max: f64,
    pub(super) holds: bool,
}

/// What a long scenario came to.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct LongReport {
    pub(super) name: &'static str,
    pub(super) is_whole: bool,
    pub(super) days: u64,
    pub(super) channels: u32,
    pub(super) body_bytes: usize,
    pub(super) batch: usize,
    pub(super) messages: u64,
    pub(super) append_per_s: Option<Rounds>,
    pub(super) append_sync_p50_us: Option<f64>,
    pub(super) append_sync_p99_us: Option<f64>,
    pub(super) slices: Vec<Slice>,
    /// Sealing and merging, as days ended and after the last.
    pub(super) settle_ms: f64,
    pub(super) sealing_records_per_s: f64,
    /// From opening the store after SIGKILL among appends to its first page.
    pub(super) recovery_ms: f64,
    /// The same after a clean end, with nothing cached.
    pub(super) start_ms: f64,
    /// Resident memory that the store added: the most after any slice, and opened anew.
    pub(super) memory_max_bytes: u64,
    pub(super) memory_reading_bytes: u64,
    /// By how much the second half of the slices used more than the first half at most.
    pub(super) memory_growth_bytes: u64,
    pub(super) bytes_per_message: f64,
    /// The same messages as MESSAGE_CREATE events on the wire.
    pub(super) raw_json_bytes_per_message: f64,
    pub(super) disk_to_raw_json: f64,
    pub(super) pages_checked: u64,
    pub(super) wrong_pages: u64,
    pub(super) checks: Vec<Check>,
}

impl LongReport {
    /// Whether every page was right and every limit kept.
    pub(super) fn is_sound(&self) -> bool {
        self.wrong_pages == 0 && self.checks.iter().all(|check| check.holds)
    }
}

impl Long {
    /// All messages in one day, none of them sealed.
    pub(super) fn million_day(seed: u64, messages: u64) -> Self {
        let limits = vec![
            Limit {
                name: "recovery after SIGKILL, s",
                max: 10.0,
                figure: |report| Some(report.recovery_ms / 1e3),
            },
            Limit {
                name: "memory growth over the second half, MiB",
                max: 64.0,
                figure: |report| Some(report.memory_growth_bytes as f64 / 1_048_576.0),
            },
        ];
        Self::new("million-day", seed, messages, (DAY_MESSAGES, 1), limits)
    }

    /// Messages spread over 400 days, sealed as days end and merged as months do.
    pub(super) fn years(seed: u64, messages: u64) -> Self {
        let limits = vec![
            Limit {
                name: "start after a clean end, s",
                max: 3.0,
                figure: |report| Some(report.start_ms / 1e3),
            },
            Limit {
                name: "recovery after SIGKILL, s",
                max: 10.0,
                figure: |report| Some(report.recovery_ms / 1e3),
            },
            Limit {
                name: "resident memory, MB",
                max: 200.0,
                figure: |report| {
                    let most = report.memory_max_bytes.max(report.memory_reading_bytes);
                    Some(most as f64 / 1e6)
                },
            },
            Limit {
                name: "bytes on disk, of the raw JSON",
                max: 0.6,
                figure: |report| Some(report.disk_to_raw_json),
            },
        ];
        Self::new("years", seed, messages, (YEARS_MESSAGES, 400), limits)
    }

    fn new(
        name: &'static str,
        seed: u64,
        measured: u64,
        (whole, days): (u64, u64),
        limits: Vec<Limit>,
    ) -> Self {
        let is_whole = measured >= whole;
        let days = if is_whole {
            days
        } else {
            days.min(measured / 500)
        };
        let shape = Shape {
            seed,
            messages: measured + (measured / 50).min(KEPT_MAX),
            body_bytes: BODY_BYTES,
            channels: 50_000,
            zipf: 1.0,
            active_days: days,
            span_days: days,
            sparse_channels: 0,
            months: 1,
        };
        Self {
            name,
            shape,
            measured,
            is_whole,
            limits,
        }
    }

    /// Steps that progress is counted in.
    pub(super) fn steps(&self) -> usize {
        usize::try_from(SLICES).unwrap_or(usize::MAX) + 3
    }

    /// Runs it and removes what it stored.
    pub(super) fn run(&self, stage: &Stage<'_>) -> Result<LongReport, StoreBenchError> {
        let mut setup = Setup {
            directory: stage.root.join(self.name),
            shape: self.shape.clone(),
            stored: 0,
            limits: stage.limits,
            corpus: stage.corpus.map(Into::into),
        };
        let made = std::fs::create_dir(&setup.directory);
        made.map_err(failed(EngineName::Throng, "making its folder"))?;
        let mut report = LongReport {
            name: self.name,
            is_whole: self.is_whole,
            days: self.shape.active_days,
            channels: self.shape.channels,
            body_bytes: BODY_BYTES,
            batch: BATCH,
            ..LongReport::default()
        };
        self.fill(stage, &mut setup, &mut report)?;
        reopen(stage, &mut setup, &mut report)?;
        report.raw_json_bytes_per_message = raw_json_bytes(&setup)?;
        report.disk_to_raw_json = report.bytes_per_message / report.raw_json_bytes_per_message;
        if self.is_whole {
            report.checks = self
                .limits
                .iter()
                .filter_map(|limit| limit.check(&report))
                .collect();
        }
        let removed = std::fs::remove_dir_all(&setup.directory);
        removed.map_err(failed(EngineName::Throng, "removing its files"))?;
        Ok(report)
    }

    /// Appends, and then is killed among further appends.
    fn fill(
        &self,
        stage: &Stage<'_>,
        setup: &mut Setup,
        report: &mut LongReport,
    ) -> Result<(), StoreBenchError> {
        let (mut process, _) = Process::start(EngineName::Throng, setup)?;
        let mut commits = Samples::default();
        let mut settled_ns = 0;
        for _ in 0..SLICES {
            let appended = process.append(self.measured / SLICES, BATCH)?;
            let memory = process.memory()?;
            setup.stored += appended.messages;
            commits.add(&appended.commits);
            settled_ns += appended.settled.ns;
            report.slices.push(slice(setup.stored, &appended, memory));
            check_pages(&mut process, PAGES_PER_SLICE, report)?;
            stage.progress.advance();
        }
        let rates: Vec<f64> = report
            .slices
            .iter()
            .map(|slice| slice.append_per_s)
            .collect();
        report.append_per_s = Rounds::of(&rates);
        report.append_sync_p50_us = commits.quantile_us(0.5);
        report.append_sync_p99_us = commits.quantile_us(0.99);
        report.settle_ms = settled_ns as f64 / 1e6;
        report.note_memory();
        setup.stored = process.kill_while_appending(BATCH)?;
        report.messages = setup.stored;
        Ok(())
    }
}

impl Limit {
    fn check(&self, report: &LongReport) -> Option<Check> {
        let figure = (self.figure)(report)?;
        Some(Check {
            name: self.name,
            figure,
            max: self.max,
            holds: figure <= self.max,
        })
    }
}

impl LongReport {
    fn note_memory(&mut self) {
        let half = self.slices.len() / 2;
        let most = |slices: &[Slice]| {
            let used = slices.iter().map(|slice| slice.memory_bytes);
            used.max().unwrap_or(0)
        };
        let (first, second) = self.slices.split_at(half);
        self.memory_growth_bytes = most(second).saturating_sub(most(first));
        self.memory_max_bytes = most(&self.slices);
    }
}

fn slice(messages: u64, appended: &Appended, memory: Memory) -> Slice {
    Slice {
        messages,
        append_per_s: per_second(appended.messages, appended.ns),
        memory_bytes: memory.resident_bytes,
        memory_anonymous_bytes: memory.anonymous_bytes,
    }
}

fn check_pages(
    process: &mut Process,
    count: usize,
    report: &mut LongReport,
) -> Result<(), StoreBenchError> {
    for kind in [PageKind::Newest, PageKind::Deep, PageKind::Around] {
        let pages = process.pages(kind, 0, count)?;
        report.pages_checked += pages.reads.count();
        report.wrong_pages += pages.wrong;
    }
    Ok(())
}

/// Opens the store after the kill, checks it, ends it in order, and opens it again.
fn reopen(
    stage: &Stage<'_>,
    setup: &mut Setup,
    report: &mut LongReport,
) -> Result<(), StoreBenchError> {
    let engine = EngineName::Throng;
    let (mut process, first_page_ms) = Process::start(engine, setup)?;
    report.recovery_ms = first_page_ms;
    check_pages(&mut process, PAGES_AT_END, report)?;
    stage.progress.advance();
    let settled = process.settle()?;
    process.close()?;
    stage.progress.advance();
    let settled_ns = settled.ns as f64 + report.settle_ms * 1e6;
    report.settle_ms = settled_ns / 1e6;
    report.sealing_records_per_s = setup.stored as f64 / (settled_ns.max(1.0) / 1e9);
    let bytes = disk_bytes(&setup.directory);
    let bytes = bytes.map_err(failed(engine, "measuring its files"))?;
    report.bytes_per_message = bytes as f64 / setup.stored as f64;
    let dropped = drop_page_cache(&setup.directory);
    dropped.map_err(failed(engine, "dropping what is cached of it"))?;
    let (mut process, first_page_ms) = Process::start(engine, setup)?;
    report.start_ms = first_page_ms;
    check_pages(&mut process, PAGES_AT_END, report)?;
    report.memory_reading_bytes = process.memory()?.resident_bytes;
    stage.progress.advance();
    process.close()
}
