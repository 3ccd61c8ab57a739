//! A report as a table for people: servers by figures, medians of the rounds.
//!
//! It measures nothing and leaves nothing out: what was skipped and what was broken stands below.
//!
//! Invariants: a cell without a figure is `-`, never 0.

use std::fmt;

use super::findings::{CLOSED, CONNECT, ECHO, IDLE, OPEN};
use crate::suite::model::{Figure, SuiteReport, Verdict};

/// Columns: the part, the figure's key, the head, digits behind the point.
const COLUMNS: [(&str, &str, &str, usize); 8] = [
    (IDLE.name, "user_bytes_per_connection", "idle B", 0),
    (CONNECT.name, "handshakes_per_s", "connect/s", 0),
    (ECHO.name, "messages_per_s", "echo/s", 0),
    (ECHO.name, "server_cpu_us_per_message", "CPU us", 1),
    (CLOSED.name, "deliveries_per_s", "closed/s", 0),
    (CLOSED.name, "server_cpu_us_per_delivery", "CPU us", 2),
    (OPEN.name, "coalesced_deliveries_per_s", "open/s", 0),
    (OPEN.name, "open_cpu_us_per_delivery", "CPU us", 2),
];

/// A report that prints itself as a table.
pub(super) struct Table<'a>(pub(super) &'a SuiteReport);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        let mut subjects: Vec<&str> = Vec::new();
        for part in &report.parts {
            if !subjects.contains(&part.subject.as_str()) {
                subjects.push(&part.subject);
            }
        }
        write!(f, "{:<18}", "server")?;
        for (_, _, head, _) in COLUMNS {
            write!(f, " {head:>10}")?;
        }
        writeln!(f)?;
        for subject in subjects {
            write!(f, "{subject:<18}")?;
            for (name, key, _, digits) in COLUMNS {
                let cell = self.figure(name, subject, key);
                let cell = cell.map_or("-".to_owned(), |it| format!("{:.digits$}", it.median));
                write!(f, " {cell:>10}")?;
            }
            writeln!(f)?;
        }
        for warning in &report.warnings {
            writeln!(f, "{warning}")?;
        }
        for part in &report.parts {
            if part.verdict != Verdict::Kept {
                writeln!(f, "BROKEN: {} of {}", part.name, part.subject)?;
            }
            for warning in &part.warnings {
                writeln!(f, "{} of {}: {warning}", part.name, part.subject)?;
            }
        }
        for (name, reason) in &report.skipped {
            writeln!(f, "skipped: {name}: {reason}")?;
        }
        Ok(())
    }
}

impl Table<'_> {
    fn figure(&self, name: &str, subject: &str, key: &str) -> Option<&Figure> {
        let is_it =
            |part: &&crate::suite::model::Part| part.name == name && part.subject == subject;
        let part = self.0.parts.iter().find(is_it)?;
        part.figures.iter().find(|figure| figure.key == key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::model::{Better, Part};

    #[test]
    fn what_was_not_measured_is_no_zero() {
        let figure = Figure::of("messages_per_s", "", "1/s", Better::Higher, vec![1234.4]);
        let report = SuiteReport {
            parts: vec![Part {
                name: "echo".to_owned(),
                subject: "a-server".to_owned(),
                verdict: Verdict::Broken,
                figures: figure.into_iter().collect(),
                ..Part::default()
            }],
            skipped: vec![("another".to_owned(), "not there".to_owned())],
            ..SuiteReport::default()
        };
        let text = Table(&report).to_string();
        let row = text
            .lines()
            .find(|line| line.starts_with("a-server"))
            .unwrap();
        let cells: Vec<&str> = row.split_whitespace().skip(1).collect();
        assert_eq!(cells, ["-", "-", "1234", "-", "-", "-", "-", "-"]);
        assert!(text.contains("BROKEN: echo of a-server"), "{text}");
        assert!(text.contains("skipped: another: not there"), "{text}");
    }
}
