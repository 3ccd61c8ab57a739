//! The content of a block, uncompressed: groups of records, a group for each channel in it. A
//! record's numbers are steps from the record before it, and its checksum is the block's.
//!
//! It neither compresses nor checks checksums, and copies no body.
//!
//! Invariants: records are in order of (channel, seq, rev); nonces are not kept; whatever the
//! bytes, reading ends and nothing panics.

use std::ops::RangeInclusive;

use bytes::Bytes;
use zerocopy::{FromBytes, IntoBytes};

use super::format::{SealedGroup, SealedRecordHeader};
use crate::format::BadRecord;
use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey};
use crate::record::{Record, RecordKind};

const GROUP_BYTES: usize = size_of::<SealedGroup>();
const HEADER_BYTES: usize = size_of::<SealedRecordHeader>();
const TARGET_BYTES: usize = size_of::<MessageKey>();

/// A block that is being filled.
#[derive(Default)]
pub(crate) struct BlockBuilder {
    bytes: Vec<u8>,
    group: Option<Group>,
}

/// The group that the next record may go to.
struct Group {
    start: usize,
    channel: ChannelKey,
    seq: u64,
    rev: u64,
}

impl BlockBuilder {
    /// Its content so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Adds the next record.
    pub(crate) fn push(&mut self, record: &Record) {
        let (seq_step, rev_step) = self.steps(record).unwrap_or_else(|| {
            self.begin_group(record);
            (0, 0)
        });
        let target_bytes = target_bytes(record);
        let header = SealedRecordHeader {
            bytes: number(HEADER_BYTES + target_bytes + record.body.len()).into(),
            schema: record.schema.into(),
            kind: u8::try_from(record.kind.number()).expect("kinds are few"),
            has_target: (target_bytes > 0).into(),
            seq_step: seq_step.into(),
            rev_step: rev_step.into(),
            author: record.author.0,
            message: record.message.0,
        };
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes
            .extend_from_slice(&record.target.0[..target_bytes]);
        self.bytes.extend_from_slice(&record.body);
        self.close_record(record);
    }

    /// Empties it, for the next block.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.group = None;
    }

    /// How far the record is from the one before it, if it can be of the same group.
    fn steps(&self, record: &Record) -> Option<(u32, i32)> {
        let group = self
            .group
            .as_ref()
            .filter(|group| group.channel == record.channel)?;
        let seq_step = u32::try_from(record.seq.checked_sub(group.seq)?).ok()?;
        let rev_step = i32::try_from(record.rev.checked_signed_diff(group.rev)?).ok()?;
        Some((seq_step, rev_step))
    }

    fn begin_group(&mut self, record: &Record) {
        self.group = Some(Group {
            start: self.bytes.len(),
            channel: record.channel,
            seq: record.seq,
            rev: record.rev,
        });
        let group = SealedGroup {
            bytes: 0.into(),
            channel: record.channel.0,
            seq: record.seq.into(),
            rev: record.rev.into(),
        };
        self.bytes.extend_from_slice(group.as_bytes());
    }

    fn close_record(&mut self, record: &Record) {
        let group = self.group.as_mut().expect("a record is in a group");
        (group.seq, group.rev) = (record.seq, record.rev);
        let bytes = number(self.bytes.len() - group.start);
        self.bytes[group.start..group.start + 4].copy_from_slice(&bytes.to_le_bytes());
    }
}

/// Bytes that a record takes in a block, not counting its group.
pub(super) fn record_bytes(record: &Record) -> u64 {
    (HEADER_BYTES + target_bytes(record) + record.body.len()) as u64
}

fn target_bytes(record: &Record) -> usize {
    if record.target.is_zero() {
        0
    } else {
        TARGET_BYTES
    }
}

fn number(bytes: usize) -> u32 {
    u32::try_from(bytes).expect("a block is at most 4 MiB")
}

/// The records of an uncompressed block, in order. Bodies are slices of the block.
#[derive(Clone, Debug)]
pub(crate) struct BlockRecords {
    block: Bytes,
    at: usize,
    group_end: usize,
    channel: ChannelKey,
    seq: u64,
    rev: u64,
}

/// A record's numbers and extent, its header and body not yet looked at.
struct Outline {
    end: usize,
    seq: u64,
    rev: u64,
}

impl BlockRecords {
    /// All records of a block.
    pub(crate) fn new(block: Bytes) -> Self {
        Self {
            block,
            at: 0,
            group_end: 0,
            channel: ChannelKey::ZERO,
            seq: 0,
            rev: 0,
        }
    }

    /// The records of one channel with these seqs.
    pub(crate) fn within(
        block: Bytes,
        channel: ChannelKey,
        seqs: RangeInclusive<u64>,
    ) -> impl Iterator<Item = Result<Record, BadRecord>> {
        // It may have lain in memory for a while: its lines are waited for together, not one by one.
        let lines = block.iter().step_by(64);
        std::hint::black_box(lines.fold(0, |touched, byte| touched ^ byte));
        let mut records = Self::new(block);
        let sought = records.seek(channel, *seqs.start());
        let is_wanted = move |record: &Result<Record, BadRecord>| match record {
            Ok(record) => record.channel == channel && record.seq <= *seqs.end(),
            Err(_) => true,
        };
        sought
            .err()
            .map(Err)
            .into_iter()
            .chain(records)
            .take_while(is_wanted)
    }

    /// Skips what is before a channel's seq, to be called before anything is taken. Other
    /// channels cost one step each.
    pub(crate) fn seek(&mut self, channel: ChannelKey, seq: u64) -> Result<(), BadRecord> {
        while self.enter_group()? {
            if self.channel > channel {
                break;
            }
            if self.channel < channel {
                self.at = self.group_end;
                continue;
            }
            let outline = self.outline()?;
            if outline.seq >= seq {
                break;
            }
            (self.at, self.seq, self.rev) = (outline.end, outline.seq, outline.rev);
        }
        Ok(())
    }

    /// Makes sure that a record begins here. `false` at the end of the block.
    fn enter_group(&mut self) -> Result<bool, BadRecord> {
        while self.at == self.group_end {
            let rest = &self.block[self.at..];
            if rest.is_empty() {
                return Ok(false);
            }
            let (group, _) = SealedGroup::ref_from_prefix(rest).map_err(|_| BadRecord::Damaged)?;
            let bytes = group.bytes.get() as usize;
            if bytes <= GROUP_BYTES || bytes > rest.len() {
                return Err(BadRecord::Damaged);
            }
            self.channel = ChannelKey(group.channel);
            (self.seq, self.rev) = (group.seq.get(), group.rev.get());
            self.group_end = self.at + bytes;
            self.at += GROUP_BYTES;
        }
        Ok(true)
    }

    fn header(&self) -> Result<&SealedRecordHeader, BadRecord> {
        let (header, _) = SealedRecordHeader::ref_from_prefix(&self.block[self.at..self.group_end])
            .map_err(|_| BadRecord::Damaged)?;
        Ok(header)
    }

    fn outline(&self) -> Result<Outline, BadRecord> {
        let header = self.header()?;
        let bytes = header.bytes.get() as usize;
        let target_bytes = match header.has_target {
            0 => 0,
            1 => TARGET_BYTES,
            _ => return Err(BadRecord::Damaged),
        };
        if bytes < HEADER_BYTES + target_bytes || bytes > self.group_end - self.at {
            return Err(BadRecord::Damaged);
        }
        let seq = self.seq.checked_add(header.seq_step.get().into());
        let rev = self.rev.checked_add_signed(header.rev_step.get().into());
        Ok(Outline {
            end: self.at + bytes,
            seq: seq.ok_or(BadRecord::Damaged)?,
            rev: rev.ok_or(BadRecord::Damaged)?,
        })
    }

    fn take(&mut self) -> Result<Option<Record>, BadRecord> {
        if !self.enter_group()? {
            return Ok(None);
        }
        let Outline { end, seq, rev } = self.outline()?;
        let header = self.header()?;
        let kind = u16::from(header.kind);
        let mut target = MessageKey::ZERO;
        let mut body_at = self.at + HEADER_BYTES;
        if header.has_target != 0 {
            target
                .0
                .copy_from_slice(&self.block[body_at..body_at + TARGET_BYTES]);
            body_at += TARGET_BYTES;
        }
        let record = Record {
            kind: RecordKind::from_number(kind).ok_or(BadRecord::Unknown(kind))?,
            schema: header.schema.get(),
            channel: self.channel,
            message: MessageKey(header.message),
            author: AuthorKey(header.author),
            seq,
            rev,
            target,
            nonce: NonceKey::ZERO,
            body: self.block.slice(body_at..end),
        };
        (self.at, self.seq, self.rev) = (end, seq, rev);
        Ok(Some(record))
    }

    /// Behind a damaged record nothing can be read.
    fn end(&mut self) {
        (self.at, self.group_end) = (self.block.len(), self.block.len());
    }
}

impl Iterator for BlockRecords {
    type Item = Result<Record, BadRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        let taken = self.take();
        if taken.is_err() {
            self.end();
        }
        taken.transpose()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(channel: u8, seq: u64, rev: u64, body_bytes: usize) -> Record {
        let is_answer = rev.is_multiple_of(3);
        Record {
            kind: RecordKind::Create,
            schema: 7,
            channel: ChannelKey([channel; 16]),
            message: MessageKey(u128::from(rev).to_be_bytes()),
            author: AuthorKey([9; 16]),
            seq,
            rev,
            target: if is_answer {
                MessageKey([4; 16])
            } else {
                MessageKey::ZERO
            },
            nonce: NonceKey::ZERO,
            body: Bytes::from(vec![1; body_bytes]),
        }
    }

    fn block(records: &[Record]) -> Bytes {
        let mut builder = BlockBuilder::default();
        records.iter().for_each(|record| builder.push(record));
        Bytes::copy_from_slice(builder.bytes())
    }

    /// Three channels; steps too far for one group; a rev that goes back.
    fn records() -> Vec<Record> {
        vec![
            record(1, 5, 3, 0),
            record(1, 6, 1 << 40, 10),
            record(1, 6, 9, 5),
            record(1, u64::MAX, u64::MAX, 5),
            record(2, 1, 1, 100),
            record(3, 1, 4, 1),
            record(3, 2, 2, 1),
            record(3, 3, 3, 1),
        ]
    }

    #[test]
    fn what_was_put_in_comes_out() {
        let read: Result<Vec<Record>, BadRecord> = BlockRecords::new(block(&records())).collect();
        assert_eq!(read.unwrap(), records());
        assert!(BlockRecords::new(Bytes::new()).next().is_none());
    }

    #[test]
    fn a_range_is_what_a_filter_would_leave() {
        let block = block(&records());
        for channel in 0..5 {
            for (first, last) in [(0, u64::MAX), (1, 1), (2, 3), (5, 6), (7, 7), (6, u64::MAX)] {
                let channel = ChannelKey([channel; 16]);
                let is_in = |record: &Record| {
                    record.channel == channel && (first..=last).contains(&record.seq)
                };
                let expected: Vec<Record> = records().into_iter().filter(is_in).collect();
                let found = BlockRecords::within(block.clone(), channel, first..=last);
                assert_eq!(found.map(Result::unwrap).collect::<Vec<_>>(), expected);
            }
        }
    }

    #[test]
    fn a_kind_of_a_later_version_is_named() {
        let mut bytes = block(&records()).to_vec();
        bytes[GROUP_BYTES + 6] = 77;
        let mut records = BlockRecords::new(bytes.into());
        assert_eq!(records.next(), Some(Err(BadRecord::Unknown(77))));
        assert_eq!(records.next(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            flips in prop::collection::vec((0_usize..1000, any::<u8>()), 0..4),
        ) {
            let mut damaged = block(&records()).to_vec();
            for (at, byte) in flips {
                let at = at % damaged.len();
                damaged[at] = byte;
            }
            for bytes in [bytes, damaged] {
                let bytes = Bytes::from(bytes);
                prop_assert!(BlockRecords::new(bytes.clone()).count() <= bytes.len());
                let mut sought = BlockRecords::new(bytes);
                if sought.seek(ChannelKey([2; 16]), 1).is_ok() {
                    sought.for_each(drop);
                }
            }
        }
    }
}
