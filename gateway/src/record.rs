//! A message as it is stored: the body of a record, in rkyv, frozen per schema version.
//!
//! The store keeps bodies without looking into them; this is the only place that does. A body is
//! always validated before it is read.
//!
//! Invariants: a schema number is never given to another layout; every schema ever written stays
//! readable.

use std::cell::RefCell;

use bytes::Bytes;
use rkyv::api::high::to_bytes_in;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use thiserror::Error;
use throng_protocol::{Author, ChannelId, Message, MessageId, Rev, Seq, Timestamp, UserId};
use throng_storage_engine::{
    AuthorKey, ChannelKey, MessageKey, NonceKey, Record, RecordKind, Stored,
};

use crate::lane::SendRequest;

/// Schema number of [`CreateV1`].
pub const SCHEMA_CREATE_V1: u16 = 1;

/// The body of a new message, first layout.
#[derive(
    Clone, Default, Debug, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct CreateV1 {
    /// The author's name when it was written.
    pub username: String,
    /// The text.
    pub content: String,
}

/// A body that is not what its header says, or of a version that this program does not know.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the body of a record (schema {schema}, {bytes} bytes) cannot be read")]
pub struct DamagedBody {
    /// Schema number in the header.
    pub schema: u16,
    /// Length of the body in bytes.
    pub bytes: usize,
}

/// The record of a new message.
#[must_use]
pub fn create(request: &SendRequest, id: MessageId, seq: Seq, rev: Rev) -> Record {
    let target = request.reply_to_message.map_or(MessageKey::ZERO, key);
    Record {
        kind: RecordKind::Create,
        schema: SCHEMA_CREATE_V1,
        channel: ChannelKey(*request.channel.as_bytes()),
        message: key(id),
        author: AuthorKey(*request.user.as_bytes()),
        seq: seq.0,
        rev: rev.0,
        target,
        nonce: NonceKey(*request.nonce.as_bytes()),
        body: encode_create_v1(&request.body),
    }
}

/// What a thread keeps of its scratch memory when a body was longer.
const SCRATCH_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Where bodies are encoded whose length is not yet known.
    static SCRATCH: RefCell<AlignedVec<16>> = RefCell::new(AlignedVec::new());
}

/// The bytes of a body; the same body always gives the same bytes. One block on the heap, exactly as
/// long as they are.
#[must_use]
pub fn encode_create_v1(body: &CreateV1) -> Bytes {
    SCRATCH.with_borrow_mut(|scratch| {
        scratch.clear();
        to_bytes_in::<_, rancor::Error>(body, &mut *scratch).expect("two strings can be archived");
        let bytes = Bytes::copy_from_slice(scratch);
        if scratch.capacity() > SCRATCH_BYTES_MAX {
            *scratch = AlignedVec::new();
        }
        bytes
    })
}

/// The message in a record, as history and replays show it.
///
/// # Errors
/// When the body cannot be read.
pub fn message(stored: &Stored) -> Result<Message, DamagedBody> {
    let record = &stored.create;
    let body = decode_create_v1(record)?;
    let id = MessageId::from_bytes(record.message.0);
    Ok(Message {
        id,
        channel_id: ChannelId::from_bytes(record.channel.0),
        seq: Seq(record.seq),
        rev: Rev(record.rev),
        author: Author {
            id: UserId::from_bytes(record.author.0),
            username: body.username,
        },
        content: body.content,
        timestamp: Timestamp(id.timestamp_ms()),
        edited_at: (stored.edit.as_ref()).map(|edit| Timestamp(edit.message.timestamp_ms())),
        attachments: Vec::new(),
        reactions: Vec::new(),
        reply_to: (!record.target.is_zero()).then(|| MessageId::from_bytes(record.target.0)),
        nonce: None,
    })
}

/// The body of a record.
///
/// # Errors
/// When it cannot be read, or is of another schema.
pub fn decode_create_v1(record: &Record) -> Result<CreateV1, DamagedBody> {
    let damaged = DamagedBody {
        schema: record.schema,
        bytes: record.body.len(),
    };
    if record.schema != SCHEMA_CREATE_V1 {
        return Err(damaged);
    }
    let mut aligned = AlignedVec::<16>::with_capacity(record.body.len());
    aligned.extend_from_slice(&record.body);
    rkyv::from_bytes::<CreateV1, rancor::Error>(&aligned).map_err(|_| damaged)
}

fn key(id: MessageId) -> MessageKey {
    MessageKey(*id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ShardId;
    use crate::lane::{RateState, ReplyTo, RequestId};
    use proptest::prelude::*;
    use throng_protocol::Nonce;

    fn record(username: &str, content: &str, id: MessageId, seq: Seq, rev: Rev) -> Record {
        let request = SendRequest {
            reply_to: ReplyTo {
                shard: ShardId(0),
                request: RequestId(0),
            },
            user: UserId::from_u128(1),
            channel: ChannelId::from_u128(2),
            body: CreateV1 {
                username: username.to_owned(),
                content: content.to_owned(),
            },
            nonce: Nonce::from_u128(3),
            reply_to_message: None,
            rate: RateState::Free,
        };
        create(&request, id, seq, rev)
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_again(username in ".{0,40}", content in ".{0,300}") {
            let id = MessageId::from_parts(1_700_000_000_000, 5);
            let record = record(&username, &content, id, Seq(7), Rev(8));
            let read = message(&Stored::new(record)).expect("just written");
            prop_assert_eq!(read.author.username, username);
            prop_assert_eq!(read.content, content);
            prop_assert_eq!((read.id, read.seq, read.rev), (id, Seq(7), Rev(8)));
        }

        #[test]
        fn random_bodies_are_refused_or_read_but_never_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let id = MessageId::from_parts(1, 1);
            let mut record = record("a", "b", id, Seq(1), Rev(1));
            record.body = Bytes::from(bytes);
            let _ = message(&Stored::new(record));
        }
    }

    /// The first layout as it was first written: it must stay readable for ever.
    #[test]
    fn golden_body_of_version_1() {
        let id = MessageId::from_parts(1, 1);
        let text = "a text long enough to lie out of line";
        let record = record("alice", text, id, Seq(1), Rev(1));
        let hex: String = record
            .body
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let golden = include_str!("../golden/create_v1.hex").trim();
        assert_eq!(hex, golden);
        let read = message(&Stored::new(record)).expect("valid");
        assert_eq!(read.author.username, "alice");
    }
}
