//! What is remembered beside the segments: where each of them ends, and the last numbers of each
//! channel. Recovery holds the segments against it.
//!
//! It is no source of data: without it nothing is lost but the means to notice a loss.
//!
//! Invariants: a catalog file is replaced as a whole (written aside, synced, renamed, directory
//! synced); the node's is written by recovery alone, a shard's by its log's close.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, DiskError, StoreError};
use crate::format::FORMAT_VERSION;
use crate::index::Head;
use crate::key::{ChannelKey, SegmentId};
use crate::segment::{Day, Paths, SegmentInfo};

/// First bytes of a catalog file.
pub(crate) const CATALOG_MAGIC: [u8; 4] = *b"THRC";
/// Length of [`CatalogHeader`].
const HEADER_BYTES: usize = size_of::<CatalogHeader>();
/// Unit in which catalogs are written and read, in bytes.
const CHUNK_BYTES: u32 = 1 << 20;
const NODE_FILE: &str = "node.cat";

/// What a catalog file begins with. Segments follow, then channels.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct CatalogHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) reserved: [u8; 2],
    pub(crate) segments: U32,
    pub(crate) channels: U32,
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

/// One channel's last numbers.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct CatalogChannel {
    pub(crate) channel: [u8; 16],
    pub(crate) seq: U64,
    pub(crate) rev: U64,
}

/// Ended segments and channel heads.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(crate) struct Catalog {
    segments: BTreeMap<SegmentId, (Day, u32)>,
    heads: BTreeMap<ChannelKey, Head>,
}

impl Catalog {
    /// What a log has to remember when it ends.
    pub(crate) fn of_log(
        segments: &[(SegmentId, SegmentInfo)],
        heads: &HashMap<ChannelKey, Head>,
    ) -> Self {
        let mut catalog = Self::default();
        for (segment, info) in segments {
            if let Some(end) = info.end {
                catalog.note_segment(*segment, info.day, end);
            }
        }
        for (channel, head) in heads {
            catalog.note_head(*channel, *head);
        }
        catalog
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.heads.is_empty()
    }

    pub(crate) fn note_segment(&mut self, segment: SegmentId, day: Day, end: u32) {
        self.segments.insert(segment, (day, end));
    }

    /// Notes a head, unless a higher one is known.
    pub(crate) fn note_head(&mut self, channel: ChannelKey, head: Head) {
        let known = self.heads.entry(channel).or_default();
        if head.rev > known.rev {
            *known = head;
        }
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = (SegmentId, Day, u32)> + '_ {
        self.segments
            .iter()
            .map(|(segment, (day, end))| (*segment, *day, *end))
    }

    pub(crate) fn heads(&self) -> impl Iterator<Item = (ChannelKey, Head)> + '_ {
        self.heads.iter().map(|(channel, head)| (*channel, *head))
    }

    /// Reads all catalogs into one. Leftovers of an unfinished replacement are removed.
    pub(crate) async fn load<D: Disk>(disk: &D, paths: &Paths) -> Result<Self, StoreError> {
        let mut merged = Self::default();
        for name in disk.list(&paths.catalogs()).await? {
            let path = paths.catalogs().join(&name);
            if name.ends_with(".tmp") {
                disk.remove(&path).await?;
            } else if name.ends_with(".cat") {
                let bytes = read_whole(disk, &path).await?;
                let (segments, heads) = decode(&bytes, &path)?;
                segments
                    .iter()
                    .for_each(|(id, day, end)| merged.note_segment(*id, *day, *end));
                heads
                    .iter()
                    .for_each(|(channel, head)| merged.note_head(*channel, *head));
            }
        }
        Ok(merged)
    }

    /// Replaces the node's catalog, which from then on stands for those of the shards too.
    pub(crate) async fn store_node<D: Disk>(
        &self,
        disk: &D,
        paths: &Paths,
    ) -> Result<(), StoreError> {
        self.store(disk, paths, NODE_FILE).await?;
        for name in disk.list(&paths.catalogs()).await? {
            if name != NODE_FILE && name.ends_with(".cat") {
                disk.remove(&paths.catalogs().join(name)).await?;
            }
        }
        disk.sync_dir(&paths.catalogs()).await?;
        Ok(())
    }

    /// Replaces one shard's catalog.
    pub(crate) async fn store_shard<D: Disk>(
        &self,
        disk: &D,
        paths: &Paths,
        shard: u16,
    ) -> Result<(), StoreError> {
        self.store(disk, paths, &format!("shard-{shard}.cat")).await
    }

    async fn store<D: Disk>(&self, disk: &D, paths: &Paths, name: &str) -> Result<(), StoreError> {
        let path = paths.catalogs().join(name);
        let aside = path.with_extension("tmp");
        let file = disk.create(&aside).await?;
        write_whole(disk, &file, &self.encode()).await?;
        file.close().await?;
        disk.rename(&aside, &path).await?;
        disk.sync_dir(&paths.catalogs()).await?;
        Ok(())
    }

    /// The whole file, padded to blocks.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        for (segment, day, end) in self.segments() {
            let entry = CatalogSegment {
                segment: segment.0.into(),
                day: day.0.into(),
                end: end.into(),
                reserved: [0; 4],
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        for (channel, head) in self.heads() {
            let entry = CatalogChannel {
                channel: channel.0,
                seq: head.seq.into(),
                rev: head.rev.into(),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        let body = &bytes[HEADER_BYTES..];
        let mut header = CatalogHeader {
            magic: CATALOG_MAGIC,
            version: FORMAT_VERSION.into(),
            reserved: [0; 2],
            segments: count(self.segments.len()),
            channels: count(self.heads.len()),
            body_bytes: (body.len() as u64).into(),
            body_crc: crc32c::crc32c(body).into(),
            header_crc: 0.into(),
        };
        header.header_crc = header_crc(&header).into();
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        bytes
    }
}

fn count(entries: usize) -> U32 {
    u32::try_from(entries)
        .expect("a node has fewer than 4 billion channels")
        .into()
}

fn header_crc(header: &CatalogHeader) -> u32 {
    crc32c::crc32c(&header.as_bytes()[..HEADER_BYTES - 4])
}

type Entries = (Vec<(SegmentId, Day, u32)>, Vec<(ChannelKey, Head)>);

fn decode(bytes: &[u8], path: &Path) -> Result<Entries, StoreError> {
    let damaged = || StoreError::Corrupt {
        path: path.to_path_buf(),
        offset: 0,
        damage: Damage::Catalog,
    };
    let (header, rest) = CatalogHeader::read_from_prefix(bytes).map_err(|_| damaged())?;
    if header.magic != CATALOG_MAGIC || header.header_crc.get() != header_crc(&header) {
        return Err(damaged());
    }
    if header.version.get() != FORMAT_VERSION {
        let version = header.version.get();
        return Err(StoreError::Unsupported {
            path: path.to_path_buf(),
            version,
        });
    }
    let body_bytes = usize::try_from(header.body_bytes.get()).map_err(|_| damaged())?;
    let body = rest.get(..body_bytes).ok_or_else(damaged)?;
    if crc32c::crc32c(body) != header.body_crc.get() {
        return Err(damaged());
    }
    entries(&header, body).ok_or_else(damaged)
}

fn entries(header: &CatalogHeader, body: &[u8]) -> Option<Entries> {
    let segments = usize::try_from(header.segments.get()).ok()?;
    let channels = usize::try_from(header.channels.get()).ok()?;
    let (segments, body) = <[CatalogSegment]>::ref_from_prefix_with_elems(body, segments).ok()?;
    let channels = <[CatalogChannel]>::ref_from_bytes_with_elems(body, channels).ok()?;
    let segments = segments
        .iter()
        .map(|entry| {
            (
                SegmentId(entry.segment.get()),
                Day(entry.day.get()),
                entry.end.get(),
            )
        })
        .collect();
    let heads = channels
        .iter()
        .map(|entry| {
            let head = Head {
                seq: entry.seq.get(),
                rev: entry.rev.get(),
            };
            (ChannelKey(entry.channel), head)
        })
        .collect();
    Some((segments, heads))
}

async fn write_whole<D: Disk>(disk: &D, file: &D::File, bytes: &[u8]) -> Result<(), DiskError> {
    let mut offset = 0;
    file.allocate(bytes.len() as u64).await?;
    for chunk in bytes.chunks(CHUNK_BYTES as usize) {
        let length = u32::try_from(chunk.len()).expect("a chunk is 1 MiB at most");
        let mut buffer = disk.buffer(length);
        buffer.as_mut().copy_from_slice(chunk);
        file.write_at(buffer, offset).await?;
        offset += u64::from(length);
    }
    file.sync().await
}

async fn read_whole<D: Disk>(disk: &D, path: &Path) -> Result<Vec<u8>, DiskError> {
    let file = disk.open(path).await?;
    let length = file.length().await?;
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < length {
        let offset = bytes.len() as u64;
        let wanted = u64::from(CHUNK_BYTES).min(length - offset);
        let wanted = u32::try_from(wanted).expect("a chunk is 1 MiB at most");
        bytes.extend_from_slice(&file.read_at(offset, wanted).await?);
    }
    file.close().await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(catalog: &Catalog) {
        let (segments, heads) = decode(&catalog.encode(), Path::new("x")).unwrap();
        assert_eq!(segments, catalog.segments().collect::<Vec<_>>());
        assert_eq!(heads, catalog.heads().collect::<Vec<_>>());
    }

    #[test]
    fn a_catalog_reads_back() {
        let mut catalog = Catalog::default();
        check(&catalog);
        for number in 1..200_u8 {
            catalog.note_segment(SegmentId(number.into()), Day(20_000), 4096);
            let head = Head {
                seq: number.into(),
                rev: number.into(),
            };
            catalog.note_head(ChannelKey([number; 16]), head);
        }
        check(&catalog);
    }

    #[test]
    fn the_higher_head_stays() {
        let mut catalog = Catalog::default();
        for rev in [3, 9, 4] {
            catalog.note_head(ChannelKey([1; 16]), Head { seq: rev, rev });
        }
        assert_eq!(
            catalog.heads().next(),
            Some((ChannelKey([1; 16]), Head { seq: 9, rev: 9 }))
        );
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0_usize..(32 + 16 + 32) * 8) {
            let mut catalog = Catalog::default();
            catalog.note_segment(SegmentId(3), Day(20_000), 8192);
            catalog.note_head(ChannelKey([1; 16]), Head { seq: 5, rev: 7 });
            let mut bytes = catalog.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&bytes, Path::new("x")).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes, Path::new("x")).is_err());
        }
    }
}
