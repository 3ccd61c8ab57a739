//! Percentiles, as the lines of a plot: quantile, value, how many do not exceed it.
//!
//! It draws nothing.
//!
//! Invariants: quantiles, values and counts never fall from one point to the next.

use hdrhistogram::Histogram;
use serde_json::Value;

/// All percentiles of a histogram.
pub(super) fn points(histogram: &Histogram<u64>) -> Vec<(f64, u64, u64)> {
    const TICKS_PER_HALF_DISTANCE: u32 = 5;
    let mut count = 0;
    let steps = histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE);
    let point = |step: hdrhistogram::iterators::IterationValue<u64>| {
        count += step.count_since_last_iteration();
        (step.quantile_iterated_to(), step.value_iterated_to(), count)
    };
    steps.map(point).collect()
}

/// Those that a report without a histogram names.
pub(super) fn known_points(latency: &Value) -> Option<Vec<(f64, u64, u64)>> {
    const KNOWN: [(&str, u64, f64); 4] = [
        ("p50", 500, 0.5),
        ("p99", 990, 0.99),
        ("p999", 999, 0.999),
        ("max", 1_000, 1.0),
    ];
    let count = latency["count"].as_u64()?;
    let point = |(key, thousandths, quantile): (&str, u64, f64)| {
        let counted = u128::from(count) * u128::from(thousandths) / 1_000;
        let counted = u64::try_from(counted).unwrap_or(count);
        Some((quantile, latency[key].as_u64()?, counted))
    };
    KNOWN.into_iter().map(point).collect()
}
