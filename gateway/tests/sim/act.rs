//! What clients do: connect, say who they are, send, subscribe, type, misbehave and leave.
//!
//! Nothing here looks into the server; a client knows what it has been told.
//!
//! Invariants: what is sent is known to the oracle before it is on the wire; in the winding-down
//! time clients begin nothing new.

use std::borrow::Cow;

use rand::RngExt;
use throng_protocol::frame::{Opcode, encode_masked};
use throng_protocol::{ChannelId, Command, Nonce, Resume, ResumeChannel, Seq, encode_command};

use crate::client::{Asked, Client, Heard, Kind, Outgoing, Stage, Wire};
use crate::counts::Happening;
use crate::link::Reading;
use crate::oracle::{From, Key};
use crate::world::{Event, World};

const REQUEST: &[u8] = b"GET /gateway HTTP/1.1\r\nHost: throng.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Messages that one client has under way at most.
const OUTGOING_MAX: usize = 40;

/// Time between two heartbeats.
const HEARTBEAT_US: u64 = 30_000_000;

/// After how long without an answer an error is taken for the refusal of what was not answered.
const ERROR_SETTLES_US: u64 = 4_000_000;

impl World {
    /// A client's next turn; earlier plans are void.
    pub(crate) fn client_turn(&mut self, client: usize, after_us: u64) {
        self.clients[client].turn += 1;
        let turn = self.clients[client].turn;
        self.put(after_us, Event::Client { client, turn });
    }

    pub(crate) fn client_acts(&mut self, client: usize, turn: u64) {
        if self.clients[client].turn != turn {
            return;
        }
        let after_us = match self.clients[client].stage {
            Stage::Retired => return,
            Stage::Offline => self.come(client),
            Stage::Upgrading | Stage::Upgraded => 1_000_000,
            Stage::Identifying => self.identify_again(client),
            Stage::Ready => self.act(client),
        };
        if self.clients[client].turn == turn {
            self.client_turn(client, after_us);
        }
    }

    fn come(&mut self, client: usize) -> u64 {
        let Some(link) = self.connect(client) else {
            return self.random.random_range(200_000..900_000);
        };
        let held = &mut self.clients[client];
        held.link = Some(link);
        held.wire = Wire::default();
        held.stage = Stage::Upgrading;
        self.write_to_server(link, REQUEST);
        1_000_000
    }

    /// IDENTIFY, with a resume for what the client has of its channels.
    pub(crate) fn identify(&mut self, client: usize) {
        let held = &self.clients[client];
        let token = match held.kind {
            Kind::Forger => "token-of-nobody".to_owned(),
            _ => self.control.token(held.account),
        };
        let wants = held.wants();
        let mut resuming = std::collections::BTreeMap::new();
        for (channel, after) in &wants {
            let known = self.oracle.head(*channel);
            resuming.insert(
                *channel,
                Asked {
                    from: From::After(*after),
                    known,
                    member: true,
                },
            );
        }
        let channels: Vec<ResumeChannel> = wants
            .iter()
            .map(|(channel_id, after_seq)| ResumeChannel {
                channel_id: *channel_id,
                after_seq: *after_seq,
                after_rev: None,
            })
            .collect();
        let resume = (!channels.is_empty()).then_some(Resume { channels });
        let held = &mut self.clients[client];
        held.stage = Stage::Identifying;
        held.wire.resuming = resuming;
        held.wire.identify_us = None;
        self.say(
            client,
            &Command::Identify {
                token: Cow::Owned(token),
                resume,
            },
        );
    }

    fn identify_again(&mut self, client: usize) -> u64 {
        let due_us = self.clients[client].wire.identify_us;
        if due_us.is_some_and(|due_us| due_us <= self.now_us) {
            self.identify(client);
        }
        300_000
    }

    fn act(&mut self, client: usize) -> u64 {
        self.stay_alive(client);
        self.settle_errors(client);
        self.send_due(client);
        self.subscribe_wanted(client);
        if self.clients[client].stage != Stage::Ready {
            return 300_000;
        }
        if self.winding {
            return 300_000;
        }
        match self.clients[client].kind {
            Kind::Silent => return 5_000_000,
            Kind::Breaker if self.random.random_ratio(1, 12) => self.break_rules(client),
            Kind::Stalled if self.random.random_ratio(1, 6) => self.stall(client, Reading::Not),
            Kind::Slow => self.stall(client, Reading::Slowly),
            _ => {}
        }
        if self.clients[client].mine.is_empty() {
            self.trespass(client);
        } else {
            self.act_as_member(client);
        }
        let pace_us = self.plan.pace_us;
        self.random.random_range(pace_us / 5..pace_us * 9 / 5)
    }

    fn act_as_member(&mut self, client: usize) {
        let burst_every = self.plan.burst_every;
        if burst_every > 0 && self.random.random_ratio(1, burst_every) {
            return self.burst(client);
        }
        match self.random.random_range(0..100) {
            0..=44 => self.send_new(client),
            45..=52 => self.resend_stored(client),
            53..=62 => self.subscribe_some(client),
            63..=66 => self.unsubscribe_some(client),
            67..=70 => self.subscribe_again(client),
            71..=77 => self.type_somewhere(client),
            78..=81 => self.leave_abruptly(client),
            82 => self.leave_politely(client),
            83..=85 => self.talk_nonsense(client),
            86..=87 => self.read_slower_for_a_while(client),
            _ => {}
        }
    }

    /// Says something, if the connection is there.
    pub(crate) fn say(&mut self, client: usize, command: &Command<'_>) {
        let text = encode_command(command);
        self.trace
            .note(self.now_us, format_args!("c{client} says {text}"));
        self.say_frame(client, Opcode::Text, text.as_bytes());
    }

    pub(crate) fn say_frame(&mut self, client: usize, opcode: Opcode, payload: &[u8]) {
        let Some(link) = self.clients[client].link else {
            return;
        };
        let mask = self.random.random();
        let frame = encode_masked(opcode, payload, mask);
        self.write_to_server(link, &frame);
    }

    fn stay_alive(&mut self, client: usize) {
        let held = &mut self.clients[client];
        if held.kind == Kind::Silent || self.now_us < held.wire.heartbeat_us {
            return;
        }
        held.wire.heartbeat_us = self.now_us + HEARTBEAT_US;
        held.wire.acks_due += 1;
        self.say(client, &Command::Heartbeat);
    }

    /// Errors that name nothing and were followed by nothing: what has not been answered was
    /// refused, and an UNSUBSCRIBE_CHANNEL may have been.
    fn settle_errors(&mut self, client: usize) {
        let now_us = self.now_us;
        let wire = &mut self.clients[client].wire;
        let over = wire.news_us + ERROR_SETTLES_US < now_us && wire.unexplained > 0;
        if !over || wire.unexplained < wire.pending.len() {
            return;
        }
        wire.unexplained = 0;
        for channel in std::mem::take(&mut wire.pending).into_keys() {
            let heard = self.clients[client].heard.entry(channel).or_default();
            (heard.on, heard.from_head) = (false, false);
        }
        let ended = self.clients[client]
            .heard
            .iter_mut()
            .filter_map(|(channel, heard)| {
                let ended_us = heard.ended_us.as_mut()?;
                *ended_us = now_us;
                Some(*channel)
            });
        for channel_id in ended.collect::<Vec<_>>() {
            self.say(client, &Command::UnsubscribeChannel { channel_id });
        }
        if self.clients[client]
            .link
            .is_some_and(|link| !self.links[link].healthy)
        {
            self.leave_abruptly(client);
        }
    }

    fn send_due(&mut self, client: usize) {
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

    fn send_new(&mut self, client: usize) {
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

    fn burst(&mut self, client: usize) {
        for _ in 0..self.random.random_range(10..=OUTGOING_MAX) {
            self.send_new(client);
        }
    }

    /// Sends what is stored once more, sometimes with another text.
    fn resend_stored(&mut self, client: usize) {
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

    /// Low numbers come up more often: some channels are hot.
    fn some_channel(&mut self, client: usize) -> Option<ChannelId> {
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

    fn subscribe_some(&mut self, client: usize) {
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

    fn subscribe_wanted(&mut self, client: usize) {
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

    fn subscribe_again(&mut self, client: usize) {
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

    fn unsubscribe_some(&mut self, client: usize) {
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

    fn type_somewhere(&mut self, client: usize) {
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
    fn trespass(&mut self, client: usize) {
        let channels = self.control.channels();
        let channel = channels[self.random.random_range(0..channels.len())];
        match self.random.random_range(0..4) {
            0 => self.send_new_to(client, channel),
            1 => self.subscribe(client, channel, From::Head),
            2 => self.subscribe(client, ChannelId::from_u128(self.now_us.into()), From::Head),
            _ => {}
        }
    }

    fn talk_nonsense(&mut self, client: usize) {
        self.clients[client].wire.nonsense += 1;
        let texts: [&[u8]; 6] = [
            b"{",
            b"[]",
            b"{\"type\":\"EXPLODE\"}",
            b"{\"type\":\"SUBSCRIBE_CHANNEL\",\"channelId\":\"7\"}",
            b"{\"type\":\"IDENTIFY\",\"token\":\"once more\"}",
            b"\"\"",
        ];
        let text = *crate::plan::pick(&mut self.random, &texts);
        let opcode = if self.random.random_ratio(1, 6) {
            Opcode::Binary
        } else {
            Opcode::Text
        };
        self.say_frame(client, opcode, text);
    }

    /// A frame that no client may send.
    fn break_rules(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else {
            return;
        };
        let too_big = vec![b' '; self.plan.config.limits.message_bytes_max + 1];
        let bytes = match self.random.random_range(0..4) {
            0 => vec![0x81, 1, b'x'],
            1 => encode_masked(Opcode::Text, &too_big, [7; 4]).to_vec(),
            2 => encode_masked(Opcode::Text, &[0xff, 0xfe], [0; 4]).to_vec(),
            _ => vec![0xf1, 0x80, 0, 0, 0, 0],
        };
        self.clients[client].wire.leaving = true;
        self.write_to_server(link, &bytes);
    }

    fn stall(&mut self, client: usize, reading: Reading) {
        if let Some(link) = self.clients[client].link {
            self.read_from_now_on(link, reading);
        }
    }

    fn read_slower_for_a_while(&mut self, client: usize) {
        let reading = if self.random.random() {
            Reading::Slowly
        } else {
            Reading::AtOnce
        };
        if self.plan.odd_percent > 0 {
            self.stall(client, reading);
        }
    }

    pub(crate) fn leave_abruptly(&mut self, client: usize) {
        let Some(link) = self.clients[client].link else {
            return;
        };
        self.counts.add(Happening::AbruptEnd);
        self.hang_up(link);
        self.client_lost(link);
    }

    fn leave_politely(&mut self, client: usize) {
        self.clients[client].wire.leaving = true;
        self.say_frame(client, Opcode::Close, &1_000_u16.to_be_bytes());
    }

    /// The client may use its channels from now on, and does at once.
    pub(crate) fn client_joined(&mut self, client: usize) {
        let channels = self.control.channels_of(self.clients[client].account);
        let held: &mut Client = &mut self.clients[client];
        held.mine.extend(channels);
        if held.stage == Stage::Ready && !self.winding {
            self.send_new(client);
        }
    }
}
