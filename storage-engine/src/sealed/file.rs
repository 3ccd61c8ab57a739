//! An open sealed segment, shared by all threads: it says where records lie, and turns a block's
//! bytes into records. The blocks themselves are read by whoever asks.
//!
//! It keeps no file open, and no block.
//!
//! Invariants: its index was verified whole when it was opened; decompressing takes no more
//! memory than the index says, and fails unless the bytes are those that were written.

use std::cell::RefCell;
use std::ops::{Deref, Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use zstd::zstd_safe::DCtx;

use super::SealedIdentity;
use super::format::{SEALED_VERSION, SealedBlock, SealedFooter, SealedHeader, SealedMeta};
use super::index::{BlockPlace, ChannelRun, SealedIndex};
use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::format::BadRecord;
use crate::key::ChannelKey;
use crate::segment::Day;

/// An open sealed segment. `M` is the memory that its index is mapped to.
pub struct Sealed<M> {
    path: PathBuf,
    identity: SealedIdentity,
    footer: SealedFooter,
    index: SealedIndex<M>,
}

impl<M> std::fmt::Debug for Sealed<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

thread_local! {
    /// One for each thread: making one costs more than decompressing a block.
    static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
}

impl<M: Deref<Target = [u8]>> Sealed<M> {
    /// Opens a file, maps its index and verifies all of it: for a thread that nobody waits for.
    ///
    /// # Errors
    /// If it cannot be read or mapped, is damaged or of a later version, or is not the file that
    /// was expected.
    pub(crate) async fn open<D: Disk<Mapped = M>>(
        disk: &D,
        path: &Path,
        expected: Option<&SealedIdentity>,
    ) -> Result<Arc<Self>, StoreError> {
        let (identity, footer) = read_ends(disk, path).await?;
        if expected.is_some_and(|expected| *expected != identity) {
            return Err(corrupt(path, 0, Damage::SealedOther));
        }
        let offset = footer.dictionary.offset.get();
        let end = identity.bytes - u64::from(BLOCK_BYTES);
        let is_whole = offset.is_multiple_of(BLOCK_BYTES.into()) && offset < end;
        if !is_whole {
            return Err(corrupt(path, end, Damage::SealedEnds));
        }
        let memory = disk.map(path, offset, end - offset).await?;
        let index = SealedIndex::verify(&footer, memory);
        Ok(Arc::new(Self {
            path: path.to_path_buf(),
            identity,
            footer,
            index: index.ok_or_else(|| corrupt(path, offset, Damage::SealedIndex))?,
        }))
    }

    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What a manifest keeps of it.
    pub(crate) fn identity(&self) -> SealedIdentity {
        self.identity
    }

    /// Sums over all of it.
    pub(crate) fn meta(&self) -> &SealedMeta {
        &self.index.meta
    }

    /// The days that it covers.
    pub(crate) fn days(&self) -> RangeInclusive<Day> {
        Day(self.index.meta.first_day)..=Day(self.index.meta.last_day)
    }

    /// Bytes of memory that its index takes, mapped and copied.
    pub(crate) fn index_bytes(&self) -> usize {
        self.index.bytes()
    }

    /// Where its blocks end and where its index begins: between them are zeroes.
    pub(super) fn padding(&self) -> Range<u64> {
        self.footer.blocks_end.get()..self.footer.dictionary.offset.get()
    }

    /// What its blocks are compressed with.
    pub(crate) fn dictionary(&self) -> Option<Bytes> {
        self.index
            .dictionary
            .as_ref()
            .map(|dictionary| dictionary.bytes.clone())
    }

    /// Whether it may hold a channel: `false` is certain, `true` is wrong for about one in 200.
    pub(crate) fn may_contain(&self, channel: ChannelKey) -> bool {
        self.index.may_contain(channel)
    }

    /// What it holds of a channel.
    pub(crate) fn find(&self, channel: ChannelKey) -> Option<ChannelRun> {
        if !self.may_contain(channel) {
            return None;
        }
        self.index.find(channel)
    }

    /// The channel at a place of the directory, from 0.
    pub(crate) fn channel(&self, place: u32) -> Option<ChannelRun> {
        self.index.run(place)
    }

    /// All channels, in order.
    pub(crate) fn channels(&self) -> impl ExactSizeIterator<Item = ChannelRun> {
        self.index.runs()
    }

    /// How many blocks there are, numbered from 0 in the order in which they lie.
    pub(crate) fn block_count(&self) -> u32 {
        u32::try_from(self.index.blocks().len()).expect("verified when it was opened")
    }

    /// The blocks in which the records of a channel's messages with these seqs lie, changes of
    /// older messages included. They lie behind each other in the file. The first one may begin
    /// with older messages and other channels.
    pub(crate) fn blocks_of(&self, run: &ChannelRun, seqs: RangeInclusive<u64>) -> Range<u32> {
        self.index.blocks_of(run, seqs)
    }

    /// The blocks in which a channel's messages with ids of these times lie (milliseconds since
    /// 1970), for those who know no seq.
    pub(crate) fn blocks_at(&self, run: &ChannelRun, ms: RangeInclusive<u64>) -> Range<u32> {
        self.index.blocks_at(run, ms)
    }

    /// Between which seqs a channel's messages with ids of this time lie (milliseconds since
    /// 1970): those below are older, those from the end on are newer.
    pub(crate) fn seqs_at(&self, run: &ChannelRun, ms: u64) -> Range<u64> {
        self.index.seqs_at(run, ms)
    }

    /// Where a block lies.
    ///
    /// # Panics
    /// If there are not so many.
    pub(crate) fn block_place(&self, block: u32) -> BlockPlace {
        self.index.place(block)
    }

    pub(super) fn block_entry(&self, block: u32) -> &SealedBlock {
        &self.index.blocks()[block as usize]
    }

    /// Verifies and decompresses a block that was read from its place.
    ///
    /// # Errors
    /// If the bytes are not those that were written.
    ///
    /// # Panics
    /// If there are not so many blocks.
    pub(crate) fn decompress(&self, block: u32, compressed: &[u8]) -> Result<Bytes, StoreError> {
        let place = self.block_place(block);
        if crc32c::crc32c(compressed) != place.crc {
            return Err(self.damaged(block, Damage::SealedBlock));
        }
        let mut raw = Vec::with_capacity(place.raw_bytes as usize);
        let taken = CONTEXT.with_borrow_mut(|context| match &self.index.dictionary {
            None => context.decompress(&mut raw, compressed),
            Some(dictionary) => {
                let dictionary = dictionary.decoder.as_ddict();
                context.decompress_using_ddict(&mut raw, compressed, dictionary)
            }
        });
        if taken != Ok(place.raw_bytes as usize) {
            return Err(self.damaged(block, Damage::SealedBlock));
        }
        Ok(raw.into())
    }

    /// The error of a block whose records cannot be read.
    pub(crate) fn refused(&self, block: u32, bad: BadRecord) -> StoreError {
        match bad {
            BadRecord::Damaged => self.damaged(block, Damage::SealedBlock),
            BadRecord::Unknown(version) => StoreError::Unsupported {
                path: self.path.clone(),
                version,
            },
        }
    }

    /// The error of a block that is not what it must be.
    pub(crate) fn damaged(&self, block: u32, damage: Damage) -> StoreError {
        corrupt(&self.path, self.block_place(block).offset, damage)
    }
}

pub(super) fn corrupt(path: &Path, offset: u64, damage: Damage) -> StoreError {
    let path = path.to_path_buf();
    StoreError::SealedCorrupt {
        path,
        offset,
        damage,
    }
}

/// Reads and compares a file's first and last block.
async fn read_ends<D: Disk>(
    disk: &D,
    path: &Path,
) -> Result<(SealedIdentity, SealedFooter), StoreError> {
    let file = disk.open(path).await?;
    let bytes = file.length().await?;
    let block = u64::from(BLOCK_BYTES);
    let Some(end) = bytes
        .checked_sub(block)
        .filter(|_| bytes.is_multiple_of(block))
    else {
        return Err(corrupt(path, bytes, Damage::TooShort));
    };
    let header = SealedHeader::decode(&file.read_at(0, BLOCK_BYTES).await?);
    let footer = SealedFooter::decode(&file.read_at(end, BLOCK_BYTES).await?);
    file.close().await?;
    let header = header.ok_or_else(|| corrupt(path, 0, Damage::SealedEnds))?;
    for version in [
        header.version,
        footer
            .as_ref()
            .map_or(header.version, |footer| footer.version),
    ] {
        if version.get() != SEALED_VERSION {
            let (path, version) = (path.to_path_buf(), version.get());
            return Err(StoreError::Unsupported { path, version });
        }
    }
    let footer = footer.ok_or_else(|| corrupt(path, end, Damage::SealedEnds))?;
    if header.ends() != footer.ends() {
        return Err(corrupt(path, end, Damage::SealedEnds));
    }
    let identity = SealedIdentity {
        number: footer.number.get(),
        bytes,
        footer_crc: footer.crc.get(),
    };
    Ok((identity, footer))
}
