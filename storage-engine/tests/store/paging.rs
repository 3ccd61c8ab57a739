//! Pages at any depth, over days, segments, shards and restarts.

use proptest::prelude::*;
use throng_storage_engine::{Query, Record, SimDisk, SimLatency};

use crate::world::{DAY_MS, World, channel, key, open, segment_files, send};

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

fn page(world: &World<SimDisk>, number: u8, query: Query, limit: usize) -> Vec<Record> {
    let locations = world.index.page(channel(number), query, limit);
    let shard = usize::from(number) % world.logs.len();
    world
        .disk
        .run(world.reader(shard).read_page(channel(number), &locations))
        .unwrap()
}

#[test]
fn paging_back_reaches_the_first_message() {
    let (_, world) = year(1);
    for number in [1, 2, 3] {
        let all = &world.acked[&channel(number)];
        let mut found = page(&world, number, Query::Newest, 7);
        while let Some(first) = found.first() {
            let older = page(&world, number, Query::Before(first.message), 7);
            if older.is_empty() {
                break;
            }
            found.splice(0..0, older);
        }
        assert_eq!(found, *all);
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_page_is_that_of_a_list(
        number in 1_u8..4,
        days in 0_u64..100,
        at in 0_usize..200,
        limit in 1_usize..60,
    ) {
        thread_local! {
            static YEAR: (SimDisk, World<SimDisk>) = year(3);
        }
        YEAR.with(|(_, world)| {
            let all = &world.acked[&channel(number)];
            let between = key(crate::world::START_MS + days * DAY_MS, 0);
            let existing = all[at % all.len()].message;
            for asked in [between, existing] {
                let below: Vec<_> = all.iter().filter(|r| r.message < asked).cloned().collect();
                let above: Vec<_> = all.iter().filter(|r| r.message > asked).cloned().collect();
                prop_assert_eq!(
                    page(world, number, Query::Before(asked), limit),
                    &below[below.len().saturating_sub(limit)..]
                );
                prop_assert_eq!(
                    page(world, number, Query::After(asked), limit),
                    &above[..limit.min(above.len())]
                );
            }
            let around = page(world, number, Query::Around(existing), limit);
            prop_assert!(around.iter().any(|record| record.message == existing));
            Ok(())
        })?;
    }
}
