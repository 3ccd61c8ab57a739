//! What the store does when a file of it holds any bytes at all: the functions behind the fuzz
//! targets in `fuzz/`, and their everyday counterparts in the tests below.
//!
//! It is of no use to a running store.
//!
//! Invariants: no bytes make the store panic; what it refuses it leaves as it is; what it accepts
//! it accepts again, and finds the same in it. Each function tries the bytes as they are, and
//! with all checksums set right, so that what lies behind these is reached, too.

use std::path::{Path, PathBuf};

use crate::config::{BLOCK_BYTES, StoreConfig};
use crate::format::{FRAME_HEADER_BYTES, FRAME_MAGIC, RECORD_HEADER_BYTES, RecordView};
use crate::manifest::{ManifestBucket, ManifestErasure, ManifestHeader};
use crate::recovery::{recover, sealed_through};
pub use crate::sealed::any_bytes::as_sealed;
use crate::segment::Paths;
use crate::sim_disk::{SimDisk, SimLatency};

const ROOT: &str = "/data";
const SEGMENT: &str = "/data/segments/2026-11-21/00000001.log";
const INDEX: &str = "/data/segments/2026-11-21/00000001.idx";
const MANIFEST: &str = "/data/manifest/node.man";
const CATALOG: &str = "/data/catalog/node.cat";

/// The bytes as a record.
pub fn as_record(bytes: &[u8]) {
    check_record(bytes);
    let mut mended = bytes.to_vec();
    mend_record(&mut mended);
    check_record(&mended);
}

/// The bytes as the only segment of a store.
pub fn as_segment(bytes: &[u8]) {
    check_store(&[(SEGMENT, bytes)]);
    let mut mended = bytes.to_vec();
    mend_frames(&mut mended);
    check_store(&[(SEGMENT, &mended)]);
}

/// The bytes as the catalog of a store, which holds this segment.
pub fn as_catalog(bytes: &[u8], segment: &[u8]) {
    check_store(&[(SEGMENT, segment), (CATALOG, bytes)]);
    let mut mended = bytes.to_vec();
    mend_catalog(&mut mended);
    check_store(&[(SEGMENT, segment), (CATALOG, &mended)]);
}

/// The bytes as the index file of a store's only segment, which is this one.
pub fn as_index(bytes: &[u8], segment: &[u8]) {
    check_store(&[(SEGMENT, segment), (INDEX, bytes)]);
}

/// The bytes as the manifest of a store.
pub fn as_manifest(bytes: &[u8]) {
    check_manifest(bytes);
    let mut mended = bytes.to_vec();
    mend_manifest(&mut mended);
    check_manifest(&mended);
}

fn check_manifest(bytes: &[u8]) {
    let disk = SimDisk::new(0, SimLatency::default());
    disk.put(Path::new(MANIFEST), bytes);
    let load = || disk.run(sealed_through(&disk, &Paths::new(Path::new(ROOT))));
    if let Ok(day) = load() {
        assert_eq!(
            load().ok(),
            Some(day),
            "what was accepted is accepted again"
        );
    }
}

fn check_record(bytes: &[u8]) {
    let Ok(view) = RecordView::decode(bytes) else {
        return;
    };
    let whole = &bytes[..view.bytes() as usize];
    assert!(whole.len() >= RECORD_HEADER_BYTES as usize);
    let record = view.to_record();
    assert_eq!(
        record.bytes(),
        whole.len() as u64,
        "it is as long as it says"
    );
    assert_eq!(record.meta(), view.meta());
}

type Image = Vec<(PathBuf, Vec<u8>)>;

fn image(disk: &SimDisk) -> Image {
    let files = disk.files().into_iter();
    files
        .filter_map(|path| Some((path.clone(), disk.contents(&path)?)))
        .collect()
}

fn check_store(files: &[(&str, &[u8])]) {
    let disk = SimDisk::new(0, SimLatency::default());
    for (path, content) in files {
        disk.put(Path::new(path), content);
    }
    let config = StoreConfig::small();
    let before = image(&disk);
    let open = || disk.run(recover(&disk, Path::new(ROOT), &config));
    let Ok(first) = open() else {
        assert!(before == image(&disk), "a refusal changes nothing");
        return;
    };
    let heads = |index: &crate::index::Index| {
        let mut heads: Vec<_> = index
            .heads()
            .map(|(key, head)| (key, head.seq, head.rev))
            .collect();
        heads.sort_unstable();
        heads
    };
    let found = heads(&first.index);
    drop(first);
    let second = open().expect("what was accepted is accepted again");
    assert!(found == heads(&second.index), "and holds the same");
}

/// Sets the checksum of the record at the start of `bytes` right, and its length as far as it is
/// too long.
fn mend_record(bytes: &mut [u8]) -> Option<usize> {
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    if bytes.len() < RECORD_HEADER_BYTES as usize {
        return None;
    }
    let length = length.clamp(RECORD_HEADER_BYTES as usize, bytes.len());
    put_number(bytes, 0, u32::try_from(length).ok()?);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..4]), &bytes[8..length]);
    put_number(bytes, 4, crc);
    Some(length)
}

/// Sets the checksums of all frames right that begin where one can, and of the records in them.
fn mend_frames(bytes: &mut [u8]) {
    let mut rest = bytes;
    while rest.len() >= BLOCK_BYTES as usize {
        let span = if rest[..4] == FRAME_MAGIC {
            mend_frame(rest)
        } else {
            BLOCK_BYTES as usize
        };
        rest = &mut rest[span..];
    }
}

/// `bytes` is a block at least. Returns how many of them the frame takes.
fn mend_frame(bytes: &mut [u8]) -> usize {
    let header_bytes = FRAME_HEADER_BYTES as usize;
    let room = bytes.len() / BLOCK_BYTES as usize * BLOCK_BYTES as usize - header_bytes;
    let body_bytes = (number_at(bytes, 40) as usize).min(room);
    put_number(bytes, 40, u32::try_from(body_bytes).unwrap_or(0));
    let body = &mut bytes[header_bytes..][..body_bytes];
    let mut at = 0;
    while let Some(length) = mend_record(&mut body[at..]) {
        at += length;
    }
    let body_crc = crc32c::crc32c(body);
    put_number(bytes, 56, body_crc);
    let header_crc = crc32c::crc32c(&bytes[..60]);
    put_number(bytes, 60, header_crc);
    (header_bytes + body_bytes).next_multiple_of(BLOCK_BYTES as usize)
}

fn mend_catalog(bytes: &mut [u8]) {
    if bytes.len() < 32 {
        return;
    }
    let body_bytes = (number_at(bytes, 16) as usize).min(bytes.len() - 32);
    let body_crc = crc32c::crc32c(&bytes[32..][..body_bytes]);
    put_number(bytes, 24, body_crc);
    let header_crc = crc32c::crc32c(&bytes[..28]);
    put_number(bytes, 28, header_crc);
}

fn mend_manifest(bytes: &mut [u8]) {
    let header_bytes = size_of::<ManifestHeader>();
    if bytes.len() < header_bytes {
        return;
    }
    let entries = number_at(bytes, 8) as usize * size_of::<ManifestBucket>()
        + number_at(bytes, 12) as usize * size_of::<ManifestErasure>();
    let body_bytes = entries.min(bytes.len() - header_bytes);
    let body_crc = crc32c::crc32c(&bytes[header_bytes..][..body_bytes]);
    put_number(bytes, header_bytes - 8, body_crc);
    let header_crc = crc32c::crc32c(&bytes[..header_bytes - 4]);
    put_number(bytes, header_bytes - 4, header_crc);
}

fn number_at(bytes: &[u8], at: usize) -> u32 {
    let bytes = bytes[at..].first_chunk().expect("within a header");
    u32::from_le_bytes(*bytes)
}

fn put_number(bytes: &mut [u8], at: usize, number: u32) {
    bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::Index as Pick;

    use super::*;

    const GOLDEN_SEGMENT: &[u8] = include_bytes!("../golden/v1-segment.log");
    const GOLDEN_CATALOG: &[u8] = include_bytes!("../golden/v1-catalog.cat");

    /// A golden file with some bytes changed, rather in its used part than behind it, and perhaps
    /// cut or with parts moved.
    fn mutated(golden: &'static [u8]) -> impl Strategy<Value = Vec<u8>> {
        let change = (any::<Pick>(), any::<u8>(), any::<bool>());
        let moved = prop::option::weighted(0.2, (any::<Pick>(), any::<Pick>()));
        let cut = prop::option::weighted(0.2, any::<Pick>());
        (prop::collection::vec(change, 0..6), moved, cut).prop_map(move |(changes, moved, cut)| {
            let mut bytes = golden.to_vec();
            for (place, value, is_in_header) in changes {
                let block = place.index(bytes.len() / 4096) * 4096;
                let within = place.index(if is_in_header { 64 } else { 4096 });
                bytes[block + within] = value;
            }
            if let Some((from, to)) = moved {
                let blocks = bytes.len() / 4096;
                let from = from.index(blocks) * 4096;
                bytes.copy_within(from..from + 4096, to.index(blocks) * 4096);
            }
            let length = cut.map_or(bytes.len(), |cut| cut.index(bytes.len()));
            bytes.truncate(length);
            bytes
        })
    }

    fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), 0..9000)
    }

    #[test]
    fn the_golden_files_pass_as_they_are() {
        as_segment(GOLDEN_SEGMENT);
        as_catalog(GOLDEN_CATALOG, GOLDEN_SEGMENT);
        let mut mended = GOLDEN_SEGMENT.to_vec();
        mend_frames(&mut mended);
        assert!(mended == GOLDEN_SEGMENT, "what is right is not changed");
        let mut mended = GOLDEN_CATALOG.to_vec();
        mend_catalog(&mut mended);
        assert!(mended == GOLDEN_CATALOG, "what is right is not changed");
    }

    proptest! {
        #[test]
        fn records(bytes in prop_oneof![any_bytes(), mutated(&GOLDEN_SEGMENT[4096 + 64..])]) {
            as_record(&bytes);
        }

        #[test]
        fn segments(bytes in prop_oneof![1 => any_bytes(), 3 => mutated(GOLDEN_SEGMENT)]) {
            as_segment(&bytes);
        }

        #[test]
        fn indexes(bytes in any_bytes()) {
            as_index(&bytes, GOLDEN_SEGMENT);
        }

        #[test]
        fn manifests(
            header in prop::collection::vec(any::<u8>(), 64),
            counts in (0_u8..4, 0_u8..4),
            body in prop::collection::vec(any::<u8>(), 0..4096),
        ) {
            let mut bytes = [header, body].concat();
            bytes[..8].copy_from_slice(b"THRM\x01\0\0\0");
            bytes[8..16].copy_from_slice(&[counts.0, 0, 0, 0, counts.1, 0, 0, 0]);
            bytes.resize(bytes.len().next_multiple_of(4096), 0);
            as_manifest(&bytes);
        }

        #[test]
        fn catalogs(bytes in prop_oneof![1 => any_bytes(), 3 => mutated(GOLDEN_CATALOG)]) {
            as_catalog(&bytes, GOLDEN_SEGMENT);
        }
    }
}
