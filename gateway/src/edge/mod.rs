//! The edge: everything of the gateway that touches the kernel.
//!
//! Nothing here decides what a client may do or what a message means; that is the application's,
//! which is pure. One executor per core drives one pump, its rings of sockets and the lanes to the
//! other shards.
//!
//! Invariants: shards share nothing mutable but bounded lanes; no call that may block runs on a
//! shard's thread once it serves; memory that the kernel uses outlives its use.

mod admission;
mod buffers;
mod clock;
mod config_file;
mod echo_server;
mod error;
mod executor;
mod gathering;
mod http;
mod inbox;
mod journal;
mod lane;
mod listen;
mod maintenance;
mod memory;
mod node;
mod operation;
mod plan;
mod pump;
mod reports;
mod ring;
mod rings;
mod services;
mod settings;
mod signal;
mod socket;
mod sockets;
mod transitions;
mod trim;
mod wake;

#[cfg(test)]
pub(crate) use socket::SOCKET_BYTES;

pub use clock::NodeClock;
pub use config_file::{ConfigFileError, load};
pub use echo_server::run_echo;
pub use error::EdgeError;
pub use executor::{Drain, ShardParts, Shards};
pub use http::TakeOver;
pub use lane::{Lanes, connect};
pub use node::{NodeError, serve};
pub use pump::{NoServices, Services};
pub use settings::EdgeSettings;
pub use signal::on_terminate;
pub use wake::{Bell, ShardWaker};

#[cfg(test)]
mod tests;
