//! A report's JSON, checked.
//!
//! It opens no file, and guesses nothing about a report of another version.
//!
//! Invariants: what is wrong is said before what follows from it: no JSON, no report, another
//! version, then the member that is missing or of another type.

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::suite::model::{SUITE_VERSION, SuiteReport};

/// Largest report that is read, bytes.
pub const REPORT_BYTES_MAX: u64 = 64 << 20;

/// Why a text is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// It is no JSON.
    #[error("not JSON: {0}")]
    NotJson(serde_json::Error),
    /// It has no version.
    #[error("not a suite's report: it has no number `version`")]
    NoVersion,
    /// It was made by another version of this program.
    #[error("a report of version {found}, and this program reads version {SUITE_VERSION}")]
    OtherVersion {
        /// Which one.
        found: u64,
    },
    /// A member is missing, or of another type.
    #[error("not a suite's report: {0}")]
    Shape(serde_json::Error),
}

/// Reads a report.
///
/// # Errors
/// When the text is no report of this version.
pub fn parse(text: &str) -> Result<SuiteReport, ReportError> {
    #[derive(Deserialize)]
    struct Head {
        version: Option<u64>,
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(ReportError::NotJson)?;
    let is_object = text.trim_start().starts_with('{');
    let head: Option<Head> = serde_json::from_str(text).ok().filter(|_| is_object);
    match head.and_then(|head| head.version) {
        None => Err(ReportError::NoVersion),
        Some(found) if found != u64::from(SUITE_VERSION) => {
            Err(ReportError::OtherVersion { found })
        }
        Some(_) => serde_json::from_str(text).map_err(ReportError::Shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = parse(text).expect_err("no report").to_string();
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said() {
        check("", "not JSON: EOF");
        check("{\"version\": 1", "not JSON: EOF");
        check("hello", "not JSON: expected value at line 1 column 1");
        check("[1, 2]", "no number `version`");
        check("{}", "no number `version`");
        check("{\"version\": \"1\"}", "no number `version`");
        check(
            "{\"version\": 2}",
            "version 2, and this program reads version 1",
        );
        check("{\"version\": 1}", "missing field `tool`");
        check(
            "{\"version\": 1, \"tool\": 5}",
            "invalid type: integer `5`, expected a string",
        );
        check(&"[".repeat(1_000_000), "not JSON: EOF");
    }

    #[test]
    fn what_was_written_is_read() {
        let report = SuiteReport {
            version: SUITE_VERSION,
            parts: vec![crate::suite::model::Part::default()],
            ..SuiteReport::default()
        };
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(parse(&text).unwrap(), report);
    }
}
