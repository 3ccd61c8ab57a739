//! Placeholder while the simulation is being written.
//!
//! It never does anything.
//!
//! Invariants: none.
