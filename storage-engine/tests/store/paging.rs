//! A year over days, segments, shards and restarts.

use throng_storage_engine::{PageQuery, Query, Record, SimDisk, SimLatency};

use crate::world::{DAY_MS, World, channel, open, segment_files, send};

/// A year of a channel that speaks on some days only, beside a busier one.
fn year(seed: u64) -> (SimDisk, World<SimDisk>) {
    let disk = SimDisk::new(seed, SimLatency::default());
    let mut world = open(&disk, 2).unwrap();
    for day in 0..60 {
        send(&mut world, &[1, 3, 3], 40);
        if day % 7 == 0 {
            send(&mut world, &[2], 40);
        }
        if day % 25 == 24 {
            let now_ms = world.now_ms;
            disk.run(world.close()).unwrap();
            world = open(&disk, 1 + u16::try_from(day / 25).unwrap()).unwrap();
            world.now_ms = now_ms;
        }
        world.now_ms += DAY_MS * 3 / 2;
    }
    (disk, world)
}

#[test]
fn a_year_is_read_back() {
    let (disk, world) = year(1);
    assert_eq!(disk.run(world.read_all()).unwrap(), world.acked);
}

/// Pages from the newest message back, over segments of all the shards that there ever were.
#[test]
fn paging_back_reaches_the_first_message() {
    let (disk, world) = year(3);
    for number in [1, 2, 3] {
        let reader = world.reader(usize::from(number) % world.logs.len());
        let page = |query| {
            let query = PageQuery {
                channel: channel(number),
                query,
                limit: 7,
                upto_seq: u64::MAX,
                with_deleted: false,
                bytes_max: usize::MAX,
            };
            disk.run(reader.page(&query)).unwrap()
        };
        let mut found = page(Query::Newest);
        while let Some(first) = found.first() {
            let older = page(Query::Before(first.create.message));
            if older.is_empty() {
                break;
            }
            found.splice(0..0, older);
        }
        let found: Vec<Record> = found.into_iter().map(|message| message.create).collect();
        assert_eq!(found, world.acked[&channel(number)]);
    }
}

#[test]
fn every_day_has_its_directory() {
    let (disk, world) = year(2);
    let files = segment_files(&disk);
    assert!(
        files
            .iter()
            .any(|path| path.starts_with("/data/segments/2026-11-21"))
    );
    assert!(
        files
            .iter()
            .any(|path| path.starts_with("/data/segments/2027-02-13"))
    );
    drop(world);
}

#[test]
fn a_clock_that_goes_back_stays_in_the_newer_day() {
    let disk = SimDisk::new(4, SimLatency::default());
    let mut world = open(&disk, 1).unwrap();
    send(&mut world, &[1], 10);
    world.now_ms -= DAY_MS;
    let records = {
        world.now_ms += DAY_MS;
        world.next_records(&[1], 10)
    };
    disk.run(world.logs[0].commit(world.now_ms - DAY_MS, &records))
        .unwrap();
    assert_eq!(segment_files(&disk).len(), 1);
}
