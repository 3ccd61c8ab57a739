//! Messages of a stretch of seqs in their present state: where their records and all later
//! changes lie, the reads, and what they come to.
//!
//! It decides nothing about pages, and follows the chain no further than it was followed.
//!
//! Invariants: what is returned is dense in seq, with keys that rise, or an error that names the
//! file; every change that lies in a place newer than its message is applied, in order of rev.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use crate::chain::{Chain, Hop, Source};
use crate::disk::Disk;
use crate::error::{Damage, StoreError};
use crate::fetch::{WantedBlock, all};
use crate::hot::{ChangeEntry, Entry};
use crate::key::{MessageKey, SegmentId};
use crate::record::{Location, Record, RecordKind};
use crate::sealed::{BlockRecords, ChannelRun, Sealed};
use crate::stored::Stored;

/// A hop's part of a stretch.
enum Piece<'a, D: Disk> {
    /// Messages in a segment, from a seq on.
    Records(u64, Vec<Location>),
    /// Messages in a sealed file.
    Blocks(&'a Arc<Sealed<D::Mapped>>, &'a ChannelRun, Range<u64>),
}

impl<D: Disk> Piece<'_, D> {
    fn seqs(&self) -> Range<u64> {
        match self {
            Self::Records(first, locations) => *first..*first + locations.len() as u64,
            Self::Blocks(_, _, seqs) => seqs.clone(),
        }
    }

    /// About how many bytes a message takes.
    fn bytes_of(&self, seq: u64) -> u64 {
        match self {
            Self::Records(first, locations) => {
                let location = usize::try_from(seq - first).ok();
                let location = location.and_then(|at| locations.get(at));
                location.map_or(0, |location| location.bytes.into())
            }
            Self::Blocks(_, run, _) => run.bytes / u64::from(run.count.max(1)),
        }
    }
}

/// What a record that was read must be.
#[derive(Clone, Copy)]
struct Expected {
    location: Location,
    seq: u64,
    /// A change's own rev.
    rev: Option<u64>,
}

impl<D: Disk> Chain<'_, D> {
    /// The messages with these seqs, which the chain covers. Only so many of them, on either side
    /// of `anchor`, as are likely to take `bytes_max`; returns what was read.
    pub(crate) async fn read(
        &mut self,
        seqs: Range<u64>,
        anchor: Range<u64>,
        bytes_max: usize,
    ) -> Result<(Range<u64>, Vec<Stored>), StoreError> {
        self.cover_changes(seqs.start).await?;
        let pieces = self.pieces(&seqs).await?;
        let seqs = within_bytes(&pieces, seqs, anchor, bytes_max as u64);
        let mut expected = Vec::new();
        let mut blocks = BTreeMap::new();
        for piece in &pieces {
            want(piece, &seqs, &mut expected, &mut blocks);
        }
        self.want_changes(&seqs, &mut expected, &mut blocks).await?;
        let locations: Vec<Location> = expected.iter().map(|one| one.location).collect();
        let blocks: Vec<WantedBlock<D::Mapped>> = blocks.into_values().collect();
        let (records, raw) = self.reader.fetcher.fetch(&locations, &blocks).await?;

        let mut found = Found::new(&seqs);
        for (record, expected) in records.into_iter().zip(&expected) {
            let is_right = record.channel == self.channel
                && record.seq == expected.seq
                && (record.kind == RecordKind::Create) == expected.rev.is_none()
                && expected.rev.is_none_or(|rev| rev == record.rev);
            if !is_right || !found.add(record) {
                let damage = Damage::RecordMisplaced;
                return Err(self.reader.fetcher.corrupt(expected.location, damage));
            }
        }
        for (raw, WantedBlock { sealed, block }) in raw.into_iter().zip(&blocks) {
            let inclusive = seqs.start..=seqs.end.saturating_sub(1);
            for record in BlockRecords::within(raw, self.channel, inclusive) {
                let record = record.map_err(|bad| sealed.refused(*block, bad))?;
                if !found.add(record) {
                    return Err(sealed.damaged(*block, Damage::SealedRecords));
                }
            }
        }
        match found.fold() {
            Ok(messages) => Ok((seqs, messages)),
            Err(seq) => Err(self.not_there(seq, &expected, &blocks)),
        }
    }

    /// Where the messages lie, in order of seq.
    async fn pieces(&self, seqs: &Range<u64>) -> Result<Vec<Piece<'_, D>>, StoreError> {
        let hops = self.hops.iter().rev();
        let hops = hops.filter(|hop| hop.seqs.start < seqs.end && seqs.start < hop.seqs.end);
        let pieces = hops.map(|hop| Box::pin(self.piece(hop, seqs))).collect();
        let pieces = all(pieces, self.reader.fetcher.config.reads_at_once_max).await;
        pieces.into_iter().collect()
    }

    async fn piece<'h>(
        &self,
        hop: &'h Hop<D>,
        seqs: &Range<u64>,
    ) -> Result<Piece<'h, D>, StoreError> {
        let part = seqs.start.max(hop.seqs.start)..seqs.end.min(hop.seqs.end);
        let located = |segment: SegmentId, entries: &[Entry]| {
            let locations = entries.iter().map(|entry| entry.location(segment));
            Piece::Records(part.start, locations.collect())
        };
        match &hop.source {
            Source::Sealed(sealed, run) => Ok(Piece::Blocks(sealed, run, part)),
            Source::Filled(index, found) => {
                let entries = index.entries(found, part.clone()).await?;
                Ok(located(index.origin().segment, &entries))
            }
            Source::Hot(segment, day) => {
                let hot = {
                    let index = self.reader.index.borrow();
                    index.hot(*segment).map(|hot| {
                        let entries = hot.entries(self.channel);
                        located(*segment, slice(entries, hop.seqs.start, &part))
                    })
                };
                if let Some(piece) = hot {
                    return Ok(piece);
                }
                // Its index file has been written in the meantime.
                let index = self.reader.segment_index(*segment, *day).await?;
                match index.run(self.channel).await? {
                    Some(found) => {
                        let entries = index.entries(&found, part.clone()).await?;
                        Ok(located(*segment, &entries))
                    }
                    None => Ok(located(*segment, &[])),
                }
            }
        }
    }

    /// Adds the changes of messages with these seqs that lie in newer places than the messages.
    async fn want_changes(
        &self,
        seqs: &Range<u64>,
        expected: &mut Vec<Expected>,
        blocks: &mut BTreeMap<(u32, u32), WantedBlock<D::Mapped>>,
    ) -> Result<(), StoreError> {
        let hops = self.changes.iter();
        let hops = hops.filter(|hop| (1..seqs.end).contains(&hop.changes_min_seq));
        let mut lists = Vec::new();
        for hop in hops {
            match &hop.source {
                Source::Sealed(sealed, run) => {
                    let older = seqs.start..seqs.end.min(older_end(run));
                    want_blocks(sealed, run, &older, blocks);
                }
                Source::Hot(..) | Source::Filled(..) => {
                    lists.push(Box::pin(self.changes_of(hop, seqs)));
                }
            }
        }
        for list in all(lists, self.reader.fetcher.config.reads_at_once_max).await {
            let (segment, changes) = list?;
            expected.extend(changes.into_iter().map(|change| Expected {
                location: change.location(segment),
                seq: change.seq,
                rev: Some(change.rev),
            }));
        }
        Ok(())
    }

    async fn changes_of(
        &self,
        hop: &Hop<D>,
        seqs: &Range<u64>,
    ) -> Result<(SegmentId, Vec<ChangeEntry>), StoreError> {
        match &hop.source {
            Source::Sealed(..) => unreachable!("a sealed file's changes lie in blocks"),
            Source::Filled(index, found) => {
                let changes = index.changes(found, seqs.clone()).await?;
                Ok((index.origin().segment, changes))
            }
            Source::Hot(segment, day) => {
                let hot = {
                    let index = self.reader.index.borrow();
                    index.hot(*segment).map(|hot| {
                        let changes = hot.changes(self.channel).iter();
                        let changes = changes.filter(|change| seqs.contains(&change.seq));
                        changes.copied().collect()
                    })
                };
                if let Some(changes) = hot {
                    return Ok((*segment, changes));
                }
                let index = self.reader.segment_index(*segment, *day).await?;
                match index.run(self.channel).await? {
                    Some(found) => Ok((*segment, index.changes(&found, seqs.clone()).await?)),
                    None => Ok((*segment, Vec::new())),
                }
            }
        }
    }

    /// The error of a message that is not where it must be, or out of order.
    fn not_there(
        &self,
        seq: u64,
        expected: &[Expected],
        blocks: &[WantedBlock<D::Mapped>],
    ) -> StoreError {
        let hop = self.hops.iter().find(|hop| hop.seqs.contains(&seq));
        if let Some(Source::Sealed(sealed, run)) = hop.map(|hop| &hop.source) {
            let block = sealed.blocks_of(run, seq..=seq).start;
            return sealed.damaged(block, Damage::SealedRecords);
        }
        let location = expected.iter().find(|one| one.seq == seq);
        match (location, blocks.first()) {
            (Some(one), _) => {
                let damage = Damage::RecordMisplaced;
                self.reader.fetcher.corrupt(one.location, damage)
            }
            (None, Some(WantedBlock { sealed, block })) => {
                sealed.damaged(*block, Damage::SealedRecords)
            }
            (None, None) => StoreError::HistoryBreak {
                channel: self.channel,
                expected: seq,
                found: 0,
            },
        }
    }
}

/// The seq behind the last one of which a run may hold changes without the message.
fn older_end(run: &ChannelRun) -> u64 {
    if run.count == 0 {
        u64::MAX
    } else {
        run.first_seq
    }
}

/// The part of a list that begins with the message with the seq `first`.
fn slice<'a>(entries: &'a [Entry], first: u64, part: &Range<u64>) -> &'a [Entry] {
    let position = |seq: u64| usize::try_from(seq - first).unwrap_or(usize::MAX);
    let end = position(part.end).min(entries.len());
    entries.get(position(part.start)..end).unwrap_or_default()
}

fn want<D: Disk>(
    piece: &Piece<'_, D>,
    seqs: &Range<u64>,
    expected: &mut Vec<Expected>,
    blocks: &mut BTreeMap<(u32, u32), WantedBlock<D::Mapped>>,
) {
    match piece {
        Piece::Records(first, locations) => {
            let located = locations.iter().zip(*first..);
            let wanted = located.filter(|(_, seq)| seqs.contains(seq));
            expected.extend(wanted.map(|(location, seq)| Expected {
                location: *location,
                seq,
                rev: None,
            }));
        }
        Piece::Blocks(sealed, run, part) => {
            let part = part.start.max(seqs.start)..part.end.min(seqs.end);
            want_blocks(sealed, run, &part, blocks);
        }
    }
}

fn want_blocks<M: std::ops::Deref<Target = [u8]>>(
    sealed: &Arc<Sealed<M>>,
    run: &ChannelRun,
    seqs: &Range<u64>,
    blocks: &mut BTreeMap<(u32, u32), WantedBlock<M>>,
) {
    if seqs.is_empty() {
        return;
    }
    for block in sealed.blocks_of(run, seqs.start..=seqs.end - 1) {
        let sealed = Arc::clone(sealed);
        blocks.insert(
            (sealed.identity().number, block),
            WantedBlock { sealed, block },
        );
    }
}

/// Cuts the stretch where the messages on one side of the anchor take more than `bytes_max`; one
/// message on each side stays.
fn within_bytes<D: Disk>(
    pieces: &[Piece<'_, D>],
    seqs: Range<u64>,
    anchor: Range<u64>,
    bytes_max: u64,
) -> Range<u64> {
    let bytes_of = |seq: u64| {
        let piece = pieces.iter().find(|piece| piece.seqs().contains(&seq));
        piece.map_or(0, |piece| piece.bytes_of(seq))
    };
    let cut = |towards: &mut dyn Iterator<Item = u64>| {
        let mut bytes = 0;
        let taken = towards.take_while(|seq| {
            let is_needed = bytes < bytes_max || bytes == 0;
            bytes += bytes_of(*seq);
            is_needed
        });
        taken.last()
    };
    let (low, high) = (anchor.start.max(seqs.start), anchor.end.min(seqs.end));
    let start = cut(&mut (seqs.start..low).rev()).unwrap_or(low);
    let end = cut(&mut (high..seqs.end)).map_or(high, |last| last + 1);
    start..end
}

/// What was read of a stretch.
struct Found {
    first_seq: u64,
    messages: Vec<Option<Stored>>,
    changes: Vec<Record>,
}

impl Found {
    fn new(seqs: &Range<u64>) -> Self {
        let count = usize::try_from(seqs.end - seqs.start).expect("a page is small");
        let mut messages = Vec::new();
        messages.resize_with(count, || None);
        Self {
            first_seq: seqs.start,
            messages,
            changes: Vec::new(),
        }
    }

    /// Takes a record; `false` if it cannot be one of these.
    fn add(&mut self, record: Record) -> bool {
        let position = record.seq.checked_sub(self.first_seq);
        let position = position.and_then(|position| usize::try_from(position).ok());
        let Some(slot) = position.and_then(|position| self.messages.get_mut(position)) else {
            return false;
        };
        if record.kind != RecordKind::Create {
            self.changes.push(record);
            return true;
        }
        let is_first = slot.is_none();
        *slot = Some(Stored::new(record));
        is_first
    }

    /// The messages, or the seq of one that is missing or whose key does not rise.
    fn fold(mut self) -> Result<Vec<Stored>, u64> {
        let mut last = MessageKey::ZERO;
        for (message, seq) in self.messages.iter().zip(self.first_seq..) {
            let key = message.as_ref().map(|message| message.create.message);
            last = key.filter(|key| *key > last).ok_or(seq)?;
        }
        self.changes.sort_by_key(|change| change.rev);
        for change in self.changes {
            let position = usize::try_from(change.seq - self.first_seq);
            let message = &mut self.messages[position.expect("it was looked at")];
            message.as_mut().expect("none is missing").apply(change);
        }
        let messages = self.messages.into_iter();
        Ok(messages
            .map(|message| message.expect("none is missing"))
            .collect())
    }
}
