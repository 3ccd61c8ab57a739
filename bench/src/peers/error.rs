//! Why a server could not be measured.
//!
//! A promise that a server broke is no error: it stands in the report.
//!
//! Invariants: every message names the server's program.

use std::io;
use std::path::PathBuf;

/// What keeps a server from being measured.
#[derive(Debug, thiserror::Error)]
pub enum PeersError {
    /// It cannot be started.
    #[error("{program} cannot be started: {source}")]
    Start {
        /// Which program.
        program: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// It ended before it listened.
    #[error("{program} ended at once: {log}")]
    EndedAtOnce {
        /// Which program.
        program: &'static str,
        /// The error that it wrote, or its last line.
        log: String,
    },
    /// It does not listen.
    #[error("{program} does not listen after {seconds} s")]
    NotListening {
        /// Which program.
        program: &'static str,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Its folder cannot be made.
    #[error("{}: {source}", path.display())]
    Folder {
        /// Which folder or file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One of our own commands gave no report.
    #[error("{command} gave no report: {log}")]
    NoReport {
        /// Which command.
        command: String,
        /// The error that it wrote, or its last line.
        log: String,
    },
    /// Nothing could be measured.
    #[error("none of these servers is installed")]
    NoServer,
}

impl PeersError {
    /// Whether the server cannot be had at all, whatever is measured.
    #[must_use]
    pub(super) const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Start { .. } | Self::EndedAtOnce { .. } | Self::NotListening { .. }
        )
    }
}
