//! The control plane from outside: real sockets handed over, real SQLite, shards that answer from
//! a script.
//!
//! Nothing of the control plane is replaced; the shards are, since their queues are the boundary.
//!
//! Each test has its own data directory, server and port.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start threads, wait and look into files"
)]

mod accounts;
mod asks;
mod guilds;
mod history;
mod http;
mod stage;
