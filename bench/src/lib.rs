//! The load generator: many chat clients, an open-loop plan, and a checker of every promise; and
//! the message store measured by itself, beside others.
//!
//! It meets the server over a socket, like any client: it depends on the wire types and the store
//! and never on the server. Pure parts know no socket, clock or file; `chat`, `setup`, `rest`,
//! `worker`, `socket`, `files`, `store` and `clock` are the edges.
//!
//! Invariants: load follows the plan, never the server's pace; every number that is reported was
//! measured from the intended send time.

pub mod audience;
pub mod chat;
pub mod client;
pub mod clock;
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
pub mod memory;
pub mod oracle;
pub mod plan;
pub mod progress;
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
pub mod swarm;
pub mod tally;
pub mod target;
pub mod upgrade;
pub mod watch;
pub mod worker;
pub mod zipf;
