//! All records of a sealed segment in order, for those who need all of them: merging, verifying
//! and exporting. The file is read from its beginning to its end, in large pieces.
//!
//! It changes nothing, and looks nothing up.
//!
//! Invariants: memory is one piece and one block; when the last record has been given, every
//! byte of the file has been verified, and the records are those that the index promised.

use std::sync::Arc;

use bytes::Bytes;

use super::block::BlockRecords;
use super::file::{Sealed, corrupt};
use super::format::{SealedBlock, SealedMeta};
use super::index::ChannelRun;
use super::tally::{ChannelTally, message_of};
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::record::Record;
use crate::segment::Day;

/// Unit of reading, in bytes, for those who read one file at a time.
const READ_BYTES: u32 = 1 << 20;

/// The records of a sealed segment, from the first to the last.
pub(crate) struct SealedStream<D: Disk> {
    sealed: Arc<Sealed<D::Mapped>>,
    file: D::File,
    /// Unit of reading; a block that is longer is read at once.
    piece_bytes: u32,
    piece: Option<Piece<D>>,
    next_block: u32,
    /// Whether the block's first record has not been given.
    is_block_new: bool,
    records: BlockRecords,
    progress: Progress,
}

/// Consecutive blocks that were read at once.
struct Piece<D: Disk> {
    offset: u64,
    end_block: u32,
    bytes: <D::File as DiskFile>::Read,
}

/// What has been given, to be held against the index.
struct Progress {
    run: Option<ChannelRun>,
    tally: ChannelTally,
    meta: SealedMeta,
}

impl<D: Disk> SealedStream<D> {
    /// Begins at the first record.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(crate) async fn open(disk: &D, sealed: Arc<Sealed<D::Mapped>>) -> Result<Self, StoreError> {
        Self::open_in_pieces(disk, sealed, READ_BYTES).await
    }

    /// As [`SealedStream::open`], for those who read many files at once: in pieces of about so
    /// many bytes.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(crate) async fn open_in_pieces(
        disk: &D,
        sealed: Arc<Sealed<D::Mapped>>,
        piece_bytes: u32,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            file: disk.open(sealed.path()).await?,
            piece_bytes,
            progress: Progress::new(sealed.meta()),
            sealed,
            piece: None,
            next_block: 0,
            is_block_new: false,
            records: BlockRecords::new(Bytes::new()),
        })
    }

    /// The same from the beginning, beside this one.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub(crate) async fn again(&self, disk: &D) -> Result<Self, StoreError> {
        Self::open_in_pieces(disk, Arc::clone(&self.sealed), self.piece_bytes).await
    }

    /// The file that is read.
    pub(crate) fn sealed(&self) -> &Arc<Sealed<D::Mapped>> {
        &self.sealed
    }

    /// The channel of the record that was given last.
    pub(crate) fn run(&self) -> Option<&ChannelRun> {
        self.progress.run.as_ref()
    }

    /// How many of the file's blocks have been read.
    pub(crate) fn blocks_read(&self) -> u32 {
        self.next_block
    }

    /// The next record; `None` behind the last one.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged; nothing can be read behind that.
    pub(crate) async fn next(&mut self) -> Result<Option<Record>, StoreError> {
        loop {
            if let Some(record) = self.next_of_block()? {
                return Ok(Some(record));
            }
            if !self.next_block().await? {
                return Ok(None);
            }
        }
    }

    /// The next record of the block that is open; `None` behind its last one.
    ///
    /// # Errors
    /// If the file is damaged; nothing can be read behind that.
    pub(crate) fn next_of_block(&mut self) -> Result<Option<Record>, StoreError> {
        match self.records.next() {
            Some(Ok(record)) => self.checked(record).map(Some),
            Some(Err(bad)) => Err(self.sealed.refused(self.next_block - 1, bad)),
            None => Ok(None),
        }
    }

    /// Opens the next block, behind the last record of the one before. `false` at the end, where
    /// all of the file has been verified.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged; nothing can be read behind that.
    pub(crate) async fn next_block(&mut self) -> Result<bool, StoreError> {
        if self.next_block == self.sealed.block_count() {
            return self.end().await.map(|()| false);
        }
        self.read_block().await.map(|()| true)
    }

    /// Gives the file back.
    ///
    /// # Errors
    /// If it cannot be closed.
    pub(crate) async fn close(self) -> Result<(), StoreError> {
        Ok(self.file.close().await?)
    }

    async fn read_block(&mut self) -> Result<(), StoreError> {
        let block = self.next_block;
        let piece = match self.piece.take().filter(|piece| block < piece.end_block) {
            Some(piece) => piece,
            None => self.read_piece(block).await?,
        };
        let place = self.sealed.block_place(block);
        let start = usize::try_from(place.offset - piece.offset).expect("inside the piece");
        let raw = self
            .sealed
            .decompress(block, &piece.bytes[start..start + place.bytes as usize])?;
        self.records = BlockRecords::new(raw);
        self.piece = Some(piece);
        self.next_block += 1;
        self.is_block_new = true;
        Ok(())
    }

    async fn read_piece(&self, block: u32) -> Result<Piece<D>, StoreError> {
        let first = self.sealed.block_place(block);
        let end_of = |block| {
            let place = self.sealed.block_place(block);
            place.offset + u64::from(place.bytes)
        };
        let mut end_block = block + 1;
        while end_block < self.sealed.block_count()
            && end_of(end_block) - first.offset <= u64::from(self.piece_bytes)
        {
            end_block += 1;
        }
        let bytes = u32::try_from(end_of(end_block - 1) - first.offset);
        let bytes = bytes.expect("one piece, or one block: verified when opened");
        let bytes = self.file.read_at(first.offset, bytes).await?;
        Ok(Piece {
            offset: first.offset,
            end_block,
            bytes,
        })
    }

    /// Holds a record against the index, before it is given.
    fn checked(&mut self, record: Record) -> Result<Record, StoreError> {
        let block = self.next_block - 1;
        let (sealed, progress) = (&self.sealed, &mut self.progress);
        let may_begin = !std::mem::take(&mut self.is_block_new)
            || progress.may_begin(sealed.block_entry(block), &record);
        if may_begin && progress.note(|place| sealed.channel(place), block, &record) {
            return Ok(record);
        }
        Err(sealed.damaged(block, Damage::SealedRecords))
    }

    /// Verifies what no record is in: sums, and the zeroes before the index.
    async fn end(&mut self) -> Result<(), StoreError> {
        let padding = self.sealed.padding();
        let damaged = |damage| corrupt(self.sealed.path(), padding.start, damage);
        if !self.progress.is_whole(self.sealed.meta()) {
            return Err(damaged(Damage::SealedRecords));
        }
        if padding.is_empty() {
            return Ok(());
        }
        let bytes = u32::try_from(padding.end - padding.start);
        let bytes = bytes.expect("less than a block: verified when opened");
        let zeroes = self.file.read_at(padding.start, bytes).await?;
        if zeroes.iter().any(|byte| *byte != 0) {
            return Err(damaged(Damage::SealedBlock));
        }
        Ok(())
    }
}

impl Progress {
    fn new(promised: &SealedMeta) -> Self {
        Self {
            run: None,
            tally: ChannelTally::default(),
            meta: SealedMeta {
                raw_bytes: promised.raw_bytes,
                ..SealedMeta::of_nothing(Day(promised.first_day), Day(promised.last_day))
            },
        }
    }

    /// Takes one more record; `false` if it is not one that may come now.
    fn note(
        &mut self,
        next: impl FnOnce(u32) -> Option<ChannelRun>,
        block: u32,
        record: &Record,
    ) -> bool {
        if self.run.is_none_or(|run| run.channel != record.channel) {
            if !self.is_channel_whole() {
                return false;
            }
            let place = self.run.map_or(0, |run| run.entry + 1);
            (self.run, self.tally) = (next(place), ChannelTally::default());
            self.meta.channels += 1;
            if self.run.is_none_or(|run| run.first_block != block) {
                return false;
            }
        }
        self.meta.note(record);
        let is_promised = self.run.is_some_and(|run| run.channel == record.channel);
        self.tally.note(record) && is_promised
    }

    /// Whether a block that begins with this record is the one that the index describes.
    fn may_begin(&self, block: &SealedBlock, record: &Record) -> bool {
        let is_same_channel = self.run.is_some_and(|run| run.channel == record.channel);
        let entry = match self.run {
            Some(run) if is_same_channel => run.entry,
            Some(run) => run.entry + 1,
            None => 0,
        };
        let continues = is_same_channel && self.tally.last_seq() == record.seq;
        block.first_entry.get() == entry
            && block.first_seq.get() == record.seq
            && block.first_ms.get() == message_of(record).timestamp_ms()
            && block.continues.get() == u32::from(continues)
    }

    /// Whether the channel that was read last, if any, is complete.
    fn is_channel_whole(&self) -> bool {
        self.run.is_none_or(|run| self.tally.is_of(&run))
    }

    fn is_whole(&self, promised: &SealedMeta) -> bool {
        self.is_channel_whole() && self.meta == *promised
    }
}
