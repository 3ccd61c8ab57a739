//! Where a suite's report goes: JSON for programs, a page for people, curves for HdrHistogram's plotter.
//!
//! It writes the files that were named, and nothing else.
//!
//! Invariants: an .hgrm file holds what the JSON's curve holds, in the form that the plotter reads.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::html::page;
use super::model::{Curve, SuiteReport};
use crate::error::BenchError;
use crate::files;

/// What to write, and where.
#[derive(Args, Clone, Default, Debug)]
pub(crate) struct Exports {
    /// Where to write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where to write it as a page with plots, in one file that needs no other.
    #[arg(long)]
    html: Option<PathBuf>,
    /// A folder for one .hgrm file for each latency.
    #[arg(long)]
    hgrm: Option<PathBuf>,
}

impl Exports {
    /// Writes what was asked for.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub(crate) fn write(&self, report: &SuiteReport) -> Result<(), BenchError> {
        if let Some(path) = &self.json {
            files::write_json(path, report)?;
        }
        if let Some(path) = &self.html {
            files::write_text(path, &page(report))?;
        }
        if let Some(folder) = &self.hgrm {
            for part in &report.parts {
                for curve in &part.latencies {
                    let name = [&part.name, &part.subject, &curve.title].map(|it| file_name(it));
                    let path = folder.join(format!("{}.hgrm", name.join("-")));
                    files::write_text(&path, &hgrm(curve))?;
                }
            }
        }
        Ok(())
    }
}

/// Letters and digits; everything else is one underscore.
fn file_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    words.join("_")
}

/// A curve as HdrHistogram's percentile distribution.
fn hgrm(curve: &Curve) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    for &(quantile, value, count) in &curve.points {
        let _ = write!(text, "{value:>12} {quantile:>14.12} {count:>10}");
        if quantile < 1.0 {
            let _ = write!(text, " {:>14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    let (count, max) = curve.points.last().map_or((0, 0), |last| (last.2, last.1));
    let _ = writeln!(text, "#[Max = {max:>12}, Total count = {count:>12}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_as_text() {
        let curve = Curve {
            points: vec![(0.0, 1, 1), (0.5, 10, 50), (1.0, 20, 100)],
            ..Curve::default()
        };
        let lines: Vec<Vec<String>> = hgrm(&curve)
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect();
        assert_eq!(
            lines[0],
            ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
        );
        assert_eq!(lines[3], ["10", "0.500000000000", "50", "2.00"]);
        assert_eq!(lines[4], ["20", "1.000000000000", "100"]);
    }

    #[test]
    fn names_of_files() {
        assert_eq!(file_name("throng, store off"), "throng_store_off");
        assert_eq!(file_name("../../x"), "x");
    }
}
