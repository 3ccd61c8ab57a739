//! What an idle run found.
//!
//! Names of members are relied on by others and stay.
//!
//! Invariants: a figure per connection is a difference between two moments of the same run.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::Moment;
use crate::loopback::LoopbackLosses;
use crate::memory::{KernelMemory, float};
use crate::report::Latency;
use crate::swarm::calibrate::{Calibration, Objects, is_quiet};
use crate::swarm::crowd::Crowd;
use crate::swarm::speech::Spoken;

/// The report of `throng-bench idle`.
#[derive(Clone, Default, Debug, Serialize)]
pub struct IdleReport {
    /// Sessions that came.
    pub connections: u32,
    /// Sessions that were asked for.
    pub asked: u32,
    /// Subscriptions that were confirmed, all sessions together.
    pub subscriptions: u64,
    /// Subscriptions that were asked for.
    pub subscriptions_asked: u64,
    /// Growth of the server's resident memory, bytes a session, at the end of the hold.
    pub user_bytes_per_connection: f64,
    /// Growth of the kernel's memory without the generator's ends, bytes a session, at the end.
    pub kernel_bytes_per_connection: f64,
    /// Processor time of the server during the hold, percent of one core.
    pub server_cpu_percent: f64,
    /// Sessions that became live, a second, on average.
    pub handshakes_per_s: f64,
    /// The same two figures just after the last session came.
    pub user_bytes_per_connection_at_start: f64,
    /// See there.
    pub kernel_bytes_per_connection_at_start: f64,
    /// Growth of the kernel's memory with the generator's ends, bytes a session.
    pub kernel_bytes_per_pair: f64,
    /// What became of free memory: everything of both processes and the kernel, bytes a session.
    pub all_bytes_per_pair: f64,
    /// Where the kernel's memory grew by pages, bytes: others on the machine are in it, too.
    pub kernel_pages: KernelMemory,
    /// How the server's memory grew while they came: sessions, and the growth in bytes, a pair for each
    /// step.
    pub memory_by_connections: Vec<(u64, i64)>,
    /// Processor time of the generator while they came and during the hold, percent of one core.
    pub generator_cpu_percent: [f64; 2],
    /// Processor time of the server while they came, percent of one core.
    pub server_cpu_percent_at_start: f64,
    /// Kernel objects of a session and the generator's end of it, where they may be read: how many,
    /// and bytes of each.
    pub objects_per_pair: Objects,
    /// Whether sockets of others came or went meanwhile: then the figures of memory mean nothing.
    pub is_disturbed: bool,
    /// What the generator's own ends cost, bytes a session.
    pub generator_bytes_per_connection: f64,
    /// How that was found.
    pub calibration: Calibration,
    /// The least number of live sessions during the hold.
    pub least_live: u64,
    /// Live sessions that ended.
    pub dropped: u64,
    /// Attempts that ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Errors of the server, by code.
    pub errors: BTreeMap<&'static str, u64>,
    /// Heartbeats sent, and answered, without those of the warm-up.
    pub heartbeats: [u64; 2],
    /// Pings of the server that were answered.
    pub pings: u64,
    /// From dial to the last SUBSCRIBED, without the warm-up.
    pub handshake_latency_us: Latency,
    /// Events that came, those parsed whole, and those in which scanning had seen something else.
    pub events: [u64; 3],
    /// How long the sessions were held, seconds.
    pub held_s: f64,
    /// Rings of the generator.
    pub generator_rings: usize,
    /// One message to the channel that all watch, if asked for.
    pub broadcast: Option<Spoken>,
    /// How long all rested between these two, seconds.
    pub then_rest_s: f64,
    /// Messages to small channels, if asked for.
    pub chatter: Option<Spoken>,
    /// What the kernel dropped, from the first session on.
    #[serde(flatten)]
    pub losses: LoopbackLosses,
}

impl IdleReport {
    /// A report of so many sessions that were asked for, and so many that came.
    #[must_use]
    pub fn new(asked: u32, connections: u32, calibration: &Calibration) -> Self {
        Self {
            connections,
            asked,
            calibration: calibration.clone(),
            ..Self::default()
        }
    }

    /// Whether every session was held with all its subscriptions and nothing was misread.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let mut spoken = self.broadcast.iter().chain(&self.chatter);
        self.connections == self.asked
            && self.least_live == u64::from(self.connections)
            && self.subscriptions == self.subscriptions_asked
            && self.dropped == 0
            && self.events[2] == 0
            && spoken.all(Spoken::is_clean)
    }

    pub(super) fn memory(&mut self, empty: &Moment, full: &Moment, held: &Moment) {
        let each = |bytes: i64| float(bytes) / f64::from(self.connections);
        let user = |moment: &Moment| each(moment.server.resident - empty.server.resident);
        let pair =
            |moment: &Moment| moment.kernel.since(&empty.kernel) / f64::from(self.connections);
        self.objects_per_pair = held.kernel.objects(&empty.kernel, self.connections);
        self.is_disturbed = !is_quiet(&self.objects_per_pair);
        let client = self.calibration.client_bytes_beside(&self.objects_per_pair);
        self.generator_bytes_per_connection = client;
        self.user_bytes_per_connection_at_start = user(full);
        self.kernel_bytes_per_connection_at_start = pair(full) - client;
        self.user_bytes_per_connection = user(held);
        self.kernel_bytes_per_pair = pair(held);
        self.kernel_bytes_per_connection = pair(held) - client;
        self.all_bytes_per_pair = each(empty.free - held.free);
        self.kernel_pages = held.kernel.pages_since(&empty.kernel);
        let cpu = |from: &Moment, to: &Moment| {
            let seconds = to.clock_s - from.clock_s;
            100.0 * (to.own_cpu.saturating_sub(from.own_cpu)).as_secs_f64() / seconds.max(0.001)
        };
        self.generator_cpu_percent = [cpu(empty, full), cpu(full, held)];
        let seconds = full.clock_s - empty.clock_s;
        let came_cpu_s = full.server.cpu_s - empty.server.cpu_s;
        self.server_cpu_percent_at_start = 100.0 * came_cpu_s / seconds.max(0.001);
        self.held_s = held.clock_s - full.clock_s;
        let cpu_s = held.server.cpu_s - full.server.cpu_s;
        self.server_cpu_percent = 100.0 * cpu_s / self.held_s.max(0.001);
    }

    pub(super) fn sessions(&mut self, crowd: &Crowd, connect_s: f64, least_live: u64) {
        let tally = &crowd.people.tally;
        self.handshakes_per_s = f64::from(self.connections) / connect_s.max(0.001);
        self.least_live = least_live;
        self.dropped = tally.dropped;
        self.ended = tally.ended.clone();
        self.errors = tally.errors.clone();
        self.pings = tally.pings;
        self.handshake_latency_us = Latency::from(crowd.handshake_us());
        self.events = [tally.events, tally.parsed, tally.misread];
        self.generator_rings = crowd.rings();
    }
}

impl fmt::Display for IdleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} sessions with {} subscriptions, {:.0} handshakes/s, held {:.0} s, at least {} live; {}",
            self.connections,
            self.subscriptions,
            self.handshakes_per_s,
            self.held_s,
            self.least_live,
            self.losses
        )?;
        writeln!(
            f,
            "server: {:.0} B user + {:.0} B kernel a session ({:.0} + {:.0} when all had come), {:.2} % CPU",
            self.user_bytes_per_connection,
            self.kernel_bytes_per_connection,
            self.user_bytes_per_connection_at_start,
            self.kernel_bytes_per_connection_at_start,
            self.server_cpu_percent
        )?;
        writeln!(
            f,
            "kernel: {:.0} B a pair, {:.0} B of it the generator's; all memory: {:.0} B a pair",
            self.kernel_bytes_per_pair,
            self.generator_bytes_per_connection,
            self.all_bytes_per_pair
        )?;
        writeln!(
            f,
            "CPU while they came: server {:.0} %, generator {:.0} %; during the hold: generator {:.1} %",
            self.server_cpu_percent_at_start,
            self.generator_cpu_percent[0],
            self.generator_cpu_percent[1]
        )?;
        let latency = &self.handshake_latency_us;
        writeln!(
            f,
            "handshake us: p50 {} p99 {} max {}; heartbeats {} sent, {} answered; {} pings",
            latency.p50,
            latency.p99,
            latency.max,
            self.heartbeats[0],
            self.heartbeats[1],
            self.pings
        )?;
        writeln!(
            f,
            "events: {} scanned, {} of them parsed, {} misread",
            self.events[0], self.events[1], self.events[2]
        )?;
        if let Some(spoken) = &self.broadcast {
            write!(f, "to all: {spoken}")?;
        }
        if let Some(spoken) = &self.chatter {
            write!(
                f,
                "in small channels, {:.0} s later: {spoken}",
                self.then_rest_s
            )?;
        }
        self.write_troubles(f)
    }
}

impl IdleReport {
    fn write_troubles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (reason, count) in &self.ended {
            writeln!(f, "ended: {count} {reason}")?;
        }
        for (code, count) in &self.errors {
            writeln!(f, "error: {count} {code}")?;
        }
        if self.is_disturbed {
            writeln!(
                f,
                "DISTURBED: others' sockets came or went; memory figures mean nothing"
            )?;
        }
        if !self.is_clean() {
            writeln!(
                f,
                "NOT CLEAN: {} of {} sessions came, {} were dropped; {} of {} subscriptions",
                self.connections,
                self.asked,
                self.dropped,
                self.subscriptions,
                self.subscriptions_asked
            )?;
        }
        Ok(())
    }
}
