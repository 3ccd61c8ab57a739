//! A node's store as its server would run it, with a list of what was acknowledged beside it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::Bytes;
use throng_storage_engine::{
    AuthorKey, ChannelKey, CommitError, Day, Disk, Head, Location, Log, LogPlace, MessageKey,
    NonceKey, Reader, RecentNonce, Record, RecordKind, Recovered, RecoveryReport, SegmentId,
    SegmentScan, SimDisk, StoreConfig, StoreError, StoreLock, View, index_segment, recover,
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
    pub(crate) recent: Vec<RecentNonce>,
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
            recent,
            lock,
            ..
        } = recover(disk, root, &config).await?;
        let now_ms = now_ms.max(newest_ms);
        let mut logs = Vec::new();
        let owner = |channel: ChannelKey| usize::from(channel.0[0]) % usize::from(shards);
        let parts = index.split(shards.into(), owner);
        for (shard, part) in (0..shards).zip(parts) {
            let place = LogPlace {
                shard,
                shards,
                sealed_through: Day(0),
            };
            let part = Rc::new(RefCell::new(part));
            let log = Log::open(disk.clone(), root, config, place, &segments, part, now_ms);
            logs.push(log.await?);
        }
        let mut world = Self {
            disk: disk.clone(),
            config,
            root: root.to_path_buf(),
            logs,
            recent,
            report,
            now_ms,
            acked: Messages::new(),
            in_flight: Vec::new(),
            counter: 0,
            lock,
        };
        world.acked = world.read_all().await?;
        let counted = world.acked.values().flatten();
        let counted = counted.map(|record| u128::from_be_bytes(record.nonce.0));
        world.counter = u64::try_from(counted.max().unwrap_or(0)).unwrap();
        world.assert_heads();
        Ok(world)
    }

    fn log_of(&self, channel: ChannelKey) -> usize {
        usize::from(channel.0[0]) % self.logs.len()
    }

    /// The last numbers that the channel's log knows of it.
    pub(crate) fn head(&self, channel: ChannelKey) -> Head {
        let log = &self.logs[self.log_of(channel)];
        log.index().borrow().head(channel)
    }

    /// The table of channels says what the records say.
    fn assert_heads(&self) {
        let channels: usize = (self.logs.iter())
            .map(|log| log.index().borrow().channels())
            .sum();
        assert_eq!(channels, self.acked.len());
        for (channel, records) in &self.acked {
            let creates = records
                .iter()
                .filter(|record| record.kind == RecordKind::Create);
            let head = Head {
                seq: creates.clone().count() as u64,
                rev: records.len() as u64,
                last_message: creates.last().map_or(MessageKey::ZERO, |last| last.message),
            };
            assert_eq!(self.head(*channel), head);
        }
    }

    /// Records that come next in their channels.
    pub(crate) fn next_records(&mut self, channels: &[u8], body_bytes: usize) -> Vec<Record> {
        let mut heads = BTreeMap::new();
        let mut records = Vec::new();
        for number in channels {
            self.counter += 1;
            let channel = channel(*number);
            let head = heads.entry(channel).or_insert_with(|| self.head(channel));
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

    /// One change of some message of each named channel that has messages.
    pub(crate) fn next_changes(&mut self, channels: &[u8], kind: RecordKind) -> Vec<Record> {
        let mut changes = self.next_records(channels, 20);
        let mut revs = BTreeMap::new();
        changes.retain_mut(|change| {
            let head = self.head(change.channel);
            if head.seq == 0 {
                return false;
            }
            let rev = revs.entry(change.channel).or_insert(head.rev);
            *rev += 1;
            change.rev = *rev;
            change.seq = 1 + change.rev * 7 % head.seq;
            change.kind = kind;
            let mut known = self.acked[&change.channel].iter();
            let target = known.find(|one| one.seq == change.seq && one.kind == RecordKind::Create);
            change.target = target.unwrap().message;
            true
        });
        changes
    }

    /// Commits one message per named channel (all of one owner) and notes the acknowledgement.
    pub(crate) async fn send(
        &mut self,
        channels: &[u8],
        body_bytes: usize,
    ) -> Result<Vec<Location>, CommitError> {
        let records = self.next_records(channels, body_bytes);
        self.commit(channels[0], records).await
    }

    /// Commits changes of the named channels (all of one owner).
    pub(crate) async fn change(
        &mut self,
        channels: &[u8],
        kind: RecordKind,
    ) -> Result<Vec<Location>, CommitError> {
        let records = self.next_changes(channels, kind);
        if records.is_empty() {
            return Ok(Vec::new());
        }
        self.commit(channels[0], records).await
    }

    async fn commit(
        &mut self,
        owned: u8,
        records: Vec<Record>,
    ) -> Result<Vec<Location>, CommitError> {
        self.in_flight.clone_from(&records);
        let shard = usize::from(owned) % self.logs.len();
        let locations = self.logs[shard].commit(self.now_ms, &records).await?;
        assert_eq!(locations.len(), records.len());
        for record in records {
            self.acked.entry(record.channel).or_default().push(record);
        }
        self.in_flight.clear();
        Ok(locations)
    }

    /// Reads every record of every channel, one segment after the other.
    pub(crate) async fn read_all(&self) -> Result<Messages, StoreError> {
        let mut found = Messages::new();
        for (segment, (day, end)) in self.segments() {
            let (disk, root, config) = (&self.disk, &self.root, &self.config);
            let mut scan = SegmentScan::open(disk, root, config, segment, day, end).await?;
            while let Some(records) = scan.next_commit().await? {
                for (record, _) in records {
                    found.entry(record.channel).or_default().push(record);
                }
            }
            scan.close().await?;
        }
        Ok(found)
    }

    /// All segments and where they end at the moment.
    fn segments(&self) -> BTreeMap<SegmentId, (Day, u32)> {
        let mut segments = BTreeMap::new();
        for log in &self.logs {
            let open = log.end();
            for (segment, info) in log.segments().borrow().iter() {
                let open_end = open.filter(|(open, _)| *open == segment);
                if let Some(end) = info.end.or(open_end.map(|(_, end)| end)) {
                    segments.insert(segment, (info.day, end));
                }
            }
        }
        segments
    }

    /// Writes the index files of segments that have filled up, as a node's upkeep does.
    pub(crate) async fn index_filled(&mut self) -> Result<(), StoreError> {
        for log in &self.logs {
            let filled = log.index().borrow_mut().filled();
            for hot in filled {
                index_segment(&self.disk, &self.root, &hot).await?;
                log.index().borrow_mut().drop_hot(hot.segment());
            }
        }
        Ok(())
    }

    pub(crate) fn reader(&self, shard: usize) -> Reader<D> {
        let live = self.logs[shard].live();
        let view = View::new(Vec::new(), Day(0));
        Reader::new(self.disk.clone(), &self.root, live, view, self.config)
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
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect()
}
