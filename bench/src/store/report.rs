//! What a run found, for people and for programs.
//!
//! It never leaves out an engine's settings or the machine: without them a figure says nothing.
//!
//! Invariants: the JSON keys are stable.

use std::collections::BTreeMap;

use serde::Serialize;

use super::engine::EngineName;
use super::figures::Figures;
use super::long::LongReport;
use super::scale::{Aim, Scale, Scenario};
use crate::suite::model::Machine;

mod text;

/// Version of the JSON; goes up when a key changes its meaning or goes away.
pub(super) const REPORT_VERSION: u32 = 1;

/// Everything about one run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) version: u32,
    pub(super) options: Options,
    pub(super) machine: Machine,
    pub(super) engines: BTreeMap<EngineName, EngineReport>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) long: Vec<LongReport>,
}

/// What was asked for.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Options {
    pub(super) scale: Scale,
    pub(super) seed: u64,
    pub(super) corpus: Option<String>,
    pub(super) cache_mib: u16,
    pub(super) channels: u32,
    pub(super) rounds: u64,
    /// What was done before pages were read cold.
    pub(super) cold: &'static str,
}

/// Everything about one engine.
#[derive(Clone, Default, Debug, Serialize)]
pub(super) struct EngineReport {
    pub(super) settings: String,
    /// By the size of commits, in messages of 300 bytes within one day.
    #[serde(flatten)]
    pub(super) batches: BTreeMap<usize, Figures>,
    /// Appends of other bodies, by their bytes and then by the size of commits.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) bodies: BTreeMap<usize, BTreeMap<usize, Figures>>,
    /// Three years.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) history: Option<Figures>,
}

impl EngineReport {
    /// Nothing measured yet.
    pub(super) fn new(settings: String) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Takes over what a scenario came to.
    pub(super) fn take(&mut self, scenario: &Scenario, figures: Figures) {
        let Scenario { batch, shape, .. } = scenario;
        match scenario.aim {
            Aim::Day => {
                self.batches.insert(*batch, figures);
            }
            Aim::Bodies => {
                let bodies = self.bodies.entry(shape.body_bytes).or_default();
                bodies.insert(*batch, figures);
            }
            Aim::History => self.history = Some(figures),
        }
    }

    fn figures(&self) -> impl Iterator<Item = &Figures> {
        let bodies = self.bodies.values().flat_map(BTreeMap::values);
        self.batches.values().chain(bodies).chain(&self.history)
    }
}

impl Report {
    /// Whether every page was what had been stored, and every limit was kept.
    pub(super) fn is_sound(&self) -> bool {
        let figures = self.engines.values().flat_map(EngineReport::figures);
        let wrong: u64 = figures.map(|figures| figures.wrong_pages).sum();
        wrong == 0 && self.long.iter().all(LongReport::is_sound)
    }
}
