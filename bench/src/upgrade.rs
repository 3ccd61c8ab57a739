//! The client's half of the WebSocket handshake (RFC 6455, section 4.1).
//!
//! It never asks for an extension or a subprotocol and never follows a redirect.
//!
//! Invariants: what it keeps of an answer is bounded; bytes behind the answer's head are frames
//! already and are handed on.

use tungstenite::handshake::derive_accept_key;

/// The longest answer head, bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Why there is no WebSocket.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The server refused.
    #[error("the handshake was answered with {status}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// When to come back, milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The answer is no HTTP.
    #[error("the handshake was not answered with HTTP")]
    NotHttp,
    /// `Sec-WebSocket-Accept` does not fit the key.
    #[error("the handshake was answered for another key")]
    WrongKey,
}

impl UpgradeError {
    /// When the server wants the client back, milliseconds.
    #[must_use]
    pub const fn retry_after_ms(&self) -> Option<u64> {
        match self {
            Self::Refused { retry_after_ms, .. } => *retry_after_ms,
            Self::NotHttp | Self::WrongKey => None,
        }
    }
}

/// A handshake under way.
#[derive(Debug)]
pub struct Upgrade {
    accept: String,
    head: Vec<u8>,
}

impl Upgrade {
    /// A handshake and the request that starts it. `key` is 16 random bytes in base64.
    #[must_use]
    pub fn begin(authority: &str, key: &str) -> (Self, String) {
        let request = format!(
            "GET /gateway HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        (
            Self {
                accept: derive_accept_key(key.as_bytes()),
                head: Vec::new(),
            },
            request,
        )
    }

    /// More of the answer arrived. Once it is whole, gives the bytes behind it.
    ///
    /// # Errors
    /// When there will be no WebSocket.
    pub fn received(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, UpgradeError> {
        self.head.extend_from_slice(bytes);
        let Some(end) = self
            .head
            .windows(4)
            .position(|window| window == b"\r\n\r\n")
        else {
            let is_endless = self.head.len() > HEAD_BYTES_MAX;
            return if is_endless {
                Err(UpgradeError::NotHttp)
            } else {
                Ok(None)
            };
        };
        let rest = self.head.split_off(end + 4);
        let head = std::str::from_utf8(&self.head).map_err(|_| UpgradeError::NotHttp)?;
        let status = status(head).ok_or(UpgradeError::NotHttp)?;
        if status != 101 {
            let seconds = header(head, "retry-after").and_then(|value| value.parse::<u64>().ok());
            let retry_after_ms = seconds.map(|seconds| seconds.saturating_mul(1000));
            return Err(UpgradeError::Refused {
                status,
                retry_after_ms,
            });
        }
        if header(head, "sec-websocket-accept") != Some(&self.accept) {
            return Err(UpgradeError::WrongKey);
        }
        Ok(Some(rest))
    }
}

fn status(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn the_example_of_the_rfc_in_any_split() {
        let (_, request) = Upgrade::begin("host:1", KEY);
        assert!(
            request.contains("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
            "{request}"
        );
        let answer = format!("{ANSWER}frames");
        for split in 0..=ANSWER.len() {
            let (mut upgrade, _) = Upgrade::begin("host:1", KEY);
            let (first, second) = answer.as_bytes().split_at(split);
            let rest = match upgrade.received(first).unwrap() {
                Some(rest) => [&rest, second].concat(),
                None => upgrade.received(second).unwrap().unwrap(),
            };
            assert_eq!(rest, b"frames", "split at {split}");
        }
    }

    #[test]
    fn refusals() {
        let check = |answer: &str, expected: UpgradeError| {
            let (mut upgrade, _) = Upgrade::begin("host:1", KEY);
            assert_eq!(upgrade.received(answer.as_bytes()), Err(expected));
        };
        check(
            "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\n\r\n",
            UpgradeError::Refused {
                status: 503,
                retry_after_ms: Some(2000),
            },
        );
        check("SSH-2.0\r\n\r\n", UpgradeError::NotHttp);
        check(&ANSWER.replace("s3p", "xxx"), UpgradeError::WrongKey);
        check(&"x".repeat(HEAD_BYTES_MAX + 1), UpgradeError::NotHttp);
    }
}
