//! Axes: from where to where, and what is written along them.
//!
//! It knows no pixel.
//!
//! Invariants: `from` is less than `to` and both are finite, whatever the values were; what is
//! placed on an axis lies between 0 and 1.

use super::number::{grouped, shown};

/// Nothing is measured beyond this; what says so is left out of a plot.
const DRAWABLE_MAX: f64 = 1e30;
/// Below this share of its values a range is rounding.
const RANGE_SHARE_MIN: f64 = 1e-9;
/// The least that a logarithmic axis shows.
const LOG_MIN: f64 = 1e-3;
/// From here on ticks are written as powers of ten.
const PLAIN_MAX: f64 = 1e10;
const TICKS_MAX: usize = 24;
/// Up to so many powers of ten a logarithmic axis has ticks between them.
const LOG_DECADES_MAX: f64 = 3.0;

/// An axis.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Axis {
    from: f64,
    to: f64,
    is_log: bool,
    /// Where there is a line, and what stands at it.
    pub(crate) ticks: Vec<(f64, String)>,
}

/// Whether a value can be drawn.
pub(crate) fn is_drawable(value: f64) -> bool {
    value.abs() <= DRAWABLE_MAX
}

impl Axis {
    /// An axis that shows zero, since lengths and heights are compared from there; it ends at a
    /// tick.
    pub(crate) fn from_zero(values: impl IntoIterator<Item = f64>, ticks: u32) -> Self {
        let (low, high) = range(values).unwrap_or((0.0, 1.0));
        let (low, mut high) = (low.min(0.0), high.max(0.0));
        if high - low < 1.0 / DRAWABLE_MAX {
            high = 1.0;
        }
        let step = step(high - low, ticks);
        let (from, to) = ((low / step).floor() * step, (high / step).ceil() * step);
        Self::linear(from, to, step)
    }

    /// An axis from the least to the greatest value.
    pub(crate) fn spanning(values: impl IntoIterator<Item = f64>, ticks: u32) -> Self {
        let (mut low, mut high) = range(values).unwrap_or((0.0, 1.0));
        let size = low.abs().max(high.abs());
        if high - low <= size * RANGE_SHARE_MIN || high - low < 1.0 / DRAWABLE_MAX {
            let half = if size > 1.0 / DRAWABLE_MAX {
                size / 10.0
            } else {
                1.0
            };
            (low, high) = (low - half, high + half);
        }
        Self::linear(low, high, step(high - low, ticks))
    }

    /// A logarithmic axis with a tick at every power of ten, and at twice and five times it where
    /// those are few.
    pub(crate) fn logarithmic(values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values).unwrap_or((1.0, 10.0));
        let (low, high) = (low.max(LOG_MIN), high.max(LOG_MIN));
        let is_long = (high / low).log10() > LOG_DECADES_MAX;
        let factors: &[f64] = if is_long { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let (from, to) = (round_below(low, factors), round_above(high, factors));
        let to = if to > from * 1.01 { to } else { from * 10.0 };
        let mut ticks = Vec::new();
        let mut power = power_below(from);
        while power <= to * 1.01 && ticks.len() < 2 * TICKS_MAX {
            let here = factors.iter().map(|factor| power * factor);
            let here = here.filter(|tick| (from * 0.99..=to * 1.01).contains(tick));
            ticks.extend(here.map(|tick| (tick, power_label(tick))));
            power *= 10.0;
        }
        Self {
            from,
            to,
            is_log: true,
            ticks,
        }
    }

    /// An axis with these ticks.
    pub(crate) fn with_ticks(from: f64, to: f64, ticks: Vec<(f64, String)>) -> Self {
        assert!(from < to, "an axis has a length");
        Self {
            from,
            to,
            is_log: false,
            ticks,
        }
    }

    /// Where a value lies, from 0 to 1.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let place = if self.is_log {
            let value = value.max(self.from);
            (value / self.from).log10() / (self.to / self.from).log10()
        } else {
            (value - self.from) / (self.to - self.from)
        };
        place.clamp(0.0, 1.0)
    }

    fn linear(from: f64, to: f64, step: f64) -> Self {
        let decimals = decimals(step);
        let is_plain = from.abs().max(to.abs()) < PLAIN_MAX && step > 1e-6;
        let mut ticks = Vec::new();
        let first = (from / step).ceil();
        for count in 0..TICKS_MAX {
            let tick = (first + count as f64) * step;
            if tick > to + step * 1e-6 {
                break;
            }
            let text = match is_plain || tick == 0.0 {
                true => grouped(tick, decimals),
                false => format!("{tick:.1e}"),
            };
            ticks.push((tick, text));
        }
        Self::with_ticks(from, to, ticks)
    }
}

/// The least and the greatest of what can be drawn.
fn range(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    let drawable = values.into_iter().filter(|value| is_drawable(*value));
    let pairs = drawable.map(|value| (value, value));
    pairs.reduce(|(low, high), (value, _)| (low.min(value), high.max(value)))
}

/// A step of 1, 2, 2.5 or 5 times a power of ten that makes about so many ticks.
fn step(span: f64, ticks: u32) -> f64 {
    let least = span / f64::from(ticks.max(1));
    let power = 10_f64.powf(least.log10().floor());
    let factors = [1.0, 2.0, 2.5, 5.0];
    let enough = factors
        .into_iter()
        .find(|factor| factor * power >= least * 0.999);
    enough.unwrap_or(10.0) * power
}

/// Digits behind the point that tell one tick from the next.
fn decimals(step: f64) -> usize {
    let is_whole = |digits: &usize| {
        let shifted = (0..*digits).fold(step, |value, _| value * 10.0);
        (shifted - shifted.round()).abs() < 1e-6 * shifted
    };
    (0..8).find(is_whole).unwrap_or(8)
}

/// The greatest power of ten that is not above a positive value.
fn power_below(value: f64) -> f64 {
    10_f64.powf((value.log10() + RANGE_SHARE_MIN).floor())
}

/// The greatest of the factors times a power of ten that is not above a positive value.
fn round_below(value: f64, factors: &[f64]) -> f64 {
    let power = power_below(value);
    let ticks = factors.iter().map(|factor| factor * power);
    let below = ticks.filter(|tick| *tick <= value);
    below.fold(power, f64::max).min(value)
}

/// The least of the factors times a power of ten that is not below a positive value.
fn round_above(value: f64, factors: &[f64]) -> f64 {
    let power = power_below(value);
    let mut ticks = factors.iter().map(|factor| factor * power);
    let above = ticks.find(|tick| *tick >= value * (1.0 - RANGE_SHARE_MIN));
    above.unwrap_or(power * 10.0).max(value)
}

/// A tick of a logarithmic axis, without the last bits in which powers of ten are not whole.
fn power_label(tick: f64) -> String {
    if tick >= 1.0 {
        shown(tick.round())
    } else {
        grouped(tick, decimals(tick))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(axis: &Axis, expected: &[&str]) {
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, expected);
    }

    #[test]
    fn ticks_are_round_numbers() {
        check(
            &Axis::from_zero([3.0, 97.0], 4),
            &["0", "25", "50", "75", "100"],
        );
        check(
            &Axis::from_zero([1_900_000.0], 4),
            &["0", "500,000", "1,000,000", "1,500,000", "2,000,000"],
        );
        check(
            &Axis::from_zero([0.9], 4),
            &["0.00", "0.25", "0.50", "0.75", "1.00"],
        );
        check(
            &Axis::from_zero([-3.0, 5.0], 4),
            &["-4", "-2", "0", "2", "4", "6"],
        );
        check(&Axis::from_zero([], 2), &["0.0", "0.5", "1.0"]);
        check(&Axis::from_zero([0.0, f64::NAN], 2), &["0.0", "0.5", "1.0"]);
        check(&Axis::spanning([7.0, 53.0], 4), &["20", "40"]);
        check(
            &Axis::logarithmic([30.0, 70_000.0]),
            &["10", "100", "1,000", "10,000", "100,000"],
        );
        check(
            &Axis::logarithmic([30.0, 700.0]),
            &["20", "50", "100", "200", "500", "1,000"],
        );
    }

    proptest! {
        #[test]
        fn every_axis_holds_its_values(values in prop::collection::vec(any::<f64>(), 0..6)) {
            let axes = [
                Axis::from_zero(values.clone(), 5),
                Axis::spanning(values.clone(), 5),
                Axis::logarithmic(values.clone()),
            ];
            for axis in axes {
                prop_assert!(axis.from.is_finite() && axis.to.is_finite() && axis.from < axis.to);
                prop_assert!(axis.ticks.len() <= 3 * TICKS_MAX);
                for value in values.iter().filter(|value| is_drawable(**value)) {
                    prop_assert!((0.0..=1.0).contains(&axis.place(*value)));
                }
            }
        }
    }
}
