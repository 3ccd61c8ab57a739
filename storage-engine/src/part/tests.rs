//! Parts as a merge reads them, whole and damaged.
//!
//! No merge is under way here.
//!
//! Invariants: what is read is what was written, or an error that names the file.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::BLOCK_BYTES;
use crate::error::{Damage, StoreError};
use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey};
use crate::merge::Links;
use crate::record::{Record, RecordKind};
use crate::segment::Day;
use crate::sim_disk::{SimDisk, SimLatency};

fn path() -> &'static Path {
    Path::new("/data/sealed/part-00000001")
}

/// A channel of these records: kind, length of the body.
type Drawn = Vec<(u8, usize)>;

/// What hardly compresses.
fn noise(at: u64) -> u8 {
    (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40).to_le_bytes()[0]
}

fn records(channels: &[Drawn]) -> Vec<(Record, Links)> {
    let mut records = Vec::new();
    for (drawn, number) in channels.iter().zip(1_u8..) {
        let links = Links {
            prev: Day(u32::from(number)),
            prev_changes: Day(u32::from(number % 3)),
        };
        for ((kind, bytes), seq) in drawn.iter().zip(1..) {
            let record = Record {
                kind: RecordKind::from_number((*kind).into()).unwrap(),
                schema: 2,
                channel: ChannelKey([number; 16]),
                message: MessageKey([*kind; 16]),
                author: AuthorKey([7; 16]),
                seq,
                rev: seq * 3,
                target: MessageKey([kind - 1; 16]),
                nonce: NonceKey::ZERO,
                body: (0..*bytes as u64)
                    .map(|at| noise(seq * 5000 + at))
                    .collect(),
            };
            records.push((record, links));
        }
    }
    records
}

async fn write(disk: &SimDisk, records: &[(Record, Links)]) -> Part {
    let mut writer = PartWriter::create(disk, path(), 1).await.unwrap();
    let mut channel = None;
    for (record, links) in records {
        if channel != Some(record.channel) {
            writer.begin_channel(*links);
            channel = Some(record.channel);
        }
        writer.push(record).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn read(
    disk: &SimDisk,
    part: &Part,
    piece_bytes: u32,
) -> Result<Vec<(Record, Links)>, StoreError> {
    let mut stream = PartStream::open(disk, part, piece_bytes).await?;
    let mut records = Vec::new();
    loop {
        while let Some(record) = stream.next_of_block()? {
            let links = stream.links(record.channel);
            records.push((record, links));
        }
        if !stream.next_block().await? {
            stream.close().await?;
            return Ok(records);
        }
    }
}

fn new_disk() -> SimDisk {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.put(Path::new("/data/sealed/x"), b"");
    disk
}

fn written(records: &[(Record, Links)]) -> (Part, Vec<u8>) {
    let disk = new_disk();
    let part = disk.run(write(&disk, records));
    (part, disk.contents(path()).unwrap())
}

fn check(records: &[(Record, Links)], piece_bytes: u32) {
    let disk = new_disk();
    disk.run(async {
        let part = write(&disk, records).await;
        assert_eq!(part.bytes, disk.contents(path()).unwrap().len() as u64);
        assert_eq!(read(&disk, &part, piece_bytes).await.unwrap(), records);
    });
}

/// Reads a file with these bytes, taken for the part.
fn read_as(part: &Part, bytes: &[u8]) -> Result<Vec<(Record, Links)>, StoreError> {
    let disk = new_disk();
    disk.put(path(), bytes);
    disk.run(read(&disk, part, 2 * BLOCK_BYTES))
}

/// Some blocks and several channels, one of which goes on from block to block.
fn three_channels() -> Vec<(Record, Links)> {
    records(&[vec![(1, 100); 50], vec![(2, 900); 90], vec![(5, 0); 3]])
}

#[test]
fn a_part_of_nothing_and_one_of_long_records() {
    check(&[], BLOCK_BYTES);
    check(
        &records(&[vec![(1, 2 << 20), (1, 3 << 20), (1, 1)]]),
        BLOCK_BYTES,
    );
}

#[test]
fn a_part_that_was_cut_off_is_refused() {
    let records = three_channels();
    let (part, bytes) = written(&records);
    assert_eq!(read_as(&part, &bytes).unwrap(), records);
    let content = 1 + bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for end in (0..bytes.len()).step_by(61).chain([bytes.len() - 1]) {
        let refused = read_as(&part, &bytes[..end]);
        let Err(StoreError::SealedCorrupt {
            damage,
            path: named,
            ..
        }) = refused
        else {
            panic!("cut at {end}: {refused:?}");
        };
        assert_eq!((damage, named.as_path()), (Damage::TooShort, path()));
        // Even if nobody knew how long it was, unless nothing but zeroes is gone.
        let shorter = Part {
            bytes: end as u64,
            ..part.clone()
        };
        assert!(
            end >= content || read_as(&shorter, &bytes[..end]).is_err(),
            "cut at {end}"
        );
    }
}

#[test]
fn a_flipped_bit_anywhere_is_noticed() {
    let (part, bytes) = written(&three_channels());
    for at in (0..bytes.len())
        .step_by(37)
        .chain(bytes.len() - 80..bytes.len())
    {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << (at % 8);
        let refused = read_as(&part, &flipped);
        assert!(
            matches!(
                &refused,
                Err(StoreError::SealedCorrupt {
                    damage: Damage::Part,
                    ..
                })
            ),
            "byte {at}: {refused:?}"
        );
    }
}

#[test]
fn a_block_that_is_gone_is_noticed() {
    let (part, bytes) = written(&three_channels());
    let length = |at: usize| u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap());
    let second = 24 + length(0) as usize;
    let third = second + 24 + length(second) as usize;
    let mut without = [&bytes[..second], &bytes[third..]].concat();
    without.resize(bytes.len(), 0);
    assert!(read_as(&part, &without).is_err());
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        channels in prop::collection::vec(
            prop::collection::vec((1_u8..6, 0_usize..5000), 1..30),
            0..12,
        ),
        blocks in 1_u32..40,
    ) {
        check(&records(&channels), blocks * BLOCK_BYTES);
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(
        bytes in prop::collection::vec(any::<u8>(), 1..9000),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (part, mut damaged) = written(&three_channels());
        let of = |bytes: &[u8]| Part { bytes: bytes.len() as u64, ..part.clone() };
        prop_assert!(read_as(&of(&bytes), &bytes).is_err());
        for (at, byte) in changes {
            let at = at.index(damaged.len());
            damaged[at] = byte;
        }
        drop(read_as(&part, &damaged));
    }
}
