//! Files that the user names: a corpus or a report to read, a report or a page to write.
//!
//! It opens nothing else.
//!
//! Invariants: what is read is bounded; an error names the file.

use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::corpus::{CORPUS_BYTES_MAX, Corpus};
use crate::error::BenchError;
use crate::suite::compare::read::{REPORT_BYTES_MAX, parse};
use crate::suite::model::SuiteReport;

/// The corpus in this file; made-up text of this seed if there is none.
///
/// # Errors
/// When the file cannot be read, or is no corpus.
pub fn corpus(path: Option<&Path>, seed: u64) -> Result<Corpus, BenchError> {
    Ok(match path {
        Some(path) => Corpus::parse(&read_text(path)?)?,
        None => Corpus::generated(seed),
    })
}

/// Reads a text file of at most [`CORPUS_BYTES_MAX`].
///
/// # Errors
/// When it cannot be read, or is larger.
pub fn read_text(path: &Path) -> Result<String, BenchError> {
    read_at_most(path, CORPUS_BYTES_MAX)
}

/// Reads a suite's report of at most [`REPORT_BYTES_MAX`].
///
/// # Errors
/// When it cannot be read, is larger, or is no report of this version.
pub fn report(path: &Path) -> Result<SuiteReport, BenchError> {
    let text = read_at_most(path, REPORT_BYTES_MAX)?;
    parse(&text).map_err(|source| BenchError::Report {
        path: path.to_owned(),
        source,
    })
}

fn read_at_most(path: &Path, bytes_max: u64) -> Result<String, BenchError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the edge that reads what the user names"
    )]
    let file = std::fs::File::open(path).map_err(named(path))?;
    let mut text = String::new();
    file.take(bytes_max + 1)
        .read_to_string(&mut text)
        .map_err(named(path))?;
    if text.len() as u64 > bytes_max {
        let reason = format!("larger than {} MiB", bytes_max >> 20);
        return Err(named(path)(io::Error::new(
            io::ErrorKind::FileTooLarge,
            reason,
        )));
    }
    Ok(text)
}

/// An empty file for what a program of ours says.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn create(path: &Path) -> Result<std::fs::File, BenchError> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the edge that keeps what programs say"
    )]
    std::fs::File::create(path).map_err(named(path))
}

/// Writes a report as JSON.
///
/// # Errors
/// When it cannot be written.
pub fn write_json(path: &Path, report: &impl Serialize) -> Result<(), BenchError> {
    let json = serde_json::to_string_pretty(report).expect("a report has string keys only");
    write_text(path, &(json + "\n"))
}

/// Writes a text; the folder that it lies in is made if there is none.
///
/// # Errors
/// When it cannot be written.
pub fn write_text(path: &Path, text: &str) -> Result<(), BenchError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(named(folder))?;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the edge that writes what the user names"
    )]
    std::fs::write(path, text).map_err(named(path))
}

/// Reads a benchmark's report of at most [`REPORT_BYTES_MAX`].
///
/// # Errors
/// When it cannot be read, or is no report of this kind.
pub fn read_report<R: DeserializeOwned>(path: &Path) -> Result<R, BenchError> {
    serde_json::from_str(&read_at_most(path, REPORT_BYTES_MAX)?).map_err(|source| {
        BenchError::NoReport {
            path: path.to_owned(),
            source,
        }
    })
}

/// Prints a report and writes it, if a file was named; says how the process ends.
#[must_use]
pub fn conclude<R: Serialize + std::fmt::Display>(
    report: &R,
    json: Option<&Path>,
    is_clean: bool,
) -> ExitCode {
    print!("{report}");
    if let Some(path) = json
        && let Err(error) = write_json(path, report)
    {
        eprintln!("throng-bench: {error}");
        return ExitCode::from(2);
    }
    if is_clean {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(1)
    }
}

fn named(path: &Path) -> impl Fn(io::Error) -> BenchError {
    |source| BenchError::File {
        path: path.to_owned(),
        source,
    }
}
