//! How much is measured: from a try to a night's run.
//!
//! It measures nothing.
//!
//! Invariants: a scenario's stream holds what is appended in rounds, and then enough for the
//! process to be killed among appends.

use clap::ValueEnum;
use serde::Serialize;

use super::engine::Limits;
use super::order::PageKind;
use super::workload::Shape;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// Seconds: shows that everything works; the figures mean little.
    Smoke,
    /// Minutes.
    Standard,
    /// Hours with all engines; the long scenarios at their whole size.
    Full,
}

impl std::fmt::Display for Scale {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Smoke => "smoke",
            Self::Standard => "standard",
            Self::Full => "full",
        })
    }
}

/// Commits of these many messages are measured.
pub(super) const BATCHES: [usize; 3] = [1, 16, 256];

/// Bytes of the bodies of scenarios that go through all steps, and of those that only append.
const BODY_BYTES: usize = 300;
const OTHER_BODIES: [usize; 2] = [100, 2000];

/// What a scenario is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aim {
    /// One day: all steps, one size of batch.
    Day,
    /// Appends alone, with other bodies.
    Bodies,
    /// Three years: all steps, sparse channels too.
    History,
}

/// One store of each engine, filled and read in step.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Scenario {
    pub(super) aim: Aim,
    pub(super) batch: usize,
    pub(super) shape: Shape,
    /// Messages appended in rounds; the stream's rest is for the kill.
    pub(super) measured: u64,
    pub(super) rounds: u64,
    /// Pages of each kind.
    pub(super) pages: usize,
}

impl Scenario {
    /// The kinds of pages that there are in it.
    pub(super) fn kinds(&self) -> &'static [PageKind] {
        match self.aim {
            Aim::Day => &[PageKind::Newest, PageKind::Deep, PageKind::Around],
            Aim::Bodies => &[],
            Aim::History => &PageKind::ALL,
        }
    }

    /// Steps that progress is counted in, for one engine.
    pub(super) fn steps(&self) -> usize {
        let rounds = usize::try_from(self.rounds).unwrap_or(usize::MAX);
        match self.aim {
            Aim::Bodies => rounds,
            Aim::Day | Aim::History => rounds + 1 + self.kinds().len(),
        }
    }
}

impl Scale {
    const fn pick<T: Copy>(self, smoke: T, standard: T, full: T) -> T {
        match self {
            Self::Smoke => smoke,
            Self::Standard => standard,
            Self::Full => full,
        }
    }

    /// What all engines are given; a cache of `cache_mib` MiB.
    pub(super) fn limits(self, cache_mib: u16) -> Limits {
        Limits {
            cache_bytes: usize::from(cache_mib) << 20,
            segment_bytes: self.pick(4 << 20, 64 << 20, 64 << 20),
        }
    }

    fn channels(self) -> u32 {
        self.pick(2_000, 50_000, 50_000)
    }

    /// The appends: all sizes of batches and bodies, within a day.
    pub(super) fn days(self, seed: u64) -> Vec<Scenario> {
        let mut scenarios = Vec::new();
        for batch in BATCHES {
            let messages = self.day_messages(batch);
            scenarios.push(self.day(Aim::Day, seed, batch, BODY_BYTES, messages));
            for body_bytes in OTHER_BODIES {
                let bytes = 100 + body_bytes as u64;
                let fewer = (messages * 400 / bytes / 3).min(messages / 2);
                scenarios.push(self.day(Aim::Bodies, seed, batch, body_bytes, fewer));
            }
        }
        scenarios
    }

    fn day_messages(self, batch: usize) -> u64 {
        match batch {
            1 => self.pick(600, 40_000, 200_000),
            16 => self.pick(6_400, 400_000, 2_000_000),
            _ => self.pick(25_600, 1_200_000, 6_000_000),
        }
    }

    fn day(self, aim: Aim, seed: u64, batch: usize, body_bytes: usize, measured: u64) -> Scenario {
        let kept = match aim {
            Aim::Bodies => 0,
            Aim::Day | Aim::History => measured / 4,
        };
        Scenario {
            aim,
            batch,
            measured,
            rounds: self.pick(3, 8, 12),
            pages: self.pick(40, 500, 1500),
            shape: Shape {
                seed,
                messages: measured + kept,
                body_bytes,
                channels: self.channels(),
                zipf: 1.0,
                active_days: 1,
                span_days: 1,
                sparse_channels: 0,
                months: 1,
            },
        }
    }

    /// Three years in which some channels get one message a month.
    pub(super) fn history(self, seed: u64) -> Scenario {
        let measured = self.pick(30_000, 2_000_000, 10_000_000);
        Scenario {
            aim: Aim::History,
            batch: 256,
            measured,
            rounds: self.pick(3, 8, 12),
            pages: self.pick(40, 500, 1500),
            shape: Shape {
                seed,
                messages: measured + measured / 50,
                body_bytes: BODY_BYTES,
                channels: self.channels(),
                zipf: 1.0,
                active_days: self.pick(36, 365, 1095),
                span_days: 1095,
                sparse_channels: self.pick(20, 500, 1000),
                months: 36,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_has_rounds_of_whole_batches_and_a_rest() {
        for scale in [Scale::Smoke, Scale::Standard, Scale::Full] {
            let mut scenarios = scale.days(1);
            scenarios.push(scale.history(1));
            for scenario in scenarios {
                assert!(scenario.measured / scenario.rounds >= scenario.batch as u64);
                let kept = scenario.shape.messages - scenario.measured;
                assert_eq!(kept > 0, scenario.aim != Aim::Bodies);
                assert_eq!(scenario.kinds().is_empty(), scenario.aim == Aim::Bodies);
            }
        }
    }
}
