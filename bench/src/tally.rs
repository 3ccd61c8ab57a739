//! What one generator thread counted and measured.
//!
//! It judges nothing: promises are the oracle's.
//!
//! Invariants: adding the tallies of all threads gives what one thread would have counted.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use throng_protocol::ErrorCode;

use crate::ended::Ended;

/// The longest latency that is told apart, microseconds: an hour.
pub const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Counts and latencies.
#[derive(Debug)]
pub struct Tally {
    /// Messages handed to the kernel for the first time.
    pub sent: u64,
    /// Messages that were acknowledged or refused.
    pub answered: u64,
    /// Events that delivered a message.
    pub deliveries: u64,
    /// Those of them that were due before anything is measured.
    pub early: u64,
    /// Refusals, by code.
    pub refused: BTreeMap<&'static str, u64>,
    /// Connections that ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Connections made again.
    pub reconnects: u64,
    /// Messages sent again after a disconnect.
    pub resent: u64,
    /// Subscriptions that were told to fetch anew.
    pub resyncs: u64,
    /// Intended send time to acknowledgement, microseconds; without the warm-up, as all latencies here.
    pub ack_us: Histogram<u64>,
    /// Intended send time to delivery, microseconds.
    pub delivery_us: Histogram<u64>,
    /// Intended to actual send time, microseconds, of messages whose client was live: what waits
    /// for a reconnect waits for the server.
    pub late_us: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sent: 0,
            answered: 0,
            deliveries: 0,
            early: 0,
            refused: BTreeMap::new(),
            ended: BTreeMap::new(),
            reconnects: 0,
            resent: 0,
            resyncs: 0,
            ack_us: histogram(),
            delivery_us: histogram(),
            late_us: histogram(),
        }
    }
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 3).expect("3 digits over an hour fit")
}

impl Tally {
    /// A command was refused.
    pub fn refuse(&mut self, code: ErrorCode) {
        *self.refused.entry(code.as_str()).or_default() += 1;
    }

    /// A connection ended.
    pub fn end(&mut self, ended: &Ended) {
        *self.ended.entry(ended.to_string()).or_default() += 1;
    }

    /// How many refusals had this code.
    #[must_use]
    pub fn refused_with(&self, code: ErrorCode) -> u64 {
        self.refused.get(code.as_str()).copied().unwrap_or(0)
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.sent += other.sent;
        self.answered += other.answered;
        self.deliveries += other.deliveries;
        self.early += other.early;
        self.reconnects += other.reconnects;
        self.resent += other.resent;
        self.resyncs += other.resyncs;
        for (code, count) in &other.refused {
            *self.refused.entry(code).or_default() += count;
        }
        for (reason, count) in &other.ended {
            *self.ended.entry(reason.clone()).or_default() += count;
        }
        let same_bounds = "histograms of the same bounds";
        self.ack_us.add(&other.ack_us).expect(same_bounds);
        self.delivery_us.add(&other.delivery_us).expect(same_bounds);
        self.late_us.add(&other.late_us).expect(same_bounds);
    }
}

/// Notes how long something took, nanoseconds; beyond an hour counts as an hour.
pub fn record(histogram: &mut Histogram<u64>, ns: u64) {
    histogram.saturating_record(ns / 1000);
}
