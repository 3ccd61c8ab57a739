//! The same pages from a real file system, through glommio.

use std::cell::RefCell;
use std::rc::Rc;

use glommio::{LocalExecutorBuilder, Placement};

use super::reads::query;
use super::world::{DAY_MS, START_MS, World, config, write_bucket};
use crate::sealed::{Sealed, file_name};
use crate::view::Installed;
use crate::*;

#[test]
fn pages_of_a_real_disk_are_those_of_the_simulated_one() {
    // Beside the tests themselves: the system's temporary directory may not know direct I/O.
    let beside = std::env::current_exe().unwrap();
    let directory = tempfile::tempdir_in(beside.parent().unwrap()).unwrap();
    let data = directory.path().join("data");
    let mut world = World::new(10, config());
    let first = world.today();
    for seq in 1..=300 {
        world.send(1, 200);
        world.change(RecordKind::ReactionAdd, 1, seq);
        world.now_ms += DAY_MS / 100;
    }
    let builder = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20)
        .ring_depth(64);
    builder.make().unwrap().run(async {
        let disk = GlommioDisk::at(&data).await.unwrap();
        for name in ["segments", "spare", "sealed", "catalog"] {
            disk.create_dir(&data.join(name)).await.unwrap();
        }
        let place = LogPlace {
            shard: 0,
            shards: 1,
            sealed_through: Day(0),
        };
        let index = Rc::new(RefCell::new(Index::new(1)));
        let table = SegmentTable::default();
        let log = Log::open(
            disk.clone(),
            &data,
            config(),
            place,
            &table,
            Rc::clone(&index),
            START_MS,
        );
        let mut log = log.await.unwrap();
        let view = View::new(Vec::new(), Day(0));
        let reader = Reader::new(disk.clone(), &data, log.live(), view, config());
        for (day, record) in &world.records {
            let now_ms = u64::from(day.0) * DAY_MS;
            log.commit(now_ms, std::slice::from_ref(record))
                .await
                .unwrap();
        }
        compare(&world, &reader).await;
        let filled = index.borrow_mut().filled();
        for hot in filled {
            index_segment(&disk, &data, &hot).await.unwrap();
            index.borrow_mut().drop_hot(hot.segment());
        }
        compare(&world, &reader).await;
        let path = data
            .join("sealed")
            .join(file_name(1, Day(first), Day(first + 1)));
        write_bucket(&disk, &path, 1, &(first..=first + 1), &world.records).await;
        let sealed = Sealed::open(&disk, &path, None).await.unwrap();
        let segments = log.segments();
        let obsolete: Vec<SegmentId> = (segments.borrow().iter())
            .filter(|(_, info)| info.day <= Day(first + 1))
            .map(|(segment, _)| segment)
            .collect();
        let installed = Installed {
            bucket: Some(Bucket::of(sealed)),
            obsolete,
            replaced: Vec::new(),
            retained_from: Day(0),
        };
        reader.swap(&installed).await.unwrap();
        compare(&world, &reader).await;
        log.close().await.unwrap();
    });
}

async fn compare(world: &World, reader: &Reader<GlommioDisk>) {
    let all = world.messages(1);
    for seq in [1, 90, 150, 290] {
        let key = all[seq].create.message;
        let queries = [
            Query::Newest,
            Query::Before(key),
            Query::After(key),
            Query::Around(key),
        ];
        for one in queries {
            let query = query(1, one);
            let page = reader.page(&query).await.unwrap();
            let page: Vec<Stored> = page.into_iter().map(super::world::without_nonces).collect();
            assert_eq!(page, world.page(&query), "{one:?}");
        }
    }
}
