//! Malformed peers: ordinary connections that break the rules, a few a second, from a thread of
//! their own.
//!
//! It never shares a connection or a core's time slice with those who behave; what it finds is
//! counted, and judged by [`super::offence`].
//!
//! Invariants: at most [`PEERS_MAX`] at once; each peer is counted once, as answered, answered
//! otherwise than it should, or not answered within [`PATIENCE_S`]; the order of offences follows
//! from the seed.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde::Serialize;

use super::answer::{Answer, answer};
use super::offence::{ALL, Offence};
use super::pace::Pace;
use crate::clock::{Clock, pause};
use crate::target::Target;

/// Peers at once; who is due beyond them is left out.
const PEERS_MAX: usize = 4_096;
/// Longer than the longest of the server's timeouts for who has not identified (10 s each for the
/// handshake and for IDENTIFY, and 5 s to leave), seconds.
const PATIENCE_S: f64 = 30.0;
/// How often the thread looks at its peers.
const STEP: Duration = Duration::from_millis(10);
/// Bytes of an answer that are kept.
const SAID_BYTES_MAX: usize = 16 << 10;
/// Between two bytes of one that drips, seconds.
const DRIP_S: f64 = 0.3;

/// What became of malformed peers.
#[derive(Clone, Default, Debug, Serialize)]
pub struct Offences {
    /// Peers that were tried.
    pub tried: u64,
    /// Peers that were told, or cut off, as they should be.
    pub answered: u64,
    /// Peers that were told something else.
    pub answered_otherwise: u64,
    /// Peers that were still there when patience was over.
    pub unanswered: u64,
    /// Peers that could not connect.
    pub not_connected: u64,
    /// Peers that were due while too many were there.
    pub left_out: u64,
    /// What each kind was told, and how often.
    pub answers: BTreeMap<String, BTreeMap<String, u64>>,
}

struct Peer {
    offence: Offence,
    stream: TcpStream,
    bytes: Vec<u8>,
    sent: usize,
    said: Vec<u8>,
    begun_s: f64,
    /// When one that drips says its next byte.
    drip_s: f64,
}

/// The thread of malformed peers.
pub(super) struct Malformed {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Offences>,
}

impl Malformed {
    /// Begins: so many peers a second.
    #[expect(
        clippy::disallowed_methods,
        reason = "this edge disturbs the server from outside the swarm"
    )]
    pub(super) fn start(target: Target, rate: u32, seed: u64) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || Crew::new(target, rate, seed).run(&over));
        Self { is_over, thread }
    }

    /// No new ones from now on.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether all have their answer.
    pub(super) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the last one's answer; says what became of all.
    pub(super) fn stop(self) -> Offences {
        self.end();
        self.thread.join().expect("malformed peers do not panic")
    }
}

struct Crew {
    target: Target,
    clock: Clock,
    pace: Pace,
    random: StdRng,
    /// Kinds whose turn is still to come: each comes once in a round.
    round: Vec<Offence>,
    peers: Vec<Peer>,
    found: Offences,
}

impl Crew {
    fn new(target: Target, rate: u32, seed: u64) -> Self {
        let clock = Clock::start();
        Self {
            target,
            clock,
            pace: Pace::new(rate, clock.now_ns()),
            random: StdRng::seed_from_u64(seed),
            round: Vec::new(),
            peers: Vec::new(),
            found: Offences::default(),
        }
    }

    fn run(mut self, is_over: &AtomicBool) -> Offences {
        loop {
            let is_over = is_over.load(Ordering::Relaxed);
            while !is_over && self.pace.take(self.clock.now_ns()).is_some() {
                self.begin();
            }
            if is_over && self.peers.is_empty() {
                return self.found;
            }
            let now_s = self.clock.seconds();
            for mut peer in std::mem::take(&mut self.peers) {
                let found = peer.step(now_s);
                if found.is_some() || now_s - peer.begun_s > PATIENCE_S {
                    self.count(peer.offence, found.as_ref());
                } else {
                    self.peers.push(peer);
                }
            }
            pause(STEP);
        }
    }

    fn begin(&mut self) {
        if self.round.is_empty() {
            self.round = ALL.to_vec();
            self.round.shuffle(&mut self.random);
        }
        let offence = self.round.pop().expect("there are kinds");
        let bytes = offence.bytes(&self.target.authority, &mut self.random);
        if self.peers.len() >= PEERS_MAX {
            self.found.left_out += 1;
            return;
        }
        self.found.tried += 1;
        let stream = TcpStream::connect(self.target.address);
        let stream = stream.and_then(|stream| stream.set_nonblocking(true).map(|()| stream));
        match stream {
            Ok(stream) => self.peers.push(Peer {
                offence,
                stream,
                bytes,
                sent: 0,
                said: Vec::new(),
                begun_s: self.clock.seconds(),
                drip_s: 0.0,
            }),
            Err(_) => self.found.not_connected += 1,
        }
    }

    fn count(&mut self, offence: Offence, found: Option<&Answer>) {
        let told = found.map_or_else(|| "nothing".to_owned(), ToString::to_string);
        let kind = self
            .found
            .answers
            .entry(format!("{offence:?}"))
            .or_default();
        *kind.entry(told).or_default() += 1;
        match found {
            None => self.found.unanswered += 1,
            Some(answer) if offence.allows(answer) => self.found.answered += 1,
            Some(_) => self.found.answered_otherwise += 1,
        }
    }
}

impl Peer {
    /// Says what it can and hears what there is; the answer, once there is one.
    fn step(&mut self, now_s: f64) -> Option<Answer> {
        let may_send = if self.offence.drips() {
            self.sent + usize::from(now_s >= self.drip_s)
        } else {
            self.bytes.len()
        };
        self.drip_s = if now_s >= self.drip_s {
            now_s + DRIP_S
        } else {
            self.drip_s
        };
        while self.sent < may_send.min(self.bytes.len()) {
            match self.stream.write(&self.bytes[self.sent..may_send]) {
                Ok(count) => self.sent += count,
                // A server that has said why may have closed already: what it said is read below.
                Err(_) => break,
            }
        }
        let mut buffer = [0; 4_096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Some(answer(&self.said).unwrap_or(Answer::CutOff)),
                Ok(count) => {
                    let room = SAID_BYTES_MAX - self.said.len();
                    self.said.extend_from_slice(&buffer[..count.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return answer(&self.said);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Some(answer(&self.said).unwrap_or(Answer::CutOff)),
            }
        }
    }
}
