//! Why stores could not be compared.
//!
//! A store that lost or mixed up something is no error here but a finding of the report.
//!
//! Invariants: every message says what to do about it, where something can be done.

use std::io;
use std::path::PathBuf;

use super::engine::EngineName;

/// What ends a comparison without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum StoreBenchError {
    /// The folder is on a file system that keeps everything in memory.
    #[error(
        "{} is on tmpfs, which has no device to sync to: name a folder on a disk with --dir",
        path.display()
    )]
    NoDevice {
        /// The folder.
        path: PathBuf,
    },
    /// An engine was asked for that this binary does not have.
    #[error(
        "{engine} is not built in: cargo build --release -p throng-bench --features engines (RocksDB needs libclang and takes minutes)"
    )]
    NotBuilt {
        /// Which.
        engine: EngineName,
    },
    /// The process of an engine could not be started, or ended.
    #[error("{engine}, {doing}: {source}")]
    Process {
        /// Which.
        engine: EngineName,
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The engine failed.
    #[error("{engine}, {doing}: {error}")]
    Engine {
        /// Which.
        engine: EngineName,
        /// What was being done.
        doing: &'static str,
        /// In its own words.
        error: Box<str>,
    },
}
