//! A channel's history as a chain of places, from the newest to the oldest, and where in it a
//! page's boundary lies.
//!
//! It reads indexes, never a message, except to tell apart messages of one millisecond when there
//! are very many.
//!
//! Invariants: each hop ends where the next newer one begins, so that no message is skipped or
//! shown twice; a chain is followed only as far as it is asked for.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::{ChannelKey, MessageKey, SegmentId};
use crate::page::Boundary;
use crate::place::Place;
use crate::reader::{Reader, ViewReading};
use crate::sealed::{ChannelRun, Sealed};
use crate::segment::Day;
use crate::segment_index::{IndexedRun, SegmentIndex};
use crate::view::Resolved;

/// What a place holds of a channel.
pub(crate) struct Hop<D: Disk> {
    pub(crate) source: Source<D>,
    /// Seqs of its messages; empty if it holds only changes.
    pub(crate) seqs: Range<u64>,
    /// The lowest seq of which it holds a change; 0 if there is none.
    pub(crate) changes_min_seq: u64,
    /// The newest message, where that is known.
    last_message: Option<MessageKey>,
    prev: Place,
    prev_changes: Place,
}

/// Where a hop's records lie.
pub(crate) enum Source<D: Disk> {
    /// In a segment whose index is in memory.
    Hot(SegmentId, Day),
    /// In a segment that has an index file.
    Filled(Rc<SegmentIndex<D>>, IndexedRun),
    /// In a sealed file.
    Sealed(Arc<Sealed<D::Mapped>>, ChannelRun),
}

/// Sources in order of time: a channel's records in one are all older than those in a greater one.
/// Sealed files come first, by their days; then segments, by their numbers.
type Age = (bool, u32);

impl<D: Disk> Source<D> {
    /// Its age.
    pub(crate) fn age(&self) -> Age {
        match self {
            Self::Hot(segment, _) => (true, segment.0),
            Self::Filled(index, _) => (true, index.origin().segment.0),
            Self::Sealed(sealed, _) => (false, sealed.days().start().0),
        }
    }
}

/// How a hop's messages lie to a boundary, as far as can be told without looking closer.
enum Side {
    /// All on the older side.
    Behind,
    /// All on the newer side.
    Ahead,
    Unsure,
}

impl<D: Disk> Hop<D> {
    fn side(&self, boundary: Boundary, ms: u64) -> Side {
        if let Some(last) = self.last_message {
            return match boundary.is_behind(last, 0) {
                true => Side::Behind,
                false => Side::Unsure,
            };
        }
        match &self.source {
            Source::Sealed(sealed, _) if ms > sealed.meta().newest_ms => Side::Behind,
            Source::Sealed(sealed, _) if ms < sealed.meta().oldest_ms => Side::Ahead,
            _ => Side::Unsure,
        }
    }
}

/// A channel's history as one reading sees it.
pub(crate) struct Chain<'a, D: Disk> {
    pub(crate) reader: &'a Reader<D>,
    pub(crate) reading: &'a ViewReading<D>,
    pub(crate) channel: ChannelKey,
    /// Places with messages, newest first, as far as they were looked at.
    pub(crate) hops: Vec<Hop<D>>,
    next: Place,
    /// Places with changes, likewise.
    pub(crate) changes: Vec<Hop<D>>,
    next_changes: Place,
}

impl<'a, D: Disk> Chain<'a, D> {
    pub(crate) fn new(
        reader: &'a Reader<D>,
        reading: &'a ViewReading<D>,
        channel: ChannelKey,
    ) -> Self {
        let (next, next_changes) = reader.index.borrow().newest(channel);
        Self {
            reader,
            reading,
            channel,
            hops: Vec::new(),
            next,
            changes: Vec::new(),
            next_changes,
        }
    }

    /// Follows the chain to this seq. Returns the oldest seq there is from there on.
    pub(crate) async fn cover(&mut self, seq: u64) -> Result<u64, StoreError> {
        loop {
            match self.oldest() {
                Some(oldest) if oldest <= seq => return Ok(seq),
                oldest => {
                    if !self.extend().await? {
                        return Ok(oldest.unwrap_or(u64::MAX));
                    }
                }
            }
        }
    }

    /// Follows the changes back to those of the source of the message with this seq.
    pub(crate) async fn cover_changes(&mut self, seq: u64) -> Result<(), StoreError> {
        let hop = self.hops.iter().find(|hop| hop.seqs.contains(&seq));
        let Some(oldest) = hop.map(|hop| hop.source.age()) else {
            return Ok(());
        };
        while self
            .changes
            .last()
            .is_none_or(|hop| hop.source.age() > oldest)
        {
            let newer = self.changes.last().map(|hop| hop.source.age());
            let Some(hop) = self.load(self.next_changes, newer).await? else {
                self.next_changes = Place::NONE;
                return Ok(());
            };
            self.next_changes = hop.prev_changes;
            self.changes.push(hop);
        }
        Ok(())
    }

    /// The oldest seq of the hops so far.
    fn oldest(&self) -> Option<u64> {
        self.hops.last().map(|hop| hop.seqs.start)
    }

    /// Adds the next older hop; `false` if there is none.
    async fn extend(&mut self) -> Result<bool, StoreError> {
        let mut age = self.hops.last().map(|hop| hop.source.age());
        loop {
            let Some(hop) = self.load(self.next, age).await? else {
                self.next = Place::NONE;
                return Ok(false);
            };
            self.next = hop.prev;
            age = Some(hop.source.age());
            // Only changes, whose messages were taken out: the history goes on behind them.
            if hop.seqs.is_empty() {
                continue;
            }
            if let Some(newer) = self.oldest().filter(|newer| *newer != hop.seqs.end) {
                return Err(StoreError::HistoryBreak {
                    channel: self.channel,
                    expected: newer,
                    found: hop.seqs.end,
                });
            }
            self.hops.push(hop);
            return Ok(true);
        }
    }

    /// What a place holds of the channel; `None` at the end of its history. It must be older than
    /// what was last found, so that a chain ends whatever it says.
    async fn load(&self, place: Place, newer: Option<Age>) -> Result<Option<Hop<D>>, StoreError> {
        self.reader.fetcher.cache.count(|stats| stats.hops += 1);
        let hop = match self.reader.view.resolve(self.reading, place) {
            Resolved::End => return Ok(None),
            Resolved::Missing => return Err(self.missing(place)),
            Resolved::Sealed(bucket) => match bucket.sealed.find(self.channel) {
                Some(run) => sealed_hop(bucket.sealed, run),
                None => return Ok(None),
            },
            Resolved::Segment(segment, day) => {
                let hop = self.load_segment(segment, day).await?;
                hop.ok_or_else(|| self.missing(place))?
            }
        };
        if newer.is_some_and(|newer| hop.source.age() >= newer) {
            return Err(self.missing(place));
        }
        Ok(Some(hop))
    }

    async fn load_segment(
        &self,
        segment: SegmentId,
        day: Day,
    ) -> Result<Option<Hop<D>>, StoreError> {
        let hot = {
            let index = self.reader.index.borrow();
            index.hot(segment).map(|hot| hot.run(self.channel))
        };
        let (source, run) = match hot {
            Some(None) => return Ok(None),
            Some(Some(run)) => (Source::Hot(segment, day), run),
            None => {
                let index = self.reader.segment_index(segment, day).await?;
                let Some(found) = index.run(self.channel).await? else {
                    return Ok(None);
                };
                (Source::Filled(index, found), found.run)
            }
        };
        Ok(Some(Hop {
            source,
            seqs: run.seqs(),
            changes_min_seq: run.changes_min_seq,
            last_message: (run.count > 0).then_some(run.last_message),
            prev: run.prev,
            prev_changes: run.prev_changes,
        }))
    }

    fn missing(&self, place: Place) -> StoreError {
        StoreError::HistoryMissing {
            channel: self.channel,
            segment: place.segment,
            day: place.day,
        }
    }

    /// Between which seqs the boundary lies: messages below are on the older side, messages
    /// from the end on are on the newer side, and those in the range show it by their keys.
    /// Nothing above `upto_seq` counts as there.
    pub(crate) async fn locate(
        &mut self,
        boundary: Boundary,
        upto_seq: u64,
    ) -> Result<Range<u64>, StoreError> {
        let top = upto_seq.saturating_add(1);
        let found = match boundary {
            Boundary::Seq(seq) => return Ok(seq.min(top)..seq.min(top)),
            Boundary::AtKey(key) | Boundary::BehindKey(key) => self.search(boundary, key).await?,
        };
        Ok(found.start.min(top)..found.end.min(top))
    }

    /// In how many blocks of sealed files messages lie that the chain covers.
    pub(crate) fn sealed_blocks(&self, seqs: &Range<u64>) -> usize {
        let blocks = self.hops.iter().map(|hop| match &hop.source {
            Source::Sealed(sealed, run) => {
                let own = seqs.start.max(hop.seqs.start)..seqs.end.min(hop.seqs.end);
                match own.is_empty() {
                    true => 0,
                    false => sealed.blocks_of(run, own.start..=own.end - 1).len(),
                }
            }
            Source::Hot(..) | Source::Filled(..) => 0,
        });
        blocks.sum()
    }

    /// Looks for a key's millisecond, from the newest hop back.
    async fn search(
        &mut self,
        boundary: Boundary,
        key: MessageKey,
    ) -> Result<Range<u64>, StoreError> {
        let ms = key.timestamp_ms();
        let mut end = None;
        let mut at = 0;
        while at < self.hops.len() || self.extend().await? {
            let seqs = self.hops[at].seqs.clone();
            match self.hops[at].side(boundary, ms) {
                Side::Behind => return Ok(seqs.end..end.unwrap_or(seqs.end)),
                Side::Ahead => {}
                Side::Unsure if end.is_none() && self.is_below(at, boundary).await? => {}
                Side::Unsure => {
                    let ties = self.ties(at, key).await?;
                    if ties.end > seqs.start {
                        end = end.or(Some(ties.end));
                    }
                    if ties.start > seqs.start {
                        return Ok(ties.start..end.unwrap_or(ties.start));
                    }
                }
            }
            at += 1;
        }
        let oldest = self.oldest().unwrap_or(1);
        Ok(oldest..end.unwrap_or(oldest))
    }

    /// Whether the boundary certainly lies in an older hop than this one. To look for a time in
    /// an index file takes one or two reads, to ask for the next older hop one at most, which is
    /// needed next if it is so.
    async fn is_below(&mut self, at: usize, boundary: Boundary) -> Result<bool, StoreError> {
        if !matches!(self.hops[at].source, Source::Filled(..)) {
            return Ok(false);
        }
        if at + 1 == self.hops.len() && !self.extend().await? {
            return Ok(false);
        }
        let last = self.hops[at + 1].last_message;
        Ok(last.is_some_and(|last| !boundary.is_behind(last, 0)))
    }

    /// Between which seqs of a hop the messages of a key's millisecond lie.
    async fn ties(&self, at: usize, key: MessageKey) -> Result<Range<u64>, StoreError> {
        let hop = &self.hops[at];
        let ties = match &hop.source {
            Source::Sealed(sealed, run) => Some(sealed.seqs_at(run, key.timestamp_ms())),
            Source::Filled(index, found) => index.ties(found, key).await?,
            Source::Hot(segment, day) => {
                let hot = {
                    let index = self.reader.index.borrow();
                    let hot = index.hot(*segment);
                    hot.map(|hot| hot.ties(self.channel, key))
                };
                match hot {
                    Some(ties) => ties,
                    None => {
                        // Its index file has been written in the meantime.
                        let index = self.reader.segment_index(*segment, *day).await?;
                        match index.run(self.channel).await? {
                            Some(found) => index.ties(&found, key).await?,
                            None => None,
                        }
                    }
                }
            }
        };
        Ok(ties.unwrap_or(hop.seqs.clone()))
    }
}

fn sealed_hop<D: Disk>(sealed: Arc<Sealed<D::Mapped>>, run: ChannelRun) -> Hop<D> {
    Hop {
        seqs: run.seqs(),
        changes_min_seq: run.changes_min_seq,
        last_message: None,
        prev: Place::sealed(run.prev_day),
        prev_changes: Place::sealed(run.prev_changes_day),
        source: Source::Sealed(sealed, run),
    }
}
