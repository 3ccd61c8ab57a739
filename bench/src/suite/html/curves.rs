//! Latencies with all their percentiles, as a plot and as a table.
//!
//! It never draws or prints a percentile that so few values cannot tell: a curve ends at its
//! greatest value, which is one of so many.
//!
//! Invariants: from left to right each tick is ten times rarer than the one before; heights count
//! from zero unless the axis says that it is logarithmic.

use std::fmt::{self, Write as _};

use super::axis::Axis;
use super::chart::{Chart, Line, NARROW, WIDE, write_legend};
use super::group::{Group, Member};
use super::markup::{Text, write_table};
use super::number::{NONE, Scale, grouped, shown};
use crate::suite::model::Curve;

/// Ticks of the plot and columns of the table.
const QUANTILES: [(f64, &str); 10] = [
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
/// Where the greatest is so many times the middle one, a linear axis would show nothing else.
const LINEAR_TIMES_MAX: f64 = 50.0;
/// No benchmark counts more than ten to this power.
const NINES_MAX: f64 = 9.0;

/// A point stands for a percentile beyond which there are at most so many times more values.
const POINTS_APART_MAX: f64 = 4.0;
/// So few values beyond a percentile have no point of their own: the greatest stands for them.
const FEW: f64 = 4.0;

/// A curve that can be drawn, and whose it is.
struct Shown<'a> {
    curve: &'a Curve,
    label: String,
    look: usize,
    /// How many were measured.
    count: u64,
}

/// Writes the latencies of the parts of one name: what is called the same goes into one plot, and
/// so does everything of a server that stands alone.
pub(super) fn write_curves(out: &mut String, group: &Group<'_>) -> fmt::Result {
    let mut plots: Vec<(String, &str, Vec<Shown<'_>>)> = Vec::new();
    for member in &group.members {
        for (place, curve) in member.part.latencies.iter().enumerate() {
            let Some(shown) = Shown::of(curve, member, (!group.is_comparison()).then_some(place))
            else {
                continue;
            };
            let title = if group.is_comparison() {
                &curve.title
            } else {
                "Latency"
            };
            let has = |plot: &&mut (String, &str, _)| plot.0 == title && plot.1 == curve.unit;
            match plots.iter_mut().find(has) {
                Some((_, _, curves)) => curves.push(shown),
                None => plots.push((title.to_owned(), &curve.unit, vec![shown])),
            }
        }
    }
    for (title, unit, curves) in plots {
        write_plot(out, [group.name, &title], unit, &curves)?;
    }
    Ok(())
}

impl<'a> Shown<'a> {
    /// None where there is nothing to draw. With a place the curve is told by its title.
    fn of(curve: &'a Curve, member: &Member<'_>, place: Option<usize>) -> Option<Self> {
        let count = curve.points.iter().map(|point| point.2).max()?;
        Some(Self {
            curve,
            label: place.map_or(&member.label, |_| &curve.title).clone(),
            look: place.unwrap_or(member.look),
            count,
        })
    }

    fn line(&self, scale: &Scale) -> Line {
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

    fn greatest(&self) -> f64 {
        self.quantiles().fold(0.0, |most, point| most.max(point.1))
    }

    /// What so many do not exceed, if there are enough to tell and the curve has a point nearby:
    /// the next one that is far beyond would pass the greatest value off as a percentile.
    fn at(&self, quantile: f64) -> Option<f64> {
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
fn nines(quantile: f64) -> f64 {
    (-(1.0 - quantile).log10()).clamp(0.0, NINES_MAX)
}

fn write_plot(
    out: &mut String,
    [name, title]: [&str; 2],
    unit: &str,
    curves: &[Shown<'_>],
) -> fmt::Result {
    let greatest = curves.iter().map(Shown::greatest).fold(0.0, f64::max);
    let middles = curves.iter().filter_map(|curve| curve.at(0.5));
    let middle = middles.fold(f64::INFINITY, f64::min).max(1.0);
    let is_log = middle.is_finite() && greatest > middle * LINEAR_TIMES_MAX;
    let typical = if is_log {
        (greatest * middle).sqrt()
    } else {
        greatest
    };
    let scale = Scale::fitting(unit, [typical]);
    let lines: Vec<Line> = curves.iter().map(|curve| curve.line(&scale)).collect();
    let heights = lines
        .iter()
        .flat_map(|line| line.points.iter().map(|point| point.1));
    let last = lines.iter().flat_map(|line| line.points.last());
    let last = last.map(|point| point.0).fold(1.0, f64::max);
    let ticks = QUANTILES
        .iter()
        .map(|(quantile, label)| (nines(*quantile), (*label).to_owned()));
    let chart = Chart {
        title: &format!("{name}: {title}"),
        about: &about(curves, unit),
        axis_titles: [
            "share of all that took at most so long",
            &format!(
                "{}{}",
                scale.unit,
                if is_log { ", logarithmic" } else { "" }
            ),
        ],
        x: Axis::with_ticks(
            0.0,
            last,
            ticks.filter(|tick| tick.0 <= last + 1e-6).collect(),
        ),
        y: if is_log {
            Axis::logarithmic(heights.filter(|height| *height > 0.0))
        } else {
            Axis::from_zero(heights, 5)
        },
        lines: &lines,
    };
    writeln!(
        out,
        "<figure class=\"card\">\n<figcaption>{}</figcaption>",
        Text(title)
    )?;
    chart.write(out, WIDE)?;
    chart.write(out, NARROW)?;
    write_legend(out, &lines)?;
    write_percentiles(out, chart.title, unit, curves)?;
    out.write_str("</figure>\n")
}

/// The plot in words.
fn about(curves: &[Shown<'_>], unit: &str) -> String {
    let scale = Scale::plain(unit);
    let one = |curve: &Shown<'_>| {
        let [half, most] = [0.5, 0.99].map(|quantile| {
            let value = curve.at(quantile);
            value.map_or(NONE.to_owned(), |value| scale.show_with_unit(value))
        });
        let greatest = scale.show_with_unit(curve.greatest());
        format!(
            "{}: median {half}, 99% {most}, greatest {greatest}.",
            curve.label
        )
    };
    let all: Vec<String> = curves.iter().map(one).collect();
    format!("Latency by percentile. {}", all.join(" "))
}

fn write_percentiles(
    out: &mut String,
    title: &str,
    unit: &str,
    curves: &[Shown<'_>],
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
    use crate::suite::model::Part;

    fn check(points: &[(f64, u64, u64)], expected: &[&str], unexpected: &[&str]) {
        let part = Part {
            name: "echo".to_owned(),
            subject: "throng".to_owned(),
            latencies: vec![Curve {
                title: "round trip".to_owned(),
                unit: "us".to_owned(),
                points: points.to_vec(),
            }],
            ..Part::default()
        };
        let parts = [part];
        let mut html = String::new();
        for group in Group::all(&parts) {
            write_curves(&mut html, &group).unwrap();
        }
        for text in expected {
            assert!(html.contains(text), "{text} is not in {html}");
        }
        for text in unexpected.iter().chain(&["NaN", "inf"]) {
            assert!(!html.contains(text), "{text} is in {html}");
        }
    }

    #[test]
    fn percentiles_that_can_be_told() {
        let points = [
            (0.0, 10, 1),
            (0.5, 20, 500),
            (0.99, 90, 990),
            (1.0, 400, 1_000),
        ];
        check(
            &points,
            &[
                "99.9%</th>",
                "median 20 µs, 99% 90 µs, greatest 400 µs",
                ">µs</text>",
            ],
            &["99.99%", "90%</th>", "logarithmic"],
        );
        let points = [(0.5, 20, 500), (0.99, 90, 990), (1.0, 4_000_000, 1_000)];
        check(&points, &["µs, logarithmic</text>", "4,000,000"], &[]);
    }

    #[test]
    fn odd_curves() {
        check(&[], &[], &["<svg"]);
        check(&[(1.0, 5, 1)], &["<circle"], &[]);
        check(&[(0.0, 0, 0)], &["<svg"], &[]);
        check(
            &[(f64::NAN, 5, 9), (7.0, 5, 9), (-1.0, 5, 9)],
            &["<svg"],
            &[],
        );
        check(
            &[(0.5, u64::MAX, u64::MAX), (1.0, u64::MAX, u64::MAX)],
            &["<svg"],
            &[],
        );
    }

    #[test]
    fn the_greatest_stands_at_one_of_all() {
        assert!((nines(0.999) - 3.0).abs() < 1e-9);
        assert!(nines(0.0).abs() < 1e-9);
        assert!((nines(1.0) - NINES_MAX).abs() < 1e-9);
    }
}
