//! Files of every format version stay readable, byte for byte as they were written.
//!
//! To write those of a new version: `GOLDEN=write cargo test -p throng-storage-engine golden`.

use std::path::{Path, PathBuf};

use throng_storage_engine::{SimDisk, SimLatency};

use crate::world::{World, channel, open, segment_files, send};

const FILES: [(&str, &str); 2] = [
    ("/data/segments/2026-11-21/00000001.log", "v1-segment.log"),
    ("/data/catalog/shard-0.cat", "v1-catalog.cat"),
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name)
}

/// The store that the golden files are of: two commits, an idle frame, a clean end.
fn write_store(disk: &SimDisk) -> World<SimDisk> {
    let mut world = open(disk, 1).unwrap();
    send(&mut world, &[1, 2, 1], 20);
    world.now_ms += 1000;
    send(&mut world, &[2], 5000);
    world
}

#[test]
fn this_version_still_writes_version_1() {
    let disk = SimDisk::new(1, SimLatency::default());
    let world = write_store(&disk);
    disk.run(world.close()).unwrap();
    for (path, name) in FILES {
        let written = disk.contents(Path::new(path)).unwrap();
        if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
            #[expect(
                clippy::disallowed_methods,
                reason = "a test reads and writes its golden files"
            )]
            std::fs::write(golden(name), &written).unwrap();
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "a test reads and writes its golden files"
        )]
        let kept = std::fs::read(golden(name)).unwrap();
        assert!(
            written == kept,
            "{name} differs: a new layout needs a new version"
        );
    }
}

#[test]
fn version_1_is_still_read() {
    let expected = write_store(&SimDisk::new(1, SimLatency::default())).acked;
    let disk = SimDisk::new(2, SimLatency::default());
    for (path, name) in FILES {
        #[expect(
            clippy::disallowed_methods,
            reason = "a test reads and writes its golden files"
        )]
        disk.put(Path::new(path), &std::fs::read(golden(name)).unwrap());
    }
    let mut world = open(&disk, 1).unwrap();
    assert_eq!(world.acked, expected);
    assert_eq!(world.report.records, 4);
    send(&mut world, &[1], 10);
    assert_eq!(world.acked[&channel(1)].len(), 3);
    assert_eq!(segment_files(&disk).len(), 2, "goes on in a fresh segment");
}
