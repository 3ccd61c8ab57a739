//! The JSON keys that others read, and what counts as broken.

use super::*;

fn report() -> Report {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    for value in 1..=1000 {
        histogram.record(value).unwrap();
    }
    let latency = Latency::from(&histogram);
    Report {
        version: REPORT_VERSION,
        sent: 10,
        acked: 10,
        delivered: 20,
        expected: 20,
        history_checked: 10,
        ack_latency_us: latency.clone(),
        delivery_latency_us: latency.clone(),
        generator_late_us: latency,
        generator_cpu_percent: vec![12.0],
        run_s: 1.0,
        ..Report::default()
    }
}

#[test]
fn json_keys() {
    let json = serde_json::to_value(report()).unwrap();
    for key in [
        "sent",
        "acked",
        "delivered",
        "expected",
        "lost",
        "duplicated",
        "out_of_order",
    ] {
        assert!(json[key].is_u64(), "{key}");
    }
    for latency in ["ack_latency_us", "delivery_latency_us", "generator_late_us"] {
        for key in ["p50", "p99", "p999", "max"] {
            assert!(json[latency][key].is_u64(), "{latency}.{key}");
        }
    }
}

#[test]
fn percentiles() {
    let Latency {
        count,
        p50,
        p99,
        p999,
        max,
        curve,
    } = report().ack_latency_us;
    assert_eq!((count, p50, p99, p999, max), (1000, 500, 990, 999, 1000));
    let last = curve.last().copied();
    assert_eq!(last, Some((1.0, 1000, 1000)));
    let rises = |pair: &[(f64, u64, u64)]| {
        pair[0].0 <= pair[1].0 && pair[0].1 <= pair[1].1 && pair[0].2 <= pair[1].2
    };
    assert!(curve.windows(2).all(rises), "{curve:?}");
    assert!(curve.contains(&(0.5, 500, 500)), "{curve:?}");
}

#[test]
fn every_promise_counts() {
    let base = report();
    assert!(base.broken().is_empty() && base.warnings().is_empty());
    let with = |change: fn(&mut Report)| {
        let mut report = report();
        change(&mut report);
        report
    };
    for (broken, name) in [
        (with(|report| report.lost = 1), "lost"),
        (with(|report| report.duplicated = 1), "duplicated"),
        (with(|report| report.out_of_order = 1), "out of order"),
        (with(|report| report.disagreements = 1), "disagreements"),
        (with(|report| report.gaps = 1), "gaps"),
        (with(|report| report.wrong_content = 1), "wrong content"),
        (with(|report| report.unasked = 1), "unasked events"),
        (with(|report| report.forgotten = 1), "forgotten"),
        (
            with(|report| report.history_mismatches = 1),
            "history mismatches",
        ),
        (with(|report| report.unanswered = 1), "unanswered"),
    ] {
        assert_eq!(broken.broken(), [(name, 1)]);
        assert!(broken.to_string().contains(&format!("BROKEN: {name}: 1")));
    }
}

#[test]
fn limits_are_warnings_not_losses() {
    let limited = Report {
        rate_limited: 3,
        ..report()
    };
    assert!(limited.broken().is_empty());
    assert!(limited.warnings()[0].contains("[limits.message]"));
    let late = Latency {
        p99: GENERATOR_LATE_US_MAX + 1,
        ..report().generator_late_us
    };
    assert!(
        Report {
            generator_late_us: late,
            ..report()
        }
        .warnings()[0]
            .contains("late")
    );
    let busy = Report {
        generator_cpu_percent: vec![10.0, 95.0],
        ..report()
    };
    assert!(busy.warnings()[0].contains("--threads"));
}

#[test]
fn nothing_is_judged_lost_while_clients_are_cut_off() {
    let cut_off = Report {
        lost: 1,
        unanswered: 1,
        not_live: 1,
        ..report()
    };
    assert!(cut_off.broken().is_empty());
    assert!(cut_off.warnings()[0].contains("not connected"));
}
