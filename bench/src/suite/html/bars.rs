//! Servers beside each other: for each figure a bar of the median, and how far its rounds lie
//! apart.
//!
//! It draws no bar for a server that was not measured, and says no order that the figures do not.
//!
//! Invariants: bars begin at zero; a whisker spans the least and the greatest round.

use std::fmt::{self, Write as _};

use super::axis::{Axis, is_drawable};
use super::group::{Group, Member};
use super::markup::Text;
use super::number::{NONE, Scale, shown};
use super::svg::{look, open_svg, width, write_labels};
use crate::suite::model::{Better, Figure};

const WIDTH: f64 = 380.0;
const LEFT: f64 = 2.0;
const RIGHT: f64 = WIDTH - 12.0;
const ROW_HEIGHT: f64 = 44.0;
/// Where a bar begins below the words of its row.
const BAR_TOP: f64 = 22.0;
const BAR_HEIGHT: f64 = 14.0;
const AXIS_HEIGHT: f64 = 20.0;

/// A figure of one server.
type Row<'a> = (&'a Member<'a>, &'a Figure);

/// Writes a drawing for each figure that at least two parts of the group have.
pub(super) fn write_bars(out: &mut String, group: &Group<'_>) -> fmt::Result {
    let mut figures: Vec<Vec<Row<'_>>> = Vec::new();
    for member in &group.members {
        for figure in &member.part.figures {
            let is_same = |rows: &&mut Vec<Row<'_>>| {
                let (_, first) = rows[0];
                first.key == figure.key && first.unit == figure.unit
            };
            match figures.iter_mut().find(is_same) {
                Some(rows) => rows.push((member, figure)),
                None => figures.push(vec![(member, figure)]),
            }
        }
    }
    figures.retain(|rows| rows.len() > 1);
    if figures.is_empty() {
        return Ok(());
    }
    out.write_str("<div class=\"grid\">\n")?;
    for rows in &figures {
        write_figure(out, group.name, rows)?;
    }
    out.write_str("</div>\n")
}

/// In which direction a figure gets better, in words.
pub(crate) fn direction(better: Better) -> &'static str {
    match better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    }
}

fn write_figure(out: &mut String, name: &str, rows: &[Row<'_>]) -> fmt::Result {
    let (_, first) = rows[0];
    let ends = rows.iter().flat_map(|(_, it)| [it.min, it.median, it.max]);
    let ends: Vec<f64> = ends.filter(|value| is_drawable(*value)).collect();
    let scale = Scale::fitting(&first.unit, ends.iter().copied());
    let axis = Axis::from_zero(ends.iter().map(|value| scale.of(*value)), 5);
    writeln!(
        out,
        "<figure class=\"card\">\n<figcaption>{} <small>{}</small></figcaption>",
        Text(&first.title),
        direction(first.better)
    )?;
    let height = rows.len() as f64 * ROW_HEIGHT + AXIS_HEIGHT;
    let title = format!("{name}: {}", first.title);
    open_svg(out, "half", [WIDTH, height], &title, &about(rows, &scale))?;
    write_axis(out, &axis, rows.len())?;
    for (place, row) in rows.iter().enumerate() {
        let top = place as f64 * ROW_HEIGHT;
        write_words(out, row, &scale, first.median, top)?;
        write_bar(out, row, &scale, &axis, top)?;
    }
    out.write_str("</svg>\n</figure>\n")
}

/// The drawing in words.
fn about(rows: &[Row<'_>], scale: &Scale) -> String {
    let one = |(member, figure): &Row<'_>| {
        let [min, max] = [figure.min, figure.max].map(|value| scale.show(value));
        let median = scale.show_with_unit(figure.median);
        format!(
            "{}: median {median}, rounds from {min} to {max}.",
            member.label
        )
    };
    let all: Vec<String> = rows.iter().map(one).collect();
    all.join(" ")
}

fn across(axis: &Axis, value: f64) -> f64 {
    LEFT + axis.place(value) * (RIGHT - LEFT)
}

/// Lines behind the bars only: they would cross the words between them.
fn write_axis(out: &mut String, axis: &Axis, rows: usize) -> fmt::Result {
    for (tick, _) in &axis.ticks {
        let x = across(axis, *tick);
        let class = if *tick == 0.0 { "base" } else { "mesh" };
        write!(out, "<path class=\"{class}\" d=\"")?;
        for row in 0..rows {
            let top = row as f64 * ROW_HEIGHT + BAR_TOP;
            write!(out, "M{x:.1} {:.1}v{:.1}", top - 3.0, BAR_HEIGHT + 6.0)?;
        }
        out.write_str("\"/>")?;
    }
    // Zero first: where labels are many, it is the one that must be there.
    let (zero, others): (Vec<_>, Vec<_>) = axis.ticks.iter().partition(|(tick, _)| *tick == 0.0);
    let labels = zero.into_iter().chain(others);
    let labels = labels.map(|(tick, label)| (across(axis, *tick), label.as_str()));
    write_labels(out, labels, rows as f64 * ROW_HEIGHT + 14.0, WIDTH)
}

/// The server, its median, and that beside the first server's.
fn write_words(
    out: &mut String,
    (member, figure): &Row<'_>,
    scale: &Scale,
    first: f64,
    top: f64,
) -> fmt::Result {
    let ratio = figure.median / first;
    let times = if ratio.is_finite() {
        format!("{}×", shown(ratio))
    } else {
        NONE.to_owned()
    };
    let median = scale.show_with_unit(figure.median);
    let room = WIDTH - width(&median) - width(&times) - 40.0;
    let y = top + 14.0;
    writeln!(
        out,
        "<text class=\"name\" x=\"{LEFT}\" y=\"{y}\">{}</text>\
         <text class=\"end\" x=\"{WIDTH}\" y=\"{y}\">\
         <tspan class=\"value\">{}</tspan>\u{2002}{times}</text>",
        Text(&shortened(&member.label, room)),
        Text(&median)
    )
}

fn write_bar(
    out: &mut String,
    (member, figure): &Row<'_>,
    scale: &Scale,
    axis: &Axis,
    top: f64,
) -> fmt::Result {
    let middle = top + BAR_TOP + BAR_HEIGHT / 2.0;
    if is_drawable(figure.median) {
        let (zero, end) = (across(axis, 0.0), across(axis, scale.of(figure.median)));
        let (x, y, length) = (zero.min(end), top + BAR_TOP, (end - zero).abs());
        let look = look(member.look);
        write!(
            out,
            "<rect class=\"bar {look}\" x=\"{x:.1}\" y=\"{y}\" width=\"{length:.1}\" \
             height=\"{BAR_HEIGHT}\"/>"
        )?;
    }
    if is_drawable(figure.min) && is_drawable(figure.max) && figure.values.len() > 1 {
        let [least, most] = [figure.min, figure.max].map(|it| across(axis, scale.of(it)));
        let (above, below) = (middle - 5.0, middle + 5.0);
        write!(
            out,
            "<path class=\"whisker\" d=\"M{least:.1} {above}V{below}M{most:.1} {above}V{below}\
             M{least:.1} {middle}H{most:.1}\"/>"
        )?;
    }
    out.write_char('\n')
}

/// As much of a name as fits.
fn shortened(name: &str, room: f64) -> String {
    if width(name) <= room {
        return name.to_owned();
    }
    let mut short = String::new();
    for character in name.chars() {
        if width(&short) + width("m…") > room {
            break;
        }
        short.push(character);
    }
    short + "…"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::model::Part;

    fn check(values: &[&[f64]], expected: &[&str]) {
        let part = |(number, values): (usize, &&[f64])| Part {
            name: "echo".to_owned(),
            subject: format!("server-{number}"),
            figures: Figure::of("k", "Messages", "1/s", Better::Higher, values.to_vec())
                .into_iter()
                .collect(),
            ..Part::default()
        };
        let parts: Vec<Part> = values.iter().enumerate().map(part).collect();
        let mut html = String::new();
        for group in Group::all(&parts) {
            write_bars(&mut html, &group).unwrap();
        }
        assert!(!html.contains("NaN") && !html.contains("inf"), "{html}");
        assert_eq!(html.is_empty(), expected.is_empty());
        for text in expected {
            assert!(html.contains(text), "{text} is not in {html}");
        }
    }

    #[test]
    fn bars_and_whiskers() {
        check(
            &[&[100.0, 120.0, 110.0], &[50.0, 60.0, 55.0]],
            &[
                ">110 /s</tspan>\u{2002}1×",
                ">55 /s</tspan>\u{2002}0.5×",
                "rounds from 50 to 60",
                "higher is better",
            ],
        );
        check(&[&[100.0]], &[]);
        check(&[&[100.0], &[]], &[]);
        check(&[&[0.0], &[0.0]], &["–</text>"]);
        check(&[&[-5.0], &[5.0]], &["<rect"]);
        check(
            &[&[f64::NAN, 1.0], &[f64::INFINITY], &[1e300, 1e-300]],
            &["<svg"],
        );
    }

    #[test]
    fn names_that_do_not_fit() {
        assert_eq!(shortened("throng", 200.0), "throng");
        let short = shortened(&"x".repeat(300), 200.0);
        assert!(short.ends_with('…') && width(&short) <= 200.0);
        assert_eq!(shortened("throng", -5.0), "…");
    }
}
