//! What the store must hold: every acknowledged record of every channel, in a `BTreeMap`, and
//! what the changes among them leave of the messages.
//!
//! It shares no code with the store, and knows no files.
//!
//! Invariants: a channel's records stand in order of rev, its messages in order of seq, both
//! without a gap from 1.

use std::collections::BTreeMap;

use bytes::Bytes;
use throng_storage_engine::{
    AuthorKey, ChannelKey, Day, MessageKey, Query, Record, RecordKind, Stored,
};

use crate::node::Asked;

/// The store as it should be.
#[derive(Clone)]
pub(crate) struct Model {
    /// Messages of earlier days are gone.
    pub(crate) retained_from: Day,
    pub(crate) channels: BTreeMap<ChannelKey, Channel>,
}

/// One channel of it.
#[derive(Clone, Default)]
pub(crate) struct Channel {
    records: Vec<Record>,
    pub(crate) messages: Vec<Message>,
}

/// One message as its changes left it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Message {
    pub(crate) key: MessageKey,
    pub(crate) seq: u64,
    pub(crate) rev: u64,
    /// Nothing's once it is deleted, as what it answered and who wrote it.
    pub(crate) schema: u16,
    pub(crate) target: MessageKey,
    pub(crate) author: AuthorKey,
    pub(crate) body: Bytes,
    /// Rev of the newest edit.
    pub(crate) edited: Option<u64>,
    /// By which record does not matter: erasing puts another one in its place.
    pub(crate) is_deleted: bool,
    /// Rev, author and body of each.
    pub(crate) reactions: Vec<(u64, AuthorKey, Bytes)>,
}

impl Model {
    pub(crate) fn new() -> Self {
        Self {
            retained_from: Day(0),
            channels: BTreeMap::new(),
        }
    }

    /// The page that a query must give, oldest first.
    pub(crate) fn page(&self, asked: &Asked) -> Vec<Message> {
        let channel = self.channels.get(&asked.channel);
        channel.map_or_else(Vec::new, |channel| channel.page(asked, self.retained_from))
    }

    pub(crate) fn apply(&mut self, record: &Record) {
        let channel = self.channels.entry(record.channel).or_default();
        assert_eq!(record.rev, channel.rev() + 1, "the writer counts as we do");
        channel.records.push(record.clone());
        channel.fold(record);
    }

    /// Takes back a channel's newest records, down to this rev.
    pub(crate) fn take_back(&mut self, key: ChannelKey, rev: u64) {
        let channel = self.channels.get_mut(&key).expect("it had records");
        let kept = usize::try_from(rev).expect("few");
        let mut records = std::mem::take(&mut channel.records);
        records.truncate(kept);
        *channel = Channel::default();
        records.iter().for_each(|record| channel.fold(record));
        channel.records = records;
    }

    pub(crate) fn seq(&self, channel: ChannelKey) -> u64 {
        let channel = self.channels.get(&channel);
        channel.map_or(0, |channel| channel.messages.len() as u64)
    }

    pub(crate) fn rev(&self, channel: ChannelKey) -> u64 {
        self.channels.get(&channel).map_or(0, Channel::rev)
    }
}

impl Channel {
    pub(crate) fn rev(&self) -> u64 {
        self.records.len() as u64
    }

    fn fold(&mut self, record: &Record) {
        if record.kind == RecordKind::Create {
            assert_eq!(record.seq, self.messages.len() as u64 + 1);
            self.messages.push(Message::new(record));
            return;
        }
        let position = usize::try_from(record.seq - 1).expect("few");
        let message = &mut self.messages[position];
        assert_eq!(record.target, message.key, "the writer knows its target");
        message.change(record);
    }

    fn page(&self, asked: &Asked, retained_from: Day) -> Vec<Message> {
        let limit = asked.limit;
        let is_kept = |message: &&Message| Day::of_ms(message.key.timestamp_ms()) >= retained_from;
        let shown: Vec<&Message> = (self.messages.iter())
            .filter(is_kept)
            .filter(|message| asked.with_deleted || !message.is_deleted)
            .collect();
        let before = |key| shown.iter().filter(|message| message.key < key).count();
        let from = |start: usize| (start, start + limit);
        let (start, end) = match asked.query {
            Query::Newest => (shown.len().saturating_sub(limit), shown.len()),
            Query::Before(key) => (before(key).saturating_sub(limit), before(key)),
            Query::After(key) => from(shown.iter().filter(|message| message.key <= key).count()),
            Query::AfterSeq(seq) => from(shown.iter().filter(|message| message.seq <= seq).count()),
            Query::Around(key) => {
                let half = limit / 2;
                (before(key).saturating_sub(half), before(key) + limit - half)
            }
        };
        let page = shown.iter().take(end).skip(start);
        page.map(|message| (*message).clone()).collect()
    }
}

impl Message {
    fn new(create: &Record) -> Self {
        Self {
            key: create.message,
            seq: create.seq,
            rev: create.rev,
            schema: create.schema,
            target: create.target,
            author: create.author,
            body: create.body.clone(),
            edited: None,
            is_deleted: false,
            reactions: Vec::new(),
        }
    }

    fn change(&mut self, change: &Record) {
        if self.is_deleted {
            return;
        }
        let is_same =
            |known: &(u64, AuthorKey, Bytes)| known.1 == change.author && known.2 == change.body;
        match change.kind {
            RecordKind::Create => unreachable!("folded elsewhere"),
            RecordKind::Edit => {
                self.body = change.body.clone();
                self.edited = Some(change.rev);
            }
            RecordKind::Delete => {
                self.body = Bytes::new();
                self.author = AuthorKey::ZERO;
                self.target = MessageKey::ZERO;
                self.schema = 0;
                self.edited = None;
                self.reactions.clear();
                self.is_deleted = true;
            }
            RecordKind::ReactionAdd if self.reactions.iter().any(is_same) => {}
            RecordKind::ReactionAdd => {
                let reaction = (change.rev, change.author, change.body.clone());
                self.reactions.push(reaction);
            }
            RecordKind::ReactionRemove => self.reactions.retain(|known| !is_same(known)),
        }
    }
}

/// What the store says, in the model's words.
impl From<&Stored> for Message {
    fn from(stored: &Stored) -> Self {
        let create = &stored.create;
        let text = stored.edit.as_deref().unwrap_or(create);
        let reaction = |record: &Record| (record.rev, record.author, record.body.clone());
        let is_deleted = stored.is_deleted();
        Self {
            // An erased message says no more what it answered, a deleted one may.
            target: if is_deleted {
                MessageKey::ZERO
            } else {
                create.target
            },
            schema: if is_deleted { 0 } else { create.schema },
            body: text.body.clone(),
            edited: stored.edit.as_ref().map(|edit| edit.rev),
            is_deleted,
            reactions: stored.reactions.iter().map(reaction).collect(),
            ..Self::new(create)
        }
    }
}
