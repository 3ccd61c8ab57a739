//! What one engine came to in one scenario.
//!
//! A figure that was not measured is left out, never zero.
//!
//! Invariants: the JSON keys are stable; latencies are microseconds, and of cold pages unless the
//! key says `warm`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::order::{Memory, PageKind, Pages};
use super::samples::Samples;

/// The rounds of one measurement.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Rounds {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Rounds {
    /// Of these values; none if there are none.
    pub(super) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let is_even = sorted.len().is_multiple_of(2);
        let median = if is_even {
            f64::midpoint(upper, sorted[middle - 1])
        } else {
            upper
        };
        Some(Self {
            min: sorted[0],
            median,
            max: sorted[sorted.len() - 1],
        })
    }
}

/// The figures of one engine and one batch size, or of a history.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct Figures {
    /// Messages stored, among them those appended until the process was killed.
    pub(super) messages: u64,
    /// Messages a second, the median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_per_s_rounds: Option<Rounds>,
    /// The share of the device's ceiling, round by round; the rounds' median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_ratio_to_raw: Option<f64>,
    /// How many times the best of the other engines, round by round; the rounds' median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_ratio_to_best: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_sync_p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_sync_p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) append_sync_p999_us: Option<f64>,
    /// Pages, by keys such as `page_newest_p50_us`.
    #[serde(flatten)]
    pub(super) pages: BTreeMap<String, f64>,
    /// From opening the store after SIGKILL to its first page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) recovery_ms: Option<f64>,
    /// From opening the store after a clean end to its first page, with nothing cached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_ms: Option<f64>,
    /// What had been put off (sealing, compaction, checkpoint), as work of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) settle_ms: Option<f64>,
    /// Messages that Throng seals in a second of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) sealing_records_per_s: Option<f64>,
    /// Bytes on disk after a clean end, a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bytes_per_message: Option<f64>,
    /// Bytes of the bodies alone, a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) body_bytes_per_message: Option<f64>,
    /// Resident memory that the store added, after the appends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_bytes: Option<u64>,
    /// Of it, what is no mapped file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_anonymous_bytes: Option<u64>,
    /// Resident memory that the store added, opened anew, after the pages.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_reading_bytes: Option<u64>,
    /// Pages that were not what was stored, and messages that were acknowledged and are gone.
    pub(super) wrong_pages: u64,
}

impl Figures {
    /// Takes over the latencies of appends.
    pub(super) fn set_commits(&mut self, commits: &Samples) {
        self.append_sync_p50_us = commits.quantile_us(0.5);
        self.append_sync_p99_us = commits.quantile_us(0.99);
        self.append_sync_p999_us = commits.quantile_us(0.999);
    }

    /// Takes over the latencies of pages.
    pub(super) fn set_pages(&mut self, kind: PageKind, is_warm: bool, reads: &Samples) {
        let warm = if is_warm { "_warm" } else { "" };
        for (quantile, name) in [(0.5, "p50"), (0.99, "p99")] {
            if let Some(us) = reads.quantile_us(quantile) {
                let key = format!("page_{}{warm}_{name}_us", kind.name());
                self.pages.insert(key, us);
            }
        }
    }

    /// Takes over what cold pages cost the device.
    pub(super) fn set_device(&mut self, kind: PageKind, read: &Pages, pages: u64) {
        let costs = [
            ("bytes", Some(read.device_bytes)),
            ("reads", read.device_reads),
        ];
        for (name, cost) in costs {
            if let Some(cost) = cost.filter(|_| pages > 0) {
                let key = format!("page_{}_device_{name}", kind.name());
                let mean = cost as f64 / pages as f64;
                self.pages.insert(key, (mean * 100.0).round() / 100.0);
            }
        }
    }

    /// Takes over the memory after the appends.
    pub(super) const fn set_memory(&mut self, memory: Memory) {
        self.memory_bytes = Some(memory.resident_bytes);
        self.memory_anonymous_bytes = Some(memory.anonymous_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_lies_between() {
        let check = |values: &[f64], expected| {
            assert_eq!(Rounds::of(values).map(|rounds| rounds.median), expected);
        };
        check(&[], None);
        check(&[3.0], Some(3.0));
        check(&[3.0, 1.0], Some(2.0));
        check(&[9.0, 1.0, 2.0], Some(2.0));
    }

    #[test]
    fn what_was_not_measured_is_not_there() {
        let json = serde_json::to_value(Figures::default()).unwrap();
        assert_eq!(json, serde_json::json!({"messages": 0, "wrong_pages": 0}));
    }
}
