//! A soak's report for people.
//!
//! It counts nothing: every figure is the report's.
//!
//! Invariants: whatever makes a run not clean is said in a line of its own.

use std::fmt;

use super::report::SoakReport;
use super::samples::Sample;
use super::trend::Trend;

/// Samples that are shown: the JSON has all.
const SHOWN: usize = 20;

pub(super) fn write(report: &SoakReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    chat(report, f)?;
    people(report, f)?;
    memory(report, f)?;
    for (reason, count) in &report.ended {
        writeln!(f, "ended: {count} {reason}")?;
    }
    for (code, count) in report.errors.iter().chain(&report.refused) {
        writeln!(f, "error: {count} {code}")?;
    }
    for (kind, answers) in &report.offences.answers {
        let told: Vec<String> = answers
            .iter()
            .map(|(answer, count)| format!("{count} {answer}"))
            .collect();
        writeln!(f, "malformed: {kind}: {}", told.join(", "))?;
    }
    samples(report, f)?;
    if !report.is_clean() {
        writeln!(
            f,
            "NOT CLEAN: see what was lost, dropped, unanswered or left"
        )?;
    }
    Ok(())
}

fn chat(report: &SoakReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "{} sessions, {:.0} s: {} messages, {} acknowledged, {} sent again, {} without an answer, {} not sent; {} deliveries",
        report.connections,
        report.load_s,
        report.messages,
        report.acked,
        report.resent,
        report.unanswered,
        report.skipped,
        report.deliveries
    )?;
    let (latency, late) = (&report.delivery_latency_us, &report.generator_late_us);
    writeln!(
        f,
        "delivery us: p50 {} p99 {} p99.9 {} max {} (generator late: p99 {})",
        latency.p50, latency.p99, latency.p999, latency.max, late.p99
    )?;
    writeln!(
        f,
        "lost {}, duplicated {}, stored twice {}, astray {}, unasked {}, out of order {}, told to fetch anew {}; {}",
        report.lost,
        report.duplicated,
        report.doubled,
        report.misplaced,
        report.unasked,
        report.out_of_order,
        report.resyncs,
        report.losses
    )?;
    write!(f, "in the end: {}", report.after)
}

fn people(report: &SoakReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "{} sent away ({} said goodbye), {} resumes, {} others dropped, {} not back",
        report.disconnects, report.goodbyes, report.resumes, report.dropped, report.missing
    )?;
    writeln!(
        f,
        "{} slow readers stopped {} times: {} connections dropped, {} of them told 4008",
        report.slow, report.slow_stalls, report.slow_dropped, report.slow_closed
    )?;
    let offences = &report.offences;
    writeln!(
        f,
        "{} malformed peers: {} answered, {} otherwise, {} not at all; {} could not connect, {} left out",
        report.malformed,
        offences.answered,
        offences.answered_otherwise,
        offences.unanswered,
        offences.not_connected,
        offences.left_out
    )
}

fn memory(report: &SoakReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let (Some(first), Some(last), Some(slope)) = (
        report.rss_bytes_first,
        report.rss_bytes_last,
        report.rss_slope_bytes_per_min,
    ) {
        trend(f, "resident", first, last, slope)?;
    }
    for (name, of) in [
        ("anonymous", &report.anonymous_bytes),
        ("kernel (both ends)", &report.kernel_bytes),
    ] {
        if let Some(Trend {
            first,
            last,
            slope_per_min,
        }) = *of
        {
            trend(f, name, first, last, slope_per_min)?;
        }
    }
    let verdict =
        |of: Option<bool>, yes, no| of.map_or("not judged", |is| if is { yes } else { no });
    writeln!(
        f,
        "memory: {}; descriptors {} before, {} at most, {} after: {}",
        verdict(report.is_memory_flat, "flat", "NOT FLAT"),
        report.fds_before,
        report.fds_most,
        report.fds_after,
        verdict(report.is_leaking, "LEAKING", "nothing left behind")
    )
}

fn trend(f: &mut fmt::Formatter<'_>, name: &str, first: f64, last: f64, slope: f64) -> fmt::Result {
    const MIB: f64 = 1_048_576.0;
    writeln!(
        f,
        "{name}: {:.1} MiB in the first third, {:.1} in the last, {:+.0} B a minute",
        first / MIB,
        last / MIB,
        slope
    )
}

fn samples(report: &SoakReport, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    writeln!(
        f,
        "{:>8} {:>8} {:>8} {:>12} {:>12} {:>14} {:>6} {:>6}",
        "s", "live", "sessions", "resident", "anonymous", "kernel", "fds", "CPU %"
    )?;
    let step = report.samples.len().div_ceil(SHOWN).max(1);
    let shown = report.samples.iter().step_by(step);
    for sample in [&report.before, &report.come].into_iter().chain(shown) {
        row(f, sample)?;
    }
    row(f, &report.gone)
}

fn row(f: &mut fmt::Formatter<'_>, sample: &Sample) -> fmt::Result {
    let sessions = sample
        .server_sessions
        .map_or_else(|| "?".to_owned(), |count| count.to_string());
    writeln!(
        f,
        "{:>8.0} {:>8} {:>8} {:>12} {:>12} {:>14} {:>6} {:>6.0}",
        sample.at_s,
        sample.live,
        sessions,
        sample.rss_bytes,
        sample.anonymous_bytes,
        sample.kernel_bytes,
        sample.fds.all,
        sample.cpu_percent
    )
}
