//! Lines in a frame of two axes, as SVG.
//!
//! It knows no report: whoever draws brings points, axes and words.
//!
//! Invariants: every label lies inside the drawing and touches no other; a chart says in words
//! what it shows, for those who do not see it.

use std::fmt::{self, Write as _};

use super::axis::{Axis, is_drawable};
use super::markup::Text;
use super::svg::{look, open_svg, width, write_labels};

/// Lines with fewer points show each of them.
const DOTS_MAX: usize = 40;
/// More points than this are more than a screen has.
const POINTS_MAX: usize = 1_000;
/// Size of a drawing, in pixels at its natural size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Class in the style sheet, which says on which screens it is shown.
    pub(crate) class: &'static str,
    width: f64,
    height: f64,
}

/// For a phone. Text in a drawing shrinks with it: so what is wide is drawn twice.
pub(crate) const NARROW: Size = Size {
    class: "narrow",
    width: 360.0,
    height: 280.0,
};
/// For a screen.
pub(crate) const WIDE: Size = Size {
    class: "wide",
    width: 920.0,
    height: 380.0,
};
/// For both: two stand side by side on a screen.
pub(crate) const HALF: Size = Size {
    class: "half",
    width: 380.0,
    height: 250.0,
};

/// A line, and how it looks.
pub(crate) struct Line {
    /// What it is, for people.
    pub(crate) label: String,
    /// Which of the looks, counted from 0.
    pub(crate) look: usize,
    /// Its points, from left to right.
    pub(crate) points: Vec<(f64, f64)>,
}

/// A frame with lines in it.
pub(crate) struct Chart<'a> {
    /// What it shows.
    pub(crate) title: &'a str,
    /// What there is to see, in words.
    pub(crate) about: &'a str,
    /// What is written at the axes.
    pub(crate) axis_titles: [&'a str; 2],
    /// From left to right.
    pub(crate) x: Axis,
    /// From the bottom up.
    pub(crate) y: Axis,
    /// What is in the frame.
    pub(crate) lines: &'a [Line],
}

/// The names of lines, each with a piece of it.
pub(crate) fn write_legend(out: &mut String, lines: &[Line]) -> fmt::Result {
    out.write_str("<ul class=\"legend\">\n")?;
    for line in lines {
        writeln!(
            out,
            "<li><svg class=\"key\" viewBox=\"0 0 34 10\" aria-hidden=\"true\">\
             <path class=\"line {}\" d=\"M1 5H33\"/></svg> {}</li>",
            look(line.look),
            Text(&line.label)
        )?;
    }
    out.write_str("</ul>\n")
}

/// Where the frame lies in the drawing.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Frame {
    fn at(&self, chart: &Chart<'_>, (x, y): (f64, f64)) -> (f64, f64) {
        (
            self.left + chart.x.place(x) * (self.right - self.left),
            self.bottom - chart.y.place(y) * (self.bottom - self.top),
        )
    }
}

impl Chart<'_> {
    /// Writes it as an SVG of this size.
    pub(crate) fn write(&self, out: &mut String, size: Size) -> fmt::Result {
        let labels = self.y.ticks.iter().map(|(_, label)| width(label));
        let frame = Frame {
            left: labels.fold(0.0, f64::max) + 9.0,
            right: size.width - 12.0,
            top: 28.0,
            bottom: size.height - 42.0,
        };
        let Size { width, height, .. } = size;
        open_svg(out, size.class, [width, height], self.title, self.about)?;
        self.write_heights(out, &frame)?;
        self.write_widths(out, &frame, width)?;
        let [x_title, y_title] = self.axis_titles.map(Text);
        writeln!(
            out,
            "<text class=\"axis\" x=\"2\" y=\"13\">{y_title}</text>\
             <text class=\"axis end\" x=\"{}\" y=\"{}\">{x_title}</text>",
            frame.right,
            height - 6.0
        )?;
        for line in self.lines {
            self.write_line(out, &frame, line)?;
        }
        out.write_str("</svg>\n")
    }

    fn write_heights(&self, out: &mut String, frame: &Frame) -> fmt::Result {
        let mut below = f64::INFINITY;
        for (tick, label) in &self.y.ticks {
            let (_, y) = frame.at(self, (0.0, *tick));
            let Frame { left, right, .. } = frame;
            let class = if *tick == 0.0 { "base" } else { "mesh" };
            write!(
                out,
                "<path class=\"{class}\" d=\"M{left:.1} {y:.1}H{right:.1}\"/>"
            )?;
            if y < below - 14.0 {
                below = y;
                let (x, y) = (left - 6.0, y + 4.0);
                let label = Text(label);
                write!(
                    out,
                    "<text class=\"end\" x=\"{x:.1}\" y=\"{y:.1}\">{label}</text>"
                )?;
            }
        }
        out.write_char('\n')
    }

    fn write_widths(&self, out: &mut String, frame: &Frame, width_max: f64) -> fmt::Result {
        let Frame { top, bottom, .. } = frame;
        let across = |tick: f64| frame.at(self, (tick, 0.0)).0;
        for (tick, _) in &self.x.ticks {
            let x = across(*tick);
            write!(
                out,
                "<path class=\"mesh\" d=\"M{x:.1} {top:.1}V{bottom:.1}\"/>"
            )?;
        }
        let labels = self
            .x
            .ticks
            .iter()
            .map(|(tick, label)| (across(*tick), label.as_str()));
        write_labels(out, labels, bottom + 17.0, width_max)
    }

    fn write_line(&self, out: &mut String, frame: &Frame, line: &Line) -> fmt::Result {
        let is_drawn = |(x, y): &&(f64, f64)| is_drawable(*x) && is_drawable(*y);
        let points: Vec<(f64, f64)> = line.points.iter().filter(is_drawn).copied().collect();
        let look = look(line.look);
        write!(out, "<polyline class=\"line {look}\" points=\"")?;
        for point in thinned(&points) {
            let (x, y) = frame.at(self, point);
            write!(out, "{x:.1},{y:.1} ")?;
        }
        out.write_str("\"/>")?;
        let dots: &[(f64, f64)] = if points.len() <= DOTS_MAX {
            &points
        } else {
            &points[points.len() - 1..]
        };
        for point in dots {
            let (x, y) = frame.at(self, *point);
            write!(
                out,
                "<circle class=\"dot {look}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\"/>"
            )?;
        }
        out.write_char('\n')
    }
}

/// The points, or of very many the least and the greatest of each stretch, so that no spike is lost.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    let stretches = points.chunks(points.len().div_ceil(POINTS_MAX / 2));
    let ends = stretches.flat_map(|stretch| {
        let by_height =
            |place: &usize, other: &usize| stretch[*place].1.total_cmp(&stretch[*other].1);
        let least = (0..stretch.len()).min_by(by_height).unwrap_or(0);
        let greatest = (0..stretch.len()).max_by(by_height).unwrap_or(0);
        [stretch[least.min(greatest)], stretch[least.max(greatest)]]
    });
    ends.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(points: &[(f64, f64)], expected: &str) {
        let lines = [Line {
            label: "a".to_owned(),
            look: 0,
            points: points.to_vec(),
        }];
        let chart = Chart {
            title: "t",
            about: "a",
            axis_titles: ["x", "y"],
            x: Axis::spanning(points.iter().map(|point| point.0), 4),
            y: Axis::from_zero(points.iter().map(|point| point.1), 4),
            lines: &lines,
        };
        for size in [NARROW, WIDE, HALF] {
            let mut svg = String::new();
            chart.write(&mut svg, size).unwrap();
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert_eq!(svg.matches("<circle").count().to_string(), expected);
        }
    }

    #[test]
    fn odd_points() {
        check(&[], "0");
        check(&[(1.0, 1.0)], "1");
        check(&[(0.0, 0.0), (0.0, 0.0)], "2");
        check(&[(1.0, f64::NAN), (f64::INFINITY, 1.0), (2.0, 3.0)], "1");
        check(&[(-1e30, 1e30), (1e30, -1e30), (1e300, 1e300)], "2");
        let many: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), 1.0)).collect();
        check(&many, "1");
    }

    #[test]
    fn a_spike_among_very_many_points_is_drawn() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|x| (f64::from(x), 1.0)).collect();
        points[77_777].1 = 9.0;
        let thinned = thinned(&points);
        assert!(thinned.len() <= POINTS_MAX);
        assert!(thinned.contains(&(77_777.0, 9.0)));
        assert!(thinned.is_sorted_by(|one, next| one.0 <= next.0));
    }
}
