//! Latencies by percentile: plots of what is called the same.
//!
//! It joins points and smoothes nothing; a curve ends at its greatest value, which is one of so
//! many.
//!
//! Invariants: from left to right each tick is ten times rarer than the one before; heights count
//! from zero unless the axis says that it is logarithmic.

use std::fmt::{self, Write as _};

use super::axis::Axis;
use super::chart::{Chart, Line, NARROW, WIDE, write_legend};
use super::group::Group;
use super::markup::Text;
use super::number::{NONE, Scale};
use super::percentiles::{Percentiles, QUANTILES, nines, write_percentiles};

/// Where the greatest is so many times the middle one, a linear axis would show nothing else.
const LINEAR_TIMES_MAX: f64 = 50.0;

/// Writes the latencies of the parts of one name: what is called the same goes into one plot, and
/// so does everything of a server that stands alone.
pub(super) fn write_curves(out: &mut String, group: &Group<'_>) -> fmt::Result {
    let mut plots: Vec<(String, &str, Vec<Percentiles<'_>>)> = Vec::new();
    for member in &group.members {
        for (place, curve) in member.part.latencies.iter().enumerate() {
            let Some(shown) =
                Percentiles::of(curve, member, (!group.is_comparison()).then_some(place))
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

fn write_plot(
    out: &mut String,
    [name, title]: [&str; 2],
    unit: &str,
    curves: &[Percentiles<'_>],
) -> fmt::Result {
    let greatest = curves.iter().map(Percentiles::greatest).fold(0.0, f64::max);
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
fn about(curves: &[Percentiles<'_>], unit: &str) -> String {
    let scale = Scale::plain(unit);
    let one = |curve: &Percentiles<'_>| {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::model::{Curve, Part};

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
}
