//! A store on the simulated disk, and messages for it.
//!
//! It knows nothing of who measures: divan here, and the counting of instructions in the gateway.
//!
//! Invariants: messages follow the numbers of their channels; nothing is drawn by chance.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use throng_storage_engine::{
    AuthorKey, ChannelKey, Day, Encoder, Log, LogPlace, Maintenance, MaintenanceConfig, MessageKey,
    NonceKey, PageQuery, Query, Reader, Record, RecordKind, Recovered, SimDisk, SimLatency,
    StoreConfig, Stored, View, compact, recover,
};

/// 2026-11-21T00:00:00Z.
const START_MS: u64 = 1_795_219_200_000;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Channels that take turns.
const CHANNELS: u64 = 16;
const BODY_BYTES: usize = 300;

/// Messages of a page.
pub(crate) const PAGE_MESSAGES: usize = 50;

fn root() -> &'static Path {
    Path::new("/data")
}

/// Segments that a simulated disk holds many of.
fn config() -> StoreConfig {
    StoreConfig {
        segment_bytes: 16 << 20,
        ..StoreConfig::default()
    }
}

fn channel(number: u64) -> ChannelKey {
    ChannelKey((u128::from(number) << 64 | 0x7000).to_be_bytes())
}

/// The message with this number, counted over all channels from 0.
fn message(number: u64) -> Record {
    let seq = 1 + number / CHANNELS;
    Record {
        kind: RecordKind::Create,
        schema: 1,
        channel: channel(number % CHANNELS),
        message: key(number),
        author: AuthorKey(u128::from(number % 7).to_be_bytes()),
        seq,
        rev: seq,
        target: MessageKey::ZERO,
        nonce: NonceKey(u128::from(1 + number).to_be_bytes()),
        body: body(number),
    }
}

fn key(number: u64) -> MessageKey {
    MessageKey((u128::from(START_MS) << 80 | u128::from(number)).to_be_bytes())
}

/// Letters and spaces in an order of their own.
fn body(number: u64) -> Bytes {
    let mut state = number;
    let letter = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        b"etaoin shrdlu  e"[(state >> 60) as usize]
    };
    (0..BODY_BYTES).map(letter).collect()
}

/// A log that takes commits.
pub(crate) struct Written {
    disk: SimDisk,
    log: Log<SimDisk>,
    next: u64,
}

impl Written {
    /// A log without messages.
    pub(crate) fn new() -> Self {
        let disk = SimDisk::new(1, SimLatency::default());
        let log = disk.run(open(&disk));
        Self { disk, log, next: 0 }
    }

    /// The messages that come next, for one commit.
    pub(crate) fn next_messages(&mut self, count: u64) -> Vec<Record> {
        let numbers = self.next..self.next + count;
        self.next = numbers.end;
        numbers.map(message).collect()
    }

    /// Makes commits ready.
    pub(crate) fn encoder(&self) -> Encoder<SimDisk> {
        self.log.encoder()
    }

    /// Writes a commit, syncs it and adds it to the index.
    pub(crate) fn commit(&mut self, records: &[Record]) {
        let commit = self.log.commit(START_MS, records);
        let places = self.disk.run(commit).expect("a disk without faults");
        assert_eq!(places.len(), records.len());
    }
}

async fn open(disk: &SimDisk) -> Log<SimDisk> {
    let recovered = recover(disk, root(), &config()).await;
    let Recovered {
        index, segments, ..
    } = recovered.expect("a disk without faults");
    let place = LogPlace {
        shard: 0,
        shards: 1,
        sealed_through: Day(0),
    };
    let index = Rc::new(RefCell::new(index));
    Log::open(
        disk.clone(),
        root(),
        config(),
        place,
        &segments,
        index,
        START_MS,
    )
    .await
    .expect("a disk without faults")
}

/// Channels whose day is over: all their messages lie in a sealed file.
pub(crate) struct History {
    disk: SimDisk,
    reader: Reader<SimDisk>,
    messages_each: u64,
}

impl History {
    /// So many messages in each channel.
    pub(crate) fn new(messages_each: u64) -> Self {
        let mut written = Written::new();
        for _ in 0..messages_each {
            let messages = written.next_messages(CHANNELS);
            written.commit(&messages);
        }
        let Written { disk, log, .. } = written;
        disk.run(log.close()).expect("a disk without faults");
        let reader = disk.run(sealed(&disk));
        Self {
            disk,
            reader,
            messages_each,
        }
    }

    /// A page from the middle of some channel, out of the sealed file's blocks. The numbers of
    /// pages, however large, stand for a few different ones.
    pub(crate) fn page(&self, number: u64) -> Vec<Stored> {
        let pages = self.messages_each / PAGE_MESSAGES as u64 - 1;
        let before = (1 + number / CHANNELS % pages) * PAGE_MESSAGES as u64;
        let of = number % CHANNELS;
        self.read(of, Query::Before(key(before * CHANNELS + of)))
    }

    /// A channel's newest page, which is remembered once it has been asked for.
    pub(crate) fn newest(&self, number: u64) -> Vec<Stored> {
        self.read(number % CHANNELS, Query::Newest)
    }

    fn read(&self, of: u64, query: Query) -> Vec<Stored> {
        let query = PageQuery {
            channel: channel(of),
            query,
            limit: PAGE_MESSAGES,
            upto_seq: u64::MAX,
            with_deleted: false,
            bytes_max: usize::MAX,
        };
        let page = self.disk.run(self.reader.page(&query));
        page.expect("a disk without faults")
    }

    /// Reads sent to the disk so far.
    pub(crate) fn device_reads(&self) -> u64 {
        self.reader.stats().device_reads
    }
}

/// Seals what was written, and opens the store as a node does when it starts.
async fn sealed(disk: &SimDisk) -> Reader<SimDisk> {
    let (store, config) = (config(), MaintenanceConfig::default());
    let now_ms = START_MS + 2 * DAY_MS;
    compact(disk, root(), &store, &config, now_ms, |_| ())
        .await
        .expect("a disk without faults");
    let recovered = recover(disk, root(), &store).await;
    let recovered = recovered.expect("a disk without faults");
    let segments = &recovered.segments;
    let maintenance = Maintenance::open(disk.clone(), root(), store, config, 1, segments).await;
    let view = View::of(maintenance.expect("a disk without faults").buckets());
    let place = LogPlace {
        shard: 0,
        shards: 1,
        sealed_through: recovered.sealed_through,
    };
    let index = Rc::new(RefCell::new(recovered.index));
    let log = Log::open(disk.clone(), root(), store, place, segments, index, now_ms).await;
    let live = log.expect("a disk without faults").live();
    Reader::new(disk.clone(), root(), live, view, store)
}
