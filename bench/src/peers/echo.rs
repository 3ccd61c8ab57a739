//! Echoes of one server: one message on its way on each connection, in a closed loop.
//!
//! It compares each echo with what was sent, and nothing else.
//!
//! Invariants: a connection sends again only when its echo has come; what was measured has come back
//! before the round ends.

use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::{Client, Listening, MS};
use super::server::Server;
use crate::clock::thread_cpu;
use crate::error::BenchError;
use crate::report::Latency;
use crate::swarm::links::Link;
use crate::swarm::speech::{rate, text};
use crate::swarm::talk::latencies;
use crate::tally::record;

/// Before anything is measured.
const WARM_UP: Duration = Duration::from_millis(500);
/// A round ends even when echoes stay away for so long.
const STALLED_S: f64 = 10.0;

/// What a round of echoes brought.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct EchoRound {
    /// Connections, one message each on its way.
    pub(super) connections: u32,
    /// Bytes of a message.
    pub(super) size: usize,
    /// Echoes a second.
    pub(super) messages_per_s: f64,
    /// Processor time of the server's processes an echo, microseconds.
    pub(super) server_cpu_us_per_message: f64,
    /// Processor time of the generator, percent of a core.
    pub(super) generator_cpu_percent: f64,
    /// From sending to the echo.
    pub(super) latency_us: Latency,
    /// Echoes.
    pub(super) messages: u64,
    /// Echoes that were not what was sent.
    pub(super) wrong: u64,
    /// Echoes that did not come.
    pub(super) lost: u64,
    /// Connections that ended.
    pub(super) ended: u64,
}

impl EchoRound {
    /// Whether every message came back.
    pub(super) const fn is_clean(&self) -> bool {
        self.wrong == 0 && self.lost == 0 && self.ended == 0 && self.messages > 0
    }
}

/// Echoes for so long, after a warm-up.
///
/// # Errors
/// When not all could connect, or a ring fails.
pub(super) fn measure(
    server: &Server,
    connections: u32,
    size: usize,
    duration: Duration,
) -> Result<(EchoRound, Histogram<u64>), BenchError> {
    let client = Client::open(server, Listening::ToOwn, connections)?;
    let mut echoes = Echoes::new(client, connections, size);
    echoes.client.come(connections)?;
    echoes.go_on(WARM_UP)?;
    echoes.restart();
    let (before_s, own_before) = (server.cpu_s(), thread_cpu());
    let seconds = echoes.go_on(duration)?;
    let cpu_s = server.cpu_s() - before_s;
    let own_s = thread_cpu().saturating_sub(own_before).as_secs_f64();
    let messages = echoes.ear.messages;
    let round = EchoRound {
        connections,
        size,
        messages_per_s: rate(messages, seconds),
        server_cpu_us_per_message: 1e6 / rate(messages.max(1), cpu_s),
        generator_cpu_percent: 100.0 * own_s / seconds.max(1e-6),
        latency_us: Latency::from(&echoes.ear.latency_us),
        messages,
        wrong: echoes.ear.wrong,
        lost: u64::from(echoes.on_their_way),
        ended: echoes.client.ended(),
    };
    Ok((round, echoes.ear.latency_us))
}

struct Echoes {
    client: Client,
    frames: Vec<Bytes>,
    on_their_way: u32,
    ear: Ear,
}

/// What is heard.
struct Ear {
    payload: Vec<u8>,
    /// When each connection sent what is on its way; 0 where nothing is.
    sent_ns: Vec<u64>,
    latency_us: Histogram<u64>,
    messages: u64,
    wrong: u64,
    /// Who has its echo and may send again.
    answered: Vec<Link>,
}

impl Echoes {
    fn new(client: Client, connections: u32, size: usize) -> Self {
        let payload = text(size).into_bytes();
        let frames = (0..connections).map(|n| client.frame(Link(n), &payload));
        Self {
            frames: frames.collect(),
            client,
            on_their_way: 0,
            ear: Ear {
                payload,
                sent_ns: vec![0; connections as usize],
                latency_us: latencies(),
                messages: 0,
                wrong: 0,
                answered: Vec::new(),
            },
        }
    }

    /// Echoes for so long, then waits for those on their way; says how long it took, seconds.
    fn go_on(&mut self, duration: Duration) -> Result<f64, BenchError> {
        let clock = self.client.clock();
        let begun = clock.seconds();
        for place in 0..self.frames.len() {
            self.send(place);
        }
        while self.on_their_way > 0 {
            let seconds = clock.seconds() - begun;
            let is_open = seconds < duration.as_secs_f64();
            let is_stalled = seconds > duration.as_secs_f64() + STALLED_S;
            if is_stalled || self.client.ended() > 0 {
                break;
            }
            self.client.turn(MS, |link, payload| {
                self.ear.hear(link, payload, clock.now_ns());
            })?;
            let mut answered = std::mem::take(&mut self.ear.answered);
            for link in answered.drain(..) {
                self.on_their_way -= 1;
                if is_open {
                    self.send(link.place());
                }
            }
            self.ear.answered = answered;
        }
        Ok(clock.seconds() - begun)
    }

    fn send(&mut self, place: usize) {
        self.ear.sent_ns[place] = self.client.clock().now_ns();
        self.on_their_way += 1;
        let link = Link(u32::try_from(place).expect("connections are counted in 32 bits"));
        self.client.send(link, self.frames[place].clone());
    }

    fn restart(&mut self) {
        self.ear.latency_us.reset();
        self.ear.messages = 0;
    }
}

impl Ear {
    fn hear(&mut self, link: Link, payload: &[u8], now_ns: u64) {
        let sent_ns = std::mem::take(&mut self.sent_ns[link.place()]);
        if sent_ns == 0 || payload != self.payload {
            self.wrong += 1;
            return;
        }
        record(&mut self.latency_us, now_ns.saturating_sub(sent_ns));
        self.messages += 1;
        self.answered.push(link);
    }
}
