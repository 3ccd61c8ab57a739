//! What a workload does next.
//!
//! It draws; it does nothing.
//!
//! Invariants: a step depends on the seed, the model and the number of shards only.

use rand::RngExt;
use rand::rngs::StdRng;
use throng_storage_engine::{ChannelKey, Query};

use crate::model::Model;
use crate::node::Asked;
use crate::writer::{channel, key};

pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// One step.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Commits of several shards at the same time, and perhaps a piece of maintenance and pages of
    /// other channels beside them.
    Commit {
        /// The channels of each shard's commit.
        commits: Vec<(usize, Vec<ChannelKey>)>,
        pages: Vec<Asked>,
        maintains: bool,
    },
    /// One page.
    Page(Asked),
    Wait {
        ms: u64,
    },
    SealTails,
    Upkeep,
    /// So many pieces of maintenance, and what the shards have to do for it.
    Maintain {
        pieces: usize,
    },
    /// A deleted message is to be erased.
    Erase,
}

impl Step {
    pub(crate) fn draw(
        rng: &mut StdRng,
        model: &Model,
        channels: u8,
        shards: usize,
        now_ms: u64,
    ) -> Self {
        match rng.random_range(0..100) {
            0..=49 => {
                let commits = draw_commits(rng, channels, shards);
                let pages = (0..rng.random_range(0..4))
                    .map(|_| draw_page(rng, model, channels, now_ms))
                    .filter(|page| {
                        commits
                            .iter()
                            .all(|(_, busy)| !busy.contains(&page.channel))
                    });
                Self::Commit {
                    pages: pages.collect(),
                    maintains: rng.random_ratio(1, 3),
                    commits,
                }
            }
            50..=65 => Self::Page(draw_page(rng, model, channels, now_ms)),
            66..=77 => Self::Wait {
                ms: draw_wait_ms(rng),
            },
            78..=81 => Self::SealTails,
            82..=93 => Self::Maintain {
                pieces: rng.random_range(0..12),
            },
            94..=95 => Self::Erase,
            _ => Self::Upkeep,
        }
    }
}

/// A short moment, hours, or days.
fn draw_wait_ms(rng: &mut StdRng) -> u64 {
    match rng.random_range(0..10) {
        0..=3 => rng.random_range(1..2000),
        4..=7 => rng.random_range(2000..DAY_MS),
        8 => rng.random_range(DAY_MS..4 * DAY_MS),
        _ => rng.random_range(4 * DAY_MS..40 * DAY_MS),
    }
}

fn draw_commits(rng: &mut StdRng, channels: u8, shards: usize) -> Vec<(usize, Vec<ChannelKey>)> {
    let mut commits = Vec::new();
    for shard in 0..shards {
        let mine: Vec<ChannelKey> = (0..channels)
            .filter(|number| usize::from(*number) % shards == shard)
            .map(channel)
            .collect();
        if mine.is_empty() || rng.random_ratio(1, 3) {
            continue;
        }
        let busy = rng.random_range(1..=mine.len());
        let count = rng.random_range(1..6);
        let chosen = (0..count).map(|_| mine[rng.random_range(0..busy)]);
        commits.push((shard, chosen.collect()));
    }
    commits
}

pub(crate) fn draw_page(rng: &mut StdRng, model: &Model, channels: u8, now_ms: u64) -> Asked {
    let channel = channel(rng.random_range(0..=channels));
    let count = model.seq(channel);
    let message = if count > 0 && rng.random_ratio(4, 5) {
        let position = usize::try_from(rng.random_range(0..count)).expect("few");
        model.channels[&channel].messages[position].key
    } else {
        key(
            now_ms - rng.random_range(0..50 * DAY_MS),
            rng.random_range(0..1000),
        )
    };
    let query = match rng.random_range(0..5) {
        0 => Query::Newest,
        1 => Query::Before(message),
        2 => Query::After(message),
        3 => Query::Around(message),
        _ => Query::AfterSeq(rng.random_range(0..=count + 1)),
    };
    Asked {
        channel,
        query,
        limit: rng.random_range(1..60),
        with_deleted: rng.random_ratio(1, 4),
    }
}
