//! Sealed segments that are not what was written: noticed, named, and never a panic.
//!
//! Whole files only: what a block's content can do is tested beside it.
//!
//! Invariants: every test begins with a sound file.

use proptest::prelude::*;
use zerocopy::{FromBytes, IntoBytes};

use super::format::{SealedFooter, SealedHeader};
use super::model::{draw, new_disk, path, write};
use super::*;
use crate::config::BLOCK_BYTES;
use crate::error::{Damage, StoreError};

const BLOCK: usize = BLOCK_BYTES as usize;

/// A file of a few blocks, with a dictionary.
fn sound_file() -> Vec<u8> {
    let disk = new_disk();
    let dictionary = b"aaabbbcccddd".repeat(10).into();
    write(&disk, &draw(6, 6, 120, 150), Some(dictionary));
    disk.contents(&path()).unwrap()
}

/// Reads all of a file. Returns the first error.
fn read(file: &[u8]) -> Result<(), StoreError> {
    any_bytes::read(file)
}

#[test]
fn one_flipped_bit_of_any_byte_is_noticed() {
    let mut file = sound_file();
    read(&file).unwrap();
    assert!(
        file.len() > 5 * BLOCK,
        "there is more than one block of data"
    );
    for at in 0..file.len() {
        file[at] ^= 1 << (at % 8);
        assert!(read(&file).is_err(), "byte {at}");
        file[at] ^= 1 << (at % 8);
    }
}

#[test]
fn a_file_that_is_too_short_or_too_long_is_noticed() {
    let mut file = sound_file();
    for length in (0..file.len()).step_by(512) {
        assert!(read(&file[..length]).is_err(), "{length} bytes");
    }
    file.extend_from_slice(&[0; BLOCK]);
    assert!(read(&file).is_err());
}

#[test]
fn another_file_in_its_place_is_noticed() {
    let disk = new_disk();
    let summary = write(&disk, &draw(6, 3, 10, 50), None);
    let identity = summary.identity();
    for expected in [
        SealedIdentity {
            number: 43,
            ..identity
        },
        SealedIdentity {
            bytes: identity.bytes + 1,
            ..identity
        },
        SealedIdentity {
            footer_crc: !identity.footer_crc,
            ..identity
        },
    ] {
        let opened = disk.run(Sealed::open(&disk, &path(), Some(&expected)));
        let Err(StoreError::SealedCorrupt { damage, .. }) = opened else {
            panic!("{opened:?}")
        };
        assert_eq!(damage, Damage::SealedOther);
    }
}

#[test]
fn a_later_version_is_named() {
    let mut file = sound_file();
    let mut header = SealedHeader::read_from_bytes(&file[..BLOCK]).unwrap();
    header.version = 2.into();
    header.crc = crc32c::crc32c(&header.as_bytes()[..BLOCK - 4]).into();
    file[..BLOCK].copy_from_slice(header.as_bytes());
    let refused = read(&file);
    assert!(
        matches!(refused, Err(StoreError::Unsupported { version: 2, .. })),
        "{refused:?}"
    );
}

#[test]
fn mending_a_sound_file_changes_nothing() {
    let mut file = sound_file();
    any_bytes::mend(&mut file);
    assert!(file == sound_file());
}

#[test]
fn an_index_that_promises_other_records_is_noticed() {
    let sound = sound_file();
    let footer = SealedFooter::read_from_bytes(&sound[sound.len() - BLOCK..]).unwrap();
    for region in [footer.directory, footer.blocks] {
        let start = usize::try_from(region.offset.get()).unwrap();
        for at in start..start + usize::try_from(region.bytes.get()).unwrap() {
            let mut file = sound.clone();
            file[at] ^= 1;
            any_bytes::mend(&mut file);
            let is_pointer = file == sound;
            let is_free = is_unverifiable(&footer, at);
            assert!(read(&file).is_err() || is_pointer || is_free, "byte {at}");
        }
    }
}

/// Nothing in the file says where a channel goes on in older ones.
fn is_unverifiable(footer: &SealedFooter, at: usize) -> bool {
    let start = usize::try_from(footer.directory.offset.get()).unwrap();
    let entry = size_of::<SealedEntry>();
    let end = start + usize::try_from(footer.directory.bytes.get()).unwrap();
    let prev = std::mem::offset_of!(SealedEntry, prev_day);
    (start..end).contains(&at) && (prev..prev + 8).contains(&((at - start) % entry))
}

proptest! {
    #[test]
    fn any_bytes_are_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..3 * BLOCK),
        whole in any::<bool>(),
    ) {
        let mut bytes = bytes;
        if whole {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        prop_assert!(read(&bytes).is_err());
        any_bytes::as_sealed(&bytes);
    }

    #[test]
    fn damage_with_right_checksums_is_no_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        in_index in any::<bool>(),
    ) {
        let mut file = sound_file();
        let footer = SealedFooter::read_from_bytes(&file[file.len() - BLOCK..]).unwrap();
        let first = if in_index { footer.dictionary.offset.get() } else { 0 };
        let first = usize::try_from(first).unwrap();
        let end = file.len() - BLOCK;
        for (at, byte) in changes {
            file[first + at.index(end - first)] = byte;
        }
        any_bytes::mend(&mut file);
        drop(read(&file));
    }
}
