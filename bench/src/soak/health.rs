//! What the server says of itself: `GET /health`.
//!
//! It asks on a connection of its own each time, and keeps none.
//!
//! Invariants: an answer is bounded in bytes and in time; no answer is `None`, never a zero.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde::Deserialize;

use crate::target::Target;

const PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// The counts that matter here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub(super) struct Health {
    /// Open sockets.
    pub(super) connections: u64,
    /// Identified sessions.
    pub(super) sessions: u64,
}

impl Health {
    /// What the server says now; none when it does not answer in time.
    pub(super) fn of(target: &Target) -> Option<Self> {
        let mut stream = TcpStream::connect_timeout(&target.address, PATIENCE).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        let request = format!(
            "GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            target.authority
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_string(&mut answer)
            .ok()?;
        Self::parse(&answer)
    }

    fn parse(answer: &str) -> Option<Self> {
        let body = answer.split_once("\r\n\r\n")?.1;
        serde_json::from_str(body).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_and_none() {
        let body = r#"{"status":"healthy","connections":3,"sessions":2,"shards":[]}"#;
        let found = Health::parse(&format!("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{body}"));
        let (connections, sessions) = (3, 2);
        assert_eq!(
            found,
            Some(Health {
                connections,
                sessions
            })
        );
        assert_eq!(Health::parse("HTTP/1.1 503 No\r\n\r\n"), None);
    }
}
