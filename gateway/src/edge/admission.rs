//! Who is let in: accepts connections while there is room, and tells the others when to come back.
//!
//! It knows nothing of what a connection wants: who is not let in gets 503 before it has said a
//! word, and the application never hears of it.
//!
//! Invariants: an accept is started only with a place promised to it; some places are kept for
//! refusals, so that a shard that is full still answers; a refused socket is gone after
//! [`LINGER_MS_MAX`] at the latest; while all those places are taken nobody is accepted.

use std::collections::{HashSet, VecDeque};
use std::os::fd::AsRawFd;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::memory::MemoryGate;
use super::operation::Completion;
use super::plan::RingPlan;
use super::socket::{Bit, Socket, State};
use super::sockets::{Happened, Sockets};
use crate::io::ConnId;

/// Accepts outstanding at once, in a large ring.
const ACCEPTS_MAX: u32 = 64;
/// How long a refused socket may take to leave: its peer either reads the answer or never will.
const LINGER_MS_MAX: u64 = 1_000;
/// The least and the most that somebody is told to wait, in seconds. Spread, so that those who were
/// refused together do not come back together.
const RETRY_AFTER_S: std::ops::RangeInclusive<u32> = 1..=30;

/// What admission knows of one shard's connections.
pub(super) struct Admission {
    connections_max: u32,
    /// Places that only refusals may take.
    refusals_max: u32,
    accepts_max: u32,
    memory: MemoryGate,
    /// Answers with different times to wait, made once.
    answers: Vec<Bytes>,
    random: StdRng,
    /// Accepts outstanding.
    accepting: u32,
    /// The kernel lacked something: not again before the next tick.
    failed: bool,
    /// No ring could be opened: not again before the next tick. Those who come are told no.
    ring_failed: bool,
    /// Said once.
    ring_warned: bool,
    /// Nobody could be accepted; said once until somebody was.
    accept_warned: bool,
    ended: bool,
    /// Places of those that are being told no.
    refused: HashSet<u32>,
    deadlines: VecDeque<(u64, ConnId)>,
}

impl Admission {
    /// Lets in as many as planned, as long as `memory` allows it.
    pub(super) fn new(plan: RingPlan, refusals_max: u32, memory: MemoryGate, seed: u64) -> Self {
        Self {
            connections_max: plan.connections_max,
            refusals_max,
            accepts_max: ACCEPTS_MAX
                .min(plan.size.places / 4)
                .min(refusals_max)
                .max(1),
            memory,
            answers: RETRY_AFTER_S.map(answer).collect(),
            random: StdRng::seed_from_u64(seed),
            accepting: 0,
            failed: false,
            ring_failed: false,
            ring_warned: false,
            accept_warned: false,
            ended: false,
            refused: HashSet::new(),
            deadlines: VecDeque::new(),
        }
    }

    /// From now on nobody is even told no.
    pub(super) fn end(&mut self) {
        self.ended = true;
    }

    /// A socket has gone.
    pub(super) fn gone(&mut self, conn: ConnId) {
        if !self.refused.is_empty() {
            self.refused.remove(&conn.index);
        }
    }

    /// The peer went before it was accepted, or nobody can be accepted for a while.
    fn accept_failed(&mut self, error: i32) {
        if matches!(error, libc::ECANCELED | libc::ECONNABORTED | libc::EINTR) {
            return;
        }
        self.failed = true;
        if !std::mem::replace(&mut self.accept_warned, true) {
            let error = std::io::Error::from_raw_os_error(error);
            tracing::warn!(%error, "nobody can be accepted for now");
        }
    }

    fn refused_count(&self) -> u32 {
        u32::try_from(self.refused.len()).expect("fewer than places")
    }

    fn answer(&mut self) -> Bytes {
        let which = self.random.random_range(0..self.answers.len());
        self.answers[which].clone()
    }
}

impl Sockets {
    /// Starts as many accepts as there is room for, a bounded number.
    pub(super) fn accept_if_room(&mut self) {
        let Some(listener) = self.listener.as_ref().filter(|_| !self.admission.failed) else {
            return;
        };
        let listener = listener.as_raw_fd();
        while self.admission.accepting < self.admission.accepts_max {
            self.open_ring_if_needed();
            let Some(ring) = self.rings.promise() else {
                return;
            };
            ring.accept(listener);
            self.admission.accepting += 1;
        }
    }

    /// The next ring is opened while the places kept for refusals are still free.
    fn open_ring_if_needed(&mut self) {
        let admission = &mut self.admission;
        let needed = self.rings.free() <= admission.refusals_max && self.rings.can_grow();
        if !needed || admission.ring_failed {
            return;
        }
        match self.rings.grow() {
            Ok(()) => {
                let rings = self.rings.len();
                tracing::info!(rings, "one more ring of sockets was opened");
                self.table.reserve_exact(self.rings.places() as usize);
            }
            Err(error) => {
                admission.ring_failed = true;
                if !std::mem::replace(&mut admission.ring_warned, true) {
                    tracing::warn!(%error, "no further ring of sockets: those who come get 503");
                }
            }
        }
    }

    /// Takes no new connections any more; those to come are refused by the kernel.
    pub(super) fn stop_accepting(&mut self) {
        if self.listener.take().is_some() {
            self.rings.iter_mut().for_each(|ring| ring.cancel_accepts());
        }
    }

    /// Tries again what failed, and gives up those who were told no and do not go.
    pub(super) fn accept_again(&mut self, now_ms: u64) {
        self.admission.failed = false;
        self.admission.ring_failed = false;
        while let Some((deadline_ms, conn)) = self.admission.deadlines.front().copied()
            && deadline_ms <= now_ms
        {
            self.admission.deadlines.pop_front();
            self.fail(conn);
        }
    }

    /// An accept is over: somebody is there, or it failed.
    pub(super) fn accepted(&mut self, completion: Completion, now_ms: u64) -> Option<Happened> {
        self.admission.accepting -= 1;
        let Ok(slot) = u32::try_from(completion.result) else {
            self.rings.give_back(completion.conn);
            self.admission.accept_failed(-completion.result);
            return None;
        };
        self.admission.accept_warned = false;
        let conn = self.move_in(completion.conn.index + slot);
        self.start_receiving(conn);
        if self.admission.ended {
            self.socket(conn).set(Bit::Told, true);
            self.fail(conn);
            return None;
        }
        if self.is_full() || self.listener.is_none() || !self.admission.memory.admits() {
            self.refuse(conn, now_ms);
            return None;
        }
        Some(Happened::Accepted(conn))
    }

    /// Whether who came last is one too many.
    fn is_full(&self) -> bool {
        let admitted = self.live - self.admission.refused_count();
        admitted > self.admission.connections_max
            || self.rings.free() + self.admission.accepting + self.admission.refused_count()
                < self.admission.refusals_max
    }

    fn move_in(&mut self, index: u32) -> ConnId {
        while self.table.len() <= index as usize {
            self.table.push(Socket::new());
        }
        let socket = &mut self.table[index as usize];
        socket.open();
        self.live += 1;
        ConnId {
            index,
            generation: socket.generation,
        }
    }

    /// Says 503, and FIN. What the peer has to say is thrown away, but taken: a socket that is closed
    /// with unread bytes resets the connection, and the answer would be lost.
    fn refuse(&mut self, conn: ConnId, now_ms: u64) {
        self.admission.refused.insert(conn.index);
        let deadline_ms = now_ms + LINGER_MS_MAX;
        self.admission.deadlines.push_back((deadline_ms, conn));
        let answer = self.admission.answer();
        let answer = self.frame(answer);
        self.socket(conn).set(Bit::Told, true);
        self.send(conn, answer);
        let socket = self.socket(conn);
        socket.egress.close();
        socket.state = State::Leaving;
    }
}

/// The answer to somebody who is to come back after so many seconds.
fn answer(retry_after_s: u32) -> Bytes {
    const BODY: &str =
        "{\"error\":\"UNAVAILABLE\",\"message\":\"the server is full, try again later\"}\n";
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\n\
         retry-after: {retry_after_s}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        BODY.len()
    );
    Bytes::from(head + BODY)
}
