//! Writes a part, record by record in order.
//!
//! It sorts and folds nothing, and syncs nothing.
//!
//! Invariants: records come in order of (channel, seq, rev); memory is one block, raw and
//! compressed, and one buffer.

use std::path::{Path, PathBuf};

use zerocopy::IntoBytes;
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

use super::Part;
use super::format::{
    PART_BLOCK_BYTES, PART_BLOCK_BYTES_MAX, PartBlock, PartEnd, PartLinks, Totals,
};
use crate::config::BLOCK_BYTES;
use crate::disk::Disk;
use crate::error::DiskError;
use crate::merge::Links;
use crate::record::Record;
use crate::sealed::{Appender, BlockBuilder};

/// A part that is being written.
pub(crate) struct PartWriter<D: Disk> {
    path: PathBuf,
    out: Appender<D>,
    compressor: Compressor<'static>,
    compressed: Vec<u8>,
    /// Of the channels that begin in the block.
    links: Vec<PartLinks>,
    block: BlockBuilder,
    /// In the block.
    records: u32,
    /// Links and records, as they are compressed.
    raw: Vec<u8>,
    raw_bytes: u64,
    totals: Totals,
}

impl<D: Disk> PartWriter<D> {
    /// Begins a file that must not exist.
    ///
    /// # Errors
    /// If it cannot be created.
    ///
    /// # Panics
    /// If zstd has no such level.
    pub(crate) async fn create(disk: &D, path: &Path, zstd_level: i32) -> Result<Self, DiskError> {
        Ok(Self {
            path: path.to_path_buf(),
            out: Appender::create(disk, path).await?,
            compressor: Compressor::new(zstd_level).expect("zstd takes any level"),
            compressed: Vec::new(),
            links: Vec::new(),
            block: BlockBuilder::default(),
            records: 0,
            raw: Vec::new(),
            raw_bytes: 0,
            totals: Totals::default(),
        })
    }

    /// Begins the next channel, of which a record follows.
    pub(crate) fn begin_channel(&mut self, links: Links) {
        self.links.push(links.into());
    }

    /// Adds the channel's next record.
    ///
    /// # Errors
    /// If a write fails; nothing can be added then.
    ///
    /// # Panics
    /// If the record is longer than a block can be.
    pub(crate) async fn push(&mut self, record: &Record) -> Result<(), DiskError> {
        self.block.push(record);
        self.records += 1;
        if self.block.bytes().len() >= PART_BLOCK_BYTES {
            self.close_block().await?;
        }
        Ok(())
    }

    /// Writes what is left, and the end.
    ///
    /// # Errors
    /// If a write fails. The file may be there still.
    pub(crate) async fn finish(mut self) -> Result<Part, DiskError> {
        if self.records > 0 {
            self.close_block().await?;
        }
        self.out
            .append(PartEnd::new(self.totals).as_bytes())
            .await?;
        self.out.pad(BLOCK_BYTES).await?;
        let bytes = self.out.position();
        self.out.finish_unsynced().await?;
        Ok(Part {
            path: self.path,
            bytes,
            raw_bytes: self.raw_bytes,
        })
    }

    /// Gives up: what was written is removed.
    ///
    /// # Errors
    /// If it cannot be closed or removed.
    pub(crate) async fn abandon(self) -> Result<(), DiskError> {
        self.out.abandon().await
    }

    async fn close_block(&mut self) -> Result<(), DiskError> {
        self.raw.clear();
        self.raw.extend_from_slice(self.links.as_bytes());
        self.raw.extend_from_slice(self.block.bytes());
        assert!(
            self.raw.len() <= PART_BLOCK_BYTES_MAX,
            "records are far shorter than a block can be"
        );
        self.compressed.clear();
        self.compressed.reserve(compress_bound(self.raw.len()));
        self.compressor
            .compress_to_buffer(&self.raw, &mut self.compressed)
            .expect("there is room for what zstd makes at most");
        let raw_bytes = u32::try_from(self.raw.len()).expect("just compared");
        let links = u32::try_from(self.links.len()).expect("fewer than bytes");
        let header = PartBlock::new(&self.compressed, raw_bytes, self.records, links);
        self.totals.note(&header);
        self.raw_bytes += self.block.bytes().len() as u64;
        self.records = 0;
        self.links.clear();
        self.block.clear();
        self.out.append(header.as_bytes()).await?;
        self.out.append(&self.compressed).await
    }
}
