//! Why the control plane could not start, or a tool of it could not work.
//!
//! Not what a request is answered with: that is `refusal.rs`. No secret appears in an error.
//!
//! Invariants: every variant names the file or thing it is about.

use std::io;
use std::path::PathBuf;

use throng_protocol::GuildId;

/// What can go wrong outside of a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The database file cannot be opened, read or written.
    #[error("database {}: {source}", path.display())]
    Database {
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: sqlx::Error,
    },
    /// The database could not be brought to this version's schema.
    #[error("database {}: migration: {source}", path.display())]
    Migration {
        /// The database file.
        path: PathBuf,
        /// Which step, and why.
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A file or directory below the data directory.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The key file exists but is no key; it is never replaced, since that would end all sessions.
    #[error("{}: a token key has {expected} bytes, this file has {found}", path.display())]
    KeyLength {
        /// The key file.
        path: PathBuf,
        /// Its length.
        found: usize,
        /// The right length.
        expected: usize,
    },
    /// The password cost in the configuration is out of argon2's range.
    #[error("password cost: {0}")]
    PasswordCost(argon2::Error),
    /// The runtime's threads could not be started.
    #[error("control threads: {0}")]
    Threads(io::Error),
    /// The guild that accounts should join does not exist.
    #[error("no guild has the id {0}")]
    NoSuchGuild(GuildId),
    /// The tokens could not be written out.
    #[error("writing tokens: {0}")]
    Output(io::Error),
    /// A token could not be signed.
    #[error("signing a token: {0}")]
    Sign(jsonwebtoken::errors::Error),
}
