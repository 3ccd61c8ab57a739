//! After the run: does REST history hold exactly what the clients saw?
//!
//! It never judges live delivery, only what the server says it has kept.
//!
//! Invariants: a channel is read backwards page by page until the first message of the run; each
//! message counts as one difference at most.

use std::collections::BTreeMap;

use serde::Deserialize;
use throng_protocol::{Message, MessageId, Seq};

use crate::error::BenchError;
use crate::index::ChannelIndex;
use crate::oracle::{Entry, Oracle};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::rest::{Call, Rest};

const PAGE: usize = 100;

/// The outcome of a comparison.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Compared {
    /// Messages that were looked for.
    pub checked: u64,
    /// Messages that are missing, different, out of order, or that no client saw.
    pub mismatches: u64,
}

/// Compares the history of at most `channels_max` channels, spread over all popularities.
///
/// # Errors
/// When history cannot be read at all.
pub fn compare(
    rest: &Rest,
    plan: &Plan,
    oracle: &Oracle,
    channels_max: usize,
) -> Result<Compared, BenchError> {
    let mut total = Compared::default();
    let channels = plan.channels.len();
    let sample = channels_max.min(channels);
    let progress = Progress::new("history", sample);
    for number in 0..sample {
        let channel = ChannelIndex::at(number * channels / sample);
        let seen = oracle.timeline(channel);
        if let Some((&first, _)) = seen.first_key_value() {
            let kept = read_back(rest, plan, channel, first)?;
            let compared = differences(&seen, &kept, |entry| {
                entry
                    .index
                    .map(|index| plan.corpus.text(plan.message(index).text))
            });
            total.checked += compared.checked;
            total.mismatches += compared.mismatches;
        }
        progress.advance();
    }
    Ok(total)
}

/// A channel's history, newest first, down to `first`.
fn read_back(
    rest: &Rest,
    plan: &Plan,
    channel: ChannelIndex,
    first: Seq,
) -> Result<Vec<Message>, BenchError> {
    #[derive(Deserialize)]
    struct Page {
        messages: Vec<Message>,
    }
    let member = plan.audiences.of(channel)[0];
    let token = &plan.tokens[member.place()];
    let path = format!(
        "/api/channels/{}/messages?limit={PAGE}",
        plan.channels[channel.place()]
    );
    let mut kept: Vec<Message> = Vec::new();
    let mut before: Option<MessageId> = None;
    loop {
        let before_query = before.map_or_else(String::new, |id| format!("&before={id}"));
        let call = Call::get(format!("{path}{before_query}"));
        let page: Page = rest.call(call, Some(token), None)?;
        let Some(oldest) = page.messages.last() else {
            return Ok(kept);
        };
        let is_deep_enough = oldest.seq <= first;
        // A server that goes in circles would keep us here for ever.
        let is_stuck = before.is_some_and(|before| oldest.id >= before);
        before = Some(oldest.id);
        kept.extend(page.messages);
        if is_deep_enough || is_stuck {
            return Ok(kept);
        }
    }
}

fn differences<'a>(
    seen: &BTreeMap<Seq, Entry>,
    kept_newest_first: &[Message],
    text: impl Fn(&Entry) -> Option<&'a str>,
) -> Compared {
    let mut mismatches = kept_newest_first
        .windows(2)
        .filter(|pair| pair[0].seq <= pair[1].seq)
        .count();
    let kept: BTreeMap<Seq, &Message> = kept_newest_first
        .iter()
        .map(|message| (message.seq, message))
        .collect();
    for (seq, entry) in seen {
        let is_same = kept.get(seq).is_some_and(|message| {
            message.id == entry.message && text(entry).is_none_or(|text| text == message.content)
        });
        mismatches += usize::from(!is_same);
    }
    if let Some((&first, _)) = seen.first_key_value() {
        mismatches += kept
            .range(first..)
            .filter(|(seq, _)| !seen.contains_key(seq))
            .count();
    }
    let count = |items: usize| u64::try_from(items).unwrap_or(u64::MAX);
    Compared {
        checked: count(seen.len()),
        mismatches: count(mismatches),
    }
}

#[cfg(test)]
mod tests {
    use throng_protocol::{Author, ChannelId, Rev, Timestamp, UserId};

    use super::*;
    use crate::index::MessageIndex;

    fn message(seq: u64, id: u64, content: &str) -> Message {
        Message {
            id: MessageId::from_u128(u128::from(id)),
            channel_id: ChannelId::from_u128(0),
            seq: Seq(seq),
            rev: Rev(seq),
            author: Author {
                id: UserId::from_u128(0),
                username: "a".to_owned(),
            },
            content: content.to_owned(),
            timestamp: Timestamp(0),
            edited_at: None,
            attachments: Vec::new(),
            reactions: Vec::new(),
            reply_to: None,
            nonce: None,
        }
    }

    fn check(kept: &[Message], mismatches: u64) {
        let seen: BTreeMap<Seq, Entry> = (4..=6)
            .map(|seq: u64| {
                let message = MessageId::from_u128(u128::from(seq));
                (
                    Seq(seq),
                    Entry {
                        message,
                        index: Some(MessageIndex(0)),
                    },
                )
            })
            .collect();
        let compared = differences(&seen, kept, |_| Some("hi"));
        assert_eq!(
            compared,
            Compared {
                checked: 3,
                mismatches
            },
            "{kept:?}"
        );
    }

    #[test]
    fn differences_are_counted() {
        let whole = [6, 5, 4, 3].map(|seq| message(seq, seq, "hi"));
        check(&whole, 0);
        check(&whole[1..], 1);
        check(&[], 3);
        check(&[6, 5, 4].map(|seq| message(seq, seq + 1, "hi")), 3);
        check(&[6, 5, 4].map(|seq| message(seq, seq, "ho")), 3);
        check(&[7, 6, 5, 4].map(|seq| message(seq, seq, "hi")), 1);
        check(&[6, 4, 5].map(|seq| message(seq, seq, "hi")), 1);
    }
}
