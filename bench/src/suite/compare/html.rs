//! A comparison as one HTML page, in the style of a report's.
//!
//! It runs no script and needs nothing else.
//!
//! Invariants: everything from the reports is escaped; all drawings of ratios have one scale, on
//! which half and double are equally far from the middle.

use std::fmt::{self, Write as _};

use super::text::{noise, ratio};
use super::{Change, Comparison, Outcome, Rounds, Side};
use crate::suite::html::bars::direction;
use crate::suite::html::markup::{Text, document, write_table, write_warnings};
use crate::suite::html::number::{NONE, Scale, shown};

/// Size of a drawing of a ratio, pixels.
const WIDTH: f64 = 140.0;
const HEIGHT: f64 = 22.0;
/// Drawings show at least this ratio and its inverse, and at most the other.
const RATIO_MIN: f64 = 1.1;
const RATIO_MAX: f64 = 4.0;

/// A line about both reports: its name, and what it says of one.
type Fact = (&'static str, fn(&Side) -> String);

/// The page.
#[must_use]
pub fn page(comparison: &Comparison) -> String {
    let mut body = String::new();
    write_body(&mut body, comparison).expect("a string takes all that is written to it");
    document("Two reports compared", &body)
}

fn write_body(out: &mut String, comparison: &Comparison) -> fmt::Result {
    out.write_str("<header>\n<h1>Two reports compared</h1>\n")?;
    write_sides(out, [&comparison.a, &comparison.b])?;
    write_warnings(out, &comparison.warnings)?;
    let counts =
        Outcome::ALL.map(|outcome| format!("{} {}", comparison.count(outcome), outcome.name()));
    let class = match comparison.is_worse() {
        true => "bad",
        false => "good",
    };
    writeln!(
        out,
        "<p class=\"verdict {class}\">{}.</p>",
        counts.join(", ")
    )?;
    for part in &comparison.no_longer_kept {
        let part = Text(part);
        writeln!(
            out,
            "<p class=\"verdict bad\">{part}: its promises were kept in A, and are not in B.</p>"
        )?;
    }
    out.write_str("</header>\n")?;
    let reach = reach(&comparison.changes);
    for (title, is_changed) in [("Changed", true), ("Unchanged, within noise", false)] {
        let of = |change: &&Change| (change.outcome != Outcome::Unchanged) == is_changed;
        let changes: Vec<&Change> = comparison.changes.iter().filter(of).collect();
        writeln!(out, "<section>\n<h2>{title}</h2>")?;
        write_changes(out, title, &changes, reach)?;
        out.write_str("</section>\n")?;
    }
    write_foot(out, reach)
}

fn write_sides(out: &mut String, sides: [&Side; 2]) -> fmt::Result {
    write_table(out, "The two reports", |out| {
        out.write_str(
            "<tr><th scope=\"col\"></th><th scope=\"col\">A, before</th>\
             <th scope=\"col\">B, after</th></tr>\n",
        )?;
        let facts: [Fact; 7] = [
            ("Made by", |side| side.tool.clone()),
            ("Scale", |side| side.scale.clone()),
            ("Revision", |side| side.revision.clone()),
            ("Server", |side| side.server.clone()),
            ("Began", |side| side.started.clone()),
            ("Machine", |side| side.machine.clone()),
            ("Noise of a fixed loop", |side| {
                format!("{} %", shown(side.noise_percent))
            }),
        ];
        for (name, fact) in facts {
            let [a, b] = sides.map(fact);
            let (a, b) = (Text(&a), Text(&b));
            writeln!(
                out,
                "<tr><th scope=\"row\">{name}</th>\
                 <td class=\"wrap\">{a}</td><td class=\"wrap\">{b}</td></tr>"
            )?;
        }
        Ok(())
    })
}

fn write_changes(out: &mut String, title: &str, changes: &[&Change], reach: f64) -> fmt::Result {
    if changes.is_empty() {
        return out.write_str("<p>Nothing.</p>\n");
    }
    write_table(out, title, |out| {
        out.write_str(
            "<tr><th scope=\"col\">B/A and noise</th><th scope=\"col\">Figure</th>\
             <th scope=\"col\" class=\"n\">A</th><th scope=\"col\" class=\"n\">B</th></tr>\n",
        )?;
        for change in changes {
            write_change(out, change, reach)?;
        }
        Ok(())
    })
}

fn write_change(out: &mut String, change: &Change, reach: f64) -> fmt::Result {
    let sides = [change.a, change.b];
    let ends = sides.iter().flatten().flat_map(|it| [it.min, it.max]);
    let scale = Scale::fitting(&change.unit, ends);
    let [a, b] = sides.map(|side| cell(side, &scale));
    write!(out, "<tr><td>{}", badge(change.outcome))?;
    if let (Some(times), Some(share)) = (change.ratio, change.noise_percent) {
        let (ratio, noise) = (ratio(change), noise(change));
        writeln!(out, "<b>{ratio}</b> <small>{noise}</small>")?;
        write_ratio(out, change, [times, share / 100.0], reach)?;
    }
    writeln!(
        out,
        "</td><th scope=\"row\">{}<small>{}, {}</small><small>{}</small></th>\
         <td class=\"n\">{a}</td><td class=\"n\">{b}</td></tr>",
        Text(&change.title),
        Text(&change.part),
        Text(&change.subject),
        direction(change.better)
    )
}

/// Median, and the rounds from the least to the greatest.
fn cell(side: Option<Rounds>, scale: &Scale) -> String {
    side.map_or(NONE.to_owned(), |rounds| {
        let median = scale.show_with_unit(rounds.median);
        let [min, max] = [rounds.min, rounds.max].map(|value| scale.show(value));
        let rounds = match rounds.count {
            1 => "one round".to_owned(),
            count => format!("{min} to {max}<br>{count} rounds"),
        };
        format!("{}<br><small>{rounds}</small>", Text(&median))
    })
}

/// None for what is unchanged: those have a table of their own.
fn badge(outcome: Outcome) -> String {
    let (class, sign) = match outcome {
        Outcome::Worse => ("bad", "▼"),
        Outcome::Better => ("good", "▲"),
        Outcome::OnlyInA | Outcome::OnlyInB => ("doubt", "?"),
        Outcome::Unchanged => return String::new(),
    };
    let name = outcome.name();
    format!("<span class=\"badge {class}\">{sign} {name}</span> ")
}

/// The ratio at the ends of all drawings.
fn reach(changes: &[Change]) -> f64 {
    let ratios = changes.iter().filter_map(|change| change.ratio);
    let farthest = ratios
        .map(|ratio| ratio.max(1.0 / ratio))
        .fold(1.0, f64::max);
    (farthest * 1.05).clamp(RATIO_MIN, RATIO_MAX)
}

/// Where a ratio lies from left to right; what is beyond the ends lies at them.
fn across(ratio: f64, reach: f64) -> f64 {
    let place = ratio.ln() / reach.ln();
    WIDTH / 2.0 + place.clamp(-1.0, 1.0) * (WIDTH / 2.0 - 6.0)
}

fn write_ratio(
    out: &mut String,
    change: &Change,
    [ratio, noise]: [f64; 2],
    reach: f64,
) -> fmt::Result {
    let class = match change.outcome {
        Outcome::Worse => "worse",
        Outcome::Better => "better",
        _ => "same",
    };
    let [least, most, x] = [1.0 / (1.0 + noise), 1.0 + noise, ratio].map(|it| across(it, reach));
    let (middle, width) = (WIDTH / 2.0, most - least);
    let about = format!("ratio {ratio:.3}, noise {:.1} percent", noise * 100.0);
    writeln!(
        out,
        "<svg class=\"ratio\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{about}\"><title>{about}</title>\
         <rect class=\"noise\" x=\"{least:.1}\" y=\"3\" width=\"{width:.1}\" height=\"16\"/>\
         <path class=\"base\" d=\"M{middle} 0V{HEIGHT}\"/>\
         <path class=\"stem {class}\" d=\"M{middle} 11H{x:.1}\"/>\
         <circle class=\"{class}\" cx=\"{x:.1}\" cy=\"11\" r=\"4.5\"/></svg>"
    )
}

fn write_foot(out: &mut String, reach: f64) -> fmt::Result {
    writeln!(
        out,
        "<footer>\n<h2>How to read this</h2>\n<ul>\n\
         <li>Figures are medians of the rounds; below them the least and the greatest round, and \
         how many.</li>\n\
         <li>A change counts when no round of one report reaches those of the other, and the \
         medians lie further apart than the noise: both reports' rounds and both machines' fixed \
         loops together. Fewer than three rounds count as if they lay a tenth apart at least.</li>\n\
         <li>Drawings go from {:.2} to {reach:.2} on a logarithmic scale, with 1 in the middle; \
         the shaded band is noise. What lies beyond is drawn at the end.</li>\n\
         </ul>\n</footer>",
        1.0 / reach
    )
}
