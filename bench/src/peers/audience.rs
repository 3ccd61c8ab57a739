//! One speaker, many subscribers: numbered messages, and what each subscriber heard of them.
//!
//! It decides on no rate; it says messages and counts what came of them.
//!
//! Invariants: the first connection speaks and listens, as in `throng-bench fanout`; a number is
//! never used twice; a latency counts from when the message was due.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::client::{Client, Listening, MS};
use super::ear::Ear;
use super::numbers::{Letters, Numbers};
use super::server::Server;
use crate::clock::thread_cpu;
use crate::error::BenchError;
use crate::report::Latency;
use crate::swarm::links::Link;
use crate::swarm::speech::rate;
use crate::swarm::talk::latencies;
use crate::tally::record;

const SPEAKER: Link = Link(0);
/// Nothing has come for so long: what is missing will not come.
const QUIET_S: f64 = 5.0;
/// Attempts at bringing back those who were thrown out.
const RETURNS_MAX: u32 = 3;

/// What became of some messages.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct Outcome {
    /// Messages that were sent.
    pub(super) sent: u64,
    /// Deliveries that were due: one a message and subscriber.
    pub(super) due: u64,
    /// Those of them that came, each once.
    pub(super) deliveries: u64,
    /// Due, and not delivered.
    pub(super) lost: u64,
    /// Delivered again.
    pub(super) duplicated: u64,
    /// Delivered after a later one.
    pub(super) out_of_order: u64,
    /// Delivered, but no message that was sent.
    pub(super) wrong: u64,
    /// Connections that ended.
    pub(super) dropped: u64,
    /// Why the last of them did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dropped_because: Option<String>,
    /// Deliveries a second, from the first message's due time to the last delivery.
    pub(super) deliveries_per_s: f64,
    /// Due time to delivery.
    pub(super) latency_us: Latency,
    /// How late the generator was, as far as latencies contain it: 99 % were at most this late.
    pub(super) generator_late_us_p99: u64,
    /// Processor time of the generator, percent of a core.
    pub(super) generator_cpu_percent: f64,
    /// Processor time of the server's processes a delivery, microseconds.
    pub(super) server_cpu_us_per_delivery: f64,
}

impl Outcome {
    /// Whether all of it reached everybody once, in order.
    pub(super) const fn is_clean(&self) -> bool {
        let faults = self.lost + self.duplicated + self.out_of_order + self.wrong + self.dropped;
        faults == 0
    }
}

/// Subscribers of one server, and their speaker.
pub(super) struct Audience<'a> {
    server: &'a Server,
    client: Client,
    subscribers: u32,
    sent: u64,
    ear: Ear,
}

impl<'a> Audience<'a> {
    /// Room for so many subscribers; nobody has come yet.
    ///
    /// # Errors
    /// When the system allows no sockets.
    pub(super) fn open(
        server: &'a Server,
        subscribers: u32,
        size: usize,
    ) -> Result<Self, BenchError> {
        Ok(Self {
            server,
            client: Client::open(server, Listening::ToRoom, subscribers)?,
            subscribers: 0,
            sent: 0,
            ear: Ear::new(Letters::new(size), subscribers),
        })
    }

    /// Lets so many come in all; says how long it took, seconds.
    ///
    /// # Errors
    /// When not all come.
    pub(super) fn come(&mut self, subscribers: u32) -> Result<f64, BenchError> {
        let away: Vec<Link> = (0..subscribers)
            .map(Link)
            .filter(|&link| !self.client.is_ready(link))
            .collect();
        let took_s = self.client.come(subscribers)?;
        for link in away {
            self.ear.numbers[link.place()] = Numbers::from(self.sent);
        }
        self.subscribers = subscribers;
        Ok(took_s)
    }

    /// Brings back those who were thrown out.
    ///
    /// # Errors
    /// When they do not come.
    pub(super) fn come_back(&mut self) -> Result<(), BenchError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.come(self.subscribers) {
                Err(_) if attempts < RETURNS_MAX => drop(self.stay(Duration::from_secs(1))?),
                result => return result.map(drop),
            }
        }
    }

    /// All leave.
    ///
    /// # Errors
    /// When they do not.
    pub(super) fn dismiss(&mut self) -> Result<(), BenchError> {
        self.subscribers = 0;
        self.client.dismiss()
    }

    /// Goes on for so long; says the least number of subscribers there were.
    ///
    /// # Errors
    /// When a ring fails.
    pub(super) fn stay(&mut self, duration: Duration) -> Result<u32, BenchError> {
        let until = self.client.clock().seconds() + duration.as_secs_f64();
        let mut least = self.client.ready();
        while self.client.clock().seconds() < until {
            self.turn(5 * MS)?;
            least = least.min(self.client.ready());
        }
        Ok(least)
    }

    /// The closed loop: the next message leaves when all have the last one.
    ///
    /// # Errors
    /// When a ring fails.
    pub(super) fn closed(&mut self, duration: Duration) -> Result<Outcome, BenchError> {
        self.closed_until(|seconds, _| seconds < duration.as_secs_f64())
    }

    /// So many messages of the closed loop.
    ///
    /// # Errors
    /// When a ring fails.
    pub(super) fn closed_times(&mut self, messages: u64) -> Result<Outcome, BenchError> {
        self.closed_until(|_, sent| sent < messages)
    }

    fn closed_until(&mut self, goes_on: impl Fn(f64, u64) -> bool) -> Result<Outcome, BenchError> {
        let began = self.begin(0.0);
        let clock = self.client.clock();
        while goes_on(clock.seconds() - began.seconds, self.sent - began.sent) {
            self.ear.first = self.sent;
            self.ear.first_due_ns = clock.now_ns();
            self.say();
            self.hear_out(&began)?;
            if self.ear.deliveries < self.due(&began) {
                break;
            }
        }
        Ok(self.conclude(&began, &latencies()))
    }

    /// The open loop: so many messages a second, whatever comes of them; then waits until all have
    /// come, or nothing comes any more.
    ///
    /// # Errors
    /// When a ring fails.
    pub(super) fn open_loop(
        &mut self,
        rate: u32,
        duration: Duration,
    ) -> Result<Outcome, BenchError> {
        let interval_ns = 1e9 / f64::from(rate.max(1));
        let began = self.begin(interval_ns);
        let clock = self.client.clock();
        let total = u128::from(rate) * duration.as_nanos() / 1_000_000_000;
        let total = u64::try_from(total).unwrap_or(u64::MAX).max(1);
        let mut late_us = latencies();
        while self.sent - began.sent < total {
            loop {
                let due_ns = self.ear.due_ns(self.sent);
                let now_ns = clock.now_ns();
                if due_ns > now_ns || self.sent - began.sent == total {
                    break;
                }
                record(&mut late_us, now_ns - due_ns);
                self.say();
            }
            self.turn(MS / 4)?;
        }
        self.hear_out(&began)?;
        Ok(self.conclude(&began, &late_us))
    }

    /// The latencies of what was said last.
    pub(super) const fn latency_us(&self) -> &Histogram<u64> {
        &self.ear.latency_us
    }

    fn say(&mut self) {
        let letter = self.ear.letters.write(self.sent);
        self.sent += 1;
        self.ear.sent = self.sent;
        let frame = self.client.frame(SPEAKER, &letter);
        self.client.send(SPEAKER, frame);
    }

    fn turn(&mut self, wait_ns: u64) -> Result<(), BenchError> {
        let clock = self.client.clock();
        let ear = &mut self.ear;
        self.client.turn(wait_ns, |link, payload| {
            ear.hear(link, payload, clock.now_ns())
        })
    }

    fn due(&self, began: &Began) -> u64 {
        (self.sent - began.sent) * u64::from(self.subscribers)
    }

    /// Waits until nothing is missing, or nothing comes any more.
    fn hear_out(&mut self, began: &Began) -> Result<(), BenchError> {
        let clock = self.client.clock();
        let mut heard = self.ear.deliveries;
        let mut moved_s = clock.seconds();
        while self.ear.deliveries < self.due(began) {
            self.turn(MS)?;
            let now_s = clock.seconds();
            if self.ear.deliveries != heard {
                (heard, moved_s) = (self.ear.deliveries, now_s);
            }
            if now_s - moved_s > QUIET_S {
                break;
            }
        }
        Ok(())
    }

    fn begin(&mut self, interval_ns: f64) -> Began {
        let clock = self.client.clock();
        self.ear.begin(self.sent, clock.now_ns(), interval_ns);
        Began {
            sent: self.sent,
            seconds: clock.seconds(),
            ended: self.client.ended(),
            own_cpu: thread_cpu(),
            server_cpu_s: self.server.cpu_s(),
        }
    }

    fn conclude(&self, began: &Began, late_us: &Histogram<u64>) -> Outcome {
        let ear = &self.ear;
        let due = self.due(began);
        let clock = self.client.clock();
        #[expect(
            clippy::cast_precision_loss,
            reason = "a run's nanoseconds: 53 bits are plenty"
        )]
        let seconds = ear.last_ns as f64 / 1e9 - began.seconds;
        let took_s = (clock.seconds() - began.seconds).max(1e-6);
        let own_s = thread_cpu().saturating_sub(began.own_cpu).as_secs_f64();
        let cpu_s = self.server.cpu_s() - began.server_cpu_s;
        let dropped = self.client.ended() - began.ended;
        Outcome {
            sent: self.sent - began.sent,
            due,
            deliveries: ear.deliveries,
            lost: due.saturating_sub(ear.deliveries),
            duplicated: ear.duplicated,
            out_of_order: ear.out_of_order,
            wrong: ear.wrong,
            dropped,
            dropped_because: (dropped > 0).then(|| self.client.last_end().to_owned()),
            deliveries_per_s: rate(ear.deliveries, seconds),
            latency_us: Latency::from(&ear.latency_us),
            generator_late_us_p99: late_us.value_at_quantile(0.99),
            generator_cpu_percent: 100.0 * own_s / took_s,
            server_cpu_us_per_delivery: 1e6 / rate(ear.deliveries.max(1), cpu_s),
        }
    }
}

/// Where some messages began.
struct Began {
    sent: u64,
    seconds: f64,
    ended: u64,
    own_cpu: Duration,
    server_cpu_s: f64,
}
