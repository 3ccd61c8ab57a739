//! What clients say in channels: new messages, old ones again, typing, and what they may not.
//!
//! It hears nothing; what becomes of a message is in `answer`.
//!
//! Invariant: what is sent is known to the oracle before it is on the wire.

use std::borrow::Cow;

use rand::RngExt;
use throng_protocol::{ChannelId, Command, Nonce};

use crate::client::Outgoing;
use crate::counts::Happening;
use crate::oracle::{From, Key};
use crate::world::World;

/// Messages that one client has under way at most.
const OUTGOING_MAX: usize = 40;

impl World {
    pub(crate) fn send_due(&mut self, client: usize) {
        let now_us = self.now_us;
        let due: Vec<usize> = (0..self.clients[client].outgoing.len())
            .filter(|at| {
                let due_us = self.clients[client].outgoing[*at].due_us;
                due_us.is_some_and(|due_us| due_us <= now_us)
            })
            .collect();
        for at in due {
            self.send(client, at);
        }
    }

    fn send(&mut self, client: usize, at: usize) {
        let outgoing = &mut self.clients[client].outgoing[at];
        outgoing.due_us = None;
        outgoing.sends += 1;
        if outgoing.sends > 1 {
            self.counts.add(Happening::ResentUnanswered);
        }
        let outgoing = outgoing.clone();
        self.send_message(client, &outgoing);
    }

    fn send_message(&mut self, client: usize, outgoing: &Outgoing) {
        let Outgoing {
            channel,
            nonce,
            content,
            ..
        } = outgoing;
        let author = self.control.user(self.clients[client].account);
        self.oracle.sent(
            Key {
                author,
                channel: *channel,
                nonce: *nonce,
            },
            content,
        );
        *self.clients[client]
            .wire
            .awaiting
            .entry(*nonce)
            .or_default() += 1;
        self.say(
            client,
            &Command::SendMessage {
                channel_id: *channel,
                content: Cow::Borrowed(content),
                nonce: *nonce,
                reply_to: None,
            },
        );
    }

    pub(crate) fn send_new(&mut self, client: usize) {
        if let Some(channel) = self.some_channel(client) {
            self.send_new_to(client, channel);
        }
    }

    /// A new message to a channel, which the client may or may not use.
    pub(crate) fn send_new_to(&mut self, client: usize, channel: ChannelId) {
        if self.clients[client].outgoing.len() >= OUTGOING_MAX {
            return;
        }
        let nonce = Nonce::from_u128(self.random.random());
        let words = *crate::plan::pick(&mut self.random, &[1, 3, 8, 24]);
        let content = format!("{} says {}", client, "grüezi, 世界 ".repeat(words));
        let content = content.trim_end().to_owned();
        let member = self.clients[client].mine.contains(&channel);
        let outgoing = Outgoing {
            channel,
            nonce,
            content,
            due_us: None,
            member,
            sends: 0,
        };
        self.clients[client].outgoing.push(outgoing);
        self.send(client, self.clients[client].outgoing.len() - 1);
    }

    pub(crate) fn burst(&mut self, client: usize) {
        for _ in 0..self.random.random_range(10..=OUTGOING_MAX) {
            self.send_new(client);
        }
    }

    /// Sends what is stored once more, sometimes with another text.
    pub(crate) fn resend_stored(&mut self, client: usize) {
        let count = self.clients[client].stored.len();
        if count == 0 {
            return;
        }
        let at = self.random.random_range(0..count);
        let mut again = self.clients[client].stored[at].clone();
        if self.random.random_ratio(1, 4) {
            again.content = "something else".to_owned();
        }
        self.counts.add(Happening::ResentAcked);
        self.send_message(client, &again);
    }

    pub(crate) fn type_somewhere(&mut self, client: usize) {
        let held = &self.clients[client];
        if !held.typist || !held.wire.pending.is_empty() || held.wire.unexplained > 0 {
            return;
        }
        let channel = held
            .heard
            .iter()
            .find_map(|(channel, heard)| heard.on.then_some(*channel));
        let Some(channel_id) = channel else { return };
        self.clients[client].wire.typed = true;
        self.counts.add(Happening::Typing);
        let typing = match self.random.random() {
            true => Command::StartTyping { channel_id },
            false => Command::StopTyping { channel_id },
        };
        self.say(client, &typing);
    }

    /// Somebody who is in no guild tries all the same.
    pub(crate) fn trespass(&mut self, client: usize) {
        let channels = self.control.channels();
        let channel = channels[self.random.random_range(0..channels.len())];
        match self.random.random_range(0..4) {
            0 => self.send_new_to(client, channel),
            1 => self.subscribe(client, channel, From::Head),
            2 => self.subscribe(client, ChannelId::from_u128(self.now_us.into()), From::Head),
            _ => {}
        }
    }
}
