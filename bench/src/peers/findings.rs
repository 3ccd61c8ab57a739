//! From rounds to the parts of a report.
//!
//! It measures nothing and knows no server: figures are taken from the rounds' own reports, by
//! their keys, which are the same for all servers.
//!
//! Invariants: a part is one benchmark of one server; a figure has one value for each round that has
//! it; the order is that of the first rounds.

use hdrhistogram::Histogram;
use serde_json::Value;

use crate::report::Latency;
use crate::suite::model::{Better, Curve, Figure, Part, Verdict};

/// A figure: where it stands in a round's report, and what it is for people.
struct Kind {
    pointer: &'static str,
    title: &'static str,
    unit: &'static str,
    better: Better,
}

/// A kind of part.
pub(super) struct PartKind {
    pub(super) name: &'static str,
    about: &'static str,
    figures: &'static [Kind],
    /// Where the latency stands, and what it is.
    latency: Option<(&'static str, &'static str)>,
}

const fn higher(pointer: &'static str, title: &'static str, unit: &'static str) -> Kind {
    Kind {
        pointer,
        title,
        unit,
        better: Better::Higher,
    }
}

const fn lower(pointer: &'static str, title: &'static str, unit: &'static str) -> Kind {
    Kind {
        better: Better::Lower,
        ..higher(pointer, title, unit)
    }
}

pub(super) const IDLE: PartKind = PartKind {
    name: "idle",
    about: "What a connection with one subscription costs in user memory while nothing is said.",
    figures: &[lower(
        "/user_bytes_per_connection",
        "user memory a connection",
        "B",
    )],
    latency: None,
};

pub(super) const CONNECT: PartKind = PartKind {
    name: "connect",
    about: "Connections a second, each with its handshake and one subscription; Throng's log in, too.",
    figures: &[
        higher("/handshakes_per_s", "connections a second", "1/s"),
        lower(
            "/server_cpu_us_per_handshake",
            "server CPU a connection",
            "us",
        ),
    ],
    latency: None,
};

pub(super) const ECHO: PartKind = PartKind {
    name: "echo",
    about: "Every connection gets back what it sends, one message on its way on each.",
    figures: &[
        higher("/messages_per_s", "echoes a second", "1/s"),
        lower("/server_cpu_us_per_message", "server CPU an echo", "us"),
    ],
    latency: Some(("/latency_us", "from sending to the echo")),
};

pub(super) const CLOSED: PartKind = PartKind {
    name: "fanout-closed",
    about: "One message to all subscribers; the next leaves when all have it.",
    figures: &[
        higher("/deliveries_per_s", "deliveries a second", "1/s"),
        lower("/server_cpu_us_per_delivery", "server CPU a delivery", "us"),
    ],
    latency: Some(("/latency_us", "from sending to each delivery")),
};

pub(super) const OPEN: PartKind = PartKind {
    name: "fanout-open",
    about: "The highest rate at which 99 % of the deliveries come within 100 ms of their due time.",
    figures: &[
        higher("/coalesced_deliveries_per_s", "deliveries a second", "1/s"),
        lower(
            "/open_cpu_us_per_delivery",
            "server CPU a delivery at that rate",
            "us",
        ),
        lower(
            "/open/generator_cpu_percent",
            "generator CPU at that rate",
            "%",
        ),
    ],
    latency: Some((
        "/delivery_latency_us",
        "from due time to delivery at that rate",
    )),
};

/// Beyond this share of its core the generator may be what limits a rate, percent.
const GENERATOR_CPU_PERCENT_MAX: f64 = 90.0;

/// Below this share of its core, at the highest rate, it is not the server's own work that limits it,
/// percent.
const SERVER_CPU_PERCENT_MIN: f64 = 60.0;

/// What one round of one benchmark brought for one server.
pub(super) struct Round {
    pub(super) kind: &'static PartKind,
    pub(super) subject: String,
    pub(super) configuration: String,
    pub(super) command: String,
    pub(super) is_clean: bool,
    pub(super) report: Value,
    /// All percentiles, where they are known; otherwise some stand in the report.
    pub(super) latency_us: Option<Histogram<u64>>,
}

impl Round {
    /// Its first figure, in a line for people who wait.
    pub(super) fn brief(&self) -> String {
        let name = self.kind.name;
        let figures = self.kind.figures.iter();
        let mut known = figures.filter_map(|kind| Some((kind, number(self, kind.pointer)?)));
        let figure = known.next().map_or_else(
            || "no figure".to_owned(),
            |(kind, value)| format!("{value:.0} {} ({})", kind.unit, kind.title),
        );
        let broken = if self.is_clean { "" } else { ", NOT CLEAN" };
        format!("{name} of {}: {figure}{broken}", self.subject)
    }
}

/// All rounds so far.
#[derive(Default)]
pub(super) struct Findings {
    gathered: Vec<Vec<Round>>,
}

impl Findings {
    /// Another round.
    pub(super) fn add(&mut self, round: Round) {
        let is_same = |rounds: &&mut Vec<Round>| {
            rounds[0].kind.name == round.kind.name && rounds[0].subject == round.subject
        };
        match self.gathered.iter_mut().find(is_same) {
            Some(rounds) => rounds.push(round),
            None => self.gathered.push(vec![round]),
        }
    }

    /// The parts of the report.
    pub(super) fn parts(&self) -> Vec<Part> {
        self.gathered.iter().map(|rounds| part(rounds)).collect()
    }
}

fn part(rounds: &[Round]) -> Part {
    let first = &rounds[0];
    let figures = first
        .kind
        .figures
        .iter()
        .filter_map(|kind| figure(kind, rounds));
    let is_kept = rounds.iter().all(|round| round.is_clean);
    Part {
        name: first.kind.name.to_owned(),
        about: first.kind.about.to_owned(),
        subject: first.subject.clone(),
        configuration: first.configuration.clone(),
        command: first.command.clone(),
        verdict: if is_kept {
            Verdict::Kept
        } else {
            Verdict::Broken
        },
        warnings: warnings(rounds),
        figures: figures.collect(),
        latencies: first
            .kind
            .latency
            .and_then(|of| curve(of, rounds))
            .into_iter()
            .collect(),
        series: Vec::new(),
        rounds: rounds.iter().map(|round| round.report.clone()).collect(),
    }
}

fn figure(kind: &Kind, rounds: &[Round]) -> Option<Figure> {
    let values = rounds
        .iter()
        .filter_map(|round| number(round, kind.pointer));
    let key = kind.pointer.rsplit('/').next().unwrap_or(kind.pointer);
    Figure::of(key, kind.title, kind.unit, kind.better, values.collect())
}

fn number(round: &Round, pointer: &str) -> Option<f64> {
    round.report.pointer(pointer)?.as_f64()
}

fn warnings(rounds: &[Round]) -> Vec<String> {
    let mut warnings = Vec::new();
    let is_busy = |round: &Round| {
        let percents = ["/generator_cpu_percent", "/open/generator_cpu_percent"];
        let mut known = percents.iter().filter_map(|pointer| number(round, pointer));
        known.any(|percent| percent > GENERATOR_CPU_PERCENT_MAX)
    };
    if rounds.iter().any(is_busy) {
        warnings.push("the generator used up its core: the server may do more".to_owned());
    }
    let rate = |round: &Round| number(round, "/coalesced_deliveries_per_s");
    if rounds[0].kind.name == OPEN.name && rounds.iter().any(|round| rate(round).is_none()) {
        warnings.push("in some rounds no rate that was tried was low enough".to_owned());
    }
    let percents = rounds.iter().filter_map(|round| {
        let cpu_us = number(round, "/open_cpu_us_per_delivery")?;
        Some(rate(round)? * cpu_us / 10_000.0)
    });
    let least = percents.fold(f64::INFINITY, f64::min);
    if least < SERVER_CPU_PERCENT_MIN {
        warnings.push(format!(
            "the server used {least:.0} % of its core at that rate: somebody else had the rest, or \
             it waited"
        ));
    }
    warnings
}

/// The latencies of the round with the middle median.
fn curve(of: (&str, &str), rounds: &[Round]) -> Option<Curve> {
    let (pointer, title) = of;
    let median = |round: &&Round| number(round, &format!("{pointer}/p50")).unwrap_or(0.0);
    let mut sorted: Vec<&Round> = rounds.iter().collect();
    sorted.sort_by(|a, b| median(a).total_cmp(&median(b)));
    let round = sorted[sorted.len() / 2];
    let points = match &round.latency_us {
        Some(histogram) => Latency::from(histogram).curve,
        None => {
            let curve = round.report.pointer(pointer)?.get("curve")?;
            serde_json::from_value(curve.clone()).ok()?
        }
    };
    Some(Curve {
        title: title.to_owned(),
        unit: "us".to_owned(),
        points,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn round(subject: &str, per_s: f64, p50: u64, is_clean: bool) -> Round {
        let latency = json!({"p50": p50, "curve": [[0.5, p50, 100], [1.0, 10, 200]]});
        Round {
            kind: &ECHO,
            subject: subject.to_owned(),
            configuration: String::new(),
            command: String::new(),
            is_clean,
            report: json!({"messages_per_s": per_s, "latency_us": latency}),
            latency_us: None,
        }
    }

    #[test]
    fn rounds_become_parts() {
        let mut findings = Findings::default();
        for (subject, per_s, p50) in [("a", 3.0, 5), ("b", 1.0, 1), ("a", 2.0, 7), ("a", 9.0, 6)] {
            findings.add(round(subject, per_s, p50, subject == "a"));
        }
        let parts = findings.parts();
        let subjects: Vec<&str> = parts.iter().map(|part| part.subject.as_str()).collect();
        assert_eq!(subjects, ["a", "b"]);
        assert_eq!(parts[0].verdict, Verdict::Kept);
        assert_eq!(parts[1].verdict, Verdict::Broken);
        let figures = &parts[0].figures;
        assert_eq!(figures.len(), 1, "what no round has is no figure");
        assert_eq!(figures[0].key, "messages_per_s");
        assert_eq!(
            (figures[0].min, figures[0].median, figures[0].max),
            (2.0, 3.0, 9.0)
        );
        let middle = [(0.5, 6, 100), (1.0, 10, 200)];
        assert_eq!(parts[0].latencies[0].points, middle);
    }

    #[test]
    fn what_limits_a_rate_besides_the_server_is_said() {
        let warned = |per_s: Value, cpu_us: f64, generator: f64| {
            let open = json!({"generator_cpu_percent": generator});
            let mut findings = Findings::default();
            findings.add(Round {
                kind: &OPEN,
                report: json!({
                    "coalesced_deliveries_per_s": per_s,
                    "open_cpu_us_per_delivery": cpu_us,
                    "open": open
                }),
                ..round("a", 0.0, 0, true)
            });
            findings.parts()[0].warnings.join("; ")
        };
        assert_eq!(warned(json!(1e6), 0.9, 50.0), "");
        assert!(warned(json!(1e6), 0.3, 50.0).contains("used 30 % of its core"));
        assert!(warned(json!(1e6), 0.9, 95.0).contains("generator used up"));
        assert!(warned(Value::Null, 0.9, 50.0).contains("no rate"));
    }

    #[test]
    fn all_percentiles_where_they_are_known() {
        let mut histogram = crate::swarm::talk::latencies();
        for value in 1..=100 {
            histogram.saturating_record(value);
        }
        let mut findings = Findings::default();
        findings.add(Round {
            latency_us: Some(histogram),
            ..round("a", 1.0, 50, true)
        });
        let points = &findings.parts()[0].latencies[0].points;
        assert!(points.len() > 4);
        assert!(points.is_sorted_by(|a, b| a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2));
        assert_eq!(
            points.last().map(|point| (point.1, point.2)),
            Some((100, 100))
        );
    }
}
