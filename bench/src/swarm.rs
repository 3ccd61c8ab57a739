//! A swarm: clients by the million on one thread.
//!
//! The other generator (`worker`) checks everything of thousands of clients; this one holds as many
//! as the machine has memory for and looks only at what it counts. It depends on the wire types
//! alone and never on the server.
//!
//! Invariants: a client that idles costs the generator less than 16 bytes, and 20 more for each
//! subscription where deliveries are checked, and the kernel one socket and one poll; every queue is
//! bounded by the number of clients.

pub mod addresses;
mod buffers;
pub mod calibrate;
pub mod course;
pub mod crowd;
pub mod frames;
pub(crate) mod hold;
pub mod ledger;
pub mod links;
pub mod options;
pub(crate) mod outgoing;
pub mod people;
pub(crate) mod ring;
pub mod scan;
pub mod speech;
pub mod talk;
pub mod tokens;
pub mod voice;

pub use buffers::BufferSizes;
