//! The ways to make a commit durable, measured against each other: each writes the same frames
//! to the same prewritten file, in short turns, so that all meet the same noise.
//!
//! The store's own commits take part, so that its share of the time shows. Nothing is left behind.
//!
//! Invariants: one commit is under way at a time; every one is durable before the next begins.
//!
//! `cargo run --release --example commit_path -- [DIRECTORY [COMMITS [ROUNDS [BUSY]]]]` prints a
//! table, then one line of JSON. `COMMITS` is what each way writes in one round; `BUSY` threads
//! burn the processor meanwhile.

mod blocks;
mod ring;
mod store;
mod thread;

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use glommio::io::{DmaFile, OpenOptions};
use glommio::{LocalExecutorBuilder, Placement, allocate_dma_buffer};
use throng_storage_engine::{BLOCK_BYTES, Disk, DiskFile, GlommioDisk, GlommioFile};

use blocks::{Blocks, FILE_BYTES, prewritten};
use ring::{Notice, Ring, Sync};
use store::Store;
use thread::{LogThread, Work, write_dsync};

const BATCHES: [u32; 3] = [1, 16, 256];
const BODY_BYTES: u32 = 300;
/// Headers of a record and of a frame, as `FORMAT.md` has them.
const RECORD_HEADER_BYTES: u32 = 112;
const FRAME_HEADER_BYTES: u32 = 64;

type Failure = Box<dyn Error>;

/// One way to make a commit durable.
enum Method {
    /// The calling thread writes with `RWF_DSYNC` and waits: the ceiling of that way.
    Blocking,
    /// The calling thread writes, then syncs.
    BlockingSync(File),
    Glommio(DmaFile),
    Thread(LogThread),
    /// The next commit already waits at the thread when one is done.
    ThreadAhead(LogThread),
    Ring(Ring),
    /// What the store writes commits with.
    StoreFile(GlommioDisk, GlommioFile),
    Store(Box<Store>),
    /// As above, the next commit encoded and handed over while one is written.
    StoreAhead(Box<Store>),
}

struct Candidate {
    name: &'static str,
    method: Method,
    /// Seconds of each round, for the batch size that is being measured.
    rounds: Vec<f64>,
    /// Microseconds of each commit of it.
    commits_us: Vec<f64>,
}

/// What came out for one batch size and one way.
struct Outcome {
    name: &'static str,
    batch: u32,
    commits_per_s: f64,
    p50_us: f64,
    p99_us: f64,
    /// Of the first candidate's time, the median over the rounds.
    of_first: f64,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let commits = arguments.next().map_or(Ok(100), |text| text.parse())?;
    let rounds = arguments.next().map_or(Ok(40), |text| text.parse())?;
    let busy = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let outcomes = beside(busy, || measure(&directory, commits, rounds))?;
    println!(
        "{:>5} {:<34} {:>10} {:>8} {:>8} {:>8}",
        "batch", "way", "commits/s", "p50 us", "p99 us", "of first"
    );
    for outcome in &outcomes {
        println!(
            "{:>5} {:<34} {:>10.0} {:>8.1} {:>8.1} {:>8.2}",
            outcome.batch,
            outcome.name,
            outcome.commits_per_s,
            outcome.p50_us,
            outcome.p99_us,
            outcome.of_first
        );
    }
    println!("{}", json(&outcomes));
    Ok(())
}

fn json(outcomes: &[Outcome]) -> String {
    let rows = outcomes.iter().map(|outcome| {
        format!(
            r#"{{"batch":{},"way":"{}","commits_per_s":{:.0},"p50_us":{:.1},"p99_us":{:.1},"of_first":{:.3}}}"#,
            outcome.batch,
            outcome.name,
            outcome.commits_per_s,
            outcome.p50_us,
            outcome.p99_us,
            outcome.of_first,
        )
    });
    let rows: Vec<String> = rows.collect();
    format!(
        r#"{{"body_bytes":{BODY_BYTES},"ways":[{}]}}"#,
        rows.join(",")
    )
}

/// Runs it beside threads that never sleep.
#[expect(clippy::disallowed_methods, reason = "the load is threads")]
fn beside<T>(busy: u32, run: impl FnOnce() -> T) -> T {
    let done = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..busy)
        .map(|_| {
            let done = Arc::clone(&done);
            std::thread::spawn(move || while !done.load(Ordering::Relaxed) {})
        })
        .collect();
    let result = run();
    done.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("a loop does not panic");
    }
    result
}

fn measure(directory: &Path, commits: u32, rounds: u32) -> Result<Vec<Outcome>, Failure> {
    let place = tempfile::tempdir_in(directory)?;
    let path = place.path().join("segment");
    let file = prewritten(&path)?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20)
        .make()?;
    executor.run(async {
        let mut candidates = candidates(&path, &file).await?;
        let mut outcomes = Vec::new();
        for batch in BATCHES {
            for _ in 0..rounds {
                for candidate in &mut candidates {
                    candidate.round(&file, batch, commits).await?;
                }
            }
            let first = candidates[0].rounds.clone();
            outcomes.extend(candidates.iter_mut().map(|it| it.outcome(batch, &first)));
        }
        drop(candidates);
        Ok(outcomes)
    })
}

/// A commit of this many records in whole blocks.
fn frame_bytes(records: u32) -> u32 {
    let bytes = FRAME_HEADER_BYTES + records * (RECORD_HEADER_BYTES + BODY_BYTES);
    bytes.next_multiple_of(BLOCK_BYTES)
}

async fn candidates(path: &Path, file: &File) -> Result<Vec<Candidate>, Failure> {
    let dma = OpenOptions::new()
        .read(true)
        .write(true)
        .dma_open(path)
        .await?;
    let thread = |work, spin_us| {
        let spin = Duration::from_micros(spin_us);
        file.try_clone()
            .map(|file| LogThread::start(file, work, spin))
    };
    let ring = |sync, notice| Ring::new(file.try_clone()?, sync, notice);
    let watched = |sync| Ring::with_eventfd(file.try_clone()?, sync);
    let methods = [
        ("RWF_DSYNC, blocking", Method::Blocking),
        (
            "write + fdatasync, blocking",
            Method::BlockingSync(file.try_clone()?),
        ),
        ("glommio: write, then fdatasync", Method::Glommio(dma)),
        ("thread: RWF_DSYNC", Method::Thread(thread(Work::Write, 0)?)),
        (
            "thread: RWF_DSYNC, spins 50 us",
            Method::Thread(thread(Work::Write, 50)?),
        ),
        (
            "thread: RWF_DSYNC, one ahead",
            Method::ThreadAhead(thread(Work::Write, 0)?),
        ),
        (
            "thread: nothing, hand-over only",
            Method::Thread(thread(Work::Nothing, 0)?),
        ),
        (
            "ring: RWF_DSYNC, blocking",
            Method::Ring(ring(Sync::Dsync, Notice::Blocking)?),
        ),
        (
            "ring: RWF_DSYNC, eventfd",
            Method::Ring(watched(Sync::Dsync)?),
        ),
        (
            "ring: write + fdatasync, blocking",
            Method::Ring(ring(Sync::Linked, Notice::Blocking)?),
        ),
        (
            "ring: write + fdatasync, eventfd",
            Method::Ring(watched(Sync::Linked)?),
        ),
    ];
    let methods = methods.into_iter().chain(stores(path).await?);
    let candidates = methods.map(|(name, method)| Candidate {
        name,
        method,
        rounds: Vec::new(),
        commits_us: Vec::new(),
    });
    Ok(candidates.collect())
}

/// What the store does, beside the bare file.
async fn stores(path: &Path) -> Result<[(&'static str, Method); 3], Failure> {
    let root = path.parent().expect("a file in a directory");
    let disk = GlommioDisk::at(root).await?;
    Ok([
        (
            "store: its file",
            Method::StoreFile(disk.clone(), disk.open(path).await?),
        ),
        (
            "store: commit",
            Method::Store(Box::new(Store::open(&disk, &root.join("one")).await?)),
        ),
        (
            "store: begin, finish the one before",
            Method::StoreAhead(Box::new(Store::open(&disk, &root.join("two")).await?)),
        ),
    ])
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn now() -> Instant {
    Instant::now()
}

impl Candidate {
    async fn round(&mut self, file: &File, batch: u32, commits: u32) -> Result<(), Failure> {
        let took_us = match &mut self.method {
            Method::Store(store) => store.round(batch, commits, false).await?,
            Method::StoreAhead(store) => store.round(batch, commits, true).await?,
            _ => self.write(file, frame_bytes(batch), commits).await?,
        };
        let total_us: f64 = took_us.iter().sum();
        self.rounds.push(total_us / 1e6 / f64::from(commits));
        self.commits_us.extend(took_us);
        Ok(())
    }

    /// Bare writes of this many bytes. Microseconds from the end of one to the end of the next.
    async fn write(&mut self, file: &File, bytes: u32, commits: u32) -> Result<Vec<f64>, Failure> {
        let offsets = (0..FILE_BYTES / bytes).cycle().map(|frame| frame * bytes);
        let mut blocks = Some([Blocks::new(bytes), Blocks::new(bytes)]);
        let mut took_us = Vec::with_capacity(commits as usize);
        let mut last = now();
        let mut ahead = None;
        for offset in offsets.take(commits as usize) {
            let [first, second] = blocks.take().expect("given back after each commit");
            let first = match &mut self.method {
                Method::Blocking => {
                    write_dsync(file, &first, offset)?;
                    first
                }
                Method::BlockingSync(file) => {
                    std::os::unix::fs::FileExt::write_all_at(file, first.bytes(), offset.into())?;
                    file.sync_data()?;
                    first
                }
                Method::Glommio(dma) => {
                    let mut buffer = allocate_dma_buffer(bytes as usize);
                    buffer.as_bytes_mut().fill(b'x');
                    dma.write_at(buffer, offset.into()).await?;
                    dma.fdatasync().await?;
                    first
                }
                Method::Thread(thread) => thread.begin(first, offset).wait().await?,
                Method::ThreadAhead(thread) => {
                    let next = thread.begin(first, offset);
                    match ahead.replace(next) {
                        Some(before) => thread::Ticket::wait(before).await?,
                        None => Blocks::new(bytes),
                    }
                }
                Method::StoreFile(disk, file) => {
                    let mut buffer = disk.commit_buffer(bytes);
                    buffer.as_mut().copy_from_slice(first.bytes());
                    file.write_synced(buffer, offset.into()).await?;
                    first
                }
                Method::Store(_) | Method::StoreAhead(_) => first,
                Method::Ring(ring) => {
                    ring.write(&first, offset).await?;
                    first
                }
            };
            blocks = Some([second, first]);
            let done = now();
            took_us.push((done - last).as_secs_f64() * 1e6);
            last = done;
        }
        if let Some(ticket) = ahead {
            ticket.wait().await?;
        }
        Ok(took_us)
    }

    /// The result for one batch size; what was measured is forgotten.
    fn outcome(&mut self, batch: u32, first: &[f64]) -> Outcome {
        let rounds = std::mem::take(&mut self.rounds);
        let mut commits_us = std::mem::take(&mut self.commits_us);
        let mut ratios: Vec<f64> = rounds.iter().zip(first).map(|(own, of)| of / own).collect();
        let mut seconds = rounds;
        Outcome {
            name: self.name,
            batch,
            commits_per_s: 1.0 / quantile(&mut seconds, 0.5),
            p50_us: quantile(&mut commits_us, 0.5),
            p99_us: quantile(&mut commits_us, 0.99),
            of_first: quantile(&mut ratios, 0.5),
        }
    }
}

/// The value below which this part of the values lies.
fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a position in a list that fits into memory"
    )]
    let position = ((values.len() - 1) as f64 * part) as usize;
    values[position]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_measures_every_way_at_every_batch_size() {
        let outcomes = measure(&std::env::temp_dir(), 3, 2).unwrap();
        assert_eq!(outcomes.len() % BATCHES.len(), 0);
        assert!(outcomes.iter().all(|outcome| outcome.commits_per_s > 0.0));
        assert!(json(&outcomes).starts_with(r#"{"body_bytes":300,"ways":[{"batch":1,"#));
    }
}
