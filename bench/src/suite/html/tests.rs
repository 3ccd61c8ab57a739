//! The page as a whole: that it holds what the report says, and that no report breaks it.
//!
//! It does not look at the page; a browser does.
//!
//! Invariants: each page is read by a scanner that knows HTML's tags and accepts no loose end.

use proptest::prelude::*;

use super::*;
use crate::suite::compare::read::parse;
use crate::suite::compare::{Change, Outcome, compare, html};
use crate::suite::model::{Better, Curve, Figure, Part, Series};

const REPORT: &str = include_str!("../../../tests/fixtures/suite.json");
const VOID: [&str; 3] = ["meta", "br", "!DOCTYPE"];

/// Reads tags until the end, and returns those of one name.
///
/// # Panics
/// When a tag is not closed where it should be, or an attribute not quoted.
fn check(page: &str, wanted: &str) -> usize {
    assert!(!page.contains("NaN"), "a number that is none was printed");
    let (mut open, mut found, mut rest) = (Vec::new(), 0, page);
    while let Some(start) = rest.find('<') {
        assert!(
            !rest[..start].contains('>'),
            "loose end: {}",
            &rest[..start]
        );
        rest = &rest[start + 1..];
        let end = end_of_tag(rest);
        let (tag, name) = (&rest[..end], name(&rest[..end]));
        found += usize::from(name == wanted);
        if let Some(closed) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(closed), "before {}", &rest[end..]);
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        rest = &rest[end + 1..];
        if name == "style" && !tag.starts_with('/') {
            rest = &rest[rest.find("</style>").expect("the style sheet ends")..];
        }
    }
    assert!(open.is_empty(), "{open:?} were not closed");
    found
}

/// Where the tag ends, of which this is all but the first character.
fn end_of_tag(text: &str) -> usize {
    let mut is_quoted = false;
    let end = text.find(|character: char| {
        is_quoted ^= character == '"';
        character == '>' && !is_quoted
    });
    end.expect("every tag ends")
}

fn name(tag: &str) -> &str {
    tag.split([' ', '/']).next().unwrap_or("")
}

#[test]
fn a_report() {
    let report = parse(REPORT).expect("the fixture is a report");
    let page = page(&report);
    // Comparisons: three figures of three servers, three of two. Curves, each of them twice: echo,
    // two of fanout, idle. Series: echo, fanout, two of idle. And the legends' keys.
    assert_eq!(check(&page, "figure"), 6 + 4 + 4);
    for text in [
        "echo",
        "fanout",
        "idle",
        "storm",
        "example-broker",
        "✗ broken",
        "? no verdict",
        "Skipped",
        "takes 30 minutes",
        "99.9999%",
        "throng-bench echo --connections 1000",
        "128 GiB",
        "23 min 44 s",
        "rowspan=\"3\"",
    ] {
        assert!(page.contains(text), "{text}");
    }
    assert!(!page.contains("ended before all of it"));
    assert!(
        !page.contains("http://") && !page.contains("https://"),
        "nothing is loaded"
    );
}

#[test]
fn what_speaks_against_a_figure_stands_before_it() {
    let mut report = parse(REPORT).expect("the fixture is a report");
    report.complete = false;
    let page = page(&report);
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text}"));
    assert!(place("ended before all of it") < place("<table>"));
    assert!(place("a promise was broken") < place("Deliveries, closed loop <small>"));
}

#[test]
fn an_empty_report() {
    let page = page(&SuiteReport::default());
    check(&page, "table");
    assert!(page.contains("Nothing was measured"));
}

#[test]
fn text_of_a_report_is_no_markup() {
    let hostile = "\"><script>alert(1)</script><svg onload='x' & \u{0}";
    let text = REPORT.replace(
        "example-broker",
        &hostile.replace('"', "\\\"").replace('\0', "\\u0000"),
    );
    let text = text.replace("Messages", "</style></title><b");
    let report = parse(&text).expect("still a report");
    let page = page(&report);
    assert_eq!(check(&page, "script"), 0);
    assert!(page.contains("&lt;script&gt;alert(1)"));
    let comparison = html::page(&compare(&report, &report));
    assert_eq!(check(&comparison, "script"), 0);
}

/// Numbers as they should not be.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        -1e6..1e6,
        Just(0.0),
        Just(f64::NAN),
        Just(f64::INFINITY)
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-c]",
        "\\PC{0,12}",
        Just("<&>\"'/".to_owned()),
        Just("us".to_owned())
    ]
}

fn several<T: std::fmt::Debug>(
    of: impl Strategy<Value = T>,
    count: std::ops::Range<usize>,
) -> impl Strategy<Value = Vec<T>> {
    prop::collection::vec(of, count)
}

fn figure() -> impl Strategy<Value = Figure> {
    let parts = (text(), text(), any::<bool>(), several(number(), 1..5));
    parts.prop_map(|(key, unit, lower, values)| {
        let better = if lower { Better::Lower } else { Better::Higher };
        Figure::of(&key, &key, &unit, better, values).expect("there is a round")
    })
}

fn curve() -> impl Strategy<Value = Curve> {
    let quantile = prop_oneof![number(), 0.0..=1.0];
    let points = several((quantile, any::<u64>(), any::<u64>()), 0..6);
    (text(), text(), points).prop_map(|(title, unit, points)| Curve {
        title,
        unit,
        points,
    })
}

fn series() -> impl Strategy<Value = Series> {
    let points = several((number(), number()), 0..6);
    (text(), text(), text(), points).prop_map(|(title, x, unit, points)| Series {
        title,
        x,
        unit,
        points,
    })
}

fn part() -> impl Strategy<Value = Part> {
    let texts = prop::array::uniform5(text());
    let measured = (
        several(figure(), 0..4),
        several(curve(), 0..3),
        several(series(), 0..3),
    );
    (texts, measured).prop_map(|(texts, (figures, latencies, series))| {
        let [name, subject, about, configuration, command] = texts;
        Part {
            warnings: vec![about.clone()],
            name,
            about,
            subject,
            configuration,
            command,
            figures,
            latencies,
            series,
            ..Part::default()
        }
    })
}

fn report() -> impl Strategy<Value = SuiteReport> {
    let parts = (several(part(), 0..5), text(), number());
    parts.prop_map(|(parts, tool, took_s)| SuiteReport {
        skipped: vec![(tool.clone(), tool.clone())],
        tool,
        took_s,
        parts,
        ..SuiteReport::default()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn no_report_breaks_a_page(a in report(), b in report()) {
        check(&page(&a), "table");
        check(&html::page(&compare(&a, &b)), "table");
        prop_assert!(compare(&a, &b).to_string().ends_with("(within noise)\n"));
    }

    #[test]
    fn no_report_differs_from_itself(report in report()) {
        let comparison = compare(&report, &report);
        let is_unchanged = |change: &Change| change.outcome == Outcome::Unchanged;
        prop_assert!(comparison.changes.iter().all(is_unchanged));
    }
}
