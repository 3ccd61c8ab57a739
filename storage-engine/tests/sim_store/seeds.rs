//! The tests: many seeds, one seed twice, and single faults in every place of a short run.
//!
//! The number of seeds comes from `THRONG_SIM_STORE_SEEDS`; `THRONG_SIM_STORE_SEED` repeats one.
//!
//! Invariants: a failing seed is printed with how to repeat it; a set in which a kind of fault
//! never struck fails, too, since it would prove nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};

use throng_storage_engine::SimFault;

use crate::plan::{End, Fault, Plan};
use crate::run::{Outcome, run};

const SEEDS: u64 = 300;
const FAILURES_MAX: usize = 20;
/// Seeds that found something, beyond those that every run runs.
const FOUND: [u64; 1] = [5510];

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number")),
    )
}

/// Sums over all runs.
#[derive(Default)]
struct Totals {
    acknowledged: u64,
    cuts: u64,
    poisoned: u64,
    full: u64,
    reported: u64,
    sealed: u64,
    merged: u64,
    dropped: u64,
    erased: u64,
    refused: u64,
    harmed: u64,
}

impl Totals {
    fn add(&mut self, outcome: &Outcome) {
        self.acknowledged += outcome.acknowledged;
        self.cuts += outcome.cuts;
        self.poisoned += outcome.poisoned;
        self.full += outcome.full;
        self.reported += outcome.reported;
        self.sealed += outcome.sealed;
        self.merged += outcome.merged;
        self.dropped += outcome.dropped;
        self.erased += outcome.erased;
        self.refused += u64::from(outcome.refused);
        self.harmed += u64::from(outcome.harmed);
    }

    fn print(&self, done: u64, seeds: u64) {
        eprintln!(
            "{done} of {seeds} seeds: {} records acknowledged, {} days sealed, {} merges, \
             {} buckets dropped, {} rewritten to erase, {} power cuts, {} logs poisoned, \
             {} commits refused by a full disk, harm done in {} runs, {} of which did not open, \
             {} reads named it",
            self.acknowledged,
            self.sealed,
            self.merged,
            self.dropped,
            self.erased,
            self.cuts,
            self.poisoned,
            self.full,
            self.harmed,
            self.refused,
            self.reported
        );
    }

    fn assert_telling(&self) {
        let all = [
            self.acknowledged,
            self.cuts,
            self.poisoned,
            self.full,
            self.reported,
            self.refused,
            self.sealed,
            self.merged,
            self.dropped,
            self.erased,
        ];
        assert!(
            all.iter().all(|count| *count > 0),
            "some fault never struck"
        );
    }
}

#[test]
fn seeds() {
    if let Some(seed) = number("THRONG_SIM_STORE_SEED") {
        repeat(seed);
        return;
    }
    let seeds = number("THRONG_SIM_STORE_SEEDS").unwrap_or(SEEDS);
    let mut totals = Totals::default();
    let mut failed = Vec::new();
    for seed in 0..seeds {
        match catch_unwind(AssertUnwindSafe(|| run(seed, Plan::of_seed(seed), false))) {
            Ok(outcome) => totals.add(&outcome),
            Err(_) => {
                eprintln!("seed {seed} failed; repeat with THRONG_SIM_STORE_SEED={seed}");
                failed.push(seed);
            }
        }
        if (seed + 1) % (seeds / 20).max(1) == 0 {
            totals.print(seed + 1, seeds);
        }
        if failed.len() == FAILURES_MAX {
            break;
        }
    }
    FOUND
        .into_iter()
        .for_each(|seed| _ = run(seed, Plan::of_seed(seed), false));
    assert!(failed.is_empty(), "violations in seeds {failed:?}");
    if seeds >= SEEDS {
        totals.assert_telling();
    }
}

fn repeat(seed: u64) {
    let plan = Plan::of_seed(seed);
    eprintln!("seed {seed}: {plan:#?}");
    run(seed, plan, true);
}

#[test]
fn one_seed_gives_one_trace() {
    let trace = |seed| run(seed, Plan::of_seed(seed), false).trace;
    for seed in 0..20 {
        assert!(
            trace(seed) == trace(seed),
            "seed {seed} differs from itself"
        );
    }
    assert!(trace(1) != trace(2));
}

/// A run of one round in which only this goes wrong.
fn short_run(seed: u64, fault: Fault) -> Outcome {
    let mut plan = Plan::of_seed(seed).with_only(fault);
    plan.rounds.truncate(1);
    plan.rounds[0].steps = 25;
    plan.rounds[0].end = End::Close;
    run(seed, plan, false)
}

#[test]
fn the_power_is_cut_in_every_change() {
    for seed in 0..4 {
        let mut change = 1;
        while short_run(seed, Fault::PowerCut { change }).cuts > 0 {
            change += 1;
        }
        assert!(change > 50, "seed {seed}: {change} changes are few");
    }
}

#[test]
fn every_operation_fails_once() {
    for fault in [SimFault::Io, SimFault::Full] {
        for number in 1..200 {
            short_run(7, Fault::Operation { number, fault });
        }
    }
}
