//! From an event to the frame that leaves.
//!
//! Invariant: what is encoded is what the server says most, MESSAGE_CREATE and its acknowledgement,
//! and what it says at length, READY.

use bytes::Bytes;
use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use throng_protocol::{
    Author, Channel, ChannelId, ChannelType, Event, Guild, GuildId, Message, MessageId, Nonce, Rev,
    Seq, SessionId, Timestamp, User, UserId, UserStatus, encode_frame, encode_ready,
};

use crate::text;

const NOW_MS: u64 = 1_795_219_200_000;

/// MESSAGE_CREATE with a text of this many bytes.
pub(crate) fn message_create(bytes: usize) -> Event {
    let message = Message {
        id: MessageId::from_parts(NOW_MS, 77),
        channel_id: ChannelId::from_u128(0x018f_0000_0000_7000_8000_0000_0000_00c1),
        seq: Seq(4_711),
        rev: Rev(4_720),
        author: Author {
            id: UserId::from_u128(0x018f_0000_0000_7000_8000_0000_0000_00a1),
            username: "alice".to_owned(),
        },
        content: text(bytes),
        timestamp: Timestamp(NOW_MS),
        edited_at: None,
        attachments: Vec::new(),
        reactions: Vec::new(),
        reply_to: None,
        nonce: Some(Nonce::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0001)),
    };
    Event::MessageCreate { message }
}

#[divan::bench(args = [20, 200, 2_000])]
fn encode_message_create(bencher: Bencher, bytes: usize) {
    let event = message_create(bytes);
    bencher
        .counter(BytesCount::new(encode_frame(&event).len()))
        .bench_local(|| encode_frame(black_box(&event)));
}

#[divan::bench]
fn encode_message_ack(bencher: Bencher) {
    let event = Event::MessageAck {
        nonce: Nonce::from_u128(0x550e_8400_e29b_41d4_a716_4466_5544_0001),
        message_id: MessageId::from_parts(NOW_MS, 77),
        seq: Seq(4_711),
    };
    bencher
        .counter(BytesCount::new(encode_frame(&event).len()))
        .bench_local(|| encode_frame(black_box(&event)));
}

/// Joined from guilds that are JSON already, of ten channels each.
#[divan::bench(args = [1, 100])]
fn join_ready(bencher: Bencher, guilds: u64) {
    let user = user();
    let guilds: Vec<Bytes> = (0..guilds).map(guild_json).collect();
    let session = SessionId::from_u128(9);
    bencher
        .counter(BytesCount::new(encode_ready(&user, &guilds, session).len()))
        .bench_local(|| encode_ready(&user, black_box(&guilds), session));
}

fn user() -> User {
    User {
        id: UserId::from_u128(7),
        username: "alice".to_owned(),
        discriminator: "0001".to_owned(),
        avatar_url: None,
        status: UserStatus::Online,
        custom_status: None,
    }
}

fn guild_json(number: u64) -> Bytes {
    let id = GuildId::from_u128(u128::from(number));
    let channel = |position: u32| Channel {
        id: ChannelId::from_u128(u128::from(number) * 100 + u128::from(position)),
        guild_id: id,
        name: "general".to_owned(),
        kind: ChannelType::Text,
        position,
        parent_id: None,
    };
    let guild = Guild {
        id,
        name: "people who drink coffee".to_owned(),
        icon_url: None,
        owner_id: UserId::from_u128(7),
        channels: (0..10).map(channel).collect(),
        member_count: 12,
    };
    serde_json::to_vec(&guild)
        .expect("wire types have string keys only")
        .into()
}
