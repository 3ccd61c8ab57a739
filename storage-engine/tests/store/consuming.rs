//! Consumers: everything at least once and in order, whatever happens in between.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng_storage_engine::{
    ChannelKey, Consumer, ConsumerLimits, ConsumerName, Consumers, Damage, Day, Ends, Log,
    MaintenanceConfig, Record, SegmentEnd, SegmentId, SimDisk, SimLatency, StartAt, StoreConfig,
    StoreError, compact,
};

use crate::world::{DAY_MS, Messages, START_MS, World, root, segment_files, tiny};

pub(crate) fn name() -> ConsumerName {
    ConsumerName::parse("search").unwrap()
}

fn config() -> StoreConfig {
    StoreConfig {
        consumers: ConsumerLimits {
            batch_records_max: 5,
            batch_bytes_max: 6_000,
            ..ConsumerLimits::default()
        },
        ..tiny()
    }
}

/// The lowest number that the logs of this world may give out. To be asked before they commit.
pub(crate) fn first(world: &World<SimDisk>) -> SegmentId {
    let newest = |log: &Log<SimDisk>| log.segments().borrow().newest();
    let newest = world.logs.iter().map(newest).max();
    SegmentId(newest.map_or(1, |newest| newest.0 + 1))
}

/// What a server would tell its consumers: measured for earlier runs, told by the logs for its own.
pub(crate) async fn ends(world: &World<SimDisk>, first: SegmentId) -> Ends {
    let shards = u16::try_from(world.logs.len()).unwrap();
    let mut ends = Ends::new(first, shards);
    for log in &world.logs {
        let segments: Vec<_> = log.segments().borrow().iter().collect();
        for (segment, info) in segments {
            let synced = log.synced().filter(|synced| synced.segment == segment);
            if info.end.is_none() && synced.is_none_or(|synced| synced.end == 0) {
                continue;
            }
            let measured =
                SegmentEnd::measure(&world.disk, &world.root, &world.config, segment, info.day);
            let end = SegmentEnd {
                end: synced.map_or_else(|| info.end.unwrap(), |synced| synced.end),
                is_ended: info.end.is_some(),
                ..measured.await.unwrap()
            };
            ends.note(segment, end);
        }
    }
    ends
}

/// What a consumer has got, in order of its arrival, per channel; repetitions included.
type Got = BTreeMap<ChannelKey, Vec<Record>>;

async fn take(
    consumer: &mut Consumer<SimDisk>,
    ends: &Ends,
    got: &mut Got,
) -> Result<usize, StoreError> {
    let batch = consumer.next_batch(ends).await?;
    assert!(batch.deliveries.len() <= 5, "batches are bounded");
    for delivery in &batch.deliveries {
        let record = delivery.record.clone();
        got.entry(record.channel).or_default().push(record);
    }
    consumer.commit(&batch).await?;
    Ok(batch.deliveries.len())
}

async fn take_all(consumer: &mut Consumer<SimDisk>, ends: &Ends, got: &mut Got) {
    while take(consumer, ends, got).await.unwrap() > 0 {}
}

/// Every record is there; each channel's come in order, and a step back only repeats.
fn assert_at_least_once(got: &Got, acked: &Messages, context: &str) {
    for (channel, records) in acked {
        let mut seen = 0;
        for record in &got[channel] {
            assert!(
                record.seq <= seen + 1,
                "{context}: {channel} skips {}",
                seen + 1
            );
            let known = &records[usize::try_from(record.seq).unwrap() - 1];
            assert_eq!(known, record, "{context}");
            seen = seen.max(record.seq);
        }
        assert_eq!(seen, records.len() as u64, "{context}: {channel}");
    }
}

fn assert_exactly_once(got: &Got, acked: &Messages, context: &str) {
    assert_at_least_once(got, acked, context);
    let count = |map: &Messages| map.values().map(Vec::len).sum::<usize>();
    assert_eq!(
        count(got),
        count(acked),
        "{context}: without a crash nothing comes twice"
    );
}

fn run_seed(seed: u64) {
    let disk = SimDisk::new(seed, SimLatency::default());
    disk.run(async {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut got = Got::new();
        let mut now_ms = START_MS;
        for _ in 0..6 {
            let shards = rng.random_range(1..5);
            let opened = World::open(&disk, root(), config(), shards, now_ms).await;
            let mut world = opened.unwrap();
            let first = first(&world);
            let consumers = Consumers::load(&disk, root(), &config()).await.unwrap();
            let now_ends = ends(&world, first).await;
            let opened = consumers
                .open(&disk, &name(), StartAt::Oldest, &now_ends)
                .await;
            let mut consumer = opened.unwrap();
            for _ in 0..rng.random_range(0..40) {
                let owner = rng.random_range(0..shards);
                let channels: Vec<u8> = (0..rng.random_range(1..9))
                    .map(|_| u8::try_from(owner + shards * rng.random_range(0..3)).unwrap())
                    .collect();
                world
                    .send(&channels, rng.random_range(0..1500))
                    .await
                    .unwrap();
                world.now_ms += rng.random_range(1..DAY_MS / 8);
                if rng.random_ratio(1, 3) {
                    let now_ends = ends(&world, first).await;
                    take(&mut consumer, &now_ends, &mut got).await.unwrap();
                }
                if rng.random_ratio(1, 9) {
                    let now_ends = ends(&world, first).await;
                    consumer.next_batch(&now_ends).await.unwrap();
                    consumer.rewind();
                }
            }
            if rng.random_ratio(1, 3) {
                let now_ends = ends(&world, first).await;
                take_all(&mut consumer, &now_ends, &mut got).await;
                assert_exactly_once(&got, &world.acked, &format!("seed {seed}"));
                assert_eq!(
                    consumer.lag(&now_ends),
                    throng_storage_engine::Lag::default()
                );
            }
            now_ms = world.now_ms;
            drop(consumer);
            world.close().await.unwrap();
        }
        let world = World::open(&disk, root(), config(), 2, now_ms)
            .await
            .unwrap();
        let consumers = Consumers::load(&disk, root(), &config()).await.unwrap();
        let now_ends = ends(&world, first(&world)).await;
        let opened = consumers
            .open(&disk, &name(), StartAt::Newest, &now_ends)
            .await;
        take_all(&mut opened.unwrap(), &now_ends, &mut got).await;
        assert_exactly_once(&got, &world.acked, &format!("seed {seed}"));
    });
}

#[test]
fn every_record_comes_once_and_in_order_whatever_the_number_of_shards_was() {
    for seed in 0..60 {
        run_seed(seed);
    }
}

/// Sends and consumes until the power goes.
async fn consume_until_cut(disk: &SimDisk, got: &mut Got) -> Result<(), StoreError> {
    for (run, shards) in [(0, 2), (1, 3)] {
        let now_ms = START_MS + run * DAY_MS;
        let mut world = World::open(disk, root(), config(), shards, now_ms).await?;
        let first = first(&world);
        let consumers = Consumers::load(disk, root(), &config()).await?;
        let now_ends = ends(&world, first).await;
        let mut consumer = consumers
            .open(disk, &name(), StartAt::Oldest, &now_ends)
            .await?;
        for step in 0..8 {
            let owner = step % u8::try_from(shards).unwrap();
            let channels = [owner, owner + u8::try_from(shards).unwrap(), owner];
            if world.send(&channels, 700).await.is_err() {
                return Err(StoreError::Poisoned);
            }
            let now_ends = ends(&world, first).await;
            take(&mut consumer, &now_ends, got).await?;
        }
        drop(consumer);
        world.close().await?;
    }
    Ok(())
}

#[test]
fn a_crash_in_any_change_loses_no_record() {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.run(consume_until_cut(&disk, &mut Got::new())).unwrap();
    let changes = disk.changes();
    for cut in 1..=changes {
        let context = format!("cut in change {cut} of {changes}");
        let disk = SimDisk::new(cut, SimLatency::default());
        disk.cut_power_at(cut);
        let mut got = Got::new();
        let ended = disk.run(consume_until_cut(&disk, &mut got));
        assert!(ended.is_err() && !disk.has_power(), "{context}");
        disk.crash();
        disk.run(async {
            let world = World::open(&disk, root(), config(), 1, START_MS + 2 * DAY_MS).await;
            let world = world.unwrap();
            let consumers = Consumers::load(&disk, root(), &config()).await.unwrap();
            let now_ends = ends(&world, first(&world)).await;
            let opened = consumers
                .open(&disk, &name(), StartAt::Oldest, &now_ends)
                .await;
            take_all(&mut opened.unwrap(), &now_ends, &mut got).await;
            assert_at_least_once(&got, &world.acked, &context);
        });
    }
}

/// A store of two days with a consumer that has read nothing.
fn behind(disk: &SimDisk) -> (World<SimDisk>, Consumers, Consumer<SimDisk>, Ends) {
    disk.run(async {
        let mut world = World::open(disk, root(), config(), 1, START_MS)
            .await
            .unwrap();
        let first = first(&world);
        world.send(&[1, 2, 1], 100).await.unwrap();
        world.now_ms += DAY_MS;
        world.send(&[1, 1], 100).await.unwrap();
        let consumers = Consumers::load(disk, root(), &config()).await.unwrap();
        let now_ends = ends(&world, first).await;
        let opened = consumers
            .open(disk, &name(), StartAt::Oldest, &now_ends)
            .await;
        (world, consumers, opened.unwrap(), now_ends)
    })
}

#[test]
fn the_lag_is_what_was_not_committed() {
    let disk = SimDisk::new(1, SimLatency::default());
    let (_world, _, mut consumer, now_ends) = behind(&disk);
    let before = consumer.lag(&now_ends);
    assert_eq!(before.records, 5);
    assert_eq!(before.bytes, 4 * 4096, "two openings, two commits");
    let batch = disk.run(consumer.next_batch(&now_ends)).unwrap();
    assert_eq!(consumer.lag(&now_ends), before, "read is not committed");
    disk.run(consumer.commit(&batch)).unwrap();
    assert_eq!(consumer.lag(&now_ends).records, 0);
    assert_eq!(consumer.lag(&now_ends).ms, 0);
}

#[test]
fn the_lag_in_time_is_from_what_was_committed_to_what_is_durable() {
    let disk = SimDisk::new(1, SimLatency::default());
    let (mut world, _, mut consumer, now_ends) = behind(&disk);
    let batch = disk.run(consumer.next_batch(&now_ends)).unwrap();
    disk.run(consumer.commit(&batch)).unwrap();
    world.now_ms += 700;
    let now_ends = disk.run(async {
        world.send(&[1], 100).await.unwrap();
        ends(&world, now_ends.first()).await
    });
    let lag = consumer.lag(&now_ends);
    assert_eq!((lag.records, lag.bytes, lag.ms), (1, 4096, 700));
}

#[test]
fn what_is_not_durable_is_not_shown() {
    let disk = SimDisk::new(1, SimLatency::default());
    let (_world, _, mut consumer, now_ends) = behind(&disk);
    let (segment, mut end) = now_ends.iter().last().unwrap();
    end.end -= 4096;
    let mut shown = Ends::new(now_ends.first(), 1);
    for (segment, end) in now_ends.iter() {
        shown.note(segment, end);
    }
    shown.remove(segment);
    shown.note(segment, end);
    let batch = disk.run(consumer.next_batch(&shown)).unwrap();
    assert_eq!(batch.deliveries.len(), 3);
}

/// Seals everything up to yesterday, as a node whose server is stopped.
async fn seal(disk: &SimDisk, now_ms: u64) {
    let maintenance = MaintenanceConfig::default();
    compact(disk, root(), &config(), &maintenance, now_ms, |_| ())
        .await
        .unwrap();
}

#[test]
fn sealed_segments_wait_for_a_consumer_that_then_goes_on_in_order() {
    let disk = SimDisk::new(1, SimLatency::default());
    let (world, _, consumer, _) = behind(&disk);
    let acked = world.acked.clone();
    drop(consumer);
    disk.run(async {
        world.close().await.unwrap();
        seal(&disk, START_MS + 3 * DAY_MS).await;
        let consumers = Consumers::load(&disk, root(), &config()).await.unwrap();
        let held = consumers.held(&disk).await.unwrap();
        assert_eq!(held.len(), 2, "both days' segments");
        let is_left = |path: &PathBuf| path.starts_with("/data/segments");
        assert_eq!(disk.files().iter().filter(|path| is_left(path)).count(), 0);
        let mut now_ends = Ends::new(SegmentId(100), 3);
        for (segment, day) in held {
            let end = SegmentEnd::measure(&disk, root(), &config(), segment, day).await;
            now_ends.note(segment, end.unwrap());
        }
        let opened = consumers
            .open(&disk, &name(), StartAt::Oldest, &now_ends)
            .await;
        let mut consumer = opened.unwrap();
        let mut got = Got::new();
        take_all(&mut consumer, &now_ends, &mut got).await;
        assert_exactly_once(&got, &acked, "from held segments");
        consumers.prune(&mut now_ends);
        assert_eq!(now_ends.iter().count(), 0);
        let removed = consumers.sweep(&disk, Day::of_ms(START_MS)).await.unwrap();
        assert_eq!(removed.len(), 2);
        assert_eq!(consumers.held(&disk).await.unwrap(), []);
    });
}

#[test]
fn segments_do_not_wait_for_ever() {
    let disk = SimDisk::new(1, SimLatency::default());
    let (world, _, consumer, now_ends) = behind(&disk);
    drop(consumer);
    disk.run(async {
        world.close().await.unwrap();
        seal(&disk, START_MS + 3 * DAY_MS).await;
        let consumers = Consumers::load(&disk, root(), &config()).await.unwrap();
        let held = consumers.held(&disk).await.unwrap();
        let hold_days = config().consumers.hold_days;
        let day_after = |days| Day(Day::of_ms(START_MS).0 + days);
        assert_eq!(
            consumers.sweep(&disk, day_after(hold_days)).await.unwrap(),
            []
        );
        let removed = consumers
            .sweep(&disk, day_after(hold_days + 1))
            .await
            .unwrap();
        assert_eq!(removed, [held[0].0], "of the first day only");
    });
    disk.crash();
    disk.run(async {
        let consumers = Consumers::load(&disk, root(), &config()).await.unwrap();
        let opened = consumers
            .open(&disk, &name(), StartAt::Oldest, &now_ends)
            .await;
        let mut consumer = opened.unwrap();
        let error = consumer.next_batch(&now_ends).await.unwrap_err();
        assert!(matches!(error, StoreError::ConsumerTooFarBehind { .. }));
        consumer.reset(StartAt::Newest, &now_ends).await.unwrap();
        let batch = consumer.next_batch(&now_ends).await.unwrap();
        assert!(batch.deliveries.is_empty());
    });
}

#[test]
fn one_consumer_of_a_name_is_open_at_a_time() {
    let disk = SimDisk::new(1, SimLatency::default());
    let (_world, consumers, consumer, now_ends) = behind(&disk);
    let open = || disk.run(consumers.open(&disk, &name(), StartAt::Oldest, &now_ends));
    assert!(matches!(open(), Err(StoreError::ConsumerOpen { .. })));
    assert!(disk.run(consumers.remove(&disk, &name())).is_err());
    drop(consumer);
    drop(open().unwrap());
    disk.run(consumers.remove(&disk, &name())).unwrap();
    assert_eq!(consumers.names(), []);
    assert_eq!(
        disk.files()
            .iter()
            .filter(|path| path.starts_with("/data/consumers"))
            .count(),
        0
    );
}

#[test]
fn a_damaged_position_is_named() {
    let disk = SimDisk::new(1, SimLatency::default());
    drop(behind(&disk));
    let path = Path::new("/data/consumers/search.pos");
    for offset in [0, 5, 9, 20, 28, 40] {
        disk.flip(path, offset, 8);
        let error = disk
            .run(Consumers::load(&disk, root(), &config()))
            .err()
            .unwrap();
        let StoreError::Corrupt {
            path: named,
            damage,
            ..
        } = error
        else {
            panic!("{error}")
        };
        assert_eq!((named.as_path(), damage), (path, Damage::Position));
        disk.flip(path, offset, 8);
    }
    disk.run(Consumers::load(&disk, root(), &config())).unwrap();
}

#[test]
fn damage_before_the_durable_end_is_an_error_and_nothing_is_skipped() {
    let disk = SimDisk::new(1, SimLatency::default());
    let (_world, _, mut consumer, now_ends) = behind(&disk);
    let file = segment_files(&disk)[0].clone();
    disk.flip(&file, 4096 + 200, 1);
    for _ in 0..2 {
        let error = disk.run(consumer.next_batch(&now_ends)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { path, offset: 4096, .. } if path == file));
    }
    disk.flip(&file, 4096 + 200, 1);
    let batch = disk.run(consumer.next_batch(&now_ends)).unwrap();
    assert_eq!(batch.deliveries.len(), 5);
}

#[test]
fn a_position_of_another_store_is_refused() {
    let disk = SimDisk::new(1, SimLatency::default());
    let (_world, _, mut consumer, now_ends) = behind(&disk);
    let batch = disk.run(consumer.next_batch(&now_ends)).unwrap();
    disk.run(consumer.commit(&batch)).unwrap();
    let other = Ends::new(SegmentId(1), 3);
    let error = disk.run(consumer.next_batch(&other)).unwrap_err();
    assert!(matches!(error, StoreError::PositionAhead { .. }));
}
