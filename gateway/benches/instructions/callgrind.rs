//! Counts the instructions of one kind of operation: this program once more, under callgrind.
//!
//! It never counts the same thing in two ways: valgrind shows every program the same processor, so
//! what is chosen by the processor's features is chosen alike.
//!
//! Invariant: nothing of the environment reaches what is counted.

use std::path::Path;
use std::process::Command;
use std::{env, fs, io};

use thiserror::Error;

use crate::scenario::Scenario;

/// Why there is no count.
#[derive(Debug, Error)]
pub(crate) enum CountError {
    /// It has to be installed.
    #[error("valgrind is not installed")]
    NoValgrind,
    /// The program under callgrind ended otherwise than well.
    #[error("{scenario} failed under callgrind:\n{said}")]
    Failed {
        /// What was to be counted.
        scenario: &'static str,
        /// Its standard error.
        said: Box<str>,
    },
    /// Callgrind did not find the function that it counts in.
    #[error("callgrind counted nothing of {scenario}")]
    Nothing {
        /// What was to be counted.
        scenario: &'static str,
    },
    /// A file or a process.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Instructions of so many operations.
pub(crate) fn count(scenario: &Scenario, operations: u32) -> Result<u64, CountError> {
    let folder = tempfile::tempdir()?;
    let counts = folder.path().join("counts");
    let mut valgrind = Command::new("valgrind");
    valgrind
        .env_clear()
        .envs(env::var_os("PATH").map(|path| ("PATH", path)))
        .args(["--tool=callgrind", "--command-line-only=yes"])
        .arg("--toggle-collect=*counted_operations*")
        .arg(format!("--callgrind-out-file={}", counts.display()))
        .arg(env::current_exe()?)
        .args(["--count", scenario.name, &operations.to_string()]);
    let output = match valgrind.output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CountError::NoValgrind);
        }
        output => output?,
    };
    let scenario = scenario.name;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into();
        return Err(CountError::Failed { scenario, said });
    }
    let counted = summary(&counts)?.filter(|counted| *counted > 0);
    counted.ok_or(CountError::Nothing { scenario })
}

/// All instructions in callgrind's file.
fn summary(counts: &Path) -> io::Result<Option<u64>> {
    let counts = fs::read_to_string(counts)?;
    let summary = counts
        .lines()
        .find_map(|line| line.strip_prefix("summary:"));
    Ok(summary.and_then(|counted| counted.trim().parse().ok()))
}
