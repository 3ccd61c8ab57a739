//! Makes a new migration rebuild the crate that embeds it.
//!
//! Generates nothing.
//!
//! Without this, Cargo sees only changes of migrations that were there before.

fn main() {
    println!("cargo::rerun-if-changed=migrations");
}
