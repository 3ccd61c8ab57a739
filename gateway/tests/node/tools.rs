//! `throng store` and `throng dlq` on the data of a real server.
//!
//! Invariants: a tool never runs beside a server; what it writes for programs is JSON, one object
//! a line.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::place::Place;
use super::process::{Ended, Launch};

const MESSAGES: u64 = 5;

fn tool(data: &Path, args: &[&str]) -> Launch {
    let launch = Launch::new(args.iter().copied());
    launch.arg("--data").arg(data)
}

fn run(data: &Path, args: &[&str]) -> Ended {
    tool(data, args).run()
}

/// A data directory in which one user wrote a few messages.
fn written() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let mut ada = place.enter(&server, 0);
    for number in 1..=MESSAGES {
        ada.store(place.channel, &format!("message {number}"));
    }
    let beside = run(data.path(), &["store", "verify"]);
    assert_eq!(beside.code, Some(1));
    assert!(beside.errors.contains("in use"), "{}", beside.errors);
    server.stop();
    data
}

#[test]
fn a_data_directory_may_be_named_from_where_one_stands() {
    let place = tempfile::tempdir().unwrap();
    for data in ["data", "./deeper/data"].map(Path::new) {
        let server = Launch::serve(data).within(place.path()).start();
        server.stop();
        let verify = tool(data, &["store", "verify"]).within(place.path()).run();
        assert_eq!(verify.code, Some(0), "{}", verify.errors);
    }
}

#[test]
fn what_was_exported_is_imported_and_exported_the_same() {
    let data = written();
    let (first, second) = (
        data.path().join("first.jsonl"),
        data.path().join("second.jsonl"),
    );
    let export = |from: &Path, to: &Path| {
        let ended = tool(from, &["store", "export"]).arg("--out").arg(to).run();
        assert_eq!(ended.code, Some(0), "{}", ended.errors);
        fs::read_to_string(to).unwrap()
    };
    let lines = export(data.path(), &first);
    assert_eq!(
        lines.matches("\"content\":\"message").count() as u64,
        MESSAGES
    );
    let other = tempfile::tempdir().unwrap();
    let import = tool(other.path(), &["store", "import"]).arg(&first).run();
    assert_eq!(import.code, Some(0), "{}", import.errors);
    assert_eq!(export(other.path(), &second), lines);
    for args in [
        ["store", "verify"],
        ["store", "inspect"],
        ["store", "compact"],
        ["dlq", "list"],
    ] {
        let ended = run(other.path(), &args);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.errors);
    }
}

#[test]
fn lines_that_are_refused_are_named() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("lines.jsonl");
    fs::write(&file, "{\"segments\":{}}\n\nno line\n").unwrap();
    let ended = tool(data.path(), &["store", "import"]).arg(&file).run();
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    assert!(ended.errors.contains("line 3 refused"), "{}", ended.errors);
}

#[test]
fn damage_is_found_and_named() {
    let data = written();
    assert_eq!(run(data.path(), &["store", "verify"]).code, Some(0));
    let days = fs::read_dir(data.path().join("segments"))
        .unwrap()
        .flatten();
    let files = days.flat_map(|day| fs::read_dir(day.path()).unwrap().flatten());
    let mut logs = files
        .map(|file| file.path())
        .filter(|path| path.extension().unwrap() == "log");
    let segment = logs.next().unwrap();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&segment)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4_096 + 200).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4_096 + 200).unwrap();
    let ended = run(data.path(), &["store", "verify"]);
    assert_eq!(ended.code, Some(1), "{}", ended.errors);
    let named = format!("{} at 4096", segment.display());
    assert!(ended.errors.contains(&named), "{}", ended.errors);
}

#[test]
fn what_is_no_store_is_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let ended = run(data.path(), &["store", "verify"]);
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.errors.contains("holds no message store"),
        "{}",
        ended.errors
    );
    assert_eq!(fs::read_dir(data.path()).unwrap().count(), 0);
}
