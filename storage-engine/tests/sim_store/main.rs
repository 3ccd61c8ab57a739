//! The whole store on a simulated disk that fails: workloads, faults and their judgement, all from
//! one seed. `make sim-store SEEDS=10000` runs many; `THRONG_SIM_STORE_SEED=7` repeats one and
//! prints what it did.
//!
//! It never looks into the store's files or its memory: it knows what it was told.
//!
//! Invariants: what was acknowledged survives every crash, in order, without gap or duplicate; what
//! was not is there wholly or not at all; damage is named, never served and never cut away; a
//! full disk refuses softly and only for as long as it is full.

mod judge;
mod model;
mod node;
mod plan;
mod run;
mod seeds;
mod steps;
mod writer;
