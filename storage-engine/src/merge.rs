//! Several sorted inputs become one: by channel, seq and rev, each message with all its changes
//! at once.
//!
//! It knows nothing of days and files, and writes nothing.
//!
//! Invariants: no message is lost, doubled or moved: what would be is an error; changes of
//! messages that are in no input come before the channel's messages; memory is one record of
//! each input, and one message with its changes, which are folded as they come when they are many.

use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::ChannelKey;
use crate::part::PartStream;
use crate::policy::Policy;
use crate::record::{Record, RecordKind};
use crate::sealed::{Samples, SealedStream};
use crate::segment::Day;
use crate::sorted::SortedSegments;
use crate::stored::Stored;

/// A message's changes are folded before all are there when they are more than these, and again
/// when they have doubled.
const FOLD_RECORDS: usize = 1024;

/// Where a channel goes on in older buckets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Links {
    /// The newest older day with messages; day 0 if there is none.
    pub(crate) prev: Day,
    /// The newest older day with changes; day 0 if there is none.
    pub(crate) prev_changes: Day,
}

impl Links {
    /// Nothing is older.
    pub(crate) const NONE: Self = Self {
        prev: Day(0),
        prev_changes: Day(0),
    };
}

/// A sorted input.
pub(crate) enum Source<D: Disk> {
    Segments(SortedSegments),
    Part(PartStream<D>),
    Bucket(SealedStream<D>),
}

impl<D: Disk> Source<D> {
    async fn next(&mut self) -> Result<Option<Record>, StoreError> {
        loop {
            if let Some(record) = self.next_of_block()? {
                return Ok(Some(record));
            }
            let has_more = match self {
                Self::Segments(_) => false,
                Self::Part(stream) => stream.next_block().await?,
                Self::Bucket(stream) => stream.next_block().await?,
            };
            if !has_more {
                return Ok(None);
            }
        }
    }

    /// The next record, if it is in memory: most are, and need not be waited for.
    fn next_of_block(&mut self) -> Result<Option<Record>, StoreError> {
        match self {
            Self::Segments(sorted) => Ok(sorted.next()),
            Self::Part(stream) => stream.next_of_block(),
            Self::Bucket(stream) => stream.next_of_block(),
        }
    }

    /// The links of the channel that the record given last is of.
    fn links(&self, channel: ChannelKey) -> Links {
        match self {
            Self::Segments(sorted) => sorted.links(channel),
            Self::Part(stream) => stream.links(channel),
            Self::Bucket(stream) => stream.run().map_or(Links::NONE, |run| {
                assert_eq!(run.channel, channel, "asked while it is being read");
                Links {
                    prev: run.prev_day,
                    prev_changes: run.prev_changes_day,
                }
            }),
        }
    }

    /// About how many bytes of records it has.
    pub(crate) fn bytes(&self) -> u64 {
        match self {
            Self::Segments(sorted) => sorted.bytes(),
            Self::Part(stream) => stream.part().raw_bytes,
            Self::Bucket(stream) => stream.sealed().meta().raw_bytes,
        }
    }

    /// Shows records of the input, which must be untouched so far, up to so many bytes.
    pub(crate) async fn show(
        &self,
        disk: &D,
        samples: &mut Samples,
        bytes_max: u64,
    ) -> Result<(), StoreError> {
        let mut again = match self {
            Self::Segments(sorted) => {
                sorted.show(samples);
                return Ok(());
            }
            Self::Part(stream) => Self::Part(stream.again(disk).await?),
            Self::Bucket(stream) => Self::Bucket(stream.again(disk).await?),
        };
        let mut bytes = 0;
        while bytes < bytes_max {
            let Some(record) = again.next().await? else {
                break;
            };
            bytes += record.bytes();
            samples.show(&record);
        }
        again.close().await
    }

    async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Segments(_) => Ok(()),
            Self::Part(stream) => stream.close().await,
            Self::Bucket(stream) => stream.close().await,
        }
    }
}

/// What is kept of one message, or of the changes of one that lies elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) channel: ChannelKey,
    /// The same for all of a channel.
    pub(crate) links: Links,
    /// At least one, in order of rev.
    pub(crate) records: &'a [Record],
}

/// A merge under way.
pub(crate) struct Merge<D: Disk> {
    inputs: Vec<Input<D>>,
    /// The next record of each input that has one left; the first of all is the greatest.
    heads: BinaryHeap<Head>,
    policy: Policy,
    at: Option<At>,
    /// Of the message that is being merged.
    group: Vec<Record>,
    records: u64,
}

struct Input<D: Disk> {
    source: Source<D>,
    head: Option<Record>,
}

/// The place of an input's next record. Places are compared with every record, so a channel is a
/// number here.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head {
    channel: u128,
    seq: u64,
    rev: u64,
    input: usize,
}

impl Head {
    fn of(record: &Record, input: usize) -> Self {
        Self {
            channel: u128::from_be_bytes(record.channel.0),
            seq: record.seq,
            rev: record.rev,
            input,
        }
    }

    fn place(&self) -> (u128, u64, u64, usize) {
        (self.channel, self.seq, self.rev, self.input)
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.place().cmp(&self.place())
    }
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The channel that is being merged.
struct At {
    channel: ChannelKey,
    links: Links,
    /// The seq that follows; `None` before the channel's first message.
    next_seq: Option<u64>,
    /// Changes of messages that are in no input were kept.
    has_orphans: bool,
}

impl<D: Disk> Merge<D> {
    /// Begins a merge of inputs that hold different records, oldest first.
    ///
    /// # Errors
    /// If an input cannot be read.
    pub(crate) async fn begin(
        sources: impl IntoIterator<Item = Source<D>>,
        policy: Policy,
    ) -> Result<Self, StoreError> {
        let mut merge = Self {
            inputs: Vec::new(),
            heads: BinaryHeap::new(),
            policy,
            at: None,
            group: Vec::new(),
            records: 0,
        };
        for mut source in sources {
            let head = source.next().await?;
            let place = head.as_ref().map(|head| Head::of(head, merge.inputs.len()));
            merge.heads.extend(place);
            merge.inputs.push(Input { source, head });
        }
        Ok(merge)
    }

    /// Gives the inputs back. Returns how many records were read.
    ///
    /// # Errors
    /// If one cannot be closed.
    pub(crate) async fn finish(self) -> Result<u64, StoreError> {
        for input in self.inputs {
            input.source.close().await?;
        }
        Ok(self.records)
    }

    /// What is kept of the next message that is kept at all.
    ///
    /// # Errors
    /// If an input cannot be read, or the inputs do not fit each other; nothing can be read then.
    pub(crate) async fn next(&mut self) -> Result<Option<Kept<'_>>, StoreError> {
        while let Some((channel, seq)) = self.group().await? {
            self.fold(channel, seq)?;
            if !self.group.is_empty() {
                let at = self.at.as_ref().expect("set by the group");
                return Ok(Some(Kept {
                    channel,
                    links: at.links,
                    records: &self.group,
                }));
            }
        }
        Ok(None)
    }

    /// The next record as it is, with where its channel goes on: for those who fold later. Not to
    /// be mixed with [`Merge::next`].
    ///
    /// # Errors
    /// If an input cannot be read; nothing can be read then.
    pub(crate) async fn next_record(&mut self) -> Result<Option<(Record, Links)>, StoreError> {
        let record = self.pop().await?;
        let at = self.at.as_ref().map(|at| at.links);
        Ok(record.zip(at))
    }

    /// All records of the next message, in order of rev. Returns its place.
    async fn group(&mut self) -> Result<Option<(ChannelKey, u64)>, StoreError> {
        self.group.clear();
        let Some(first) = self.pop().await? else {
            return Ok(None);
        };
        let place = Head::of(&first, 0);
        let (channel, seq) = (first.channel, first.seq);
        self.group.push(first);
        let mut fold_at = FOLD_RECORDS;
        while (self.heads.peek())
            .is_some_and(|head| head.seq == seq && head.channel == place.channel)
        {
            let record = self.pop().await?;
            self.group.extend(record);
            if self.group.len() >= fold_at {
                self.fold_early();
                fold_at = FOLD_RECORDS.max(2 * self.group.len());
            }
        }
        Ok(Some((channel, seq)))
    }

    /// The next record of all inputs, in order of (channel, seq, rev, input).
    async fn pop(&mut self) -> Result<Option<Record>, StoreError> {
        let Some(first) = self.heads.peek().copied() else {
            return Ok(None);
        };
        let record = self.inputs[first.input].head.take();
        let record = record.expect("an input that is ranked has a record");
        if (self.at.as_ref()).is_none_or(|at| at.channel != record.channel) {
            self.enter(record.channel, first);
        }
        let Input { source, head } = &mut self.inputs[first.input];
        *head = match source.next_of_block()? {
            Some(next) => Some(next),
            None => source.next().await?,
        };
        // Mostly the input's next record is the next of all: then nothing moves.
        let mut place = self.heads.peek_mut().expect("just looked at");
        match head {
            Some(next) => *place = Head::of(next, first.input),
            None => drop(PeekMut::pop(place)),
        }
        self.records += 1;
        Ok(Some(record))
    }

    /// Begins a channel. Its oldest input is the one that has it at all and stands first; the
    /// heads of all that have it are its records now.
    fn enter(&mut self, channel: ChannelKey, first: Head) {
        let having = self
            .heads
            .iter()
            .filter(|head| head.channel == first.channel);
        let oldest = having.map(|head| head.input).min().unwrap_or(first.input);
        self.at = Some(At {
            channel,
            links: self.inputs[oldest].source.links(channel),
            next_seq: None,
            has_orphans: false,
        });
    }

    /// Folds what there is of a message with very many changes, so that memory is bounded by what
    /// stays. Does nothing to what will turn out to be an error.
    fn fold_early(&mut self) {
        let is_create = |record: &Record| record.kind == RecordKind::Create;
        match self.group.iter().position(is_create) {
            None => self.group = self.policy.orphans(std::mem::take(&mut self.group)),
            Some(0) if !self.group[1..].iter().any(is_create) => {
                let mut records = self.group.drain(..);
                let create = records.next().expect("just found");
                let stored = Stored::fold(create, records);
                self.group.extend(stored.records().cloned());
            }
            Some(_) => {}
        }
    }

    /// Leaves what is kept of a message's records.
    fn fold(&mut self, channel: ChannelKey, seq: u64) -> Result<(), StoreError> {
        let at = self.at.as_mut().expect("set by the group");
        let is_create = |record: &Record| record.kind == RecordKind::Create;
        let break_at = |expected| StoreError::MergeBreak {
            channel,
            expected,
            found: seq,
        };
        let Some(created) = self.group.iter().position(is_create) else {
            if let Some(expected) = at.next_seq {
                return Err(break_at(expected));
            }
            self.group = self.policy.orphans(std::mem::take(&mut self.group));
            at.has_orphans |= !self.group.is_empty();
            return Ok(());
        };
        let expected = at.next_seq.unwrap_or(seq);
        if expected != seq || self.group[created + 1..].iter().any(is_create) {
            return Err(break_at(expected));
        }
        at.next_seq = Some(seq + 1);
        if self.group.len() == 1 && self.policy.keeps_as_it_is(&self.group[0]) {
            return Ok(());
        }
        let create = self.group.remove(created);
        let changes = std::mem::take(&mut self.group);
        match self.policy.message(create, changes, at.has_orphans) {
            Some(stored) => self.group.extend(stored.records().cloned()),
            // Everything older of the channel goes too, so nothing may lead there.
            None => at.links = Links::NONE,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
