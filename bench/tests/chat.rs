//! A small run of `throng-bench chat` against the real server.
//!
//! It checks what others rely on: the names in the report, and that a sound server passes.
//!
//! The server's binary lies beside the bench's own: `make test` builds both first.

#![expect(
    clippy::disallowed_methods,
    reason = "a test prepares files for the programs it runs"
)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const BENCH: &str = env!("CARGO_BIN_EXE_throng-bench");

/// Limits per user that would stop a bench.
const CONFIG: &str = "
[limits.message]
count = 0
window_s = 5
[limits.register]
count = 0
window_s = 60
";

const CORPUS: &str = r#"{"lang": "en", "topic": "greetings", "turns": ["Hello", "Hi, how are you?"]}
{"lang": "ja", "topic": "greetings", "turns": ["こんにちは", "お元気ですか"]}
"#;

/// A server that ends with the test.
struct Server {
    child: Child,
    target: String,
}

impl Server {
    fn start(folder: &Path) -> Self {
        let binary = Path::new(BENCH).with_file_name("throng");
        assert!(
            binary.exists(),
            "{} is needed: run `make build`",
            binary.display()
        );
        let config = write(folder, "throng.toml", CONFIG);
        let mut child = Command::new(binary)
            .args(["serve", "--listen", "127.0.0.1:0", "--shards", "2"])
            .arg("--data")
            .arg(folder.join("data"))
            .arg("--config")
            .arg(config)
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
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).expect("a temporary file can be written");
    path
}

#[test]
fn a_small_run_keeps_every_promise_and_reports_it() {
    let folder = std::env::temp_dir().join(format!("throng-bench-test-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    let server = Server::start(&folder);
    let json = folder.join("report.json");
    let status = Command::new(BENCH)
        .args([
            "chat",
            "--target",
            &server.target,
            "--clients",
            "12",
            "--channels",
            "4",
        ])
        .args(["--rate", "100", "--warm-up", "1s", "--duration", "3s"])
        .arg("--corpus")
        .arg(write(&folder, "corpus.jsonl", CORPUS))
        .arg("--json")
        .arg(&json)
        .status()
        .expect("the bench runs");
    drop(server);
    assert!(status.success(), "{status}");

    let report: Value = serde_json::from_slice(&fs::read(&json).expect("a report")).expect("JSON");
    let number = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name}"));
    assert_eq!((number("sent"), number("acked")), (400, 400));
    assert_eq!(number("delivered"), number("expected"));
    assert!(number("delivered") > number("sent"));
    for name in ["lost", "duplicated", "out_of_order"] {
        assert_eq!(number(name), 0, "{name}");
    }
    // The warm-up keeps its promises and is not measured.
    assert_eq!(report["ack_latency_us"]["count"], 300);
    let parts = report["delivery_latency_by_part_us"].as_array();
    let counts = parts.expect("a course").iter().map(|part| &part["count"]);
    let measured: u64 = counts.filter_map(Value::as_u64).sum();
    assert!(measured < number("delivered"), "{measured}");
    assert_eq!(report["delivery_latency_us"]["count"], measured);
    for latency in ["ack_latency_us", "delivery_latency_us"] {
        for quantile in ["p50", "p99", "p999", "max"] {
            assert!(
                report[latency][quantile].as_u64().is_some(),
                "{latency}.{quantile}"
            );
        }
    }
    let _ = fs::remove_dir_all(&folder);
}

#[test]
fn a_server_that_is_not_there_is_said_clearly() {
    let output = Command::new(BENCH)
        .args(["chat", "--target", "http://127.0.0.1:1"])
        .args(["--clients", "1", "--channels", "1"])
        .output()
        .expect("the bench runs");
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("127.0.0.1:1"), "{said}");
}
