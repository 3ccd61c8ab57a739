//! Reports of a suite of benchmarks: what they hold, how they are drawn and compared.
//!
//! It measures nothing and touches no file.
//!
//! Invariants: what draws and compares knows `model` only, and no benchmark.

pub mod compare;
pub mod html;
mod label;
pub mod model;
