//! Catalogs of version 1: where segments end and the last numbers of channels, as checks.
//!
//! They are read, never written.
//!
//! Invariants: such a catalog covers nothing.

use std::path::Path;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{CATALOG_MAGIC, CatalogSegment, EndedSegment, RecordedHead, damaged};
use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::StoreError;
use crate::key::ChannelKey;
use crate::whole_file::read_whole;
const HEADER_BYTES: usize = size_of::<CatalogHeaderV1>();

/// What a catalog of version 1 begins with. Segments follow, then channels.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct CatalogHeaderV1 {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) reserved: [u8; 2],
    pub(crate) segments: U32,
    pub(crate) channels: U32,
    pub(crate) body_bytes: U64,
    pub(crate) body_crc: U32,
    pub(crate) header_crc: U32,
}

/// One channel's last numbers.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct CatalogChannelV1 {
    pub(crate) channel: [u8; 16],
    pub(crate) seq: U64,
    pub(crate) rev: U64,
}

/// The version that a catalog file says it has.
pub(super) async fn version_of<D: Disk>(disk: &D, path: &Path) -> Result<u16, StoreError> {
    let file = disk.open(path).await?;
    let length = file.length().await?;
    let block = if length < u64::from(BLOCK_BYTES) {
        None
    } else {
        Some(file.read_at(0, BLOCK_BYTES).await?)
    };
    file.close().await?;
    let block = block.ok_or_else(|| damaged(path))?;
    if block[..4] == CATALOG_MAGIC {
        Ok(u16::from_le_bytes([block[4], block[5]]))
    } else {
        Err(damaged(path))
    }
}

type Entries = (Vec<EndedSegment>, Vec<RecordedHead>);

/// Reads a catalog of version 1.
pub(super) async fn read<D: Disk>(disk: &D, path: &Path) -> Result<Entries, StoreError> {
    let bytes = read_whole(disk, path).await?;
    decode(&bytes).ok_or_else(|| damaged(path))
}

fn decode(bytes: &[u8]) -> Option<Entries> {
    let (header, rest) = CatalogHeaderV1::read_from_prefix(bytes).ok()?;
    if header.header_crc.get() != crc32c::crc32c(&header.as_bytes()[..HEADER_BYTES - 4]) {
        return None;
    }
    let body = rest.get(..usize::try_from(header.body_bytes.get()).ok()?)?;
    if crc32c::crc32c(body) != header.body_crc.get() {
        return None;
    }
    let segments = usize::try_from(header.segments.get()).ok()?;
    let channels = usize::try_from(header.channels.get()).ok()?;
    let (segments, body) = <[CatalogSegment]>::ref_from_prefix_with_elems(body, segments).ok()?;
    let channels = <[CatalogChannelV1]>::ref_from_bytes_with_elems(body, channels).ok()?;
    let heads = channels
        .iter()
        .map(|entry| (ChannelKey(entry.channel), entry.seq.get(), entry.rev.get()));
    Some((
        segments.iter().map(EndedSegment::from).collect(),
        heads.collect(),
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[expect(
        clippy::disallowed_methods,
        reason = "a test reads the file that version 1 left"
    )]
    fn golden() -> Vec<u8> {
        std::fs::read(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/golden/v1-catalog.cat"
        ))
        .unwrap()
    }

    #[test]
    fn a_catalog_of_version_1_is_read() {
        let (segments, heads) = decode(&golden()).unwrap();
        assert_eq!((segments.len(), heads.len()), (1, 2));
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(bit in 0_usize..(32 + 16 + 2 * 32) * 8) {
            let mut bytes = golden();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(&bytes).is_none());
        }

        #[test]
        fn any_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&bytes).is_none());
        }
    }
}
