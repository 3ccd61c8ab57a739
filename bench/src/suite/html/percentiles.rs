//! The percentiles of a latency, as far as its values can tell them.
//!
//! It never passes the greatest value off as a percentile, and prints none that so few values
//! cannot tell.
//!
//! Invariants: each step to the right is ten times rarer than the one before, in plots and tables.

use std::fmt::{self, Write as _};

use super::chart::Line;
use super::group::Member;
use super::markup::{Text, write_table};
use super::number::{NONE, Scale, grouped, shown};
use crate::suite::model::Curve;

/// Ticks of the plot and columns of the table.
pub(super) const QUANTILES: [(f64, &str); 10] = [
    (0.0, "0%"),
    (0.5, "50%"),
    (0.9, "90%"),
    (0.99, "99%"),
    (0.999, "99.9%"),
    (0.9999, "99.99%"),
    (0.99999, "99.999%"),
    (0.999_999, "99.9999%"),
    (0.999_999_9, "99.99999%"),
    (0.999_999_99, "99.999999%"),
];
/// No benchmark counts more than ten to this power.
const NINES_MAX: f64 = 9.0;

/// A point stands for a percentile beyond which there are at most so many times more values.
const POINTS_APART_MAX: f64 = 4.0;
/// So few values beyond a percentile have no point of their own: the greatest stands for them.
const FEW: f64 = 4.0;

/// A curve that can be drawn, and whose it is.
pub(super) struct Percentiles<'a> {
    curve: &'a Curve,
    /// What it is, for people.
    pub(super) label: String,
    look: usize,
    /// How many were measured.
    count: u64,
}

impl<'a> Percentiles<'a> {
    /// None where there is nothing to draw. With a place the curve is told by its title.
    pub(super) fn of(curve: &'a Curve, member: &Member<'_>, place: Option<usize>) -> Option<Self> {
        let count = curve.points.iter().map(|point| point.2).max()?;
        Some(Self {
            curve,
            label: place.map_or(&member.label, |_| &curve.title).clone(),
            look: place.unwrap_or(member.look),
            count,
        })
    }

    /// Its points, with their heights in this unit.
    pub(super) fn line(&self, scale: &Scale) -> Line {
        let last = (self.count.max(1) as f64).log10();
        let mut points: Vec<(f64, f64)> = self.quantiles().collect();
        points.sort_by(|one, next| one.0.total_cmp(&next.0));
        // What lies right of the greatest value would be a percentile of fewer than one value.
        for (x, y) in &mut points {
            *x = nines(*x).min(last);
            *y = scale.of(*y);
        }
        Line {
            label: self.label.clone(),
            look: self.look,
            points,
        }
    }

    fn quantiles(&self) -> impl Iterator<Item = (f64, f64)> {
        let points = self.curve.points.iter();
        let points = points.filter(|point| (0.0..=1.0).contains(&point.0));
        points.map(|point| (point.0, point.1 as f64))
    }

    /// The greatest value.
    pub(super) fn greatest(&self) -> f64 {
        self.quantiles().fold(0.0, |most, point| most.max(point.1))
    }

    /// What so many do not exceed, if there are enough to tell and the curve has a point nearby:
    /// the next one that is far beyond would pass the greatest value off as a percentile.
    pub(super) fn at(&self, quantile: f64) -> Option<f64> {
        let beyond = (1.0 - quantile) * self.count as f64;
        let nearest = self
            .quantiles()
            .filter(|point| point.0 >= quantile - 1e-12)
            .min_by(|one, next| one.0.total_cmp(&next.0));
        let is_near = |point: &(f64, f64)| {
            beyond < FEW || 1.0 - point.0 >= (1.0 - quantile) / POINTS_APART_MAX
        };
        nearest
            .filter(|point| beyond >= 1.0 - 1e-6 && is_near(point))
            .map(|point| point.1)
    }
}

/// How far right a quantile stands: by how many powers of ten what is beyond is rarer than all.
pub(super) fn nines(quantile: f64) -> f64 {
    (-(1.0 - quantile).log10()).clamp(0.0, NINES_MAX)
}

/// The curves as a table.
pub(super) fn write_percentiles(
    out: &mut String,
    title: &str,
    unit: &str,
    curves: &[Percentiles<'_>],
) -> fmt::Result {
    let told = |quantile: f64| curves.iter().any(|curve| curve.at(quantile).is_some());
    let columns: Vec<_> = QUANTILES[1..]
        .iter()
        .filter(|(quantile, _)| told(*quantile))
        .collect();
    write_table(out, &format!("{title}, percentiles"), |out| {
        let unit = Scale::plain(unit).unit;
        write!(out, "<tr><th scope=\"col\">{}</th>", Text(&unit))?;
        for (_, label) in &columns {
            write!(out, "<th scope=\"col\" class=\"n\">{label}</th>")?;
        }
        out.write_str(
            "<th scope=\"col\" class=\"n\">max</th><th scope=\"col\" class=\"n\">count</th></tr>\n",
        )?;
        for curve in curves {
            write!(out, "<tr><th scope=\"row\">{}</th>", Text(&curve.label))?;
            for (quantile, _) in &columns {
                let value = curve.at(*quantile).map_or(NONE.to_owned(), shown);
                write!(out, "<td class=\"n\">{value}</td>")?;
            }
            let count = grouped(curve.count as f64, 0);
            let greatest = shown(curve.greatest());
            writeln!(
                out,
                "<td class=\"n\">{greatest}</td><td class=\"n\">{count}</td></tr>"
            )?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(points: &[(f64, u64, u64)], expected: [Option<f64>; 4]) {
        let curve = Curve {
            points: points.to_vec(),
            ..Curve::default()
        };
        let part = crate::suite::model::Part::default();
        let member = Member {
            part: &part,
            label: String::new(),
            look: 0,
        };
        let percentiles = Percentiles::of(&curve, &member, None).expect("it has points");
        assert_eq!(
            [0.5, 0.9, 0.99, 0.999].map(|quantile| percentiles.at(quantile)),
            expected
        );
    }

    #[test]
    fn percentiles_that_can_be_told() {
        let dense = [
            (0.5, 20, 500),
            (0.9, 50, 900),
            (0.99, 90, 990),
            (1.0, 400, 1_000),
        ];
        check(&dense, [Some(20.0), Some(50.0), Some(90.0), Some(400.0)]);
        // A hundred values have no one in a thousand.
        let few = [
            (0.5, 20, 50),
            (0.9, 50, 90),
            (0.99, 90, 99),
            (1.0, 400, 100),
        ];
        check(&few, [Some(20.0), Some(50.0), Some(90.0), None]);
        // No point is near 99 %, and of so many the greatest is not it.
        let sparse = [
            (0.5, 20, 500_000),
            (0.92, 50, 920_000),
            (1.0, 400, 1_000_000),
        ];
        check(&sparse, [Some(20.0), Some(50.0), None, None]);
    }

    #[test]
    fn the_greatest_stands_at_one_of_all() {
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
        assert!(nines(0.0).abs() < 1e-9);
        assert!((nines(1.0) - NINES_MAX).abs() < 1e-9);
    }
}
