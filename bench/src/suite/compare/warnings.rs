//! Why two reports may not be comparable.
//!
//! It forbids nothing: who compares two kernels wants their difference, and is told of it.
//!
//! Invariants: A report beside itself gives only the warnings of that report, of each side.

use std::collections::BTreeMap;

use crate::suite::label::{by_label, labels};
use crate::suite::model::{SuiteReport, Verdict};

/// What differs that should not, and what speaks against a side's figures.
pub(super) fn warnings(a: &SuiteReport, b: &SuiteReport) -> Vec<String> {
    let mut warnings = Vec::new();
    differences(a, b, &mut warnings);
    settings(a, b, &mut warnings);
    for (side, report) in [("A", a), ("B", b)] {
        if !report.complete {
            warnings.push(format!("{side} was ended before all of it was done"));
        }
        verdicts(side, report, &mut warnings);
    }
    commands(a, b, &mut warnings);
    warnings
}

fn differences(a: &SuiteReport, b: &SuiteReport, warnings: &mut Vec<String>) {
    let (one, other) = (&a.machine, &b.machine);
    let cores = |cores: usize| cores.to_string();
    let facts = [
        ("tool", a.tool.clone(), b.tool.clone()),
        ("scale", a.scale.clone(), b.scale.clone()),
        ("kernel", one.kernel.clone(), other.kernel.clone()),
        ("processor", one.cpu.clone(), other.cpu.clone()),
        ("number of cores", cores(one.cores), cores(other.cores)),
        (
            "cores used",
            one.cores_used.clone(),
            other.cores_used.clone(),
        ),
        (
            "frequency governor",
            one.governor.clone(),
            other.governor.clone(),
        ),
        (
            "file system",
            one.file_system.clone(),
            other.file_system.clone(),
        ),
    ];
    for (what, one, other) in facts {
        if one != other {
            let [one, other] = [one, other].map(|fact| {
                if fact.is_empty() {
                    "none".to_owned()
                } else {
                    fact
                }
            });
            warnings.push(format!("another {what}: {one} in A, {other} in B"));
        }
    }
}

/// Limits and kernel settings that differ, by name.
fn settings(a: &SuiteReport, b: &SuiteReport, warnings: &mut Vec<String>) {
    let differing = |one: &BTreeMap<String, String>, other: &BTreeMap<String, String>| {
        let mut names: Vec<String> = one.keys().chain(other.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names.retain(|name| one.get(name) != other.get(name));
        names
    };
    let mut names = differing(&a.machine.limits, &b.machine.limits);
    names.extend(differing(&a.machine.sysctls, &b.machine.sysctls));
    if !names.is_empty() {
        warnings.push(format!(
            "other settings of the system: {}",
            names.join(", ")
        ));
    }
}

fn verdicts(side: &str, report: &SuiteReport, warnings: &mut Vec<String>) {
    for (part, label) in report.parts.iter().zip(labels(&report.parts)) {
        let name = &part.name;
        match part.verdict {
            Verdict::Kept => {}
            Verdict::Broken => warnings.push(format!("{side}: {name} of {label} broke a promise")),
            Verdict::None => warnings.push(format!("{side}: {name} of {label} has no verdict")),
        }
    }
}

/// Parts that were run in another way: then a ratio compares settings.
fn commands(a: &SuiteReport, b: &SuiteReport, warnings: &mut Vec<String>) {
    let before = by_label(&a.parts);
    for (part, label) in b.parts.iter().zip(labels(&b.parts)) {
        let Some(other) = before.get(&(part.name.as_str(), label.clone())) else {
            continue;
        };
        if other.command != part.command {
            warnings.push(format!(
                "{} of {label}: another command line of the generator",
                part.name
            ));
        }
        if other.configuration != part.configuration {
            warnings.push(format!(
                "{} of {label}: another configuration of the server",
                part.name
            ));
        }
    }
}
