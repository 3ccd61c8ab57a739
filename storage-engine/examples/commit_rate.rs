//! How fast the log commits, beside the ceiling of its disk: the same bytes written and synced
//! to a bare prewritten file. Both take turns, so that they meet the same noise.
//!
//! It leaves nothing behind in the directory that it is given.
//!
//! Invariants: every commit is synced; what is compared moves the same number of blocks.
//!
//! `cargo run --release --example commit_rate -- [DIRECTORY [COMMITS]]` prints a table, then one
//! line of JSON.

use std::cell::RefCell;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use glommio::{LocalExecutorBuilder, Placement};
use throng_storage_engine::{
    AuthorKey, ChannelKey, Day, Disk, DiskFile, GlommioDisk, Log, LogPlace, MessageKey, NonceKey,
    Record, RecordKind, Recovered, StoreConfig, recover,
};

const BATCHES: [usize; 3] = [1, 16, 256];
const BODY_BYTES: usize = 300;
const ROUNDS: u32 = 4;

type Failure = Box<dyn Error>;

/// Rates of one batch size.
struct Rates {
    batch: usize,
    log_commits_per_s: f64,
    bare_commits_per_s: f64,
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().unwrap_or_else(|| ".".to_owned()));
    let commits = arguments.next().map_or(Ok(4000), |text| text.parse())?;
    let rates = measure(&directory, commits)?;
    println!(
        "{:>6} {:>14} {:>14} {:>14} {:>6}",
        "batch", "commits/s", "records/s", "bare/s", "ratio"
    );
    for rate in &rates {
        println!(
            "{:>6} {:>14.0} {:>14.0} {:>14.0} {:>6.2}",
            rate.batch,
            rate.log_commits_per_s,
            rate.log_commits_per_s * rate.batch as f64,
            rate.bare_commits_per_s,
            rate.log_commits_per_s / rate.bare_commits_per_s,
        );
    }
    println!("{}", json(&rates));
    Ok(())
}

fn json(rates: &[Rates]) -> String {
    let rows = rates.iter().map(|rate| {
        format!(
            r#"{{"batch":{},"commits_per_s":{:.0},"records_per_s":{:.0},"bare_commits_per_s":{:.0}}}"#,
            rate.batch,
            rate.log_commits_per_s,
            rate.log_commits_per_s * rate.batch as f64,
            rate.bare_commits_per_s,
        )
    });
    let rows: Vec<String> = rows.collect();
    format!(
        r#"{{"body_bytes":{BODY_BYTES},"rates":[{}]}}"#,
        rows.join(",")
    )
}

fn measure(directory: &Path, commits: u32) -> Result<Vec<Rates>, Failure> {
    let place = tempfile::tempdir_in(directory)?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20)
        .make()?;
    executor.run(async {
        let disk = GlommioDisk::at(place.path()).await?;
        let config = StoreConfig::default();
        let Recovered {
            index, segments, ..
        } = recover(&disk, place.path(), &config).await?;
        let only = LogPlace {
            shard: 0,
            shards: 1,
            sealed_through: Day(0),
        };
        let index = Rc::new(RefCell::new(index));
        let mut log = Log::open(
            disk.clone(),
            place.path(),
            config,
            only,
            &segments,
            index,
            0,
        )
        .await?;
        let mut bare = Bare::create(disk, &place.path().join("bare"), &config).await?;
        let mut seq = 0;
        let mut rates = Vec::new();
        for batch in BATCHES {
            let mut took = [Duration::ZERO; 2];
            for _ in 0..ROUNDS {
                took[0] += commit_all(&mut log, batch, commits / ROUNDS, &mut seq).await?;
                took[1] += bare.write_all(batch, commits / ROUNDS).await?;
            }
            let per_s = |took: Duration| f64::from(commits / ROUNDS * ROUNDS) / took.as_secs_f64();
            rates.push(Rates {
                batch,
                log_commits_per_s: per_s(took[0]),
                bare_commits_per_s: per_s(took[1]),
            });
        }
        bare.file.close().await?;
        log.close().await?;
        Ok(rates)
    })
}

#[expect(clippy::disallowed_methods, reason = "a measurement needs a clock")]
fn now() -> Instant {
    Instant::now()
}

async fn commit_all(
    log: &mut Log<GlommioDisk>,
    batch: usize,
    commits: u32,
    seq: &mut u64,
) -> Result<Duration, Failure> {
    let mut took = Duration::ZERO;
    let upkeep = log.upkeep();
    for _ in 0..commits {
        let records: Vec<Record> = (0..batch).map(|_| next_record(seq)).collect();
        let start = now();
        log.commit(0, &records).await?;
        took += start.elapsed();
        // In a server this runs beside the commits.
        upkeep.run().await?;
    }
    Ok(took)
}

fn next_record(seq: &mut u64) -> Record {
    *seq += 1;
    Record {
        kind: RecordKind::Create,
        schema: 1,
        channel: ChannelKey([1; 16]),
        message: MessageKey(u128::from(*seq).to_be_bytes()),
        author: AuthorKey([2; 16]),
        seq: *seq,
        rev: *seq,
        target: MessageKey::ZERO,
        nonce: NonceKey::ZERO,
        body: Bytes::from_static(&[b'x'; BODY_BYTES]),
    }
}

/// A prewritten file, written from end to end over and over.
struct Bare {
    disk: GlommioDisk,
    file: <GlommioDisk as Disk>::File,
    bytes: u32,
    offset: u32,
}

impl Bare {
    async fn create(disk: GlommioDisk, path: &Path, config: &StoreConfig) -> Result<Self, Failure> {
        let file = disk.create(path).await?;
        let bytes = config.segment_bytes;
        file.allocate(bytes.into()).await?;
        for offset in (0..bytes).step_by(config.chunk_bytes as usize) {
            file.write_at(disk.buffer(config.chunk_bytes), offset.into())
                .await?;
        }
        file.sync().await?;
        Ok(Self {
            disk,
            file,
            bytes,
            offset: 0,
        })
    }

    async fn write_all(&mut self, batch: usize, commits: u32) -> Result<Duration, Failure> {
        let records: Vec<Record> = (0..batch).map(|_| next_record(&mut 0)).collect();
        let bytes = 64 + records.iter().map(Record::bytes).sum::<u64>();
        let bytes = u32::try_from(bytes)?.next_multiple_of(4096);
        let mut took = Duration::ZERO;
        for _ in 0..commits {
            if self.offset + bytes > self.bytes {
                self.offset = 0;
            }
            let start = now();
            let buffer = self.disk.commit_buffer(bytes);
            self.file.write_synced(buffer, self.offset.into()).await?;
            took += start.elapsed();
            self.offset += bytes;
        }
        Ok(took)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_run_measures_every_batch_size() {
        let rates = measure(&std::env::temp_dir(), 8).unwrap();
        assert_eq!(
            rates.iter().map(|rate| rate.batch).collect::<Vec<_>>(),
            BATCHES
        );
        assert!(rates.iter().all(|rate| rate.log_commits_per_s > 0.0));
        assert!(json(&rates).starts_with(r#"{"body_bytes":300,"rates":[{"batch":1,"#));
    }
}
