//! The store as a whole, on the simulated disk and on a real one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod crash;
mod damage;
mod faults;
mod golden;
mod paging;
mod real_disk;
mod world;
