//! What recovery makes of segments' index files, the catalog and sealed days.

use std::path::{Path, PathBuf};

use throng_storage_engine::{
    Damage, Day, Disk, RecordKind, Recovered, SegmentId, SimDisk, SimLatency, StoreConfig,
    StoreError, recover,
};

use crate::world::{DAY_MS, START_MS, World, channel, open, root, segment_files, send, tiny};

const NODE: &str = "/data/catalog/node.cat";

fn disk() -> SimDisk {
    SimDisk::new(9, SimLatency::default())
}

fn indexes(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "idx"))
        .collect()
}

/// A store of several segments over three days, killed; all that ended are indexed.
fn several_days(disk: &SimDisk) -> World<SimDisk> {
    let mut world = open(disk, 2).unwrap();
    for day in 0..3 {
        for _ in 0..12 {
            send(&mut world, &[1, 3, 1], 2500);
            send(&mut world, &[2], 100);
            disk.run(world.change(&[1, 3], RecordKind::Edit)).unwrap();
        }
        if day < 2 {
            world.now_ms += DAY_MS;
        }
    }
    disk.run(world.index_filled()).unwrap();
    world
}

#[test]
fn only_segments_that_were_open_are_read() {
    let disk = disk();
    let world = several_days(&disk);
    let (acked, _) = world.kill();
    disk.crash();
    let segments = segment_files(&disk).len();
    assert_eq!(indexes(&disk).len(), segments - 2);
    let world = open(&disk, 2).unwrap();
    assert_eq!(world.acked, acked);
    assert_eq!((world.report.segments, world.report.scanned), (segments, 2));
    assert_eq!(indexes(&disk).len(), segments, "now all are indexed");
    disk.run(world.close()).unwrap();
    let world = open(&disk, 3).unwrap();
    assert_eq!((world.report.scanned, world.acked), (0, acked));
}

#[test]
fn an_index_that_is_lost_or_damaged_is_made_anew() {
    let disk = disk();
    let (acked, _) = several_days(&disk).kill();
    disk.crash();
    drop(open(&disk, 1).unwrap());
    let whole: Vec<_> = (indexes(&disk).into_iter())
        .map(|path| (disk.contents(&path).unwrap(), path))
        .collect();
    let catalog = disk.contents(Path::new(NODE)).unwrap();
    for with_catalog in [true, false] {
        for (content, path) in &whole {
            if !with_catalog {
                disk.run(disk.remove(Path::new(NODE))).unwrap();
            }
            let fences = content.len() as u64 - 4096;
            // The directory of a segment that the catalog covers is not looked at.
            let places = if with_catalog { 2 } else { 3 };
            for damaged in [20, fences, 4096 + 20].into_iter().take(places) {
                disk.flip(path, damaged, 1);
                let world = open(&disk, 1).unwrap();
                assert_eq!((world.report.scanned, &world.acked), (1, &acked));
                assert_eq!(disk.contents(path).as_ref(), Some(content));
                assert_eq!(disk.contents(Path::new(NODE)), Some(catalog.clone()));
                drop(world);
                if !with_catalog {
                    disk.run(disk.remove(Path::new(NODE))).unwrap();
                }
            }
            disk.run(disk.remove(path)).unwrap();
            let world = open(&disk, 1).unwrap();
            assert_eq!((world.report.scanned, &world.acked), (1, &acked));
            assert_eq!(disk.contents(path).as_ref(), Some(content));
        }
    }
}

#[test]
fn an_index_of_another_use_of_its_number_is_not_believed() {
    let other = disk();
    let mut world = open(&other, 1).unwrap();
    send(&mut world, &[1, 2, 3], 10);
    other.run(world.close()).unwrap();
    let path = indexes(&other).remove(0);
    let disk = SimDisk::new(10, SimLatency::default());
    let mut world = open(&disk, 1).unwrap();
    send(&mut world, &[1], 10);
    let (acked, _) = world.kill();
    disk.crash();
    disk.put(&path, &other.contents(&path).unwrap());
    let world = open(&disk, 1).unwrap();
    assert_eq!((world.report.scanned, world.acked), (1, acked));
}

#[test]
fn a_segment_shorter_than_its_index_says_is_refused() {
    let disk = disk();
    several_days(&disk).kill();
    disk.crash();
    for with_catalog in [false, true] {
        if with_catalog {
            drop(open(&disk, 1).unwrap());
        }
        let path = indexes(&disk).remove(0).with_extension("log");
        let content = disk.contents(&path).unwrap();
        disk.put(&path, &content[..8192]);
        let Err(StoreError::Corrupt { damage, offset, .. }) = open(&disk, 1) else {
            panic!("a loss went unnoticed")
        };
        assert!(matches!(damage, Damage::BeforeRecordedEnd { .. }));
        assert_eq!(offset, 8192);
        disk.put(&path, &content);
    }
}

#[test]
fn a_log_that_nobody_indexes_for_does_it_itself() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    for _ in 0..200 {
        send(&mut world, &[1], 3000);
    }
    let behind = segment_files(&disk).len() - indexes(&disk).len();
    assert!(indexes(&disk).len() > 2);
    assert_eq!(behind, 1 + tiny().unindexed_segments_max);
    let (acked, _) = world.kill();
    disk.crash();
    assert_eq!(open(&disk, 1).unwrap().acked, acked);
}

#[test]
fn many_segments_without_an_index_are_indexed_a_few_at_a_time() {
    let disk = disk();
    let (acked, _) = several_days(&disk).kill();
    disk.crash();
    for path in indexes(&disk) {
        disk.run(disk.remove(&path)).unwrap();
    }
    let config = StoreConfig {
        unindexed_segments_max: 2,
        ..tiny()
    };
    let world = disk
        .run(World::open(&disk, root(), config, 1, START_MS))
        .unwrap();
    assert_eq!(world.report.scanned, segment_files(&disk).len());
    assert_eq!(world.acked, acked);
}

#[test]
fn an_idle_log_does_not_hold_a_day_back() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    send(&mut world, &[1], 100);
    let today = Day::of_ms(START_MS);
    disk.run(world.logs[0].end_day(Day(today.0 - 1))).unwrap();
    assert_eq!(world.logs[0].index().borrow_mut().filled().len(), 0);
    disk.run(world.logs[0].end_day(today)).unwrap();
    assert_eq!(world.logs[0].index().borrow_mut().filled().len(), 1);
    // The clock says that it is still the same day.
    send(&mut world, &[1], 100);
    let names = segment_files(&disk);
    assert!(names[1].starts_with("/data/segments/2026-11-22"));
    let (acked, _) = world.kill();
    disk.crash();
    let mut world = open(&disk, 1).unwrap();
    assert_eq!(world.acked, acked);
    send(&mut world, &[1], 100);
    let last = segment_files(&disk).pop().unwrap();
    assert!(
        last.starts_with("/data/segments/2026-11-22"),
        "days never go back"
    );
}

/// Opens the store as if its days up to this one were sealed: with a manifest of no buckets.
fn sealed(disk: &SimDisk, through: Day) -> Result<Recovered, StoreError> {
    let mut manifest = vec![0; 4096];
    manifest[..4].copy_from_slice(b"THRM");
    manifest[4..6].copy_from_slice(&1_u16.to_le_bytes());
    manifest[16..20].copy_from_slice(&1_u32.to_le_bytes());
    manifest[24..28].copy_from_slice(&through.0.to_le_bytes());
    manifest[32..40].copy_from_slice(&1_u64.to_le_bytes());
    let sum = crc32c::crc32c(&manifest[..60]);
    manifest[60..64].copy_from_slice(&sum.to_le_bytes());
    disk.put(Path::new("/data/manifest/node.man"), &manifest);
    disk.run(recover(disk, root(), &tiny()))
}

#[test]
fn segments_of_sealed_days_go_and_what_they_said_stays() {
    for (is_covered, has_indexes) in [(true, true), (false, true), (false, false)] {
        let disk = disk();
        let (acked, _) = several_days(&disk).kill();
        disk.crash();
        drop(open(&disk, 1).unwrap());
        if !is_covered {
            // A catalog that covers nothing, as it is made from sealed days.
            let mut world = open(&SimDisk::new(1, SimLatency::default()), 1).unwrap();
            world.now_ms += 1;
            let empty = world.disk.contents(Path::new(NODE)).unwrap();
            disk.put(Path::new(NODE), &empty);
        }
        for path in indexes(&disk) {
            if !has_indexes {
                disk.run(disk.remove(&path)).unwrap();
            }
        }
        let today = Day::of_ms(START_MS);
        let before = segment_files(&disk);
        let found = sealed(&disk, today).unwrap();
        let after = segment_files(&disk);
        let sealed_days = Path::new("/data/segments/2026-11-21");
        assert!(!after.iter().any(|path| path.starts_with(sealed_days)));
        assert_eq!(found.report.removed.len(), before.len() - after.len());
        assert_eq!(found.segments.len(), after.len());
        assert_eq!(found.index.channels(), acked.len());
        for (channel, records) in &acked {
            let head = found.index.head(*channel);
            assert_eq!(head.rev, records.len() as u64);
        }
        drop(found);
        let again = sealed(&disk, today).unwrap();
        assert_eq!((again.report.scanned, again.report.removed.len()), (0, 0));
    }
}

#[test]
fn a_crash_while_sealed_days_go_is_recovered_from() {
    let prepare = |seed| {
        let disk = SimDisk::new(seed, SimLatency::default());
        let (acked, _) = several_days(&disk).kill();
        disk.crash();
        if seed % 2 == 0 {
            disk.run(disk.remove(&indexes(&disk)[0])).unwrap();
        }
        (disk, acked)
    };
    let today = Day::of_ms(START_MS);
    let (disk, _) = prepare(0);
    let before = disk.changes();
    drop(sealed(&disk, today).unwrap());
    let changes = disk.changes() - before;
    for cut in 1..=changes {
        let (disk, acked) = prepare(cut);
        disk.cut_power_at(disk.changes() + cut);
        drop(sealed(&disk, today));
        disk.crash();
        let found = sealed(&disk, today).unwrap_or_else(|error| panic!("cut {cut}: {error}"));
        for (channel, records) in &acked {
            let head = found.index.head(*channel);
            assert_eq!(head.rev, records.len() as u64, "cut {cut}");
        }
    }
}

#[test]
fn numbers_and_days_are_never_used_again() {
    let disk = disk();
    several_days(&disk).kill();
    disk.crash();
    let last_day = Day::of_ms(START_MS + 2 * DAY_MS);
    let before = segment_files(&disk).len();
    let found = sealed(&disk, last_day).unwrap();
    assert_eq!(segment_files(&disk), [] as [PathBuf; 0]);
    assert!(found.segments.is_empty());
    assert!(found.segments.newest() >= SegmentId(u32::try_from(before).unwrap()));
    assert_eq!(found.segments.newest_day(), last_day);
    assert!(found.newest_ms >= START_MS + 2 * DAY_MS);
    assert!(found.index.head(channel(1)).seq > 0);
    let newest = found.segments.newest();
    drop(found);
    assert_eq!(sealed(&disk, last_day).unwrap().segments.newest(), newest);
}

#[test]
fn sealed_days_without_a_catalog_ask_for_one() {
    let disk = disk();
    several_days(&disk).kill();
    disk.crash();
    let today = Day::of_ms(START_MS);
    drop(sealed(&disk, Day(0)).unwrap());
    drop(sealed(&disk, today).unwrap());
    let catalog = disk.contents(Path::new(NODE)).unwrap();
    disk.run(disk.remove(Path::new(NODE))).unwrap();
    let files = disk.files();
    let refused = sealed(&disk, today);
    assert!(matches!(refused, Err(StoreError::CatalogMissing { .. })));
    assert_eq!(disk.files(), files);
    disk.put(Path::new(NODE), &catalog);
    drop(sealed(&disk, today).unwrap());
}

#[test]
fn young_nonces_are_found_in_segments_that_are_not_scanned_otherwise() {
    let disk = disk();
    let mut world = open(&disk, 2).unwrap();
    send(&mut world, &[1, 3], 100);
    world.now_ms += tiny().recent_ms + 10;
    send(&mut world, &[2], 100);
    disk.run(world.change(&[2], RecordKind::Edit)).unwrap();
    world.now_ms += tiny().recent_ms - 10;
    send(&mut world, &[1], 100);
    let (first, second) = (&world.acked[&channel(1)], &world.acked[&channel(2)]);
    let young = [second[0].nonce, second[1].nonce, first[1].nonce];
    disk.run(world.close()).unwrap();
    for shards in [1, 3] {
        let world = open(&disk, shards).unwrap();
        assert_eq!(world.report.scanned, 0);
        let found: Vec<_> = world.recent.iter().map(|recent| recent.nonce).collect();
        assert_eq!(found, young);
        assert_eq!(world.recent[1].kind, RecordKind::Edit);
        disk.run(world.close()).unwrap();
    }
}
