//! What a suite's report holds: the JSON that `suite` and `peers` write and `compare` reads.
//!
//! It knows no benchmark: a part is a name, what it ran on, figures with their rounds, curves and
//! series. Whoever adds a benchmark changes nothing here, nor in what draws and compares.
//!
//! Invariants: keys are stable, and `version` goes up when one changes its meaning or goes away;
//! minimum, median and maximum are those of `values`.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, schema_for};
use serde::{Deserialize, Serialize};

/// Version of the JSON.
pub const SUITE_VERSION: u32 = 1;

/// A suite's report.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SuiteReport {
    /// Version of these members and what they mean.
    #[schemars(extend("const" = SUITE_VERSION))]
    pub version: u32,
    /// What made it: `throng-bench suite` or `throng-bench peers`.
    pub tool: String,
    /// How large it was: `smoke`, `standard`, `full`.
    pub scale: String,
    /// The git revision of the benchmark, `-dirty` behind it where files had been changed when it was
    /// built; `unknown` where the build was not told it.
    pub revision: String,
    /// What Throng's server says about its version, with the revision that it was built from; empty in
    /// reports from before it said so, and where none was measured.
    #[serde(default)]
    pub server: String,
    /// When it began, ISO 8601 in UTC.
    pub started: String,
    /// How long it took, seconds.
    pub took_s: f64,
    /// Whether all of it ran; false after Ctrl-C, when it holds what was done by then.
    pub complete: bool,
    /// Where it ran.
    pub machine: Machine,
    /// What to keep in mind when reading any of its figures.
    pub warnings: Vec<String>,
    /// What was measured, in the order of the first rounds.
    pub parts: Vec<Part>,
    /// What was to be measured and was not: name, and why.
    pub skipped: Vec<(String, String)>,
}

/// Facts of a machine that change what figures mean, and nothing that names a host or a user.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// The kernel's version.
    pub kernel: String,
    /// The processor.
    pub cpu: String,
    /// Its frequency governor; empty where the machine has none to show, as virtual ones.
    pub governor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Cores of servers and of the generator, as told.
    pub cores_used: String,
    /// Memory in KiB.
    pub memory_kib: u64,
    /// Type of the file system of the servers' data, and the device that it is on.
    pub file_system: String,
    /// Limits of the process: `nofile`, `memlock`.
    pub limits: BTreeMap<String, String>,
    /// Settings of the kernel that matter to many connections.
    pub sysctls: BTreeMap<String, String>,
    /// Load average of the last minute when it began.
    pub load: String,
    /// Share of all cores' time that the hypervisor gave to others meanwhile, percent.
    pub steal_percent: f64,
    /// A loop of pure arithmetic, before: nanoseconds of each pass.
    pub calibration_before_ns: Vec<u64>,
    /// The same afterwards.
    pub calibration_after_ns: Vec<u64>,
    /// How far passes of that loop lie apart, both together: (maximum - minimum) by median, percent.
    pub noise_percent: f64,
}

/// One benchmark of one server.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// Which benchmark: `echo`, `fanout`. Parts of one name are comparable.
    pub name: String,
    /// What it shows, for people: one sentence.
    pub about: String,
    /// Which server: `throng`, `nats-server`.
    pub subject: String,
    /// How that was configured, for people: command line and settings.
    pub configuration: String,
    /// The generator's command line, without paths of this run.
    pub command: String,
    /// Whether every promise was kept, in all rounds.
    pub verdict: Verdict,
    /// What to keep in mind when reading its figures, the generator's limits above all.
    pub warnings: Vec<String>,
    /// What was measured.
    pub figures: Vec<Figure>,
    /// Latencies of the round whose median is the middle one.
    pub latencies: Vec<Curve>,
    /// What changed over time, or with the number of connections, in the last round.
    pub series: Vec<Series>,
    /// The report of each round, as the benchmark wrote it.
    pub rounds: Vec<serde_json::Value>,
}

/// Whether promises were kept.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All.
    Kept,
    /// At least one was broken: what was lost or wrong stands in the rounds.
    Broken,
    /// It could not be run to its end.
    #[default]
    None,
}

/// One number, in every round.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Figure {
    /// Its name for programs, as in the rounds: `messages_per_s`.
    pub key: String,
    /// Its name for people.
    pub title: String,
    /// `1/s`, `us`, `B`, `%`, or empty for a ratio.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// One value a round.
    pub values: Vec<f64>,
    /// The least.
    pub min: f64,
    /// The middle one; of an even number the upper one of the two.
    pub median: f64,
    /// The greatest.
    pub max: f64,
}

/// Which way a figure gets better.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// The higher, the better.
    #[default]
    Higher,
    /// The lower, the better.
    Lower,
}

/// A latency with all its percentiles.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Curve {
    /// What took so long, for people.
    pub title: String,
    /// Unit of the values: `us`.
    pub unit: String,
    /// Quantile from 0 to 1, the value that so many do not exceed, how many those are: as in the
    /// lines of an .hgrm file (HdrHistogram's plotter).
    pub points: Vec<(f64, u64, u64)>,
}

/// What changed.
#[derive(Clone, Default, PartialEq, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Series {
    /// What, for people.
    pub title: String,
    /// What it changed with, and its unit: `s`, `connections`.
    pub x: String,
    /// Unit of the values.
    pub unit: String,
    /// Pairs.
    pub points: Vec<(f64, f64)>,
}

/// The reports of `suite` and `peers` as JSON Schema (draft 2020-12).
#[must_use]
pub fn schema() -> Schema {
    schema_for!(SuiteReport)
}

impl SuiteReport {
    /// What was measured by what, for people.
    #[must_use]
    pub fn revisions(&self) -> String {
        revisions(&self.revision, &self.server)
    }
}

/// The revision of a benchmark and what the server said of its own, for people.
#[must_use]
pub fn revisions(bench: &str, server: &str) -> String {
    match server {
        "" => format!("revision {bench}"),
        server => format!("revision {bench}, server {server}"),
    }
}

impl Figure {
    /// A figure of these rounds; none when there is no round.
    #[must_use]
    pub fn of(
        key: &str,
        title: &str,
        unit: &str,
        better: Better,
        values: Vec<f64>,
    ) -> Option<Self> {
        let mut sorted = values.clone();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        Some(Self {
            key: key.to_owned(),
            title: title.to_owned(),
            unit: unit.to_owned(),
            better,
            values,
            min,
            median: sorted[sorted.len() / 2],
            max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_rounds() {
        let figure = |values| Figure::of("k", "K", "1/s", Better::Higher, values);
        assert_eq!(figure(vec![]), None);
        let of = |values| figure(values).map(|it| (it.min, it.median, it.max));
        assert_eq!(of(vec![3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(of(vec![3.0, 1.0, 2.0]), Some((1.0, 2.0, 3.0)));
        assert_eq!(of(vec![3.0, 1.0]), Some((1.0, 3.0, 3.0)));
    }
}
