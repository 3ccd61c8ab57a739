//! Files of every format version stay readable, byte for byte as they were written.
//!
//! To write those of a new version: `GOLDEN=write cargo test -p throng-storage-engine golden`.

use std::path::{Path, PathBuf};

use throng_storage_engine::{RecordKind, SimDisk, SimLatency};

use crate::world::{World, channel, open, segment_files, send};

const SEGMENT: &str = "/data/segments/2026-11-21/00000001.log";
const INDEX: &str = "/data/segments/2026-11-21/00000001.idx";
const NODE: &str = "/data/catalog/node.cat";
const SHARD: &str = "/data/catalog/shard-0.cat";

/// A seed whose second number is the first one of seed 1, from which the segment's salt once was.
const SEED: u64 = 1 + 0x9e37_79b9_7f4a_7c15;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

/// The store that the oldest golden files are of: two commits, an idle frame, a clean end.
fn write_store(disk: &SimDisk) -> World<SimDisk> {
    let mut world = open(disk, 1).unwrap();
    send(&mut world, &[1, 2, 1], 20);
    world.now_ms += 1000;
    send(&mut world, &[2], 5000);
    world
}

/// The same with changes behind it.
fn write_changes(disk: &SimDisk) -> World<SimDisk> {
    let mut world = write_store(disk);
    for kind in [RecordKind::ReactionAdd, RecordKind::Edit] {
        disk.run(world.change(&[1, 2], kind)).unwrap();
    }
    world
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test reads and writes its golden files"
)]
fn check(disk: &SimDisk, path: &str, name: &str) {
    let written = disk.contents(Path::new(path)).unwrap();
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        std::fs::write(golden(name), &written).unwrap();
    }
    assert!(
        written == std::fs::read(golden(name)).unwrap(),
        "{name} differs: a new layout needs a new version"
    );
}

#[expect(clippy::disallowed_methods, reason = "a test reads its golden files")]
fn put(disk: &SimDisk, path: &str, name: &str) {
    disk.put(Path::new(path), &std::fs::read(golden(name)).unwrap());
}

#[test]
fn this_version_still_writes_these_segments() {
    let disk = SimDisk::new(SEED, SimLatency::default());
    let world = write_store(&disk);
    disk.run(world.close()).unwrap();
    check(&disk, SEGMENT, "v1-segment.log");
}

#[test]
fn this_version_still_writes_these_indexes_and_catalogs() {
    let disk = SimDisk::new(SEED, SimLatency::default());
    let world = write_changes(&disk);
    disk.run(world.close()).unwrap();
    check(&disk, SEGMENT, "v1-changes.log");
    check(&disk, INDEX, "v1-changes.idx");
    check(&disk, SHARD, "v2-shard.cat");
    open(&disk, 1).unwrap();
    check(&disk, NODE, "v2-node.cat");
}

#[test]
fn what_knew_no_index_files_is_still_read() {
    let expected = write_store(&SimDisk::new(1, SimLatency::default())).acked;
    let disk = SimDisk::new(2, SimLatency::default());
    put(&disk, SEGMENT, "v1-segment.log");
    put(&disk, SHARD, "v1-catalog.cat");
    let mut world = open(&disk, 1).unwrap();
    assert_eq!(world.acked, expected);
    assert_eq!((world.report.records, world.report.scanned), (4, 1));
    send(&mut world, &[1], 10);
    assert_eq!(world.acked[&channel(1)].len(), 3);
    assert_eq!(segment_files(&disk).len(), 2, "goes on in a fresh segment");
}

#[test]
fn segments_with_indexes_and_a_catalog_are_still_read() {
    let expected = write_changes(&SimDisk::new(1, SimLatency::default())).acked;
    for catalog in [(NODE, "v2-node.cat"), (SHARD, "v2-shard.cat")] {
        let disk = SimDisk::new(2, SimLatency::default());
        put(&disk, SEGMENT, "v1-changes.log");
        put(&disk, INDEX, "v1-changes.idx");
        put(&disk, catalog.0, catalog.1);
        let world = open(&disk, 1).unwrap();
        assert_eq!(world.acked, expected);
        assert_eq!((world.report.records, world.report.scanned), (8, 0));
    }
}
