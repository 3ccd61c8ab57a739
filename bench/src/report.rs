//! What a run found, for people and for programs.
//!
//! It never rounds a broken promise away and never calls a run good whose generator was late:
//! what limits the meaning of a number is printed beside it.
//!
//! Invariants: the JSON keys are stable; times are microseconds unless the key says otherwise.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::oracle::Verdict;

/// Version of the JSON; goes up when a key changes its meaning or goes away.
pub const REPORT_VERSION: u32 = 1;

/// Beyond this lateness (99th percentile) the generator did not offer what was asked, microseconds.
pub const GENERATOR_LATE_US_MAX: u64 = 50_000;

/// Beyond this share of a core a generator thread is the bottleneck, percent.
pub const GENERATOR_CPU_PERCENT_MAX: f64 = 90.0;

/// Steps of a latency's curve each time the share of slower ones halves.
const CURVE_STEPS: u32 = 5;

/// Percentiles of a latency, microseconds.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Latency {
    /// How many were measured.
    pub count: u64,
    /// Median.
    pub p50: u64,
    /// 99 % were at most this.
    pub p99: u64,
    /// 99.9 % were at most this.
    pub p999: u64,
    /// The longest.
    pub max: u64,
    /// All of it: quantile from 0 to 1, the value that so many do not exceed, and how many those
    /// are. Closer together towards the end, as in an .hgrm file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub curve: Vec<(f64, u64, u64)>,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        let mut below = 0;
        let steps = histogram.iter_quantiles(CURVE_STEPS);
        let curve = steps.map(|step| {
            below += step.count_since_last_iteration();
            (step.quantile_iterated_to(), step.value_iterated_to(), below)
        });
        Self {
            curve: curve.collect(),
            ..Self::brief(histogram)
        }
    }
}

impl Latency {
    /// Without the curve, where there are many.
    #[must_use]
    pub fn brief(histogram: &Histogram<u64>) -> Self {
        Self {
            count: histogram.len(),
            p50: histogram.value_at_quantile(0.5),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
            curve: Vec::new(),
        }
    }
}

/// Everything about one run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// What was asked for.
    pub options: Options,
    /// Messages handed to the kernel.
    pub sent: u64,
    /// Messages acknowledged.
    pub acked: u64,
    /// Different (message, subscriber) pairs that arrived.
    pub delivered: u64,
    /// Pairs that were due.
    pub expected: u64,
    /// Due, and not delivered.
    pub lost: u64,
    /// Delivered or stored more than once.
    pub duplicated: u64,
    /// Not in the order of the channel, of ids, or of their sender.
    pub out_of_order: u64,
    /// Subscribers or acknowledgements that name different messages for one place.
    pub disagreements: u64,
    /// Sequence numbers that nobody saw.
    pub gaps: u64,
    /// Deliveries with other text than was sent.
    pub wrong_content: u64,
    /// Events that nobody asked for.
    pub unasked: u64,
    /// Messages gone from a channel's end when a client came back.
    pub forgotten: u64,
    /// Messages in which REST history differs from what clients saw.
    pub history_mismatches: u64,
    /// Messages compared with REST history.
    pub history_checked: u64,
    /// Sent, and neither acknowledged nor refused.
    pub unanswered: u64,
    /// Clients that were not connected at the end: nothing is certain about them.
    pub not_live: u64,
    /// Refused with `RATE_LIMITED`: the server's limit, not a loss.
    pub rate_limited: u64,
    /// Commands refused, by error code.
    pub errors_by_code: BTreeMap<String, u64>,
    /// Connections that ended during the run, by reason.
    pub disconnects_by_reason: BTreeMap<String, u64>,
    /// Connections made again during the run.
    pub reconnects: u64,
    /// Messages sent again after a disconnect, under their nonce.
    pub resent: u64,
    /// Subscriptions that had missed too much for a replay.
    pub resyncs: u64,
    /// From the intended send time to the acknowledgement; without the warm-up, as all latencies.
    pub ack_latency_us: Latency,
    /// From the intended send time to each subscriber.
    pub delivery_latency_us: Latency,
    /// From the intended to the actual send time, where the client was live.
    pub generator_late_us: Latency,
    /// CPU of each generator thread while load was offered, percent of a core.
    pub generator_cpu_percent: Vec<f64>,
    /// Seconds for users, guilds, channels, joins.
    pub setup_s: f64,
    /// Seconds until every client was connected, identified and subscribed.
    pub connect_s: f64,
    /// Seconds from the first intended send time to the last answer or delivery.
    pub run_s: f64,
    /// Messages acknowledged per second of `run_s` behind the warm-up.
    pub acked_per_s: f64,
    /// Deliveries per second of `run_s` behind the warm-up; what is caught up on counts, too.
    pub delivered_per_s: f64,
    /// How long a part of the course is, seconds.
    pub part_s: f64,
    /// Deliveries of the messages that were due in each part behind the warm-up.
    pub delivery_latency_by_part_us: Vec<Latency>,
}

/// What was asked for.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Options {
    /// The server.
    pub target: String,
    /// Clients.
    pub clients: u32,
    /// Channels.
    pub channels: u32,
    /// Channels that each client watches.
    pub subscriptions: u32,
    /// Messages per second offered.
    pub rate: u32,
    /// Seconds of load before anything is measured.
    pub warm_up_s: f64,
    /// Seconds of load after that.
    pub duration_s: f64,
    /// Zipf exponent.
    pub zipf: f64,
    /// Seed of the plan.
    pub seed: u64,
    /// The corpus file; none for made-up text.
    pub corpus: Option<String>,
    /// Generator threads.
    pub threads: usize,
}

impl Report {
    /// Takes over what the checker found.
    pub const fn set_verdict(&mut self, verdict: &Verdict) {
        self.acked = verdict.acked;
        self.delivered = verdict.delivered;
        self.expected = verdict.expected;
        self.lost = verdict.lost;
        self.duplicated = verdict.duplicated;
        self.out_of_order = verdict.out_of_order;
        self.disagreements = verdict.disagreements;
        self.gaps = verdict.gaps;
        self.wrong_content = verdict.wrong_content;
        self.unasked = verdict.unasked;
        self.forgotten = verdict.forgotten;
    }

    /// The promises that were broken, with how often. While clients are cut off it is open
    /// whether what they miss would still come, so that is no broken promise.
    #[must_use]
    pub fn broken(&self) -> Vec<(&'static str, u64)> {
        let is_final = self.not_live == 0;
        [
            ("lost", if is_final { self.lost } else { 0 }),
            ("duplicated", self.duplicated),
            ("out of order", self.out_of_order),
            ("disagreements", self.disagreements),
            ("gaps", self.gaps),
            ("wrong content", self.wrong_content),
            ("unasked events", self.unasked),
            ("forgotten", self.forgotten),
            ("history mismatches", self.history_mismatches),
            ("unanswered", if is_final { self.unanswered } else { 0 }),
        ]
        .into_iter()
        .filter(|&(_, count)| count > 0)
        .collect()
    }

    /// What to keep in mind when reading the numbers.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.generator_late_us.p99 > GENERATOR_LATE_US_MAX {
            warnings.push(format!(
                "the generator was late (p99 {} us): it did not offer the rate asked for",
                self.generator_late_us.p99
            ));
        }
        if self
            .generator_cpu_percent
            .iter()
            .any(|&share| share > GENERATOR_CPU_PERCENT_MAX)
        {
            warnings.push(
                "a generator thread used up its core: raise --threads or lower the load".to_owned(),
            );
        }
        if self.not_live > 0 {
            warnings.push(format!(
                "{} clients were not connected at the end",
                self.not_live
            ));
        }
        if self.rate_limited > 0 {
            warnings.push(format!(
                "{} messages met the server's rate limit: [limits.message] count = 0 in its TOML \
                 lifts it",
                self.rate_limited
            ));
        }
        warnings
    }
}

mod text;

#[cfg(test)]
mod tests;
