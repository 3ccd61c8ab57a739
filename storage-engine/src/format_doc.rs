//! Holds `FORMAT.md` against the code: every table row against a field's offset and size, every
//! constant against its value.
//!
//! It does not judge the prose.
//!
//! Invariants: a structure without a table, and a table without a structure, both fail.

use std::collections::BTreeMap;
use std::mem::offset_of;

use crate::catalog::{CATALOG_MAGIC, CatalogChannel, CatalogHeader, CatalogSegment};
use crate::config::BLOCK_BYTES;
use crate::format::{
    FORMAT_VERSION, FRAME_HEADER_BYTES, FRAME_MAGIC, FrameHeader, FrameKind, OPENING_BYTES,
    Opening, RECORD_HEADER_BYTES, RecordHeader,
};
use crate::record::RecordKind;

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
    BTreeMap::from([
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
        rows!(CatalogHeader {
            magic,
            version,
            reserved,
            segments,
            channels,
            body_bytes,
            body_crc,
            header_crc,
        }),
        rows!(CatalogSegment {
            segment,
            day,
            end,
            reserved
        }),
        rows!(CatalogChannel { channel, seq, rev }),
    ])
}

#[test]
fn the_tables_are_the_structures() {
    assert_eq!(documented(), in_code());
}

#[test]
fn the_constants_are_those_of_the_code() {
    let magic = |bytes: [u8; 4]| String::from_utf8(bytes.to_vec()).unwrap();
    let expected = BTreeMap::from([
        ("BLOCK_BYTES", BLOCK_BYTES.to_string()),
        ("FRAME_MAGIC", magic(FRAME_MAGIC)),
        ("CATALOG_MAGIC", magic(CATALOG_MAGIC)),
        ("FORMAT_VERSION", FORMAT_VERSION.to_string()),
        ("FRAME_HEADER_BYTES", FRAME_HEADER_BYTES.to_string()),
        ("OPENING_BYTES", OPENING_BYTES.to_string()),
        ("RECORD_HEADER_BYTES", RECORD_HEADER_BYTES.to_string()),
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
    ]);
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
