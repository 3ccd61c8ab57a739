//! What clients listen to: subscriptions asked for, anew, again and no longer.
//!
//! It hears nothing; what becomes of a subscription is in `hear`.
//!
//! Invariant: at most one request per channel is under way on a connection, since ERROR does not
//! say which channel it is about.

use rand::RngExt;
use throng_protocol::{ChannelId, Command, Seq};

use crate::client::{Asked, Heard};
use crate::oracle::From;
use crate::world::World;

/// After how long without a further answer a client gives up on a connection with such errors.
const ERROR_SETTLES_US: u64 = 4_000_000;

impl World {
    /// Low numbers come up more often: some channels are hot.
    pub(crate) fn some_channel(&mut self, client: usize) -> Option<ChannelId> {
        let count = self.clients[client].mine.len() as u64;
        if count == 0 {
            return None;
        }
        let at = self.random_below(count).min(self.random_below(count));
        self.clients[client]
            .mine
            .iter()
            .nth(usize::try_from(at).ok()?)
            .copied()
    }

    pub(crate) fn subscribe_some(&mut self, client: usize) {
        let Some(channel) = self.some_channel(client) else {
            return;
        };
        let last = self.clients[client]
            .heard
            .get(&channel)
            .and_then(|heard| heard.last);
        let from = match last {
            Some(last) if self.random.random() => From::After(last),
            None if self.random.random_ratio(1, 4) => From::After(Seq(0)),
            Some(_) | None => From::Head,
        };
        self.subscribe(client, channel, from);
    }

    pub(crate) fn subscribe_wanted(&mut self, client: usize) {
        let held = &self.clients[client];
        let due = |(channel, heard): (&ChannelId, &Heard)| {
            let missing = heard.wanted && !heard.on && !held.wire.pending.contains_key(channel);
            missing.then_some((*channel, heard.last))
        };
        let due: Vec<_> = held.heard.iter().filter_map(due).collect();
        for (channel, last) in due {
            self.subscribe(client, channel, last.map_or(From::Head, From::After));
        }
    }

    pub(crate) fn subscribe_again(&mut self, client: usize) {
        let live = |(channel, heard): (&ChannelId, &Heard)| {
            (heard.wanted && heard.on && heard.from_head).then_some(*channel)
        };
        if let Some(channel) = self.clients[client].heard.iter().find_map(live) {
            self.subscribe(client, channel, From::Again);
        }
    }

    /// Asks for a channel, unless that would be confused with what is under way.
    pub(crate) fn subscribe(&mut self, client: usize, channel: ChannelId, from: From) {
        let known = self.oracle.head(channel);
        let held = &mut self.clients[client];
        if held.wire.typed || held.wire.pending.contains_key(&channel) {
            return;
        }
        let member = held.mine.contains(&channel);
        let heard = held.heard.entry(channel).or_default();
        let from = match from {
            From::Head if heard.on && heard.from_head => From::Again,
            From::Head if heard.on => From::HeadOrAgain,
            other => other,
        };
        held.wire.pending.insert(
            channel,
            Asked {
                from,
                known,
                member,
            },
        );
        heard.wanted = member;
        let after_seq = match from {
            From::Head | From::Again | From::HeadOrAgain => None,
            From::After(seq) => Some(seq),
        };
        let subscribe = Command::SubscribeChannel {
            channel_id: channel,
            after_seq,
            after_rev: None,
        };
        self.say(client, &subscribe);
    }

    pub(crate) fn unsubscribe_some(&mut self, client: usize) {
        let now_us = self.now_us;
        let held = &mut self.clients[client];
        if held.wire.typed {
            return;
        }
        let live = held
            .heard
            .iter()
            .filter(|(_, heard)| heard.on)
            .map(|(channel, _)| *channel);
        let live: Vec<ChannelId> = live
            .filter(|channel| !held.wire.pending.contains_key(channel))
            .collect();
        if live.is_empty() {
            return;
        }
        let channel = live[self.random.random_range(0..live.len())];
        let heard = self.clients[client].heard.entry(channel).or_default();
        (heard.wanted, heard.on, heard.from_head) = (false, false, false);
        heard.ended_us = Some(now_us);
        self.say(
            client,
            &Command::UnsubscribeChannel {
                channel_id: channel,
            },
        );
    }

    /// Errors that name nothing and were followed by nothing: a subscription was refused, or the
    /// end of one, and nobody can say which. Only a new connection makes that clear again.
    pub(crate) fn settle_errors(&mut self, client: usize) {
        let wire = &self.clients[client].wire;
        if wire.unexplained > 0 && wire.news_us + ERROR_SETTLES_US < self.now_us {
            self.leave_abruptly(client);
        }
    }
}
