//! Deadlines of sessions, and the end of them all: drain.
//!
//! Each session has one entry in the shard's timing wheel, which asks when it fires whether
//! something is due and goes in again. Nothing here reads a clock.
//!
//! Invariants: a connection that says nothing ends: after 10 s without a request head or an
//! IDENTIFY, after 60 s without a heartbeat or pong; after a drain began no session outlives its
//! deadline.

use std::sync::LazyLock;

use bytes::Bytes;
use rand::RngExt;
use throng_protocol::frame::{Opcode, encode_message};
use throng_protocol::handshake::timeout_response;
use throng_protocol::{CloseReason, Event};

use crate::io::{ConnId, Outbox, Output};
use crate::session::Stage;
use crate::shard::Shard;
use crate::wheel::Wheel;

/// How often clients shall send HEARTBEAT, in milliseconds.
pub(crate) const HEARTBEAT_INTERVAL_MS: u64 = 30_000;

/// Time for the request head, and again for IDENTIFY.
const HANDSHAKE_MS: u64 = 10_000;

/// Time from the handshake to READY, however long the control plane takes.
const IDENTIFY_MS: u64 = 30_000;

/// How often the server pings.
const PING_MS: u64 = 30_000;

/// Time without a heartbeat or pong after which a session ends.
const SILENCE_MS: u64 = 60_000;

/// The longest that a client is told to wait before it connects again after a drain.
const RECONNECT_MS_MAX: u64 = 5_000;

static PING: LazyLock<Bytes> = LazyLock::new(|| encode_message(Opcode::Ping, &[]));

/// The deadlines of a shard.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Wheel<ConnId>,
    /// When the last session ends.
    drain_ends_ms: Option<u64>,
}

/// What is due to a session.
enum Due {
    Nothing {
        again_ms: u64,
    },
    Ping {
        again_ms: u64,
    },
    Close(CloseReason),
    /// 408: no request head came.
    TimeOut,
    Gone,
}

impl Timers {
    /// No deadlines yet.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            wheel: Wheel::new(now_ms),
            drain_ends_ms: None,
        }
    }

    /// Whether the shard takes no more connections.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain_ends_ms.is_some()
    }

    /// The one entry of a new connection.
    pub(crate) fn watch_handshake(&mut self, conn: ConnId, now_ms: u64) {
        self.wheel.insert(now_ms + HANDSHAKE_MS, conn);
    }
}

impl Shard {
    /// Time has passed.
    pub(crate) fn tick(&mut self, out: &mut Outbox) {
        let now_ms = self.now_ms;
        let mut fired = Vec::new();
        self.timers.wheel.advance(now_ms, |conn| fired.push(conn));
        for conn in fired {
            self.fire(conn, out);
        }
        self.users.expire(&self.config.limits, now_ms);
        self.nonces.expire(now_ms);
        self.settle_credits(out);
        if self
            .timers
            .drain_ends_ms
            .is_some_and(|ends_ms| ends_ms <= now_ms)
        {
            for conn in self.sessions.conns() {
                self.end(conn, out);
            }
        }
    }

    fn fire(&mut self, conn: ConnId, out: &mut Outbox) {
        match self.due(conn) {
            Due::Gone => {}
            Due::Nothing { again_ms } => self.timers.wheel.insert(again_ms, conn),
            Due::Ping { again_ms } => {
                out.push(Output::Send {
                    conn,
                    bytes: PING.clone(),
                });
                self.timers.wheel.insert(again_ms, conn);
            }
            Due::Close(reason) => self.close(conn, reason, out),
            Due::TimeOut => {
                out.push(Output::Send {
                    conn,
                    bytes: timeout_response(),
                });
                self.close_socket(conn, out);
            }
        }
    }

    fn due(&mut self, conn: ConnId) -> Due {
        let now_ms = self.now_ms;
        let Some(session) = self.sessions.get(conn) else {
            return Due::Gone;
        };
        let (begun_ms, silent_ms) = (session.since_ms, now_ms.saturating_sub(session.alive_ms));
        match session.stage {
            Stage::Closing => Due::Gone,
            Stage::Connecting | Stage::Unidentified if begun_ms + HANDSHAKE_MS > now_ms => {
                Due::Nothing {
                    again_ms: begun_ms + HANDSHAKE_MS,
                }
            }
            Stage::Connecting => Due::TimeOut,
            Stage::Unidentified => Due::Close(CloseReason::IdentifyTimeout),
            Stage::Identifying if begun_ms + IDENTIFY_MS <= now_ms => {
                Due::Close(CloseReason::IdentifyTimeout)
            }
            Stage::Identifying => Due::Nothing {
                again_ms: now_ms + HANDSHAKE_MS,
            },
            Stage::Ready(_) if silent_ms >= SILENCE_MS => Due::Close(CloseReason::HeartbeatTimeout),
            Stage::Ready(_) => {
                let again_ms = (now_ms + PING_MS).min(session.alive_ms + SILENCE_MS);
                Due::Ping { again_ms }
            }
        }
    }

    /// The process is asked to end: tell every client when to come back, take no new ones.
    pub(crate) fn drain(&mut self, out: &mut Outbox) {
        if self.timers.is_draining() {
            return;
        }
        self.timers.drain_ends_ms = Some(self.now_ms + u64::from(self.config.drain_s) * 1_000);
        for conn in self.sessions.conns() {
            let Some(session) = self.sessions.get(conn) else {
                continue;
            };
            match session.stage {
                Stage::Closing => {}
                Stage::Connecting => self.close_socket(conn, out),
                Stage::Unidentified | Stage::Identifying | Stage::Ready(_) => {
                    let reason = "the server is shutting down".to_owned();
                    let retry_after_ms = self.random.random_range(0..=RECONNECT_MS_MAX);
                    self.send(
                        conn,
                        &Event::Reconnect {
                            reason,
                            retry_after_ms,
                        },
                        out,
                    );
                }
            }
        }
    }

    /// The drain is over for this session.
    fn end(&mut self, conn: ConnId, out: &mut Outbox) {
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if !matches!(session.stage, Stage::Closing) {
            self.close(conn, CloseReason::GoingAway, out);
        }
    }

    /// Fills the nonce table from the log at start.
    pub(crate) fn recall(&mut self, mut recent: Vec<throng_storage_engine::RecentNonce>) {
        recent.sort_by_key(|nonce| nonce.message);
        for nonce in recent {
            let id = throng_protocol::MessageId::from_bytes(nonce.message.0);
            self.ids.observe(id);
            let key = crate::nonces::NonceKey {
                channel: throng_protocol::ChannelId::from_bytes(nonce.channel.0),
                author: throng_protocol::UserId::from_bytes(nonce.author.0),
                nonce: throng_protocol::Nonce::from_bytes(nonce.nonce.0),
            };
            let seq = throng_protocol::Seq(nonce.seq);
            let waiters = self.nonces.stored(key, id, seq, id.timestamp_ms());
            assert!(waiters.is_empty(), "nobody waits before the start");
        }
    }
}
