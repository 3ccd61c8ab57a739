//! What a seed decides beforehand: how many shards, how slow a disk, and what goes wrong when.
//!
//! It decides no step of the workload.
//!
//! Invariants: one seed gives one plan; at most one fault strikes between two starts.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng_storage_engine::{MaintenanceConfig, Retention, SimFault, SimLatency, StoreConfig};

use crate::node::Setup;

/// A run: starts, each with a number of steps, until the plan or the store ends it.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) setup: Setup,
    pub(crate) latency: SimLatency,
    pub(crate) channels: u8,
    /// Largest body, in bytes.
    pub(crate) body_bytes_max: usize,
    pub(crate) rounds: Vec<Round>,
}

/// From one start of the store to the next.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) shards: u16,
    pub(crate) steps: usize,
    pub(crate) fault: Fault,
    pub(crate) end: End,
}

/// What goes wrong in a round. Counts are from the round's start, recovery included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Nothing,
    /// The power is cut in this change.
    PowerCut {
        change: u64,
    },
    /// This operation goes wrong.
    Operation {
        number: u64,
        fault: SimFault,
    },
    /// The disk has only so much room left, for some steps.
    Full {
        from_step: usize,
        steps: usize,
        room_bytes: u64,
    },
    /// A bit of some file flips.
    FlipAtRest {
        step: usize,
    },
}

/// How a round ends if nothing ends it before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// In order.
    Close,
    /// The process dies; the machine goes on.
    Kill,
    /// The power is cut.
    Crash,
}

impl Plan {
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x504c_414e);
        let rounds = rng.random_range(2..5);
        let max_us = *choose(&mut rng, &[0, 0, 50, 3000]);
        Self {
            setup: Setup {
                store: store(&mut rng),
                maintenance: maintenance(&mut rng),
            },
            latency: SimLatency { min_us: 0, max_us },
            channels: rng.random_range(3..14),
            body_bytes_max: *choose(&mut rng, &[40, 300, 2500]),
            rounds: (0..rounds).map(|_| Round::draw(&mut rng)).collect(),
        }
    }

    /// The same run with nothing going wrong but this, in the first round.
    pub(crate) fn with_only(mut self, fault: Fault) -> Self {
        for round in &mut self.rounds {
            round.fault = Fault::Nothing;
        }
        self.rounds[0].fault = fault;
        self
    }
}

impl Round {
    fn draw(rng: &mut StdRng) -> Self {
        Self {
            shards: rng.random_range(1..4),
            steps: rng.random_range(5..60),
            fault: draw_fault(rng),
            end: *choose(rng, &[End::Close, End::Kill, End::Crash]),
        }
    }
}

fn draw_fault(rng: &mut StdRng) -> Fault {
    let operation = |rng: &mut StdRng, faults: &[SimFault]| Fault::Operation {
        number: count(rng, 800),
        fault: *choose(rng, faults),
    };
    match rng.random_range(0..100) {
        0..=14 => Fault::Nothing,
        15..=44 => Fault::PowerCut {
            change: count(rng, 600),
        },
        45..=59 => operation(rng, &[SimFault::Io, SimFault::Short, SimFault::Full]),
        60..=69 => Fault::Full {
            from_step: rng.random_range(0..30),
            steps: rng.random_range(1..25),
            room_bytes: rng.random_range(0..200_000),
        },
        70..=79 => Fault::FlipAtRest {
            step: rng.random_range(0..60),
        },
        _ => operation(
            rng,
            &[SimFault::Lost, SimFault::Misdirected, SimFault::Flipped],
        ),
    }
}

/// A count from 1, rather small than large: a short round has fewer operations.
fn count(rng: &mut StdRng, max: u64) -> u64 {
    let max = rng.random_range(1..=max);
    rng.random_range(1..=max)
}

fn choose<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// Small segments and buffers, so that everything fills quickly.
fn store(rng: &mut StdRng) -> StoreConfig {
    StoreConfig {
        segment_bytes: *choose(rng, &[48 << 10, 64 << 10, 128 << 10]),
        commit_bytes_max: 16 << 10,
        record_bytes_max: 8 << 10,
        read_gap_bytes_max: *choose(rng, &[0, 4096, 64 << 10]),
        read_bytes_max: *choose(rng, &[8 << 10, 64 << 10]),
        reads_at_once_max: *choose(rng, &[1, 4, 16]),
        open_files_max: *choose(rng, &[1, 3, 64]),
        open_indexes_max: *choose(rng, &[1, 64]),
        unindexed_segments_max: *choose(rng, &[1, 2, 8]),
        cache_bytes: *choose(rng, &[0, 32 << 10, 1 << 20]),
        spares_max: *choose(rng, &[1, 2, 4]),
        recent_bytes: *choose(rng, &[0, 8 << 10, 1 << 20]),
        recent_messages_max: *choose(rng, &[1, 10, 128]),
        page_step_max: *choose(rng, &[1, 7, 1024]),
        chunk_bytes: *choose(rng, &[4096, 16 << 10, 32 << 10]),
        ..StoreConfig::default()
    }
}

fn maintenance(rng: &mut StdRng) -> MaintenanceConfig {
    let days_max = [None, None, None, Some(rng.random_range(1..60))];
    MaintenanceConfig {
        grace_ms: *choose(rng, &[0, 15 * 60 * 1000]),
        sort_bytes_max: *choose(rng, &[1, 200_000, 64 << 20]),
        merge_inputs_max: *choose(rng, &[2, 64]),
        zstd_level: 1,
        merge_months: rng.random_ratio(3, 4),
        neighbours_bytes_max: *choose(rng, &[0, 60_000, 4 << 30]),
        retention: Retention {
            days_max: *choose(rng, &days_max),
            ..Retention::default()
        },
        erase_wait_ms: *choose(rng, &[0, 6 * 60 * 60 * 1000]),
        checkpoint_segments: *choose(rng, &[1, 3, 16]),
        ..MaintenanceConfig::default()
    }
}
