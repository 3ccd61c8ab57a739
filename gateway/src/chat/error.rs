//! Why the terminal client cannot go on, or could not do what was asked.
//!
//! It holds no token and no password: a message may be shown to anybody who looks on.
//!
//! Invariants: every message is a sentence for the person at the terminal.

use std::io;
use std::path::PathBuf;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub(super) enum ChatError {
    #[error("the target {target:?} is not of the form http://HOST:PORT")]
    Target { target: String },
    #[error("the server cannot be reached: {source}")]
    Unreachable { source: Box<ureq::Error> },
    #[error("{message} ({code})")]
    Refused {
        status: u16,
        code: String,
        message: String,
    },
    #[error("the server's answer cannot be read: {source}")]
    BadAnswer { source: Box<ureq::Error> },
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} holds no token", path.display())]
    NoToken { path: PathBuf },
    #[error("a user name and a password are needed")]
    NoCredentials,
    #[error("{doing}: {source}")]
    System {
        doing: &'static str,
        source: io::Error,
    },
    #[error("{source}")]
    Socket { source: Box<tungstenite::Error> },
    #[error("the server said something that is no event: {source}")]
    NotAnEvent { source: serde_json::Error },
    #[error("the server closed the connection{}", .code.map_or_else(String::new, |code| format!(" with {code}")))]
    Closed { code: Option<u16> },
    #[error("this session is not good any more, log in again: {message}")]
    InvalidSession { message: String },
    #[error("the server asked to reconnect")]
    AskedToReconnect,
    #[error("there is no channel {wanted:?}; /channels lists what there is")]
    NoChannel { wanted: String },
    #[error("enter a channel first: /channels lists them, /create NAME makes a guild")]
    Nowhere,
    #[error("{messages} message(s) were not answered")]
    Unanswered { messages: usize },
}
