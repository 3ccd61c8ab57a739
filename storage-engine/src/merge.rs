//! Several sorted inputs become one: by channel, seq and rev, each message with all its changes
//! at once.
//!
//! It knows nothing of days and files, and writes nothing.
//!
//! Invariants: no message is lost, doubled or moved: what would be is an error; changes of
//! messages that are in no input come before the channel's messages; memory is one record of
//! each input, and one message with its changes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::key::ChannelKey;
use crate::policy::Policy;
use crate::record::{Record, RecordKind};
use crate::sealed::{Samples, SealedStream};
use crate::segment::Day;
use crate::sorted::SortedSegments;

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
    Bucket(SealedStream<D>),
}

impl<D: Disk> Source<D> {
    async fn next(&mut self) -> Result<Option<Record>, StoreError> {
        match self {
            Self::Segments(sorted) => Ok(sorted.next()),
            Self::Bucket(stream) => stream.next().await,
        }
    }

    /// The links of the channel that the record given last is of.
    fn links(&self, channel: ChannelKey) -> Links {
        match self {
            Self::Segments(sorted) => sorted.links(channel),
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
        match self {
            Self::Segments(sorted) => sorted.show(samples),
            Self::Bucket(stream) => {
                let file = Arc::clone(stream.sealed());
                let mut stream = SealedStream::open(disk, file).await?;
                let mut bytes = 0;
                while bytes < bytes_max {
                    let Some(record) = stream.next().await? else {
                        break;
                    };
                    bytes += record.bytes();
                    samples.show(&record);
                }
                stream.close().await?;
            }
        }
        Ok(())
    }

    async fn close(self) -> Result<(), StoreError> {
        match self {
            Self::Segments(_) => Ok(()),
            Self::Bucket(stream) => stream.close().await,
        }
    }
}

/// What is kept of one message, or of the changes of one that lies elsewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub(crate) channel: ChannelKey,
    /// The same for all of a channel.
    pub(crate) links: Links,
    /// At least one, in order of rev.
    pub(crate) records: Vec<Record>,
}

/// A merge under way.
pub(crate) struct Merge<D: Disk> {
    inputs: Vec<Input<D>>,
    /// The next message of each input that has one left.
    heads: BinaryHeap<Reverse<(ChannelKey, u64, usize)>>,
    policy: Policy,
    at: Option<At>,
    records: u64,
}

struct Input<D: Disk> {
    source: Source<D>,
    head: Option<Record>,
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
            records: 0,
        };
        for mut source in sources {
            let head = source.next().await?;
            merge.inputs.push(Input { source, head });
            merge.rank(merge.inputs.len() - 1);
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
    /// If an input cannot be read, or the inputs do not fit each other.
    pub(crate) async fn next(&mut self) -> Result<Option<Kept>, StoreError> {
        while let Some((channel, records)) = self.group().await? {
            let kept = self.fold(channel, records)?;
            if !kept.is_empty() {
                let at = self.at.as_ref().expect("set by the group");
                return Ok(Some(Kept {
                    channel,
                    links: at.links,
                    records: kept,
                }));
            }
        }
        Ok(None)
    }

    /// All records of the next message, in order of rev.
    async fn group(&mut self) -> Result<Option<(ChannelKey, Vec<Record>)>, StoreError> {
        let Some(Reverse((channel, seq, oldest))) = self.heads.peek().copied() else {
            return Ok(None);
        };
        if self.at.as_ref().is_none_or(|at| at.channel != channel) {
            self.enter(channel, oldest);
        }
        let mut records = Vec::new();
        while let Some(Reverse(head)) = self.heads.peek().copied() {
            if (head.0, head.1) != (channel, seq) {
                break;
            }
            self.heads.pop();
            self.take(head.2, channel, seq, &mut records).await?;
        }
        self.records += records.len() as u64;
        records.sort_by_key(|record| record.rev);
        Ok(Some((channel, records)))
    }

    /// Begins a channel. Its oldest input is the one that has it at all and stands first; the
    /// heads of all that have it are its records now.
    fn enter(&mut self, channel: ChannelKey, first: usize) {
        let has_it = |head: &Reverse<(ChannelKey, u64, usize)>| head.0.0 == channel;
        let having = self.heads.iter().filter(|head| has_it(head));
        let oldest = having.map(|head| head.0.2).min().unwrap_or(first);
        self.at = Some(At {
            channel,
            links: self.inputs[oldest].source.links(channel),
            next_seq: None,
            has_orphans: false,
        });
    }

    /// Takes one input's records of a message.
    async fn take(
        &mut self,
        input: usize,
        channel: ChannelKey,
        seq: u64,
        records: &mut Vec<Record>,
    ) -> Result<(), StoreError> {
        let Input { source, head } = &mut self.inputs[input];
        while let Some(record) = head.take_if(|head| (head.channel, head.seq) == (channel, seq)) {
            records.push(record);
            *head = source.next().await?;
        }
        self.rank(input);
        Ok(())
    }

    fn rank(&mut self, input: usize) {
        if let Some(head) = &self.inputs[input].head {
            self.heads.push(Reverse((head.channel, head.seq, input)));
        }
    }

    /// What is kept of a message's records.
    fn fold(
        &mut self,
        channel: ChannelKey,
        mut records: Vec<Record>,
    ) -> Result<Vec<Record>, StoreError> {
        let at = self.at.as_mut().expect("set by the group");
        let seq = records[0].seq;
        let created = records
            .iter()
            .position(|record| record.kind == RecordKind::Create);
        let Some(created) = created else {
            return match at.next_seq {
                None => {
                    let kept = self.policy.orphans(records);
                    at.has_orphans |= !kept.is_empty();
                    Ok(kept)
                }
                Some(expected) => Err(StoreError::MergeBreak {
                    channel,
                    expected,
                    found: seq,
                }),
            };
        };
        let create = records.remove(created);
        let is_twice = records
            .iter()
            .any(|record| record.kind == RecordKind::Create);
        let expected = at.next_seq.unwrap_or(seq);
        if is_twice || expected != seq {
            return Err(StoreError::MergeBreak {
                channel,
                expected,
                found: seq,
            });
        }
        at.next_seq = Some(seq + 1);
        match self.policy.message(create, records, at.has_orphans) {
            Some(stored) => Ok(stored.records().cloned().collect()),
            None => {
                // Everything older of the channel goes too, so nothing may lead there.
                at.links = Links::NONE;
                Ok(Vec::new())
            }
        }
    }
}
