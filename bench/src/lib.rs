//! The load generator: chat clients by the thousand whose every promise is checked, or by the
//! million whose deliveries are; and the message store measured by itself, beside others.
//!
//! It meets the server over a socket, like any client: it depends on the wire types and the store
//! and never on the server. Pure parts know no socket, clock or file; the edges are `chat`,
//! `setup`, `rest`, `reading`, `machine`, `interrupt`, `process`, `program`, `suite::child`, `suite::server`, `worker`, `socket`, `files`, `store`, `clock`, `memory`, `loopback`, `soak`,
//! `echo`, `fanout::bare`, `peers::places`, `peers::server`, and of `swarm` what holds rings, addresses and tokens.
//!
//! Invariants: in an open loop, load follows the plan, never the server's pace, and latencies count
//! from the intended send time; a closed loop (`echo`, `fanout --closed`) is called one, and its
//! figures are rates beside a yardstick's.

pub mod audience;
pub mod chat;
pub mod client;
pub mod clock;
pub mod compare;
pub mod connect;
pub mod corpus;
pub mod echo;
pub mod ended;
pub mod error;
pub mod fanout;
pub mod files;
pub mod heard;
pub mod history;
pub mod idle;
pub mod index;
mod interrupt;
pub mod loopback;
pub mod machine;
pub mod memory;
pub mod oracle;
pub mod peers;
pub mod plan;
mod process;
mod program;
pub mod progress;
pub mod reading;
pub mod report;
pub mod rest;
pub mod run;
pub mod schedule;
pub mod setup;
pub mod shared;
pub mod soak;
pub mod socket;
pub mod store;
pub mod storm;
pub mod suite;
pub mod swarm;
pub mod tally;
pub mod target;
pub mod upgrade;
pub mod watch;
pub mod worker;
pub mod zipf;
