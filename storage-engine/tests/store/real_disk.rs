//! The same store on a real file system, through glommio.

use std::future::Future;

use glommio::{LocalExecutorBuilder, Placement};
use throng_storage_engine::{
    Disk, DiskFile, DiskOp, Durability, GlommioDisk, StoreConfig, StoreError,
};

use crate::world::{DAY_MS, START_MS, World, channel};

fn run<T>(future: impl Future<Output = T>) -> T {
    let builder = LocalExecutorBuilder::new(Placement::Unbound)
        .io_memory(1 << 20)
        .ring_depth(64);
    builder
        .make()
        .expect("an executor with little locked memory")
        .run(future)
}

/// Beside the build's own files: the system's temporary directory may not know direct I/O.
fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

#[test]
fn messages_survive_restarts_and_an_abrupt_end() {
    let directory = directory();
    let root = directory.path().join("data");
    run(async {
        let disk = GlommioDisk::at(&root).await.unwrap();
        let config = StoreConfig::small();
        let mut world = World::open(&disk, &root, config, 2, START_MS)
            .await
            .unwrap();
        for round in 0..40 {
            world.send(&[1, 3, 1], 400).await.unwrap();
            world.send(&[2], 60_000).await.unwrap();
            if round % 20 == 0 {
                world.now_ms += DAY_MS;
            }
        }
        for log in &world.logs {
            log.upkeep().run().await.unwrap();
        }
        assert_eq!(world.read_all().await.unwrap(), world.acked);
        let (acked, _) = world.kill();
        let world = World::open(&disk, &root, config, 3, START_MS)
            .await
            .unwrap();
        assert_eq!(world.acked, acked);
        world.close().await.unwrap();
        let mut world = World::open(&disk, &root, config, 1, START_MS)
            .await
            .unwrap();
        assert_eq!(world.acked, acked);
        world.send(&[1], 10).await.unwrap();
        assert_eq!(world.read_all().await.unwrap(), world.acked);
        world.close().await.unwrap();
    });
}

#[test]
fn a_second_process_is_refused() {
    let directory = directory();
    run(async {
        let disk = GlommioDisk::at(directory.path()).await.unwrap();
        let config = StoreConfig::small();
        let first = World::open(&disk, directory.path(), config, 1, 0)
            .await
            .unwrap();
        let second = World::open(&disk, directory.path(), config, 1, 0).await;
        assert!(matches!(second, Err(StoreError::Locked { .. })));
        first.close().await.unwrap();
        World::open(&disk, directory.path(), config, 1, 0)
            .await
            .unwrap();
    });
}

#[test]
fn files_read_back_at_any_offset_and_end_where_they_end() {
    let directory = directory();
    let path = directory.path().join("file");
    run(async {
        let disk = GlommioDisk::at(directory.path()).await.unwrap();
        let file = disk.create(&path).await.unwrap();
        file.allocate(16_384).await.unwrap();
        let mut buffer = disk.buffer(8192);
        for (position, byte) in buffer.as_mut().iter_mut().enumerate() {
            *byte = u8::try_from(position % 253).unwrap();
        }
        file.write_at(buffer, 4096).await.unwrap();
        file.sync().await.unwrap();
        let read = file.read_at(4096 + 1000, 5000).await.unwrap();
        assert!(
            read.iter()
                .enumerate()
                .all(|(at, byte)| usize::from(*byte) == (at + 1000) % 253)
        );
        let error = file.read_at(16_000, 1000).await.err().unwrap();
        assert_eq!(error.op, DiskOp::Read);
        file.truncate(8192).await.unwrap();
        assert_eq!(file.length().await.unwrap(), 8192);
        file.close().await.unwrap();
        let error = disk.create(&path).await.err().unwrap();
        assert_eq!(error.op, DiskOp::Create);
        assert_eq!(disk.list(directory.path()).await.unwrap(), ["LOCK", "file"]);
    });
}

#[test]
fn commits_begun_before_others_are_done_lie_behind_them() {
    let directory = directory();
    let root = directory.path();
    run(async {
        let disk = GlommioDisk::at(root).await.unwrap();
        let config = StoreConfig::small();
        let mut world = World::open(&disk, root, config, 1, START_MS).await.unwrap();
        // About three segments of 1 MiB.
        let records = world.next_records(&[1; 60], 50_000);
        let (log, now_ms) = (&mut world.logs[0], world.now_ms);
        let encoder = log.encoder();
        let mut locations = Vec::new();
        for (position, record) in records.iter().enumerate() {
            let prepared = encoder.prepare(std::slice::from_ref(record));
            log.begin(now_ms, prepared).await.unwrap();
            if position > 0 {
                locations.extend(log.finish().await.unwrap());
            }
        }
        locations.extend(log.finish().await.unwrap());
        assert!(locations.is_sorted_by_key(|place| (place.segment, place.offset)));
        assert!(locations.last().unwrap().segment.0 > 2);
        world.kill();
        let world = World::open(&disk, root, config, 1, START_MS).await.unwrap();
        assert!(world.report.torn.is_empty());
        assert_eq!(world.acked[&channel(1)], records);
        world.close().await.unwrap();
    });
}

#[test]
fn a_synced_commit_waits_for_those_that_are_not() {
    let directory = directory();
    let root = directory.path();
    run(async {
        let disk = GlommioDisk::at(root).await.unwrap();
        let config = StoreConfig {
            durability: Durability::Interval { sync_ms_max: 50 },
            ..StoreConfig::small()
        };
        let mut world = World::open(&disk, root, config, 1, START_MS).await.unwrap();
        let records = world.next_records(&[1; 2], 100);
        let (log, now_ms) = (&mut world.logs[0], world.now_ms);
        let encoder = log.encoder();
        let (first, second) = (
            encoder.prepare(&records[..1]),
            encoder.prepare(&records[1..]),
        );
        let index = log.index();
        let written = || index.borrow().head(channel(1)).seq;
        log.begin(now_ms + 10, first).await.unwrap();
        assert_eq!(written(), 0, "nobody has waited for it");
        log.begin(now_ms + 60, second).await.unwrap();
        assert_eq!(written(), 1, "the first one");
        log.finish().await.unwrap();
        log.finish().await.unwrap();
        assert_eq!(written(), 2);
    });
}
