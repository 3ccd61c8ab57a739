//! What was acknowledged and is damaged must be named, never cut away; what was never
//! acknowledged must not stand in the way.

use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng_storage_engine::{Damage, Disk, SimDisk, SimLatency, StoreError};

use crate::world::{DAY_MS, World, open, root, segment_files, send, tiny};

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
    disk.run(open_and_close(&disk));
    // The catalog of a later state, over segments of an earlier one.
    let mut world = open(&disk, 1).unwrap();
    let earlier: Vec<_> = segment_files(&disk);
    send(&mut world, &[1], 10);
    world.now_ms += DAY_MS;
    send(&mut world, &[1], 10);
    disk.run(world.close()).unwrap();
    let catalog = disk
        .contents(Path::new("/data/catalog/shard-0.cat"))
        .unwrap();
    let restored = SimDisk::new(2, SimLatency::default());
    for path in earlier {
        restored.put(&path, &disk.contents(&path).unwrap());
    }
    restored.put(
        Path::new("/data/catalog/shard-0.cat"),
        &without_segments(&catalog),
    );
    match open(&restored, 1) {
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

/// The same catalog with its heads only, as `FORMAT.md` lays it out.
fn without_segments(catalog: &[u8]) -> Vec<u8> {
    let number = |at: usize| u32::from_le_bytes(catalog[at..at + 4].try_into().unwrap());
    let (segments, channels) = (number(8), number(12));
    let body_start = 32 + segments as usize * 16;
    let body = &catalog[body_start..body_start + channels as usize * 32];
    let mut bytes = catalog[..32].to_vec();
    bytes[8..12].fill(0);
    bytes[16..24].copy_from_slice(&(body.len() as u64).to_le_bytes());
    bytes[24..28].copy_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let header_crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&header_crc.to_le_bytes());
    bytes.extend_from_slice(body);
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
fn a_page_of_another_channel_is_noticed() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    let locations = send(&mut world, &[1, 1, 2], 30);
    let reader = world.reader(0);
    let read = |asked: &[_]| disk.run(reader.read_page(crate::world::channel(1), asked));
    assert_eq!(read(&locations[..2]).unwrap().len(), 2);
    assert!(read(&locations).is_err());
    assert!(read(&[locations[1], locations[0]]).is_err());
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
