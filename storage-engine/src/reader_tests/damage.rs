//! Damage: named, and no hindrance for pages that do not need the damaged bytes.

use super::reads::query;
use super::world::{DAY_MS, World, config, root, sealed_path};
use crate::*;

fn error(world: &World, number: u8) -> StoreError {
    let asked = query(number, Query::Newest);
    world.disk.run(world.reader.page(&asked)).unwrap_err()
}

#[test]
fn a_damaged_block_is_named_and_others_go_on() {
    let mut world = World::new(6, config());
    let day = world.today();
    for _ in 0..60 {
        world.send(1, 1000);
        world.send(2, 1000);
    }
    world.now_ms += DAY_MS;
    world.seal(day..=day);
    // Channel 1 comes first in the file, behind its header.
    let path = sealed_path(1, &(day..=day));
    world.disk.flip(&path, 4096 + 100, 1);
    let asked = PageQuery {
        query: Query::AfterSeq(0),
        ..query(1, Query::Newest)
    };
    let damaged = world.disk.run(world.reader.page(&asked)).unwrap_err();
    let named = matches!(&damaged, StoreError::SealedCorrupt { path: found, damage, .. }
        if *found == path && *damage == Damage::SealedBlock);
    assert!(named, "{damaged:?}");
    assert_eq!(world.page(&query(2, Query::Newest)).len(), 50);
    world.disk.flip(&path, 4096 + 100, 1);
    assert_eq!(world.page(&asked).len(), 50, "the damage was not kept");
}

fn segment_file(world: &World, extension: &str) -> std::path::PathBuf {
    let mut files = world.disk.files();
    files.retain(|path| path.starts_with(root().join("segments")));
    let is_such = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == extension);
    files.into_iter().find(is_such).unwrap()
}

#[test]
fn a_damaged_record_is_named() {
    let mut world = World::new(7, config());
    world.send(1, 100);
    world.send(2, 100);
    let path = segment_file(&world, "log");
    // Behind the opening: a frame's header, a record's header, the body.
    world.disk.flip(&path, 4096 + 64 + 112 + 5, 1);
    let damaged = error(&world, 1);
    let named = matches!(&damaged, StoreError::Corrupt { path: found, damage, .. }
        if *found == path && *damage == Damage::Record);
    assert!(named, "{damaged:?}");
    assert_eq!(world.page(&query(2, Query::Newest)).len(), 1);
}

#[test]
fn sound_records_in_the_wrong_place_are_noticed() {
    let mut world = World::new(8, config());
    world.send(1, 100);
    world.send(1, 100);
    let path = segment_file(&world, "log");
    let mut content = world.disk.contents(&path).unwrap();
    let (one, two) = (content[4096..8192].to_vec(), content[8192..12_288].to_vec());
    content[4096..8192].copy_from_slice(&two);
    content[8192..12_288].copy_from_slice(&one);
    world.disk.put(&path, &content);
    let damaged = error(&world, 1);
    let named = matches!(&damaged, StoreError::Corrupt { path: found, damage, .. }
        if *found == path && *damage == Damage::RecordMisplaced);
    assert!(named, "{damaged:?}");
}

#[test]
fn a_damaged_index_is_named() {
    let mut world = World::new(9, config());
    world.send(1, 100);
    let day = world.today();
    world.disk.clone().run(world.log.end_day(Day(day))).unwrap();
    world.fill();
    let path = segment_file(&world, "idx");
    world.disk.flip(&path, 4096 + 20, 1);
    let damaged = error(&world, 1);
    let named = matches!(&damaged, StoreError::Corrupt { path: found, damage, .. }
        if *found == path && *damage == Damage::Index);
    assert!(named, "{damaged:?}");
    world.disk.flip(&path, 4096 + 20, 1);
    assert_eq!(world.page(&query(1, Query::Newest)).len(), 1);
}
