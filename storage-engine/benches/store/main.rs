//! What the store costs without its device: commits made ready, written and indexed, and pages.
//!
//! The disk is the simulated one, in memory and without delay: no file is touched. `cargo bench -p
//! throng-storage-engine` measures, `cargo test` does everything once. What a device adds,
//! `examples/commit_rate.rs` measures.
//!
//! Invariant: inputs are the same at every run.

mod append;
mod page;
mod stage;

fn main() {
    divan::main();
}
