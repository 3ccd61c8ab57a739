//! What clients make of what they hear: every event is held against what was asked for and
//! against the oracle.
//!
//! It sends nothing but what an answer demands: pongs, IDENTIFY after HELLO.
//!
//! Invariants: nothing is heard that was not asked for; every answer belongs to one question.

use throng_protocol::frame::Opcode;
use throng_protocol::{ChannelId, CloseReason, ErrorCode, Event, Message, MessageId, Nonce, Seq};

use crate::client::{Arrived, Asked, Kind, Stage};
use crate::counts::Happening;
use crate::oracle::{Entry, From, Key, Listener};
use crate::world::{Power, World};

/// How long after UNSUBSCRIBE_CHANNEL a channel may still be heard.
const UNSUBSCRIBED_US: u64 = 20_000_000;

/// Messages that are kept to be sent again.
const STORED_MAX: usize = 8;

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
            Event::Hello { .. } => {
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
        let over = heard
            .ended_us
            .is_some_and(|ended_us| ended_us + UNSUBSCRIBED_US < self.now_us);
        assert!(
            heard.on || !over || !self.links[link].healthy,
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

    /// An answer to a message arrived: one less is due.
    fn answered(&mut self, client: usize, nonce: Nonce) {
        let awaiting = &mut self.clients[client].wire.awaiting;
        let Some(due) = awaiting.get_mut(&nonce) else {
            panic!("client {client} is answered {nonce:?} without having asked, or twice")
        };
        *due -= 1;
        if *due == 0 {
            awaiting.remove(&nonce);
        }
    }

    fn acked(&mut self, client: usize, link: usize, nonce: Nonce, id: MessageId, seq: Seq) {
        self.answered(client, nonce);
        let held = &mut self.clients[client];
        let known = held.stored.iter().find(|stored| stored.nonce == nonce);
        let channel = match held
            .outgoing
            .iter()
            .position(|outgoing| outgoing.nonce == nonce)
        {
            Some(at) => {
                let stored = held.outgoing.remove(at);
                let channel = stored.channel;
                held.stored.push_back(stored);
                if held.stored.len() > STORED_MAX {
                    held.stored.pop_front();
                }
                channel
            }
            None => match known {
                Some(stored) => {
                    self.counts.add(Happening::SameAckAgain);
                    stored.channel
                }
                None => return, // An answer to what was sent again and then forgotten.
            },
        };
        let account = self.clients[client].account;
        assert!(
            self.control.may(account, channel),
            "client {client} wrote to a foreign channel"
        );
        let key = Key {
            author: self.control.user(account),
            channel,
            nonce,
        };
        let verdict = self.oracle.acked(Listener(link), key, id, seq);
        self.check(verdict);
    }

    fn message_refused(
        &mut self,
        client: usize,
        code: ErrorCode,
        nonce: Nonce,
        retry_after_ms: Option<u64>,
    ) {
        self.answered(client, nonce);
        let after_us = match code {
            ErrorCode::Unavailable => {
                self.counts.add(Happening::Unavailable);
                200_000 + self.random_below(600_000)
            }
            ErrorCode::RateLimited => {
                self.counts.add(Happening::RateLimited);
                retry_after_ms.expect("RATE_LIMITED says when to try again") * 1_000
            }
            ErrorCode::PermissionDenied => {
                self.counts.add(Happening::Denied);
                let refused = |held: &crate::client::Outgoing| held.nonce == nonce;
                let outgoing = &mut self.clients[client].outgoing;
                let member = outgoing
                    .iter()
                    .find(|held| refused(held))
                    .map(|held| held.member);
                assert!(
                    member != Some(true),
                    "client {client} is a member and was turned away"
                );
                return outgoing.retain(|held| !refused(held));
            }
            other => panic!("client {client}: {other} answers a message"),
        };
        let due_us = self.now_us + after_us;
        let held = self.clients[client]
            .outgoing
            .iter_mut()
            .find(|held| held.nonce == nonce);
        if let Some(outgoing) = held {
            outgoing.due_us = Some(due_us);
        }
    }

    /// An error that names no message.
    fn refused(
        &mut self,
        client: usize,
        code: ErrorCode,
        retry_after_ms: Option<u64>,
        message: &str,
    ) {
        let now_us = self.now_us;
        let held = &mut self.clients[client];
        let wire = &mut held.wire;
        if code == ErrorCode::InvalidPayload {
            self.counts.add(Happening::Garbage);
            wire.nonsense = wire
                .nonsense
                .checked_sub(1)
                .expect("nonsense is answered once");
            return;
        }
        if held.stage == Stage::Identifying {
            wire.identify_refused = true;
            wire.identify_us = Some(now_us + retry_after_ms.unwrap_or(500) * 1_000);
            return;
        }
        assert!(
            held.stage == Stage::Ready,
            "client {client}: {code} {message}"
        );
        match code {
            ErrorCode::Unavailable => self.counts.add(Happening::Unavailable),
            ErrorCode::PermissionDenied | ErrorCode::ChannelNotFound => {
                self.counts.add(Happening::Denied);
                let foreign = wire.pending.values().any(|asked| !asked.member);
                assert!(
                    foreign,
                    "client {client} is a member and was turned away: {message}"
                );
            }
            other => panic!("client {client}: {other} {message}"),
        }
        wire.unexplained += 1;
        wire.last_was_error = true;
        wire.news_us = now_us;
    }

    /// The server has said that it ends the connection, and why.
    fn closed(&mut self, client: usize, link: usize, code: Option<u16>) {
        let held = &self.clients[client];
        let reasons = CloseReason::ALL;
        let reason = reasons
            .into_iter()
            .find(|reason| Some(reason.code()) == code);
        let healthy = self.links[link].healthy;
        match reason {
            Some(CloseReason::Normal) => assert!(held.wire.leaving),
            Some(CloseReason::ProtocolError | CloseReason::InvalidUtf8 | CloseReason::TooBig) => {
                assert!(held.wire.leaving, "client {client} broke no rule: {code:?}");
                self.counts.add(Happening::ProtocolViolation);
            }
            Some(CloseReason::IdentifyTimeout) => {
                let late = held.kind == Kind::Mute || held.wire.identify_refused || !healthy;
                assert!(late, "client {client} said in time who it is");
                self.counts.add(Happening::UnidentifiedClosed);
            }
            Some(CloseReason::BadToken) => {
                assert!(
                    held.kind == Kind::Forger,
                    "client {client} has a good token"
                );
                self.counts.add(Happening::BadToken);
            }
            Some(CloseReason::SlowConsumer) => assert!(!healthy, "client {client} is not slow"),
            Some(CloseReason::HeartbeatTimeout) => {
                assert!(
                    held.kind == Kind::Silent || !healthy,
                    "client {client} was not silent"
                );
                self.counts.add(Happening::SilentClosed);
            }
            Some(CloseReason::TooManySessions) => self.counts.add(Happening::TooManySessions),
            Some(CloseReason::GoingAway) => {
                assert!(self.counts.of(Happening::Drain) > 0, "nobody asked to end");
                self.counts.add(Happening::DrainOutlasted);
            }
            None => panic!("client {client} is closed with {code:?}"),
        }
        let retires = reason == Some(CloseReason::BadToken)
            || (reason == Some(CloseReason::TooManySessions) && self.winding);
        self.hang_up(link);
        self.client_lost(link);
        if retires {
            self.clients[client].stage = Stage::Retired;
        }
        if matches!(reason, Some(CloseReason::TooManySessions)) {
            self.client_turn(client, 4_000_000);
        }
    }

    /// The connection is gone; the client will come back after a while, usually better behaved.
    pub(crate) fn client_lost(&mut self, link: usize) {
        let client = self.links[link].client;
        if self.clients[client].link != Some(link) {
            return;
        }
        self.trace
            .note(self.now_us, format_args!("c{client} is offline"));
        self.oracle.gone(Listener(link));
        let held = &mut self.clients[client];
        held.link = None;
        held.stage = Stage::Offline;
        if held.wire.was_ready || held.kind == Kind::Mute {
            held.kind = match held.kind {
                Kind::Stubborn => Kind::Stubborn,
                _ => Kind::Good,
            };
        }
        held.wire = crate::client::Wire::default();
        for heard in held.heard.values_mut() {
            (heard.on, heard.from_head, heard.ended_us) = (false, false, None);
        }
        let longest_us = match (self.winding, &self.power) {
            (true, _) => 500_000,
            (false, Power::Up(_)) => 12_000_000,
            (false, Power::Down | Power::Starting(_)) => 2_000_000,
        };
        let after_us = 20_000 + self.random_below(longest_us);
        self.client_turn(client, after_us);
    }
}
