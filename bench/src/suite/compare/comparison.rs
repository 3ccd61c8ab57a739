//! What a comparison holds: the JSON that `compare` writes.
//!
//! It decides nothing.
//!
//! Invariants: keys are stable, and `version` goes up when one changes its meaning or goes away.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::suite::model::{Better, Figure, SuiteReport};

/// Version of the JSON.
pub const COMPARISON_VERSION: u32 = 1;

/// Two reports beside each other.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// [`COMPARISON_VERSION`].
    pub version: u32,
    /// The first report: what was before.
    pub a: Side,
    /// The second one: what came after.
    pub b: Side,
    /// Why the two may not be comparable, and what speaks against their figures.
    pub warnings: Vec<String>,
    /// Parts whose promises were kept in the first report, and not in the second.
    pub no_longer_kept: Vec<String>,
    /// How many figures came to each outcome, by its name in the JSON.
    pub counts: BTreeMap<Outcome, usize>,
    /// Every figure of either report: what got worse first, and of that the largest change.
    pub changes: Vec<Change>,
}

/// Which report it was.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Side {
    /// What made it.
    pub tool: String,
    /// How large it was.
    pub scale: String,
    /// The git revision of the benchmark.
    pub revision: String,
    /// What the server said of its own; empty where it did not.
    pub server: String,
    /// When it began, ISO 8601 in UTC.
    pub started: String,
    /// Processor, cores and kernel.
    pub machine: String,
    /// How far passes of the same loop lay apart, percent.
    pub noise_percent: f64,
}

/// One figure of one part, in both reports.
#[derive(Clone, Default, PartialEq, Debug, Serialize)]
pub struct Change {
    /// Which benchmark.
    pub part: String,
    /// Which server; a number behind it where a report has the part several times.
    pub subject: String,
    /// Name of the figure for programs.
    pub key: String,
    /// Its name for people.
    pub title: String,
    /// Its unit.
    pub unit: String,
    /// Which way it gets better.
    pub better: Better,
    /// In the first report.
    pub a: Option<Rounds>,
    /// In the second one.
    pub b: Option<Rounds>,
    /// The second median by the first one; none where that means nothing.
    pub ratio: Option<f64>,
    /// How far the medians have to lie apart to count, percent of the lesser one.
    pub noise_percent: Option<f64>,
    /// What became of it.
    pub outcome: Outcome,
}

/// A figure's rounds.
#[derive(Clone, Copy, Default, PartialEq, Debug, Serialize)]
pub struct Rounds {
    /// How many.
    pub count: usize,
    /// The least.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

/// What became of a figure, in the order in which they are told.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Worse, by more than noise.
    Worse,
    /// Better, by more than noise.
    Better,
    /// Only the first report has it.
    OnlyInA,
    /// Only the second report has it.
    OnlyInB,
    /// No change that noise could not have made.
    #[default]
    Unchanged,
}

impl Outcome {
    /// All, in that order.
    pub const ALL: [Self; 5] = [
        Self::Worse,
        Self::Better,
        Self::OnlyInA,
        Self::OnlyInB,
        Self::Unchanged,
    ];

    /// Its name for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Worse => "worse",
            Self::Better => "better",
            Self::OnlyInA => "only in A",
            Self::OnlyInB => "only in B",
            Self::Unchanged => "unchanged",
        }
    }
}

impl Comparison {
    /// Whether a figure got worse by more than noise, or a promise is no longer kept.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        self.counts.contains_key(&Outcome::Worse) || !self.no_longer_kept.is_empty()
    }

    /// How many figures came to an outcome.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> usize {
        self.counts.get(&outcome).copied().unwrap_or(0)
    }
}

impl Change {
    /// How far the medians lie apart, as a ratio's logarithm; unchanged ones lie nowhere.
    pub(super) fn size(&self) -> f64 {
        match (self.outcome, self.ratio) {
            (Outcome::Worse | Outcome::Better, Some(ratio)) => ratio.ln().abs(),
            (Outcome::Worse | Outcome::Better, None) => f64::INFINITY,
            _ => 0.0,
        }
    }
}

impl Side {
    pub(super) fn of(report: &SuiteReport) -> Self {
        let machine = &report.machine;
        Self {
            tool: report.tool.clone(),
            scale: report.scale.clone(),
            revision: report.revision.clone(),
            server: report.server.clone(),
            started: report.started.clone(),
            machine: format!(
                "{}, {} cores, Linux {}",
                machine.cpu, machine.cores, machine.kernel
            ),
            noise_percent: machine.noise_percent,
        }
    }
}

impl Rounds {
    pub(super) fn of(figure: &Figure) -> Self {
        Self {
            count: figure.values.len(),
            min: figure.min,
            median: figure.median,
            max: figure.max,
        }
    }
}
