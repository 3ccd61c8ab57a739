//! Holds `FORMAT.md` against the code: every table row against a field's offset and size, every
//! constant against its value.
//!
//! It does not judge the prose.
//!
//! Invariants: a structure without a table, and a table without a structure, both fail.

use std::collections::BTreeMap;
use std::mem::offset_of;

use crate::catalog::{
    CATALOG_MAGIC, CATALOG_VERSION, CatalogChannel, CatalogChannelV1, CatalogHeader,
    CatalogHeaderV1, CatalogSegment,
};
use crate::config::BLOCK_BYTES;
use crate::consumer::{LOST_MAGIC, LostMark, POSITION_MAGIC, PositionHead, PositionHeader};
use crate::dead_letter::{DEAD_LETTER_MAGIC, DeadLetterHeader, LetterKind};
use crate::format::{
    FORMAT_VERSION, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, FrameKind, OPENING_BYTES,
    Opening, RECORD_HEADER_BYTES, RecordHeader,
};
use crate::manifest::{
    ErasureKind, MANIFEST_MAGIC, MANIFEST_VERSION, ManifestBucket, ManifestErasure, ManifestHeader,
};
use crate::record::RecordKind;
use crate::sealed::{
    SEALED_BLOCK_BYTES, SEALED_BLOCK_BYTES_MAX, SEALED_MAGIC, SEALED_VERSION, SealedBlock,
    SealedEntry, SealedFooter, SealedGroup, SealedHeader, SealedRecordHeader, SealedRegion,
};
use crate::segment_index::{
    INDEX_MAGIC, INDEX_VERSION, IndexChange, IndexEntry, IndexHeader, IndexRun,
};

const DOCUMENT: &str = include_str!("../FORMAT.md");

/// Offset, size and name of a field.
type Row = (usize, usize, String);

fn cells(line: &str) -> Option<Vec<&str>> {
    let line = line.strip_prefix('|')?.strip_suffix('|')?;
    Some(
        line.split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect(),
    )
}

/// The field tables of the document, by the structure that their heading names.
fn documented() -> BTreeMap<String, Vec<Row>> {
    let mut tables: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    let mut heading = String::new();
    for line in DOCUMENT.lines() {
        if let Some(name) = line.strip_prefix("### ") {
            heading = name.trim_matches('`').to_owned();
        } else if line.starts_with("## ") {
            heading.clear();
        }
        let Some(cells) = cells(line).filter(|_| !heading.is_empty()) else {
            continue;
        };
        let (Ok(offset), Ok(size)) = (cells[0].parse(), cells[1].parse()) else {
            continue;
        };
        tables
            .entry(heading.clone())
            .or_default()
            .push((offset, size, cells[2].to_owned()));
    }
    tables
}

macro_rules! rows {
    ($structure:ident { $($field:ident),+ $(,)? }) => {{
        let mut offsets = vec![$((offset_of!($structure, $field), stringify!($field))),+];
        offsets.push((size_of::<$structure>(), ""));
        // Exhaustive: a field that is missing above does not compile.
        let _ = |structure: $structure| {
            let $structure { $($field: _),+ } = structure;
        };
        let rows = offsets.windows(2);
        let rows: Vec<Row> =
            rows.map(|pair| (pair[0].0, pair[1].0 - pair[0].0, pair[0].1.to_owned())).collect();
        (stringify!($structure).to_owned(), rows)
    }};
}

fn in_code() -> BTreeMap<String, Vec<Row>> {
    let tables = [
        logs(),
        indexes(),
        catalogs(),
        manifests(),
        sealed_blocks(),
        sealed_index(),
        consumers(),
    ];
    tables.into_iter().flatten().collect()
}

/// What segments are made of.
fn logs() -> Vec<(String, Vec<Row>)> {
    vec![
        rows!(FrameHeader {
            magic,
            version,
            kind,
            salt,
            segment,
            day,
            frame_seq,
            synced_frames,
            body_bytes,
            records,
            reserved,
            body_crc,
            header_crc,
        }),
        rows!(Opening {
            shard,
            shards,
            segment_bytes,
            created_ms,
            previous,
            previous_end,
            previous_day,
            reserved,
        }),
        rows!(RecordHeader {
            bytes,
            crc,
            kind,
            schema,
            reserved,
            channel,
            message,
            author,
            target,
            nonce,
            seq,
            rev,
        }),
    ]
}

/// What segments' indexes are made of.
fn indexes() -> Vec<(String, Vec<Row>)> {
    vec![
        rows!(IndexHeader {
            magic,
            version,
            shard,
            segment,
            day,
            salt,
            created_ms,
            newest_ms,
            end,
            runs,
            entries,
            changes,
            fences_crc,
            header_crc,
        }),
        rows!(IndexRun {
            channel,
            last_message,
            first_seq,
            last_rev,
            changes_min_seq,
            prev_segment,
            prev_day,
            prev_changes_segment,
            prev_changes_day,
            first_entry,
            count,
            first_change,
            changes,
        }),
        rows!(IndexEntry {
            offset,
            bytes,
            time_ms
        }),
        rows!(IndexChange {
            seq,
            rev,
            offset,
            bytes
        }),
    ]
}

/// What catalogs are made of.
fn catalogs() -> Vec<(String, Vec<Row>)> {
    vec![
        rows!(CatalogHeader {
            magic,
            version,
            owner,
            segments,
            channels,
            newest_segment,
            newest_day,
            newest_ms,
            body_bytes,
            body_crc,
            header_crc,
        }),
        rows!(CatalogHeaderV1 {
            magic,
            version,
            reserved,
            segments,
            channels,
            body_bytes,
            body_crc,
            header_crc,
        }),
        rows!(CatalogChannelV1 { channel, seq, rev }),
        rows!(CatalogSegment {
            segment,
            day,
            end,
            reserved
        }),
        rows!(CatalogChannel {
            channel,
            last_message,
            seq,
            rev,
            newest_segment,
            newest_day,
            changes_segment,
            changes_day,
        }),
    ]
}

/// What the manifest is made of.
fn manifests() -> Vec<(String, Vec<Row>)> {
    vec![
        rows!(ManifestHeader {
            magic,
            version,
            reserved,
            buckets,
            erasures,
            next_number,
            retained_from,
            sealed_through,
            reserved2,
            next_erasure,
            compacted_ms,
            reserved3,
            body_crc,
            header_crc,
        }),
        rows!(ManifestBucket {
            number,
            first_day,
            last_day,
            footer_crc,
            bytes,
            messages,
            channels,
            erased_through,
        }),
        rows!(ManifestErasure {
            erasure,
            asked_ms,
            kind,
            reserved,
            key,
            channel,
            seq,
        }),
    ]
}

/// What consumers keep.
fn consumers() -> Vec<(String, Vec<Row>)> {
    vec![
        rows!(PositionHeader {
            magic,
            version,
            heads,
            low,
            name_crc,
            newest_ms,
            body_crc,
            header_crc,
        }),
        rows!(PositionHead {
            segment,
            offset,
            taken,
            reserved,
            records,
        }),
        rows!(LostMark {
            magic,
            version,
            reserved,
            segment,
            crc,
        }),
        rows!(DeadLetterHeader {
            magic,
            version,
            kind,
            salt,
            frame_seq,
            id,
            first_ms,
            last_ms,
            attempts,
            reason_bytes,
            body_bytes,
            name_crc,
            body_crc,
            header_crc,
        }),
    ]
}

/// What is in the blocks of sealed segments.
fn sealed_blocks() -> Vec<(String, Vec<Row>)> {
    vec![
        rows!(SealedGroup {
            bytes,
            channel,
            seq,
            rev
        }),
        rows!(SealedRecordHeader {
            bytes,
            schema,
            kind,
            has_target,
            seq_step,
            rev_step,
            author,
            message,
        }),
    ]
}

/// What is around and behind the blocks of sealed segments.
fn sealed_index() -> Vec<(String, Vec<Row>)> {
    vec![
        rows!(SealedHeader {
            magic,
            version,
            reserved,
            number,
            first_day,
            last_day,
            padding,
            crc,
        }),
        rows!(SealedEntry {
            channel,
            first_seq,
            last_rev,
            changes_min_seq,
            bytes,
            count,
            prev_day,
            prev_changes_day,
            first_block,
        }),
        rows!(SealedBlock {
            offset,
            first_seq,
            first_ms,
            bytes,
            raw_bytes,
            crc,
            first_entry,
            continues,
        }),
        rows!(SealedRegion {
            offset,
            bytes,
            crc,
            reserved
        }),
        rows!(SealedFooter {
            magic,
            version,
            reserved,
            number,
            first_day,
            last_day,
            blocks_end,
            dictionary,
            filter,
            directory,
            blocks,
            meta,
            padding,
            crc,
        }),
    ]
}

#[test]
fn the_tables_are_the_structures() {
    assert_eq!(documented(), in_code());
}

fn constants() -> Vec<(&'static str, String)> {
    let magic = |bytes: [u8; 4]| String::from_utf8(bytes.to_vec()).unwrap();
    vec![
        ("BLOCK_BYTES", BLOCK_BYTES.to_string()),
        ("FRAME_MAGIC", magic(FRAME_MAGIC)),
        ("CATALOG_MAGIC", magic(CATALOG_MAGIC)),
        ("MANIFEST_MAGIC", magic(MANIFEST_MAGIC)),
        ("MANIFEST_VERSION", MANIFEST_VERSION.to_string()),
        ("SEALED_MAGIC", magic(SEALED_MAGIC)),
        ("SEALED_VERSION", SEALED_VERSION.to_string()),
        ("SEALED_BLOCK_BYTES", SEALED_BLOCK_BYTES.to_string()),
        ("SEALED_BLOCK_BYTES_MAX", SEALED_BLOCK_BYTES_MAX.to_string()),
        ("CATALOG_VERSION", CATALOG_VERSION.to_string()),
        ("INDEX_MAGIC", magic(INDEX_MAGIC)),
        ("INDEX_VERSION", INDEX_VERSION.to_string()),
        ("FORMAT_VERSION", FORMAT_VERSION.to_string()),
        ("FRAME_HEADER_BYTES", FRAME_HEADER_BYTES.to_string()),
        ("OPENING_BYTES", OPENING_BYTES.to_string()),
        ("RECORD_HEADER_BYTES", RECORD_HEADER_BYTES.to_string()),
        ("POSITION_MAGIC", magic(POSITION_MAGIC)),
        ("LOST_MAGIC", magic(LOST_MAGIC)),
        ("DEAD_LETTER_MAGIC", magic(DEAD_LETTER_MAGIC)),
    ]
}

fn kinds() -> Vec<(&'static str, String)> {
    vec![
        (
            "ErasureKind::Message",
            (ErasureKind::Message as u16).to_string(),
        ),
        (
            "ErasureKind::Author",
            (ErasureKind::Author as u16).to_string(),
        ),
        (
            "FrameKind::Opening",
            (FrameKind::Opening as u16).to_string(),
        ),
        (
            "FrameKind::Records",
            (FrameKind::Records as u16).to_string(),
        ),
        ("FrameKind::Idle", (FrameKind::Idle as u16).to_string()),
        (
            "LetterKind::Letter",
            (LetterKind::Letter as u16).to_string(),
        ),
        ("LetterKind::Retry", (LetterKind::Retry as u16).to_string()),
        ("LetterKind::Gone", (LetterKind::Gone as u16).to_string()),
        (
            "LetterKind::Closing",
            (LetterKind::Closing as u16).to_string(),
        ),
        (
            "RecordKind::Create",
            RecordKind::Create.number().to_string(),
        ),
        ("RecordKind::Edit", RecordKind::Edit.number().to_string()),
        (
            "RecordKind::Delete",
            RecordKind::Delete.number().to_string(),
        ),
        (
            "RecordKind::ReactionAdd",
            RecordKind::ReactionAdd.number().to_string(),
        ),
        (
            "RecordKind::ReactionRemove",
            RecordKind::ReactionRemove.number().to_string(),
        ),
    ]
}

#[test]
fn the_constants_are_those_of_the_code() {
    let expected: BTreeMap<_, _> = constants().into_iter().chain(kinds()).collect();
    let section = DOCUMENT
        .split("## Constants")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next());
    let rows = section.unwrap().lines().filter_map(cells).skip(2);
    let found = rows
        .map(|cells| (cells[0], cells[1].to_owned()))
        .collect::<BTreeMap<_, _>>();
    assert_eq!(found, expected);
}

#[test]
fn the_lengths_are_those_of_the_structures() {
    assert_eq!(size_of::<FrameHeader>(), FRAME_HEADER_BYTES as usize);
    assert_eq!(size_of::<Opening>(), OPENING_BYTES as usize);
    assert_eq!(size_of::<RecordHeader>(), RECORD_HEADER_BYTES as usize);
}
