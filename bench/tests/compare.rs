//! `throng-bench compare` as a program: its exit status, and what it says of files that are no
//! reports.
//!
//! It needs no server.
//!
//! Invariants: an error names the file.

#![expect(
    clippy::disallowed_methods,
    reason = "a test prepares files for the programs it runs"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const BENCH: &str = env!("CARGO_BIN_EXE_throng-bench");

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/suite.json")
}

/// Compares two files; returns standard output and standard error.
fn check(a: &Path, b: &Path, options: &[&str], status: i32) -> (String, String) {
    let mut command = Command::new(BENCH);
    command.arg("compare").arg(a).arg(b).args(options);
    let output = command.output().expect("the program runs");
    let [out, error] =
        [output.stdout, output.stderr].map(|it| String::from_utf8(it).expect("text"));
    assert_eq!(output.status.code(), Some(status), "{out}{error}");
    (out, error)
}

#[test]
fn reports() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let text = fs::read_to_string(fixture()).unwrap();
    // Rates of the first part a tenth of what they were.
    let worse = text.replacen("\"version\": 1", "\"version\": 1, \"ignored\": 2", 1);
    let mut report: serde_json::Value = serde_json::from_str(&worse).unwrap();
    for key in ["min", "median", "max"] {
        let value = &mut report["parts"][0]["figures"][0][key];
        *value = (value.as_f64().unwrap() / 10.0).into();
    }
    fs::write(file("worse.json"), report.to_string()).unwrap();
    let (json, html) = (file("out.json"), file("out.html"));
    let options = [
        "--json",
        json.to_str().unwrap(),
        "--html",
        html.to_str().unwrap(),
    ];
    let (out, _) = check(&fixture(), &file("worse.json"), &options, 0);
    assert!(out.contains("1 worse, 0 better"), "{out}");
    let json: serde_json::Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
    assert_eq!(json["changes"][0]["key"], "messages_per_s");
    assert!(
        fs::read_to_string(html)
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
    check(&fixture(), &file("worse.json"), &["--fail-on-worse"], 1);
    check(&file("worse.json"), &fixture(), &["--fail-on-worse"], 0);
    check(&fixture(), &fixture(), &["--fail-on-worse"], 0);
}

#[test]
fn files_that_are_no_reports() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text, expected) in [
        ("empty.json", "", "not JSON"),
        ("text.json", "hello", "not JSON: expected value at line 1"),
        ("other.json", "{\"version\": 7}", "a report of version 7"),
        ("missing.json", "{\"version\": 1}", "missing field `tool`"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let (_, error) = check(&fixture(), &path, &[], 2);
        assert!(error.contains(name) && error.contains(expected), "{error}");
    }
    let absent = folder.path().join("absent.json");
    let (_, error) = check(&absent, &fixture(), &[], 2);
    assert!(error.contains("absent.json"), "{error}");
    let (_, error) = check(&fixture(), folder.path(), &[], 2);
    assert!(error.contains("directory"), "{error}");
    let large = folder.path().join("large.json");
    fs::File::create(&large)
        .unwrap()
        .set_len((64 << 20) + 1)
        .unwrap();
    let (_, error) = check(&fixture(), &large, &[], 2);
    assert!(error.contains("larger than 64 MiB"), "{error}");
}
