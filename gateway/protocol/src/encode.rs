//! From an event to the bytes that go on the wire: one complete, unmasked text frame.
//!
//! Nothing here fragments, compresses or copies an event per receiver; READY is joined from
//! guilds that were encoded before.
//!
//! Invariant: what comes out holds exactly one frame (RFC 6455, section 5.2) whose payload is the
//! event's JSON, header included, and joined READY equals encoded READY byte for byte.

use std::cell::RefCell;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use crate::entity::User;
use crate::event::Event;
use crate::frame::{Opcode, encode_message, header_of};
use crate::id::SessionId;

/// Room for most messages without growing.
const EVENT_BYTES_USUAL: usize = 512;

/// Header length of payloads between 126 and 65,535 bytes, which most events have.
const HEADER_BYTES_USUAL: usize = 4;

/// What a thread keeps of its scratch memory when an event was longer.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Where events are encoded whose length is not yet known.
    static SCRATCH: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// One complete frame, header included: one block on the heap, exactly as long as it is, since it
/// may wait for a slow reader.
#[must_use]
pub fn encode_frame(event: &Event) -> Bytes {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        scratch.reserve(EVENT_BYTES_USUAL);
        encode_frame_into(event, scratch);
        let frame = Bytes::copy_from_slice(scratch);
        if scratch.capacity() > SCRATCH_BYTES_MAX {
            *scratch = BytesMut::new();
        }
        frame
    })
}

/// Appends one complete frame, header included.
pub fn encode_frame_into(event: &Event, out: &mut BytesMut) {
    let start = out.len();
    out.put_bytes(0, HEADER_BYTES_USUAL);
    append_json(event, out);

    let payload_at = start + HEADER_BYTES_USUAL;
    let payload_bytes = out.len() - payload_at;
    let (header, header_bytes) = header_of(Opcode::Text, payload_bytes);
    move_payload(out, payload_at, start + header_bytes, payload_bytes);
    out[start..start + header_bytes].copy_from_slice(&header[..header_bytes]);
}

/// The length of the header is known only when the payload is there; in the usual case the
/// payload lies where it belongs.
fn move_payload(out: &mut BytesMut, from: usize, to: usize, payload_bytes: usize) {
    if from == to {
        return;
    }
    out.resize((to + payload_bytes).max(out.len()), 0);
    out.copy_within(from..from + payload_bytes, to);
    out.truncate(to + payload_bytes);
}

/// The frame of an [`Event::Ready`] without direct channels and read states, joined from guilds
/// that are JSON already.
#[must_use]
pub fn encode_ready(user: &User, guilds: &[Bytes], session_id: SessionId) -> Bytes {
    let guilds_bytes: usize = guilds.iter().map(|guild| guild.len() + 1).sum();
    let mut json = BytesMut::with_capacity(EVENT_BYTES_USUAL + guilds_bytes);
    json.put_slice(br#"{"type":"READY","user":"#);
    append_json(user, &mut json);
    json.put_slice(br#","guilds":["#);
    for (index, guild) in guilds.iter().enumerate() {
        if index > 0 {
            json.put_u8(b',');
        }
        json.put_slice(guild);
    }
    json.put_slice(br#"],"dms":[],"readStates":[],"sessionId":"#);
    append_json(&session_id, &mut json);
    json.put_u8(b'}');
    encode_message(Opcode::Text, &json)
}

/// The frame of an [`Event::GuildCreate`] around a guild that is JSON already.
#[must_use]
pub fn encode_guild_create(guild_json: &Bytes) -> Bytes {
    let mut json = BytesMut::with_capacity(guild_json.len() + 64);
    json.put_slice(br#"{"type":"GUILD_CREATE","guild":"#);
    json.put_slice(guild_json);
    json.put_u8(b'}');
    encode_message(Opcode::Text, &json)
}

fn append_json(value: &impl Serialize, out: &mut BytesMut) {
    serde_json::to_writer(out.writer(), value)
        .expect("wire types have string keys only, and memory takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Channel, ChannelType, Guild, UserStatus};
    use crate::id::{ChannelId, GuildId, UserId};

    fn guild(id: u128) -> Guild {
        let channel = Channel {
            id: ChannelId::from_u128(id + 1),
            guild_id: GuildId::from_u128(id),
            name: "general".to_owned(),
            kind: ChannelType::Text,
            position: 0,
            parent_id: None,
        };
        Guild {
            id: GuildId::from_u128(id),
            name: "a \"quoted\" name".to_owned(),
            icon_url: None,
            owner_id: UserId::from_u128(7),
            channels: vec![channel],
            member_count: 3,
        }
    }

    fn json(guild: &Guild) -> Bytes {
        Bytes::from(serde_json::to_vec(guild).unwrap())
    }

    #[test]
    fn joined_ready_equals_encoded_ready() {
        let user = User {
            id: UserId::from_u128(7),
            username: "alice".to_owned(),
            discriminator: "0001".to_owned(),
            avatar_url: None,
            status: UserStatus::Online,
            custom_status: None,
        };
        let session_id = SessionId::from_u128(9);
        for count in [0, 1, 2, 400] {
            let guilds: Vec<Guild> = (0..count).map(|index| guild(index * 10)).collect();
            let fragments: Vec<Bytes> = guilds.iter().map(json).collect();
            let joined = encode_ready(&user, &fragments, session_id);
            let (dms, read_states) = (vec![], vec![]);
            let event = Event::Ready {
                user: user.clone(),
                guilds,
                dms,
                read_states,
                session_id,
            };
            assert_eq!(joined, encode_frame(&event), "{count} guilds");
        }
    }

    #[test]
    fn joined_guild_create_equals_encoded_guild_create() {
        let guild = guild(1);
        let joined = encode_guild_create(&json(&guild));
        assert_eq!(joined, encode_frame(&Event::GuildCreate { guild }));
    }

    #[test]
    fn frames_are_appended() {
        let mut out = BytesMut::new();
        let events = [0, 50, 200, 70_000].map(|bytes| Event::Reconnect {
            reason: "r".repeat(bytes),
            retry_after_ms: 1,
        });
        for event in &events {
            encode_frame_into(event, &mut out);
        }
        let frames: Vec<u8> = events.iter().flat_map(encode_frame).collect();
        assert_eq!(out, frames);
    }
}
