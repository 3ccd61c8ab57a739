//! Small runs of `throng-bench idle`, `fanout`, `echo`, `storm` and `soak` against the real server.
//!
//! They check what others rely on: the names in the reports, and that a sound server passes. No
//! figure is judged: the machine is busy with other tests.
//!
//! The server's binary lies beside the bench's own: `make test` builds both first.

#![expect(
    clippy::disallowed_methods,
    reason = "a test prepares files for the programs it runs"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_throng-bench");

const CONFIG: &str = "
[limits.message]
count = 0
window_s = 5
[limits.identify]
count = 0
window_s = 60
";

/// Everybody may say one thing a minute.
const TACITURN: &str = "
[limits.message]
count = 1
window_s = 60
";

fn server_binary() -> PathBuf {
    let binary = Path::new(BENCH).with_file_name("throng");
    assert!(
        binary.exists(),
        "{} is needed: run `make build`",
        binary.display()
    );
    binary
}

/// A server that ends with the test.
struct Server {
    child: Child,
    target: String,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("the server says something");
        let target = line
            .trim()
            .strip_prefix("listening on ")
            .expect("it says where")
            .to_owned();
        Self { child, target }
    }

    fn serve(folder: &Path, limits: &str) -> Self {
        let config = folder.join("throng.toml");
        fs::write(&config, limits).expect("a temporary file can be written");
        let mut command = Command::new(server_binary());
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", "2"])
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--config")
            .arg(config);
        Self::start(&mut command)
    }

    fn pid(&self) -> String {
        self.child.id().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server with so many users, who all share a channel and have circles of four.
fn stage(users: u32) -> (tempfile::TempDir, Server) {
    stage_with(users, CONFIG)
}

fn stage_with(users: u32, limits: &str) -> (tempfile::TempDir, Server) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::serve(folder.path(), limits);
    let status = Command::new(server_binary())
        .args(["admin", "seed-users", "--everyone", "all of us"])
        .args(["--circles", "4", "--count", &users.to_string()])
        .arg("--data")
        .arg(folder.path().join("data"))
        .arg("--out")
        .arg(folder.path().join("tokens"))
        .status()
        .expect("the tool runs");
    assert!(status.success(), "{status}");
    (folder, server)
}

/// Runs the bench; says how it ended and what it reported.
fn bench(folder: &Path, target: &str, args: &[&str]) -> (ExitStatus, Value) {
    let json = folder.join("report.json");
    let status = Command::new(BENCH)
        .args(args)
        .args(["--target", target])
        .arg("--json")
        .arg(&json)
        .status()
        .expect("the bench runs");
    let report = fs::read(&json).unwrap_or_else(|_| panic!("a report; {status}"));
    (status, serde_json::from_slice(&report).expect("JSON"))
}

fn number(report: &Value, name: &str) -> f64 {
    report[name]
        .as_f64()
        .unwrap_or_else(|| panic!("no {name} in {report}"))
}

fn tokens(folder: &Path) -> String {
    folder.join("tokens").display().to_string()
}

#[test]
fn sessions_are_held_on_several_rings_and_hear_everything() {
    let (folder, server) = stage(60);
    let (status, report) = bench(
        folder.path(),
        &server.target,
        &[
            "idle",
            "--connections",
            "60",
            "--ring-places",
            "25",
            "--duration",
            "2s",
            "--heartbeat",
            "500ms",
            "--tokens",
            &tokens(folder.path()),
            "--pid",
            &server.pid(),
            "--sample",
            "2",
            "--then-broadcast",
            "--then-rate",
            "50",
            "--then-duration",
            "2s",
        ],
    );
    assert!(status.success(), "{status}: {report}");
    for name in [
        "user_bytes_per_connection",
        "kernel_bytes_per_connection",
        "server_cpu_percent",
    ] {
        number(&report, name);
    }
    assert!(number(&report, "handshakes_per_s") > 0.0);
    assert!(number(&report, "connections").total_cmp(&60.0).is_eq());
    assert_eq!(report["least_live"], 60);
    assert_eq!(report["subscriptions"], 300);
    assert!(report["softnet_dropped"].is_u64() && report["tcp_retransmitted"].is_u64());
    assert_eq!(report["generator_rings"], 3);
    assert_eq!(report["broadcast"]["deliveries"], 60);
    assert_eq!(report["chatter"]["sent"], 100);
    assert_eq!(report["chatter"]["deliveries"], 400);
    for heard in ["broadcast", "chatter"] {
        for wrong in ["lost", "duplicated", "out_of_order", "unasked", "doubled"] {
            assert_eq!(report[heard][wrong], 0, "{heard}.{wrong}");
        }
        assert_eq!(report[heard]["due"], report[heard]["deliveries"]);
        assert!(number(&report[heard], "generator_cpu_percent") > 0.0);
    }
    let beats = &report["heartbeats"];
    assert!(beats[0].as_u64() > Some(200), "{beats}");
    assert!(report["events"][1].as_u64() > Some(100), "a half is parsed");
}

#[test]
fn sessions_that_watch_less_than_was_asked_for_are_told_apart() {
    let (folder, server) = stage(8);
    let (status, report) = bench(
        folder.path(),
        &server.target,
        &[
            "idle",
            "--connections",
            "8",
            "--subscriptions",
            "6",
            "--duration",
            "1s",
            "--no-calibration",
            "--warm-up",
            "2",
            "--tokens",
            &tokens(folder.path()),
        ],
    );
    assert_eq!(status.code(), Some(1), "{report}");
    assert_eq!(report["least_live"], 8);
    assert_eq!(report["subscriptions"], 40);
    assert_eq!(report["subscriptions_asked"], 48);
}

#[test]
fn a_server_that_has_no_room_for_all_is_told_apart() {
    let (folder, server) = stage(12);
    let path = folder.path().join("tokens");
    let text = fs::read_to_string(&path).expect("tokens");
    let good: Vec<&str> = text.lines().take(10).collect();
    fs::write(&path, good.join("\n") + "\nnobody\n").expect("a temporary file can be written");
    let (status, report) = bench(
        folder.path(),
        &server.target,
        &[
            "idle",
            "--connections",
            "11",
            "--duration",
            "1s",
            "--no-calibration",
            "--warm-up",
            "5",
            "--connect-timeout",
            "3s",
            "--tokens",
            &tokens(folder.path()),
        ],
    );
    assert_eq!(status.code(), Some(1), "{report}");
    assert_eq!(report["connections"], 10);
    assert_eq!(report["asked"], 11);
    assert!(report["errors"]["INVALID_SESSION"].as_u64() > Some(0));
}

#[test]
fn a_fan_out_is_compared_with_a_bare_loop() {
    let (folder, server) = stage(50);
    let (status, report) = bench(
        folder.path(),
        &server.target,
        &[
            "fanout",
            "--subscribers",
            "50",
            "--duration",
            "2s",
            "--closed",
            "--recv",
            "multishot",
            "--tokens",
            &tokens(folder.path()),
        ],
    );
    assert!(status.success(), "{status}: {report}");
    assert_eq!(report["subscribers"], 50);
    for name in ["deliveries_per_s", "bare_send_per_s", "ratio"] {
        assert!(number(&report, name) > 0.0, "{name}");
    }
    assert!(number(&report, "frame_bytes") > 300.0);
    for absent in ["coalesced_deliveries_per_s", "server_cpu_us_per_delivery"] {
        assert!(report[absent].is_null(), "{absent} was not measured");
    }

    let (status, report) = bench(
        folder.path(),
        &server.target,
        &[
            "fanout",
            "--subscribers",
            "50",
            "--duration",
            "2s",
            "--rate",
            "20",
            "--warm-up",
            "500ms",
            "--tokens",
            &tokens(folder.path()),
        ],
    );
    assert!(status.success(), "{status}: {report}");
    assert!(number(&report, "coalesced_deliveries_per_s") > 0.0);
    assert_eq!(report["open"]["deliveries"], 2_000);
    assert_eq!(report["open"]["due"], 2_000);
    assert_eq!(report["warm_up_s"], 0.5);
    for name in ["lost", "duplicated", "out_of_order"] {
        assert_eq!(report[name], 0, "{name}");
    }
    assert!(report["delivery_latency_us"]["p99"].as_u64().is_some());
}

#[test]
fn an_echo_takes_turns_with_the_least_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = Command::new(server_binary());
    let server = Server::start(command.args(["echo", "--listen", "127.0.0.1:0"]));
    let (status, report) = bench(
        folder.path(),
        &server.target,
        &[
            "echo",
            "--connections",
            "20",
            "--size",
            "200",
            "--duration",
            "2s",
            "--pid",
            &server.pid(),
        ],
    );
    assert!(status.success(), "{status}: {report}");
    for name in [
        "messages_per_s",
        "server_cpu_us_per_message",
        "raw_ring_cpu_us_per_message",
    ] {
        assert!(number(&report, name) > 0.0, "{name}");
    }
    assert!(report["latency_us"]["p50"].as_u64() > Some(0));
    assert_eq!(report["wrong"], 0);
}

#[test]
fn who_was_cut_comes_back_and_has_missed_nothing() {
    let (folder, server) = stage(40);
    let (status, report) = bench(
        folder.path(),
        &server.target,
        &[
            "storm",
            "--connections",
            "40",
            "--drop",
            "--tokens",
            &tokens(folder.path()),
        ],
    );
    assert!(status.success(), "{status}: {report}");
    assert!(number(&report, "reconnect_s") >= 0.0);
    assert_eq!(report["lost"], 0);
    assert_eq!(report["cut"], 39);
    assert_eq!(report["after"]["deliveries"], 200);
}

#[test]
fn a_soak_loses_nothing_among_those_who_misbehave() {
    let (folder, server) = stage(200);
    let (tokens, pid) = (tokens(folder.path()), server.pid());
    let options = "soak --connections 200 --duration 6s --every 500ms --rate 100 --churn 20 --away 2s \
        --slow 8 --slow-rate 400 --malformed 12 --grace 20s";
    let options = options.split_whitespace();
    let args: Vec<&str> = options
        .chain(["--tokens", &tokens, "--pid", &pid])
        .collect();
    let (status, report) = bench(folder.path(), &server.target, &args);
    assert!(status.success(), "{status}: {report}");
    assert_eq!(report["connections"], 200);
    for name in [
        "lost",
        "duplicated",
        "out_of_order",
        "doubled",
        "unanswered",
        "dropped",
        "missing",
        "malformed_unanswered",
        "malformed_answered_otherwise",
    ] {
        assert_eq!(report[name], 0, "{name}");
    }
    assert_eq!(report["is_leaking"], false, "{report}");
    assert_eq!(report["gone"]["server_sessions"], 0);
    assert!(report["is_memory_flat"].is_null(), "too short to judge");
    for name in [
        "messages",
        "deliveries",
        "disconnects",
        "goodbyes",
        "resumes",
        "slow_stalls",
        "slow_dropped",
        "malformed",
        "rss_bytes_first",
        "rss_bytes_last",
        "fds_before",
        "fds_after",
    ] {
        assert!(number(&report, name) > 0.0, "{name}");
    }
    for name in ["resyncs", "slow_closed", "rss_slope_bytes_per_min"] {
        number(&report, name);
    }
    assert!(number(&report, "resumes") >= number(&report, "disconnects"));
    let samples = report["samples"].as_array().expect("samples");
    assert!(
        samples
            .iter()
            .all(|sample| sample["rss_bytes"].as_i64() > Some(0))
    );
}

#[test]
fn a_soak_whose_messages_are_refused_is_not_clean() {
    let (folder, server) = stage_with(40, TACITURN);
    let tokens = tokens(folder.path());
    let options = "soak --connections 40 --duration 2s --rate 100 --churn 0 --slow 0 --malformed 0 --grace 3s";
    let options = options.split_whitespace();
    let args: Vec<&str> = options.chain(["--tokens", &tokens]).collect();
    let (status, report) = bench(folder.path(), &server.target, &args);
    assert_eq!(status.code(), Some(1), "{report}");
    assert!(report["refused"]["RATE_LIMITED"].as_u64() > Some(0));
    assert!(report["is_leaking"].is_boolean() && report["rss_bytes_first"].is_null());
}

#[test]
fn a_server_that_is_not_there_is_said_clearly() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokens");
    fs::write(&path, "nobody\n").expect("a temporary file can be written");
    let output = Command::new(BENCH)
        .args(["fanout", "--target", "http://127.0.0.1:1", "--tokens"])
        .arg(&path)
        .args(["--subscribers", "1", "--connect-timeout", "1s"])
        .output()
        .expect("the bench runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("0 of 1 clients"), "{said}");
    assert!(said.contains("connection refused"), "{said}");
}
