//! A small run of `throng-bench store`, which starts processes of its own.
//!
//! It checks what others rely on: the names in the report, and that every page is right.
//!
//! It times nothing.

#![expect(
    clippy::unwrap_used,
    reason = "a test reports what it could not do by ending"
)]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_throng-bench");

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(BENCH)
        .args(["store", "--scale", "smoke", "--dir"])
        .arg(dir)
        .args(arguments)
        .output()
        .unwrap()
}

fn report(arguments: &[&str]) -> Value {
    let folder = folder();
    let json = folder.path().join("report.json");
    let arguments = [arguments, &["--json", json.to_str().unwrap()]].concat();
    let stores = folder.path().join("stores");
    let output = run(&stores, &arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let left = std::fs::read_dir(stores).unwrap().count();
    assert_eq!(left, 0, "a run removes what it stored");
    serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap()
}

fn assert_has(figures: &Value, keys: &[&str]) {
    for key in keys {
        let figure = figures[*key].as_f64();
        assert!(
            figure.is_some_and(|figure| figure >= 0.0),
            "{key} in {figures}"
        );
    }
    assert_eq!(figures["wrong_pages"], 0);
}

const APPEND: [&str; 2] = ["append_per_s", "append_sync_p99_us"];
const STORE: [&str; 6] = [
    "page_newest_p50_us",
    "page_newest_p99_us",
    "page_deep_p99_us",
    "recovery_ms",
    "bytes_per_message",
    "memory_bytes",
];

fn check(only: &[&str], engines: &[&str]) {
    let arguments: Vec<&str> = only.iter().flat_map(|only| ["--only", only]).collect();
    let report = report(&arguments);
    assert_eq!(report["version"], 1);
    let found = report["engines"].as_object().unwrap();
    assert_eq!(found.len(), engines.len());
    for engine in engines {
        let engine_report = &found[*engine];
        assert!(!engine_report["settings"].as_str().unwrap().is_empty());
        for batch in ["1", "16", "256"] {
            assert_has(&engine_report[batch], &APPEND);
            assert_has(&engine_report["bodies"]["2000"][batch], &APPEND);
            if *engine != "raw" {
                assert_has(&engine_report[batch], &STORE);
            }
        }
        if *engine != "raw" {
            assert_has(&engine_report["history"], &STORE);
            assert_has(&engine_report["history"], &["page_sparse_p50_us"]);
        }
    }
}

#[test]
fn throng_and_the_device_are_measured_and_every_page_is_right() {
    check(&["throng", "raw"], &["throng", "raw"]);
}

#[test]
#[cfg(feature = "engines")]
fn the_other_engines_are_measured_and_every_page_is_right() {
    let engines = ["rocksdb", "fjall", "sqlite"];
    check(&engines, &engines);
}

#[test]
fn long_scenarios_come_to_an_end_and_are_judged_only_at_their_whole_size() {
    let report = report(&[
        "--only",
        "years",
        "--only",
        "million-day",
        "--messages",
        "20000",
    ]);
    let long = report["long"].as_array().unwrap();
    assert_eq!(long.len(), 2);
    for scenario in long {
        assert_eq!(scenario["wrong_pages"], 0);
        assert_eq!(scenario["checks"].as_array().unwrap().len(), 0);
        assert!(scenario["pages_checked"].as_u64().unwrap() > 0);
        assert!(scenario["messages"].as_u64().unwrap() >= 20_000);
        assert!(scenario["disk_to_raw_json"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn memory_is_no_disk() {
    let memory = Path::new("/dev/shm");
    if memory.exists() {
        let output = run(memory, &[]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2));
        assert!(errors.contains("--dir"), "{errors}");
    }
}

#[test]
#[cfg(not(feature = "engines"))]
fn an_engine_that_is_not_built_in_is_named() {
    let output = run(folder().path(), &["--only", "rocksdb"]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(errors.contains("--features engines"), "{errors}");
}
