//! The gate: counts all operations and says whether one of them takes more than it did.
//!
//! It never compares what was not counted in the same way, and never takes that for a pass.
//!
//! Invariants: exit status 0 is "nothing grew", 1 is "something did", 2 is "no verdict".

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use crate::baseline::{Baseline, Tools};
use crate::callgrind;
use crate::scenario::SCENARIOS;

/// What an operation may take, in hundredths of what it took.
const GROWTH_PERCENT_MAX: u64 = 102;

type Counts = BTreeMap<String, u64>;
type Failure = Box<dyn std::error::Error>;

/// What the gate found.
#[derive(PartialEq, Eq, Debug)]
enum Verdict {
    Kept,
    /// These operations take more.
    Grown(Vec<String>),
    /// These operations are in one of the two only.
    Unknown(Vec<String>),
}

/// Runs the gate, or makes what is counted now the baseline.
pub(crate) fn run(is_update: bool) -> ExitCode {
    let verdict = if is_update { update() } else { compare() };
    match verdict {
        Ok(Verdict::Kept) => ExitCode::SUCCESS,
        Ok(Verdict::Grown(names)) => {
            println!("more than 2 % grew: {}", names.join(", "));
            println!("if it must be so, say why in the commit: make perf-gate UPDATE=1");
            ExitCode::from(1)
        }
        Ok(Verdict::Unknown(names)) => {
            eprintln!("not in both: {}", names.join(", "));
            eprintln!("no verdict; make perf-gate UPDATE=1 where the baseline holds");
            ExitCode::from(2)
        }
        Err(error) => {
            eprintln!("no verdict: {error}");
            ExitCode::from(2)
        }
    }
}

fn compare() -> Result<Verdict, Failure> {
    let baseline = Baseline::load().map_err(|error| format!("perf/gate.json: {error}"))?;
    let differences = baseline.tools.differences(&Tools::present()?);
    if !differences.is_empty() {
        let differences = differences.join("\n  ");
        return Err(format!(
            "the baseline was counted with other tools:\n  {differences}\nmake perf-gate UPDATE=1 \
             at a commit that is good, then compare"
        )
        .into());
    }
    let now = count_all()?;
    print_table(&baseline.instructions_per_operation, &now);
    Ok(judge(&baseline.instructions_per_operation, &now))
}

fn update() -> Result<Verdict, Failure> {
    let tools = Tools::present()?;
    let now = count_all()?;
    let before = Baseline::load().map(|baseline| baseline.instructions_per_operation);
    print_table(&before.unwrap_or_default(), &now);
    let instructions_per_operation = now;
    let baseline = Baseline {
        tools,
        instructions_per_operation,
    };
    baseline.store()?;
    Ok(Verdict::Kept)
}

fn count_all() -> Result<Counts, Failure> {
    let mut counts = Counts::new();
    for scenario in &SCENARIOS {
        let times = u64::from(scenario.operations);
        let counted = callgrind::count(scenario, scenario.operations)?;
        counts.insert(scenario.name.to_owned(), (counted + times / 2) / times);
    }
    Ok(counts)
}

fn print_table(baseline: &Counts, now: &Counts) {
    println!(
        "{:<24}{:>12}{:>12}{:>8}",
        "instructions of one", "baseline", "now", "ratio"
    );
    for (name, now) in now {
        match baseline.get(name) {
            Some(before) => {
                let ratio = *now as f64 / *before as f64;
                println!("{name:<24}{before:>12}{now:>12}{ratio:>8.3}");
            }
            None => println!("{name:<24}{:>12}{now:>12}{:>8}", "-", "-"),
        }
    }
}

fn judge(baseline: &Counts, now: &Counts) -> Verdict {
    let names = |counts: &Counts| counts.keys().cloned().collect::<BTreeSet<_>>();
    let (expected, counted) = (names(baseline), names(now));
    let unknown: Vec<String> = expected.symmetric_difference(&counted).cloned().collect();
    if !unknown.is_empty() {
        return Verdict::Unknown(unknown);
    }
    let has_grown =
        |(name, now): &(&String, &u64)| *now * 100 > baseline[*name] * GROWTH_PERCENT_MAX;
    let grown: Vec<String> = (now.iter().filter(has_grown))
        .map(|(name, _)| name.clone())
        .collect();
    match grown.is_empty() {
        true => Verdict::Kept,
        false => Verdict::Grown(grown),
    }
}

/// The gate holds against counts that were made up.
pub(crate) fn check() {
    let counts = |counts: &[(&str, u64)]| {
        let own = |(name, count): &(&str, u64)| ((*name).to_owned(), *count);
        counts.iter().map(own).collect::<Counts>()
    };
    let baseline = counts(&[("fast", 100), ("slow", 10_000)]);
    let judged = |now: &[(&str, u64)]| judge(&baseline, &counts(now));
    assert_eq!(judged(&[("fast", 102), ("slow", 5_000)]), Verdict::Kept);
    let grown = Verdict::Grown(vec!["slow".to_owned()]);
    assert_eq!(judged(&[("fast", 50), ("slow", 10_201)]), grown);
    let unknown = |name: &str| Verdict::Unknown(vec![name.to_owned()]);
    assert_eq!(judged(&[("fast", 100)]), unknown("slow"));
    let one_more = [("fast", 100), ("new", 1), ("slow", 10_000)];
    assert_eq!(judged(&one_more), unknown("new"));

    let tools = Tools {
        rustc: "rustc 1.95.0".to_owned(),
        valgrind: "valgrind-3.19.0".to_owned(),
        libc: "glibc 2.36".to_owned(),
        has_avx2: true,
    };
    assert!(tools.differences(&tools).is_empty());
    let other = Tools {
        rustc: "rustc 1.96.0".to_owned(),
        has_avx2: false,
        ..tools.clone()
    };
    let differences = [
        "rustc 1.95.0, here rustc 1.96.0",
        "AVX2: true, here AVX2: false",
    ];
    assert_eq!(tools.differences(&other), differences);
}
