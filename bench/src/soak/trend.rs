//! Whether a figure stays where it is: medians of the first and the last third, and the slope.
//!
//! It knows no server. What came before the warm-up is left out by whoever asks.
//!
//! Invariants: fewer than [`POINTS_MIN`] points have no trend.

use serde::Serialize;

/// Fewer points say nothing about thirds.
const POINTS_MIN: usize = 6;
/// What a flat figure may grow by from the first third to the last, beside a twentieth of itself,
/// bytes: allocators and caches breathe.
const GROWTH_BYTES_MAX: f64 = 8.0 * 1024.0 * 1024.0;
/// The part of the figure that it may grow by.
const GROWTH_MAX: f64 = 0.05;

/// How a figure went.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Trend {
    /// Median of the first third, bytes.
    pub first: f64,
    /// Median of the last third, bytes.
    pub last: f64,
    /// Of the line that fits best, bytes a minute.
    pub slope_per_min: f64,
}

impl Trend {
    /// The trend of points in the order of their time: seconds and bytes.
    #[must_use]
    pub fn of(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < POINTS_MIN {
            return None;
        }
        let third = points.len() / 3;
        Some(Self {
            first: median(&points[..third]),
            last: median(&points[points.len() - third..]),
            slope_per_min: 60.0 * slope(points),
        })
    }

    /// Whether it stayed, but for what caches may take.
    #[must_use]
    pub const fn is_flat(&self) -> bool {
        self.last <= self.first * (1.0 + GROWTH_MAX) + GROWTH_BYTES_MAX
    }
}

fn median(points: &[(f64, f64)]) -> f64 {
    let mut values: Vec<f64> = points.iter().map(|point| point.1).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    let count = points.iter().map(|_| 1.0).sum::<f64>();
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let (mut over, mut under) = (0.0, 0.0);
    for &(x, y) in points {
        over += (x - mean_x) * (y - mean_y);
        under += (x - mean_x) * (x - mean_x);
    }
    if under > 0.0 { over / under } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(bytes: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
        (0..60)
            .map(|n| f64::from(n) * 10.0)
            .map(|s| (s, bytes(s)))
            .collect()
    }

    #[test]
    fn a_leak_is_no_breath() {
        let flat = Trend::of(&points(|s| 1e8 + 1e6 * (s / 7.0).sin())).unwrap();
        assert!(flat.is_flat(), "{flat:?}");
        // 4 MiB a minute.
        let leak = Trend::of(&points(|s| 1e8 + 70_000.0 * s)).unwrap();
        assert!(!leak.is_flat(), "{leak:?}");
        assert!((leak.slope_per_min - 4.2e6).abs() < 1.0, "{leak:?}");
        assert!(
            (leak.first - 1e8 - 70_000.0 * 100.0).abs() < 1.0,
            "{leak:?}"
        );
        assert_eq!(Trend::of(&points(|_| 0.0)[..5]), None);
    }
}
