//! Why a tool did not do what it was asked.
//!
//! What it found in a store is a result, not an error.
//!
//! Invariant: each message says what was attempted and on what, so that an operator can act on it.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;
use throng_storage_engine::{ConsumerName, StoreError};

/// Why a tool ended early.
#[derive(Debug, Error)]
pub(super) enum ToolError {
    #[error("{} holds no message store: start `throng serve` with it once, or import into it", path.display())]
    NoStore { path: PathBuf },
    #[error("{} is in use: stop the server (or the other tool) first", path.display())]
    InUse { path: PathBuf },
    #[error(transparent)]
    Store(StoreError),
    #[error("the executor did not start: {source}")]
    Executor {
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("the output cannot be written: {0}")]
    Output(io::Error),
    #[error("{} cannot be opened: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("the input cannot be read: {0}")]
    Input(io::Error),
    #[error("line {line} has more than {bytes_max} bytes")]
    LineTooLong { line: u64, bytes_max: usize },
    #[error("there is no consumer {name}")]
    NoConsumer { name: ConsumerName },
}

impl From<StoreError> for ToolError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl ToolError {
    /// For `map_err` of taking the lock: somebody else has it.
    pub(super) fn of_lock(error: StoreError, data: &Path) -> Self {
        match error {
            StoreError::Locked { .. } => Self::InUse {
                path: data.to_owned(),
            },
            other => Self::Store(other),
        }
    }
}
