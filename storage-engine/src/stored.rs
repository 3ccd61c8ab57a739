//! A message in its present state: what it was created as, and what later changes left of that.
//!
//! It looks into no body, except that two reactions are the same if their bodies are.
//!
//! Invariants: folding in steps gives the same as folding at once; a deleted message keeps its
//! place (keys, seq) and nothing else, so that seqs stay dense; an edited one keeps no older text.

use bytes::Bytes;

use crate::key::AuthorKey;
use crate::record::{Record, RecordKind};

/// One message with the changes that still count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stored {
    /// Its creation; the body is empty once it was edited or deleted.
    pub create: Record,
    /// The newest edit; its body is the message's. Boxed, as most messages have none.
    pub edit: Option<Box<Record>>,
    /// Its deletion.
    pub delete: Option<Box<Record>>,
    /// Reactions in force, in the order in which they were added.
    pub reactions: Vec<Record>,
}

impl Stored {
    /// A message that nothing has changed.
    ///
    /// # Panics
    /// If the record is not a creation.
    #[must_use]
    pub fn new(create: Record) -> Self {
        assert_eq!(
            create.kind,
            RecordKind::Create,
            "a message begins with its creation"
        );
        Self {
            create,
            edit: None,
            delete: None,
            reactions: Vec::new(),
        }
    }

    /// A message and its changes, in order of rev.
    #[must_use]
    pub fn fold(create: Record, changes: impl IntoIterator<Item = Record>) -> Self {
        let mut stored = Self::new(create);
        changes.into_iter().for_each(|change| stored.apply(change));
        stored
    }

    /// The next change.
    ///
    /// # Panics
    /// If it is another message's.
    pub fn apply(&mut self, change: Record) {
        assert_eq!(
            change.seq, self.create.seq,
            "a change is of the message with its seq"
        );
        if self.delete.is_some() {
            return;
        }
        match change.kind {
            RecordKind::Create => unreachable!("a message is created once"),
            RecordKind::Edit => {
                self.create.body = Bytes::new();
                self.edit = Some(Box::new(change));
            }
            RecordKind::Delete => {
                self.create.body = Bytes::new();
                self.create.author = AuthorKey::ZERO;
                self.edit = None;
                self.reactions.clear();
                self.delete = Some(Box::new(change));
            }
            RecordKind::ReactionAdd => {
                if !self.reactions.iter().any(|known| is_same(known, &change)) {
                    self.reactions.push(change);
                }
            }
            RecordKind::ReactionRemove => self.reactions.retain(|known| !is_same(known, &change)),
        }
    }

    /// Whether it was deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        self.delete.is_some()
    }

    /// The place of its last change that counts, or of its creation.
    #[must_use]
    pub fn rev(&self) -> u64 {
        let changes = self.changes().map(|change| change.rev);
        changes.fold(self.create.rev, u64::max)
    }

    /// Bytes of its records, headers included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let changes = self.changes().map(Record::bytes);
        self.create.bytes() + changes.sum::<u64>()
    }

    fn changes(&self) -> impl Iterator<Item = &Record> {
        let edit = self.edit.as_deref().into_iter();
        edit.chain(self.delete.as_deref()).chain(&self.reactions)
    }

    /// What is kept of it on disk, creation first, then in order of rev.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        let mut changes: Vec<&Record> = self.changes().collect();
        changes.sort_by_key(|change| change.rev);
        std::iter::once(&self.create).chain(changes)
    }
}

fn is_same(one: &Record, other: &Record) -> bool {
    one.author == other.author && one.body == other.body
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::{ChannelKey, MessageKey, NonceKey};

    fn record(kind: RecordKind, rev: u64, author: u8, body: &[u8]) -> Record {
        Record {
            kind,
            schema: 1,
            channel: ChannelKey([1; 16]),
            message: MessageKey(u128::from(rev).to_be_bytes()),
            author: AuthorKey([author; 16]),
            seq: 1,
            rev,
            target: MessageKey::ZERO,
            nonce: NonceKey::ZERO,
            body: Bytes::copy_from_slice(body),
        }
    }

    fn change(kind: u8, rev: u64, author: u8) -> Record {
        let kind = RecordKind::from_number(u16::from(kind)).unwrap();
        let body = [author % 2];
        record(kind, rev, author, &body)
    }

    #[test]
    fn the_newest_text_stays_and_a_deletion_takes_everything() {
        let mut stored = Stored::new(record(RecordKind::Create, 1, 1, b"first"));
        stored.apply(record(RecordKind::Edit, 2, 1, b"second"));
        stored.apply(record(RecordKind::ReactionAdd, 3, 2, b"x"));
        stored.apply(record(RecordKind::Edit, 4, 1, b"third"));
        assert_eq!(stored.create.body, Bytes::new());
        assert_eq!(stored.edit.as_ref().unwrap().body, b"third".as_slice());
        assert_eq!(
            stored
                .records()
                .map(|record| record.rev)
                .collect::<Vec<_>>(),
            [1, 3, 4]
        );
        stored.apply(record(RecordKind::Delete, 5, 3, b""));
        stored.apply(record(RecordKind::Edit, 6, 1, b"too late"));
        assert!(stored.is_deleted() && stored.reactions.is_empty());
        assert_eq!((stored.rev(), stored.records().count()), (5, 2));
        assert!(stored.create.author.is_zero(), "nothing says who wrote it");
    }

    proptest! {
        #[test]
        fn folding_in_steps_is_folding_at_once(
            changes in prop::collection::vec((2_u8..6, 1_u8..4), 0..30),
            cut in 0_usize..30,
        ) {
            let create = record(RecordKind::Create, 1, 1, b"text");
            let revs = 2_u64..;
            let changes: Vec<Record> =
                changes.iter().zip(revs).map(|((kind, author), rev)| change(*kind, rev, *author)).collect();
            let once = Stored::fold(create.clone(), changes.clone());
            let cut = cut.min(changes.len());
            let first = Stored::fold(create, changes[..cut].to_vec());
            let mut kept: Vec<Record> = first.records().cloned().collect();
            let create = kept.remove(0);
            let again = Stored::fold(create, kept.into_iter().chain(changes[cut..].iter().cloned()));
            prop_assert_eq!(again, once);
        }
    }
}
