//! What must hold, whatever happened: one truth per channel, and everybody's view checked
//! against it.
//!
//! It knows no shard, socket, disk or time. It is told what clients sent and heard and what lay
//! in the log after a recovery, and says when two of these cannot both be.
//!
//! Invariants: what was once learnt about a place in a channel is never forgotten, so a message
//! that anybody saw must be found in every later log, unchanged and in its place.

mod violation;

use std::collections::BTreeMap;

use throng_protocol::{ChannelId, MessageId, Nonce, Seq, UserId};

pub(crate) use violation::Violation;

/// How long a nonce names one message, in milliseconds.
const NONCE_KEEP_MS: u64 = 5 * 60 * 1_000;

/// The most messages that a replay tells.
const REPLAY_MESSAGES_MAX: u64 = 1_000;

/// One connection of one client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Listener(pub(crate) usize);

/// What names a message from its sender's side.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) author: UserId,
    pub(crate) channel: ChannelId,
    pub(crate) nonce: Nonce,
}

/// What is known of the message at one place of a channel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) id: MessageId,
    pub(crate) author: UserId,
    /// The author's name as it stands at the message; unknown while only its acknowledgement has
    /// been seen.
    pub(crate) author_name: Option<String>,
    /// Unknown while only its acknowledgement has been seen.
    pub(crate) content: Option<String>,
    /// Replays and history leave it out.
    pub(crate) nonce: Option<Nonce>,
}

/// From where a subscription hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum From {
    /// From the head on.
    Head,
    /// From behind this message on.
    After(Seq),
    /// It is live already; nothing changes.
    Again,
    /// It is live already, or its past is still being told: then from the head on.
    HeadOrAgain,
}

/// The judge.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    names: BTreeMap<UserId, String>,
    channels: BTreeMap<ChannelId, Truth>,
    sent: BTreeMap<Key, Sent>,
    heard: BTreeMap<(Listener, ChannelId), Seq>,
    /// Per connection and channel: which send got which place.
    orders: BTreeMap<(Listener, ChannelId), BTreeMap<u64, Seq>>,
    sends: u64,
}

#[derive(Debug, Default)]
struct Truth {
    entries: BTreeMap<Seq, Entry>,
    /// The highest head that anybody was told.
    claimed: Seq,
}

#[derive(Debug, Default)]
struct Sent {
    contents: Vec<String>,
    /// Which sends there were.
    order: Vec<u64>,
    /// The messages that it names.
    places: Vec<(Seq, MessageId)>,
}

impl Oracle {
    /// There is an account, and nobody else's name may stand at its messages.
    pub(crate) fn introduced(&mut self, user: UserId, name: &str) {
        self.names.insert(user, name.to_owned());
    }

    /// A client sends a message.
    pub(crate) fn sent(&mut self, key: Key, content: &str) {
        self.sends += 1;
        let sent = self.sent.entry(key).or_default();
        sent.order.push(self.sends);
        if !sent.contents.iter().any(|known| known == content) {
            sent.contents.push(content.to_owned());
        }
    }

    /// A client hears that its message is stored.
    pub(crate) fn acked(
        &mut self,
        listener: Listener,
        key: Key,
        id: MessageId,
        seq: Seq,
    ) -> Result<(), Violation> {
        let Some(sent) = self.sent.get(&key) else {
            return Err(Violation::NeverSent {
                key,
                seq,
                content: None,
            });
        };
        let only_content = Some(&sent.contents).filter(|contents| contents.len() == 1);
        let content = only_content.map(|contents| contents[0].clone());
        let only_send = Some(&sent.order)
            .filter(|order| order.len() == 1)
            .map(|order| order[0]);
        let entry = Entry {
            id,
            author: key.author,
            author_name: None,
            content,
            nonce: Some(key.nonce),
        };
        self.learn(key.channel, seq, entry)?;
        match only_send {
            Some(send) => self.ordered(listener, key, send, seq),
            None => Ok(()), // It was sent several times: nobody knows which one was taken.
        }
    }

    fn ordered(
        &mut self,
        listener: Listener,
        key: Key,
        send: u64,
        seq: Seq,
    ) -> Result<(), Violation> {
        let order = self.orders.entry((listener, key.channel)).or_default();
        let before = order
            .range(..send)
            .next_back()
            .is_none_or(|(_, earlier)| *earlier < seq);
        let after = order
            .range(send + 1..)
            .next()
            .is_none_or(|(_, later)| *later > seq);
        order.insert(send, seq);
        if before && after {
            Ok(())
        } else {
            Err(Violation::SendOrder { listener, key, seq })
        }
    }

    /// A client hears that its subscription stands. `known` is what anybody had seen of the
    /// channel when it was asked for.
    pub(crate) fn subscribed(
        &mut self,
        listener: Listener,
        channel: ChannelId,
        head: Seq,
        from: From,
        known: Seq,
    ) -> Result<(), Violation> {
        self.claim(channel, head);
        let (found, before) = (head.next(), self.heard.get(&(listener, channel)).copied());
        let is_same = before == Some(found);
        match from {
            From::Again | From::HeadOrAgain if is_same => return Ok(()),
            From::Again => {
                let expected = before.unwrap_or_default();
                return Err(Violation::OutOfOrder {
                    listener,
                    channel,
                    expected,
                    found,
                });
            }
            From::Head | From::HeadOrAgain => {
                self.heard.insert((listener, channel), found);
            }
            From::After(after) => {
                self.heard
                    .insert((listener, channel), after.min(head).next());
            }
        }
        if head >= known {
            Ok(())
        } else {
            Err(Violation::HeadWentBack {
                channel,
                head,
                known,
            })
        }
    }

    /// A client hears a message of a channel.
    pub(crate) fn delivered(
        &mut self,
        listener: Listener,
        channel: ChannelId,
        found: Seq,
        entry: Entry,
    ) -> Result<(), Violation> {
        let Some(next) = self.heard.get_mut(&(listener, channel)) else {
            return Err(Violation::NotSubscribed { listener, channel });
        };
        let expected = *next;
        if found != expected {
            return Err(Violation::OutOfOrder {
                listener,
                channel,
                expected,
                found,
            });
        }
        *next = found.next();
        self.learn(channel, found, entry)
    }

    /// A client is told to fetch a channel anew; `excused` if the server said that it cannot
    /// read the past.
    pub(crate) fn resynced(
        &mut self,
        listener: Listener,
        channel: ChannelId,
        head: Seq,
        excused: bool,
    ) -> Result<(), Violation> {
        self.claim(channel, head);
        let Some(next) = self.heard.get_mut(&(listener, channel)) else {
            return Err(Violation::NotSubscribed { listener, channel });
        };
        let missed = head.next().0.saturating_sub(next.0);
        *next = head.next();
        if missed > REPLAY_MESSAGES_MAX || excused {
            return Ok(());
        }
        Err(Violation::NeedlessResync {
            listener,
            channel,
            missed,
        })
    }

    /// A connection is gone.
    pub(crate) fn gone(&mut self, listener: Listener) {
        self.heard.retain(|(held, _), _| *held != listener);
        self.orders.retain(|(held, _), _| *held != listener);
    }

    /// What the log holds of a channel, from its first message on.
    pub(crate) fn log(&mut self, channel: ChannelId, log: Vec<Entry>) -> Result<(), Violation> {
        let end = Seq(log.len() as u64);
        for (seq, entry) in (1..).map(Seq).zip(log) {
            self.learn(channel, seq, entry)?;
        }
        let truth = self.channels.entry(channel).or_default();
        let known = truth
            .entries
            .last_key_value()
            .map_or(Seq(0), |(seq, _)| *seq);
        let seq = known.max(truth.claimed);
        if seq > end {
            Err(Violation::Lost { channel, seq, end })
        } else {
            Ok(())
        }
    }

    /// Everything that a subscriber was due must have come.
    pub(crate) fn complete(&self, listener: Listener, channel: ChannelId) -> Result<(), Violation> {
        let head = self.head(channel);
        let Some(next) = self.heard.get(&(listener, channel)) else {
            return Err(Violation::NotSubscribed { listener, channel });
        };
        if next.0 > head.0 {
            return Ok(());
        }
        Err(Violation::Missing {
            listener,
            channel,
            heard: Seq(next.0 - 1),
            head,
        })
    }

    /// The last place of a channel that anybody has seen or been told of.
    pub(crate) fn head(&self, channel: ChannelId) -> Seq {
        let Some(truth) = self.channels.get(&channel) else {
            return Seq(0);
        };
        let seen = truth
            .entries
            .last_key_value()
            .map_or(Seq(0), |(seq, _)| *seq);
        seen.max(truth.claimed)
    }

    /// Places and ids of a channel's messages, as far as they are known.
    pub(crate) fn places(&self, channel: ChannelId) -> Vec<(Seq, MessageId)> {
        let entries = self
            .channels
            .get(&channel)
            .into_iter()
            .flat_map(|truth| &truth.entries);
        entries.map(|(seq, entry)| (*seq, entry.id)).collect()
    }

    /// How many messages are known.
    pub(crate) fn messages(&self) -> usize {
        self.channels
            .values()
            .map(|truth| truth.entries.len())
            .sum()
    }

    /// A message has been seen at a place.
    pub(crate) fn learn(
        &mut self,
        channel: ChannelId,
        seq: Seq,
        entry: Entry,
    ) -> Result<(), Violation> {
        let own_name = self.names.get(&entry.author);
        if let (Some(expected), Some(found)) = (own_name, &entry.author_name)
            && expected != found
        {
            return Err(Violation::WrongName {
                channel,
                seq,
                expected: expected.clone(),
                found: found.clone(),
            });
        }
        let truth = self.channels.entry(channel).or_default();
        if let Some(known) = truth.entries.get_mut(&seq) {
            if !agree(known, &entry) {
                let (first, second) = (Box::new(known.clone()), Box::new(entry));
                return Err(Violation::TwoAtOnePlace {
                    channel,
                    seq,
                    first,
                    second,
                });
            }
            let news = known.nonce.is_none() && entry.nonce.is_some()
                || known.content.is_none() && entry.content.is_some();
            known.nonce = known.nonce.or(entry.nonce);
            if known.content.is_none() {
                known.content = entry.content;
            }
            let known = known.clone();
            return if news {
                self.named(channel, seq, &known)
            } else {
                Ok(())
            };
        }
        let before = truth.entries.range(..seq).next_back();
        let after = truth.entries.range(seq.next()..).next();
        if before.is_some_and(|(_, other)| other.id >= entry.id)
            || after.is_some_and(|(_, other)| other.id <= entry.id)
        {
            return Err(Violation::IdsOutOfOrder { channel, seq });
        }
        truth.entries.insert(seq, entry.clone());
        self.named(channel, seq, &entry)
    }

    /// A message must have been sent, and its nonce must not name another one.
    fn named(&mut self, channel: ChannelId, seq: Seq, entry: &Entry) -> Result<(), Violation> {
        let Some(nonce) = entry.nonce else {
            return Ok(());
        };
        let key = Key {
            author: entry.author,
            channel,
            nonce,
        };
        let content = entry.content.clone();
        let Some(sent) = self.sent.get_mut(&key) else {
            return Err(Violation::NeverSent { key, seq, content });
        };
        if content
            .as_ref()
            .is_some_and(|content| !sent.contents.contains(content))
        {
            return Err(Violation::NeverSent { key, seq, content });
        }
        let near = |id: MessageId| id.timestamp_ms().abs_diff(entry.id.timestamp_ms());
        let other = sent
            .places
            .iter()
            .find(|(at, id)| *at != seq && near(*id) < NONCE_KEEP_MS);
        if let Some((first, _)) = other {
            return Err(Violation::StoredTwice {
                key,
                first: *first,
                second: seq,
            });
        }
        if sent.places.iter().all(|(at, _)| *at != seq) {
            sent.places.push((seq, entry.id));
        }
        Ok(())
    }

    fn claim(&mut self, channel: ChannelId, head: Seq) {
        let truth = self.channels.entry(channel).or_default();
        truth.claimed = truth.claimed.max(head);
    }
}

/// Whether two sights of one place can be the same message.
fn agree(known: &Entry, entry: &Entry) -> bool {
    fn same<T: PartialEq>(known: &Option<T>, seen: &Option<T>) -> bool {
        known.is_none() || seen.is_none() || known == seen
    }
    known.id == entry.id
        && known.author == entry.author
        && same(&known.content, &entry.content)
        && same(&known.nonce, &entry.nonce)
}

#[cfg(test)]
mod tests;
