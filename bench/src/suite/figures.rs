//! What a suite reads from the report of each benchmark: which numbers, which curves, which course.
//!
//! It computes nothing but sums of what is there; a report that lacks something gives one figure
//! less, as when a part was run in another mode.
//!
//! Invariants: keys of figures are those of the reports, so that a reader finds them there.

use serde_json::Value;

use super::model::{Better, Curve, Figure, Part, Series};
use crate::report::{GENERATOR_CPU_PERCENT_MAX, GENERATOR_LATE_US_MAX};

/// A number: where it stands, what it is called, its unit, which way is better.
type Number = (&'static str, &'static str, &'static str, Better);

/// What is read from the report of one benchmark.
#[derive(PartialEq, Debug)]
pub struct Wanted {
    numbers: &'static [Number],
    /// Latencies with a curve: where they stand, what they are called.
    curves: &'static [(&'static str, &'static str)],
    /// A speech whose deliveries are shown in the course of time.
    course: Option<&'static str>,
}

use Better::{Higher, Lower};

/// `throng-bench idle`.
pub static IDLE: Wanted = Wanted {
    numbers: &[
        (
            "/user_bytes_per_connection",
            "user memory a session",
            "B",
            Lower,
        ),
        (
            "/kernel_bytes_per_connection",
            "kernel memory a session",
            "B",
            Lower,
        ),
        ("/server_cpu_percent", "server CPU while idle", "%", Lower),
    ],
    curves: &[("/handshake_latency_us", "until subscribed")],
    course: None,
};

/// `throng-bench connect`.
pub static CONNECT: Wanted = Wanted {
    numbers: &[
        ("/handshakes_per_s", "sessions", "1/s", Higher),
        (
            "/server_cpu_us_per_handshake",
            "server CPU a session",
            "us",
            Lower,
        ),
        (
            "/connect_latency_us/p99",
            "until subscribed, p99",
            "us",
            Lower,
        ),
    ],
    curves: &[("/connect_latency_us", "until subscribed")],
    course: None,
};

/// `throng-bench echo`.
pub static ECHO: Wanted = Wanted {
    numbers: &[
        ("/messages_per_s", "messages", "1/s", Higher),
        (
            "/server_cpu_us_per_message",
            "server CPU a message",
            "us",
            Lower,
        ),
        (
            "/raw_ring_cpu_us_per_message",
            "minimal ring CPU a message",
            "us",
            Lower,
        ),
        ("/ratio", "CPU by the minimal ring's", "", Lower),
    ],
    curves: &[("/latency_us", "echo")],
    course: None,
};

/// `throng-bench fanout --closed`.
pub static FANOUT_CLOSED: Wanted = Wanted {
    numbers: &[
        ("/deliveries_per_s", "deliveries", "1/s", Higher),
        ("/bare_send_per_s", "a bare loop of send()", "1/s", Higher),
        ("/ratio", "deliveries by bare sends", "", Higher),
        (
            "/server_cpu_us_per_delivery",
            "server CPU a delivery",
            "us",
            Lower,
        ),
    ],
    curves: &[],
    course: None,
};

/// `throng-bench fanout --open`: the highest rate, and nothing that depends on which one won.
pub static FANOUT_MOST: Wanted = Wanted {
    numbers: &[(
        "/coalesced_deliveries_per_s",
        "deliveries, 99 % within 100 ms",
        "1/s",
        Higher,
    )],
    curves: &[],
    course: None,
};

/// `throng-bench fanout --rate`.
pub static FANOUT_OPEN: Wanted = Wanted {
    numbers: &[
        ("/coalesced_deliveries_per_s", "deliveries", "1/s", Higher),
        ("/delivery_latency_us/p50", "delivery, p50", "us", Lower),
        ("/delivery_latency_us/p99", "delivery, p99", "us", Lower),
        (
            "/open_cpu_us_per_delivery",
            "server CPU a delivery",
            "us",
            Lower,
        ),
    ],
    curves: &[
        ("/open/delivery_latency_us", "delivery"),
        ("/open/ack_latency_us", "acknowledgement"),
    ],
    course: Some("/open"),
};

/// `throng-bench chat`.
pub static CHAT: Wanted = Wanted {
    numbers: &[
        ("/acked_per_s", "acknowledged", "1/s", Higher),
        ("/delivered_per_s", "deliveries", "1/s", Higher),
        ("/ack_latency_us/p50", "acknowledgement, p50", "us", Lower),
        ("/ack_latency_us/p99", "acknowledgement, p99", "us", Lower),
        ("/delivery_latency_us/p99", "delivery, p99", "us", Lower),
    ],
    curves: &[
        ("/ack_latency_us", "acknowledgement"),
        ("/delivery_latency_us", "delivery"),
    ],
    course: Some(""),
};

/// `throng-bench history`.
pub static HISTORY: Wanted = Wanted {
    numbers: &[
        ("/pages_per_s", "pages", "1/s", Higher),
        ("/page_latency_us/p50", "page, p50", "us", Lower),
        ("/page_latency_us/p99", "page, p99", "us", Lower),
        ("/server_cpu_us_per_page", "server CPU a page", "us", Lower),
    ],
    curves: &[
        ("/page_latency_us", "any page"),
        ("/newest_latency_us", "newest page"),
    ],
    course: None,
};

/// `throng-bench storm --drop`.
pub static STORM: Wanted = Wanted {
    numbers: &[
        ("/reconnect_s", "until all are back", "s", Lower),
        ("/lost", "lost messages", "", Lower),
    ],
    curves: &[("/handshake_latency_us", "until back")],
    course: Some("/after"),
};

/// `throng-bench store --only append`.
pub static STORE: Wanted = Wanted {
    numbers: &[
        (
            "/engines/throng/16/append_per_s",
            "durable appends, 16 a commit",
            "1/s",
            Higher,
        ),
        (
            "/engines/throng/16/append_ratio_to_raw",
            "appends by bare O_DIRECT writes",
            "",
            Higher,
        ),
        (
            "/engines/throng/16/page_newest_p50_us",
            "newest page, cold, p50",
            "us",
            Lower,
        ),
        (
            "/engines/throng/16/page_newest_warm_p50_us",
            "newest page, warm, p50",
            "us",
            Lower,
        ),
        (
            "/engines/throng/16/bytes_per_message",
            "on disk a message of 300 B",
            "B",
            Lower,
        ),
    ],
    curves: &[],
    course: None,
};

impl Wanted {
    /// Fills in what the rounds of a part have found.
    pub fn fill(&self, part: &mut Part) {
        let rounds = &part.rounds;
        let numbers = self.numbers.iter().filter_map(|(at, title, unit, better)| {
            let rounds = rounds.iter().filter(|round| is_measured(round, at));
            let values = rounds.filter_map(|round| round.pointer(at)?.as_f64());
            let key = at.trim_start_matches('/').replace('/', ".");
            Figure::of(&key, title, unit, *better, values.collect())
        });
        part.figures = numbers.collect();
        let middle = middle(rounds, self.curves.first().map(|(at, _)| *at));
        let curves = self.curves.iter().filter_map(|(at, title)| {
            let points = serde_json::from_value(middle?.pointer(at)?.get("curve")?.clone()).ok()?;
            Some(Curve {
                title: (*title).to_owned(),
                unit: "us".to_owned(),
                points,
            })
        });
        part.latencies = curves.collect();
        part.series = rounds
            .last()
            .map_or_else(Vec::new, |last| self.series(last));
        part.warnings = warnings(rounds);
    }

    fn series(&self, round: &Value) -> Vec<Series> {
        let course = self.course.and_then(|at| deliveries(round.pointer(at)?));
        course.into_iter().chain(memory(round)).collect()
    }
}

/// Whether a number is one: percentiles of nothing are not.
fn is_measured(round: &Value, at: &str) -> bool {
    let holder = at.rsplit_once('/').and_then(|(at, _)| round.pointer(at));
    let count = holder.and_then(|it| it.get("count")?.as_u64());
    count != Some(0)
}

/// The round whose median latency is the middle one; the last where there is no latency.
fn middle<'a>(rounds: &'a [Value], at: Option<&str>) -> Option<&'a Value> {
    let median = |round: &&Value| {
        let latency = round.pointer(at.unwrap_or(""));
        latency.and_then(|it| it.get("p50")?.as_u64())
    };
    let mut sorted: Vec<&Value> = rounds
        .iter()
        .filter(|round| median(round).is_some())
        .collect();
    sorted.sort_by_key(|round| median(round));
    sorted.get(sorted.len() / 2).copied().or(rounds.last())
}

/// Deliveries a second, by when their messages were due.
fn deliveries(spoken: &Value) -> Option<Series> {
    let part_s = spoken.get("part_s")?.as_f64().filter(|&s| s > 0.0)?;
    let parts = spoken.get("delivery_latency_by_part_us")?.as_array()?;
    let mut at_s = 0.0;
    let point = |part: &Value| {
        let point = (at_s, part.get("count")?.as_f64()? / part_s);
        at_s += part_s;
        Some(point)
    };
    let points: Vec<(f64, f64)> = parts.iter().filter_map(point).collect();
    (!points.is_empty()).then(|| Series {
        title: "deliveries, by when they were due".to_owned(),
        x: "s".to_owned(),
        unit: "1/s".to_owned(),
        points,
    })
}

/// The server's memory, by the sessions that had come.
fn memory(round: &Value) -> Option<Series> {
    let points = round.get("memory_by_connections")?;
    Some(Series {
        title: "growth of the server's resident memory".to_owned(),
        x: "sessions".to_owned(),
        unit: "B".to_owned(),
        points: serde_json::from_value(points.clone()).ok()?,
    })
}

/// Whether a report says so, and what it means.
type Trouble = (fn(&Value) -> bool, &'static str);

/// What limits the meaning of the figures, each once with the number of rounds.
fn warnings(rounds: &[Value]) -> Vec<String> {
    let troubles: [Trouble; 6] = [
        (
            is_generator_busy,
            "the generator used up its core, and the server is not known to have: the figures may be the generator's limit",
        ),
        (
            is_generator_late,
            "the generator was late (p99 above 50 ms): it did not offer what was asked for",
        ),
        (
            has_losses,
            "packets were dropped or waited for TCP's timeout: latencies of 200 ms and more may be that",
        ),
        (
            is_disturbed,
            "sockets of others came or went: memory figures mean nothing",
        ),
        (
            has_no_rate,
            "no rate held that was tried: there is no highest one",
        ),
        (
            has_guesses,
            "kernel objects could not be read (not root): kernel memory is counted by pages",
        ),
    ];
    let count = |is_so: fn(&Value) -> bool| rounds.iter().filter(|round| is_so(round)).count();
    troubles
        .into_iter()
        .map(|(is_so, text)| (count(is_so), text))
        .filter(|&(times, _)| times > 0)
        .map(|(times, text)| format!("{text} ({times} of {} rounds)", rounds.len()))
        .collect()
}

/// The highest of what a report says about the generator's cores, percent.
fn generator_percent(round: &Value) -> f64 {
    let places = ["", "/open", "/after"];
    let found = places
        .iter()
        .filter_map(|at| round.pointer(at)?.get("generator_cpu_percent"));
    let shares = found.flat_map(|value| match value {
        Value::Array(values) => values.iter().filter_map(Value::as_f64).collect(),
        value => value.as_f64().into_iter().collect::<Vec<f64>>(),
    });
    shares.fold(0.0, f64::max)
}

fn is_generator_busy(round: &Value) -> bool {
    let server = round
        .get("server_cpu_percent_of_core")
        .and_then(Value::as_f64);
    let is_server_busy = server.is_some_and(|percent| percent > GENERATOR_CPU_PERCENT_MAX);
    // An idle run counts its clients' coming, too, which nothing is made of.
    let is_idle = round.get("user_bytes_per_connection").is_some();
    !is_idle && !is_server_busy && generator_percent(round) > GENERATOR_CPU_PERCENT_MAX
}

fn is_generator_late(round: &Value) -> bool {
    let places = [
        "/generator_late_us",
        "/open/generator_late_us",
        "/after/generator_late_us",
    ];
    let late = places
        .iter()
        .filter_map(|at| round.pointer(at)?.get("p99")?.as_u64());
    late.max().is_some_and(|p99| p99 > GENERATOR_LATE_US_MAX)
}

fn has_losses(round: &Value) -> bool {
    // Of an open loop at the rate that counts, where there is one: others were too high on purpose.
    let round = round
        .get("open")
        .filter(|it| it.is_object())
        .unwrap_or(round);
    let counts = ["softnet_dropped", "tcp_timeouts"];
    counts.iter().any(|key| {
        round
            .get(key)
            .and_then(Value::as_u64)
            .is_some_and(|n| n > 0)
    })
}

/// A search that found nothing.
fn has_no_rate(round: &Value) -> bool {
    let probes = round.get("probes").and_then(Value::as_array);
    probes.is_some_and(|probes| !probes.is_empty()) && round.get("open").is_some_and(Value::is_null)
}

fn is_disturbed(round: &Value) -> bool {
    round.get("is_disturbed").and_then(Value::as_bool) == Some(true)
}

fn has_guesses(round: &Value) -> bool {
    let objects = round.get("objects_per_pair").and_then(Value::as_object);
    objects.is_some_and(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(wanted: &Wanted, rounds: Vec<Value>) -> Part {
        let mut part = Part {
            rounds,
            ..Part::default()
        };
        wanted.fill(&mut part);
        part
    }

    fn round(rate: f64, p50: u64) -> Value {
        let curve = [(0.5, p50, 1), (1.0, 2 * p50, 2)];
        json!({"messages_per_s": rate, "latency_us": {"p50": p50, "curve": curve}})
    }

    #[test]
    fn figures_have_one_value_a_round() {
        let part = filled(&ECHO, vec![round(3.0, 30), round(1.0, 10), round(2.0, 20)]);
        let [figure] = &part.figures[..] else {
            panic!("{:?}", part.figures)
        };
        assert_eq!(figure.key, "messages_per_s");
        assert_eq!(figure.values, [3.0, 1.0, 2.0]);
        assert_eq!(part.latencies[0].points, [(0.5, 20, 1), (1.0, 40, 2)]);
        assert!(part.warnings.is_empty());
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        for rounds in [vec![], vec![json!({})], vec![json!(null), json!("x")]] {
            for wanted in [&IDLE, &ECHO, &FANOUT_OPEN, &CHAT, &HISTORY, &STORM, &STORE] {
                let part = filled(wanted, rounds.clone());
                assert!(part.figures.is_empty() && part.latencies.is_empty());
                assert!(part.series.is_empty());
            }
        }
    }

    #[test]
    fn percentiles_of_nothing_are_no_figures() {
        let nothing = json!({"delivery_latency_us": {"count": 0, "p50": 0, "p99": 0}});
        assert!(filled(&FANOUT_OPEN, vec![nothing]).figures.is_empty());
        let something = json!({"delivery_latency_us": {"count": 9, "p50": 0, "p99": 7}});
        assert_eq!(filled(&FANOUT_OPEN, vec![something]).figures.len(), 2);
    }

    #[test]
    fn courses() {
        let parts = [json!({"count": 10}), json!({"count": 30})];
        let open = json!({"part_s": 2.0, "delivery_latency_by_part_us": parts});
        let part = filled(&FANOUT_OPEN, vec![json!({ "open": open })]);
        assert_eq!(part.series[0].points, [(0.0, 5.0), (2.0, 15.0)]);
        let parts = [json!({"count": 10}), json!({"count": 30})];
        let chat = json!({"part_s": 1.0, "delivery_latency_by_part_us": parts});
        assert_eq!(filled(&CHAT, vec![chat]).series[0].points[1], (1.0, 30.0));
        let part = filled(
            &IDLE,
            vec![json!({"memory_by_connections": [[0, 0], [10, 4096]]})],
        );
        assert_eq!(part.series[0].points, [(0.0, 0.0), (10.0, 4096.0)]);
    }

    #[test]
    fn limits_of_the_generator_are_told() {
        let check = |round: Value, expected: usize| {
            assert_eq!(
                warnings(std::slice::from_ref(&round)).len(),
                expected,
                "{round}"
            );
        };
        check(json!({"generator_cpu_percent": 95.0}), 1);
        check(json!({"generator_cpu_percent": [10.0, 95.0]}), 1);
        check(
            json!({"generator_cpu_percent": 95.0, "server_cpu_percent_of_core": 99.0}),
            0,
        );
        check(json!({"open": {"generator_cpu_percent": 95.0}}), 1);
        check(json!({"generator_late_us": {"p99": 50_001}}), 1);
        check(json!({"tcp_timeouts": 1, "softnet_dropped": null}), 1);
        check(json!({"tcp_timeouts": 0, "tcp_retransmitted": 9}), 0);
        check(json!({"open": {"tcp_timeouts": 0}, "tcp_timeouts": 9}), 0);
        check(
            json!({"open": null, "probes": [[1, 2.0, 3]], "tcp_timeouts": 0}),
            1,
        );
        check(json!({"open": null, "probes": []}), 0);
        check(json!({"is_disturbed": true, "objects_per_pair": {}}), 2);
    }
}
