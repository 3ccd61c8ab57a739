//! What can go wrong between a shard and the kernel.
//!
//! Only what ends a shard or keeps it from starting is here. A socket that fails is no error: the
//! application hears `Input::Closed`.
//!
//! Invariant: each message says what was attempted and on what, so that an operator can act on it.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;

/// Why an edge did not start or had to end.
#[derive(Debug, Error)]
pub enum EdgeError {
    /// The kernel lacks what the sockets need.
    #[error("this kernel has no {missing}: Linux 6.8 or newer is needed")]
    KernelTooOld {
        /// The missing feature.
        missing: &'static str,
    },
    /// A call into the kernel failed.
    #[error("{attempted} failed: {source}")]
    Kernel {
        /// What was attempted.
        attempted: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error("{address} is in use")]
    AddressInUse {
        /// The address.
        address: SocketAddr,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// An executor did not start.
    #[error("the executor of shard {shard} did not start: {source}")]
    Executor {
        /// Which shard.
        shard: u16,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// What a shard needs before it serves could not be had.
    #[error("shard {shard} did not start: {source}")]
    Start {
        /// Which shard.
        shard: u16,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A shard's thread ended by a panic; its message is on stderr.
    #[error("shard {shard} ended unexpectedly")]
    ShardDied {
        /// Which shard.
        shard: u16,
    },
}

impl EdgeError {
    /// For `map_err`: names what was attempted.
    pub(super) fn kernel(attempted: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Kernel { attempted, source }
    }
}
