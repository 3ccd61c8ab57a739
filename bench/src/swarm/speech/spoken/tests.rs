//! A made-up server that does each thing a server must not do, and what a speech says about it.
//!
//! It opens no socket: clients are handed the bytes that they would receive.
//!
//! Invariants: a sound speech before and after each wrong one is clean.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use throng_protocol::frame::{Opcode, encode_message};
use throng_protocol::{
    Author, Channel, ChannelHead, ChannelId, ChannelType, Event, Guild, GuildId, Message,
    MessageId, Nonce, Rev, Seq, SessionId, Timestamp, User, UserId, UserStatus,
};
use tungstenite::handshake::derive_accept_key;

use super::*;
use crate::swarm::links::{End, Link};
use crate::swarm::people::{Manners, Phase};
use crate::swarm::talk::Talk;
use crate::swarm::tokens::Tokens;
use crate::swarm::voice::Voice;

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const CLIENTS: u32 = 3;
/// What all watch, and what nobody does.
const CHANNEL: u128 = 10;
const ELSEWHERE: u128 = 11;

fn id(of: u128) -> ChannelId {
    ChannelId::from_u128(of)
}

fn frame(event: &Event) -> Bytes {
    encode_message(Opcode::Text, &serde_json::to_vec(event).unwrap())
}

fn ready() -> Event {
    let channel = Channel {
        id: id(CHANNEL),
        guild_id: GuildId::from_u128(9),
        name: "general".to_owned(),
        kind: ChannelType::Text,
        position: 0,
        parent_id: None,
    };
    Event::Ready {
        user: User {
            id: UserId::from_u128(7),
            username: "a".to_owned(),
            discriminator: "0001".to_owned(),
            avatar_url: None,
            status: UserStatus::Online,
            custom_status: None,
        },
        guilds: vec![Guild {
            id: GuildId::from_u128(9),
            name: "a".to_owned(),
            icon_url: None,
            owner_id: UserId::from_u128(7),
            channels: vec![channel],
            member_count: u64::from(CLIENTS),
        }],
        dms: Vec::new(),
        read_states: Vec::new(),
        session_id: SessionId::from_u128(5),
    }
}

fn message(channel: u128, seq: u64, nonce: Nonce) -> Bytes {
    frame(&Event::MessageCreate {
        message: Message {
            id: MessageId::from_u128(1),
            channel_id: id(channel),
            seq: Seq(seq),
            rev: Rev(seq),
            author: Author {
                id: UserId::from_u128(4),
                username: "a".to_owned(),
            },
            content: "hello".to_owned(),
            timestamp: Timestamp(1_767_225_600_000),
            edited_at: None,
            attachments: Vec::new(),
            reactions: Vec::new(),
            reply_to: None,
            nonce: Some(nonce),
        },
    })
}

/// Clients who are subscribed, and the newest message of their channel.
struct Room {
    people: People,
    head: u64,
}

impl Room {
    fn open() -> Self {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a\nb\nc\n").unwrap();
        let manners = Manners {
            channels_max: 5,
            sample: 1,
            resumes: false,
            slow_from: u32::MAX,
        };
        let tokens = Tokens::open(file.path()).unwrap();
        let voice = Voice::new("here", [1, 2, 3, 4], KEY.to_owned());
        let mut people = People::new(CLIENTS, tokens, voice, manners, Talk::new(1));
        people.keep_ledger();
        let mut room = Self { people, head: 5 };
        (0..CLIENTS).for_each(|client| room.come(client));
        room
    }

    fn hear(&mut self, client: u32, bytes: &[u8]) {
        self.people.received(Link(client), bytes, 1_000_000);
    }

    fn come(&mut self, client: u32) {
        self.people.dialling(Link(client));
        self.people.up(Link(client));
        let accept = derive_accept_key(KEY.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.hear(client, answer.as_bytes());
        let hello = Event::Hello {
            heartbeat_interval_ms: 30_000,
        };
        let subscribed = Event::Subscribed {
            channel_id: id(CHANNEL),
            seq: Seq(self.head),
            rev: Rev(self.head),
        };
        for event in [hello, ready(), subscribed] {
            self.hear(client, &frame(&event));
        }
        assert_eq!(self.people.phase(Link(client)), Phase::Live);
    }

    /// The client is thrown out, and comes back as somebody new.
    fn throw_out(&mut self, client: u32) {
        self.hear(
            client,
            &encode_message(Opcode::Close, &4008_u16.to_be_bytes()),
        );
        self.people.ended(Link(client), End::Peer);
        self.come(client);
    }

    /// Somebody says something, and the server acknowledges it as the channel's next.
    fn say(&mut self) -> Nonce {
        let nonce = self.people.talk.say(CHANNEL, 0);
        self.head += 1;
        nonce
    }

    fn ack(&mut self, nonce: Nonce, seq: u64) {
        let ack = Event::MessageAck {
            nonce,
            message_id: MessageId::from_u128(4),
            seq: Seq(seq),
        };
        self.hear(0, &frame(&ack));
    }

    fn deliver_to(&mut self, clients: impl IntoIterator<Item = u32>, seq: u64, nonce: Nonce) {
        for client in clients {
            self.hear(client, &message(CHANNEL, seq, nonce));
        }
    }

    /// A speech of one message, during which the server also does this.
    fn speech(&mut self, does: impl FnOnce(&mut Self, Nonce)) -> Spoken {
        let account = Account::open(&mut self.people, Course::new(0, Duration::from_secs(1)));
        let nonce = self.say();
        does(self, nonce);
        account.close(&mut self.people, 0)
    }

    fn sound(&mut self) -> Spoken {
        self.speech(|room, nonce| {
            let head = room.head;
            room.ack(nonce, head);
            room.deliver_to(0..CLIENTS, head, nonce);
        })
    }
}

fn faults(spoken: &Spoken) -> Vec<(&'static str, u64)> {
    spoken.faults().collect()
}

/// What a speech says about a server that does this, between two sound ones.
fn wrong(does: impl FnOnce(&mut Room, Nonce)) -> Vec<(&'static str, u64)> {
    let mut room = Room::open();
    let spoken = room.sound();
    assert!(spoken.is_clean(), "{spoken}");
    assert_eq!((spoken.due, spoken.deliveries), (3, 3));
    let found = faults(&room.speech(does));
    let spoken = room.sound();
    assert!(spoken.is_clean(), "the next speech: {spoken}");
    found
}

#[test]
fn a_delivery_that_did_not_come_is_lost() {
    let found = wrong(|room, nonce| {
        let head = room.head;
        room.ack(nonce, head);
        room.deliver_to([0, 2], head, nonce);
        // Who missed it is not told of a gap by the next speech: this one has counted it.
    });
    assert_eq!(found, [("lost", 1)]);
}

#[test]
fn a_message_without_an_answer_is_no_fault_of_the_next_speech() {
    let found = wrong(|room, _| room.head -= 1);
    assert_eq!(found, [("unanswered", 1)]);
    // It was stored all the same: then it is due to everybody.
    let found = wrong(|room, nonce| {
        let head = room.head;
        room.deliver_to([0], head, nonce);
    });
    assert_eq!(found, [("lost", 2), ("unanswered", 1)]);
}

#[test]
fn who_was_thrown_out_and_came_back_has_lost_what_it_missed() {
    let found = wrong(|room, nonce| {
        let head = room.head;
        room.ack(nonce, head);
        room.deliver_to([0, 1], head, nonce);
        room.throw_out(2);
    });
    assert_eq!(found, [("lost", 1), ("connections dropped", 1)]);
}

#[test]
fn who_was_told_to_fetch_anew_has_lost_what_it_missed() {
    let found = wrong(|room, nonce| {
        let head = room.head;
        room.ack(nonce, head);
        room.deliver_to([0, 1], head, nonce);
        let resync = Event::Resync {
            guilds: Vec::new(),
            channels: vec![ChannelHead {
                channel_id: id(CHANNEL),
                seq: Seq(head),
                rev: Rev(head),
            }],
        };
        room.hear(2, &frame(&resync));
    });
    assert_eq!(found, [("lost", 1), ("told to fetch anew", 1)]);
}

#[test]
fn what_nobody_asked_for_is_no_delivery() {
    let found = wrong(|room, nonce| {
        let head = room.head;
        room.ack(nonce, head);
        room.deliver_to([0, 1], head, nonce);
        room.hear(2, &message(ELSEWHERE, head, nonce));
    });
    assert_eq!(found, [("lost", 1), ("unasked", 1)]);
}

#[test]
fn a_second_delivery_makes_up_for_none_that_is_missing() {
    let found = wrong(|room, nonce| {
        let head = room.head;
        room.ack(nonce, head);
        room.deliver_to([0, 1, 1], head, nonce);
    });
    assert_eq!(found, [("lost", 1), ("duplicated", 1)]);
}

#[test]
fn one_nonce_is_one_message() {
    let found = wrong(|room, nonce| {
        let head = room.head;
        room.ack(nonce, head);
        room.deliver_to(0..CLIENTS, head, nonce);
        room.head += 1;
        let again = room.head;
        room.deliver_to(0..CLIENTS, again, nonce);
    });
    assert_eq!(found, [("at two places", 3), ("not due", 3)]);
}

#[test]
fn an_answer_and_its_deliveries_stand_at_one_place() {
    let found = wrong(|room, nonce| {
        let head = room.head;
        room.ack(nonce, head + 1);
        room.deliver_to(0..CLIENTS, head, nonce);
    });
    assert_eq!(found, [("at two places", 3)]);
}

#[test]
fn the_course_is_shown_where_there_is_one() {
    let part = |p99| Latency {
        count: 1,
        p99,
        ..Latency::default()
    };
    let mut spoken = Spoken {
        part_s: 1.5,
        delivery_latency_by_part_us: vec![part(1), part(999_999), Latency::default(), part(2_001)],
        ..Spoken::default()
    };
    assert!(!spoken.to_string().contains("each"), "{spoken}");
    spoken.delivery_latency_by_part_us.push(part(0));
    let line = "\ndelivery p99 ms, each 1.5 s: 1 1000 - 3 0\n";
    assert!(spoken.to_string().contains(line), "{spoken}");
}
