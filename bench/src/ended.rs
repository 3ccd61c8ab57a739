//! Why a connection is over.
//!
//! It says nothing about what was promised on it: a disconnect is no broken promise, since
//! clients resume.
//!
//! Invariants: the text of a reason is the same for all clients that met it, so that reasons can
//! be counted.

use throng_protocol::ErrorCode;
use throng_protocol::frame::ProtocolError;

use crate::upgrade::UpgradeError;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The operating system says so.
    #[error("{}", .0.kind())]
    Io(#[from] std::io::Error),
    /// The handshake failed.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// The server broke the framing.
    #[error("protocol error: {0}")]
    Protocol(#[from] ProtocolError),
    /// The server sent something that is no event.
    #[error("not an event: {0}")]
    NotAnEvent(#[from] serde_json::Error),
    /// The server closed with this code; none when it just closed.
    #[error("closed{}", .0.map_or_else(String::new, |code| format!(" with {code}")))]
    Closed(Option<u16>),
    /// The server said RECONNECT and has answered everything.
    #[error("asked to reconnect")]
    AskedToLeave,
    /// IDENTIFY or SUBSCRIBE_CHANNEL was refused.
    #[error("refused with {code}: {message}")]
    Refused {
        /// The code.
        code: ErrorCode,
        /// The server's words.
        message: String,
        /// When to come back, milliseconds.
        retry_after_ms: Option<u64>,
    },
    /// The connection got nowhere for too long.
    #[error("timed out")]
    TimedOut,
}

impl Ended {
    /// Whether trying again cannot help.
    #[must_use]
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                code: ErrorCode::InvalidSession
                    | ErrorCode::PermissionDenied
                    | ErrorCode::ChannelNotFound
                    | ErrorCode::InvalidPayload,
                ..
            }
        )
    }
}
