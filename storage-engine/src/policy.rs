//! What a bucket that is written anew takes over: changes folded into their messages, erased
//! content left behind, channels cut at their retention.
//!
//! Pure: it is asked for one message at a time and reads nothing itself.
//!
//! Invariants: what it keeps of a channel's messages is a run up to the newest one; without
//! erasures and cuts nothing that a reader can see is lost.

use crate::compaction::Cuts;
use crate::erasure::Erasures;
use crate::record::{Record, RecordKind};
use crate::stored::Stored;

/// What to leave behind.
#[derive(Clone, Default, Debug)]
pub(crate) struct Policy {
    pub(crate) erasures: Erasures,
    pub(crate) cuts: Cuts,
}

impl Policy {
    /// What is kept of one message, from its records in order of rev. Behind changes of older
    /// messages a channel is cut as a whole or not at all: they count for as long as an older
    /// bucket holds their messages, and the way there leads through this one.
    pub(crate) fn message(
        &self,
        create: Record,
        changes: Vec<Record>,
        is_behind_orphans: bool,
    ) -> Option<Stored> {
        let is_cut = create.message.timestamp_ms() < self.cuts.of(create.channel);
        if is_cut && (!is_behind_orphans || self.cuts.is_whole(create.channel)) {
            return None;
        }
        Some(self.erasures.message(Stored::fold(create, changes)))
    }

    /// Whether a message that nothing has changed is kept as it was created: most are.
    pub(crate) fn keeps_as_it_is(&self, create: &Record) -> bool {
        let is_cut = create.message.timestamp_ms() < self.cuts.of(create.channel);
        !is_cut && !self.erasures.touches(create)
    }

    /// What is kept of the changes of one message that lies in an older bucket, in order of rev:
    /// never nothing, unless the channel is cut as a whole.
    pub(crate) fn orphans(&self, changes: Vec<Record>) -> Vec<Record> {
        let changes = changes.into_iter();
        let kept = changes.filter(|change| !self.cuts.is_whole(change.channel));
        fold_orphans(kept.map(|change| self.erasures.orphan(change)).collect())
    }
}

/// Leaves out changes that later ones undo. At least one stays, and folding what stays into the
/// message gives the same as folding all.
fn fold_orphans(changes: Vec<Record>) -> Vec<Record> {
    if let Some(at) = (changes.iter()).position(|change| change.kind == RecordKind::Delete) {
        return vec![changes[at].clone()];
    }
    let mut kept: Vec<Record> = Vec::with_capacity(changes.len());
    for change in changes {
        let repeats = |older: &Record| {
            older.kind == change.kind
                && change.kind == RecordKind::ReactionAdd
                && is_same(older, &change)
        };
        if kept.iter().any(repeats) {
            continue;
        }
        kept.retain(|older| !is_undone(older, &change));
        kept.push(change);
    }
    kept
}

/// Whether the later change leaves nothing of the older one. A removal stays when its reaction
/// is added again: there may be one in the message, at another place among its reactions.
fn is_undone(older: &Record, later: &Record) -> bool {
    match later.kind {
        RecordKind::Create | RecordKind::Delete | RecordKind::ReactionAdd => false,
        RecordKind::Edit => older.kind == RecordKind::Edit,
        RecordKind::ReactionRemove => older.kind != RecordKind::Edit && is_same(older, later),
    }
}

fn is_same(one: &Record, other: &Record) -> bool {
    one.author == other.author && one.body == other.body
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey};

    fn record(kind: u8, rev: u64, author: u8) -> Record {
        Record {
            kind: RecordKind::from_number(kind.into()).unwrap(),
            schema: 1,
            channel: ChannelKey([1; 16]),
            message: MessageKey((u128::from(rev) << 80).to_be_bytes()),
            author: AuthorKey([author; 16]),
            seq: 1,
            rev,
            target: MessageKey((1_u128 << 80).to_be_bytes()),
            nonce: NonceKey::ZERO,
            body: Bytes::from(vec![author % 2]),
        }
    }

    fn changes(drawn: &[(u8, u8)]) -> Vec<Record> {
        let numbered = drawn.iter().zip(2..);
        numbered
            .map(|((kind, author), rev)| record(*kind, rev, *author))
            .collect()
    }

    #[test]
    fn a_cut_by_time_takes_messages_and_leaves_changes_of_older_ones() {
        let policy = |from_ms| Policy {
            cuts: Cuts {
                default_ms: from_ms,
                ..Cuts::default()
            },
            ..Policy::default()
        };
        let create = || record(1, 1, 1);
        let is_kept = |from_ms, is_behind_orphans| {
            let message = policy(from_ms).message(create(), Vec::new(), is_behind_orphans);
            message.is_some()
        };
        assert!(is_kept(1, false) && is_kept(1, true));
        assert!(!is_kept(2, false) && is_kept(2, true));
        assert!(!is_kept(Cuts::WHOLE_MS, false) && !is_kept(Cuts::WHOLE_MS, true));
        assert_eq!(policy(2).orphans(changes(&[(2, 1)])).len(), 1);
        assert_eq!(policy(Cuts::WHOLE_MS).orphans(changes(&[(2, 1)])), []);
    }

    proptest! {
        #[test]
        fn what_is_kept_of_changes_does_the_same_as_all_of_them(
            before in prop::collection::vec((2_u8..6, 1_u8..4), 0..10),
            drawn in prop::collection::vec((2_u8..6, 1_u8..4), 1..20),
        ) {
            let all = changes(&[before.clone(), drawn].concat());
            let (before, after) = all.split_at(before.len());
            let kept = Policy::default().orphans(after.to_vec());
            prop_assert!(!kept.is_empty() && kept.is_sorted_by(|one, other| one.rev < other.rev));
            let folded = before.iter().chain(&kept).cloned();
            prop_assert_eq!(
                Stored::fold(record(1, 1, 1), folded),
                Stored::fold(record(1, 1, 1), all.iter().cloned())
            );
        }
    }
}
