//! The simulation: several shards, their lanes, store, control plane and hundreds of clients in
//! one thread, on virtual time, from one seed.
//!
//! It touches no socket, file or clock of the machine. A failure is one number:
//! `THRONG_SIM_SEED=7 cargo test --release -p throng --test sim seeds -- --nocapture` runs that
//! seed and prints its trace; `THRONG_SIM_SEEDS=1000` runs so many.
//!
//! Invariants: what a run does follows from its seed alone; a run that ends was checked by the
//! oracle from its first message to its last.

mod act;
mod answer;
mod client;
mod control;
mod counts;
mod ending;
mod faults;
mod hear;
mod history;
mod journal;
mod keeper;
mod link;
mod listen;
mod misbehave;
mod network;
mod node;
mod notes;
mod oracle;
mod part;
mod plan;
mod queue;
mod scenario;
mod serve;
mod speak;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use counts::{Counts, Happening};
use plan::Plan;
use world::World;

/// Seeds that every test run runs.
const SEEDS: u64 = 96;

/// Lines of the trace that are shown with a failure.
const LINES_SHOWN: usize = 60;

/// What came of one seed.
struct Outcome {
    counts: Counts,
    digest: (u64, u64),
    messages: usize,
    last: Vec<String>,
}

/// Runs one plan to its end; a failure says how to run it again.
fn run(plan: Plan, aloud: bool, course: impl FnOnce(&mut World)) -> Outcome {
    let seed = plan.seed;
    let mut world = World::new(plan, aloud);
    let ended = catch_unwind(AssertUnwindSafe(|| course(&mut world)));
    if let Err(panic) = ended {
        let last = world.trace.last(LINES_SHOWN).join("\n");
        eprintln!("{last}\nseed {seed} failed; to see it again:");
        eprintln!("THRONG_SIM_SEED={seed} cargo test --release -p throng --test sim seeds");
        std::panic::resume_unwind(panic);
    }
    Outcome {
        digest: world.trace.digest(),
        messages: world.oracle.messages(),
        last: world.trace.last(LINES_SHOWN),
        counts: world.counts,
    }
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")),
    )
}

/// Runs seeds on every core; returns all counts together.
fn run_seeds(seeds: u64) -> Counts {
    let next = AtomicU64::new(0);
    let (all, failed) = (Mutex::new(Counts::default()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let ran = catch_unwind(|| run(Plan::of_seed(seed), false, World::run));
            match ran {
                Ok(outcome) => {
                    let messages = outcome.messages;
                    println!(
                        "seed {seed}: {messages} messages, {}",
                        outcome.counts.line()
                    );
                    all.lock()
                        .expect("no panic holds it")
                        .merge(&outcome.counts);
                }
                Err(_) => failed.lock().expect("no panic holds it").push(seed),
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let failed = failed.into_inner().expect("no panic holds it");
    assert!(failed.is_empty(), "these seeds failed: {failed:?}");
    all.into_inner().expect("no panic holds it")
}

/// Many lives of the server, whatever the seeds have in store for it.
#[test]
fn seeds() {
    if let Some(seed) = number("THRONG_SIM_SEED") {
        let outcome = run(Plan::of_seed(seed), true, World::run);
        return eprintln!("seed {seed}: {}", outcome.counts.line());
    }
    let seeds = number("THRONG_SIM_SEEDS").unwrap_or(SEEDS);
    let counts = run_seeds(seeds);
    // Most commits of the seeds are too small to be torn; a story of its own tears some.
    let mut missing = counts.missing();
    missing.retain(|happening| !Happening::IN_STORIES.contains(happening));
    assert!(
        seeds < SEEDS || missing.is_empty(),
        "none of the seeds did this: {missing:?}"
    );
}

/// A seed decides everything: two runs of it are the same, line by line.
#[test]
fn same_seed_same_trace() {
    for seed in [3, 11] {
        let [first, second] = [(); 2].map(|()| run(Plan::of_seed(seed), false, World::run));
        assert_eq!(first.last, second.last, "seed {seed}");
        assert_eq!(first.digest, second.digest, "seed {seed}");
        assert!(first.digest.1 > 10_000, "seed {seed} hardly did anything");
    }
}
