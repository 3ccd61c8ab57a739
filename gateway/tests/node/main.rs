//! The server from outside: the real binary, real sockets, real files.
//!
//! Nothing of the server is replaced or looked into; what is asserted is what a client, an
//! operator or a script sees.
//!
//! Invariants: each test has its own data directory, process and port; whatever is waited for has
//! a bound, and running into it fails the test; no process outlives its test.

#![expect(clippy::unwrap_used, reason = "in a test a panic is the report")]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start threads, wait and look into files"
)]

mod client;
mod place;
mod process;
mod raw;
mod rest;

mod chatting;
mod compressed;
mod crowded;
mod damage;
mod echo;
mod http;
mod killed;
mod outsiders;
mod resume;
mod seeding;
mod settings;
mod silence;
mod slow;
mod stopping;
mod terminal;
mod tools;
mod violations;
