//! The metadata database: one SQLite file, opened here.
//!
//! Holds accounts, guilds, channels, members and invites; never a message. No statement stands in
//! this file: reading is `lookup.rs`, changing `accounts.rs`, `guilds.rs` and `seed.rs`.
//!
//! Invariants: journal in WAL mode, so that readers and another process never block on a writer;
//! `synchronous = FULL`, so that what was answered with 2xx survives a power loss, as an
//! acknowledged message does (such changes are rare, a sync each is cheap); one writer at a time.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Sqlite, Transaction};

use crate::error::ControlError;

/// How long a statement waits for another process's write.
const BUSY_MAX: Duration = Duration::from_secs(10);
/// How long a request waits for a connection to the database.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);
/// After so long without a request a reader is closed, with its thread and its memory. The writer
/// stays: when the last connection closes, SQLite writes its log back and removes it. How long the
/// edge waits until it gives free memory back (`edge/trim.rs`) depends on it.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// A statement takes a fraction of a millisecond, so few keep up; each has a thread with its memory.
const READERS: u32 = 2;
/// Each reader's page cache, in KiB as a negative number: the upper pages of the trees. What is
/// below, the kernel caches once for all of them, and gives back when memory is short.
const READER_CACHE: &str = "-128";

/// The open database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    /// For statements that change nothing.
    pub(crate) readers: SqlitePool,
    writer: SqlitePool,
    path: PathBuf,
}

impl Database {
    /// Opens `control.db` below `data_dir`, both made when missing, and migrates it.
    pub(crate) async fn open(data_dir: &Path) -> Result<Self, ControlError> {
        let path = data_dir.join("control.db");
        make_private_file(data_dir, &path).map_err(|source| ControlError::File {
            path: path.clone(),
            source,
        })?;
        let failed = |source| ControlError::Database {
            path: path.clone(),
            source,
        };
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_MAX);
        let pool = |connections, idle_max: Option<Duration>| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(ACQUIRE_MAX)
                .idle_timeout(idle_max)
        };
        let writer = pool(1, None)
            .connect_with(options.clone())
            .await
            .map_err(failed)?;
        sqlx::migrate!("./migrations")
            .run(&writer)
            .await
            .map_err(|source| ControlError::Migration {
                path: path.clone(),
                source: Box::new(source),
            })?;
        let readers = options.pragma("cache_size", READER_CACHE);
        let readers = pool(READERS, Some(IDLE_MAX)).connect_with(readers);
        let readers = readers.await.map_err(failed)?;
        Ok(Self {
            readers,
            writer,
            path,
        })
    }

    /// Begins a change. Takes the write lock at once: a transaction that reads first and locks
    /// later could find what it read changed, and would have to start over.
    pub(crate) async fn write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// Whether a statement can be run.
    pub(crate) async fn probe(&self) -> Result<(), sqlx::Error> {
        sqlx::query("SELECT count(*) FROM sqlite_schema")
            .execute(&self.readers)
            .await
            .map(|_| ())
    }

    /// For a tool: names the file in the error.
    pub(crate) fn failed(&self, source: sqlx::Error) -> ControlError {
        ControlError::Database {
            path: self.path.clone(),
            source,
        }
    }

    /// Waits for the connections in use, then closes all.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// SQLite gives its files the rights of the database file, which holds password hashes.
fn make_private_file(dir: &Path, path: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(path)
        .map(drop)
}

/// The id in a column of 16 bytes.
pub(crate) fn id16(column: &[u8]) -> Result<[u8; 16], sqlx::Error> {
    column
        .try_into()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// A list of ids as one bound value: `IN (SELECT unhex(value) FROM json_each(?))` is one prepared
/// statement for lists of any length.
pub(crate) fn json_ids(ids: impl IntoIterator<Item = u128>) -> String {
    let mut json = String::from("[");
    for id in ids {
        if json.len() > 1 {
            json.push(',');
        }
        json.push_str(&format!("\"{id:032x}\""));
    }
    json.push(']');
    json
}
