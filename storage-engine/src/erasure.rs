//! Hard deletion: what is asked to be erased, and what is left of a record that is.
//!
//! It finds no bucket and writes nothing. It does not look into bodies.
//!
//! Invariants: an erased message keeps its place (channel, keys, seq, rev) and loses everything
//! else; erasing twice is erasing once; no record disappears, so that a bucket holds the same
//! channels before and after.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey};
use crate::record::{Record, RecordKind};
use crate::segment::Day;
use crate::stored::Stored;

/// What is to be erased.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Erasure {
    /// One message: its text, its author, what it answered, its reactions.
    Message {
        /// Its channel.
        channel: ChannelKey,
        /// Its key.
        message: MessageKey,
        /// Its place among the channel's messages.
        seq: u64,
    },
    /// Every message, edit and reaction of one author, up to when it was asked for. The author's
    /// deletions of messages stay, without a name.
    Author(AuthorKey),
}

/// An erasure that was recorded and is not yet done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    /// Its number, from 1, in the order of asking.
    pub(crate) erasure: u64,
    /// When, in milliseconds since 1970.
    pub(crate) asked_ms: u64,
    /// What.
    pub(crate) of: Erasure,
}

/// An erasure that is still under way, as [`crate::Maintenance::pending`] shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PendingErasure {
    /// Its number, from 1, in the order of asking.
    pub number: u64,
    /// What is to be erased.
    pub of: Erasure,
    /// When it was asked for, in milliseconds since 1970.
    pub asked_ms: u64,
    /// When sealed buckets must be free of it, in milliseconds since 1970.
    pub due_ms: u64,
    /// How many sealed buckets have not been looked at yet.
    pub buckets_left: usize,
    /// The day until whose sealing records that it is of may lie in unsealed segments.
    pub unsealed_until: Option<Day>,
}

/// Several erasures, to be asked for each record.
#[derive(Clone, Default, Debug)]
pub(crate) struct Erasures {
    messages: HashSet<(ChannelKey, u64)>,
    /// With the time of asking.
    authors: HashMap<AuthorKey, u64>,
}

impl Erasures {
    pub(crate) fn of<'a>(asked: impl IntoIterator<Item = &'a Asked>) -> Self {
        let mut erasures = Self::default();
        for asked in asked {
            match asked.of {
                Erasure::Message { channel, seq, .. } => {
                    erasures.messages.insert((channel, seq));
                }
                Erasure::Author(author) => {
                    let until_ms = erasures.authors.entry(author).or_default();
                    *until_ms = asked.asked_ms.max(*until_ms);
                }
            }
        }
        erasures
    }

    /// Whether any of them is of an author, whose records may lie anywhere.
    pub(crate) fn has_authors(&self) -> bool {
        !self.authors.is_empty()
    }

    /// The single messages.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (ChannelKey, u64)> + '_ {
        self.messages.iter().copied()
    }

    /// Whether something of this record has to go.
    pub(crate) fn touches(&self, record: &Record) -> bool {
        self.is_message(record) || self.is_author(record)
    }

    fn is_message(&self, record: &Record) -> bool {
        self.messages.contains(&(record.channel, record.seq))
    }

    fn is_author(&self, record: &Record) -> bool {
        let until_ms = self.authors.get(&record.author);
        until_ms.is_some_and(|until_ms| record.message.timestamp_ms() <= *until_ms)
    }

    /// What is left of a message.
    pub(crate) fn message(&self, mut stored: Stored) -> Stored {
        let is_text_of_author = self.is_author(&stored.create)
            || (stored.edit.as_ref()).is_some_and(|edit| self.is_author(edit));
        if self.is_message(&stored.create) || is_text_of_author {
            return tombstone(stored);
        }
        stored
            .reactions
            .retain(|reaction| !self.is_author(reaction));
        if let Some(delete) = stored
            .delete
            .as_mut()
            .filter(|delete| self.is_author(delete))
        {
            delete.author = AuthorKey::ZERO;
        }
        stored
    }

    /// What is left of a change whose message lies elsewhere. An edit becomes the deletion of
    /// its message, and a reaction becomes the end of one that nobody made.
    pub(crate) fn orphan(&self, change: Record) -> Record {
        if !self.touches(&change) {
            return change;
        }
        let kind = match change.kind {
            RecordKind::Create => unreachable!("a change is no creation"),
            RecordKind::Edit | RecordKind::Delete => RecordKind::Delete,
            RecordKind::ReactionAdd | RecordKind::ReactionRemove => RecordKind::ReactionRemove,
        };
        Record {
            kind,
            ..blank(change)
        }
    }
}

fn blank(record: Record) -> Record {
    Record {
        schema: 0,
        author: AuthorKey::ZERO,
        nonce: NonceKey::ZERO,
        body: Bytes::new(),
        ..record
    }
}

/// A message of which only the place is left. Its deletion stands in the place of the last
/// change there was, or beside the creation if there was none.
fn tombstone(stored: Stored) -> Stored {
    let rev = stored.rev();
    let create = Record {
        target: MessageKey::ZERO,
        ..blank(stored.create)
    };
    let message = stored.delete.map_or(create.message, |old| old.message);
    let delete = Record {
        kind: RecordKind::Delete,
        message,
        target: create.message,
        rev,
        ..create.clone()
    };
    Stored {
        delete: Some(Box::new(delete)),
        ..Stored::new(create)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNEL: ChannelKey = ChannelKey([1; 16]);
    const GONE: AuthorKey = AuthorKey([9; 16]);
    const OTHER: AuthorKey = AuthorKey([8; 16]);

    fn key(ms: u64) -> MessageKey {
        MessageKey((u128::from(ms) << 80).to_be_bytes())
    }

    fn record(kind: RecordKind, rev: u64, author: AuthorKey) -> Record {
        Record {
            kind,
            schema: 1,
            channel: CHANNEL,
            message: key(rev),
            author,
            seq: 1,
            rev,
            target: key(1),
            nonce: NonceKey([5; 16]),
            body: Bytes::from_static(b"text"),
        }
    }

    fn author_until(asked_ms: u64) -> Erasures {
        let of = Erasure::Author(GONE);
        Erasures::of(&[Asked {
            erasure: 1,
            asked_ms,
            of,
        }])
    }

    fn has_trace(record: &Record) -> bool {
        record.author == GONE || !record.body.is_empty()
    }

    #[test]
    fn a_message_of_the_author_becomes_a_tombstone_and_stays_one() {
        let create = record(RecordKind::Create, 1, GONE);
        let like = record(RecordKind::ReactionAdd, 2, OTHER);
        for changes in [vec![], vec![like]] {
            let stored = Stored::fold(create.clone(), changes);
            let erased = author_until(10).message(stored.clone());
            assert!(erased.is_deleted() && !erased.records().any(has_trace));
            assert!(erased.create.target.is_zero() && erased.create.nonce.is_zero());
            assert_eq!((erased.rev(), erased.create.seq), (stored.rev(), 1));
            assert_eq!(author_until(10).message(erased.clone()), erased);
            assert_eq!(author_until(0).message(stored.clone()), stored);
        }
    }

    #[test]
    fn one_message_is_erased_whoever_wrote_it() {
        let message = |seq| Erasure::Message {
            channel: CHANNEL,
            message: key(1),
            seq,
        };
        let erasures = |seq| {
            Erasures::of(&[Asked {
                erasure: 1,
                asked_ms: 0,
                of: message(seq),
            }])
        };
        let stored = Stored::new(record(RecordKind::Create, 1, OTHER));
        assert!(erasures(1).message(stored.clone()).is_deleted());
        assert_eq!(erasures(2).message(stored.clone()), stored);
    }

    #[test]
    fn what_the_author_did_to_messages_of_others_goes_without_them() {
        let create = record(RecordKind::Create, 1, OTHER);
        let mine = record(RecordKind::ReactionAdd, 2, GONE);
        let theirs = record(RecordKind::ReactionAdd, 3, OTHER);
        let stored = Stored::fold(create.clone(), [mine, theirs.clone()]);
        let left = author_until(10).message(stored);
        assert_eq!((left.reactions, left.delete), (vec![theirs], None));
        let stored = Stored::fold(create, [record(RecordKind::Delete, 2, GONE)]);
        let left = author_until(10).message(stored);
        assert!(left.is_deleted() && left.records().all(|one| one.author.is_zero()));
    }

    #[test]
    fn changes_of_messages_elsewhere_keep_their_place_only() {
        let left = |kind| author_until(10).orphan(record(kind, 4, GONE));
        assert_eq!(left(RecordKind::Edit).kind, RecordKind::Delete);
        assert_eq!(left(RecordKind::Delete).kind, RecordKind::Delete);
        let like = left(RecordKind::ReactionAdd);
        assert_eq!(like.kind, RecordKind::ReactionRemove);
        assert!(!has_trace(&like) && like.target == key(1) && like.rev == 4);
        let kept = record(RecordKind::Edit, 4, OTHER);
        assert_eq!(author_until(10).orphan(kept.clone()), kept);
    }
}
