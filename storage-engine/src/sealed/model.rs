//! Sealed segments against a model: what was pushed is what every way of reading gives back.
//!
//! No file here is damaged.
//!
//! Invariants: the model is a list of records; each test draws it from one seed.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::disk::{Disk, GlommioDisk};
use crate::error::{DiskError, StoreError};
use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey};
use crate::record::{Record, RecordKind};
use crate::sim_disk::{SimDisk, SimLatency};

/// The simulated disk's sealed segments.
pub(super) type SimSealed = Sealed<Vec<u8>>;

/// Channels with what the caller of a writer knows of them.
pub(super) type Model = Vec<(ChannelKey, Day, Day, Vec<Record>)>;

pub(super) fn channel(number: u32) -> ChannelKey {
    let mut key = [7; 16];
    key[..4].copy_from_slice(&number.to_be_bytes());
    ChannelKey(key)
}

pub(super) fn message(ms: u64, counter: u64) -> MessageKey {
    MessageKey(((u128::from(ms) << 80) | u128::from(counter)).to_be_bytes())
}

pub(super) fn record(
    channel: ChannelKey,
    kind: RecordKind,
    seq: u64,
    rev: u64,
    body: Vec<u8>,
) -> Record {
    let created = message(seq * 1000, seq);
    let (message, target) = match kind {
        RecordKind::Create => (created, MessageKey::ZERO),
        _ => (message(rev * 1000, 1 << 40 | rev), created),
    };
    Record {
        kind,
        schema: 1,
        channel,
        message,
        author: AuthorKey([u8::try_from(rev % 5).unwrap(); 16]),
        seq,
        rev,
        target,
        nonce: NonceKey::ZERO,
        body: body.into(),
    }
}

/// Draws channels of `messages` messages each at most, some with changes of older ones.
pub(super) fn draw(seed: u64, channels: u32, messages: u64, body_bytes_max: usize) -> Model {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::new();
    for number in 0..channels {
        let channel = channel(number * 2);
        let first_seq = rng.random_range(10..1000);
        let mut rev = first_seq + 500;
        let mut records = Vec::new();
        let mut next = |kind, seq, rng: &mut StdRng| {
            rev += rng.random_range(1..3);
            let bytes = rng.random_range(0..=body_bytes_max);
            let body = (0..bytes).map(|_| rng.random_range(b'a'..b'g')).collect();
            record(channel, kind, seq, rev, body)
        };
        if rng.random_bool(0.3) {
            records.push(next(RecordKind::Edit, first_seq - 9, &mut rng));
            records.push(next(RecordKind::ReactionAdd, first_seq - 9, &mut rng));
            records.push(next(RecordKind::Delete, first_seq - 2, &mut rng));
        }
        for seq in first_seq..first_seq + rng.random_range(0..=messages) {
            records.push(next(RecordKind::Create, seq, &mut rng));
            for _ in 0..rng.random_range(0_u32..10).saturating_sub(7) {
                records.push(next(RecordKind::ReactionAdd, seq, &mut rng));
            }
        }
        model.push((channel, Day(19_000 + number), Day(18_000 + number), records));
    }
    model
}

pub(super) fn path() -> PathBuf {
    Path::new("/data/sealed").join(file_name(42, Day(20_000), Day(20_001)))
}

pub(super) fn options(dictionary: Option<Bytes>) -> SealedOptions {
    SealedOptions {
        number: 42,
        first_day: Day(20_000),
        last_day: Day(20_001),
        dictionary,
        zstd_level: 3,
    }
}

pub(super) fn new_disk() -> SimDisk {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.put(Path::new("/data/sealed/x"), b"");
    disk
}

pub(super) fn write(disk: &SimDisk, model: &Model, dictionary: Option<Bytes>) -> SealedSummary {
    disk.run(try_write(disk, &path(), model, dictionary))
        .unwrap()
}

async fn try_write<D: Disk>(
    disk: &D,
    path: &Path,
    model: &Model,
    dictionary: Option<Bytes>,
) -> Result<SealedSummary, DiskError> {
    let mut writer = SealedWriter::create(disk, path, options(dictionary)).await?;
    for (channel, prev, prev_changes, records) in model {
        writer.begin_channel(*channel, *prev, *prev_changes);
        for record in records {
            writer.push(record).await?;
        }
    }
    let summary = writer.finish().await?;
    install(disk, path).await?;
    Ok(summary)
}

pub(super) fn open(disk: &SimDisk) -> Result<Arc<SimSealed>, StoreError> {
    disk.run(Sealed::open(disk, &path(), None))
}

pub(super) fn read_all(disk: &SimDisk) -> Result<Vec<Record>, StoreError> {
    let sealed = open(disk)?;
    disk.run(stream(disk, sealed))
}

async fn stream<D: Disk>(
    disk: &D,
    sealed: Arc<Sealed<D::Mapped>>,
) -> Result<Vec<Record>, StoreError> {
    let mut stream = SealedStream::open(disk, sealed).await?;
    let mut records = Vec::new();
    while let Some(record) = stream.next().await? {
        assert_eq!(stream.run().unwrap().channel, record.channel);
        records.push(record);
    }
    stream.close().await?;
    Ok(records)
}

/// Reads a page as a reader would. Returns its records and how many blocks they took.
fn page(
    file: &[u8],
    sealed: &SimSealed,
    channel: ChannelKey,
    seqs: RangeInclusive<u64>,
) -> (Vec<Record>, u32) {
    let run = sealed.find(channel).unwrap();
    let blocks = sealed.blocks_of(&run, seqs.clone());
    let times = seqs.start() * 1000..=seqs.end() * 1000;
    let at_times = sealed.blocks_at(&run, times);
    assert!(blocks.is_empty() || at_times.start <= blocks.start && blocks.end <= at_times.end);
    assert!(at_times.len() <= blocks.len() + 1);
    let mut found = Vec::new();
    let mut next_offset = None;
    for block in blocks.clone() {
        let place = sealed.block_place(block);
        assert_eq!(
            next_offset.unwrap_or(place.offset),
            place.offset,
            "blocks are contiguous"
        );
        next_offset = Some(place.offset + u64::from(place.bytes));
        let start = usize::try_from(place.offset).unwrap();
        let raw = sealed
            .decompress(block, &file[start..start + place.bytes as usize])
            .unwrap();
        let records = BlockRecords::within(raw, channel, seqs.clone());
        found.extend(records.map(Result::unwrap));
    }
    (found, blocks.end - blocks.start)
}

fn check(model: &Model, dictionary: Option<Bytes>) {
    let disk = new_disk();
    let summary = write(&disk, model, dictionary.clone());
    let sealed = disk
        .run(Sealed::open(&disk, &path(), Some(&summary.identity())))
        .unwrap();
    let all: Vec<Record> = model
        .iter()
        .flat_map(|(.., records)| records.clone())
        .collect();
    assert_eq!(read_all(&disk).unwrap(), all);
    assert_eq!(sealed.dictionary(), dictionary);
    assert_eq!(summary.records, all.len() as u64);
    let file = disk.contents(&path()).unwrap();
    assert_eq!(file.len() as u64, summary.bytes);
    let mut runs = sealed.channels();
    for (channel, prev, prev_changes, records) in model {
        let Some(first) = records.first() else {
            assert_eq!(sealed.find(*channel), None);
            continue;
        };
        let run = sealed.find(*channel).unwrap();
        assert_eq!(runs.next(), Some(run));
        assert_eq!((run.prev_day, run.prev_changes_day), (*prev, *prev_changes));
        let creates = records
            .iter()
            .filter(|record| record.kind == RecordKind::Create);
        let seqs: Vec<u64> = creates.map(|record| record.seq).collect();
        assert_eq!(run.seqs().collect::<Vec<_>>(), seqs);
        let orphan = (first.kind != RecordKind::Create).then_some(first.seq);
        assert_eq!(run.changes_min_seq, orphan.unwrap_or(0));
        check_pages(&file, &sealed, &run, records);
    }
    assert_eq!(runs.next(), None);
}

fn check_pages(file: &[u8], sealed: &SimSealed, run: &ChannelRun, records: &[Record]) {
    let first = records[0].seq - 1;
    let last = records[records.len() - 1].seq + 1;
    let step = (last - first) / 20 + 1;
    for start in (first..=last).step_by(usize::try_from(step).unwrap()) {
        for end in [start, start + 3, start + 49, last] {
            let (found, blocks) = page(file, sealed, run.channel, start..=end);
            let in_page = records
                .iter()
                .filter(|record| (start..=end).contains(&record.seq));
            let expected: Vec<Record> = in_page.cloned().collect();
            assert_eq!(found, expected);
            let bytes: u64 = expected.iter().map(Record::bytes).sum();
            let limit = bytes.div_ceil(SEALED_BLOCK_BYTES.into()) + 1;
            assert!(
                u64::from(blocks) <= limit,
                "{blocks} blocks for {bytes} bytes"
            );
        }
    }
}

#[test]
fn nothing_at_all() {
    check(&Model::new(), None);
}

#[test]
fn small_files() {
    for seed in 0..20 {
        check(&draw(seed, 5, 5, 100), None);
    }
}

#[test]
fn many_blocks_of_few_channels() {
    check(&draw(1, 3, 1500, 300), None);
}

#[test]
fn many_channels() {
    check(&draw(2, 700, 3, 200), None);
}

#[test]
fn records_longer_than_a_block() {
    check(&draw(3, 5, 30, 40_000), None);
}

#[test]
fn with_a_dictionary() {
    let model = draw(4, 20, 100, 200);
    let mut samples = Samples::of(1 << 30);
    let records = model.iter().flat_map(|(.., records)| records);
    records.for_each(|record| samples.show(record));
    check(&model, Some(samples.train().unwrap()));
}

#[test]
fn absent_channels_are_not_found() {
    let disk = new_disk();
    write(&disk, &draw(5, 100, 3, 50), None);
    let sealed = open(&disk).unwrap();
    assert!((0..100).all(|number| sealed.find(channel(number * 2 + 1)).is_none()));
}

#[test]
fn a_crash_leaves_the_whole_file_or_none() {
    let model = draw(8, 10, 3000, 300);
    let disk = new_disk();
    let before = disk.changes();
    let summary = write(&disk, &model, None);
    let changes = disk.changes() - before;
    assert!(
        changes >= 6,
        "create, writes, sync, rename, sync of the directory"
    );
    for change in 1..=changes {
        let disk = new_disk();
        disk.cut_power_at(disk.changes() + change);
        let written = disk.run(try_write(&disk, &path(), &model, None));
        assert!(written.is_err());
        disk.crash();
        if disk.contents(&path()).is_some() {
            let opened = disk.run(Sealed::open(&disk, &path(), Some(&summary.identity())));
            opened.unwrap();
            assert_eq!(read_all(&disk).unwrap().len() as u64, summary.records);
        }
    }
}

#[test]
fn what_was_given_up_leaves_nothing() {
    let disk = new_disk();
    disk.run(async {
        let writer = SealedWriter::create(&disk, &path(), options(None))
            .await
            .unwrap();
        writer.abandon().await.unwrap();
        let files = disk.files().len();
        let mut writer = SealedWriter::create(&disk, &path(), options(None))
            .await
            .unwrap();
        writer.begin_channel(channel(1), Day(0), Day(0));
        assert_eq!(disk.files().len(), files + 1);
        writer.finish().await.unwrap();
        assert!(
            disk.contents(&path()).is_none(),
            "not before it is installed"
        );
    });
}

#[test]
fn on_a_real_disk() {
    let beside = std::env::current_exe().unwrap();
    let directory = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
    let executor = glommio::LocalExecutorBuilder::default()
        .io_memory(1 << 20)
        .ring_depth(64);
    let model = draw(9, 50, 800, 300);
    executor.make().unwrap().run(async {
        let disk = GlommioDisk::at(directory.path()).await.unwrap();
        let path = directory.path().join("a.seg");
        let summary = try_write(&disk, &path, &model, None).await.unwrap();
        assert!(summary.bytes > 1 << 20, "more than one buffer");
        let sealed = Sealed::open(&disk, &path, Some(&summary.identity()))
            .await
            .unwrap();
        let all: Vec<Record> = model
            .iter()
            .flat_map(|(.., records)| records.clone())
            .collect();
        assert!(stream(&disk, sealed).await.unwrap() == all);
    });
}
