//! What is remembered of all channels beside the segments: each one's last numbers and where its
//! newest records lie, up to certain segments, so that a start need not look at all of them.
//!
//! It is no source of data: everything in it follows from the segments, their index files and
//! the sealed days.
//!
//! Invariants: a catalog file is replaced as a whole; the node's covers what it names, a shard's
//! only says where segments end; channels stand in order of their keys.

mod checkpoint;
mod file;
mod v1;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::disk::Disk;
use crate::error::{Damage, StoreError};
use crate::hot::Run;
use crate::index::{Break, Head};
use crate::key::{ChannelKey, MessageKey, SegmentId};
use crate::place::Place;
use crate::segment::{Day, Paths};

pub(crate) use checkpoint::{Checkpoint, checkpoint};
pub(crate) use file::{CatalogReader, CatalogWriter};
#[cfg(test)]
pub(crate) use v1::{CatalogChannelV1, CatalogHeaderV1};

/// First bytes of a catalog file.
pub(crate) const CATALOG_MAGIC: [u8; 4] = *b"THRC";
/// Version of the catalogs that are written.
pub(crate) const CATALOG_VERSION: u16 = 2;
/// Version of the catalogs that only hold heads, which are still read.
pub(crate) const CATALOG_VERSION_1: u16 = 1;
const NODE_FILE: &str = "node.cat";

/// What a catalog begins with; the rest of the block is zeroes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct CatalogHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) owner: U16,
    pub(crate) segments: U32,
    pub(crate) channels: U32,
    pub(crate) newest_segment: U32,
    pub(crate) newest_day: U32,
    pub(crate) newest_ms: U64,
    pub(crate) body_bytes: U64,
    pub(crate) body_crc: U32,
    pub(crate) header_crc: U32,
}

/// One ended segment.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct CatalogSegment {
    pub(crate) segment: U32,
    pub(crate) day: U32,
    pub(crate) end: U32,
    pub(crate) reserved: [u8; 4],
}

/// One channel's last numbers, and where its newest records lie.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct CatalogChannel {
    pub(crate) channel: [u8; 16],
    pub(crate) last_message: [u8; 16],
    pub(crate) seq: U64,
    pub(crate) rev: U64,
    pub(crate) newest_segment: U32,
    pub(crate) newest_day: U32,
    pub(crate) changes_segment: U32,
    pub(crate) changes_day: U32,
}

/// A segment that has ended, as catalogs name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct EndedSegment {
    pub(crate) segment: SegmentId,
    pub(crate) day: Day,
    /// Where its frames end, in bytes.
    pub(crate) end: u32,
}

/// A channel, as catalogs remember it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct CatalogEntry {
    pub(crate) channel: ChannelKey,
    pub(crate) head: Head,
    pub(crate) newest: Place,
    pub(crate) newest_changes: Place,
}

impl CatalogEntry {
    /// A channel of which nothing is known.
    pub(crate) fn new(channel: ChannelKey) -> Self {
        Self {
            channel,
            head: Head::default(),
            newest: Place::NONE,
            newest_changes: Place::NONE,
        }
    }

    /// Adds the channel's run of a later segment.
    pub(crate) fn apply(&mut self, run: &Run, place: Place) -> Result<(), Break> {
        self.head = self.head.after(run)?;
        if run.count > 0 {
            self.newest = place;
        }
        if run.changes > 0 {
            self.newest_changes = place;
        }
        Ok(())
    }
}

impl From<&CatalogEntry> for CatalogChannel {
    fn from(entry: &CatalogEntry) -> Self {
        Self {
            channel: entry.channel.0,
            last_message: entry.head.last_message.0,
            seq: entry.head.seq.into(),
            rev: entry.head.rev.into(),
            newest_segment: entry.newest.segment.0.into(),
            newest_day: entry.newest.day.0.into(),
            changes_segment: entry.newest_changes.segment.0.into(),
            changes_day: entry.newest_changes.day.0.into(),
        }
    }
}

impl From<&CatalogChannel> for CatalogEntry {
    fn from(entry: &CatalogChannel) -> Self {
        let place = |segment: U32, day: U32| Place {
            segment: SegmentId(segment.get()),
            day: Day(day.get()),
        };
        Self {
            channel: ChannelKey(entry.channel),
            head: Head {
                seq: entry.seq.get(),
                rev: entry.rev.get(),
                last_message: MessageKey(entry.last_message),
            },
            newest: place(entry.newest_segment, entry.newest_day),
            newest_changes: place(entry.changes_segment, entry.changes_day),
        }
    }
}

impl From<&CatalogSegment> for EndedSegment {
    fn from(entry: &CatalogSegment) -> Self {
        Self {
            segment: SegmentId(entry.segment.get()),
            day: Day(entry.day.get()),
            end: entry.end.get(),
        }
    }
}

/// A channel's last numbers as version 1 remembered them.
pub(crate) type RecordedHead = (ChannelKey, u64, u64);

/// The node's catalog.
pub(crate) fn node_path(paths: &Paths) -> PathBuf {
    paths.catalogs().join(NODE_FILE)
}

/// What the catalogs of a directory say, the node's channels aside.
#[derive(Default, Debug)]
pub(crate) struct Notes {
    /// Where segments end, by any catalog.
    pub(crate) ends: BTreeMap<SegmentId, EndedSegment>,
    /// The segments that the node's catalog covers; `None` if there is no such catalog.
    pub(crate) covered: Option<BTreeMap<SegmentId, EndedSegment>>,
    /// Heads of version 1 catalogs.
    pub(crate) heads: Vec<RecordedHead>,
    /// Time of the newest key that the node's catalog covers.
    pub(crate) newest_ms: u64,
    /// Highest number of a segment that the node's catalog ever covered, and the latest day.
    pub(crate) newest: Option<(SegmentId, Day)>,
}

impl Notes {
    /// Reads all catalogs, but of the node's channels only that they are there.
    ///
    /// # Errors
    /// If one is damaged or of a later version.
    pub(crate) async fn load<D: Disk>(disk: &D, paths: &Paths) -> Result<Self, StoreError> {
        let mut notes = Self::default();
        for name in disk.list(&paths.catalogs()).await? {
            if name.ends_with(".cat") {
                let is_node = name == NODE_FILE;
                let path = paths.catalogs().join(name);
                if v1::version_of(disk, &path).await? == CATALOG_VERSION_1 {
                    notes.add_v1(v1::read(disk, &path).await?);
                } else {
                    let mut catalog = CatalogReader::open(disk, &path).await?;
                    notes.add(&catalog, is_node);
                    // The checksum holds only at the end. The node's channels are read later.
                    while !is_node && catalog.next().await?.is_some() {}
                    catalog.close().await?;
                }
            }
        }
        Ok(notes)
    }

    fn add_v1(&mut self, (segments, heads): (Vec<EndedSegment>, Vec<RecordedHead>)) {
        self.add_ends(&segments);
        self.heads.extend(heads);
    }

    fn add<D: Disk>(&mut self, catalog: &CatalogReader<D>, is_node: bool) {
        self.add_ends(catalog.segments());
        if is_node {
            let covered = catalog.segments().iter();
            self.covered = Some(covered.map(|ended| (ended.segment, *ended)).collect());
            self.newest_ms = catalog.newest_ms();
            self.newest = Some(catalog.newest());
        }
    }

    fn add_ends(&mut self, segments: &[EndedSegment]) {
        for ended in segments {
            self.ends.insert(ended.segment, *ended);
        }
    }
}

/// Writes what a shard's log remembers at its end: where its segments end.
pub(crate) async fn store_shard<D: Disk>(
    disk: &D,
    paths: &Paths,
    shard: u16,
    segments: &[EndedSegment],
) -> Result<(), StoreError> {
    let path = paths.catalogs().join(format!("shard-{shard}.cat"));
    let writer = CatalogWriter::create(disk, &path, segments).await?;
    writer.finish().await
}

/// Removes the shards' catalogs: the node's says all that they do.
pub(crate) async fn remove_shards<D: Disk>(disk: &D, paths: &Paths) -> Result<(), StoreError> {
    let mut is_changed = false;
    for name in disk.list(&paths.catalogs()).await? {
        if name != NODE_FILE && (name.ends_with(".cat") || name.ends_with(".tmp")) {
            disk.remove(&paths.catalogs().join(name)).await?;
            is_changed = true;
        }
    }
    if is_changed {
        disk.sync_dir(&paths.catalogs()).await?;
    }
    Ok(())
}

fn damaged(path: &Path) -> StoreError {
    StoreError::Corrupt {
        path: path.to_path_buf(),
        offset: 0,
        damage: Damage::Catalog,
    }
}
