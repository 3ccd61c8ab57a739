//! What clients make of what they hear: every event is held against what was asked for and
//! against the oracle.
//!
//! It sends nothing but what an answer demands: pongs, IDENTIFY after HELLO.
//!
//! Invariants: nothing is heard that was not asked for; every answer belongs to one question.

use throng_protocol::frame::Opcode;
use throng_protocol::{ChannelId, Event, Message, Seq};

use crate::client::{Arrived, Asked, Kind, Stage};
use crate::counts::Happening;
use crate::oracle::{Entry, From, Listener};
use crate::world::World;

/// How long after UNSUBSCRIBE_CHANNEL a channel may still be heard.
const UNSUBSCRIBED_US: u64 = 20_000_000;

impl World {
    /// Bytes arrive at a client.
    pub(crate) fn client_hears(&mut self, link: usize, bytes: &mut [u8]) {
        let client = self.links[link].client;
        if self.clients[client].link != Some(link) {
            return;
        }
        for arrived in self.clients[client].receive(bytes, &mut self.parser) {
            if self.clients[client].link != Some(link) {
                return;
            }
            self.note_arrived(client, &arrived);
            match arrived {
                Arrived::Upgraded => self.clients[client].stage = Stage::Upgraded,
                Arrived::NotUpgraded => panic!("client {client} was refused its WebSocket"),
                Arrived::Ping(payload) => {
                    self.clients[client].wire.pings += 1;
                    if self.clients[client].kind != Kind::Silent {
                        self.say_frame(client, Opcode::Pong, &payload);
                    }
                }
                Arrived::Pong => {}
                Arrived::Close(code) => self.closed(client, link, code),
                Arrived::Event(event) => self.hears(client, link, &event),
            }
        }
    }

    fn note_arrived(&mut self, client: usize, arrived: &Arrived) {
        let now_us = self.now_us;
        match arrived {
            Arrived::Event(event) => match &**event {
                Event::MessageCreate { message } => {
                    let (channel, seq) = (message.channel_id, message.seq);
                    self.trace
                        .note(now_us, format_args!("c{client} hears {channel:?} {seq}"));
                }
                Event::Ready { .. } | Event::GuildCreate { .. } => {
                    self.trace
                        .note(now_us, format_args!("c{client} hears of its guilds"));
                }
                event => self
                    .trace
                    .note(now_us, format_args!("c{client} hears {event:?}")),
            },
            other => self
                .trace
                .note(now_us, format_args!("c{client} hears {other:?}")),
        }
    }

    fn hears(&mut self, client: usize, link: usize, event: &Event) {
        let after_error = std::mem::take(&mut self.clients[client].wire.last_was_error);
        match event {
            Event::Hello {
                heartbeat_interval_ms,
            } => {
                self.clients[client].wire.heartbeat_every_us = heartbeat_interval_ms * 1_000;
                if self.clients[client].kind != Kind::Mute {
                    self.identify(client);
                }
            }
            Event::Ready { user, .. } => {
                assert!(user.id == self.control.user(self.clients[client].account));
                self.ready(client);
            }
            Event::HeartbeatAck => {
                let due = &mut self.clients[client].wire.acks_due;
                *due = due.checked_sub(1).expect("a heartbeat is answered once");
            }
            Event::MessageCreate { message } => self.message(client, link, message),
            Event::MessageAck {
                nonce,
                message_id,
                seq,
            } => {
                self.acked(client, link, *nonce, *message_id, *seq);
            }
            Event::TypingStart { channel_id, .. } | Event::TypingStop { channel_id, .. } => {
                self.check_may_hear(client, link, *channel_id);
            }
            Event::GuildCreate { .. } => self.counts.add(Happening::GuildCreate),
            Event::Subscribed {
                channel_id, seq, ..
            } => {
                self.subscribed(client, link, *channel_id, *seq);
            }
            Event::Resync { channels, .. } => {
                for head in channels {
                    self.resynced(client, link, head.channel_id, head.seq, after_error);
                }
                if after_error {
                    self.clients[client].wire.unexplained -= 1;
                }
            }
            Event::Reconnect { retry_after_ms, .. } => {
                self.counts.add(Happening::Reconnect);
                if self.clients[client].kind != Kind::Stubborn {
                    self.leave_abruptly(client);
                    self.client_turn(client, retry_after_ms * 1_000);
                }
            }
            Event::Error {
                code,
                nonce: Some(nonce),
                retry_after_ms,
                ..
            } => {
                self.message_refused(client, *code, *nonce, *retry_after_ms);
            }
            Event::Error {
                code,
                nonce: None,
                retry_after_ms,
                message,
            } => {
                self.refused(client, *code, *retry_after_ms, message);
            }
        }
    }

    fn ready(&mut self, client: usize) {
        let now_us = self.now_us;
        let held = &mut self.clients[client];
        assert!(held.stage == Stage::Identifying, "READY answers IDENTIFY");
        held.stage = Stage::Ready;
        held.wire.was_ready = true;
        held.wire.ready_us = now_us;
        held.wire.pending = std::mem::take(&mut held.wire.resuming);
        held.wire.heartbeat_us = now_us;
        for outgoing in &mut held.outgoing {
            outgoing.due_us = Some(now_us);
        }
        if !held.wire.pending.is_empty() {
            self.counts.add(Happening::Resume);
        }
        if self.clients[client].heard.is_empty() && self.clients[client].kind != Kind::Silent {
            let mine: Vec<ChannelId> = self.clients[client].mine.iter().copied().collect();
            for channel in mine {
                if self.random_below(3) > 0 {
                    self.subscribe(client, channel, From::Head);
                }
            }
        }
        let after_us = self.random_below(50_000);
        self.client_turn(client, after_us);
    }

    fn message(&mut self, client: usize, link: usize, message: &Message) {
        let channel = message.channel_id;
        self.check_may_hear(client, link, channel);
        let entry = Entry {
            id: message.id,
            author: message.author.id,
            author_name: Some(message.author.username.clone()),
            content: Some(message.content.clone()),
            nonce: message.nonce,
        };
        let verdict = self
            .oracle
            .delivered(Listener(link), channel, message.seq, entry);
        self.check(verdict);
        if message.nonce.is_none() {
            self.counts.add(Happening::ReplayedMessage);
        }
        let heard = self.clients[client].heard.entry(channel).or_default();
        heard.last = Some(message.seq);
    }

    fn check_may_hear(&mut self, client: usize, link: usize, channel: ChannelId) {
        let account = self.clients[client].account;
        assert!(
            self.control.may(account, channel),
            "client {client} hears a foreign channel"
        );
        let heard = self.clients[client]
            .heard
            .get(&channel)
            .copied()
            .unwrap_or_default();
        // ERROR does not say what was refused: it may have been the UNSUBSCRIBE_CHANNEL.
        let refused = self.clients[client].wire.unexplained > 0;
        let over = heard
            .ended_us
            .is_some_and(|ended_us| ended_us + UNSUBSCRIBED_US < self.now_us);
        assert!(
            heard.on || !over || refused || !self.links[link].healthy,
            "client {client} still hears {channel:?}, which it has long left"
        );
    }

    fn subscribed(&mut self, client: usize, link: usize, channel: ChannelId, head: Seq) {
        let now_us = self.now_us;
        let wire = &mut self.clients[client].wire;
        wire.news_us = now_us;
        let Some(Asked { from, known, .. }) = wire.pending.remove(&channel) else {
            panic!("client {client} is subscribed to {channel:?} without having asked")
        };
        let account = self.clients[client].account;
        assert!(
            self.control.may(account, channel),
            "client {client} got into a foreign channel"
        );
        let verdict = self
            .oracle
            .subscribed(Listener(link), channel, head, from, known);
        self.check(verdict);
        let heard = self.clients[client].heard.entry(channel).or_default();
        heard.on = true;
        heard.wanted = true;
        heard.ended_us = None;
        match from {
            From::Again => {}
            From::Head | From::HeadOrAgain => {
                (heard.from_head, heard.last) = (true, Some(head));
            }
            From::After(after) => (heard.from_head, heard.last) = (false, Some(after.min(head))),
        }
    }

    fn resynced(
        &mut self,
        client: usize,
        link: usize,
        channel: ChannelId,
        head: Seq,
        excused: bool,
    ) {
        self.counts.add(Happening::Resync);
        let verdict = self.oracle.resynced(Listener(link), channel, head, excused);
        self.check(verdict);
        self.clients[client].heard.entry(channel).or_default().last = Some(head);
    }
}
