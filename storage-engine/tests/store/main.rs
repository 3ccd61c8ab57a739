//! The store as a whole, on the simulated disk and on a real one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod consuming;
mod crash;
mod damage;
mod dead_letters;
mod faults;
mod golden;
mod indexes;
mod paging;
mod real_disk;
mod rebuilding;
mod tools;
mod world;
