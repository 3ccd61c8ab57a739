//! Which messages a page holds: the question, and the answer while it is being put together.
//!
//! Pure: it is handed messages in order of seq and says whether it needs more, and on which side.
//!
//! Invariants: a page is what lies nearest to its boundary on either side; it is in order of seq;
//! deleted messages do not count unless they were asked for; it never exceeds its bytes, except
//! that a page of one message may.

use std::collections::VecDeque;

use crate::index::Query;
use crate::key::{ChannelKey, MessageKey};
use crate::stored::Stored;

/// A page of one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageQuery {
    /// The channel.
    pub channel: ChannelKey,
    /// Which messages of it.
    pub query: Query,
    /// At most so many.
    pub limit: usize,
    /// Nothing newer than the message with this seq. Changes of older messages do show.
    pub upto_seq: u64,
    /// Whether deleted messages are shown, as what is left of them. Otherwise they are left out
    /// and do not count.
    pub with_deleted: bool,
    /// At most so many bytes of records, headers included; but one message always.
    pub bytes_max: usize,
}

/// A line between two messages of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Boundary {
    /// Before the message with this seq.
    Seq(u64),
    /// Before the first message whose key is this one or above.
    AtKey(MessageKey),
    /// Before the first message whose key is above this one.
    BehindKey(MessageKey),
}

impl Boundary {
    /// Whether a message with this key and seq lies on the older side.
    pub(crate) fn is_behind(self, message: MessageKey, seq: u64) -> bool {
        match self {
            Self::Seq(boundary) => seq < boundary,
            Self::AtKey(boundary) => message < boundary,
            Self::BehindKey(boundary) => message <= boundary,
        }
    }
}

/// A page as so many messages on either side of a boundary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) boundary: Boundary,
    pub(crate) before: usize,
    pub(crate) after: usize,
}

impl PageQuery {
    pub(crate) fn asked(&self) -> Asked {
        let (boundary, before) = match self.query {
            Query::Newest => (Boundary::Seq(self.upto_seq.saturating_add(1)), self.limit),
            Query::Before(key) => (Boundary::AtKey(key), self.limit),
            Query::After(key) => (Boundary::BehindKey(key), 0),
            Query::Around(key) => (Boundary::AtKey(key), self.limit / 2),
            Query::AfterSeq(seq) => (Boundary::Seq(seq.saturating_add(1)), 0),
        };
        let after = match self.query {
            Query::Newest | Query::Before(_) => 0,
            Query::After(_) | Query::Around(_) | Query::AfterSeq(_) => self.limit - before,
        };
        Asked {
            boundary,
            before,
            after,
        }
    }
}

/// A page that is being put together.
#[derive(Debug)]
pub(crate) struct Page {
    asked: Asked,
    with_deleted: bool,
    bytes_max: usize,
    before: Side,
    after: Side,
    /// Deleted messages that were passed over.
    passed: Vec<Stored>,
}

/// What was found on one side of the boundary, nearest first.
#[derive(Default, Debug)]
struct Side {
    messages: VecDeque<Stored>,
    bytes: usize,
}

impl Side {
    fn push(&mut self, message: Stored) {
        self.bytes += bytes_of(&message);
        self.messages.push_back(message);
    }

    /// How many more are wanted; none once the page's bytes are used up.
    fn missing(&self, wanted: usize, bytes_max: usize) -> usize {
        if self.bytes >= bytes_max && !self.messages.is_empty() {
            return 0;
        }
        wanted - self.messages.len()
    }
}

/// What a message counts for in a page.
pub(crate) fn bytes_of(message: &Stored) -> usize {
    usize::try_from(message.bytes()).unwrap_or(usize::MAX)
}

impl Page {
    pub(crate) fn new(query: &PageQuery) -> Self {
        Self {
            asked: query.asked(),
            with_deleted: query.with_deleted,
            bytes_max: query.bytes_max,
            before: Side::default(),
            after: Side::default(),
            passed: Vec::new(),
        }
    }

    /// How many more messages it needs on the older side.
    pub(crate) fn missing_before(&self) -> usize {
        self.before.missing(self.asked.before, self.bytes_max)
    }

    /// How many more messages it needs on the newer side.
    pub(crate) fn missing_after(&self) -> usize {
        self.after.missing(self.asked.after, self.bytes_max)
    }

    /// Takes what it needs of these messages, which are in order of seq and lie next to those
    /// that it was given before: on their older side, on their newer side, or, as the first ones,
    /// around the boundary.
    pub(crate) fn take(&mut self, messages: Vec<Stored>) {
        let boundary = self.asked.boundary;
        let split = messages.partition_point(|message| {
            boundary.is_behind(message.create.message, message.create.seq)
        });
        let mut older = messages;
        let newer = older.split_off(split);
        older
            .into_iter()
            .rev()
            .for_each(|message| self.add_before(message));
        newer
            .into_iter()
            .for_each(|message| self.add_after(message));
    }

    /// Takes the next message on the older side, if it needs it.
    pub(crate) fn add_before(&mut self, message: Stored) {
        if self.missing_before() == 0 {
            return;
        }
        match self.counts(&message) {
            true => self.before.push(message),
            false => self.passed.push(message),
        }
    }

    /// Takes the next message on the newer side, if it needs it.
    pub(crate) fn add_after(&mut self, message: Stored) {
        if self.missing_after() == 0 {
            return;
        }
        match self.counts(&message) {
            true => self.after.push(message),
            false => self.passed.push(message),
        }
    }

    fn counts(&self, message: &Stored) -> bool {
        self.with_deleted || !message.is_deleted()
    }

    /// Deleted messages that it passed over, in no particular order.
    pub(crate) fn take_passed(&mut self) -> Vec<Stored> {
        std::mem::take(&mut self.passed)
    }

    /// The page, oldest message first. Of what exceeds its bytes, the messages farthest from the
    /// boundary are left out; those of both sides by turns, the newer side first.
    pub(crate) fn finish(self) -> Vec<Stored> {
        let Self {
            bytes_max,
            mut before,
            mut after,
            ..
        } = self;
        let mut page = VecDeque::with_capacity(before.messages.len() + after.messages.len());
        let mut bytes = 0;
        loop {
            let newer = after.messages.pop_front();
            let older = before.messages.pop_front();
            if newer.is_none() && older.is_none() {
                break;
            }
            if let Some(message) = newer {
                bytes += bytes_of(&message);
                if bytes > bytes_max && !page.is_empty() {
                    break;
                }
                page.push_back(message);
            }
            if let Some(message) = older {
                bytes += bytes_of(&message);
                if bytes > bytes_max && !page.is_empty() {
                    break;
                }
                page.push_front(message);
            }
        }
        page.into()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::key::{AuthorKey, NonceKey};
    use crate::record::{Record, RecordKind};

    fn key(number: u64) -> MessageKey {
        MessageKey((u128::from(number) << 64).to_be_bytes())
    }

    fn message(seq: u64, is_deleted: bool) -> Stored {
        let record = |kind, rev| Record {
            kind,
            schema: 1,
            channel: ChannelKey([1; 16]),
            message: key(seq * 10),
            author: AuthorKey([1; 16]),
            seq,
            rev,
            target: MessageKey::ZERO,
            nonce: NonceKey::ZERO,
            body: Bytes::from_static(b"text"),
        };
        let delete = is_deleted.then(|| record(RecordKind::Delete, 100 + seq));
        Stored::fold(record(RecordKind::Create, seq), delete)
    }

    fn query(query: Query, limit: usize) -> PageQuery {
        PageQuery {
            channel: ChannelKey([1; 16]),
            query,
            limit,
            upto_seq: 6,
            with_deleted: false,
            bytes_max: 1 << 20,
        }
    }

    /// The page of six messages, all of them given at once.
    fn page(asked: &PageQuery, deleted: &[u64]) -> Vec<u64> {
        let all = (1..=6).map(|seq| message(seq, deleted.contains(&seq)));
        let mut page = Page::new(asked);
        page.take(all.collect());
        page.finish()
            .iter()
            .map(|message| message.create.seq)
            .collect()
    }

    #[test]
    fn queries_are_sides_of_a_boundary() {
        assert_eq!(page(&query(Query::Newest, 2), &[]), [5, 6]);
        assert_eq!(page(&query(Query::Before(key(30)), 9), &[]), [1, 2]);
        assert_eq!(page(&query(Query::After(key(30)), 2), &[]), [4, 5]);
        assert_eq!(page(&query(Query::AfterSeq(4), 9), &[]), [5, 6]);
        assert_eq!(page(&query(Query::Around(key(30)), 3), &[]), [2, 3, 4]);
        assert_eq!(page(&query(Query::Around(key(30)), 4), &[]), [1, 2, 3, 4]);
        assert_eq!(page(&query(Query::Around(key(30)), 1), &[]), [3]);
        assert_eq!(page(&query(Query::Around(key(35)), 2), &[]), [3, 4]);
        assert_eq!(page(&query(Query::Around(key(99)), 4), &[]), [5, 6]);
        assert_eq!(page(&query(Query::Around(key(1)), 4), &[]), [1, 2]);
        assert_eq!(page(&query(Query::Newest, 0), &[]), [0; 0]);
    }

    #[test]
    fn deleted_messages_do_not_count() {
        assert_eq!(page(&query(Query::Newest, 2), &[6, 4]), [3, 5]);
        assert_eq!(page(&query(Query::After(key(10)), 2), &[2, 3]), [4, 5]);
        let all = PageQuery {
            with_deleted: true,
            ..query(Query::Newest, 2)
        };
        assert_eq!(page(&all, &[6, 4]), [5, 6]);
    }

    #[test]
    fn bytes_are_kept_to_from_the_boundary_outwards() {
        let one = bytes_of(&message(1, false));
        let within = |bytes_max, asked| {
            let asked = PageQuery {
                bytes_max,
                ..query(asked, 4)
            };
            page(&asked, &[])
        };
        assert_eq!(within(0, Query::Newest), [6]);
        assert_eq!(within(2 * one, Query::Newest), [5, 6]);
        assert_eq!(within(3 * one - 1, Query::After(key(10))), [2, 3]);
        assert_eq!(within(one, Query::Around(key(30))), [3]);
        assert_eq!(within(3 * one, Query::Around(key(30))), [2, 3, 4]);
    }

    #[test]
    fn it_says_how_many_more_it_needs() {
        let mut page = Page::new(&query(Query::Around(key(30)), 4));
        assert_eq!((page.missing_before(), page.missing_after()), (2, 2));
        page.take(vec![message(2, true), message(3, false)]);
        assert_eq!((page.missing_before(), page.missing_after()), (2, 1));
        page.take(vec![message(1, false)]);
        page.take(vec![message(4, false), message(5, false)]);
        assert_eq!((page.missing_before(), page.missing_after()), (1, 0));
    }
}
