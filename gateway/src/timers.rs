//! Deadlines of sessions, and the end of them all: drain.
//!
//! A connection that has not identified has one entry in the shard's timing wheel. A session has
//! none: a hand goes round the table of all of them six times in a heartbeat and looks at each, which
//! costs less than moving as many entries from slot to slot. Nothing here reads a clock.
//!
//! Invariants: a connection that says nothing ends: after 10 s without a request head or an
//! IDENTIFY, after two heartbeats without a heartbeat or pong (and at most a sixth of one more, until the
//! hand comes by); who heartbeats is not pinged; when a drain's time is over all sessions end within
//! two seconds.

use std::sync::LazyLock;

use bytes::Bytes;
use rand::RngExt;
use throng_protocol::frame::{Opcode, encode_message};
use throng_protocol::handshake::timeout_response;
use throng_protocol::{CloseReason, Event};

use crate::io::{ConnId, Outbox, Output};
use crate::session::{SessionIndex, Stage};
use crate::shard::Shard;
use crate::wheel::Wheel;

/// Time for the request head, and again for IDENTIFY.
const HANDSHAKE_MS: u64 = 10_000;

/// Time from IDENTIFY to READY, however long the control plane takes.
const IDENTIFY_MS: u64 = 30_000;

/// Rounds of the hand in one heartbeat.
const ROUNDS_PER_HEARTBEAT: u64 = 6;

/// Sessions that may come back in a second after a drain, the whole node's together.
const RECONNECTS_PER_S: u64 = 5_000;

/// Places that a drain goes through in one tick at least, and in how many ticks through all at most:
/// the edge gives the last ones a few seconds more.
const DRAINED_PER_TICK_MIN: u32 = 16_384;
const DRAIN_TICKS_MAX: u32 = 20;

/// The least and the longest time over which clients are told to come back after a drain.
const RECONNECT_MS_MIN: u64 = 5_000;
const RECONNECT_MS_MAX: u64 = 60_000;

static PING: LazyLock<Bytes> = LazyLock::new(|| encode_message(Opcode::Ping, &[]));

/// The deadlines of a shard.
#[derive(Debug)]
pub(crate) struct Timers {
    wheel: Wheel<ConnId>,
    hand: Hand,
    drain: Option<Drain>,
}

/// How far the end of all sessions has come. It goes through their places in steps, so that those who
/// are still there are served meanwhile.
#[derive(Debug)]
struct Drain {
    /// When the sessions that are left begin to be ended.
    ends_ms: u64,
    /// Over how long the clients are told to come back.
    spread_ms: u64,
    /// The next place whose client is to be told.
    tell: u32,
    /// The next place whose session is to be ended.
    end: u32,
}

/// Goes round the table of sessions.
#[derive(Debug)]
struct Hand {
    /// The place that it points to.
    at: u32,
    /// When it was at the first place.
    round_began_ms: u64,
}

/// What is due to a connection that has not identified.
enum Due {
    Nothing {
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
            hand: Hand {
                at: 0,
                round_began_ms: now_ms,
            },
            drain: None,
        }
    }

    /// Whether the shard takes no more connections.
    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_some()
    }

    /// The one entry of a new connection.
    pub(crate) fn watch_handshake(&mut self, conn: ConnId, now_ms: u64) {
        self.wheel.insert(now_ms + HANDSHAKE_MS, conn);
    }
}

impl Hand {
    /// Moves on to where it is to be by now, of `end` places; returns the places that it passes.
    fn advance(&mut self, now_ms: u64, round_ms: u64, end: u32) -> std::ops::Range<u32> {
        let passed_ms = now_ms.saturating_sub(self.round_began_ms);
        let from = self.at;
        if passed_ms >= round_ms {
            self.at = 0;
            self.round_began_ms = now_ms;
            return from..end;
        }
        let to = u64::from(end) * passed_ms / round_ms;
        self.at = u32::try_from(to).expect("it is not past the end").max(from);
        from..self.at
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
        self.sweep(out);
        self.users.expire(&self.config.limits, now_ms);
        self.nonces.expire(now_ms);
        self.missed.expire(now_ms);
        self.settle_credits(out);
        self.go_on_draining(out);
    }

    fn fire(&mut self, conn: ConnId, out: &mut Outbox) {
        match self.due(conn) {
            Due::Gone => {}
            Due::Nothing { again_ms } => self.timers.wheel.insert(again_ms, conn),
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
        let allowed_ms = match session.stage {
            Stage::Closing | Stage::Ready => return Due::Gone,
            Stage::Connecting | Stage::Unidentified => HANDSHAKE_MS,
            Stage::Identifying => IDENTIFY_MS,
        };
        let left_ms = allowed_ms.saturating_sub(session.silent_ms(now_ms));
        if left_ms > 0 {
            // A session that is not READY after all is found here again.
            let again_ms = now_ms + left_ms.min(HANDSHAKE_MS);
            return Due::Nothing { again_ms };
        }
        match session.stage {
            Stage::Connecting => Due::TimeOut,
            _ => Due::Close(CloseReason::IdentifyTimeout),
        }
    }

    /// Looks at the sessions that the hand passes.
    fn sweep(&mut self, out: &mut Outbox) {
        let round_ms = self.config.heartbeat_ms() / ROUNDS_PER_HEARTBEAT;
        let SessionIndex(end) = self.sessions.end();
        for index in self.timers.hand.advance(self.now_ms, round_ms, end) {
            if let Some(conn) = self.sessions.tenant(SessionIndex(index)) {
                self.look_after(conn, out);
            }
        }
    }

    /// Ends a session that has said nothing for two heartbeats; pings one, once, that has for one and
    /// a quarter.
    fn look_after(&mut self, conn: ConnId, out: &mut Outbox) {
        let (heartbeat_ms, now_ms) = (self.config.heartbeat_ms(), self.now_ms);
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        if session.stage != Stage::Ready {
            return;
        }
        let silent_ms = session.silent_ms(now_ms);
        if silent_ms >= 2 * heartbeat_ms {
            return self.close(conn, CloseReason::HeartbeatTimeout, out);
        }
        if silent_ms >= heartbeat_ms + heartbeat_ms / 4 && session.ping() {
            out.push(Output::Send {
                conn,
                bytes: PING.clone(),
            });
        }
        self.trim(conn);
    }

    /// Gives back what the session needed only for a while.
    pub(crate) fn trim(&mut self, conn: ConnId) {
        let (rate, now_ms) = (self.config.limits.typing, self.now_ms);
        if let Some(session) = self.sessions.get(conn) {
            session.trim(|typing| typing.is_over(rate, now_ms));
        }
    }

    /// The process is asked to end: tell every client when to come back, take no new ones.
    pub(crate) fn drain(&mut self, out: &mut Outbox) {
        if self.timers.is_draining() {
            return;
        }
        self.timers.drain = Some(Drain {
            ends_ms: self.now_ms + u64::from(self.config.drain_s) * 1_000,
            spread_ms: self.reconnect_spread_ms(),
            tell: 0,
            end: 0,
        });
        self.go_on_draining(out);
    }

    /// The next step of a drain, if there is one.
    fn go_on_draining(&mut self, out: &mut Outbox) {
        let SessionIndex(end) = self.sessions.end();
        let Some(drain) = &mut self.timers.drain else {
            return;
        };
        let spread_ms = drain.spread_ms;
        let told = take_places(&mut drain.tell, end);
        let ended = match drain.ends_ms <= self.now_ms {
            true => take_places(&mut drain.end, end),
            false => 0..0,
        };
        for index in told {
            self.tell_to_go(SessionIndex(index), spread_ms, out);
        }
        for index in ended {
            self.end(SessionIndex(index), out);
        }
    }

    /// Tells the client in this place when to come back.
    fn tell_to_go(&mut self, index: SessionIndex, spread_ms: u64, out: &mut Outbox) {
        let Some(conn) = self.sessions.tenant(index) else {
            return;
        };
        let Some(session) = self.sessions.get(conn) else {
            return;
        };
        match session.stage {
            Stage::Closing => {}
            Stage::Connecting => self.close_socket(conn, out),
            Stage::Unidentified | Stage::Identifying | Stage::Ready => {
                let reason = "the server is shutting down".to_owned();
                let retry_after_ms = self.random.random_range(0..=spread_ms);
                let event = Event::Reconnect {
                    reason,
                    retry_after_ms,
                };
                self.send(conn, &event, out);
            }
        }
    }

    /// Over how long the clients of this shard are told to come back, if the others have as many.
    fn reconnect_spread_ms(&self) -> u64 {
        let sessions = self.sessions.count() as u64 * u64::from(self.shards);
        (sessions * 1_000 / RECONNECTS_PER_S).clamp(RECONNECT_MS_MIN, RECONNECT_MS_MAX)
    }

    /// The drain is over for the session in this place.
    fn end(&mut self, index: SessionIndex, out: &mut Outbox) {
        let Some(conn) = self.sessions.tenant(index) else {
            return;
        };
        let session = self.sessions.get(conn);
        if session.is_some_and(|session| session.stage != Stage::Closing) {
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

/// The next places of a drain, as many as one tick has, of `end` places.
fn take_places(next: &mut u32, end: u32) -> std::ops::Range<u32> {
    let from = *next;
    let step = DRAINED_PER_TICK_MIN.max(end.div_ceil(DRAIN_TICKS_MAX));
    *next = end.min(from.saturating_add(step)).max(from);
    from..*next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_passes_every_place_once() {
        for (end, steps) in [(0, 0), (1, 1), (16_384, 1), (49_159, 4), (2_000_001, 20)] {
            let mut next = 0;
            let taken: Vec<u32> = (0..steps)
                .flat_map(|_| take_places(&mut next, end))
                .collect();
            assert_eq!(taken, (0..end).collect::<Vec<_>>());
            assert!(take_places(&mut next, end).is_empty(), "the last was there");
        }
    }

    #[test]
    fn the_hand_passes_every_place_once_a_round() {
        for (end, step_ms) in [(0, 100), (1, 100), (7, 100), (1_000, 100), (1_000, 30_000)] {
            let mut hand = Hand {
                at: 0,
                round_began_ms: 0,
            };
            let (mut passed, mut now_ms) = (Vec::new(), 0);
            while hand.round_began_ms == 0 {
                now_ms += step_ms;
                passed.extend(hand.advance(now_ms, 5_000, end));
            }
            assert_eq!(passed, (0..end).collect::<Vec<_>>());
            assert_eq!(hand.at, 0);
        }
    }
}
