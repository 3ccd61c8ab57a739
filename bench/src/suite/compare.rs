//! Two reports of a suite beside each other: what changed by more than noise.
//!
//! It trusts no single figure: with few rounds, or a machine that ran unevenly, a difference has to
//! be large to count. It does not ask whether two reports should be compared; it warns.
//!
//! Invariants: the same report twice has no change; with the two exchanged, better and worse
//! change places and nothing else does.

mod change;
pub mod html;
pub mod read;
mod text;
mod warnings;

use std::collections::BTreeMap;

use serde::Serialize;

use super::label::labels;
use super::model::{Better, Figure, SuiteReport, Verdict};
use change::outcome;
pub use change::{FEW_ROUNDS_SPREAD, ROUNDS_MIN};

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

/// Which figure: part, subject, key, unit. A figure whose unit changed is another figure.
type Place<'a> = (&'a str, String, &'a str, &'a str);

/// Compares two reports.
#[must_use]
pub fn compare(a: &SuiteReport, b: &SuiteReport) -> Comparison {
    let machine_noise = a.machine.noise_percent.hypot(b.machine.noise_percent) / 100.0;
    let (before, after) = (figures(a), figures(b));
    let mut changes: Vec<Change> = Vec::new();
    for (place, figure) in &after {
        let other = find(&before, place);
        changes.push(change(place, figure, other, Some(figure), machine_noise));
    }
    for (place, figure) in &before {
        if find(&after, place).is_none() {
            changes.push(change(place, figure, Some(figure), None, machine_noise));
        }
    }
    // Stable: what is alike stays in the order of the report.
    changes.sort_by(|one, next| {
        let order = one.outcome.cmp(&next.outcome);
        order.then_with(|| next.size().total_cmp(&one.size()))
    });
    let mut counts = BTreeMap::new();
    for change in &changes {
        *counts.entry(change.outcome).or_default() += 1;
    }
    Comparison {
        version: COMPARISON_VERSION,
        a: Side::of(a),
        b: Side::of(b),
        warnings: warnings::warnings(a, b),
        no_longer_kept: no_longer_kept(a, b),
        counts,
        changes,
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
    fn size(&self) -> f64 {
        match (self.outcome, self.ratio) {
            (Outcome::Worse | Outcome::Better, Some(ratio)) => ratio.ln().abs(),
            (Outcome::Worse | Outcome::Better, None) => f64::INFINITY,
            _ => 0.0,
        }
    }
}

impl Side {
    fn of(report: &SuiteReport) -> Self {
        let machine = &report.machine;
        Self {
            tool: report.tool.clone(),
            scale: report.scale.clone(),
            revision: report.revision.clone(),
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
    fn of(figure: &Figure) -> Self {
        Self {
            count: figure.values.len(),
            min: figure.min,
            median: figure.median,
            max: figure.max,
        }
    }
}

/// All figures that are numbers.
fn figures(report: &SuiteReport) -> Vec<(Place<'_>, &Figure)> {
    let parts = report.parts.iter().zip(labels(&report.parts));
    let all = parts.flat_map(|(part, label)| {
        part.figures.iter().map(move |figure| {
            let place = (
                part.name.as_str(),
                label.clone(),
                figure.key.as_str(),
                figure.unit.as_str(),
            );
            (place, figure)
        })
    });
    let is_number = |figure: &Figure| {
        let ends = [figure.min, figure.median, figure.max];
        ends.iter().all(|value| value.is_finite())
    };
    all.filter(|(_, figure)| is_number(figure)).collect()
}

fn find<'a>(figures: &[(Place<'_>, &'a Figure)], place: &Place<'_>) -> Option<&'a Figure> {
    let found = figures.iter().find(|(other, _)| other == place);
    found.map(|(_, figure)| *figure)
}

fn change(
    (part, subject, key, unit): &Place<'_>,
    figure: &Figure,
    a: Option<&Figure>,
    b: Option<&Figure>,
    machine_noise: f64,
) -> Change {
    let (a, b) = (a.map(Rounds::of), b.map(Rounds::of));
    let (ratio, noise, outcome) = outcome(a, b, figure.better, machine_noise);
    Change {
        part: (*part).to_owned(),
        subject: subject.clone(),
        key: (*key).to_owned(),
        title: figure.title.clone(),
        unit: (*unit).to_owned(),
        better: figure.better,
        a,
        b,
        ratio,
        noise_percent: noise.map(|noise| noise * 100.0),
        outcome,
    }
}

fn no_longer_kept(a: &SuiteReport, b: &SuiteReport) -> Vec<String> {
    let before: Vec<(&str, String, Verdict)> = verdicts(a).collect();
    let lost = verdicts(b).filter(|(name, label, verdict)| {
        let was_kept = (*name, label.clone(), Verdict::Kept);
        *verdict != Verdict::Kept && before.contains(&was_kept)
    });
    lost.map(|(name, label, _)| format!("{name} of {label}"))
        .collect()
}

/// Name, label and verdict of each part.
fn verdicts(report: &SuiteReport) -> impl Iterator<Item = (&str, String, Verdict)> {
    let parts = report.parts.iter().zip(labels(&report.parts));
    parts.map(|(part, label)| (part.name.as_str(), label, part.verdict))
}

#[cfg(test)]
mod tests;
