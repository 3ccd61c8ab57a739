//! What travels between a client and Throng: handshake, frames, commands, events.
//!
//! Nothing here reads a socket, a clock or a random source: bytes and text go in, values come
//! out, and the other way round. `WIRE.md` beside this crate is the document of the protocol;
//! tests compare it with the code.
//!
//! Invariants: no input makes a parser panic; what a connection holds is bounded and, while it
//! idles, nothing on the heap; decode(encode(x)) = x. The modules follow a message's way in and
//! out again: handshake, deflate, frame, close, command, id, entity, event, encode.

pub mod handshake;

pub mod deflate;

pub mod frame;

pub mod close;

pub mod command;

pub mod id;

pub mod message_id;

pub mod timestamp;

pub mod entity;

pub mod event;

pub mod encode;

pub mod limits;

pub use close::{CloseReason, close_frame, close_reply};
pub use command::{
    Command, CommandError, Resume, ResumeChannel, TextLimits, encode_command, parse,
};
pub use encode::{encode_frame, encode_frame_into, encode_guild_create, encode_ready};
pub use entity::{
    Attachment, Author, Channel, ChannelHead, ChannelType, Guild, Message, Reaction, ReadState,
    User, UserStatus,
};
pub use event::{ErrorCode, Event};
pub use id::{
    AttachmentId, ChannelId, GuildId, InvalidId, MessageId, Nonce, Rev, Seq, SessionId, UserId,
};
pub use message_id::MessageIdSource;
pub use timestamp::Timestamp;
