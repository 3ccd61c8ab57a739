//! What was acknowledged and is damaged must be named, never cut away; what was never
//! acknowledged must not stand in the way.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng_storage_engine::{Damage, Disk, SimDisk, SimLatency, StoreError};

use crate::world::{World, open, root, segment_files, send, tiny};

const BLOCK: u64 = 4096;

fn disk() -> SimDisk {
    SimDisk::new(1, SimLatency::default())
}

/// A killed store with frames 1, 2 and 3 of one block each behind the opening.
fn three_commits(seal: bool) -> SimDisk {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    for _ in 0..3 {
        send(&mut world, &[1], 300);
    }
    if seal {
        disk.run(world.logs[0].seal_tail()).unwrap();
    }
    world.kill();
    disk.crash();
    disk
}

fn damage_of(disk: &SimDisk) -> (u32, Damage) {
    let before: Vec<_> = disk
        .files()
        .iter()
        .map(|path| disk.contents(path))
        .collect();
    let Err(error) = open(disk, 1) else {
        panic!("damage went unnoticed")
    };
    let after: Vec<_> = disk
        .files()
        .iter()
        .map(|path| disk.contents(path))
        .collect();
    assert!(before == after, "a refusal changes nothing");
    match error {
        StoreError::Corrupt {
            path,
            offset,
            damage,
        } => {
            assert!(path.starts_with("/data/segments"), "names the file");
            (offset, damage)
        }
        other => panic!("refused otherwise: {other}"),
    }
}

#[test]
fn damage_before_a_valid_frame_is_refused_with_both_frames_named() {
    for frame in 0..3_u32 {
        for byte in [0, 17, 60, 64, 200] {
            let disk = three_commits(false);
            let path = segment_files(&disk).remove(0);
            let at = u64::from(frame) * BLOCK + byte;
            // The opening's body is 32 bytes, the rest of its block is padding.
            if frame == 0 && byte >= 96 {
                continue;
            }
            disk.flip(&path, at, 0x10);
            let (offset, damage) = damage_of(&disk);
            let lost = u64::from(frame);
            assert_eq!(offset, frame * 4096);
            let Damage::FrameLost {
                lost: named,
                later,
                later_offset,
            } = damage
            else {
                panic!("{damage}")
            };
            assert_eq!(named, lost);
            assert!(later > lost && later_offset > offset, "{damage}");
        }
    }
}

#[test]
fn the_last_frame_of_a_running_log_is_taken_for_a_torn_write() {
    let disk = three_commits(false);
    let path = segment_files(&disk).remove(0);
    disk.flip(&path, 3 * BLOCK + 100, 1);
    let world = open(&disk, 1).unwrap();
    assert_eq!(world.acked[&crate::world::channel(1)].len(), 2);
    assert_eq!(world.report.torn.len(), 1);
    assert_eq!(world.report.torn[0].end, 3 * 4096);
    assert_eq!(
        disk.contents(&path).unwrap().len(),
        3 * 4096,
        "cut off for good"
    );
}

#[test]
fn damage_to_the_last_acknowledged_frame_is_refused_after_an_idle_frame() {
    let disk = three_commits(true);
    disk.flip(&segment_files(&disk)[0], 3 * BLOCK + 100, 1);
    let (offset, damage) = damage_of(&disk);
    assert_eq!(offset, 3 * 4096);
    assert_eq!(
        damage,
        Damage::FrameLost {
            lost: 3,
            later: 4,
            later_offset: 4 * 4096
        }
    );
}

#[test]
fn a_recorded_end_is_held_against_the_segment() {
    let disk = three_commits(false);
    drop(open(&disk, 1).unwrap());
    disk.crash();
    disk.flip(&segment_files(&disk)[0], 3 * BLOCK + 100, 1);
    let (offset, damage) = damage_of(&disk);
    assert_eq!(offset, 3 * 4096);
    assert_eq!(
        damage,
        Damage::BeforeRecordedEnd {
            lost: 3,
            recorded_end: 4 * 4096
        }
    );
}

#[test]
fn a_shortened_file_is_refused() {
    let disk = three_commits(false);
    disk.run(open_and_close(&disk));
    let path = segment_files(&disk).remove(0);
    let content = disk.contents(&path).unwrap();
    disk.put(&path, &content[..8192]);
    let (offset, damage) = damage_of(&disk);
    assert_eq!(offset, 8192);
    assert!(matches!(damage, Damage::BeforeRecordedEnd { .. }));
}

async fn open_and_close(disk: &SimDisk) {
    let world = World::open(disk, root(), tiny(), 1, 0).await.unwrap();
    world.close().await.unwrap();
}

#[test]
fn the_end_of_a_full_segment_is_recorded_by_the_next_one() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    while segment_files(&disk).len() < 2 {
        send(&mut world, &[1], 2000);
    }
    world.kill();
    disk.crash();
    let first = segment_files(&disk).remove(0);
    let last_block = disk.contents(&first).unwrap().len() as u64 - 2 * BLOCK;
    disk.flip(&first, last_block + 70, 1);
    let (_, damage) = damage_of(&disk);
    assert!(
        matches!(damage, Damage::BeforeRecordedEnd { .. }),
        "{damage}"
    );
}

#[test]
fn a_missing_segment_is_refused() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    while segment_files(&disk).len() < 3 {
        send(&mut world, &[1], 2000);
    }
    world.kill();
    disk.crash();
    disk.run(disk.remove(&segment_files(&disk)[0])).unwrap();
    assert!(matches!(
        open(&disk, 1),
        Err(StoreError::SegmentMissing { .. })
    ));
}

#[test]
fn a_channel_below_the_catalog_is_refused() {
    let disk = three_commits(true);
    disk.put(
        Path::new("/data/catalog/shard-0.cat"),
        &heads_of_version_1(1, 5),
    );
    match open(&disk, 1) {
        Err(StoreError::BelowCatalog {
            channel,
            recovered,
            recorded,
        }) => {
            assert_eq!(
                (channel, recovered, recorded),
                (crate::world::channel(1), 3, 5)
            );
        }
        Err(other) => panic!("refused otherwise: {other}"),
        Ok(_) => panic!("a loss went unnoticed"),
    }
}

/// A catalog of version 1 that says how far one channel had come, as `FORMAT.md` lays it out.
fn heads_of_version_1(channel: u8, last: u64) -> Vec<u8> {
    let mut body = vec![channel; 16];
    body.extend([last.to_le_bytes(), last.to_le_bytes()].concat());
    let mut bytes = b"THRC\x01\0\0\0".to_vec();
    bytes.extend([0_u32.to_le_bytes(), 1_u32.to_le_bytes()].concat());
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(crc32c::crc32c(&body).to_le_bytes());
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes.extend(body);
    bytes.resize(4096, 0);
    bytes
}

#[test]
fn a_damaged_catalog_is_refused() {
    let disk = three_commits(true);
    disk.run(open_and_close(&disk));
    disk.flip(Path::new("/data/catalog/node.cat"), 40, 1);
    let Err(StoreError::Corrupt { damage, .. }) = open(&disk, 1) else {
        panic!()
    };
    assert_eq!(damage, Damage::Catalog);
}

#[test]
fn a_copied_segment_is_refused() {
    let disk = three_commits(true);
    let path = segment_files(&disk).remove(0);
    let content = disk.contents(&path).unwrap();
    disk.put(
        &Path::new("/data/segments/2026-11-22").join(path.file_name().unwrap()),
        &content,
    );
    let Err(StoreError::Corrupt { damage, .. }) = open(&disk, 1) else {
        panic!()
    };
    assert_eq!(damage, Damage::TwiceTheSameSegment);
}

#[test]
fn a_later_version_is_refused_as_such() {
    let disk = three_commits(false);
    let path = segment_files(&disk).remove(0);
    let mut content = disk.contents(&path).unwrap();
    content[4096 + 4] = 9;
    let header_crc = crc32c::crc32c(&content[4096..4096 + 60]);
    content[4096 + 60..4096 + 64].copy_from_slice(&header_crc.to_le_bytes());
    disk.put(&path, &content);
    assert!(matches!(
        open(&disk, 1),
        Err(StoreError::Unsupported { version: 9, .. })
    ));
}

#[test]
fn a_record_damaged_at_rest_is_an_error_of_that_read_only() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    let first = send(&mut world, &[1], 300)[0];
    let second = send(&mut world, &[1], 300)[0];
    disk.flip(&segment_files(&disk)[0], u64::from(first.offset) + 150, 4);
    let reader = world.reader(0);
    assert!(matches!(
        disk.run(reader.read(&[second, first])),
        Err(StoreError::Corrupt { offset, damage: Damage::Record, .. }) if offset == first.offset
    ));
    assert_eq!(disk.run(reader.read(&[second])).unwrap().len(), 1);
}

#[test]
fn one_flipped_bit_anywhere_is_refused_or_costs_the_very_last_commit_at_most() {
    let mut rng = StdRng::seed_from_u64(7);
    let mut refused = 0;
    for _ in 0..400 {
        let disk = three_commits(false);
        let path = segment_files(&disk).remove(0);
        disk.flip(
            &path,
            rng.random_range(0..5 * BLOCK),
            1 << rng.random_range(0..8),
        );
        match open(&disk, 1) {
            Ok(world) => assert!(world.acked[&crate::world::channel(1)].len() >= 2),
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10, "the flips hit something");
}

/// A store that ended in order: its segment is indexed, and only the shard's catalog says where
/// it ends.
fn ended_in_order(is_indexed: bool) -> (SimDisk, crate::world::Messages) {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    for _ in 0..3 {
        send(&mut world, &[1], 300);
    }
    let acked = world.acked.clone();
    disk.run(world.close()).unwrap();
    if !is_indexed {
        let index = segment_files(&disk)[0].with_extension("idx");
        disk.run(disk.remove(&index)).unwrap();
    }
    (disk, acked)
}

#[test]
fn a_shards_catalog_with_any_bit_flipped_cuts_nothing_off() {
    const HEADER: u64 = 48;
    let catalog = Path::new("/data/catalog/shard-0.cat");
    let (disk, _) = ended_in_order(true);
    let length = disk.contents(catalog).unwrap().len() as u64;
    let bits = |byte: u64| {
        let is_padding = (HEADER..BLOCK).contains(&byte);
        (0..8).filter(move |bit| !is_padding || (byte + bit).is_multiple_of(61))
    };
    for (byte, bit) in (0..length).flat_map(|byte| bits(byte).map(move |bit| (byte, bit))) {
        for is_indexed in [true, false] {
            let (disk, acked) = ended_in_order(is_indexed);
            disk.flip(catalog, byte, 1 << bit);
            match open(&disk, 1) {
                Ok(world) => assert_eq!(world.acked, acked, "byte {byte}, bit {bit}"),
                Err(StoreError::Corrupt { path, .. } | StoreError::Unsupported { path, .. }) => {
                    assert_eq!(path, catalog)
                }
                Err(other) => panic!("byte {byte}, bit {bit}: {other}"),
            }
        }
    }
}

#[test]
fn an_index_that_ends_elsewhere_than_is_recorded_is_refused() {
    let (disk, _) = ended_in_order(true);
    let catalog = Path::new("/data/catalog/shard-0.cat");
    let mut content = disk.contents(catalog).unwrap();
    // The segment's end, as if it had been written wrongly: both checksums hold.
    let (body, header) = (4096, 48);
    content[body + 8..body + 12].copy_from_slice(&(2 * 4096_u32).to_le_bytes());
    let crc = crc32c::crc32c(&content[body..body + 16]);
    content[header - 8..header - 4].copy_from_slice(&crc.to_le_bytes());
    let crc = crc32c::crc32c(&content[..header - 4]);
    content[header - 4..header].copy_from_slice(&crc.to_le_bytes());
    disk.put(catalog, &content);
    let (_, damage) = damage_of(&disk);
    assert_eq!(
        damage,
        Damage::EndsDiffer {
            indexed_end: 5 * 4096,
            recorded_end: 2 * 4096
        }
    );
}
