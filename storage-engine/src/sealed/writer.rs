//! Writes a sealed segment, record by record in the order of the file, in bounded memory.
//!
//! It sorts and folds nothing, and gives the file its name only when all of it is durable.
//!
//! Invariants: records come in order of (channel, seq, rev), and a channel's seqs are dense from
//! its first message on; memory is one block, one buffer, and the tables of the index.

use std::path::Path;

use bytes::Bytes;
use zerocopy::IntoBytes;
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

use super::appender::{Appender, temporary};
use super::block::BlockBuilder;
use super::format::{
    Ends, SEALED_BLOCK_BYTES, SEALED_BLOCK_BYTES_MAX, SealedBlock, SealedEntry, SealedFooter,
    SealedHeader, SealedMeta,
};
use super::tally::{ChannelTally, message_of};
use super::{SealedIdentity, filter};
use crate::config::BLOCK_BYTES;
use crate::disk::Disk;
use crate::error::DiskError;
use crate::key::ChannelKey;
use crate::record::Record;
use crate::segment::Day;

/// What a sealed segment will be.
#[derive(Clone, Debug)]
pub(crate) struct SealedOptions {
    /// Its number, unique within a node.
    pub(crate) number: u32,
    /// The first day that it covers.
    pub(crate) first_day: Day,
    /// The last day that it covers.
    pub(crate) last_day: Day,
    /// What blocks are compressed with; kept in the file. Must be one that zstd trained.
    pub(crate) dictionary: Option<Bytes>,
    /// The level of zstd.
    pub(crate) zstd_level: i32,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SealedSummary {
    /// Its number.
    pub(crate) number: u32,
    /// The file's length.
    pub(crate) bytes: u64,
    /// The checksum of its footer.
    pub(crate) footer_crc: u32,
    /// Messages in it.
    pub(crate) messages: u64,
    /// Channels in it.
    pub(crate) channels: u64,
    /// Records in it.
    pub(crate) records: u64,
    /// Length of its blocks, uncompressed.
    pub(crate) raw_bytes: u64,
}

impl SealedSummary {
    /// What a manifest keeps of it.
    pub(crate) fn identity(&self) -> SealedIdentity {
        SealedIdentity {
            number: self.number,
            bytes: self.bytes,
            footer_crc: self.footer_crc,
        }
    }
}

/// A sealed segment that is being written, beside its name (`.tmp`).
pub(crate) struct SealedWriter<D: Disk> {
    out: Appender<D>,
    ends: Ends,
    dictionary: Bytes,
    compressor: Compressor<'static>,
    compressed: Vec<u8>,
    block: BlockBuilder,
    blocks: Vec<SealedBlock>,
    entries: Vec<SealedEntry>,
    /// Whether the last entry has no record yet.
    is_channel_new: bool,
    /// The records of the last entry.
    tally: ChannelTally,
    meta: SealedMeta,
}

impl<D: Disk> SealedWriter<D> {
    /// Begins the file that will be `path`, in a directory that exists.
    ///
    /// # Errors
    /// If the file cannot be created.
    ///
    /// # Panics
    /// If zstd does not take the dictionary.
    pub(crate) async fn create(
        disk: &D,
        path: &Path,
        options: SealedOptions,
    ) -> Result<Self, DiskError> {
        let SealedOptions {
            number,
            first_day,
            last_day,
            dictionary,
            zstd_level,
        } = options;
        assert!(first_day <= last_day, "days are a range");
        let ends = Ends {
            number,
            first_day: first_day.0,
            last_day: last_day.0,
        };
        let dictionary = dictionary.unwrap_or_default();
        let mut compressor = Compressor::with_dictionary(zstd_level, &dictionary)
            .expect("a dictionary was trained, or read from a file that could be opened");
        for set in [Compressor::include_dictid, Compressor::include_checksum] {
            set(&mut compressor, false).expect("frames need neither");
        }
        let mut out = Appender::create(disk, &temporary(path)).await?;
        out.append(SealedHeader::new(ends).as_bytes()).await?;
        Ok(Self {
            out,
            ends,
            dictionary,
            compressor,
            compressed: Vec::new(),
            block: BlockBuilder::default(),
            blocks: Vec::new(),
            entries: Vec::new(),
            is_channel_new: false,
            tally: ChannelTally::default(),
            meta: SealedMeta::of_nothing(first_day, last_day),
        })
    }

    /// Begins the next channel: where its messages, and its changes, go on in older files (day 0:
    /// nowhere). A channel of which no record follows leaves no trace.
    ///
    /// # Panics
    /// If channels do not rise.
    pub(crate) fn begin_channel(&mut self, channel: ChannelKey, prev: Day, prev_changes: Day) {
        self.drop_empty_entry();
        let last = self.entries.last().map(|entry| ChannelKey(entry.channel));
        assert!(last.is_none_or(|last| last < channel), "channels rise");
        (self.is_channel_new, self.tally) = (true, ChannelTally::default());
        self.entries.push(SealedEntry {
            channel: channel.0,
            first_seq: 0.into(),
            last_rev: 0.into(),
            changes_min_seq: 0.into(),
            bytes: 0.into(),
            count: 0.into(),
            prev_day: prev.0.into(),
            prev_changes_day: prev_changes.0.into(),
            first_block: 0.into(),
        });
    }

    /// Adds the channel's next record. First come changes of messages that lie in older files,
    /// then each message with its own changes.
    ///
    /// # Errors
    /// If a write fails; nothing can be added then.
    ///
    /// # Panics
    /// If the record is of another channel, out of order, or longer than a block can be.
    pub(crate) async fn push(&mut self, record: &Record) -> Result<(), DiskError> {
        if self.block.bytes().is_empty() {
            self.begin_block(record);
        }
        self.note(record);
        self.block.push(record);
        if self.block.bytes().len() >= SEALED_BLOCK_BYTES as usize {
            self.close_block().await?;
        }
        Ok(())
    }

    /// Writes the index, and makes all of it durable. [`install`](super::install) is then the
    /// caller's to call.
    ///
    /// # Errors
    /// If a write or the sync fails.
    pub(crate) async fn finish(mut self) -> Result<SealedSummary, DiskError> {
        if !self.block.bytes().is_empty() {
            self.close_block().await?;
        }
        self.drop_empty_entry();
        let blocks_end = self.out.position();
        self.out.pad(BLOCK_BYTES).await?;
        self.meta.channels = self.entries.len() as u64;
        let hashes = self
            .entries
            .iter()
            .map(|entry| filter::hash(&entry.channel));
        let filter = filter::build(&hashes.collect::<Vec<_>>());
        let meta = self.meta.encode();
        let regions = [
            self.out.region(&self.dictionary, 8).await?,
            self.out.region(&filter, 8).await?,
            self.out.region(self.entries.as_bytes(), 8).await?,
            self.out.region(self.blocks.as_bytes(), 8).await?,
            self.out.region(&meta, BLOCK_BYTES).await?,
        ];
        let footer = SealedFooter::new(self.ends, blocks_end, regions);
        self.out.append(footer.as_bytes()).await?;
        let bytes = self.out.position();
        self.out.finish().await?;
        Ok(SealedSummary {
            number: self.ends.number,
            bytes,
            footer_crc: footer.crc.get(),
            messages: self.meta.messages,
            channels: self.meta.channels,
            records: self.meta.records,
            raw_bytes: self.meta.raw_bytes,
        })
    }

    /// Gives up: what was written is removed.
    ///
    /// # Errors
    /// If it cannot be closed or removed.
    pub(crate) async fn abandon(self) -> Result<(), DiskError> {
        self.out.abandon().await
    }

    fn drop_empty_entry(&mut self) {
        if self.is_channel_new {
            self.entries.pop();
            self.is_channel_new = false;
        }
    }

    fn begin_block(&mut self, record: &Record) {
        let continues = !self.is_channel_new && self.tally.last_seq() == record.seq;
        self.blocks.push(SealedBlock {
            offset: self.out.position().into(),
            first_seq: record.seq.into(),
            first_ms: message_of(record).timestamp_ms().into(),
            bytes: 0.into(),
            raw_bytes: 0.into(),
            crc: 0.into(),
            first_entry: table_index(self.entries.len().saturating_sub(1)).into(),
            continues: u32::from(continues).into(),
        });
    }

    async fn close_block(&mut self) -> Result<(), DiskError> {
        let raw = self.block.bytes();
        let raw_bytes = table_index(raw.len());
        assert!(
            raw_bytes <= SEALED_BLOCK_BYTES_MAX,
            "records are far shorter than a block can be"
        );
        self.compressed.clear();
        self.compressed.reserve(compress_bound(raw.len()));
        self.compressor
            .compress_to_buffer(raw, &mut self.compressed)
            .expect("there is room for what zstd makes at most");
        let block = self.blocks.last_mut().expect("the block was begun");
        block.bytes = table_index(self.compressed.len()).into();
        block.raw_bytes = raw_bytes.into();
        block.crc = crc32c::crc32c(&self.compressed).into();
        self.meta.raw_bytes += u64::from(raw_bytes);
        self.block.clear();
        self.out.append(&self.compressed).await
    }

    /// Counts a record, in its channel and in the file.
    fn note(&mut self, record: &Record) {
        let is_next = self.tally.note(record);
        assert!(is_next, "records rise, and seqs are dense");
        self.meta.note(record);
        let first_block = table_index(self.blocks.len() - 1);
        let entry = self.entries.last_mut().expect("a channel was begun");
        assert_eq!(
            entry.channel, record.channel.0,
            "the record is of the channel that was begun"
        );
        if self.is_channel_new {
            entry.first_block = first_block.into();
            self.is_channel_new = false;
        }
        entry.first_seq = self.tally.first_seq.into();
        entry.last_rev = self.tally.last_rev.into();
        entry.changes_min_seq = self.tally.changes_min_seq.into();
        entry.bytes = self.tally.bytes.into();
        entry.count = self.tally.count.into();
    }
}

fn table_index(number: usize) -> u32 {
    u32::try_from(number).expect("a file has fewer than 4 billion blocks and channels")
}
