//! The report as text.
//!
//! It rounds for reading; the JSON has what was measured.
//!
//! Invariants: one column an engine, in the order of [`EngineName::ALL`]; `-` is not measured.

use std::fmt;

use super::{EngineReport, Figures, LongReport, Report};
use crate::store::engine::EngineName;

/// One line of a table: its name, and the figure of an engine in it.
type Line = (&'static str, fn(&Figures) -> Option<f64>);

const APPEND: [Line; 4] = [
    ("messages/s", |f| f.append_per_s),
    ("  of raw", |f| f.append_ratio_to_raw),
    ("  times the best other", |f| f.append_ratio_to_best),
    ("commit p99 us", |f| f.append_sync_p99_us),
];

const STORE: [Line; 18] = [
    ("newest page cold p50 us", |f| page(f, "newest_p50_us")),
    ("                 p99", |f| page(f, "newest_p99_us")),
    ("            warm p50", |f| page(f, "newest_warm_p50_us")),
    ("deep page   cold p50", |f| page(f, "deep_p50_us")),
    ("                 p99", |f| page(f, "deep_p99_us")),
    ("            warm p50", |f| page(f, "deep_warm_p50_us")),
    ("            bytes read", |f| page(f, "deep_device_bytes")),
    ("                 reads", |f| page(f, "deep_device_reads")),
    ("around      cold p50", |f| page(f, "around_p50_us")),
    ("                 p99", |f| page(f, "around_p99_us")),
    ("sparse      cold p50", |f| page(f, "sparse_p50_us")),
    ("                 p99", |f| page(f, "sparse_p99_us")),
    ("recovery after kill ms", |f| f.recovery_ms),
    ("start after close ms", |f| f.start_ms),
    ("put off ms", |f| f.settle_ms),
    ("sealed messages/s", |f| f.sealing_records_per_s),
    ("bytes/message on disk", |f| f.bytes_per_message),
    ("memory MiB", |f| f.memory_bytes.map(mib)),
];

fn page(figures: &Figures, key: &str) -> Option<f64> {
    figures.pages.get(&format!("page_{key}")).copied()
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            f,
            "{}, {} cores, {} MiB, Linux {}, {}, load {}",
            machine.cpu,
            machine.cores,
            machine.memory_kib >> 10,
            machine.kernel,
            machine.file_system,
            machine.load
        )?;
        for (engine, report) in &self.engines {
            writeln!(f, "{engine}: {}", report.settings)?;
        }
        self.write_batches(f)?;
        self.write_bodies(f)?;
        self.write_history(f)?;
        for long in &self.long {
            write_long(f, long)?;
        }
        let verdict = if self.is_sound() {
            "every page was what had been stored"
        } else {
            "BROKEN: pages were wrong, or a limit was exceeded"
        };
        writeln!(f, "\n{verdict}")
    }
}

impl Report {
    fn write_batches(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let batches = self.engines.values().flat_map(|e| e.batches.keys());
        let batches: std::collections::BTreeSet<usize> = batches.copied().collect();
        for batch in batches {
            let of = |engine: &EngineReport| engine.batches.get(&batch).cloned();
            self.write_title(f, &format!("{batch} a commit, 300 B, one day"))?;
            self.write_lines(f, &APPEND, of)?;
            self.write_lines(f, &STORE, of)?;
        }
        Ok(())
    }

    fn write_bodies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bodies = self.engines.values().flat_map(|e| {
            let sizes = e.bodies.iter();
            sizes.flat_map(|(size, batches)| batches.keys().map(|batch| (*size, *batch)))
        });
        let bodies: std::collections::BTreeSet<(usize, usize)> = bodies.collect();
        for (size, batch) in bodies {
            let of = |engine: &EngineReport| engine.bodies.get(&size)?.get(&batch).cloned();
            self.write_title(f, &format!("{batch} a commit, {size} B"))?;
            self.write_lines(f, &APPEND, of)?;
        }
        Ok(())
    }

    fn write_history(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.engines.values().all(|engine| engine.history.is_none()) {
            return Ok(());
        }
        self.write_title(f, "three years, 300 B")?;
        self.write_lines(f, &APPEND, |engine| engine.history.clone())?;
        self.write_lines(f, &STORE, |engine| engine.history.clone())
    }

    fn write_title(&self, f: &mut fmt::Formatter<'_>, title: &str) -> fmt::Result {
        write!(f, "\n{title:<26}")?;
        for engine in self.engines.keys() {
            write!(f, "{engine:>12}")?;
        }
        writeln!(f)
    }

    fn write_lines(
        &self,
        f: &mut fmt::Formatter<'_>,
        lines: &[Line],
        of: impl Fn(&EngineReport) -> Option<Figures>,
    ) -> fmt::Result {
        for (name, figure) in lines {
            let figures: Vec<Option<f64>> = self
                .engines
                .values()
                .map(|engine| of(engine).as_ref().and_then(figure))
                .collect();
            if figures.iter().any(Option::is_some) {
                write!(f, "{name:<26}")?;
                for figure in figures {
                    write!(f, "{:>12}", shown(figure))?;
                }
                writeln!(f)?;
            }
        }
        Ok(())
    }
}

/// A figure with three digits that matter, or all before the point.
fn shown(figure: Option<f64>) -> String {
    match figure {
        None => "-".to_owned(),
        Some(figure) if figure < 10.0 => format!("{figure:.2}"),
        Some(figure) if figure < 100.0 => format!("{figure:.1}"),
        Some(figure) => format!("{figure:.0}"),
    }
}

fn write_long(f: &mut fmt::Formatter<'_>, long: &LongReport) -> fmt::Result {
    let LongReport {
        name,
        messages,
        days,
        body_bytes,
        channels,
        ..
    } = long;
    let throng = EngineName::Throng;
    writeln!(
        f,
        "\n{name}: {messages} messages of {body_bytes} B, {days} day(s), {channels} channels, {throng}"
    )?;
    for slice in &long.slices {
        writeln!(
            f,
            "  {:>12} messages  {:>10.0}/s  memory {:>7.1} MiB ({:.1} without files)",
            slice.messages,
            slice.append_per_s,
            mib(slice.memory_bytes),
            mib(slice.memory_anonymous_bytes)
        )?;
    }
    for (name, figure) in [
        ("commit p99 us", long.append_sync_p99_us),
        ("put off ms", Some(long.settle_ms)),
        ("recovery after kill ms", Some(long.recovery_ms)),
        ("start after close ms", Some(long.start_ms)),
        ("memory reading MiB", Some(mib(long.memory_reading_bytes))),
        ("bytes/message on disk", Some(long.bytes_per_message)),
        ("  as JSON", Some(long.raw_json_bytes_per_message)),
        ("  of the JSON", Some(long.disk_to_raw_json)),
    ] {
        writeln!(f, "{name:<26}{:>12}", shown(figure))?;
    }
    writeln!(
        f,
        "{} pages checked, {} wrong",
        long.pages_checked, long.wrong_pages
    )?;
    for check in &long.checks {
        let verdict = if check.holds { "holds" } else { "EXCEEDED" };
        let (figure, max) = (shown(Some(check.figure)), shown(Some(check.max)));
        writeln!(f, "{}: {figure}, at most {max}: {verdict}", check.name)?;
    }
    Ok(())
}
