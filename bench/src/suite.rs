//! A suite's report.
//!
//! It runs nothing.
//!
//! Invariants: those of its parts.

pub mod model;
