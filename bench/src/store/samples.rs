//! Durations that a child process measured, on their way to its parent.
//!
//! They are never averaged before they arrive.
//!
//! Invariants: three significant digits are kept; what was recorded arrives with its count.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest duration told apart, in nanoseconds: five minutes.
const NS_MAX: u64 = 300_000_000_000;

/// Durations, in nanoseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(super) struct Samples(Histogram<u64>);

impl Default for Samples {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, NS_MAX, 3);
        Self(histogram.expect("the bounds are well formed"))
    }
}

impl From<Vec<(u64, u64)>> for Samples {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut samples = Self::default();
        for (ns, count) in pairs {
            samples.0.saturating_record_n(ns, count);
        }
        samples
    }
}

impl From<Samples> for Vec<(u64, u64)> {
    fn from(samples: Samples) -> Self {
        let recorded = samples.0.iter_recorded();
        recorded
            .map(|value| (value.value_iterated_to(), value.count_at_value()))
            .collect()
    }
}

impl Samples {
    /// Adds one duration.
    pub(super) fn record(&mut self, ns: u64) {
        self.0.saturating_record(ns);
    }

    /// Takes over the other's durations.
    pub(super) fn add(&mut self, other: &Self) {
        self.0
            .add(&other.0)
            .expect("both histograms have the same bounds");
    }

    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that this share of all do not exceed, in microseconds; none without samples.
    pub(super) fn quantile_us(&self, quantile: f64) -> Option<f64> {
        let ns = self.0.value_at_quantile(quantile);
        (self.count() > 0).then(|| (ns as f64 / 10.0).round() / 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_recorded_arrives() {
        let mut samples = Samples::default();
        for ns in [0, 900, 25_000, 25_000, 7_000_000, u64::MAX] {
            samples.record(ns);
        }
        let text = serde_json::to_string(&samples).unwrap();
        let read: Samples = serde_json::from_str(&text).unwrap();
        assert_eq!(read.count(), 6);
        for quantile in [0.1, 0.5, 0.99] {
            assert_eq!(read.quantile_us(quantile), samples.quantile_us(quantile));
        }
        assert_eq!(Samples::default().quantile_us(0.5), None);
    }
}
