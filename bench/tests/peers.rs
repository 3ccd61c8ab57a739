//! A small run of `throng-bench peers` against the servers that are built with it.
//!
//! It judges no figure: the machine is busy with other tests. Servers that must be installed are
//! left to `bench/peers/install.sh`; that they are named when they are missing is checked here.
//!
//! The servers' binaries lie beside the bench's own: `make test` builds them first.

#![expect(clippy::disallowed_methods, reason = "a test reads the report")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_throng-bench");

/// The command with its data and its report in a folder.
fn command(folder: &Path, args: &[&str]) -> Command {
    for name in ["throng", "peer-tokio-tungstenite"] {
        let binary = Path::new(BENCH).with_file_name(name);
        assert!(
            binary.exists(),
            "{} is needed: run `make build`",
            binary.display()
        );
    }
    let mut command = Command::new(BENCH);
    command.args(["peers", "--scale", "smoke"]);
    command
        .args(args)
        .arg("--json")
        .arg(folder.join("report.json"));
    command.arg("--data").arg(folder);
    command
}

/// What it reported, if anything, which is all that it leaves behind.
fn reported(folder: &Path) -> Option<Value> {
    let left: Vec<String> = fs::read_dir(folder)
        .expect("it is still there")
        .map(|entry| entry.expect("an entry").file_name().display().to_string())
        .filter(|name| name != "report.json")
        .collect();
    assert!(left.is_empty(), "servers' folders are removed: {left:?}");
    let report = fs::read(folder.join("report.json")).ok();
    report.map(|text| serde_json::from_slice(&text).expect("JSON"))
}

/// Runs `peers`; says how it ended and what it reported, if anything.
fn peers(args: &[&str]) -> (Output, Option<Value>) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = command(folder.path(), args)
        .output()
        .expect("the bench runs");
    let report = reported(folder.path());
    (output, report)
}

fn figure(report: &Value, part: &str, subject: &str, key: &str) -> f64 {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let parts = list(&report["parts"]);
    let part = parts
        .iter()
        .find(|it| it["name"] == part && it["subject"] == subject)
        .unwrap_or_else(|| panic!("no {part} of {subject} in {report}"));
    assert_eq!(part["verdict"], "kept", "{part}");
    assert!(!list(&part["rounds"]).is_empty());
    let figures = list(&part["figures"]);
    let figure = figures.iter().find(|it| it["key"] == key);
    let figure = figure.unwrap_or_else(|| panic!("no {key} in {part}"));
    figure["median"].as_f64().expect("a number")
}

#[test]
fn a_server_of_the_house_goes_through_all_benchmarks() {
    let subject = "tokio-tungstenite";
    let (output, report) = peers(&["--only", subject]);
    let report = report.unwrap_or_else(|| panic!("{output:?}"));
    assert!(output.status.success(), "{output:?}");
    for (part, key) in [
        ("idle", "user_bytes_per_connection"),
        ("connect", "handshakes_per_s"),
        ("echo", "messages_per_s"),
        ("echo", "server_cpu_us_per_message"),
        ("fanout-closed", "deliveries_per_s"),
        ("fanout-closed", "server_cpu_us_per_delivery"),
    ] {
        assert!(figure(&report, part, subject, key) > 0.0, "{part}: {key}");
    }
    // Whether a rate holds depends on the machine; that none came twice or late does not.
    let parts = report["parts"].as_array().expect("a list");
    let open = parts.iter().find(|part| part["name"] == "fanout-open");
    assert_eq!(open.expect("it was tried")["verdict"], "kept");
    assert_eq!(report["complete"], true);
    assert_eq!(report["skipped"], Value::Array(Vec::new()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        text.contains(subject) && text.contains("None of the other servers"),
        "{text}"
    );
}

#[test]
fn throng_is_measured_under_the_same_names() {
    let only = [
        "--only",
        "throng",
        "--only",
        "echo",
        "--only",
        "fanout-closed",
    ];
    let (output, report) = peers(&only);
    let report = report.unwrap_or_else(|| panic!("{output:?}"));
    assert!(output.status.success(), "{output:?}");
    for (part, key) in [
        ("echo", "messages_per_s"),
        ("fanout-closed", "deliveries_per_s"),
        ("fanout-closed", "server_cpu_us_per_delivery"),
    ] {
        assert!(figure(&report, part, "throng", key) > 0.0, "{part}: {key}");
    }
}

#[test]
fn who_ends_it_gets_what_was_measured() {
    for subject in ["tokio-tungstenite", "throng"] {
        ended_after_the_first(subject);
    }
}

fn ended_after_the_first(subject: &str) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let args = ["--only", subject, "--rounds", "50"];
    let mut child = command(folder.path(), &args)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the bench runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
    let first = stderr.find(|line| line.as_ref().is_ok_and(|line| line.starts_with("round 1:")));
    assert!(first.is_some(), "a benchmark is done");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not 0");
    kill_process(pid, Signal::TERM).expect("it runs");
    // Nobody holds its standard error any more once it has ended.
    let rest: Vec<String> = stderr.map_while(Result::ok).collect();
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130), "{rest:?}");
    let report = reported(folder.path()).expect("a report");
    assert_eq!(report["complete"], false);
    assert!(!report["parts"].as_array().expect("a list").is_empty());
}

#[test]
fn what_is_not_installed_is_named() {
    let (output, report) = peers(&["--only", "node-ws", "--peers", "/nowhere"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(report, None, "there is nothing to report");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("node-ws: no ") && said.contains("bench/peers/node-ws && npm ci"),
        "{said}"
    );
    let (output, report) = peers(&["--only", "nobody"]);
    assert_eq!((output.status.code(), report), (Some(2), None));
}
