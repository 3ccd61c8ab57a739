//! Two reports of a suite beside each other: what changed by more than noise.
//!
//! It trusts no single figure: with few rounds, or a machine that ran unevenly, a difference has to
//! be large to count. It does not ask whether two reports should be compared; it warns.
//!
//! Invariants: the same report twice has no change; with the two exchanged, better and worse
//! change places and nothing else does.

mod change;
mod comparison;
pub mod html;
pub mod read;
mod text;
mod warnings;

use std::collections::BTreeMap;

use super::label::{by_label, labels};
use super::model::{Figure, SuiteReport, Verdict};
use change::outcome;
pub use change::{FEW_ROUNDS_SPREAD, ROUNDS_MIN};
pub use comparison::{COMPARISON_VERSION, Change, Comparison, Outcome, Rounds, Side};

/// Which figure.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    part: &'a str,
    label: String,
    key: &'a str,
    /// A figure whose unit changed is another figure.
    unit: &'a str,
    /// How many of all that were before it in the same part.
    repeated: usize,
}

/// Compares two reports.
#[must_use]
pub fn compare(a: &SuiteReport, b: &SuiteReport) -> Comparison {
    let machine_noise = a.machine.noise_percent.hypot(b.machine.noise_percent) / 100.0;
    let (before, after) = (figures(a), figures(b));
    let [then, now] = [&before, &after].map(|figures| {
        let places = figures.iter().map(|(place, figure)| (place, *figure));
        places.collect::<BTreeMap<&Place<'_>, &Figure>>()
    });
    let mut changes: Vec<Change> = Vec::new();
    for (place, figure) in &after {
        let other = then.get(place).copied();
        changes.push(change(place, figure, other, Some(figure), machine_noise));
    }
    for (place, figure) in &before {
        if !now.contains_key(place) {
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

/// All figures that are numbers, in the order of the report.
fn figures(report: &SuiteReport) -> Vec<(Place<'_>, &Figure)> {
    let mut figures = Vec::new();
    for (part, label) in report.parts.iter().zip(labels(&report.parts)) {
        let mut seen: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        for figure in &part.figures {
            let Figure { key, unit, .. } = figure;
            let times = seen.entry((key, unit)).or_default();
            let place = Place {
                part: &part.name,
                label: label.clone(),
                key,
                unit,
                repeated: *times,
            };
            *times += 1;
            let ends = [figure.min, figure.median, figure.max];
            if ends.iter().all(|value| value.is_finite()) {
                figures.push((place, figure));
            }
        }
    }
    figures
}

fn change(
    place: &Place<'_>,
    figure: &Figure,
    a: Option<&Figure>,
    b: Option<&Figure>,
    machine_noise: f64,
) -> Change {
    let (a, b) = (a.map(Rounds::of), b.map(Rounds::of));
    let (ratio, noise, outcome) = outcome(a, b, figure.better, machine_noise);
    Change {
        part: place.part.to_owned(),
        subject: place.label.clone(),
        key: place.key.to_owned(),
        title: figure.title.clone(),
        unit: place.unit.to_owned(),
        better: figure.better,
        a,
        b,
        ratio,
        noise_percent: noise.map(|noise| noise * 100.0),
        outcome,
    }
}

/// Parts of the second report that broke a promise, or came to no verdict, and had kept all.
fn no_longer_kept(a: &SuiteReport, b: &SuiteReport) -> Vec<String> {
    let before = by_label(&a.parts);
    let was_kept = |place: &(&str, String)| {
        let part = before.get(place);
        part.is_some_and(|part| part.verdict == Verdict::Kept)
    };
    let lost = b
        .parts
        .iter()
        .zip(labels(&b.parts))
        .filter(|(part, label)| {
            part.verdict != Verdict::Kept && was_kept(&(part.name.as_str(), label.clone()))
        });
    lost.map(|(part, label)| format!("{} of {label}", part.name))
        .collect()
}

#[cfg(test)]
mod tests;
