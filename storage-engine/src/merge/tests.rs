//! Merges of many inputs, and of messages with very many changes.
//!
//! What maintenance does with a merge is tested with the maintenance.
//!
//! Invariants: what is expected is computed without a merge.

use std::path::PathBuf;

use bytes::Bytes;

use super::*;
use crate::config::MaintenanceConfig;
use crate::key::{AuthorKey, MessageKey, NonceKey};
use crate::part::{Part, PartWriter};
use crate::sim_disk::{SimDisk, SimLatency};

fn record(channel: u8, kind: RecordKind, seq: u64, rev: u64, author: u64) -> Record {
    Record {
        kind,
        schema: 1,
        channel: ChannelKey([channel; 16]),
        message: MessageKey((u128::from(rev) << 80).to_be_bytes()),
        author: AuthorKey(u128::from(author).to_be_bytes()),
        seq,
        rev,
        target: match kind {
            RecordKind::Create => MessageKey::ZERO,
            _ => MessageKey([9; 16]),
        },
        nonce: NonceKey::ZERO,
        body: Bytes::from(vec![1; 200]),
    }
}

fn links(part: usize) -> Links {
    Links {
        prev: Day(u32::try_from(part).unwrap()),
        prev_changes: Day(0),
    }
}

async fn write(disk: &SimDisk, number: usize, records: &[Record]) -> Part {
    let path = PathBuf::from(format!("/data/sealed/part-{number:08x}"));
    let mut writer = PartWriter::create(disk, &path, 1).await.unwrap();
    let mut channel = None;
    for record in records {
        if channel.replace(record.channel) != Some(record.channel) {
            writer.begin_channel(links(number));
        }
        writer.push(record).await.unwrap();
    }
    writer.finish().await.unwrap()
}

async fn open(disk: &SimDisk, parts: &[Part], piece_bytes: u32) -> Vec<Source<SimDisk>> {
    let mut sources = Vec::new();
    for part in parts {
        let stream = PartStream::open(disk, part, piece_bytes).await;
        sources.push(Source::Part(stream.unwrap()));
    }
    sources
}

fn new_disk() -> SimDisk {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.put(std::path::Path::new("/data/sealed/x"), b"");
    disk
}

#[test]
fn many_parts_are_merged_within_little_memory() {
    const PARTS: u64 = 40;
    let config = MaintenanceConfig {
        merge_inputs_max: 40,
        merge_bytes_max: 40 * (80 << 10),
        ..MaintenanceConfig::default()
    };
    config.assert_consistent();
    let piece_bytes = config.piece_bytes(40);
    assert_eq!(piece_bytes, 80 << 10, "far below 1 MiB");
    let disk = new_disk();
    disk.run(async {
        let mut parts = Vec::new();
        let mut all = Vec::new();
        for part in 0..PARTS {
            // Channel 1 is in the even parts only, 2 in all; changes are of older parts' messages.
            let mut records = Vec::new();
            for channel in if part % 2 == 0 { 1..3_u8 } else { 2..3 } {
                let step = if channel == 1 { part / 2 } else { part };
                for at in 1..=400 {
                    let seq = step * 400 + at;
                    records.push(record(channel, RecordKind::Create, seq, seq * 2, 1));
                }
                let changed = (step * 400 + 1).saturating_sub(700).max(1);
                records.push(record(
                    channel,
                    RecordKind::Edit,
                    changed,
                    step * 800 + 3,
                    1,
                ));
            }
            records.sort_by_key(|record| (record.channel, record.seq, record.rev));
            parts.push(write(&disk, all.len(), &records).await);
            all.push(records);
        }
        let mut all: Vec<Record> = all.concat();
        all.sort_by_key(|record| (record.channel, record.seq, record.rev));
        let sources = open(&disk, &parts, piece_bytes).await;
        let mut merge = Merge::begin(sources, Policy::default()).await.unwrap();
        for expected in &all {
            let (record, found) = merge.next_record().await.unwrap().unwrap();
            assert_eq!((&record, found), (expected, links(0)), "of the oldest part");
        }
        assert!(merge.next_record().await.unwrap().is_none());
        assert_eq!(merge.finish().await.unwrap(), all.len() as u64);
    });
}

/// Merges inputs of one channel and folds them.
fn check_folded(inputs: &[Vec<Record>], expected: &[Record]) {
    let disk = new_disk();
    disk.run(async {
        let mut parts = Vec::new();
        for records in inputs {
            parts.push(write(&disk, parts.len(), records).await);
        }
        let sources = open(&disk, &parts, 64 << 10).await;
        let mut merge = Merge::begin(sources, Policy::default()).await.unwrap();
        let mut found = Vec::new();
        while let Some(kept) = merge.next().await.unwrap() {
            found.extend_from_slice(kept.records);
        }
        merge.finish().await.unwrap();
        assert_eq!(found.len(), expected.len());
        assert_eq!(found, expected);
    });
}

/// Reactions that come and go, and edits: more than are folded at once, spread over three inputs.
fn changes(first_rev: u64) -> Vec<Record> {
    let revs = first_rev..first_rev + 5 * FOLD_RECORDS as u64;
    let kinds = [RecordKind::ReactionAdd, RecordKind::ReactionRemove];
    revs.map(|rev| match rev % 7 {
        0 => record(1, RecordKind::Edit, 1, rev, 1),
        _ => record(1, kinds[usize::from(rev % 5 == 3)], 1, rev, rev % 11),
    })
    .collect()
}

fn spread(records: Vec<Record>) -> Vec<Vec<Record>> {
    let mut inputs = vec![Vec::new(); 3];
    for (at, record) in records.into_iter().enumerate() {
        inputs[at % 3].push(record);
    }
    inputs
}

#[test]
fn a_message_with_very_many_changes_folds_as_if_at_once() {
    let create = record(1, RecordKind::Create, 1, 1, 1);
    let stored = Stored::fold(create.clone(), changes(2));
    let expected: Vec<Record> = stored.records().cloned().collect();
    let records = std::iter::once(create).chain(changes(2)).collect();
    check_folded(&spread(records), &expected);
}

#[test]
fn very_many_changes_of_an_older_message_do_what_all_of_them_do() {
    let expected = Policy::default().orphans(changes(2));
    assert!(expected.len() < 100);
    check_folded(&spread(changes(2)), &expected);
}

#[test]
fn a_message_that_is_there_twice_or_missing_stops_the_merge() {
    for seqs in [[1, 1], [1, 3]] {
        let disk = new_disk();
        disk.run(async {
            let mut parts = Vec::new();
            for seq in seqs {
                let rev = parts.len() as u64 + 1;
                let records = [record(1, RecordKind::Create, seq, rev, 1)];
                parts.push(write(&disk, parts.len(), &records).await);
            }
            let sources = open(&disk, &parts, 64 << 10).await;
            let mut merge = Merge::begin(sources, Policy::default()).await.unwrap();
            let mut last = merge.next().await.map(|kept| kept.is_some());
            while let Ok(true) = last {
                last = merge.next().await.map(|kept| kept.is_some());
            }
            assert!(
                matches!(last, Err(StoreError::MergeBreak { .. })),
                "{last:?}"
            );
        });
    }
}
