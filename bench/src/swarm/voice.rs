//! What the clients of a swarm say, as frames.
//!
//! It sends nothing. What all of them say alike is encoded once.
//!
//! Invariants: a frame is masked, as a client's must be; the mask is one of the run's, since it
//! protects intermediaries and there are none.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use throng_protocol::frame::{Opcode, encode_masked};
use throng_protocol::{
    ChannelId, CloseReason, Command, Nonce, Resume, ResumeChannel, Seq, encode_command,
};

use crate::upgrade::Upgrade;

/// Makes frames.
#[derive(Debug)]
pub struct Voice {
    mask: [u8; 4],
    key: String,
    request: Bytes,
    heartbeat: Bytes,
}

impl Voice {
    /// For a run that talks to `authority` with this mask and handshake key.
    #[must_use]
    pub fn new(authority: &str, mask: [u8; 4], key: String) -> Self {
        let request = Upgrade::begin(authority, &key).1;
        let heartbeat = encode_command(&Command::Heartbeat);
        Self {
            mask,
            key,
            request: Bytes::from(request),
            heartbeat: encode_masked(Opcode::Text, heartbeat.as_bytes(), mask),
        }
    }

    /// The handshake's request; the same for all, so that its answer is, too.
    #[must_use]
    pub fn request(&self) -> Bytes {
        self.request.clone()
    }

    /// Who checks the answer to [`Voice::request`].
    #[must_use]
    pub fn upgrade(&self) -> Upgrade {
        Upgrade::begin("", &self.key).0
    }

    /// HEARTBEAT.
    #[must_use]
    pub fn heartbeat(&self) -> Bytes {
        self.heartbeat.clone()
    }

    /// The answer to a ping.
    #[must_use]
    pub fn pong(&self, payload: &[u8]) -> Bytes {
        encode_masked(Opcode::Pong, payload, self.mask)
    }

    /// IDENTIFY, going on after these messages.
    #[must_use]
    pub fn identify(&self, token: &str, resume: impl Iterator<Item = (u128, u32)>) -> Bytes {
        let channels: Vec<ResumeChannel> = resume
            .map(|(channel, newest)| ResumeChannel {
                channel_id: ChannelId::from_u128(channel),
                after_seq: Seq(u64::from(newest)),
                after_rev: None,
            })
            .collect();
        let resume = (!channels.is_empty()).then_some(Resume { channels });
        self.command(&Command::Identify {
            token: Cow::Borrowed(token),
            resume,
        })
    }

    /// A close frame: done.
    #[must_use]
    pub fn goodbye(&self) -> Bytes {
        let code = CloseReason::Normal.code().to_be_bytes();
        encode_masked(Opcode::Close, &code, self.mask)
    }

    /// SUBSCRIBE_CHANNEL for each of these, in one run of frames; where a message is named, going
    /// on after it.
    #[must_use]
    pub fn subscribe(&self, channels: impl Iterator<Item = (u128, Option<u32>)>) -> Bytes {
        let mut frames = BytesMut::new();
        for (channel, newest) in channels {
            frames.extend_from_slice(&self.command(&Command::SubscribeChannel {
                channel_id: ChannelId::from_u128(channel),
                after_seq: newest.map(|newest| Seq(u64::from(newest))),
                after_rev: None,
            }));
        }
        frames.freeze()
    }

    /// SEND_MESSAGE.
    #[must_use]
    pub fn message(&self, channel: u128, content: &str, nonce: Nonce) -> Bytes {
        self.command(&Command::SendMessage {
            channel_id: ChannelId::from_u128(channel),
            content: Cow::Borrowed(content),
            nonce,
            reply_to: None,
        })
    }

    /// START_TYPING.
    #[must_use]
    pub fn typing(&self, channel: u128) -> Bytes {
        self.command(&Command::StartTyping {
            channel_id: ChannelId::from_u128(channel),
        })
    }

    fn command(&self, command: &Command<'_>) -> Bytes {
        encode_masked(Opcode::Text, encode_command(command).as_bytes(), self.mask)
    }
}
