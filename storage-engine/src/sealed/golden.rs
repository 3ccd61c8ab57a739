//! Sealed segments of every version stay readable, and this version still lays them out so.
//!
//! It does not ask zstd for the same bytes: another release of it may compress otherwise.
//!
//! To write those of a new version: `GOLDEN=write cargo test -p throng-storage-engine golden`.

use std::path::Path;

use bytes::Bytes;

use super::model::{draw, new_disk, open, path, read_all, write};
use crate::sim_disk::SimDisk;

fn golden(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("golden")
        .join(name);
    #[expect(clippy::disallowed_methods, reason = "a test reads its golden files")]
    std::fs::read(path).unwrap()
}

/// All blocks of the only sealed segment there is, uncompressed.
fn blocks(disk: &SimDisk) -> Vec<Bytes> {
    let sealed = open(disk).unwrap();
    let file = disk.contents(&path()).unwrap();
    let raw = |block| {
        let place = sealed.block_place(block);
        let start = usize::try_from(place.offset).unwrap();
        sealed
            .decompress(block, &file[start..start + place.bytes as usize])
            .unwrap()
    };
    (0..sealed.block_count()).map(raw).collect()
}

fn check(name: &str, dictionary: Option<Bytes>) {
    let model = draw(77, 4, 60, 200);
    let (ours, theirs) = (new_disk(), new_disk());
    let summary = write(&ours, &model, dictionary.clone());
    if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("golden")
            .join(name);
        #[expect(clippy::disallowed_methods, reason = "a test writes its golden files")]
        std::fs::write(path, ours.contents(&super::model::path()).unwrap()).unwrap();
    }
    theirs.put(&path(), &golden(name));
    let sealed = open(&theirs).unwrap();
    assert_eq!(sealed.meta(), open(&ours).unwrap().meta());
    assert_eq!(sealed.meta().records, summary.records);
    assert_eq!(sealed.dictionary(), dictionary);
    assert!(sealed.channels().eq(open(&ours).unwrap().channels()));
    assert!(sealed.channels().all(|run| sealed.may_contain(run.channel)));
    assert_eq!(read_all(&theirs).unwrap(), read_all(&ours).unwrap());
    assert!(
        blocks(&theirs) == blocks(&ours),
        "{name}: a new layout needs a new version"
    );
}

#[test]
fn version_1_without_a_dictionary() {
    check("v1-sealed.seg", None);
}

#[test]
fn version_1_with_a_dictionary() {
    let dictionary = golden("v1-sealed.dictionary");
    check("v1-sealed-dictionary.seg", Some(dictionary.into()));
}
