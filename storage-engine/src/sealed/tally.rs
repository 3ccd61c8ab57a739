//! What records in the order of a sealed segment add up to. The writer counts so, and whoever
//! reads a whole file counts again.
//!
//! It looks into no body.
//!
//! Invariants: a channel begins with changes of older messages, if any; from its first message on
//! seqs are dense, and a message's changes directly follow it, in order of rev.

use super::block::record_bytes;
use super::format::SealedMeta;
use super::index::ChannelRun;
use crate::key::MessageKey;
use crate::record::{Record, RecordKind};

/// The message that a record creates or changes.
pub(super) fn message_of(record: &Record) -> MessageKey {
    match record.kind {
        RecordKind::Create => record.message,
        _ => record.target,
    }
}

/// The records of one channel so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct ChannelTally {
    pub(super) first_seq: u64,
    pub(super) count: u32,
    pub(super) changes_min_seq: u64,
    pub(super) last_rev: u64,
    pub(super) bytes: u64,
    /// Seq and rev of the last record.
    last: (u64, u64),
}

impl ChannelTally {
    /// Counts the next record. `false` if it cannot be the next one.
    pub(super) fn note(&mut self, record: &Record) -> bool {
        let is_create = record.kind == RecordKind::Create;
        let is_first = self.count == 0;
        let due = self.first_seq.checked_add(self.count.into());
        let is_due = match (is_create, is_first) {
            (_, true) => record.seq > self.last.0 || !is_create,
            (true, false) => due == Some(record.seq),
            (false, false) => due == record.seq.checked_add(1),
        };
        if is_create && is_first {
            self.first_seq = record.seq;
        } else if is_first && self.changes_min_seq == 0 {
            self.changes_min_seq = record.seq;
        }
        let Some(count) = self.count.checked_add(is_create.into()) else {
            return false;
        };
        let place = (record.seq, record.rev);
        // An erased message that nothing had changed: its deletion has its creation's rev.
        let is_erased = record.kind == RecordKind::Delete && !is_first && place == self.last;
        let is_in_order = is_due && record.seq > 0 && (place > self.last || is_erased);
        self.count = count;
        self.last_rev = self.last_rev.max(record.rev);
        self.bytes = self.bytes.saturating_add(record_bytes(record));
        self.last = place;
        is_in_order
    }

    /// Seq of the last record; 0 if there is none.
    pub(super) fn last_seq(&self) -> u64 {
        self.last.0
    }

    /// Whether these are the records that a directory promises.
    pub(super) fn is_of(&self, run: &ChannelRun) -> bool {
        self.first_seq == run.first_seq
            && self.count == run.count
            && self.changes_min_seq == run.changes_min_seq
            && self.last_rev == run.last_rev
            && self.bytes == run.bytes
    }
}

impl SealedMeta {
    /// Counts a record of whatever channel.
    pub(super) fn note(&mut self, record: &Record) {
        let ms = record.message.timestamp_ms();
        self.oldest_ms = match self.records {
            0 => ms,
            _ => self.oldest_ms.min(ms),
        };
        self.newest_ms = self.newest_ms.max(ms);
        self.messages += u64::from(record.kind == RecordKind::Create);
        self.records += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::record;
    use super::*;
    use RecordKind::{Create, Delete, Edit};

    /// Whether records of these kinds, seqs and revs may follow each other.
    fn check(records: &[(RecordKind, u64, u64)]) -> Option<ChannelTally> {
        let mut tally = ChannelTally::default();
        let are_sound = records.iter().all(|(kind, seq, rev)| {
            tally.note(&record(
                crate::ChannelKey([1; 16]),
                *kind,
                *seq,
                *rev,
                Vec::new(),
            ))
        });
        are_sound.then_some(tally)
    }

    #[test]
    fn what_may_follow_what() {
        let sound = check(&[
            (Edit, 3, 9),
            (Edit, 3, 10),
            (Delete, 5, 8),
            (Create, 7, 7),
            (Create, 8, 11),
        ]);
        let sound = sound.unwrap();
        assert_eq!((sound.first_seq, sound.count), (7, 2));
        assert_eq!((sound.changes_min_seq, sound.last_rev), (3, 11));
        assert!(check(&[(Create, 1, 1), (Edit, 1, 3), (Create, 2, 2)]).is_some());
        assert!(
            check(&[(Create, 1, 1), (Delete, 1, 1), (Create, 2, 2)]).is_some(),
            "erased"
        );
    }

    #[test]
    fn what_may_not() {
        for records in [
            &[(Create, 0, 1)][..],
            &[(Edit, 0, 1)],
            &[(Create, 1, 1), (Create, 3, 2)],
            &[(Create, 2, 1), (Create, 1, 2)],
            &[(Create, 1, 1), (Create, 1, 2)],
            &[(Create, 1, 1), (Create, 1, 1)],
            &[(Create, 1, 2), (Edit, 1, 1)],
            &[(Create, 1, 2), (Edit, 1, 2)],
            &[(Create, 1, 1), (Edit, 2, 2)],
            &[(Edit, 5, 1), (Create, 5, 2)],
            &[(Edit, 5, 1), (Create, 4, 2)],
            &[(Edit, 5, 1), (Edit, 5, 1)],
        ] {
            assert_eq!(check(records), None, "{records:?}");
        }
    }
}
