//! Comparisons of whole reports.
//!
//! It measures nothing: the reports are a file of made-up figures, and what is changed in it.
//!
//! Invariants: each change is the only difference to the file.

use super::*;
use crate::suite::model::Figure;

const REPORT: &str = include_str!("../../../tests/fixtures/suite.json");

fn report() -> SuiteReport {
    read::parse(REPORT).expect("the fixture is a report")
}

/// Compares the file with what this makes of it; returns counts in the order of the outcomes.
fn check(change: impl FnOnce(&mut SuiteReport), expected: [usize; 5]) -> Comparison {
    let (a, mut b) = (report(), report());
    change(&mut b);
    let comparison = compare(&a, &b);
    assert_eq!(Outcome::ALL.map(|it| comparison.count(it)), expected);
    let back = compare(&b, &a);
    let [worse, better, only_a, only_b, unchanged] = expected;
    let expected = [better, worse, only_b, only_a, unchanged];
    assert_eq!(Outcome::ALL.map(|it| back.count(it)), expected);
    comparison
}

fn scale(figure: &mut Figure, factor: f64) {
    let values = figure.values.iter().map(|value| value * factor).collect();
    let Figure {
        key,
        title,
        unit,
        better,
        ..
    } = figure.clone();
    *figure = Figure::of(&key, &title, &unit, better, values).expect("it has rounds");
}

#[test]
fn a_report_beside_itself_is_unchanged() {
    let comparison = check(|_| {}, [0, 0, 0, 0, 21]);
    assert!(!comparison.is_worse());
    assert!(
        comparison
            .warnings
            .iter()
            .all(|it| it.starts_with("A: ") || it.starts_with("B: "))
    );
}

#[test]
fn better_and_worse() {
    // Messages a second: higher is better. Bytes a connection: lower is.
    let comparison = check(|b| scale(&mut b.parts[0].figures[0], 0.8), [1, 0, 0, 0, 20]);
    assert!(comparison.is_worse());
    let first = &comparison.changes[0];
    assert_eq!(
        (first.part.as_str(), first.key.as_str()),
        ("echo", "messages_per_s")
    );
    assert!((first.ratio.unwrap() - 0.8).abs() < 1e-9);
    let comparison = check(|b| scale(&mut b.parts[5].figures[0], 0.8), [0, 1, 0, 0, 20]);
    assert!(!comparison.is_worse());
    check(
        |b| scale(&mut b.parts[0].figures[0], 1.01),
        [0, 0, 0, 0, 21],
    );
    // The largest change comes first.
    let change = |b: &mut SuiteReport| {
        scale(&mut b.parts[0].figures[0], 0.8);
        scale(&mut b.parts[1].figures[0], 0.3);
    };
    assert_eq!(
        check(change, [2, 0, 0, 0, 19]).changes[0].subject,
        "example-echo"
    );
}

#[test]
fn what_only_one_has() {
    check(|b| drop(b.parts.remove(0)), [0, 0, 3, 0, 18]);
    check(
        |b| b.parts[0].figures[0].unit = "1/min".to_owned(),
        [0, 0, 1, 1, 20],
    );
    check(
        |b| b.parts[0].figures[0].median = f64::NAN,
        [0, 0, 1, 0, 20],
    );
    // A figure that is there twice is compared in order, and so is a part.
    let twice = |b: &mut SuiteReport| {
        let first = b.parts[0].figures[0].clone();
        b.parts[0].figures.push(first);
    };
    check(twice, [0, 0, 0, 1, 21]);
    check(|b| b.parts.push(b.parts[0].clone()), [0, 0, 0, 3, 21]);
}

#[test]
fn what_speaks_against_a_comparison() {
    let warned = |change: fn(&mut SuiteReport), text: &str| {
        let comparison = check(change, [0, 0, 0, 0, 21]);
        let found = comparison
            .warnings
            .iter()
            .any(|warning| warning.contains(text));
        assert!(found, "{text} is not in {:?}", comparison.warnings);
    };
    warned(|b| b.complete = false, "B was ended");
    warned(
        |b| b.scale = "smoke".to_owned(),
        "another scale: standard in A, smoke in B",
    );
    warned(|b| b.machine.kernel = "6.1".to_owned(), "another kernel");
    warned(|b| b.machine.cpu = "Other".to_owned(), "another processor");
    warned(
        |b| b.machine.cores = 4,
        "another number of cores: 16 in A, 4 in B",
    );
    warned(
        |b| drop(b.machine.limits.remove("nofile")),
        "other settings of the system: nofile",
    );
    warned(
        |b| b.parts[0].command.push_str(" --size 9"),
        "echo of throng: another command line",
    );
    warned(|_| {}, "A: fanout of example-broker broke a promise");
    warned(|_| {}, "B: storm of throng has no verdict");
}

#[test]
fn a_promise_that_is_no_longer_kept_is_worse() {
    let comparison = check(|b| b.parts[0].verdict = Verdict::Broken, [0, 0, 0, 0, 21]);
    assert_eq!(comparison.no_longer_kept, ["echo of throng"]);
    assert!(comparison.is_worse());
}

#[test]
fn as_text() {
    let change = |b: &mut SuiteReport| {
        scale(&mut b.parts[0].figures[0], 0.8);
        b.parts[0].warnings.push("\u{1b}[31m".to_owned());
        b.revision = "\u{1b}[31m".to_owned();
    };
    let text = check(change, [1, 0, 0, 0, 20]).to_string();
    assert!(!text.contains('\u{1b}'), "no escape reaches a terminal");
    let mut lines = text.lines().skip_while(|line| !line.is_empty()).skip(1);
    let titles = lines.next().unwrap();
    let first = lines.next().unwrap();
    assert!(
        first.starts_with("worse") && first.contains("0.800"),
        "{first}"
    );
    let end = titles.find("B/A").unwrap() + 3;
    let end_of_ratio = first.find("0.800").unwrap() + 5;
    assert_eq!(end, end_of_ratio, "columns are aligned");
    assert!(
        text.ends_with(
            "1 worse, 0 better, 0 only in A, 0 only in B, 20 unchanged (within noise)\n"
        )
    );
}

#[test]
fn as_json() {
    let comparison = check(|b| scale(&mut b.parts[0].figures[0], 0.8), [1, 0, 0, 0, 20]);
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(json["version"], 1);
    assert_eq!(json["counts"]["worse"], 1);
    assert_eq!(json["changes"][0]["outcome"], "worse");
    assert_eq!(json["changes"][0]["a"]["count"], 3);
}
