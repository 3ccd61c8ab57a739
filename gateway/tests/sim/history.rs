//! Pages of history, as REST would ask for them: now and then during a run, and all of every
//! channel at its end.
//!
//! It checks no permission; the control plane does that before it asks.
//!
//! Invariants: a page is dense and newest first; at the end of a run it holds exactly what the
//! truth says.

use rand::RngExt;
use throng_control::{HistoryError, HistoryQuery, ToShard};
use throng_protocol::{ChannelId, Message, MessageId, Seq};
use throng_router::Topic;

use crate::counts::Happening;
use crate::oracle::{Entry, Violation};
use crate::world::{BROWSE_US, Event, World};

/// At the end pages are read around every so many-th message.
const QUERIES_STEP: usize = 41;

/// The longest that a page takes when nothing else happens.
const ANSWER_US_MAX: u64 = 20_000_000;

/// A page that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Browsed {
    channel: ChannelId,
    query: HistoryQuery,
    limit: usize,
    /// The truth is complete, so that the page must be exactly what it says.
    exact: bool,
}

impl World {
    /// Somebody reads a page somewhere.
    pub(crate) fn browse(&mut self) {
        if self.winding {
            return;
        }
        self.put(BROWSE_US, Event::Browse);
        let channels = self.control.channels();
        let channel = channels[self.random.random_range(0..channels.len())];
        let limit = self.random.random_range(1..=100);
        let query = self.some_query(channel);
        self.ask_page(Browsed {
            channel,
            query,
            limit,
            exact: false,
        });
    }

    fn some_query(&mut self, channel: ChannelId) -> HistoryQuery {
        let places = self.oracle.places(channel);
        if places.is_empty() {
            return HistoryQuery::Newest;
        }
        let (_, id) = places[self.random.random_range(0..places.len())];
        // Half of the time an id beside a message: it need not exist.
        let beside = MessageId::from_u128(id.as_u128() ^ u128::from(self.random_below(2)));
        match self.random.random_range(0..4) {
            0 => HistoryQuery::Newest,
            1 => HistoryQuery::Before(beside),
            2 => HistoryQuery::After(beside),
            _ => HistoryQuery::Around(beside),
        }
    }

    fn ask_page(&mut self, browsed: Browsed) {
        let Browsed {
            channel,
            query,
            limit,
            ..
        } = browsed;
        let Some(node) = self.node() else { return };
        let shard = node.topology.shard_of(&Topic::Channel(*channel.as_bytes()));
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.browsing.insert(ticket, browsed);
        let message = ToShard::History {
            ticket,
            channel,
            query,
            limit,
        };
        let after_us = self.plan.control.draw(&mut self.random);
        self.put(
            after_us,
            Event::FromControl {
                epoch: self.epoch,
                shard,
                message,
            },
        );
    }

    /// A shard has answered.
    pub(crate) fn page_arrived(&mut self, ticket: u64, result: Result<Vec<Message>, HistoryError>) {
        let browsed = self
            .browsing
            .remove(&ticket)
            .expect("a page is answered once");
        let mut messages = match result {
            Ok(messages) => messages,
            Err(HistoryError::Unavailable) => {
                if browsed.exact {
                    self.ask_page(browsed);
                }
                return;
            }
            Err(HistoryError::Damaged) => panic!("{browsed:?} is damaged"),
        };
        self.counts.add(Happening::HistoryPage);
        messages.reverse();
        let found: Vec<Seq> = messages.iter().map(|message| message.seq).collect();
        for message in messages {
            let entry = Entry {
                id: message.id,
                author: message.author.id,
                author_name: Some(message.author.username),
                content: Some(message.content),
                nonce: None,
            };
            let verdict = self.oracle.learn(message.channel_id, message.seq, entry);
            self.check(verdict);
        }
        let channel = browsed.channel;
        let expected = expected(&self.oracle.places(channel), browsed.query, browsed.limit);
        let right = match browsed.exact {
            true => found == expected,
            false => found.windows(2).all(|pair| pair[1] == pair[0].next()),
        };
        self.exact_pages += u64::from(browsed.exact);
        if !right {
            self.check(Err(Violation::WrongPage {
                channel,
                expected,
                found,
            }));
        }
    }

    /// Reads every channel in every way, page by page, and compares.
    pub(crate) fn read_all_history(&mut self) {
        for channel in self.control.channels() {
            let mut queries = vec![
                HistoryQuery::Newest,
                HistoryQuery::After(MessageId::from_u128(0)),
                HistoryQuery::Before(MessageId::from_u128(u128::MAX)),
            ];
            for (_, id) in self
                .oracle
                .places(channel)
                .into_iter()
                .step_by(QUERIES_STEP)
            {
                let behind = MessageId::from_u128(id.as_u128() + 1);
                queries.extend([HistoryQuery::Before(id), HistoryQuery::After(id)]);
                queries.extend([HistoryQuery::Around(id), HistoryQuery::Around(behind)]);
            }
            for query in queries {
                self.read_exactly(channel, query);
            }
        }
    }

    fn read_exactly(&mut self, channel: ChannelId, query: HistoryQuery) {
        let limit = self.random.random_range(1..=100);
        self.ask_page(Browsed {
            channel,
            query,
            limit,
            exact: true,
        });
        let latest_us = self.now_us + ANSWER_US_MAX;
        while self.browsing.values().any(|browsed| browsed.exact) {
            assert!(
                self.now_us < latest_us,
                "{query:?} of {channel:?} is not answered"
            );
            self.step();
        }
    }
}

/// What a page must hold, oldest first.
fn expected(places: &[(Seq, MessageId)], query: HistoryQuery, limit: usize) -> Vec<Seq> {
    let count =
        |keep: &dyn Fn(MessageId) -> bool| places.iter().filter(|(_, id)| keep(*id)).count();
    let (from, to) = match query {
        HistoryQuery::Newest => (places.len().saturating_sub(limit), places.len()),
        HistoryQuery::Before(id) => {
            let end = count(&|other| other < id);
            (end.saturating_sub(limit), end)
        }
        HistoryQuery::After(id) => {
            let start = count(&|other| other <= id);
            (start, places.len().min(start + limit))
        }
        HistoryQuery::Around(id) => {
            let middle = count(&|other| other < id);
            let before = limit / 2;
            (
                middle.saturating_sub(before),
                places.len().min(middle + limit - before),
            )
        }
    };
    places[from..to].iter().map(|(seq, _)| *seq).collect()
}
