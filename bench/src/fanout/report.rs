//! What a fan-out run found.
//!
//! Names of members are relied on by others and stay.
//!
//! Invariants: a ratio is taken within a pair of neighbouring rounds, and then the pairs' median.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::loopback::LoopbackLosses;
use crate::memory::ProcessUse;
use crate::report::Latency;
use crate::swarm::crowd::Crowd;
use crate::swarm::speech::{Spoken, float, rate};

/// The report of `throng-bench fanout`.
#[derive(Clone, Default, Debug, Serialize)]
pub struct FanoutReport {
    /// Subscribers of the channel.
    pub subscribers: u32,
    /// Closed loop: deliveries a second, median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries_per_s: Option<f64>,
    /// The bare loop in between: sends a second, median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bare_send_per_s: Option<f64>,
    /// The first by the second, median of the pairs of rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Open loop: the most deliveries a second of which 99 % came within 100 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coalesced_deliveries_per_s: Option<f64>,
    /// Messages a second of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coalesced_messages_per_s: Option<u32>,
    /// Due, and not delivered, where the rate was one that holds.
    pub lost: u64,
    /// Delivered again.
    pub duplicated: u64,
    /// Delivered after a later one.
    pub out_of_order: u64,
    /// Delivered to clients that do not watch the channel, at any rate.
    pub unasked: u64,
    /// Times that one nonce stood at a second place of its channel, at any rate.
    pub doubled: u64,
    /// Delivered in another channel than they were sent to, at any rate.
    pub misplaced: u64,
    /// Closed loop: deliveries beyond those that were due.
    pub undue: u64,
    /// Closed loop: live connections that ended, and clients that were told to fetch anew.
    pub thrown_out: u64,
    /// Live connections that ended, at any rate: a rate that is too high throws slow readers out.
    pub dropped: u64,
    /// Times that a client was told to fetch anew, at any rate.
    pub resyncs: u64,
    /// Due time to delivery at the best rate of the open loop, or at the one that was asked for.
    pub delivery_latency_us: Latency,
    /// How long it went on at that rate before, seconds.
    pub warm_up_s: f64,
    /// What became of that: promises count from the start, figures do not.
    #[serde(skip)]
    pub warm_up: Option<Spoken>,
    /// Everything about that rate.
    pub open: Option<Spoken>,
    /// Bytes of a delivered frame with its header.
    pub frame_bytes: usize,
    /// Closed loop, with --pid: processor time of the server a delivery, microseconds, median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_delivery: Option<f64>,
    /// Open loop at the best rate, or at the one that was asked for, with --pid: the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub open_cpu_us_per_delivery: Option<f64>,
    /// Closed loop: processor time of the generator in the server's rounds, percent of one core, median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator_cpu_percent: Option<f64>,
    /// Closed loop, with --pid: the server's, percent of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_percent_of_core: Option<f64>,
    /// Each round's rates: the server's, the bare loop's.
    pub rounds: Vec<[f64; 2]>,
    /// Each rate that was tried: messages a second, deliveries a second, p99 in microseconds.
    pub probes: Vec<(u32, f64, u64)>,
    /// Attempts that ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Events that came, those parsed whole, and those in which scanning had seen something else.
    pub events: [u64; 3],
    /// What the kernel dropped meanwhile.
    #[serde(flatten)]
    pub losses: LoopbackLosses,
    #[serde(skip)]
    cpu_us: Vec<f64>,
    /// Of each round: percent of one core, of the server and of the generator.
    #[serde(skip)]
    busy_percent: Vec<[Option<f64>; 2]>,
}

impl FanoutReport {
    /// A report about so many subscribers.
    #[must_use]
    pub fn new(subscribers: u32) -> Self {
        Self {
            subscribers,
            ..Self::default()
        }
    }

    /// Whether everything arrived once, in order: at any rate nothing twice and nothing astray, and
    /// in the closed loop and at the rate that holds all of it, with nobody thrown out.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let wrongs = [
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.unasked,
            self.doubled,
            self.misplaced,
            self.undue,
            self.thrown_out,
            self.events[2],
        ];
        let mut spoken = self.open.iter().chain(&self.warm_up);
        wrongs == [0; 9] && spoken.all(Spoken::is_clean)
    }

    pub(super) fn server_round(
        &mut self,
        deliveries: u64,
        seconds: f64,
        before: Option<ProcessUse>,
        after: Option<ProcessUse>,
        own_s: f64,
    ) {
        self.rounds.push([rate(deliveries, seconds), 0.0]);
        let used = before.zip(after);
        let cpu_s = used.map(|(before, after)| after.cpu_s - before.cpu_s);
        self.cpu_us
            .extend(cpu_s.map(|cpu_s| cpu_s * 1e6 / float(deliveries)));
        let percent = |cpu_s: f64| 100.0 * cpu_s / seconds.max(1e-6);
        self.busy_percent
            .push([cpu_s.map(percent), Some(percent(own_s))]);
    }

    pub(super) fn bare_round(&mut self, per_s: f64) {
        if let Some(round) = self.rounds.last_mut() {
            round[1] = per_s;
        }
    }

    pub(super) fn cpu(
        &mut self,
        before: Option<ProcessUse>,
        after: Option<ProcessUse>,
        spoken: &Spoken,
    ) {
        if let (Some(before), Some(after)) = (before, after) {
            let cpu_us = (after.cpu_s - before.cpu_s) * 1e6;
            self.open_cpu_us_per_delivery = Some(cpu_us / float(spoken.deliveries.max(1)));
        }
    }

    pub(super) fn probed(&mut self, rate: u32, spoken: &Spoken) {
        let p99 = spoken.delivery_latency_us.p99;
        self.probes.push((rate, spoken.deliveries_per_s, p99));
    }

    pub(super) fn best(&mut self, rate: u32, spoken: Spoken) {
        self.coalesced_messages_per_s = Some(rate);
        self.coalesced_deliveries_per_s = Some(spoken.deliveries_per_s);
        self.delivery_latency_us = spoken.delivery_latency_us.clone();
        self.lost += spoken.lost;
        self.open = Some(spoken);
    }

    pub(super) fn conclude(&mut self, crowd: &Crowd) {
        let each = |of: fn(&[f64; 2]) -> f64| median(self.rounds.iter().map(of));
        (self.deliveries_per_s, self.bare_send_per_s) = (each(|r| r[0]), each(|r| r[1]));
        self.ratio = each(|r| r[0] / r[1].max(1.0));
        let busy = |which: usize| median(self.busy_percent.iter().filter_map(|it| it[which]));
        self.server_cpu_percent_of_core = busy(0);
        self.generator_cpu_percent = busy(1);
        self.server_cpu_us_per_delivery = median(self.cpu_us.iter().copied());
        let tally = &crowd.people.tally;
        self.ended = tally.ended.clone();
        self.frame_bytes = tally.message_frame_bytes;
        self.events = [tally.events, tally.parsed, tally.misread];
        if let Some(ledger) = &crowd.people.ledger {
            let counts = ledger.counts();
            self.duplicated = counts.duplicated;
            self.out_of_order = counts.out_of_order;
            self.unasked = counts.unasked;
        }
        self.doubled = crowd.people.talk.doubled();
        self.misplaced = crowd.people.talk.misplaced();
        (self.dropped, self.resyncs) = (tally.dropped, tally.resyncs);
    }
}

/// The middle one.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

impl fmt::Display for FanoutReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} subscribers, frames of {} bytes",
            self.subscribers, self.frame_bytes
        )?;
        if let (Some(server), Some(bare), Some(ratio)) =
            (self.deliveries_per_s, self.bare_send_per_s, self.ratio)
        {
            writeln!(
                f,
                "closed: {server:.0} deliveries/s; bare send(): {bare:.0}/s; ratio {ratio:.3}"
            )?;
        }
        for (which, cpu_us) in [
            ("closed", self.server_cpu_us_per_delivery),
            ("open", self.open_cpu_us_per_delivery),
        ] {
            if let Some(cpu_us) = cpu_us {
                writeln!(f, "{which}: server CPU {cpu_us:.2} us a delivery")?;
            }
        }
        if let (Some(open), Some(rate)) = (&self.open, self.coalesced_messages_per_s) {
            if let Some(early) = &self.warm_up {
                write!(f, "warm-up of {} s: {early}", self.warm_up_s)?;
            }
            write!(f, "open, {rate} messages/s: {open}")?;
        } else if !self.probes.is_empty() {
            writeln!(f, "open: no rate was low enough")?;
        }
        writeln!(
            f,
            "all together: lost {}, duplicated {}, out of order {}, unasked {}, at two places {}, astray {}; \
             {} connections dropped, {} told to fetch anew; {} events scanned, {} parsed, {} misread",
            self.lost,
            self.duplicated,
            self.out_of_order,
            self.unasked,
            self.doubled,
            self.misplaced,
            self.dropped,
            self.resyncs,
            self.events[0],
            self.events[1],
            self.events[2]
        )?;
        writeln!(f, "{}", self.losses)?;
        for (reason, count) in &self.ended {
            writeln!(f, "ended: {count} {reason}")?;
        }
        Ok(())
    }
}
