//! The index of a sealed segment as it is mapped: which channels there are, where their records
//! lie, and what must be there.
//!
//! It reads no file, and copies nothing but the dictionary.
//!
//! Invariants: an index that was accepted has sound checksums, and its tables fit each other:
//! channels rise, blocks follow each other without a gap and name channels that there are.

use std::ops::{Deref, Range, RangeInclusive};

use bytes::Bytes;
use zerocopy::FromBytes;
use zstd::dict::DecoderDictionary;

use super::filter;
use super::format::{
    SEALED_BLOCK_BYTES_MAX, SealedBlock, SealedEntry, SealedFooter, SealedMeta, SealedRegion,
};
use crate::config::BLOCK_BYTES;
use crate::key::ChannelKey;
use crate::segment::Day;

/// What a file holds of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChannelRun {
    /// The channel.
    pub(crate) channel: ChannelKey,
    /// Its place in the directory, from 0.
    pub(crate) entry: u32,
    /// Seq of its first message here; 0 if there are only changes of older messages.
    pub(crate) first_seq: u64,
    /// How many messages, dense from there.
    pub(crate) count: u32,
    /// The lowest seq of a change whose message lies in an older file; 0 if there is none.
    pub(crate) changes_min_seq: u64,
    /// The newest older day with messages of the channel; day 0 if there is none.
    pub(crate) prev_day: Day,
    /// The newest older day with changes of the channel; day 0 if there is none.
    pub(crate) prev_changes_day: Day,
    /// The block in which its records begin.
    pub(crate) first_block: u32,
    /// Behind the last block in which they may lie: the one in which the next channel begins.
    pub(crate) end_block: u32,
    /// Its highest rev here.
    pub(crate) last_rev: u64,
    /// Bytes of its records, uncompressed.
    pub(crate) bytes: u64,
}

impl ChannelRun {
    fn of(place: usize, entry: &SealedEntry, end_block: u32) -> Self {
        Self {
            channel: ChannelKey(entry.channel),
            entry: number(place),
            first_seq: entry.first_seq.get(),
            count: entry.count.get(),
            changes_min_seq: entry.changes_min_seq.get(),
            prev_day: Day(entry.prev_day.get()),
            prev_changes_day: Day(entry.prev_changes_day.get()),
            first_block: entry.first_block.get(),
            end_block,
            last_rev: entry.last_rev.get(),
            bytes: entry.bytes.get(),
        }
    }

    /// Seqs of its messages here.
    pub(crate) fn seqs(&self) -> Range<u64> {
        self.first_seq..self.first_seq.saturating_add(self.count.into())
    }
}

/// Where a block lies, and what must be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BlockPlace {
    /// From the start of the file.
    pub(crate) offset: u64,
    /// As it lies there, compressed.
    pub(crate) bytes: u32,
    /// Uncompressed.
    pub(crate) raw_bytes: u32,
    /// Checksum of the compressed bytes.
    pub(crate) crc: u32,
}

/// A dictionary, and what zstd makes of it.
pub(super) struct Dictionary {
    pub(super) bytes: Bytes,
    pub(super) decoder: DecoderDictionary<'static>,
}

/// A verified index in memory.
pub(super) struct SealedIndex<M> {
    memory: M,
    filter: Range<usize>,
    directory: Range<usize>,
    blocks: Range<usize>,
    pub(super) dictionary: Option<Dictionary>,
    pub(super) meta: SealedMeta,
}

impl<M: Deref<Target = [u8]>> SealedIndex<M> {
    /// Verifies what lies between a file's blocks and its footer; `None` if anything is wrong.
    pub(super) fn verify(footer: &SealedFooter, memory: M) -> Option<Self> {
        let [dictionary, filter, directory, blocks, meta] = regions(footer, &memory)?;
        let index = Self {
            dictionary: load_dictionary(&memory[dictionary])?,
            meta: SealedMeta::decode(&memory[meta])?,
            filter,
            directory,
            blocks,
            memory,
        };
        let entries =
            <[SealedEntry]>::ref_from_bytes(&index.memory[index.directory.clone()]).ok()?;
        let blocks = <[SealedBlock]>::ref_from_bytes(&index.memory[index.blocks.clone()]).ok()?;
        let fit = filter::is_length_of(index.filter.len(), entries.len())
            && do_entries_fit(entries, blocks)
            && do_blocks_fit(blocks, entries.len(), footer)
            && does_meta_fit(&index.meta, entries, blocks, footer);
        fit.then_some(index)
    }

    /// Bytes of memory that it takes, mapped and copied.
    pub(super) fn bytes(&self) -> usize {
        let dictionary = self.dictionary.as_ref();
        let copied = dictionary.map_or(0, |dictionary| {
            dictionary.bytes.len() + dictionary.decoder.as_ddict().sizeof()
        });
        self.memory.len() + copied
    }

    pub(super) fn entries(&self) -> &[SealedEntry] {
        <[SealedEntry]>::ref_from_bytes(&self.memory[self.directory.clone()])
            .expect("verified when it was opened")
    }

    pub(super) fn blocks(&self) -> &[SealedBlock] {
        <[SealedBlock]>::ref_from_bytes(&self.memory[self.blocks.clone()])
            .expect("verified when it was opened")
    }

    pub(super) fn may_contain(&self, channel: ChannelKey) -> bool {
        filter::may_contain(&self.memory[self.filter.clone()], filter::hash(&channel.0))
    }

    pub(super) fn find(&self, channel: ChannelKey) -> Option<ChannelRun> {
        let entries = self.entries();
        let place = entries
            .binary_search_by(|entry| entry.channel.cmp(&channel.0))
            .ok()?;
        self.run(number(place))
    }

    pub(super) fn run(&self, place: u32) -> Option<ChannelRun> {
        let entries = self.entries();
        let next = entries.get(place as usize + 1);
        let end_block = match next {
            Some(next) => next.first_block.get() + 1,
            None => number(self.blocks().len()),
        };
        let entry = entries.get(place as usize)?;
        Some(ChannelRun::of(place as usize, entry, end_block))
    }

    pub(super) fn runs(&self) -> impl ExactSizeIterator<Item = ChannelRun> {
        let run = |place| self.run(number(place)).expect("it is below their number");
        (0..self.entries().len()).map(run)
    }

    pub(super) fn place(&self, block: u32) -> BlockPlace {
        let block = &self.blocks()[block as usize];
        BlockPlace {
            offset: block.offset.get(),
            bytes: block.bytes.get(),
            raw_bytes: block.raw_bytes.get(),
            crc: block.crc.get(),
        }
    }

    /// Blocks with records of these seqs. The first may begin before them, or with an older
    /// channel.
    pub(super) fn blocks_of(&self, run: &ChannelRun, seqs: RangeInclusive<u64>) -> Range<u32> {
        let oldest = match run.changes_min_seq {
            0 => run.first_seq,
            seq => seq,
        };
        let is_behind = run.count > 0 && *seqs.start() >= run.seqs().end;
        if seqs.is_empty() || *seqs.end() < oldest || is_behind {
            return run.first_block..run.first_block;
        }
        let first = (run.entry, *seqs.start(), 0);
        let last = (run.entry, *seqs.end(), 1);
        let blocks = self.own_blocks(run);
        let begun = blocks.partition_point(|block| begin(block) <= first);
        let end = blocks.partition_point(|block| begin(block) <= last);
        span(run, begun, end)
    }

    /// Blocks in which a channel's records may lie.
    fn own_blocks(&self, run: &ChannelRun) -> &[SealedBlock] {
        &self.blocks()[run.first_block as usize..run.end_block as usize]
    }

    /// Blocks with messages of these times, and their changes.
    pub(super) fn blocks_at(&self, run: &ChannelRun, ms: RangeInclusive<u64>) -> Range<u32> {
        let begin = |block: &SealedBlock| (block.first_entry.get(), block.first_ms.get());
        let blocks = self.own_blocks(run);
        let begun = blocks.partition_point(|block| begin(block) < (run.entry, *ms.start()));
        let end = blocks.partition_point(|block| begin(block) <= (run.entry, *ms.end()));
        span(run, begun, end)
    }

    /// Seqs of messages that may be of this time, as far as blocks tell.
    pub(super) fn seqs_at(&self, run: &ChannelRun, ms: u64) -> Range<u64> {
        let blocks = self.blocks_at(run, ms..=ms);
        let seqs = run.seqs();
        let begin = |block: u32| {
            let block = self.blocks().get(block as usize);
            let own = block.filter(|block| block.first_entry.get() == run.entry);
            own.map(|block| block.first_seq.get().clamp(seqs.start, seqs.end))
        };
        let start = begin(blocks.start).unwrap_or(seqs.start);
        start..begin(blocks.end).unwrap_or(seqs.end).max(start)
    }
}

/// From the last of a channel's blocks that had begun, which may go on with what is sought, to the
/// end.
fn span(run: &ChannelRun, begun: usize, end: usize) -> Range<u32> {
    let first = run.first_block + number(begun.saturating_sub(1));
    first..(run.first_block + number(end)).max(first)
}

/// What the block begins with: channel, message, and whether that message began before.
fn begin(block: &SealedBlock) -> (u32, u64, u32) {
    (
        block.first_entry.get(),
        block.first_seq.get(),
        block.continues.get(),
    )
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("tables of less than 4 billion rows, verified when opened")
}

/// Where the regions lie in `memory`, if they fill it and their checksums hold.
fn regions(footer: &SealedFooter, memory: &[u8]) -> Option<[Range<usize>; 5]> {
    let regions = footer.regions();
    let origin = regions[0].offset.get();
    let start =
        |region: &SealedRegion| usize::try_from(region.offset.get().checked_sub(origin)?).ok();
    let mut ranges: [Range<usize>; 5] = Default::default();
    for (place, region) in regions.iter().enumerate() {
        let next = regions.get(place + 1);
        let (first, last) = (start(region)?, next.map_or(Some(memory.len()), start)?);
        let covered = memory.get(first..last)?;
        let bytes = usize::try_from(region.bytes.get()).ok()?;
        if crc32c::crc32c(covered) != region.crc.get() || bytes > covered.len() {
            return None;
        }
        ranges[place] = first..first + bytes;
    }
    Some(ranges)
}

fn load_dictionary(bytes: &[u8]) -> Option<Option<Dictionary>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let decoder = DecoderDictionary::try_copy(bytes).ok()?;
    let bytes = Bytes::copy_from_slice(bytes);
    Some(Some(Dictionary { bytes, decoder }))
}

/// Channels rise, and begin in blocks that there are, one after the other.
fn do_entries_fit(entries: &[SealedEntry], blocks: &[SealedBlock]) -> bool {
    let is_small = u32::try_from(entries.len()).is_ok() && u32::try_from(blocks.len()).is_ok();
    let are_sorted = entries.windows(2).all(|pair| {
        pair[0].channel < pair[1].channel && pair[0].first_block.get() <= pair[1].first_block.get()
    });
    let is_in = |entry: &SealedEntry| (entry.first_block.get() as usize) < blocks.len();
    is_small && are_sorted && entries.iter().all(is_in)
}

/// Blocks fill the file from the second block to the index, and are in order.
fn do_blocks_fit(blocks: &[SealedBlock], channels: usize, footer: &SealedFooter) -> bool {
    let mut offset = u64::from(BLOCK_BYTES);
    for block in blocks {
        let is_sound = block.offset.get() == offset
            && (1..=SEALED_BLOCK_BYTES_MAX).contains(&block.raw_bytes.get())
            && block.bytes.get() <= 2 * SEALED_BLOCK_BYTES_MAX
            && (block.first_entry.get() as usize) < channels;
        if !is_sound {
            return false;
        }
        offset += u64::from(block.bytes.get());
    }
    let are_sorted = blocks.is_sorted_by_key(begin);
    let index = offset.next_multiple_of(BLOCK_BYTES.into());
    are_sorted && footer.blocks_end.get() == offset && footer.dictionary.offset.get() == index
}

fn does_meta_fit(
    meta: &SealedMeta,
    entries: &[SealedEntry],
    blocks: &[SealedBlock],
    footer: &SealedFooter,
) -> bool {
    let raw_bytes: u64 = blocks
        .iter()
        .map(|block| u64::from(block.raw_bytes.get()))
        .sum();
    let messages: u64 = entries
        .iter()
        .map(|entry| u64::from(entry.count.get()))
        .sum();
    meta.channels == entries.len() as u64
        && meta.messages == messages
        && meta.raw_bytes == raw_bytes
        && meta.first_day == footer.first_day.get()
        && meta.last_day == footer.last_day.get()
        && meta.first_day <= meta.last_day
}
