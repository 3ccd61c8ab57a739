//! What clients say, as the bytes that arrive, and who takes them: a crowd in two shards, or the
//! echo.
//!
//! It knows nothing of who measures.
//!
//! Invariants: a nonce is sent once; what arrived is answered before anything else arrives.

use throng::config::Config;
use throng::echo::Echo;
use throng::io::{Application, ConnId, Input, Outbox, Output};
use throng_protocol::frame::{Opcode, encode_masked};
use throng_protocol::{ChannelId, Nonce};

use crate::crowd::{Crowd, EVERYBODY, UPGRADE, circle_channel, id};

/// Who speaks.
pub(crate) const SPEAKER: u32 = 7;

/// Everybody is in one channel of so many, and in four of four.
const SESSIONS: u32 = 1_000;

const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

/// A crowd of 1,000 in which one may say as much as they like.
pub(crate) fn crowd() -> Crowd {
    let mut config = Config::default();
    config.limits.message.count = 0;
    let mut crowd = Crowd::new(&config, SESSIONS);
    (0..SESSIONS).for_each(|number| crowd.enter(number));
    crowd
}

/// The channel with so many listeners, one of whom speaks.
pub(crate) fn channel_of(listeners: u32) -> ChannelId {
    match listeners {
        4 => circle_channel(SPEAKER, 1),
        SESSIONS => EVERYBODY,
        other => unreachable!("nobody listens together with {other} others"),
    }
}

/// A SEND_MESSAGE; its number makes its nonce.
pub(crate) fn message(channel: ChannelId, number: u32) -> Vec<u8> {
    let nonce = Nonce::from_u128(id(9, number));
    let content = "hello, everybody! ".repeat(8);
    text_frame(&format!(
        r#"{{"type":"SEND_MESSAGE","channelId":"{channel}","nonce":"{nonce}","content":"{content}"}}"#
    ))
}

/// A HEARTBEAT.
pub(crate) fn heartbeat() -> Vec<u8> {
    text_frame(r#"{"type":"HEARTBEAT"}"#)
}

/// A client's text message.
pub(crate) fn text_frame(text: &str) -> Vec<u8> {
    encode_masked(Opcode::Text, text.as_bytes(), MASK).to_vec()
}

/// The echo, and somebody who speaks to it.
pub(crate) struct Valley {
    echo: Echo,
    outbox: Outbox,
}

impl Valley {
    const CONN: ConnId = ConnId {
        index: 0,
        generation: 1,
    };

    /// Somebody has connected.
    pub(crate) fn new() -> Self {
        let (mut echo, mut outbox) = (Echo::new(), Outbox::new());
        let conn = Self::CONN;
        echo.handle(0, Input::Accepted { conn }, &mut outbox);
        let mut valley = Self { echo, outbox };
        assert!(valley.call(&mut UPGRADE.as_bytes().to_vec()) > 0);
        valley
    }

    /// Bytes arrive; how many come back.
    pub(crate) fn call(&mut self, bytes: &mut [u8]) -> usize {
        let conn = Self::CONN;
        let received = Input::Received { conn, bytes };
        self.echo.handle(0, received, &mut self.outbox);
        let sent_bytes = |output| match output {
            Output::Send { bytes, .. } => bytes.len(),
            other => panic!("an echo does not say {other:?}"),
        };
        self.outbox.drain().map(sent_bytes).sum()
    }
}
