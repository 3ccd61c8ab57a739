//! Where every message of every channel lies, in memory, and which ones a page asks for.
//!
//! Pure: it reads no file and knows no segment's content.
//!
//! Invariants: a channel's entries stand in order of seq, without a gap, and their message keys
//! rise with them, so that a position is a subtraction and a key a binary search.

use std::collections::HashMap;

use crate::key::{ChannelKey, MessageKey};
use crate::record::{Location, RecordKind, RecordMeta};

/// The last numbers that a channel has given out; zeroes if none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Head {
    /// Last seq.
    pub seq: u64,
    /// Last rev.
    pub rev: u64,
}

/// Which messages of a channel a page should hold. Keys need not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query {
    /// The last ones.
    Newest,
    /// The last ones before this key.
    Before(MessageKey),
    /// The first ones after this key.
    After(MessageKey),
    /// Half of them before this key, the rest from it on: the key's own message is included.
    Around(MessageKey),
    /// The first ones after this seq.
    AfterSeq(u64),
}

/// All channels whose messages one shard can find.
#[derive(Clone, Default, Debug)]
pub struct Index {
    channels: HashMap<ChannelKey, Channel>,
}

#[derive(Clone, Debug)]
struct Channel {
    /// Seq of the first entry.
    first_seq: u64,
    rev: u64,
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    message: MessageKey,
    location: Location,
}

impl Channel {
    fn head(&self) -> Head {
        Head {
            seq: self.first_seq + self.entries.len() as u64 - 1,
            rev: self.rev,
        }
    }

    /// How many entries have a key below this one.
    fn below(&self, message: MessageKey) -> usize {
        self.entries
            .partition_point(|entry| entry.message < message)
    }

    /// How many entries have a key up to this one.
    fn up_to(&self, message: MessageKey) -> usize {
        self.entries
            .partition_point(|entry| entry.message <= message)
    }

    fn range(&self, query: Query, limit: usize) -> std::ops::Range<usize> {
        let count = self.entries.len();
        match query {
            Query::Newest => count.saturating_sub(limit)..count,
            Query::Before(message) => {
                let end = self.below(message);
                end.saturating_sub(limit)..end
            }
            Query::After(message) => {
                let start = self.up_to(message);
                start..start.saturating_add(limit).min(count)
            }
            Query::Around(message) => {
                let middle = self.below(message);
                let before = limit / 2;
                let end = middle.saturating_add(limit - before).min(count);
                middle.saturating_sub(before)..end
            }
            Query::AfterSeq(seq) => {
                let skipped = seq.saturating_add(1).saturating_sub(self.first_seq);
                let start = usize::try_from(skipped).unwrap_or(count).min(count);
                start..start.saturating_add(limit).min(count)
            }
        }
    }
}

impl Index {
    /// An index without channels.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record that follows the channel's last one.
    ///
    /// # Panics
    /// If its seq or rev is not the next one, or its key is not above the last one's: whoever
    /// gives out these numbers is wrong, and nothing that follows could be trusted.
    pub fn insert(&mut self, record: &RecordMeta, location: Location) {
        let head = self.head(record.channel);
        assert_eq!(
            record.seq,
            head.seq + 1,
            "seq is dense in channel {}",
            record.channel
        );
        assert_eq!(
            record.rev,
            head.rev + 1,
            "rev is dense in channel {}",
            record.channel
        );
        let last = self.last_message(record.channel);
        assert!(
            Some(record.message) > last,
            "keys rise in channel {}",
            record.channel
        );
        assert_eq!(record.kind, RecordKind::Create, "only messages are indexed");
        let channel = self
            .channels
            .entry(record.channel)
            .or_insert_with(|| Channel {
                first_seq: record.seq,
                rev: 0,
                entries: Vec::new(),
            });
        channel.rev = record.rev;
        channel.entries.push(Entry {
            message: record.message,
            location,
        });
    }

    /// The last numbers given out in a channel.
    #[must_use]
    pub fn head(&self, channel: ChannelKey) -> Head {
        self.channels
            .get(&channel)
            .map(Channel::head)
            .unwrap_or_default()
    }

    /// The newest message of a channel.
    #[must_use]
    pub fn last_message(&self, channel: ChannelKey) -> Option<MessageKey> {
        Some(self.channels.get(&channel)?.entries.last()?.message)
    }

    /// The seq and place of one message.
    #[must_use]
    pub fn find(&self, channel: ChannelKey, message: MessageKey) -> Option<(u64, Location)> {
        let channel = self.channels.get(&channel)?;
        let position = channel.below(message);
        let entry = channel
            .entries
            .get(position)
            .filter(|entry| entry.message == message)?;
        Some((channel.first_seq + position as u64, entry.location))
    }

    /// Where the messages of a page lie, oldest first; at most `limit`.
    #[must_use]
    pub fn page(&self, channel: ChannelKey, query: Query, limit: usize) -> Vec<Location> {
        let Some(channel) = self.channels.get(&channel) else {
            return Vec::new();
        };
        let range = channel.range(query, limit);
        channel.entries[range]
            .iter()
            .map(|entry| entry.location)
            .collect()
    }

    /// All channels and their heads, in no particular order.
    pub fn channels(&self) -> impl Iterator<Item = (ChannelKey, Head)> + '_ {
        self.channels
            .iter()
            .map(|(key, channel)| (*key, channel.head()))
    }

    /// Deals the channels out: one index per shard, each channel where `owner` says.
    ///
    /// # Panics
    /// If `owner` names a shard that does not exist.
    #[must_use]
    pub fn split(self, shards: usize, owner: impl Fn(ChannelKey) -> usize) -> Vec<Self> {
        let mut parts = vec![Self::new(); shards];
        for (key, channel) in self.channels {
            parts[owner(key)].channels.insert(key, channel);
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::SegmentId;

    const CHANNEL: ChannelKey = ChannelKey([7; 16]);

    fn key(number: u64) -> MessageKey {
        MessageKey((u128::from(number) << 64).to_be_bytes())
    }

    fn index_of(keys: &[u64]) -> Index {
        let mut index = Index::new();
        for (position, number) in keys.iter().enumerate() {
            let seq = position as u64 + 1;
            let record = RecordMeta {
                kind: RecordKind::Create,
                channel: CHANNEL,
                message: key(*number),
                seq,
                rev: seq,
            };
            let offset = u32::try_from(*number).unwrap();
            index.insert(
                &record,
                Location {
                    segment: SegmentId(1),
                    offset,
                    bytes: 1,
                },
            );
        }
        index
    }

    fn page(index: &Index, query: Query, limit: usize) -> Vec<u64> {
        let page = index.page(CHANNEL, query, limit);
        page.iter().map(|location| location.offset.into()).collect()
    }

    #[test]
    fn around_is_centred_and_holds_the_message_itself() {
        let index = index_of(&[10, 20, 30, 40, 50, 60]);
        assert_eq!(page(&index, Query::Around(key(30)), 3), [20, 30, 40]);
        assert_eq!(page(&index, Query::Around(key(30)), 4), [10, 20, 30, 40]);
        assert_eq!(page(&index, Query::Around(key(30)), 1), [30]);
        assert_eq!(page(&index, Query::Around(key(35)), 2), [30, 40]);
        assert_eq!(page(&index, Query::Around(key(99)), 4), [50, 60]);
        assert_eq!(page(&index, Query::Around(key(1)), 4), [10, 20]);
    }

    #[test]
    fn an_unknown_channel_is_empty() {
        let index = Index::new();
        assert_eq!(index.head(CHANNEL), Head { seq: 0, rev: 0 });
        assert_eq!(page(&index, Query::Newest, 50), [0_u64; 0]);
    }

    #[test]
    #[should_panic(expected = "seq is dense")]
    fn a_gap_is_our_own_mistake() {
        let mut index = index_of(&[1]);
        let record = RecordMeta {
            kind: RecordKind::Create,
            channel: CHANNEL,
            message: key(3),
            seq: 3,
            rev: 2,
        };
        index.insert(
            &record,
            Location {
                segment: SegmentId(1),
                offset: 0,
                bytes: 1,
            },
        );
    }

    proptest! {
        #[test]
        fn pages_are_those_of_a_filtered_list(
            keys in prop::collection::btree_set(0_u64..500, 0..80),
            asked in 0_u64..500,
            limit in 0_usize..20,
        ) {
            let keys: Vec<u64> = keys.into_iter().collect();
            let index = index_of(&keys);
            let last = |list: &[u64]| list[list.len().saturating_sub(limit)..].to_vec();
            let first = |list: &[u64]| list[..limit.min(list.len())].to_vec();
            let below: Vec<u64> = keys.iter().copied().filter(|key| *key < asked).collect();
            let above: Vec<u64> = keys.iter().copied().filter(|key| *key > asked).collect();
            let missed = keys.get(usize::try_from(asked).unwrap()..).unwrap_or_default();
            prop_assert_eq!(page(&index, Query::Newest, limit), last(&keys));
            prop_assert_eq!(page(&index, Query::Before(key(asked)), limit), last(&below));
            prop_assert_eq!(page(&index, Query::After(key(asked)), limit), first(&above));
            prop_assert_eq!(page(&index, Query::AfterSeq(asked), limit), first(missed));
            let around = page(&index, Query::Around(key(asked)), limit);
            prop_assert!(around.len() <= limit);
            prop_assert!(limit == 0 || !keys.contains(&asked) || around.contains(&asked));
        }

        #[test]
        fn every_channel_lands_with_its_owner(channels in 1_u8..40, shards in 1_usize..6) {
            let mut index = Index::new();
            for channel in 0..channels {
                let record = RecordMeta {
                    kind: RecordKind::Create,
                    channel: ChannelKey([channel; 16]),
                    message: key(1),
                    seq: 1,
                    rev: 1,
                };
                index.insert(&record, Location { segment: SegmentId(1), offset: 0, bytes: 1 });
            }
            let owner = |channel: ChannelKey| usize::from(channel.0[0]) % shards;
            let parts = index.split(shards, owner);
            prop_assert_eq!(parts.len(), shards);
            let placed: usize = parts.iter().map(|part| part.channels().count()).sum();
            prop_assert_eq!(placed, usize::from(channels));
            for (shard, part) in parts.iter().enumerate() {
                for (channel, head) in part.channels() {
                    prop_assert_eq!(owner(channel), shard);
                    prop_assert_eq!(head, Head { seq: 1, rev: 1 });
                }
            }
        }
    }
}
