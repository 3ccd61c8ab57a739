//! One chat client: handshake, identify, subscribe, send, listen; and again after a disconnect.
//!
//! Pure: bytes come in, bytes wait in `out`, and what the client saw goes to the oracle. It
//! never reads a clock and never holds a socket.
//!
//! Invariants: nothing is sent before READY and the subscriptions; a message stays in
//! `unanswered` until the server acknowledged or refused it, over any number of disconnects, and
//! is sent again under its nonce; the resume cursor is what the oracle says this client has.

mod session;

use bytes::BytesMut;
use throng_protocol::frame::{Chunk, Decoder, Item, Opcode, encode_masked};
use throng_protocol::{CloseReason, Command, Seq};

use self::session::{Phase, Session};
use crate::ended::Ended;
use crate::index::{ChannelIndex, ClientIndex, MessageIndex};
use crate::oracle::Oracle;
use crate::plan::Plan;
use crate::run::Run;
use crate::upgrade::Upgrade;

/// The longest event that is taken, bytes. READY is the longest; the server keeps it near 64 KiB.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// Most channels of one resume (WIRE.md), so most subscriptions of one client.
pub const SUBSCRIPTIONS_MAX: u32 = 1000;

/// A client over all its connections.
#[derive(Debug)]
pub struct Client {
    upgrade: Option<Upgrade>,
    decoder: Decoder,
    session: Session,
}

impl Client {
    /// A client that has not connected yet.
    #[must_use]
    pub fn new(index: ClientIndex, plan: &Plan) -> Self {
        let session = Session::new(index, plan);
        Self {
            upgrade: None,
            decoder: Decoder::client(EVENT_BYTES_MAX),
            session,
        }
    }

    /// A connection is being made: the handshake waits in `out`. `key` is 16 random bytes in
    /// base64 (RFC 6455, section 4.1).
    ///
    /// # Panics
    /// When the last connection was not given up with [`Client::disconnected`].
    pub fn connecting(&mut self, key: &str, run: &Run<'_>) {
        assert_eq!(self.session.phase, Phase::Apart, "one connection at a time");
        let (upgrade, request) = Upgrade::begin(&run.plan.target.authority, key);
        self.upgrade = Some(upgrade);
        self.session.out.extend_from_slice(request.as_bytes());
        self.session.phase = Phase::Upgrading;
    }

    /// The connection is gone. What was not answered will be sent again.
    pub fn disconnected(&mut self) {
        self.upgrade = None;
        self.decoder = Decoder::client(EVENT_BYTES_MAX);
        self.session.phase = Phase::Apart;
        self.session.out = BytesMut::new();
        for watched in &mut self.session.watched {
            watched.is_live = false;
        }
    }

    /// Bytes arrived at `now_ns`.
    ///
    /// # Errors
    /// When the connection is over.
    pub fn received(
        &mut self,
        bytes: &mut [u8],
        now_ns: u64,
        run: &mut Run<'_>,
    ) -> Result<(), Ended> {
        let Some(upgrade) = &mut self.upgrade else {
            return self.frames(bytes, now_ns, run);
        };
        match upgrade.received(bytes) {
            Ok(None) => Ok(()),
            Ok(Some(mut rest)) => {
                self.upgrade = None;
                self.session.phase = Phase::Greeting;
                self.frames(&mut rest, now_ns, run)
            }
            Err(error) => {
                self.session.retry_after_ms = error.retry_after_ms();
                Err(error.into())
            }
        }
    }

    /// A message of the plan is due.
    pub fn send(&mut self, message: MessageIndex, now_ns: u64, run: &mut Run<'_>) {
        self.session.send(message, now_ns, run);
    }

    /// A heartbeat is due; returns in how many milliseconds the next one will be.
    pub fn heartbeat(&mut self, run: &mut Run<'_>) -> u64 {
        if matches!(self.session.phase, Phase::Subscribing(_) | Phase::Live) {
            self.session.say(&Command::Heartbeat, run);
        }
        self.session.heartbeat_ms
    }

    /// How often a heartbeat is due, milliseconds.
    #[must_use]
    pub const fn heartbeat_ms(&self) -> u64 {
        self.session.heartbeat_ms
    }

    /// The polite end of a connection.
    pub fn close(&mut self, run: &mut Run<'_>) {
        if self.is_connected() && self.upgrade.is_none() {
            let code = CloseReason::Normal.code().to_be_bytes();
            self.session
                .out
                .extend_from_slice(&encode_masked(Opcode::Close, &code, run.mask()));
        }
    }

    /// Bytes that wait to be written; take off the front what was.
    pub const fn out(&mut self) -> &mut BytesMut {
        &mut self.session.out
    }

    /// Whether it is connected, identified and subscribed.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.session.phase == Phase::Live
    }

    /// Whether there is a connection, in whatever state.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.session.phase != Phase::Apart
    }

    /// Messages that were sent and not answered, or are due and not sent.
    #[must_use]
    pub fn open_messages(&self) -> usize {
        self.session.unanswered.len() + self.session.waiting.len()
    }

    /// When the server wants it back, milliseconds; asked for once.
    pub const fn take_retry_after_ms(&mut self) -> Option<u64> {
        self.session.retry_after_ms.take()
    }

    /// Whether everything up to these heads has arrived.
    pub fn has_all_to(&self, oracle: &Oracle, head: impl Fn(ChannelIndex) -> Seq) -> bool {
        self.session.watched.iter().all(|watched| {
            watched
                .watch
                .is_some_and(|watch| oracle.has_all_to(watch, head(watched.channel)))
        })
    }

    fn frames(&mut self, bytes: &mut [u8], now_ns: u64, run: &mut Run<'_>) -> Result<(), Ended> {
        let mut chunk = Chunk::new(bytes);
        while let Some(item) = self.decoder.next(&mut chunk)? {
            match item {
                Item::Text(text) => self.session.heard(text, now_ns, run)?,
                Item::Ping(payload) => {
                    let pong = encode_masked(Opcode::Pong, payload, run.mask());
                    self.session.out.extend_from_slice(&pong);
                }
                Item::Pong(_) => {}
                Item::Binary(_) => run.oracle.unasked(),
                Item::Close(code) => return Err(Ended::Closed(code)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
