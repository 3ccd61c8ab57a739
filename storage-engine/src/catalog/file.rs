//! Catalog files, written and read from front to back in small pieces.
//!
//! They are never held in memory as a whole: a node may have millions of channels.
//!
//! Invariants: a catalog appears under its name as a whole and durable; a reader has seen the
//! checksum of the whole hold when it says that there are no more channels.

use std::path::{Path, PathBuf};

use zerocopy::{FromBytes, IntoBytes};

use super::{
    CATALOG_MAGIC, CATALOG_VERSION, CatalogChannel, CatalogEntry, CatalogHeader, CatalogSegment,
    EndedSegment, damaged,
};
use crate::aside::Aside;
use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::key::{ChannelKey, SegmentId};
use crate::segment::Day;
use crate::window::Window;

/// Unit of reading, in bytes.
const CHUNK_BYTES: u32 = 256 << 10;
const HEADER_BYTES: usize = size_of::<CatalogHeader>();
const SEGMENT_BYTES: u32 = 16;
const CHANNEL_BYTES: u32 = 64;

fn header_crc(header: &CatalogHeader) -> u32 {
    crc32c::crc32c(&header.as_bytes()[..HEADER_BYTES - 4])
}

/// Whose catalog has this name: 0 is the node's, others are those of shards, counted from 1. A
/// device that reads another catalog in its place is found out by it.
fn owner_of(path: &Path) -> u16 {
    let name = path.file_stem().and_then(|name| name.to_str());
    let shard = name.and_then(|name| name.strip_prefix("shard-")?.parse().ok());
    shard.map_or(0, |shard: u16| shard.saturating_add(1))
}

/// A catalog in the making.
pub(crate) struct CatalogWriter<D: Disk> {
    aside: Aside<D>,
    owner: u16,
    segments: u32,
    channels: u32,
    last: Option<ChannelKey>,
    newest_ms: u64,
    newest: (SegmentId, Day),
    body_bytes: u64,
    body_crc: u32,
}

impl<D: Disk> CatalogWriter<D> {
    /// Begins a catalog that names these segments.
    pub(crate) async fn create(
        disk: &D,
        path: &Path,
        segments: &[EndedSegment],
    ) -> Result<Self, StoreError> {
        let mut writer = Self {
            aside: Aside::create(disk, path, "next").await?,
            owner: owner_of(path),
            segments: u32::try_from(segments.len()).expect("segments have 32-bit numbers"),
            channels: 0,
            last: None,
            newest_ms: 0,
            newest: (SegmentId(0), Day(0)),
            body_bytes: 0,
            body_crc: 0,
        };
        for ended in segments {
            let entry = CatalogSegment {
                segment: ended.segment.0.into(),
                day: ended.day.0.into(),
                end: ended.end.into(),
                reserved: [0; 4],
            };
            writer.append(entry.as_bytes()).await?;
            writer.note_newest(0, ended.segment, ended.day);
        }
        Ok(writer)
    }

    /// Notes how far the catalog reaches: the highest of all that is noted counts.
    pub(crate) fn note_newest(&mut self, newest_ms: u64, segment: SegmentId, day: Day) {
        self.newest_ms = self.newest_ms.max(newest_ms);
        self.newest.0 = self.newest.0.max(segment);
        self.newest.1 = self.newest.1.max(day);
    }

    /// Adds a channel. Their keys rise.
    pub(crate) async fn push(&mut self, entry: &CatalogEntry) -> Result<(), StoreError> {
        assert!(
            self.last < Some(entry.channel),
            "channels stand in order of their keys"
        );
        self.last = Some(entry.channel);
        self.channels += 1;
        self.append(CatalogChannel::from(entry).as_bytes()).await
    }

    /// Puts the catalog in its place.
    pub(crate) async fn finish(self) -> Result<(), StoreError> {
        let mut header = CatalogHeader {
            magic: CATALOG_MAGIC,
            version: CATALOG_VERSION.into(),
            owner: self.owner.into(),
            segments: self.segments.into(),
            channels: self.channels.into(),
            newest_segment: self.newest.0.0.into(),
            newest_day: self.newest.1.0.into(),
            newest_ms: self.newest_ms.into(),
            body_bytes: self.body_bytes.into(),
            body_crc: self.body_crc.into(),
            header_crc: 0.into(),
        };
        header.header_crc = header_crc(&header).into();
        self.aside.install(header.as_bytes()).await
    }

    async fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.body_crc = crc32c::crc32c_append(self.body_crc, bytes);
        self.body_bytes += bytes.len() as u64;
        Ok(self.aside.append(bytes).await?)
    }
}

/// A catalog that is being read.
pub(crate) struct CatalogReader<D: Disk> {
    window: Window<D::File>,
    path: PathBuf,
    header: CatalogHeader,
    segments: Vec<EndedSegment>,
    offset: u64,
    left: u32,
    last: Option<ChannelKey>,
    crc: u32,
}

impl<D: Disk> CatalogReader<D> {
    /// Opens a catalog of the present version and reads which segments it names.
    ///
    /// # Errors
    /// If it is damaged or of another version.
    pub(crate) async fn open(disk: &D, path: &Path) -> Result<Self, StoreError> {
        let file = disk.open(path).await?;
        let length = file.length().await?;
        if length < u64::from(BLOCK_BYTES) {
            file.close().await?;
            return Err(damaged(path));
        }
        let mut window = Window::new(file, length, CHUNK_BYTES);
        let header = decode_header(window.at(0, BLOCK_BYTES).await?, length, path)?;
        if header.owner.get() != owner_of(path) {
            window.close().await?;
            return Err(damaged(path));
        }
        let mut reader = Self {
            window,
            path: path.to_path_buf(),
            header,
            segments: Vec::new(),
            offset: BLOCK_BYTES.into(),
            left: header.channels.get(),
            last: None,
            crc: 0,
        };
        for _ in 0..header.segments.get() {
            let bytes = reader.take(SEGMENT_BYTES).await?;
            let entry = CatalogSegment::ref_from_bytes(bytes).map(EndedSegment::from);
            let entry = entry.map_err(|_| damaged(path))?;
            reader.segments.push(entry);
        }
        Ok(reader)
    }

    /// The segments that it names, in order of their numbers.
    pub(crate) fn segments(&self) -> &[EndedSegment] {
        &self.segments
    }

    /// Time of the newest key, in milliseconds since 1970.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.header.newest_ms.get()
    }

    /// The highest number and the latest day of all segments that went into it.
    pub(crate) fn newest(&self) -> (SegmentId, Day) {
        (
            SegmentId(self.header.newest_segment.get()),
            Day(self.header.newest_day.get()),
        )
    }

    /// The next channel; `None` behind the last one, once the checksum of all has held.
    ///
    /// # Errors
    /// If the catalog is damaged: what was read before may then be wrong too.
    pub(crate) async fn next(&mut self) -> Result<Option<CatalogEntry>, StoreError> {
        if self.left == 0 {
            let is_whole = self.crc == self.header.body_crc.get();
            return is_whole.then_some(None).ok_or_else(|| damaged(&self.path));
        }
        let bytes = self.take(CHANNEL_BYTES).await?;
        let entry = CatalogChannel::ref_from_bytes(bytes).map(CatalogEntry::from);
        let entry = entry.ok();
        let entry = entry.ok_or_else(|| damaged(&self.path))?;
        if self.last >= Some(entry.channel) {
            return Err(damaged(&self.path));
        }
        self.last = Some(entry.channel);
        self.left -= 1;
        Ok(Some(entry))
    }

    async fn take(&mut self, bytes: u32) -> Result<&[u8], StoreError> {
        let taken = self.window.at(self.offset, bytes).await?;
        self.offset += u64::from(bytes);
        self.crc = crc32c::crc32c_append(self.crc, taken);
        Ok(taken)
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        Ok(self.window.close().await?)
    }
}

fn decode_header(block: &[u8], length: u64, path: &Path) -> Result<CatalogHeader, StoreError> {
    let (header, _) = CatalogHeader::read_from_prefix(block).map_err(|_| damaged(path))?;
    if header.magic != CATALOG_MAGIC || header.header_crc.get() != header_crc(&header) {
        return Err(damaged(path));
    }
    if header.version.get() != CATALOG_VERSION {
        let version = header.version.get();
        return Err(StoreError::Unsupported {
            path: path.to_path_buf(),
            version,
        });
    }
    let body_bytes = u64::from(header.segments.get()) * u64::from(SEGMENT_BYTES)
        + u64::from(header.channels.get()) * u64::from(CHANNEL_BYTES);
    let is_long_enough = length - u64::from(BLOCK_BYTES) >= body_bytes;
    if is_long_enough && header.body_bytes.get() == body_bytes {
        Ok(header)
    } else {
        Err(damaged(path))
    }
}
