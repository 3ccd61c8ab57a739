//! What a seed decides before a run begins: sizes, limits, delays, faults.
//!
//! It runs nothing. A scenario starts from [`Plan::calm`] and changes what it is about.
//!
//! Invariants: the same seed gives the same plan; every configuration passes the server's own
//! check; faults end before the run's active time does.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng::config::Config;
use throng::limits::Rate;
use throng_storage_engine::{SimLatency, StoreConfig};

/// Half an hour before midnight UTC, 2026-11-21, in milliseconds since 1970.
const EVENING_MS: u64 = 1_795_303_800_000;

const SECOND_US: u64 = 1_000_000;

/// A range of delays in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delay {
    pub(crate) min_us: u64,
    pub(crate) max_us: u64,
}

impl Delay {
    pub(crate) fn draw(self, random: &mut StdRng) -> u64 {
        random.random_range(self.min_us..=self.max_us)
    }
}

/// What goes wrong, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// The machine stops; what was not synced may be lost or torn.
    PowerCut,
    /// The same, in the middle of a change of the disk, after so many others.
    PowerCutInWrite { changes: u64 },
    /// The process is killed; what it wrote stays.
    Kill,
    /// A write or sync of the journal fails.
    DiskError,
    /// No new file fits, for so long.
    DiskFull { us: u64 },
    /// The control plane's database is away, for so long.
    ControlOutage { us: u64 },
    /// The process is asked to end, and started again.
    Drain,
    /// Somebody joins a guild.
    Join,
}

/// How one run goes.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shards_max: u16,
    pub(crate) users: usize,
    pub(crate) clients: usize,
    pub(crate) guilds: usize,
    pub(crate) channels_per_guild: usize,
    /// Bytes that each guild's name is padded to.
    pub(crate) guild_name_bytes: usize,
    /// Clients of a hundred that misbehave in some way.
    pub(crate) odd_percent: u32,
    /// Until then clients do new things and faults happen.
    pub(crate) active_us: u64,
    /// Time between two actions of one client, on average.
    pub(crate) pace_us: u64,
    /// One action in so many is a run of many messages; 0 = none.
    pub(crate) burst_every: u32,
    pub(crate) base_ms: u64,
    pub(crate) config: Config,
    pub(crate) store: StoreConfig,
    pub(crate) network: Delay,
    /// Bytes that the kernels on both sides hold for one client.
    pub(crate) room_bytes: usize,
    pub(crate) lane: Delay,
    /// Until a shard goes on with what it has to do.
    pub(crate) again: Delay,
    pub(crate) control: Delay,
    pub(crate) disk: SimLatency,
    pub(crate) faults: Vec<(u64, Fault)>,
}

impl Plan {
    /// A few well-behaved clients, two shards, no faults, no rate limits.
    pub(crate) fn calm(seed: u64) -> Self {
        let config = config(Rate {
            count: 0,
            window_s: 5,
        });
        Self {
            seed,
            shards_max: 2,
            users: 12,
            clients: 16,
            guilds: 2,
            channels_per_guild: 2,
            guild_name_bytes: 8,
            odd_percent: 0,
            active_us: 15 * SECOND_US,
            pace_us: 500_000,
            burst_every: 0,
            base_ms: EVENING_MS,
            store: store(&config),
            config,
            network: Delay {
                min_us: 100,
                max_us: 20_000,
            },
            room_bytes: 64 << 10,
            lane: Delay {
                min_us: 5,
                max_us: 500,
            },
            again: Delay {
                min_us: 1,
                max_us: 300,
            },
            control: Delay {
                min_us: 200,
                max_us: 20_000,
            },
            disk: SimLatency {
                min_us: 20,
                max_us: 2_000,
            },
            faults: Vec::new(),
        }
    }

    /// Everything at once, as the seed has it.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
        let random = &mut random;
        let mut plan = Self::calm(seed);
        plan.shards_max = random.random_range(1..=5);
        plan.users = random.random_range(60..=130);
        plan.clients = plan.users * random.random_range(110..=200) / 100;
        plan.guilds = random.random_range(1..=4);
        plan.channels_per_guild = random.random_range(1..=5);
        plan.guild_name_bytes = if random.random_ratio(1, 6) { 40_000 } else { 8 };
        plan.odd_percent = random.random_range(10..=35);
        plan.active_us = random.random_range(75..=110) * SECOND_US;
        plan.pace_us = random.random_range(1_500_000..=4_000_000);
        plan.burst_every = *pick(random, &[0, 40, 80, 150]);
        plan.base_ms = EVENING_MS + random.random_range(0..1_800_000);
        plan.network.max_us = *pick(random, &[2_000, 20_000, 120_000]);
        plan.room_bytes = match plan.network.max_us {
            ..100_000 => *pick(random, &[4 << 10, 32 << 10, 128 << 10]),
            _ => 128 << 10, // With less, a distant client could not keep up however it reads.
        };
        plan.lane.max_us = *pick(random, &[50, 2_000, 60_000]);
        plan.again.max_us = *pick(random, &[1, 300, 20_000]);
        plan.control.max_us = *pick(random, &[2_000, 50_000, 900_000]);
        plan.disk.max_us = *pick(random, &[50, 2_000, 15_000]);
        plan.set_limits(random);
        plan.faults = faults(random, plan.active_us);
        plan
    }

    fn set_limits(&mut self, random: &mut StdRng) {
        if random.random_ratio(1, 3) {
            self.config = config(Rate {
                count: 5,
                window_s: 5,
            });
            self.burst_every = 0;
        }
        let limits = &mut self.config.limits;
        limits.fanout_slice_max = *pick(random, &[1, 2, 3, 8, 2_048]);
        if random.random_ratio(1, 3) {
            limits.sessions.per_user = 1;
        }
        if random.random_ratio(1, 4) {
            limits.requests_max = 24;
            // With fewer slow ones, one shard could not let everybody in again before they give up.
            limits.asks_max = if self.control.max_us > 100_000 { 24 } else { 6 };
            limits.reads_max = 2;
        }
        if random.random_ratio(1, 4) {
            limits.parked_max = 2;
            limits.access_entries_max = 60;
        }
        if random.random_ratio(1, 3) {
            limits.lane_bytes_max = 96 << 10;
        }
        if random.random_ratio(1, 3) {
            limits.backlogs_bytes_max = limits.backlog_bytes_max * usize::from(self.shards_max);
        }
        self.config
            .check()
            .expect("a plan keeps to the rules of the configuration");
        self.store = store(&self.config);
    }
}

fn config(message: Rate) -> Config {
    let mut config = Config {
        drain_s: 6,
        ..Config::default()
    };
    let limits = &mut config.limits;
    limits.message = message;
    limits.content_chars_max = 300;
    limits.message_bytes_max = 8 << 10;
    limits.backlog_bytes_max = 144 << 10;
    limits.commit_bytes_max = 16 << 10;
    limits.lane_bytes_max = 1 << 20;
    config.store.segment_bytes = 40 * 4_096;
    config
        .check()
        .expect("the simulation keeps to the rules of the configuration");
    config
}

/// The store's limits as the server derives them from its own.
fn store(config: &Config) -> StoreConfig {
    let bytes = |count: usize| u32::try_from(count).expect("limits are far below 4 GiB");
    let limits = &config.limits;
    StoreConfig {
        segment_bytes: config.store.segment_bytes,
        commit_bytes_max: bytes(limits.commit_bytes_max + (64 << 10)),
        record_bytes_max: bytes(limits.content_chars_max * 4 + 1_024),
        chunk_bytes: 64 << 10,
        open_files_max: 3,
        ..StoreConfig::small()
    }
}

fn faults(random: &mut StdRng, active_us: u64) -> Vec<(u64, Fault)> {
    let mut faults = Vec::new();
    let lasting = |random: &mut StdRng| random.random_range(1..=8) * SECOND_US;
    for _ in 0..random.random_range(3..=9) {
        let fault = match random.random_range(0..11) {
            0 | 1 => Fault::PowerCut,
            2 | 3 | 10 => Fault::PowerCutInWrite {
                changes: random.random_range(1..40),
            },
            4 => Fault::Kill,
            5 => Fault::DiskError,
            6 | 7 => Fault::DiskFull {
                us: lasting(random),
            },
            8 => Fault::ControlOutage {
                us: lasting(random),
            },
            _ => Fault::Drain,
        };
        faults.push((
            random.random_range(3 * SECOND_US..active_us - 12 * SECOND_US),
            fault,
        ));
    }
    for _ in 0..random.random_range(0..6) {
        faults.push((random.random_range(SECOND_US..active_us), Fault::Join));
    }
    faults.sort_by_key(|(at_us, _)| *at_us);
    faults
}

pub(crate) fn pick<'a, T>(random: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}
