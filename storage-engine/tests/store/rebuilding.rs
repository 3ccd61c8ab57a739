//! Index files that are lost although the catalog covers their segments: what is found through
//! those that are made anew is what was found before, whatever is sealed by then.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use throng_storage_engine::{
    Damage, Did, Disk, Log, LogPlace, Maintenance, MaintenanceConfig, PageQuery, Query, Reader,
    RecordKind, RecoveryReport, SimDisk, SimLatency, StoreError, Stored, View, compact, recover,
};

use crate::world::{DAY_MS, START_MS, World, channel, open, root, send, tiny};

const NODE: &str = "/data/catalog/node.cat";
const CHANNELS: u8 = 6;
/// Days with records, from the first: the second half lies in the next month.
const DAYS: [u64; 4] = [0, 1, 14, 15];
/// When to seal: nothing, one day, a whole month, and a day of the next one.
const TIMES: [u64; 4] = [0, 1, 14, 15];

/// A store of several segments on each of four days, closed. Channel 4 is silent in between,
/// channel 5 has only changes after the first day, channel 6 begins on the third.
fn written(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed, SimLatency::default());
    let mut world = open(&disk, 2).unwrap();
    for (number, day) in (0..).zip(DAYS) {
        world.now_ms = START_MS + day * DAY_MS;
        for _ in 0..8 {
            write(&disk, &mut world, number);
        }
        let now_ms = world.now_ms;
        disk.run(world.close()).unwrap();
        world = open(&disk, 1 + number).unwrap();
        world.now_ms = now_ms;
    }
    disk.run(world.close()).unwrap();
    disk
}

fn write(disk: &SimDisk, world: &mut World<SimDisk>, day: u16) {
    for number in [1, 2, 3] {
        send(world, &[number, number], 2500);
    }
    match day {
        0 => {
            send(world, &[4], 300);
            send(world, &[5], 300);
        }
        2 => drop(send(world, &[6], 300)),
        3 => drop(send(world, &[4], 300)),
        _ => {}
    }
    let mut change = |number, kind| disk.run(world.change(&[number], kind)).unwrap();
    change(5, RecordKind::ReactionAdd);
    change(3, RecordKind::Edit);
    if day % 2 == 1 {
        change(1, RecordKind::Edit);
        change(2, RecordKind::Delete);
    }
}

/// All messages of all channels in pages from the newest on, and from the oldest on.
fn pages(reader: &Reader<SimDisk>, disk: &SimDisk) -> Vec<Vec<Stored>> {
    let mut found = Vec::new();
    for number in 1..=CHANNELS {
        let page = |query| {
            let query = PageQuery {
                channel: channel(number),
                query,
                limit: 7,
                upto_seq: u64::MAX,
                with_deleted: true,
                bytes_max: usize::MAX,
            };
            disk.run(reader.page(&query)).unwrap()
        };
        let mut back = page(Query::Newest);
        while let Some(first) = back.first() {
            let older = page(Query::Before(first.create.message));
            if older.is_empty() {
                break;
            }
            back.splice(0..0, older);
        }
        let mut on = page(Query::AfterSeq(0));
        while let Some(last) = on.last() {
            let newer = page(Query::AfterSeq(last.create.seq));
            if newer.is_empty() {
                break;
            }
            on.extend(newer);
        }
        assert_eq!(back, on, "channel {number}");
        assert!(!back.is_empty());
        found.push(back);
    }
    found
}

/// Starts a node on the store; what recovery reported, and all pages.
fn start(disk: &SimDisk) -> Result<(RecoveryReport, Vec<Vec<Stored>>), StoreError> {
    let (report, reader) = disk.run(async {
        let recovered = recover(disk, root(), &tiny()).await?;
        let segments = &recovered.segments;
        let config = MaintenanceConfig::default();
        let maintenance = Maintenance::open(disk.clone(), root(), tiny(), config, 1, segments);
        let view = View::of(maintenance.await?.buckets());
        let place = LogPlace {
            shard: 0,
            shards: 1,
            sealed_through: recovered.sealed_through,
        };
        let index = Rc::new(RefCell::new(recovered.index));
        let now_ms = recovered.newest_ms;
        let log = Log::open(disk.clone(), root(), tiny(), place, segments, index, now_ms).await?;
        let reader = Reader::new(disk.clone(), root(), log.live(), view, tiny());
        Ok::<_, StoreError>((recovered.report, reader))
    })?;
    Ok((report, pages(&reader, disk)))
}

/// Does all that is due on the day so many after the first.
fn seal(disk: &SimDisk, day: u64) -> Vec<Did> {
    let now_ms = START_MS + day * DAY_MS + DAY_MS / 2;
    let mut done = Vec::new();
    let config = MaintenanceConfig::default();
    let on_done = |did| done.push(did);
    disk.run(compact(disk, root(), &tiny(), &config, now_ms, on_done))
        .unwrap();
    done
}

fn indexes(disk: &SimDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files
        .filter(|path| path.extension().is_some_and(|extension| extension == "idx"))
        .collect()
}

/// All days are sealed, into what a store becomes that nothing was lost of.
fn assert_seals(disk: &SimDisk, day: u64) {
    let whole = written(day);
    for disk in [&whole, disk] {
        seal(disk, day);
        seal(disk, 40);
        assert_eq!(indexes(disk), [] as [PathBuf; 0]);
    }
    let [expected, found] = [&whole, disk].map(|disk| start(disk).unwrap().1);
    assert!(found == expected, "sealed on day {day}");
}

/// The byte in which the fences begin.
fn fences(disk: &SimDisk, index: &Path) -> u64 {
    disk.contents(index).unwrap().len() as u64 - 4096
}

#[test]
fn one_lost_index_is_made_anew_whatever_is_sealed() {
    for day in TIMES {
        let disk = written(day);
        let done = seal(&disk, day);
        let sealed = done.iter().filter(|did| matches!(did, Did::Sealed { .. }));
        assert_eq!(
            sealed.count(),
            DAYS.iter().filter(|one| **one < day).count()
        );
        let merged = |did: &Did| matches!(did, Did::Merged { .. });
        assert_eq!(done.iter().any(merged), day >= 14);
        let (report, before) = start(&disk).unwrap();
        assert_eq!(report.scanned, 0);
        let catalog = disk.contents(Path::new(NODE)).unwrap();
        let all = indexes(&disk);
        assert!(all.len() > 2);
        for path in &all {
            let content = disk.contents(path).unwrap();
            for place in [None, Some(20), Some(fences(&disk, path))] {
                match place {
                    Some(place) => disk.flip(path, place, 1),
                    None => disk.run(disk.remove(path)).unwrap(),
                }
                let (report, after) = start(&disk).unwrap();
                assert_eq!(report.scanned, 1, "{}", path.display());
                assert!(after == before, "day {day}, {}", path.display());
                let (report, after) = start(&disk).unwrap();
                assert_eq!((report.scanned, after == before), (0, true));
            }
            if day == 0 {
                assert_eq!(disk.contents(path), Some(content));
            }
            assert_eq!(disk.contents(Path::new(NODE)).as_ref(), Some(&catalog));
        }
        assert_seals(&disk, day);
    }
}

#[test]
fn all_lost_indexes_are_made_anew_at_once() {
    for day in TIMES {
        let disk = written(day);
        seal(&disk, day);
        let (_, before) = start(&disk).unwrap();
        let all = indexes(&disk);
        for path in &all {
            disk.run(disk.remove(path)).unwrap();
        }
        let (report, after) = start(&disk).unwrap();
        assert_eq!((report.scanned, after == before), (all.len(), true));
        assert_eq!(indexes(&disk), all);
        assert_seals(&disk, day);
    }
}

#[test]
fn a_damaged_directory_below_a_lost_index_is_made_anew_too() {
    let disk = written(7);
    seal(&disk, 1);
    let (_, before) = start(&disk).unwrap();
    let all = indexes(&disk);
    disk.flip(&all[0], 4096 + 20, 1);
    disk.run(disk.remove(&all[all.len() - 1])).unwrap();
    let (report, after) = start(&disk).unwrap();
    assert_eq!((report.scanned, after == before), (2, true));
}

#[test]
fn a_damaged_segment_without_its_index_is_refused() {
    let disk = written(8);
    seal(&disk, 1);
    let all = indexes(&disk);
    for path in [&all[0], &all[all.len() - 1]] {
        disk.run(disk.remove(path)).unwrap();
        let segment = path.with_extension("log");
        let blocks = disk.contents(&segment).unwrap().len() as u64 / 4096;
        for block in 0..blocks {
            disk.flip(&segment, block * 4096, 1);
            let files = disk.files();
            let refused = start(&disk).map(|(report, _)| report);
            let Err(StoreError::Corrupt { path, damage, .. }) = refused else {
                panic!("block {block}: {refused:?}")
            };
            assert_eq!(path, segment);
            assert!(matches!(damage, Damage::BeforeRecordedEnd { .. }));
            assert_eq!(disk.files(), files);
            disk.flip(&segment, block * 4096, 1);
        }
        assert_eq!(start(&disk).unwrap().0.scanned, 1);
    }
}
