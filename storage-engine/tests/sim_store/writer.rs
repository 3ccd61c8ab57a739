//! Makes the records that come next: messages, and changes to messages that are there.
//!
//! It asks the model, never the store, what is there.
//!
//! Invariants: keys rise over all channels and starts; a body says which record it belongs to.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use throng_storage_engine::{AuthorKey, ChannelKey, MessageKey, NonceKey, Record, RecordKind};

use crate::model::Model;

const WORDS: [&str; 8] = [
    "where ",
    "shall ",
    "we ",
    "meet ",
    "again? ",
    "tomorrow ",
    "at ",
    "noon. ",
];

pub(crate) fn channel(number: u8) -> ChannelKey {
    ChannelKey([number; 16])
}

/// A message key of this time.
pub(crate) fn key(ms: u64, counter: u64) -> MessageKey {
    MessageKey(((u128::from(ms) << 80) | u128::from(counter)).to_be_bytes())
}

/// Gives out keys.
#[derive(Default)]
pub(crate) struct Writer {
    counter: u64,
}

impl Writer {
    /// One commit's records for these channels, a channel possibly several times.
    pub(crate) fn records(
        &mut self,
        rng: &mut StdRng,
        model: &Model,
        channels: &[ChannelKey],
        now_ms: u64,
        body_bytes_max: usize,
    ) -> Vec<Record> {
        let mut heads: BTreeMap<ChannelKey, (u64, u64)> = BTreeMap::new();
        let mut records = Vec::new();
        for channel in channels {
            self.counter += 1;
            let first = (model.seq(*channel), model.rev(*channel));
            let head = heads.entry(*channel).or_insert(first);
            let mut record = Record {
                kind: RecordKind::Create,
                schema: u16::from(channel.0[0]),
                channel: *channel,
                message: key(now_ms, self.counter),
                author: AuthorKey([rng.random_range(1..6); 16]),
                seq: head.0 + 1,
                rev: head.1 + 1,
                target: MessageKey::ZERO,
                nonce: NonceKey(u128::from(self.counter % 3 * self.counter).to_be_bytes()),
                body: self.text(rng.random_range(0..=body_bytes_max)),
            };
            if first.0 > 0 && rng.random_ratio(1, 3) {
                change(rng, model, &mut record);
            } else if first.0 > 0 && rng.random_ratio(1, 5) {
                record.target = model.channels[channel].messages[0].key;
            }
            *head = (head.0.max(record.seq), record.rev);
            records.push(record);
        }
        records
    }

    fn text(&self, bytes: usize) -> Bytes {
        let mut text = format!("{} ", self.counter).into_bytes();
        let mut word = usize::try_from(self.counter % 5).expect("small");
        while text.len() < bytes {
            text.extend_from_slice(WORDS[word % WORDS.len()].as_bytes());
            word = word * 5 + 1 + text.len() % 3;
            word %= 1000;
        }
        text.truncate(bytes);
        Bytes::from(text)
    }
}

/// Makes the record a change of some message, rather a young one than an old one.
fn change(rng: &mut StdRng, model: &Model, record: &mut Record) {
    let messages = &model.channels[&record.channel].messages;
    let back = rng.random_range(1..=messages.len());
    let back = rng.random_range(1..=back);
    let target = &messages[messages.len() - back];
    record.target = target.key;
    record.seq = target.seq;
    record.kind = match rng.random_range(0..10) {
        0..=2 => RecordKind::Edit,
        3..=4 => RecordKind::Delete,
        5..=7 => RecordKind::ReactionAdd,
        _ => RecordKind::ReactionRemove,
    };
    match record.kind {
        RecordKind::Edit | RecordKind::Create => {}
        RecordKind::Delete => record.body = Bytes::new(),
        RecordKind::ReactionAdd | RecordKind::ReactionRemove => {
            let emoji = ["+1", "heart", "tada"][rng.random_range(0..3)];
            record.body = Bytes::from_static(emoji.as_bytes());
        }
    }
}
