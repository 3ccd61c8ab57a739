//! A comparison as text.
//!
//! It rounds for reading, and leaves nothing out: what did not change comes last.
//!
//! Invariants: columns are aligned; nothing of a report reaches a terminal as a control character.

use std::fmt;

use super::{Change, Comparison, Outcome, Side};
use crate::suite::html::number::{NONE, Scale, shown};
use crate::suite::model::revisions;

const TITLES: [&str; 9] = [
    "", "part", "server", "figure", "A", "B", "unit", "B/A", "noise",
];
/// Columns of numbers: they end where the others begin.
const NUMBERS: [bool; 9] = [false, false, false, false, true, true, false, true, true];

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_side(f, "A", &self.a)?;
        write_side(f, "B", &self.b)?;
        for warning in &self.warnings {
            writeln!(f, "warning: {}", plain(warning))?;
        }
        if !self.changes.is_empty() {
            writeln!(f)?;
            write_table(f, &self.changes)?;
        }
        writeln!(f)?;
        for part in &self.no_longer_kept {
            writeln!(f, "BROKEN: {}: its promises were kept in A", plain(part))?;
        }
        let counts =
            Outcome::ALL.map(|outcome| format!("{} {}", self.count(outcome), outcome.name()));
        writeln!(f, "{} (within noise)", counts.join(", "))
    }
}

fn write_side(f: &mut fmt::Formatter<'_>, name: &str, side: &Side) -> fmt::Result {
    let line = format!(
        "{name}: {}, {} scale, {}, {}; {}, noise {} %",
        side.tool,
        side.scale,
        revisions(&side.revision, &side.server),
        side.started,
        side.machine,
        shown(side.noise_percent)
    );
    writeln!(f, "{}", plain(&line))
}

fn write_table(f: &mut fmt::Formatter<'_>, changes: &[Change]) -> fmt::Result {
    let mut lines = vec![TITLES.map(str::to_owned)];
    lines.extend(changes.iter().map(cells));
    let widths: [usize; 9] = std::array::from_fn(|column| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    });
    for line in lines {
        let mut text = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            text += &match NUMBERS[column] {
                true => format!("{cell:>width$}  "),
                false => format!("{cell:<width$}  "),
            };
        }
        writeln!(f, "{}", text.trim_end())?;
    }
    Ok(())
}

fn cells(change: &Change) -> [String; 9] {
    let medians = [change.a, change.b].map(|side| side.map(|rounds| rounds.median));
    let scale = Scale::fitting(&change.unit, medians.into_iter().flatten());
    let [a, b] = medians.map(|median| median.map_or(NONE.to_owned(), |median| scale.show(median)));
    [
        change.outcome.name().to_owned(),
        plain(&change.part),
        plain(&change.subject),
        plain(&change.key),
        a,
        b,
        plain(&scale.unit),
        ratio(change),
        noise(change),
    ]
}

/// The ratio of the medians, for reading.
pub(super) fn ratio(change: &Change) -> String {
    change.ratio.map_or(NONE.to_owned(), |ratio| match ratio {
        0.1..100.0 => format!("{ratio:.3}"),
        _ => shown(ratio),
    })
}

/// The noise, for reading.
pub(super) fn noise(change: &Change) -> String {
    let noise = change.noise_percent;
    let noise = noise.filter(|noise| noise.is_finite());
    noise.map_or(NONE.to_owned(), |noise| format!("±{noise:.1} %"))
}

/// Text of a report without what a terminal would obey.
fn plain(text: &str) -> String {
    let safe = |character: char| match character {
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    };
    text.chars().map(safe).collect()
}
