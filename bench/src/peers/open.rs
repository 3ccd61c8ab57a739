//! The search for the highest rate at which a server's deliveries still come in time.
//!
//! It searches as `throng-bench fanout --open` does, and judges by the same bound.
//!
//! Invariants: a rate counts only if every message reached all of them in order; between two rates
//! everybody is there again.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::audience::{Audience, Outcome};
use super::server::Server;
use crate::error::BenchError;
use crate::fanout::highest::{Highest, P99_US_MAX};
use crate::report::Latency;
use crate::swarm::talk::latencies;

/// How long a server gets to get over a rate that was too high.
const REST: Duration = Duration::from_secs(1);

/// What the search found.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct OpenRound {
    /// Subscribers of the topic.
    pub(super) subscribers: u32,
    /// The most deliveries a second of which 99 % came within 100 ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) coalesced_deliveries_per_s: Option<f64>,
    /// Messages a second of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) coalesced_messages_per_s: Option<u32>,
    /// Processor time of the server's processes a delivery at that rate, microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) open_cpu_us_per_delivery: Option<f64>,
    /// Due time to delivery at that rate.
    pub(super) delivery_latency_us: Latency,
    /// Everything about that rate.
    pub(super) open: Option<Outcome>,
    /// Each rate that was tried: messages a second, deliveries a second, p99 in microseconds.
    pub(super) probes: Vec<(u32, f64, u64)>,
    /// Delivered again, at any rate.
    pub(super) duplicated: u64,
    /// Delivered after a later one, at any rate.
    pub(super) out_of_order: u64,
    /// Delivered, but no message that was sent, at any rate.
    pub(super) wrong: u64,
    /// Connections that ended, at any rate: one that is too high may throw subscribers out.
    pub(super) dropped: u64,
}

impl OpenRound {
    /// Whether nothing came twice, late or changed. What is lost at a rate that is too high makes
    /// it too high, and breaks no promise.
    pub(super) const fn is_clean(&self) -> bool {
        self.duplicated == 0 && self.out_of_order == 0 && self.wrong == 0
    }
}

/// Searches, with so many subscribers.
///
/// # Errors
/// When they do not come, or do not come back, or a ring fails.
pub(super) fn measure(
    server: &Server,
    subscribers: u32,
    size: usize,
    probe: Duration,
) -> Result<(OpenRound, Histogram<u64>), BenchError> {
    let mut audience = Audience::open(server, subscribers, size)?;
    audience.come(subscribers)?;
    audience.closed_times(1)?;
    let mut search = Highest::new(subscribers);
    let mut round = OpenRound {
        subscribers,
        ..OpenRound::default()
    };
    let mut latency_us = latencies();
    while let Some(rate) = search.rate() {
        let outcome = audience.open_loop(rate, probe)?;
        let p99 = outcome.latency_us.p99;
        let is_good = outcome.is_clean() && p99 < P99_US_MAX;
        search.judge(is_good);
        round.probes.push((rate, outcome.deliveries_per_s, p99));
        round.duplicated += outcome.duplicated;
        round.out_of_order += outcome.out_of_order;
        round.wrong += outcome.wrong;
        round.dropped += outcome.dropped;
        if is_good {
            latency_us.clone_from(audience.latency_us());
            round.best(rate, outcome);
        } else {
            audience.stay(REST)?;
            audience.come_back()?;
        }
    }
    Ok((round, latency_us))
}

impl OpenRound {
    fn best(&mut self, rate: u32, outcome: Outcome) {
        self.coalesced_deliveries_per_s = Some(outcome.deliveries_per_s);
        self.coalesced_messages_per_s = Some(rate);
        self.open_cpu_us_per_delivery = Some(outcome.server_cpu_us_per_delivery);
        self.delivery_latency_us = outcome.latency_us.clone();
        self.open = Some(outcome);
    }
}
