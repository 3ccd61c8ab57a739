//! Small runs of `throng-bench connect`, `history` and `suite` against the real server.
//!
//! They check what others rely on: the names in the reports, that a sound server passes, and that
//! what cannot be run is said. No figure is judged: the machine is busy with other tests.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use throng_bench::suite::model::{SUITE_VERSION, SuiteReport, Verdict};

const BENCH: &str = env!("CARGO_BIN_EXE_throng-bench");

fn suite(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(BENCH);
    command
        .args(["suite", "--scale", "smoke", "--json"])
        .arg(folder.join("suite.json"))
        .arg("--dir")
        .arg(folder)
        .args(args);
    command
}

fn report(folder: &Path) -> SuiteReport {
    let json = fs::read_to_string(folder.join("suite.json")).expect("a report is written");
    serde_json::from_str(&json).expect("it is a suite's report")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_suite_measures_what_it_is_told_to() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let hgrm = folder.path().join("hgrm");
    let mut command = suite(folder.path(), &["--rounds", "1", "--hgrm"]);
    command.arg(&hgrm);
    for part in ["idle", "connect", "history", "echo"] {
        command.args(["--only", part]);
    }
    let output = command.output().expect("the bench runs");
    assert!(
        output.status.success(),
        "{}: {}",
        output.status,
        said(&output)
    );

    let report = report(folder.path());
    assert_eq!((report.version, report.complete), (SUITE_VERSION, true));
    assert!(!report.revision.is_empty() && !report.machine.kernel.is_empty());
    assert!(report.server.starts_with("throng 0."), "{}", report.server);
    let key = |name: &str, key: &str| {
        let mut parts = report.parts.iter().filter(|part| part.name == name);
        let part = parts.next().expect("the part was run");
        assert_eq!(part.verdict, Verdict::Kept, "{name}");
        part.figures
            .iter()
            .any(|figure| figure.key == key && figure.values.len() == 1)
    };
    assert!(key("idle", "user_bytes_per_connection"));
    assert!(key("connect", "handshakes_per_s"));
    assert!(key("history", "pages_per_s"));
    assert!(key("echo", "server_cpu_us_per_message"));
    let series = report.parts.iter().flat_map(|part| &part.series);
    assert!(
        series
            .clone()
            .any(|it| it.x == "sessions" && it.points.len() > 5)
    );
    let written = fs::read_dir(hgrm).expect("curves are written").count();
    let curves: usize = report.parts.iter().map(|part| part.latencies.len()).sum();
    assert!(curves >= 4 && written == curves, "{written} of {curves}");
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 2, "the report and the curves; data is removed");
}

#[test]
fn the_schema_is_the_published_one() {
    let mut command = Command::new(BENCH);
    let output = command.arg("schema").output().expect("the bench runs");
    assert!(output.status.success());
    let published = concat!(env!("CARGO_MANIFEST_DIR"), "/../perf/suite.schema.json");
    let published = fs::read_to_string(published).expect("it is published");
    assert!(
        String::from_utf8_lossy(&output.stdout) == published,
        "the reports have changed: see whether SUITE_VERSION must go up, then \
         throng-bench schema > perf/suite.schema.json"
    );
}

/// Ends a suite of this part once it has said so; says what it reported.
fn ended(part: &str, when: &str) -> SuiteReport {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = suite(folder.path(), &["--only", part, "--rounds", "50"]);
    let mut child = command
        .stderr(Stdio::piped())
        .spawn()
        .expect("the bench runs");
    let mut stderr = BufReader::new(child.stderr.take().expect("piped")).lines();
    let found = stderr.find(|line| line.as_ref().is_ok_and(|line| line.contains(when)));
    assert!(found.is_some(), "it says {when}");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not 0");
    kill_process(pid, Signal::INT).expect("it runs");
    // Nobody holds its standard error any more: servers, engines and yardsticks have ended, too.
    let rest: Vec<String> = stderr.map_while(Result::ok).collect();
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130), "{rest:?}");
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 1, "the report alone; data is removed");
    report(folder.path())
}

#[test]
fn who_ends_a_suite_gets_what_was_measured() {
    let report = ended("echo", "[2 of 50]");
    assert!(!report.complete);
    assert_eq!(report.parts.len(), 1);
    assert_eq!(report.parts[0].rounds.len(), 1);
}

#[test]
fn a_suite_is_ended_wherever_it_is() {
    // While accounts are made; while an engine's process appends.
    for (part, when) in [("idle", "[1 of 100]"), ("store", "measuring: ")] {
        let report = ended(part, when);
        assert!(!report.complete && report.parts.is_empty(), "{part}");
    }
}

#[test]
fn what_cannot_be_run_is_said() {
    let check = |args: &[&str], expected: &str| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = suite(folder.path(), args).output().expect("the bench runs");
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains(expected), "{}", said(&output));
    };
    check(
        &["--only", "everything"],
        "there is no such part; there are idle, connect, echo",
    );
    check(
        &["--server", "/nowhere/throng"],
        "`make build` makes the server's program",
    );
}
