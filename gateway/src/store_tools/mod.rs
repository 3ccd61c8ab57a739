//! `throng store ...` and `throng dlq ...`: a store's files inspected, verified, moved and put in
//! order, and dead letters looked after, while no server runs.
//!
//! Nothing here knows the formats of files, which are the store's; only bodies of messages are
//! read here. A store that another process uses is left alone.
//!
//! Invariants: results go to stdout, one JSON object a line where a program asked for it; progress
//! and errors go to stderr; the exit status is 0 when all went well, 1 when something was found or
//! failed, 2 for arguments that cannot be.

mod compact;
mod dead_letters;
mod error;
mod export;
mod import;
mod inspect;
mod line;
mod progress;
mod verify;

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use glommio::{LocalExecutorBuilder, Placement};
use serde::Serialize;
use throng_storage_engine::{GlommioDisk, StoreConfig, StoreError, lock, prepare};

pub use self::dead_letters::DlqCommand;
use self::error::ToolError;

/// What the executor of a tool registers for file I/O, in bytes.
const IO_MEMORY_BYTES: usize = 512 << 10;

/// What `throng store` can do.
#[derive(Subcommand, Debug)]
pub enum StoreCommand {
    /// Show what the store consists of.
    Inspect(ToolArgs),
    /// Check every checksum, order and link of every file.
    Verify(ToolArgs),
    /// Write every record as a line of JSON.
    Export(export::ExportArgs),
    /// Read such lines into an empty store, or behind what a store holds.
    Import(import::ImportArgs),
    /// Do now what is due: seal ended days, merge months, drop what is to be kept no longer.
    Compact(ToolArgs),
}

/// What every tool takes.
#[derive(Args, Clone, Debug)]
pub struct ToolArgs {
    /// The server's data directory.
    #[arg(
        long,
        value_name = "DIR",
        env = "THRONG_DATA",
        default_value = "./data"
    )]
    data: PathBuf,
    /// Results as JSON, one object a line.
    #[arg(long)]
    json: bool,
}

/// Runs `throng store`.
#[must_use]
pub fn run_store(command: StoreCommand) -> ExitCode {
    status(match command {
        StoreCommand::Inspect(args) => inspect::run(&args),
        StoreCommand::Verify(args) => verify::run(&args),
        StoreCommand::Export(args) => export::run(&args),
        StoreCommand::Import(args) => import::run(&args),
        StoreCommand::Compact(args) => compact::run(&args),
    })
}

/// Runs `throng dlq`.
#[must_use]
pub fn run_dlq(command: &DlqCommand) -> ExitCode {
    status(dead_letters::run(command))
}

/// Whether nothing was found that is not as it should be.
type Verdict = Result<bool, ToolError>;

fn status(verdict: Verdict) -> ExitCode {
    match verdict {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("throng: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Refuses a directory that was never a store's.
fn require_store(args: &ToolArgs) -> Result<(), ToolError> {
    if args.data.join("segments").is_dir() {
        return Ok(());
    }
    Err(ToolError::NoStore {
        path: args.data.clone(),
    })
}

/// Runs a tool on an existing store that is locked for it.
fn on_store<T, F>(
    args: &ToolArgs,
    tool: impl FnOnce(GlommioDisk, PathBuf, StoreConfig) -> F + Send + 'static,
) -> Result<T, ToolError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ToolError>> + 'static,
{
    require_store(args)?;
    on_executor(&args.data, |disk, root, config| async move {
        let held = lock(&disk, &root).await;
        let held = held.map_err(|error| ToolError::of_lock(error, &root))?;
        prepare(&disk, &root).await?;
        let done = tool(disk, root, config).await;
        drop(held);
        done
    })
}

/// Runs a tool that takes the store's lock by itself, and whose directory need not be a store.
fn on_executor<T, F>(
    data: &Path,
    tool: impl FnOnce(GlommioDisk, PathBuf, StoreConfig) -> F + Send + 'static,
) -> Result<T, ToolError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, ToolError>> + 'static,
{
    // The store's files are opened by absolute paths only.
    let root = std::path::absolute(data).map_err(|source| ToolError::File {
        path: data.to_owned(),
        source,
    })?;
    let executor = LocalExecutorBuilder::new(Placement::Unbound)
        .name("store-tool")
        .io_memory(IO_MEMORY_BYTES)
        .spawn(move || async move {
            let disk = GlommioDisk::at(&root).await.map_err(StoreError::from)?;
            tool(disk, root, StoreConfig::default()).await
        });
    let ended = executor.and_then(|running| running.join());
    ended.map_err(|error| ToolError::Executor {
        source: error.to_string().into(),
    })?
}

/// Writes a result as a line of JSON.
fn say(out: &mut impl Write, value: &impl Serialize) -> Result<(), ToolError> {
    let written = serde_json::to_writer(&mut *out, value).map_err(std::io::Error::from);
    written
        .and_then(|()| out.write_all(b"\n"))
        .map_err(ToolError::Output)
}

/// Writes text for people.
fn tell(out: &mut impl Write, text: std::fmt::Arguments<'_>) -> Result<(), ToolError> {
    writeln!(out, "{text}").map_err(ToolError::Output)
}
