//! The newest messages of the channels that are read, in memory: what most readers ask for touches
//! the disk once.
//!
//! It reads nothing: readers say what they look for and what they found, the log tells of every
//! commit, and whole channels are forgotten when room is needed. A channel that nobody reads costs
//! a commit one look into a table.
//!
//! Invariants: what it holds of a channel is its newest messages without a gap, in their present
//! state; a page that needs more than that is not answered here; the bytes counted are those
//! allocated, and never exceed the budget when a call returns.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;

use bytes::Bytes;

use crate::config::StoreConfig;
use crate::key::ChannelKey;
use crate::page::{Boundary, Page, PageQuery};
use crate::record::{Record, RecordKind};
use crate::stored::Stored;

/// What one channel costs beside its messages: a slot in a hash table that may be half empty and
/// a place in a queue that may be.
const CHANNEL_BYTES: u64 = 256;

/// One shard's recent messages: its log adds to them, its reader looks into them.
pub type SharedRecent = Rc<RefCell<Recent>>;

/// The newest messages of some channels.
#[derive(Debug)]
pub struct Recent {
    budget_bytes: u64,
    messages_max: usize,
    channels: HashMap<ChannelKey, Newest>,
    /// All channels in the order in which they are to be looked at when room is needed.
    clock: VecDeque<ChannelKey>,
    bytes: u64,
    next_visit: u64,
}

/// A reader's look at a channel's newest messages, for [`Recent::found`].
#[derive(Debug)]
pub(crate) struct Visit {
    channel: ChannelKey,
    number: u64,
}

#[derive(Debug)]
struct Newest {
    first_seq: u64,
    messages: VecDeque<Kept>,
    bytes: u64,
    /// Read since the clock last came by.
    is_used: bool,
    /// The last visit, until a message older than those here is changed: what it finds is not
    /// what it looked at then.
    visit: Option<u64>,
}

/// Most messages are never changed, and then take a third of the memory.
#[derive(Debug)]
enum Kept {
    Plain(Record),
    Changed(Box<Stored>),
}

impl Kept {
    fn create(&self) -> &Record {
        match self {
            Self::Plain(create) => create,
            Self::Changed(stored) => &stored.create,
        }
    }

    /// The caller's bodies may be slices of something larger, which would then stay, uncounted.
    fn copied(message: &Stored) -> Self {
        match message.records().nth(1) {
            None => Self::Plain(copied(&message.create)),
            Some(_) => {
                let copied = |record: &Record| Box::new(copied(record));
                Self::Changed(Box::new(Stored {
                    create: *copied(&message.create),
                    edit: message.edit.as_deref().map(copied),
                    delete: message.delete.as_deref().map(copied),
                    reactions: message.reactions.iter().map(|one| *copied(one)).collect(),
                }))
            }
        }
    }

    fn to_stored(&self) -> Stored {
        match self {
            Self::Plain(create) => Stored::new(create.clone()),
            Self::Changed(stored) => (**stored).clone(),
        }
    }

    fn apply(&mut self, change: Record) {
        let mut stored = self.to_stored();
        stored.apply(change);
        *self = Self::Changed(Box::new(stored));
    }

    /// Bytes that it has allocated.
    fn heap_bytes(&self) -> u64 {
        match self {
            Self::Plain(create) => create.body.len() as u64,
            Self::Changed(stored) => {
                let bodies: usize = stored.records().map(|record| record.body.len()).sum();
                let boxed = usize::from(stored.edit.is_some()) + usize::from(stored.is_deleted());
                let changes = (boxed + stored.reactions.capacity()) * size_of::<Record>();
                (size_of::<Stored>() + bodies + changes) as u64
            }
        }
    }
}

fn copied(record: &Record) -> Record {
    Record {
        body: Bytes::copy_from_slice(&record.body),
        ..record.clone()
    }
}

impl Newest {
    fn starting_at(seq: u64) -> Self {
        Self {
            first_seq: seq,
            messages: VecDeque::new(),
            bytes: CHANNEL_BYTES,
            is_used: true,
            visit: None,
        }
    }

    /// How many of its messages have a seq below this one.
    fn below(&self, seq: u64) -> usize {
        let count = seq.saturating_sub(self.first_seq);
        usize::try_from(count).map_or(self.messages.len(), |count| count.min(self.messages.len()))
    }

    /// How many of its messages lie before the boundary; `None` if older ones, which are not
    /// here, may lie behind it.
    fn position(&self, boundary: Boundary) -> Option<usize> {
        let position = match boundary {
            Boundary::Seq(seq) if seq < self.first_seq => return None,
            Boundary::Seq(seq) => return Some(self.below(seq)),
            Boundary::AtKey(_) | Boundary::BehindKey(_) => self.messages.partition_point(|kept| {
                let create = kept.create();
                boundary.is_behind(create.message, create.seq)
            }),
        };
        (position > 0 || self.first_seq == 1).then_some(position)
    }

    /// The seq that comes next.
    fn end(&self) -> u64 {
        self.first_seq + self.messages.len() as u64
    }

    fn push(&mut self, create: Record, messages_max: usize) {
        let before = self.table_bytes();
        while self.messages.len() >= messages_max {
            let oldest = self.messages.pop_front().expect("the limit is above 0");
            self.first_seq += 1;
            self.bytes -= oldest.heap_bytes();
        }
        let kept = Kept::Plain(create);
        self.bytes += kept.heap_bytes();
        self.messages.push_back(kept);
        self.bytes = self.bytes - before + self.table_bytes();
    }

    /// Puts the message before the first one, if it is the one that belongs there.
    fn prepend(&mut self, message: &Stored) -> bool {
        if message.create.seq + 1 != self.first_seq {
            return false;
        }
        let before = self.table_bytes();
        let kept = Kept::copied(message);
        self.first_seq -= 1;
        self.bytes += kept.heap_bytes();
        self.messages.push_front(kept);
        self.bytes = self.bytes - before + self.table_bytes();
        true
    }

    fn apply(&mut self, change: Record) {
        let Some(position) = change.seq.checked_sub(self.first_seq) else {
            self.visit = None;
            return;
        };
        let position = usize::try_from(position).expect("a change is of a message that there is");
        let kept = (self.messages.get_mut(position)).expect("a change follows its message");
        self.bytes -= kept.heap_bytes();
        kept.apply(change);
        self.bytes += kept.heap_bytes();
    }

    fn table_bytes(&self) -> u64 {
        (self.messages.capacity() * size_of::<Kept>()) as u64
    }
}

impl Recent {
    /// Nothing yet, within the limits of a shard.
    #[must_use]
    pub fn shared(config: &StoreConfig) -> SharedRecent {
        let recent = Self::new(config.recent_bytes, config.recent_messages_max);
        Rc::new(RefCell::new(recent))
    }

    /// Empty; holds at most `budget_bytes`, and `messages_max` messages of one channel.
    ///
    /// # Panics
    /// If `messages_max` is 0.
    pub(crate) fn new(budget_bytes: u64, messages_max: usize) -> Self {
        assert!(messages_max > 0, "a channel that is held has messages");
        Self {
            budget_bytes,
            messages_max,
            channels: HashMap::new(),
            clock: VecDeque::new(),
            bytes: 0,
            next_visit: 0,
        }
    }

    /// What it holds and what holding it costs, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Forgets everything: for when messages are taken out of the store.
    pub(crate) fn clear(&mut self) {
        self.channels.clear();
        self.clock.clear();
        self.bytes = 0;
    }

    /// A record that has been committed. All of a shard's must be told, in their order.
    ///
    /// # Panics
    /// If it does not follow the channel's last one.
    pub(crate) fn note(&mut self, record: &Record) {
        let Some(newest) = self.channels.get_mut(&record.channel) else {
            return;
        };
        let bytes_before = newest.bytes;
        let record = copied(record);
        if record.kind == RecordKind::Create {
            assert_eq!(record.seq, newest.end(), "commits are told in their order");
            newest.push(record, self.messages_max);
        } else {
            newest.apply(record);
        }
        self.bytes = self.bytes - bytes_before + newest.bytes;
        self.make_room();
    }

    /// Somebody looks for a channel's newest messages, which are not all here; `head_seq` is the
    /// last one there is. From now on what is written there is kept.
    pub(crate) fn visit(&mut self, channel: ChannelKey, head_seq: u64) -> Visit {
        let number = self.next_visit;
        self.next_visit += 1;
        if let Entry::Vacant(vacant) = self.channels.entry(channel) {
            self.clock.push_back(channel);
            let newest = vacant.insert(Newest::starting_at(head_seq + 1));
            self.bytes += newest.bytes;
        }
        if let Some(newest) = self.channels.get_mut(&channel) {
            newest.visit = Some(number);
        }
        self.make_room();
        Visit { channel, number }
    }

    /// What a visit found, in order of seq, deleted messages included: what of it lies next to what
    /// is here is kept, unless it may have changed since, or others have come to look.
    pub(crate) fn found<'a>(
        &mut self,
        visit: &Visit,
        found: impl DoubleEndedIterator<Item = &'a Stored>,
    ) {
        let Some(newest) = self.channels.get_mut(&visit.channel) else {
            return;
        };
        if newest.visit != Some(visit.number) {
            return;
        }
        let bytes_before = newest.bytes;
        let first_seq = newest.first_seq;
        let older = found.rev();
        for message in older.skip_while(|message| message.create.seq >= first_seq) {
            if newest.messages.len() >= self.messages_max || !newest.prepend(message) {
                break;
            }
        }
        self.bytes = self.bytes - bytes_before + newest.bytes;
        self.make_room();
    }

    fn make_room(&mut self) {
        while self.bytes > self.budget_bytes {
            let channel = self.clock.pop_front().expect("bytes are those of channels");
            let newest = (self.channels.get_mut(&channel)).expect("the clock knows what is held");
            if newest.is_used && !self.clock.is_empty() {
                newest.is_used = false;
                self.clock.push_back(channel);
                continue;
            }
            self.bytes -= newest.bytes;
            self.channels.remove(&channel);
        }
    }

    /// The page, if all of it is here.
    pub(crate) fn page(&mut self, query: &PageQuery) -> Option<Vec<Stored>> {
        let newest = self.channels.get_mut(&query.channel)?;
        newest.is_used = true;
        if newest.end() <= query.upto_seq {
            return None;
        }
        let shown = newest.below(query.upto_seq.saturating_add(1));
        let boundary = newest.position(query.asked().boundary)?.min(shown);
        let mut page = Page::new(query);
        for kept in newest.messages.range(..boundary).rev() {
            if page.missing_before() == 0 {
                break;
            }
            page.add_before(kept.to_stored());
        }
        if page.missing_before() > 0 && newest.first_seq > 1 {
            return None;
        }
        for kept in newest.messages.range(boundary..shown) {
            if page.missing_after() == 0 {
                break;
            }
            page.add_after(kept.to_stored());
        }
        Some(page.finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::Query;
    use crate::key::{AuthorKey, MessageKey, NonceKey};

    fn key(number: u64) -> MessageKey {
        MessageKey((u128::from(number) << 64).to_be_bytes())
    }

    fn record(channel: u8, kind: RecordKind, seq: u64, rev: u64) -> Record {
        Record {
            kind,
            schema: 1,
            channel: ChannelKey([channel; 16]),
            message: key(rev * 10),
            author: AuthorKey([1; 16]),
            seq,
            rev,
            target: MessageKey::ZERO,
            nonce: NonceKey::ZERO,
            body: Bytes::from(vec![0; 100]),
        }
    }

    fn query(query: Query, upto_seq: u64) -> PageQuery {
        PageQuery {
            channel: ChannelKey([1; 16]),
            query,
            limit: 3,
            upto_seq,
            with_deleted: false,
            bytes_max: 1 << 20,
        }
    }

    fn seqs(page: Option<Vec<Stored>>) -> Option<Vec<u64>> {
        Some(page?.iter().map(|message| message.create.seq).collect())
    }

    /// A channel that it knows from message 5 on, of which it keeps eight.
    fn known_from_five() -> Recent {
        let mut recent = Recent::new(1 << 20, 8);
        recent.visit(ChannelKey([1; 16]), 4);
        for seq in 5..=14 {
            recent.note(&record(1, RecordKind::Create, seq, seq));
        }
        recent
    }

    #[test]
    fn it_answers_what_it_holds_all_of() {
        let mut recent = known_from_five();
        let mut page = |asked, upto| seqs(recent.page(&query(asked, upto)));
        assert_eq!(page(Query::Newest, 14), Some(vec![12, 13, 14]));
        assert_eq!(page(Query::Newest, 12), Some(vec![10, 11, 12]));
        assert_eq!(page(Query::Newest, 15), None, "there is something newer");
        assert_eq!(page(Query::Newest, 9), Some(vec![7, 8, 9]));
        assert_eq!(page(Query::Newest, 8), None, "6 is no longer here");
        assert_eq!(page(Query::AfterSeq(6), 14), Some(vec![7, 8, 9]));
        assert_eq!(page(Query::AfterSeq(5), 14), None);
        assert_eq!(page(Query::AfterSeq(13), 14), Some(vec![14]));
        assert_eq!(page(Query::AfterSeq(20), 14), Some(vec![]));
        assert_eq!(page(Query::After(key(75)), 9), Some(vec![8, 9]));
        assert_eq!(
            page(Query::After(key(65)), 9),
            None,
            "7 may not be the first"
        );
        assert_eq!(page(Query::Before(key(100)), 14), Some(vec![7, 8, 9]));
        assert_eq!(page(Query::Around(key(80)), 14), Some(vec![7, 8, 9]));
    }

    #[test]
    fn changes_show_and_deletions_may_need_the_disk() {
        let mut recent = known_from_five();
        recent.note(&record(1, RecordKind::Edit, 14, 15));
        recent.note(&record(1, RecordKind::Delete, 3, 16));
        recent.note(&record(2, RecordKind::Edit, 3, 16));
        let page = recent.page(&query(Query::Newest, 14)).unwrap();
        assert_eq!(page[2].edit.as_ref().unwrap().rev, 15);
        for seq in 8..=12 {
            recent.note(&record(1, RecordKind::Delete, seq, 20 + seq));
        }
        let page = recent.page(&query(Query::Newest, 14));
        assert_eq!(seqs(page), Some(vec![7, 13, 14]));
        recent.note(&record(1, RecordKind::Delete, 13, 40));
        assert_eq!(recent.page(&query(Query::Newest, 14)), None);
    }

    /// Messages 1 to 4, as a reader found them.
    fn older() -> Vec<Stored> {
        let records = (1..=4).map(|seq| record(1, RecordKind::Create, seq, seq));
        records.map(Stored::new).collect()
    }

    #[test]
    fn what_a_visit_found_is_kept_and_goes_on() {
        let one = ChannelKey([1; 16]);
        let mut recent = Recent::new(1 << 20, 6);
        assert_eq!(recent.page(&query(Query::Newest, 4)), None);
        let visit = recent.visit(one, 4);
        recent.note(&record(1, RecordKind::Create, 5, 5));
        assert_eq!(recent.page(&query(Query::Newest, 5)), None);
        recent.found(&visit, older().iter());
        assert_eq!(
            seqs(recent.page(&query(Query::Newest, 5))),
            Some(vec![3, 4, 5])
        );
        recent.note(&record(1, RecordKind::Edit, 4, 6));
        for seq in 6..=8 {
            recent.note(&record(1, RecordKind::Create, seq, seq + 1));
        }
        let page = recent.page(&query(Query::Before(key(70)), 8)).unwrap();
        assert_eq!(page[1].edit.as_ref().unwrap().rev, 6);
        assert_eq!(seqs(Some(page)), Some(vec![3, 4, 5]));
        assert_eq!(
            seqs(recent.page(&query(Query::AfterSeq(1), 8))),
            None,
            "six are kept"
        );
    }

    #[test]
    fn what_may_have_changed_since_is_not_kept() {
        let one = ChannelKey([1; 16]);
        let is_kept = |meanwhile: &dyn Fn(&mut Recent)| {
            let mut recent = Recent::new(1 << 20, 6);
            let visit = recent.visit(one, 4);
            meanwhile(&mut recent);
            recent.found(&visit, older().iter());
            recent.page(&query(Query::Newest, 4)).is_some()
        };
        assert!(is_kept(&|_| ()));
        assert!(!is_kept(&|recent| recent.note(&record(
            1,
            RecordKind::Delete,
            3,
            5
        ))));
        assert!(!is_kept(&|recent| recent.clear()));
        assert!(!is_kept(&|recent| {
            recent.clear();
            recent.visit(one, 4);
        }));
        let mut gap = older();
        gap.remove(2);
        let mut recent = Recent::new(1 << 20, 6);
        let visit = recent.visit(one, 4);
        recent.found(&visit, gap.iter());
        assert_eq!(recent.page(&query(Query::Newest, 4)), None, "3 is missing");
    }

    proptest! {
        #[test]
        fn the_budget_holds_and_the_count_is_true(
            budget in 0_u64..60_000,
            commits in prop::collection::vec((1_u8..20, 0_u64..5), 0..400),
        ) {
            let mut recent = Recent::new(budget, 16);
            let mut heads = [(0, 0); 20];
            for (channel, kind) in commits {
                let (seq, rev) = &mut heads[usize::from(channel)];
                if kind == 4 {
                    let visit = recent.visit(ChannelKey([channel; 16]), *seq);
                    let first = seq.saturating_sub(3).max(1);
                    let page = (first..=*seq).map(|seq| record(channel, RecordKind::Create, seq, seq));
                    let page: Vec<Stored> = page.map(Stored::new).collect();
                    recent.found(&visit, page.iter());
                    prop_assert!(recent.bytes() <= budget);
                    continue;
                }
                let kind = match kind {
                    1 if *seq > 0 => RecordKind::ReactionAdd,
                    2 if *seq > 0 => RecordKind::Edit,
                    3 if *seq > 0 => RecordKind::Delete,
                    _ => RecordKind::Create,
                };
                *seq += u64::from(kind == RecordKind::Create);
                *rev += 1;
                recent.note(&record(channel, kind, *seq, *rev));
                prop_assert!(recent.bytes() <= budget);
                let counted = |record: &Record| (size_of::<Record>() + record.body.len()) as u64;
                let kept_bytes = |kept: &Kept| match kept {
                    Kept::Plain(create) => create.body.len() as u64,
                    Kept::Changed(stored) => {
                        let unused = stored.reactions.capacity() - stored.reactions.len();
                        let changes: u64 = stored.records().map(counted).sum();
                        let own = size_of::<Stored>() + unused * size_of::<Record>();
                        own as u64 + changes - size_of::<Record>() as u64
                    }
                };
                let held = recent.channels.values().map(|newest| {
                    let heap: u64 = newest.messages.iter().map(kept_bytes).sum();
                    CHANNEL_BYTES + heap + newest.table_bytes()
                });
                prop_assert_eq!(recent.bytes(), held.sum::<u64>());
                prop_assert_eq!(recent.clock.len(), recent.channels.len());
            }
        }
    }
}
