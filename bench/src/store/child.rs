//! The process that runs one engine: orders in, measurements out.
//!
//! It decides nothing: what is done, and when, its parent says.
//!
//! Invariants: making the messages is never part of a measurement; memory is counted from just
//! before the store is opened.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io::{self, BufRead, Write};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use glommio::{LocalExecutorBuilder, Placement};
use rustix::process::{Signal, set_parent_process_death_signal};
use throng_storage_engine::Record;

use super::engine::{Ask, Engine, EngineName, Failure, PAGE_MESSAGES, PageMessage};
#[cfg(not(all(feature = "fjall", feature = "rocksdb", feature = "sqlite")))]
use super::error::StoreBenchError;
use super::order::{Answer, Appended, Memory, Order, PageKind, Pages, Settled, Setup};
#[cfg(feature = "fjall")]
use super::others::Fjall;
#[cfg(feature = "rocksdb")]
use super::others::Rocks;
#[cfg(feature = "sqlite")]
use super::others::Sqlite;
use super::pool::Pool;
use super::process_facts::{device_bytes_read, memory};
use super::raw::Raw;
use super::throng::Throng;
use super::workload::{DAY_MS, Probe, Workload};
use crate::clock::{Clock, pause};
use crate::files;

/// Messages that are made at once, before any of them is handed to the engine.
const CHUNK_MESSAGES: usize = 1 << 16;

/// Most pages of one kind that are told apart.
const PROBES_MAX: usize = 4096;

/// Memory of the executor's own buffers, in bytes.
const IO_MEMORY_BYTES: usize = 16 << 20;

/// Serves orders from standard input until told to close. Failures are answers, too.
///
/// # Errors
/// When the parent is gone or speaks nonsense.
pub(super) fn serve(name: EngineName) -> Result<(), Failure> {
    // Whoever measures may be killed; nobody would end this then.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)?;
    let mut lines = io::stdin().lock().lines();
    let setup = lines
        .next()
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))??;
    let setup: Setup = serde_json::from_str(&setup)?;
    let orders = lines.map(|line| Ok(serde_json::from_str::<Order>(&line?)?));
    match name {
        EngineName::Throng => LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY_BYTES)
            .make()?
            .run(run::<Throng>(setup, orders)),
        EngineName::Raw => at_once(run::<Raw>(setup, orders)),
        #[cfg(feature = "rocksdb")]
        EngineName::Rocksdb => at_once(run::<Rocks>(setup, orders)),
        #[cfg(feature = "fjall")]
        EngineName::Fjall => at_once(run::<Fjall>(setup, orders)),
        #[cfg(feature = "sqlite")]
        EngineName::Sqlite => at_once(run::<Sqlite>(setup, orders)),
        #[cfg(not(all(feature = "fjall", feature = "rocksdb", feature = "sqlite")))]
        engine => Err(StoreBenchError::NotBuilt { engine }.into()),
    }
}

/// Runs a future that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("only the executor's engine waits"),
    }
}

/// Opens the engine and carries out the orders.
async fn run<E: Engine>(
    setup: Setup,
    orders: impl Iterator<Item = Result<Order, Failure>>,
) -> Result<(), Failure> {
    let done = carry_out::<E>(&setup, orders).await;
    if let Err(error) = &done {
        answer(&Answer::Failed {
            error: error.to_string(),
        })?;
    }
    done
}

async fn carry_out<E: Engine>(
    setup: &Setup,
    orders: impl Iterator<Item = Result<Order, Failure>>,
) -> Result<(), Failure> {
    let mut bench = Bench::<E>::open(setup).await?;
    for order in orders {
        match order? {
            Order::Append { messages, batch } => {
                let appended = bench.append(messages, batch).await?;
                bench.engine.idle().await?;
                answer(&Answer::Appended(appended))?;
            }
            Order::AppendUntilKilled { batch } => bench.append_until_killed(batch).await?,
            Order::Settle => answer(&Answer::Settled(bench.settle().await?))?,
            Order::Pages { kind, from, count } => {
                answer(&Answer::Pages(bench.pages(kind, from, count).await?))?;
            }
            Order::Memory => answer(&Answer::Memory(bench.memory()?))?,
            Order::Close => {
                let start = bench.clock.now_ns();
                bench.engine.close().await?;
                let ns = bench.clock.now_ns() - start;
                return answer(&Answer::Closed { ns });
            }
        }
    }
    Ok(())
}

fn answer(answer: &Answer) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}

struct Bench<E> {
    engine: E,
    clock: Clock,
    workload: Workload,
    /// Messages made ahead, and where each batch of them ends.
    chunk: Vec<Record>,
    batches: Vec<(u64, usize)>,
    /// The day of the last commit.
    day: Option<u64>,
    settled_messages: u64,
    /// What may be looked for of the messages that were stored when there were so many.
    probes: BTreeMap<PageKind, Vec<Probe>>,
    probed: u64,
    before: Memory,
}

impl<E: Engine> Bench<E> {
    async fn open(setup: &Setup) -> Result<Self, Failure> {
        let corpus = files::corpus(setup.corpus.as_deref(), setup.shape.seed)?;
        let pool = Pool::new(&corpus, setup.shape.seed, setup.shape.body_bytes);
        drop(corpus);
        let mut workload = Workload::new(setup.shape.clone(), pool);
        workload.skip(setup.stored);
        let probes = probes(&workload);
        let chunk = touched_chunk(&setup.shape, workload.pool());
        let before = memory()?;
        let clock = Clock::start();
        let mut engine = E::open(&setup.directory, setup.limits).await?;
        if let Some(probe) = probes[&PageKind::Newest].first() {
            engine.page(probe.channel, Ask::Newest).await?;
        }
        let first_page_ns = clock.now_ns();
        engine.idle().await?;
        answer(&Answer::Opened { first_page_ns })?;
        Ok(Self {
            engine,
            clock,
            settled_messages: workload.given(),
            probed: workload.given(),
            workload,
            chunk,
            batches: Vec::with_capacity(CHUNK_MESSAGES),
            day: None,
            probes,
            before,
        })
    }

    /// Makes the next messages of the stream: a chunk, or what is left of `messages`.
    fn make_chunk(&mut self, messages: u64, batch: usize) {
        self.chunk.clear();
        self.batches.clear();
        let most = usize::try_from(messages)
            .unwrap_or(usize::MAX)
            .min(CHUNK_MESSAGES);
        while self.chunk.len() < most && !self.workload.is_over() {
            let limit = batch.min(most - self.chunk.len());
            let now_ms = self.workload.fill(&mut self.chunk, limit);
            self.batches.push((now_ms, self.chunk.len()));
        }
    }

    async fn append(&mut self, messages: u64, batch: usize) -> Result<Appended, Failure> {
        let mut done = Appended::default();
        while done.messages < messages && !self.workload.is_over() {
            self.make_chunk(messages - done.messages, batch);
            self.append_chunk(&mut done).await?;
        }
        Ok(done)
    }

    async fn append_chunk(&mut self, done: &mut Appended) -> Result<(), Failure> {
        let chunk = std::mem::take(&mut self.chunk);
        let batches = std::mem::take(&mut self.batches);
        let settled_before = done.settled.ns;
        let start = self.clock.now_ns();
        let mut from = 0;
        let mut under_way = VecDeque::new();
        for &(now_ms, end) in &batches {
            self.engine.gather(&chunk[from..end]);
            if under_way.len() == E::UNDER_WAY {
                self.acknowledge(&mut under_way, done).await?;
            }
            if self.is_other_day(now_ms) {
                while !under_way.is_empty() {
                    self.acknowledge(&mut under_way, done).await?;
                }
                self.turn_day(now_ms, &mut done.settled).await?;
            }
            under_way.push_back(self.clock.now_ns());
            self.engine.begin(now_ms, &chunk[from..end]).await?;
            from = end;
        }
        while !under_way.is_empty() {
            self.acknowledge(&mut under_way, done).await?;
        }
        let settling = done.settled.ns - settled_before;
        done.ns += self.clock.now_ns() - start - settling;
        done.messages += chunk.len() as u64;
        done.body_bytes += chunk
            .iter()
            .map(|record| record.body.len() as u64)
            .sum::<u64>();
        self.chunk = chunk;
        self.batches = batches;
        Ok(())
    }

    /// Waits for the oldest batch; from its beginning to this moment it took.
    async fn acknowledge(
        &mut self,
        under_way: &mut VecDeque<u64>,
        done: &mut Appended,
    ) -> Result<(), Failure> {
        self.engine.acknowledged().await?;
        let begun = under_way.pop_front();
        let begun = begun.expect("only what was begun is waited for");
        done.commits.record(self.clock.now_ns() - begun);
        Ok(())
    }

    fn is_other_day(&self, now_ms: u64) -> bool {
        self.day != Some(now_ms / DAY_MS)
    }

    /// Lets the engine do what belongs to a day's end: `now_ms` is on another day than before.
    async fn turn_day(&mut self, now_ms: u64, settled: &mut Settled) -> Result<(), Failure> {
        let day = now_ms / DAY_MS;
        if self.day.is_some() {
            let start = self.clock.now_ns();
            self.engine.day_ended(now_ms).await?;
            settled.ns += self.clock.now_ns() - start;
        }
        self.day = Some(day);
        Ok(())
    }

    async fn append_until_killed(&mut self, batch: usize) -> Result<(), Failure> {
        let mut done = Appended::default();
        loop {
            self.make_chunk(batch as u64, batch);
            self.append_chunk(&mut done).await?;
            let stored = self.workload.given();
            answer(&Answer::Acked { stored })?;
            if self.workload.is_over() {
                pause(Duration::from_millis(10));
            }
        }
    }

    async fn settle(&mut self) -> Result<Settled, Failure> {
        let start = self.clock.now_ns();
        let after_end_ms = self.workload.shape().after_end_ms();
        self.engine.settle(after_end_ms).await?;
        let given = self.workload.given();
        let messages = given - self.settled_messages;
        self.settled_messages = given;
        Ok(Settled {
            ns: self.clock.now_ns() - start,
            messages,
        })
    }

    async fn pages(&mut self, kind: PageKind, from: usize, count: usize) -> Result<Pages, Failure> {
        if self.probed != self.workload.given() {
            self.probed = self.workload.given();
            self.probes = probes(&self.workload);
        }
        let mut done = Pages::default();
        let before = device_bytes_read()?;
        let reads_before = self.engine.device_reads().unwrap_or(0);
        let probes = &self.probes[&kind];
        for probe in probes.iter().skip(from).take(count) {
            let ask = match kind {
                PageKind::Newest | PageKind::Sparse => Ask::Newest,
                PageKind::Deep => Ask::Before(probe.message),
                PageKind::Around => Ask::Around(probe.message),
            };
            let start = self.clock.now_ns();
            let page = self.engine.page(probe.channel, ask).await?;
            done.reads.record(self.clock.now_ns() - start);
            done.messages += page.len() as u64;
            done.wrong += u64::from(E::HAS_PAGES && !self.is_right(kind, *probe, &page));
        }
        done.device_bytes = device_bytes_read()? - before;
        done.device_reads = self.engine.device_reads().map(|reads| reads - reads_before);
        Ok(done)
    }

    fn is_right(&self, kind: PageKind, probe: Probe, page: &[PageMessage]) -> bool {
        let is_ordered = page.is_sorted_by(|a, b| a.message < b.message);
        let pool = self.workload.pool();
        let is_stored = page
            .iter()
            .all(|found| found.body == pool.body(found.message));
        let last = page.last().map(|found| found.message);
        let is_placed = match kind {
            PageKind::Newest => page.len() == PAGE_MESSAGES && last >= Some(probe.message),
            PageKind::Deep => page.len() == PAGE_MESSAGES && last < Some(probe.message),
            PageKind::Around => {
                let place = page.iter().position(|found| found.message == probe.message);
                place == Some(PAGE_MESSAGES / 2)
            }
            PageKind::Sparse => {
                let all = usize::try_from(self.workload.sparse_messages()).unwrap_or(usize::MAX);
                page.len() == all.min(PAGE_MESSAGES) && last == Some(probe.message)
            }
        };
        is_ordered && is_stored && is_placed
    }

    fn memory(&self) -> Result<Memory, Failure> {
        let now = memory()?;
        let before = self.before;
        Ok(Memory {
            resident_bytes: now.resident_bytes.saturating_sub(before.resident_bytes),
            anonymous_bytes: now.anonymous_bytes.saturating_sub(before.anonymous_bytes),
        })
    }
}

/// What will be looked for, of what is stored so far.
fn probes(workload: &Workload) -> BTreeMap<PageKind, Vec<Probe>> {
    let of = |kind| match kind {
        PageKind::Newest => workload.busy_channels(PROBES_MAX),
        PageKind::Deep | PageKind::Around => workload.deep_probes(PROBES_MAX),
        PageKind::Sparse => workload.sparse_channels(PROBES_MAX),
    };
    PageKind::ALL.map(|kind| (kind, of(kind))).into()
}

/// Room for a chunk whose memory is there already: it is not to be counted as the engine's.
fn touched_chunk(shape: &super::workload::Shape, pool: &Pool) -> Vec<Record> {
    let mut scratch = Workload::new(shape.clone(), pool.clone());
    let mut chunk = Vec::with_capacity(CHUNK_MESSAGES);
    scratch.fill(&mut chunk, 1);
    chunk.resize(CHUNK_MESSAGES, chunk[0].clone());
    chunk.clear();
    chunk
}
