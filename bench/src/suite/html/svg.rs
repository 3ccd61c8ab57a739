//! What all drawings are made of: how one begins, its looks, and labels that touch no other.
//!
//! It knows no axis and no figure.
//!
//! Invariants: a drawing says in words what it shows, for those who do not see it; a label lies
//! inside of it.

use std::fmt::{self, Write as _};

use super::markup::Text;

/// Width of a digit of the labels in the widest of the usual fonts; the page's style sheet sets
/// their size.
const DIGIT_WIDTH: f64 = 7.7;
/// Room between two labels.
const GAP: f64 = 9.0;
/// Colours, and kinds of dashes, of the style sheet. The two counts take turns at different paces,
/// so that lines of one colour differ in their dashes.
const COLOURS: usize = 6;
const DASHES: usize = 4;

/// Class of a look.
pub(crate) fn look(number: usize) -> String {
    format!("c{} d{}", number % COLOURS, number % DASHES)
}

/// Begins an SVG with its title and description.
pub(crate) fn open_svg(
    out: &mut String,
    class: &str,
    [width, height]: [f64; 2],
    title: &str,
    about: &str,
) -> fmt::Result {
    writeln!(
        out,
        "<svg class=\"{class}\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{0}\">\
         <title>{0}</title><desc>{1}</desc>",
        Text(title),
        Text(about)
    )
}

/// Writes labels below an axis, each at its middle unless it would stand out of the drawing or
/// touch one that was written before.
pub(crate) fn write_labels<'a>(
    out: &mut String,
    labels: impl Iterator<Item = (f64, &'a str)>,
    y: f64,
    width_max: f64,
) -> fmt::Result {
    let mut taken: Vec<(f64, f64)> = Vec::new();
    for (x, label) in labels {
        let half = width(label) / 2.0;
        let middle = x.min(width_max - half).max(half);
        let (left, right) = (middle - half - GAP, middle + half + GAP);
        if taken
            .iter()
            .all(|other| right - GAP <= other.0 || left + GAP >= other.1)
        {
            taken.push((left, right));
            let label = Text(label);
            write!(
                out,
                "<text class=\"middle\" x=\"{middle:.1}\" y=\"{y:.1}\">{label}</text>"
            )?;
        }
    }
    out.write_char('\n')
}

/// About how wide a label is.
pub(crate) fn width(label: &str) -> f64 {
    label.chars().count() as f64 * DIGIT_WIDTH
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(labels: &[(f64, &str)], expected: &[&str]) {
        let mut svg = String::new();
        write_labels(&mut svg, labels.iter().copied(), 10.0, 100.0).unwrap();
        let words: Vec<&str> = svg.split(['<', '>']).skip(2).step_by(4).collect();
        assert_eq!(words, expected);
    }

    #[test]
    fn labels_that_would_touch_are_left_out() {
        check(&[(0.0, "a"), (50.0, "b"), (100.0, "c")], &["a", "b", "c"]);
        check(&[(0.0, "a"), (5.0, "b"), (30.0, "c")], &["a", "c"]);
        check(
            &[(50.0, "first"), (40.0, "b"), (90.0, "c")],
            &["first", "c"],
        );
        check(
            &[(0.0, "wider than the drawing"), (50.0, "b")],
            &["wider than the drawing"],
        );
    }

    #[test]
    fn lines_of_one_colour_differ_in_their_dashes() {
        let looks: Vec<String> = (0..COLOURS * DASHES / 2).map(look).collect();
        let mut distinct = looks.clone();
        distinct.sort();
        distinct.dedup();
        assert_eq!(distinct.len(), looks.len());
    }
}
