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
use crate::loopback::LoopbackLosses;
use crate::report::Latency;
use crate::swarm::crowd::Crowd;
use crate::swarm::speech::{Spoken, lost};

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
    /// Delivered to clients that do not watch the channel.
    pub unasked: u64,
    /// Delivered in another channel than they were sent to.
    pub misplaced: u64,
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
    /// What the kernel dropped, from the first session to the last word.
    #[serde(flatten)]
    pub losses: LoopbackLosses,
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
            && self.unasked == 0
            && self.misplaced == 0
            && self.events[2] == 0
            && self.after.is_clean()
    }

    pub(super) fn count(&mut self, crowd: &Crowd) {
        let (talk, tally) = (&crowd.people.talk, &crowd.people.tally);
        self.messages = talk.sent();
        self.acked = talk.acked_count();
        self.doubled = talk.doubled();
        self.misplaced = talk.misplaced();
        self.refused = talk.refusals().clone();
        self.lost = lost(crowd);
        if let Some(ledger) = &crowd.people.ledger {
            let counts = ledger.counts();
            self.deliveries = counts.deliveries;
            self.duplicated = counts.duplicated;
            self.out_of_order = counts.out_of_order;
            self.unasked = counts.unasked;
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
}

impl fmt::Display for SoakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::text::write(self, f)
    }
}
