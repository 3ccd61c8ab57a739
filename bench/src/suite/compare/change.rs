//! Whether two medians lie further apart than noise.
//!
//! It knows figures and no reports, and calls nothing a change that the rounds of either side reach
//! on their own.
//!
//! Invariants: it is symmetric: the same two sides exchanged give the inverse ratio, the same noise
//! and the opposite outcome.

use super::{Outcome, Rounds};
use crate::suite::model::Better;

/// With fewer rounds their spread says nothing.
pub const ROUNDS_MIN: usize = 3;
/// How far rounds are taken to lie apart at least where they are too few, as a share of the median.
pub const FEW_ROUNDS_SPREAD: f64 = 0.1;

/// Ratio of the medians, noise as a share of the lesser median, and what became of the figure.
///
/// A change counts when both hold:
///
/// - The rounds of the two sides do not overlap: every round of one is greater than every round of
///   the other. Of three rounds against three that happens by chance once in ten, so it is not
///   enough by itself.
/// - The medians lie further apart than the noise: the root of the sum of squares of three shares:
///   (maximum - minimum) by median of the first side, the same of the second, and the noise that
///   both machines showed in a loop of pure arithmetic (`machine_noise`, the two combined in the
///   same way). A side with fewer than [`ROUNDS_MIN`] rounds counts with a spread of at least
///   [`FEW_ROUNDS_SPREAD`].
///
/// The range of three rounds is 1.7 standard deviations of one, and their median is uncertain by
/// 0.67 of it: the noise is then some 2.5 standard errors of the difference between two medians,
/// and more with more rounds. What differs between two runs but not between rounds of one run (a
/// kernel, a neighbour, an hour) is in none of this but the machines' noise: `warnings` names what
/// is known of it.
pub(super) fn outcome(
    a: Option<Rounds>,
    b: Option<Rounds>,
    better: Better,
    machine_noise: f64,
) -> (Option<f64>, Option<f64>, Outcome) {
    let (a, b) = match (a, b) {
        (Some(a), Some(b)) => (a, b),
        (Some(_), None) => return (None, None, Outcome::OnlyInA),
        (None, _) => return (None, None, Outcome::OnlyInB),
    };
    let machine_noise = if machine_noise.is_finite() {
        machine_noise
    } else {
        0.0
    };
    let noise = spread(a).hypot(spread(b)).hypot(machine_noise);
    let ratio = (a.median * b.median > 0.0).then(|| b.median / a.median);
    let overlap = a.min <= b.max && b.min <= a.max;
    if overlap || distance(a.median, b.median) <= noise {
        return (ratio, Some(noise), Outcome::Unchanged);
    }
    let outcome = match (b.median > a.median, better) {
        (true, Better::Higher) | (false, Better::Lower) => Outcome::Better,
        _ => Outcome::Worse,
    };
    (ratio, Some(noise), outcome)
}

/// How far the rounds lie apart, as a share of the median; where that is zero, all or nothing.
fn spread(rounds: Rounds) -> f64 {
    let width = rounds.max - rounds.min;
    let share = match rounds.median.abs() {
        _ if width <= 0.0 => 0.0,
        0.0 => 1.0,
        median => width / median,
    };
    if rounds.count < ROUNDS_MIN {
        share.max(FEW_ROUNDS_SPREAD)
    } else {
        share
    }
}

/// How far two medians lie apart, as a share of the lesser one: half and double are equally far.
fn distance(a: f64, b: f64) -> f64 {
    let lesser = a.abs().min(b.abs());
    match (b - a).abs() {
        0.0 => 0.0,
        _ if lesser == 0.0 => f64::INFINITY,
        apart => apart / lesser,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::suite::model::Figure;

    fn rounds(values: &[f64]) -> Option<Rounds> {
        let figure = Figure::of("k", "K", "", Better::Higher, values.to_vec());
        figure.as_ref().map(Rounds::of)
    }

    fn check(a: &[f64], b: &[f64], machine_noise: f64, expected: Outcome) {
        let of = |better| outcome(rounds(a), rounds(b), better, machine_noise).2;
        assert_eq!(of(Better::Higher), expected, "{a:?} {b:?}");
        let opposite = match expected {
            Outcome::Better => Outcome::Worse,
            Outcome::Worse => Outcome::Better,
            same => same,
        };
        assert_eq!(of(Better::Lower), opposite, "{a:?} {b:?}");
    }

    #[test]
    fn noise_and_changes() {
        use Outcome::{Better, OnlyInA, OnlyInB, Unchanged, Worse};
        check(
            &[100.0, 101.0, 102.0],
            &[100.0, 101.0, 102.0],
            0.0,
            Unchanged,
        );
        check(&[100.0, 101.0, 102.0], &[110.0, 111.0, 112.0], 0.0, Better);
        check(&[110.0, 111.0, 112.0], &[100.0, 101.0, 102.0], 0.0, Worse);
        // The rounds overlap, however far the medians lie apart.
        check(
            &[100.0, 100.0, 200.0],
            &[190.0, 300.0, 300.0],
            0.0,
            Unchanged,
        );
        // They do not, but lie no further apart than those of either side.
        check(
            &[90.0, 100.0, 109.0],
            &[110.0, 120.0, 130.0],
            0.0,
            Unchanged,
        );
        // A tenth counts on an even machine and not on an uneven one.
        check(&[100.0, 100.0, 100.0], &[110.0, 110.0, 110.0], 0.02, Better);
        check(
            &[100.0, 100.0, 100.0],
            &[110.0, 110.0, 110.0],
            0.12,
            Unchanged,
        );
        // One round says little, but not nothing.
        check(&[100.0], &[110.0], 0.0, Unchanged);
        check(&[100.0], &[150.0], 0.0, Better);
        check(&[100.0, 101.0, 102.0], &[111.0], 0.0, Unchanged);
        check(&[0.0, 0.0, 0.0], &[0.0, 0.0, 0.0], 0.0, Unchanged);
        check(&[0.0, 0.0, 0.0], &[3.0, 4.0, 5.0], 0.0, Better);
        check(&[0.0, 0.0, 2.0], &[2.0, 4.0, 5.0], 0.0, Unchanged);
        check(&[-3.0, -2.0, -2.0], &[2.0, 2.0, 3.0], 0.0, Better);
        check(&[1.0], &[], 0.0, OnlyInA);
        check(&[], &[1.0], 0.0, OnlyInB);
        check(&[1.0], &[1.0], f64::NAN, Unchanged);
    }

    proptest! {
        #[test]
        fn exchanged_sides_are_opposite(
            a in prop::collection::vec(-1e6..1e6, 1..6),
            b in prop::collection::vec(-1e6..1e6, 1..6),
            machine_noise in 0.0..0.3,
        ) {
            let (a, b) = (rounds(&a), rounds(&b));
            let (ratio, noise, there) = outcome(a, b, Better::Higher, machine_noise);
            let (inverse, same, back) = outcome(b, a, Better::Higher, machine_noise);
            prop_assert!((noise.unwrap() - same.unwrap()).abs() <= 1e-9 * noise.unwrap());
            prop_assert_eq!(there == Outcome::Better, back == Outcome::Worse);
            prop_assert_eq!(there == Outcome::Unchanged, back == Outcome::Unchanged);
            prop_assert_eq!(ratio.is_some(), inverse.is_some());
            if let (Some(ratio), Some(inverse)) = (ratio, inverse) {
                prop_assert!((ratio * inverse - 1.0).abs() < 1e-9);
            }
        }

        #[test]
        fn the_same_is_unchanged(values in prop::collection::vec(any::<f64>(), 1..6)) {
            let (_, _, outcome) = outcome(rounds(&values), rounds(&values), Better::Lower, 0.0);
            prop_assume!(values.iter().all(|value| value.is_finite()));
            prop_assert_eq!(outcome, Outcome::Unchanged);
        }
    }
}
