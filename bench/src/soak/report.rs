//! What a soak found.
//!
//! Names of members are relied on by others and stay.
//!
//! Invariants: a verdict that cannot be given is absent, never good.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::malformed::Offences;
use super::samples::Sample;
use super::trend::Trend;
use crate::report::Latency;
use crate::swarm::crowd::Crowd;
use crate::swarm::speech::{Spoken, lost};

/// Descriptors that may be there after a run and were not before: an answer to `/health` under way.
const FDS_LEFT_MAX: u32 = 4;
/// Connections that may be: likewise.
const CONNECTIONS_LEFT_MAX: u64 = 4;
/// A shorter load says nothing about memory: nonces are kept for five minutes.
const JUDGED_FROM_S: f64 = 600.0;

/// The report of `throng-bench soak`.
#[derive(Clone, Default, Debug, Serialize)]
pub struct SoakReport {
    /// Sessions.
    pub connections: u32,
    /// Messages that were sent.
    pub messages: u64,
    /// Messages that were acknowledged.
    pub acked: u64,
    /// Messages that were refused, by code.
    pub refused: BTreeMap<&'static str, u64>,
    /// Messages that were sent again, with their nonce, after their speaker had come back.
    pub resent: u64,
    /// Messages that got no answer, however often they were sent.
    pub unanswered: u64,
    /// Times that one nonce stood for two messages.
    pub doubled: u64,
    /// Messages that nobody was there for: not sent.
    pub skipped: u64,
    /// Deliveries.
    pub deliveries: u64,
    /// Acknowledged messages that did not reach a subscriber.
    pub lost: u64,
    /// Delivered again.
    pub duplicated: u64,
    /// Delivered after a later one.
    pub out_of_order: u64,
    /// Times that a client was told to fetch anew: what it missed is not due to it.
    pub resyncs: u64,
    /// Clients that were sent away.
    pub disconnects: u64,
    /// Those of them who said goodbye with a close frame.
    pub goodbyes: u64,
    /// Clients that came back and went on where they were, slow ones included.
    pub resumes: u64,
    /// Clients that read slowly.
    pub slow: usize,
    /// Times that one of them stopped reading until much was written to it.
    pub slow_stalls: u64,
    /// Connections that ended with 4008.
    pub slow_closed: u64,
    /// Connections of slow readers that ended without their doing, with a word or without.
    pub slow_dropped: u64,
    /// Connections of others that ended without their doing.
    pub dropped: u64,
    /// Clients that did not come back in the end.
    pub missing: u64,
    /// Malformed peers that were tried.
    pub malformed: u64,
    /// Those who got no answer.
    pub malformed_unanswered: u64,
    /// Those who got an answer that is not theirs.
    pub malformed_answered_otherwise: u64,
    /// What malformed peers were told.
    pub offences: Offences,
    /// Median of the server's resident memory in the first third after the warm-up, bytes.
    pub rss_bytes_first: Option<f64>,
    /// In the last third.
    pub rss_bytes_last: Option<f64>,
    /// Bytes a minute of the line that fits best.
    pub rss_slope_bytes_per_min: Option<f64>,
    /// The same slope for each session.
    pub rss_slope_bytes_per_min_per_session: Option<f64>,
    /// The server's anonymous memory.
    pub anonymous_bytes: Option<Trend>,
    /// The kernel's memory, of the whole machine and both ends.
    pub kernel_bytes: Option<Trend>,
    /// Whether resident and anonymous memory stayed; absent where the load was too short to say.
    pub is_memory_flat: Option<bool>,
    /// The server's descriptors when all had come and nothing was said yet, without files of the
    /// store: what it opens for many, it has opened.
    pub fds_before: u32,
    /// When all had gone.
    pub fds_after: u32,
    /// The most meanwhile.
    pub fds_most: u32,
    /// Whether descriptors, connections or sessions were left behind; absent where not known.
    pub is_leaking: Option<bool>,
    /// Messages in the end, when all were back.
    pub after: Spoken,
    /// Due time to acknowledgement.
    pub ack_latency_us: Latency,
    /// Due time to delivery; what was caught up on after a reconnect is left out.
    pub delivery_latency_us: Latency,
    /// How late the generator was; part of the other two.
    pub generator_late_us: Latency,
    /// Seconds of load.
    pub load_s: f64,
    /// Seconds of load that count as warm-up.
    pub warm_up_s: f64,
    /// Events that came, those parsed whole, and those in which scanning had seen something else.
    pub events: [u64; 3],
    /// Heartbeats sent, and answered.
    pub heartbeats: [u64; 2],
    /// Attempts that ended, by reason.
    pub ended: BTreeMap<String, u64>,
    /// Errors of the server, by code.
    pub errors: BTreeMap<&'static str, u64>,
    /// When nobody had come.
    pub before: Sample,
    /// When all had come and nothing was said yet.
    pub come: Sample,
    /// When all had gone.
    pub gone: Sample,
    /// The server every few seconds under load.
    pub samples: Vec<Sample>,
}

impl SoakReport {
    /// Whether everything arrived once and in order, all who behaved were left in peace, malformed
    /// peers were answered, and nothing was left behind.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.has_lost_nothing()
            && self.dropped == 0
            && self.missing == 0
            && self.malformed_unanswered == 0
            && self.malformed_answered_otherwise == 0
            && self.is_leaking != Some(true)
            && self.is_memory_flat != Some(false)
    }

    fn has_lost_nothing(&self) -> bool {
        self.lost == 0
            && self.duplicated == 0
            && self.out_of_order == 0
            && self.unanswered == 0
            && self.doubled == 0
            && self.events[2] == 0
            && self.after.is_clean()
    }

    pub(super) fn count(&mut self, crowd: &Crowd) {
        let (talk, tally) = (&crowd.people.talk, &crowd.people.tally);
        self.messages = talk.sent();
        self.acked = talk.acked_count();
        self.doubled = talk.doubled();
        self.refused = talk.refusals().clone();
        self.lost = lost(crowd);
        if let Some(ledger) = &crowd.people.ledger {
            let counts = ledger.counts();
            self.deliveries = counts.deliveries;
            self.duplicated = counts.duplicated;
            self.out_of_order = counts.out_of_order;
        }
        self.resyncs = tally.resyncs;
        self.resumes = tally.resumes;
        self.slow_dropped = tally.dropped_slow;
        self.dropped = tally.dropped - tally.dropped_slow;
        self.slow_closed = tally.ended.get("closed with 4008").copied().unwrap_or(0);
        self.events = [tally.events, tally.parsed, tally.misread];
        self.heartbeats = [crowd.sent_heartbeats(), tally.heartbeat_acks];
        self.ended = tally.ended.clone();
        self.errors = tally.errors.clone();
    }

    pub(super) fn offences(&mut self, offences: Offences) {
        self.malformed = offences.tried;
        self.malformed_unanswered = offences.unanswered;
        self.malformed_answered_otherwise = offences.answered_otherwise;
        self.offences = offences;
    }

    /// Judges memory by the samples of the load, whose first `warm_up_s` seconds do not count.
    pub(super) fn memory(&mut self, from_s: f64, to_s: f64, is_known: bool) {
        let counted: Vec<&Sample> = self
            .samples
            .iter()
            .filter(|sample| sample.at_s >= from_s + self.warm_up_s && sample.at_s <= to_s)
            .collect();
        let trend = |of: fn(&Sample) -> i64| {
            let points: Vec<_> = counted
                .iter()
                .map(|one| (one.at_s, float(of(one))))
                .collect();
            Trend::of(&points)
        };
        self.kernel_bytes = trend(|sample| sample.kernel_bytes);
        if !is_known {
            return;
        }
        self.anonymous_bytes = trend(|sample| sample.anonymous_bytes);
        let Some(rss) = trend(|sample| sample.rss_bytes) else {
            return;
        };
        self.rss_bytes_first = Some(rss.first);
        self.rss_bytes_last = Some(rss.last);
        self.rss_slope_bytes_per_min = Some(rss.slope_per_min);
        self.rss_slope_bytes_per_min_per_session =
            Some(rss.slope_per_min / f64::from(self.connections));
        if self.load_s >= JUDGED_FROM_S {
            let is_flat = self.anonymous_bytes.is_some_and(|trend| trend.is_flat());
            self.is_memory_flat = Some(is_flat && rss.is_flat());
        }
    }

    /// Judges what was left behind.
    pub(super) fn left(&mut self, gone: Sample, is_known: bool) {
        self.gone = gone;
        self.fds_before = self.come.fds.without_files();
        self.fds_after = gone.fds.without_files();
        let most = self.samples.iter().map(|sample| sample.fds.without_files());
        self.fds_most = most.max().unwrap_or(0);
        let have_left = have_left(&self.before, &gone);
        let has_fds = is_known.then_some(self.fds_after > self.fds_before + FDS_LEFT_MAX);
        self.is_leaking = match (have_left, has_fds) {
            (None, None) => None,
            (left, fds) => Some(left == Some(false) || fds == Some(true)),
        };
    }
}

/// Whether the server counts no more sessions and connections than before anybody came.
pub(super) fn have_left(before: &Sample, now: &Sample) -> Option<bool> {
    let connections = before.server_connections? + CONNECTIONS_LEFT_MAX;
    let sessions = before.server_sessions?;
    Some(now.server_connections? <= connections && now.server_sessions? <= sessions)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "bytes of a machine's memory: 53 bits are plenty"
)]
const fn float(bytes: i64) -> f64 {
    bytes as f64
}

impl fmt::Display for SoakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::text::write(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: f64, mib: i64, fds: u32, sessions: u64) -> Sample {
        let mut sample = Sample {
            at_s,
            rss_bytes: mib << 20,
            anonymous_bytes: mib << 20,
            server_sessions: Some(sessions),
            server_connections: Some(sessions),
            ..Sample::default()
        };
        sample.fds.others = fds;
        sample
    }

    /// A load of 20 minutes in which memory grows by so many MiB a minute.
    fn soaked(growth: i64) -> SoakReport {
        let mib = |minute: i64| 100 + growth * minute;
        let samples = (0..20_u8).map(|n| sample(f64::from(n) * 60.0, mib(n.into()), 9, 4));
        let mut report = SoakReport {
            connections: 4,
            load_s: 1_200.0,
            warm_up_s: 240.0,
            before: sample(0.0, 90, 7, 0),
            come: sample(0.0, 95, 9, 4),
            samples: samples.collect(),
            ..SoakReport::default()
        };
        report.memory(0.0, 1_200.0, true);
        report
    }

    #[test]
    fn memory_that_grows_is_not_clean() {
        for (growth, is_flat) in [(0, true), (4, false)] {
            let mut report = soaked(growth);
            report.left(sample(1_300.0, 90, 9, 0), true);
            assert_eq!(report.is_memory_flat, Some(is_flat));
            assert_eq!(report.is_clean(), is_flat, "{report}");
        }
    }

    #[test]
    fn what_is_left_behind_is_not_clean() {
        for (fds, sessions, is_leaking) in [(9, 0, false), (30, 0, true), (9, 30, true)] {
            let mut report = soaked(0);
            report.left(sample(1_300.0, 90, fds, sessions), true);
            assert_eq!(report.is_leaking, Some(is_leaking), "{fds} {sessions}");
            assert_eq!(report.is_clean(), !is_leaking, "{report}");
        }
    }

    #[test]
    fn what_was_lost_or_dropped_is_not_clean() {
        for spoil in [
            (|report| report.lost = 1) as fn(&mut SoakReport),
            |report| report.duplicated = 1,
            |report| report.out_of_order = 1,
            |report| report.unanswered = 1,
            |report| report.doubled = 1,
            |report| report.dropped = 1,
            |report| report.missing = 1,
            |report| report.malformed_unanswered = 1,
            |report| report.malformed_answered_otherwise = 1,
        ] {
            let mut report = soaked(0);
            assert!(report.is_clean());
            spoil(&mut report);
            assert!(!report.is_clean(), "{report}");
        }
    }
}
