//! Reads a part from its beginning to its end, in pieces.
//!
//! It looks nothing up, and changes nothing.
//!
//! Invariants: memory is one piece and one block; when the last record has been given, every byte
//! of the file has been verified; whatever the bytes, nothing panics.

use std::cell::RefCell;

use bytes::Bytes;
use zerocopy::FromBytes;
use zstd::zstd_safe::DCtx;

use super::Part;
use super::format::{Next, PartBlock, PartEnd, PartLinks, Totals};
use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::key::ChannelKey;
use crate::merge::Links;
use crate::record::Record;
use crate::sealed::BlockRecords;

thread_local! {
    /// One for each thread, however many parts it reads at once.
    static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

/// The records of a part, from the first to the last.
pub(crate) struct PartStream<D: Disk> {
    part: Part,
    file: D::File,
    piece_bytes: u32,
    piece: Option<Piece<D>>,
    /// Where the next block begins.
    offset: u64,
    block: OpenBlock,
    /// The channel of the record that was given last, and its links.
    channel: Option<(ChannelKey, Links)>,
    totals: Totals,
    is_ended: bool,
}

/// Bytes of the file that were read at once.
struct Piece<D: Disk> {
    offset: u64,
    bytes: <D::File as DiskFile>::Read,
}

/// The block whose records are being given.
struct OpenBlock {
    offset: u64,
    links: Bytes,
    records: BlockRecords,
    /// That have not been given.
    left: u32,
}

impl<D: Disk> PartStream<D> {
    /// Begins at the first record. The file is read in pieces of `piece_bytes`, whole blocks.
    ///
    /// # Errors
    /// If the file cannot be opened, or is not as long as it was written.
    pub(crate) async fn open(disk: &D, part: &Part, piece_bytes: u32) -> Result<Self, StoreError> {
        assert!(piece_bytes > 0 && piece_bytes.is_multiple_of(BLOCK_BYTES));
        let stream = Self {
            part: part.clone(),
            file: disk.open(&part.path).await?,
            piece_bytes,
            piece: None,
            offset: 0,
            block: OpenBlock {
                offset: 0,
                links: Bytes::new(),
                records: BlockRecords::new(Bytes::new()),
                left: 0,
            },
            channel: None,
            totals: Totals::default(),
            is_ended: false,
        };
        let length = stream.file.length().await?;
        if length != part.bytes {
            stream.file.close().await?;
            let path = part.path.clone();
            let (offset, damage) = (length, Damage::TooShort);
            return Err(StoreError::SealedCorrupt {
                path,
                offset,
                damage,
            });
        }
        Ok(stream)
    }

    /// The same from the beginning, beside this one.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(crate) async fn again(&self, disk: &D) -> Result<Self, StoreError> {
        Self::open(disk, &self.part, self.piece_bytes).await
    }

    /// The part that is read.
    pub(crate) fn part(&self) -> &Part {
        &self.part
    }

    /// Where a channel goes on in older buckets; it is that of the record that was given last.
    ///
    /// # Panics
    /// If it is another one.
    pub(crate) fn links(&self, channel: ChannelKey) -> Links {
        let (own, links) = self.channel.expect("asked behind a record");
        assert_eq!(own, channel, "asked while it is being read");
        links
    }

    /// The next record of the block that is open; `None` behind its last one.
    ///
    /// # Errors
    /// If the part is damaged; nothing can be read behind that.
    pub(crate) fn next_of_block(&mut self) -> Result<Option<Record>, StoreError> {
        let Some(record) = self.block.records.next() else {
            if self.block.left > 0 || !self.block.links.is_empty() {
                return Err(self.damaged(self.block.offset));
            }
            return Ok(None);
        };
        let Some((record, left)) = record.ok().zip(self.block.left.checked_sub(1)) else {
            return Err(self.damaged(self.block.offset));
        };
        self.block.left = left;
        if self
            .channel
            .is_none_or(|(channel, _)| channel != record.channel)
        {
            let Ok((links, rest)) = PartLinks::read_from_prefix(&self.block.links) else {
                return Err(self.damaged(self.block.offset));
            };
            let rest = self.block.links.len() - rest.len();
            self.block.links = self.block.links.slice(rest..);
            self.channel = Some((record.channel, links.into()));
        }
        Ok(Some(record))
    }

    /// Opens the next block, behind the last record of the one before. `false` at the end.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged; nothing can be read behind that.
    pub(crate) async fn next_block(&mut self) -> Result<bool, StoreError> {
        if self.is_ended {
            return Ok(false);
        }
        let offset = self.offset;
        let header = self.bytes(offset, size_of::<PartEnd>()).await?;
        match Next::decode(header).ok_or(()) {
            Ok(Next::Block(header)) => self.open_block(offset, header).await.map(|()| true),
            Ok(Next::End(end)) if end.is_of(self.totals) => {
                let rest = self.part.bytes - offset - size_of::<PartEnd>() as u64;
                self.check_zeroes(offset + size_of::<PartEnd>() as u64, rest)
                    .await?;
                self.is_ended = true;
                Ok(false)
            }
            Ok(Next::End(_)) | Err(()) => Err(self.damaged(offset)),
        }
    }

    /// Gives the file back.
    ///
    /// # Errors
    /// If it cannot be closed.
    pub(crate) async fn close(self) -> Result<(), StoreError> {
        Ok(self.file.close().await?)
    }

    async fn open_block(&mut self, offset: u64, header: PartBlock) -> Result<(), StoreError> {
        let begin = offset + size_of::<PartBlock>() as u64;
        let compressed = self.bytes(begin, header.bytes.get() as usize).await?;
        let raw = decompress(&header, compressed).ok_or_else(|| self.damaged(offset))?;
        let links_bytes = header.links.get() as usize * size_of::<PartLinks>();
        if links_bytes > raw.len() {
            return Err(self.damaged(offset));
        }
        let mut links = raw;
        let records = links.split_off(links_bytes);
        self.block = OpenBlock {
            offset,
            links,
            records: BlockRecords::new(records),
            left: header.records.get(),
        };
        self.offset = begin + u64::from(header.bytes.get());
        self.totals.note(&header);
        Ok(())
    }

    /// Bytes of the file, from a new piece if the one that was read last does not hold them all.
    async fn bytes(&mut self, offset: u64, bytes: usize) -> Result<&[u8], StoreError> {
        let end = offset + bytes as u64;
        if end > self.part.bytes {
            return Err(self.damaged(offset));
        }
        let holds = |piece: &Piece<D>| {
            piece.offset <= offset && end <= piece.offset + piece.bytes.len() as u64
        };
        if !self.piece.as_ref().is_some_and(holds) {
            let unit = u64::from(BLOCK_BYTES);
            let start = offset / unit * unit;
            let piece_end = (start + u64::from(self.piece_bytes)).max(end.next_multiple_of(unit));
            let bytes = u32::try_from(piece_end.min(self.part.bytes) - start);
            let bytes = bytes.expect("one piece, or one block");
            self.piece = None;
            self.piece = Some(Piece {
                offset: start,
                bytes: self.file.read_at(start, bytes).await?,
            });
        }
        let piece = self.piece.as_ref().expect("just read");
        let skip = usize::try_from(offset - piece.offset).expect("inside the piece");
        Ok(&piece.bytes[skip..skip + bytes])
    }

    async fn check_zeroes(&mut self, offset: u64, bytes: u64) -> Result<(), StoreError> {
        let is_padding = bytes < BLOCK_BYTES.into();
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if is_padding
            && self
                .bytes(offset, bytes)
                .await?
                .iter()
                .all(|byte| *byte == 0)
        {
            return Ok(());
        }
        Err(self.damaged(offset))
    }

    fn damaged(&self, offset: u64) -> StoreError {
        StoreError::SealedCorrupt {
            path: self.part.path.clone(),
            offset,
            damage: Damage::Part,
        }
    }
}

/// Verifies and decompresses a block; `None` if the bytes are not those that were written.
fn decompress(header: &PartBlock, compressed: &[u8]) -> Option<Bytes> {
    if !header.is_sound(compressed) {
        return None;
    }
    let raw_bytes = header.raw_bytes.get() as usize;
    let mut raw = Vec::with_capacity(raw_bytes);
    let taken = CONTEXT.with_borrow_mut(|context| context.decompress(&mut raw, compressed));
    (taken == Ok(raw_bytes)).then(|| raw.into())
}
