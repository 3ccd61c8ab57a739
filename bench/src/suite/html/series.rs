//! What changed over time, or with the number of connections.
//!
//! It joins points of one round only and smoothes nothing.
//!
//! Invariants: heights count from zero; series of one title, unit and x share a plot.

use std::fmt::{self, Write as _};

use super::axis::{Axis, is_drawable};
use super::chart::{Chart, HALF, Line, write_legend};
use super::group::{Group, Member};
use super::markup::Text;
use super::number::{Scale, shown};
use crate::suite::model::Series;

/// Series that share a plot, and whose they are.
type Plot<'a> = Vec<(&'a Member<'a>, &'a Series)>;

/// Writes a plot for all that the parts of the group call the same.
pub(super) fn write_series(out: &mut String, group: &Group<'_>) -> fmt::Result {
    let mut plots: Vec<Plot<'_>> = Vec::new();
    for member in &group.members {
        let drawn = member
            .part
            .series
            .iter()
            .filter(|series| drawable(series).next().is_some());
        for series in drawn {
            let is_same = |plot: &&mut Plot<'_>| {
                let (_, first) = plot[0];
                (&first.title, &first.x, &first.unit) == (&series.title, &series.x, &series.unit)
            };
            match plots.iter_mut().find(is_same) {
                Some(plot) => plot.push((member, series)),
                None => plots.push(vec![(member, series)]),
            }
        }
    }
    if plots.is_empty() {
        return Ok(());
    }
    out.write_str("<div class=\"grid\">\n")?;
    for plot in &plots {
        write_plot(out, group.name, plot)?;
    }
    out.write_str("</div>\n")
}

fn drawable(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    let points = series.points.iter().copied();
    points.filter(|(x, y)| is_drawable(*x) && is_drawable(*y))
}

fn write_plot(out: &mut String, name: &str, plot: &Plot<'_>) -> fmt::Result {
    let (_, first) = plot[0];
    let all = || plot.iter().flat_map(|(_, series)| drawable(series));
    let scale = Scale::fitting(&first.unit, all().map(|point| point.1));
    let line = |(member, series): &(&Member<'_>, &Series)| Line {
        label: member.label.clone(),
        look: member.look,
        points: drawable(series).map(|(x, y)| (x, scale.of(y))).collect(),
    };
    let lines: Vec<Line> = plot.iter().map(line).collect();
    let x_title = if first.x == "s" { "seconds" } else { &first.x };
    let chart = Chart {
        title: &format!("{name}: {}", first.title),
        about: &about(plot, &scale, x_title),
        axis_titles: [x_title, &scale.unit],
        x: Axis::spanning(all().map(|point| point.0), 4),
        y: Axis::from_zero(all().map(|point| scale.of(point.1)), 4),
        lines: &lines,
    };
    let title = Text(&first.title);
    writeln!(
        out,
        "<figure class=\"card\">\n<figcaption>{title}</figcaption>"
    )?;
    chart.write(out, HALF)?;
    write_legend(out, &lines)?;
    out.write_str("</figure>\n")
}

/// The plot in words.
fn about(plot: &Plot<'_>, scale: &Scale, x_title: &str) -> String {
    let one = |(member, series): &(&Member<'_>, &Series)| {
        let points: Vec<(f64, f64)> = drawable(series).collect();
        let heights = || points.iter().map(|point| point.1);
        let least = heights().fold(f64::INFINITY, f64::min);
        let most = heights().fold(f64::NEG_INFINITY, f64::max);
        let [from, to] = [points.first(), points.last()].map(|it| it.map_or(0.0, |it| it.0));
        format!(
            "{}: from {} to {} ({x_title} {} to {}), first {}, last {}.",
            member.label,
            scale.show_with_unit(least),
            scale.show_with_unit(most),
            shown(from),
            shown(to),
            scale.show(points.first().map_or(0.0, |point| point.1)),
            scale.show(points.last().map_or(0.0, |point| point.1)),
        )
    };
    let all: Vec<String> = plot.iter().map(one).collect();
    all.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::model::Part;

    fn check(points: &[(f64, f64)], expected: &[&str]) {
        let part = |subject: &str| Part {
            name: "idle".to_owned(),
            subject: subject.to_owned(),
            series: vec![Series {
                title: "Memory".to_owned(),
                x: "connections".to_owned(),
                unit: "B".to_owned(),
                points: points.to_vec(),
            }],
            ..Part::default()
        };
        let parts = [part("throng"), part("other")];
        let mut html = String::new();
        for group in Group::all(&parts) {
            write_series(&mut html, &group).unwrap();
        }
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        assert_eq!(html.is_empty(), expected.is_empty());
        for text in expected {
            assert!(html.contains(text), "{text} is not in {html}");
        }
    }

    #[test]
    fn one_plot_for_what_is_called_the_same() {
        check(
            &[(0.0, 0.0), (5_000.0, 25e6), (10_000.0, 50e6)],
            &[
                ">MiB</text>",
                ">connections</text>",
                "10,000",
                "from 0 MiB to 47.7 MiB",
            ],
        );
    }

    #[test]
    fn odd_series() {
        check(&[], &[]);
        check(&[(f64::NAN, 1.0), (1.0, f64::NAN)], &[]);
        check(&[(3.0, 7.0)], &["<circle"]);
        check(&[(1.0, 1e29), (1.0, -1e29)], &["<polyline"]);
    }
}
