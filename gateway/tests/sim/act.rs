//! A client's turns: it connects, says who it is, stays alive and chooses what to do next.
//!
//! Nothing here looks into the server; a client knows what it has been told.
//!
//! Invariants: a client has one next turn; in the winding-down time it begins nothing new.

use std::borrow::Cow;

use rand::RngExt;
use throng_protocol::frame::{Opcode, encode_masked};
use throng_protocol::{Command, Resume, ResumeChannel, encode_command};

use crate::client::{Asked, Client, Kind, Stage, Wire};
use crate::link::Reading;
use crate::oracle::From;
use crate::world::{Event, World};

const REQUEST: &[u8] = b"GET /gateway HTTP/1.1\r\nHost: throng.example\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// Every other client offers compression.
const OFFER: &[u8] = b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// Says that a message is compressed (RFC 7692, section 6).
const RSV1: u8 = 0x40;

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
        let offer = if client % 2 == 1 { OFFER } else { b"" };
        self.write_to_server(link, &[REQUEST, offer, b"\r\n"].concat());
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
        if self.clients[client].stage != Stage::Ready {
            return 300_000;
        }
        self.send_due(client);
        self.subscribe_wanted(client);
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
        let may_deflate = self.clients[client].wire.deflate && !opcode.is_control();
        let frame = match self.parser.deflater.message(payload) {
            Some(shorter) if may_deflate => {
                let mut frame = encode_masked(opcode, shorter, mask).to_vec();
                frame[0] |= RSV1;
                frame
            }
            _ => encode_masked(opcode, payload, mask).to_vec(),
        };
        self.write_to_server(link, &frame);
    }

    fn stay_alive(&mut self, client: usize) {
        let held = &mut self.clients[client];
        let never = matches!(held.kind, Kind::Silent | Kind::Ponger);
        if never || self.now_us < held.wire.heartbeat_us {
            return;
        }
        held.wire.heartbeat_us = self.now_us + held.wire.heartbeat_every_us;
        held.wire.acks_due += 1;
        self.say(client, &Command::Heartbeat);
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
