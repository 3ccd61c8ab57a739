//! Export, import, verify and compact: what is moved is the same, and no damage goes unnoticed.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng_storage_engine::{
    Day, ExportFilter, Exported, ExportedHead, Finding, Importer, MaintenanceConfig, Record,
    RecordKind, Refusal, Report, SimDisk, SimLatency, StoreError, Verified, compact, export,
    prepare, verify,
};

use crate::world::{DAY_MS, START_MS, World, channel, key, root, tiny};

fn new_disk(seed: u64) -> SimDisk {
    SimDisk::new(seed, SimLatency::default())
}

/// A store of several days, runs and numbers of shards, with changes of old and new messages.
async fn fill(disk: &SimDisk, seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    for run in 0..3 {
        let shards = rng.random_range(1..4);
        let now_ms = START_MS + run * 9 * DAY_MS;
        let mut world = World::open(disk, root(), tiny(), shards, now_ms)
            .await
            .unwrap();
        for _ in 0..25 {
            let owner = u8::try_from(rng.random_range(0..shards)).unwrap();
            let channels: Vec<u8> = (0..rng.random_range(1..6))
                .map(|_| owner + u8::try_from(shards).unwrap() * rng.random_range(0..4))
                .collect();
            world
                .send(&channels, rng.random_range(0..2000))
                .await
                .unwrap();
            world.now_ms += rng.random_range(1..DAY_MS / 10);
            let kind = [
                RecordKind::Edit,
                RecordKind::Delete,
                RecordKind::ReactionAdd,
                RecordKind::ReactionRemove,
            ][rng.random_range(0..4)];
            world.change(&channels, kind).await.unwrap();
            world.index_filled().await.unwrap();
        }
        world.close().await.unwrap();
    }
}

async fn compact_all(disk: &SimDisk, now_ms: u64) {
    let config = MaintenanceConfig::default();
    compact(disk, root(), &tiny(), &config, now_ms, |_| ())
        .await
        .unwrap();
}

async fn exported(disk: &SimDisk, filter: &ExportFilter) -> Vec<Exported> {
    let mut items = Vec::new();
    let sink = |item, _: &_| {
        items.push(item);
        Ok::<(), StoreError>(())
    };
    prepare(disk, root()).await.unwrap();
    export(disk, root(), &tiny(), filter, sink).await.unwrap();
    items
}

async fn import(disk: &SimDisk, items: &[Exported]) -> Vec<(usize, Refusal)> {
    let mut importer = Importer::open(disk, root(), &tiny()).await.unwrap();
    let mut refused = Vec::new();
    for (number, item) in items.iter().enumerate() {
        if let Err(refusal) = importer.push(item.clone()).await.unwrap() {
            refused.push((number, refusal));
        }
    }
    importer.finish().await.unwrap();
    refused
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Report for Findings {
    fn found(&mut self, finding: Finding) {
        self.0.push(finding);
    }

    fn checked(&mut self, so_far: &Verified) {
        assert!(so_far.bytes <= so_far.bytes_total);
    }
}

async fn verified(disk: &SimDisk) -> (Verified, Vec<Finding>) {
    let mut findings = Findings::default();
    let done = verify(disk, root(), &tiny(), &mut findings).await;
    assert_eq!(done.findings, findings.0.len() as u64);
    (done, findings.0)
}

async fn assert_sound(disk: &SimDisk, context: &str) {
    prepare(disk, root()).await.unwrap();
    let (done, findings) = verified(disk).await;
    assert!(findings.is_empty(), "{context}: {findings:?}");
    assert!(
        done.records > 0 && done.bytes == done.bytes_total,
        "{context}: {done:?}"
    );
}

/// An import of an export gives the same export, and a sound store that can be opened.
async fn assert_moves(from: &SimDisk, context: &str) {
    let items = exported(from, &ExportFilter::default()).await;
    let to = new_disk(77);
    to.run(async {
        assert_eq!(import(&to, &items).await, [], "{context}");
        assert_sound(&to, context).await;
        let again = exported(&to, &ExportFilter::default()).await;
        assert!(
            again == items,
            "{context}: {} and {} items",
            again.len(),
            items.len()
        );
        Importer::open(&to, root(), &tiny())
            .await
            .unwrap()
            .finish()
            .await
            .unwrap();
        let again = exported(&to, &ExportFilter::default()).await;
        assert!(again == items, "{context}: after it was opened");
        compact_all(&to, START_MS + 400 * DAY_MS).await;
        assert_sound(&to, context).await;
    });
}

#[test]
fn what_is_moved_is_the_same_sealed_or_not() {
    for seed in 0..6 {
        let disk = new_disk(seed);
        disk.run(async {
            fill(&disk, seed).await;
            assert_sound(&disk, "as it was written").await;
            assert_moves(&disk, "as it was written").await;
            compact_all(&disk, START_MS + 12 * DAY_MS).await;
            assert_sound(&disk, "half of it sealed").await;
            assert_moves(&disk, "half of it sealed").await;
            compact_all(&disk, START_MS + 400 * DAY_MS).await;
            assert_sound(&disk, "all sealed, months merged").await;
            assert_moves(&disk, "all sealed, months merged").await;
        });
    }
}

#[test]
fn a_part_of_a_store_can_be_moved_too() {
    let disk = new_disk(3);
    disk.run(async {
        fill(&disk, 3).await;
        compact_all(&disk, START_MS + 12 * DAY_MS).await;
        let all = exported(&disk, &ExportFilter::default()).await;
        let filter = ExportFilter {
            channel: Some(channel(1)),
            from: Some(Day::of_ms(START_MS + DAY_MS)),
            to: Some(Day::of_ms(START_MS + 10 * DAY_MS)),
        };
        let part = exported(&disk, &filter).await;
        let records = |items: &[Exported]| {
            let record = |item: &Exported| match item {
                Exported::Record(record) => Some(record.clone()),
                _ => None,
            };
            items.iter().filter_map(record).collect::<Vec<_>>()
        };
        let (all, part_records) = (records(&all), records(&part));
        assert!(!part_records.is_empty() && part_records.len() < all.len() / 2);
        assert!(
            part_records
                .iter()
                .all(|record| record.channel == channel(1))
        );
        let to = new_disk(4);
        to.run(async {
            assert_eq!(import(&to, &part).await, []);
            assert_sound(&to, "a part").await;
        });
    });
}

/// Every tenth byte that is not zero, of every file: paddings are zeroes.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let disk = new_disk(5);
    disk.run(async {
        fill(&disk, 5).await;
        compact_all(&disk, START_MS + 12 * DAY_MS).await;
    });
    let mut rng = StdRng::seed_from_u64(9);
    let mut checked = 0;
    for path in disk.files() {
        let is_lock = path.ends_with("LOCK");
        let content = disk.contents(&path).unwrap();
        let used = (0..content.len()).filter(|at| content[*at] != 0);
        let used: Vec<usize> = used.filter(|_| !is_lock).collect();
        for _ in 0..used.len().min(24) {
            let offset = used[rng.random_range(0..used.len())] as u64;
            disk.flip(&path, offset, 1 << rng.random_range(0..8));
            let (_, findings) = disk.run(verified(&disk));
            assert!(!findings.is_empty(), "{} at {offset}", path.display());
            checked += 1;
            disk.put(&path, &content);
        }
    }
    assert!(checked > 200, "{checked}");
    disk.run(assert_sound(&disk, "put back"));
}

#[test]
fn a_file_that_is_missing_is_named() {
    let disk = new_disk(6);
    disk.run(async {
        fill(&disk, 6).await;
        compact_all(&disk, START_MS + 12 * DAY_MS).await;
        let files = disk.files();
        let required = |path: &&PathBuf| {
            let ending = path.extension().and_then(|ending| ending.to_str());
            matches!(ending, Some("log" | "seg"))
        };
        for path in files.iter().filter(required) {
            let content = disk.contents(path).unwrap();
            throng_storage_engine::Disk::remove(&disk, path)
                .await
                .unwrap();
            let (_, findings) = verified(&disk).await;
            assert!(!findings.is_empty(), "{}", path.display());
            disk.put(path, &content);
        }
    });
}

fn record(seq: u64, rev: u64, bytes: usize) -> Record {
    Record {
        kind: RecordKind::Create,
        schema: 1,
        channel: channel(1),
        message: key(START_MS + seq, seq),
        author: throng_storage_engine::AuthorKey([1; 16]),
        seq,
        rev,
        target: throng_storage_engine::MessageKey::ZERO,
        nonce: throng_storage_engine::NonceKey::ZERO,
        body: Bytes::from(vec![1; bytes]),
    }
}

#[test]
fn what_does_not_follow_is_refused_and_left_out() {
    let disk = new_disk(7);
    let item = |seq, rev| Exported::Record(record(seq, rev, 10));
    let day = Day::of_ms(START_MS);
    let bucket = |first, last| Exported::Bucket {
        first_day: Day(day.0 + first),
        last_day: Day(day.0 + last),
    };
    let head = Exported::Head {
        channel: channel(1),
        head: ExportedHead {
            seq: 9,
            rev: 20,
            ..ExportedHead::default()
        },
    };
    let items = [
        bucket(0, 0),
        item(1, 1),
        item(3, 3), // 2 is missing.
        item(2, 2),
        item(2, 2),
        bucket(0, 1), // Overlaps.
        Exported::Segments,
        item(4, 4),
        head.clone(),
        item(10, 21),
        head,
        Exported::Record(record(11, 22, 10_000)),
        item(11, 22),
        bucket(5, 5),
    ];
    let refused = disk.run(import(&disk, &items));
    let numbers: Vec<usize> = refused.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [2, 4, 5, 7, 10, 11, 13], "{refused:?}");
    disk.run(async {
        assert_sound(&disk, "what was taken").await;
        let found = exported(&disk, &ExportFilter::default()).await;
        let seq = |item: &Exported| match item {
            Exported::Record(record) => Some(record.seq),
            _ => None,
        };
        assert_eq!(
            found.iter().filter_map(seq).collect::<Vec<_>>(),
            [1, 2, 10, 11]
        );
        let more = [item(11, 22), item(12, 23)];
        let refused = import(&disk, &more).await;
        assert_eq!(refused.len(), 1, "goes on behind what is there");
        assert_sound(&disk, "gone on").await;
    });
}

#[test]
fn an_erased_message_is_moved_though_its_deletion_has_its_rev() {
    let deletion = Record {
        kind: RecordKind::Delete,
        target: record(1, 1, 0).message,
        ..record(1, 1, 0)
    };
    let day = Day::of_ms(START_MS);
    let items = [
        Exported::Bucket {
            first_day: day,
            last_day: day,
        },
        Exported::Record(record(1, 1, 0)),
        Exported::Record(deletion),
        Exported::Record(record(2, 2, 10)),
    ];
    let disk = new_disk(9);
    disk.run(async {
        assert_eq!(import(&disk, &items).await, []);
        assert_eq!(exported(&disk, &ExportFilter::default()).await, items);
        assert_sound(&disk, "erased").await;
    });
}

#[test]
fn an_empty_store_is_sound_and_exports_nothing() {
    let disk = new_disk(8);
    disk.run(async {
        assert_eq!(import(&disk, &[]).await, []);
        assert_eq!(exported(&disk, &ExportFilter::default()).await, []);
        assert_eq!(verified(&disk).await.1.len(), 0);
    });
    assert!(disk.contents(Path::new("/data/segments")).is_none());
}
