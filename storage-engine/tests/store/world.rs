//! A node's store as its server would run it, with a list of what was acknowledged beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use throng_storage_engine::{
    AuthorKey, ChannelKey, CommitError, Disk, Index, Location, Log, MessageKey, NonceKey, Query,
    Reader, Record, RecordKind, Recovered, RecoveryReport, SimDisk, StoreConfig, StoreError,
    StoreLock, recover,
};

/// 2026-11-21T00:00:00Z.
pub(crate) const START_MS: u64 = 1_795_219_200_000;
pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

pub(crate) fn root() -> &'static Path {
    Path::new("/data")
}

/// Segments of 16 blocks, so that they fill quickly.
pub(crate) fn tiny() -> StoreConfig {
    StoreConfig {
        segment_bytes: 64 << 10,
        commit_bytes_max: 16 << 10,
        record_bytes_max: 8 << 10,
        chunk_bytes: 32 << 10,
        ..StoreConfig::default()
    }
}

pub(crate) fn channel(number: u8) -> ChannelKey {
    ChannelKey([number; 16])
}

pub(crate) fn key(ms: u64, counter: u64) -> MessageKey {
    MessageKey(((u128::from(ms) << 80) | u128::from(counter)).to_be_bytes())
}

pub(crate) type Messages = BTreeMap<ChannelKey, Vec<Record>>;

/// An open store: all shards' logs on one disk.
pub(crate) struct World<D: Disk> {
    pub(crate) disk: D,
    pub(crate) config: StoreConfig,
    pub(crate) root: PathBuf,
    pub(crate) logs: Vec<Log<D>>,
    pub(crate) index: Index,
    pub(crate) report: RecoveryReport,
    pub(crate) now_ms: u64,
    /// What was acknowledged.
    pub(crate) acked: Messages,
    /// The commit that is under way, or failed.
    pub(crate) in_flight: Vec<Record>,
    counter: u64,
    lock: StoreLock,
}

impl<D: Disk> World<D> {
    pub(crate) async fn open(
        disk: &D,
        root: &Path,
        config: StoreConfig,
        shards: u16,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        let Recovered {
            index,
            segments,
            report,
            newest_ms,
            lock,
            ..
        } = recover(disk, root, &config).await?;
        let now_ms = now_ms.max(newest_ms);
        let mut logs = Vec::new();
        for shard in 0..shards {
            let log = Log::open(disk.clone(), root, config, shard, shards, &segments, now_ms);
            logs.push(log.await?);
        }
        let mut world = Self {
            disk: disk.clone(),
            config,
            root: root.to_path_buf(),
            logs,
            index,
            report,
            now_ms,
            acked: Messages::new(),
            in_flight: Vec::new(),
            counter: 0,
            lock,
        };
        world.acked = world.read_all().await?;
        world.counter = world
            .acked
            .values()
            .map(|records| records.len() as u64)
            .sum();
        Ok(world)
    }

    /// Records that come next in their channels.
    pub(crate) fn next_records(&mut self, channels: &[u8], body_bytes: usize) -> Vec<Record> {
        let mut heads = BTreeMap::new();
        let mut records = Vec::new();
        for number in channels {
            self.counter += 1;
            let channel = channel(*number);
            let head = heads
                .entry(channel)
                .or_insert_with(|| self.index.head(channel));
            head.seq += 1;
            head.rev += 1;
            let mark = u8::try_from(self.counter % 251).unwrap();
            records.push(Record {
                kind: RecordKind::Create,
                schema: 1,
                channel,
                message: key(self.now_ms, self.counter),
                author: AuthorKey([mark; 16]),
                seq: head.seq,
                rev: head.rev,
                target: MessageKey::ZERO,
                nonce: NonceKey(u128::from(self.counter).to_be_bytes()),
                body: Bytes::from(vec![mark; body_bytes]),
            });
        }
        records
    }

    /// Commits one message per named channel (all of one owner) and notes the acknowledgement.
    pub(crate) async fn send(
        &mut self,
        channels: &[u8],
        body_bytes: usize,
    ) -> Result<Vec<Location>, CommitError> {
        let records = self.next_records(channels, body_bytes);
        self.in_flight.clone_from(&records);
        let shard = usize::from(channels[0]) % self.logs.len();
        let locations = self.logs[shard].commit(self.now_ms, &records).await?;
        assert_eq!(locations.len(), records.len());
        for (record, location) in records.into_iter().zip(&locations) {
            self.index.insert(&record.meta(), *location);
            self.acked.entry(record.channel).or_default().push(record);
        }
        self.in_flight.clear();
        Ok(locations)
    }

    /// Reads every message of every channel through a reader that knows all segments.
    pub(crate) async fn read_all(&self) -> Result<Messages, StoreError> {
        let mut found = Messages::new();
        for (channel, head) in self.index.channels() {
            let limit = usize::try_from(head.seq).unwrap();
            let locations = self.index.page(channel, Query::AfterSeq(0), limit);
            let shard = usize::from(channel.0[0]) % self.logs.len();
            let records = self.reader(shard).read_page(channel, &locations).await?;
            assert_eq!(records.len(), limit);
            found.insert(channel, records);
        }
        Ok(found)
    }

    pub(crate) fn reader(&self, shard: usize) -> Reader<D> {
        let segments = self.logs[shard].segments();
        Reader::new(self.disk.clone(), &self.root, segments, self.config)
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        for log in self.logs {
            log.close().await?;
        }
        drop(self.lock);
        Ok(())
    }

    /// The process dies: nothing is closed.
    pub(crate) fn kill(self) -> (Messages, Vec<Record>) {
        (self.acked, self.in_flight)
    }
}

/// Opens a world on a simulated disk.
pub(crate) fn open(disk: &SimDisk, shards: u16) -> Result<World<SimDisk>, StoreError> {
    disk.run(World::open(disk, root(), tiny(), shards, START_MS))
}

/// Commits, and expects it to succeed.
pub(crate) fn send(
    world: &mut World<SimDisk>,
    channels: &[u8],
    body_bytes: usize,
) -> Vec<Location> {
    let disk = world.disk.clone();
    disk.run(world.send(channels, body_bytes)).unwrap()
}

/// All segment files, oldest first.
pub(crate) fn segment_files(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files
        .filter(|path| path.starts_with("/data/segments"))
        .collect()
}
