//! The configuration, and other reasons not to start.
//!
//! What each limit does is tested where it matters; here is where settings come from and how
//! mistakes are told.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use super::process::{Ended, Launch};
use super::raw::Raw;

fn refused(launch: Launch, code: i32, said: &[&str]) {
    let Ended {
        code: ended,
        errors,
    } = launch.run();
    assert_eq!(ended, Some(code), "{errors}");
    for said in said {
        assert!(errors.contains(said), "{said} is not in: {errors}");
    }
}

#[test]
fn mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("throng.toml");
    let with = |toml: &str| {
        fs::write(&file, toml).unwrap();
        Launch::new(["serve", "--listen", "127.0.0.1:0"])
            .arg("--config")
            .arg(&file)
            .arg("--data")
            .arg(dir.path())
    };
    let path = "throng.toml";
    refused(with("[limits]\nmesage = 1"), 2, &["mesage", path]);
    refused(with("shrads = 2"), 2, &["shrads", path]);
    refused(with("shards = \"two\""), 2, &["shards"]);
    refused(with("durability = \"maybe\""), 2, &["durability"]);
    refused(with("not toml"), 2, &[path]);
    refused(
        with("[limits]\nbacklog_bytes_max = 100"),
        2,
        &["limits.backlog_bytes_max", "100"],
    );
    let missing = dir.path().join("missing.toml");
    refused(
        Launch::serve(dir.path()).arg("--config").arg(&missing),
        2,
        &["missing.toml", "does not exist"],
    );
    let environment = |name: &str, value: &str| Launch::serve(dir.path()).set(name, value);
    refused(environment("SHRADS", "2"), 2, &["shrads"]);
    refused(
        environment("STORE__SEGMENT_BYTES", "4097"),
        2,
        &["store.segment_bytes", "4097"],
    );
    refused(
        Launch::serve(dir.path()).arg("--shards").arg("0"),
        2,
        &["--shards"],
    );
    refused(Launch::new(["serve", "--frob"]), 2, &["--frob"]);
    refused(Launch::new(["dance"]), 2, &["dance"]);
}

#[test]
fn flags_win_over_variables_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("throng.toml");
    fs::write(&file, "shards = 3\nlisten = \"nonsense\"").unwrap();
    let data = dir.path().join("data");
    let launch = |shards: Option<&str>, variable: Option<&str>| {
        let mut launch = Launch::new(["serve", "--listen", "127.0.0.1:0"])
            .set("STORE__SEGMENT_BYTES", "4194304")
            .arg("--data")
            .arg(&data)
            .arg("--config")
            .arg(&file);
        if let Some(shards) = variable {
            launch = launch.set("SHARDS", shards);
        }
        if let Some(shards) = shards {
            launch = launch.arg("--shards").arg(shards);
        }
        launch
    };
    let check = |launch: Launch, expected: usize| {
        let server = launch.start();
        let mut raw = Raw::connect(server.address);
        raw.send(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n");
        let shards = raw.answer().body["shards"].as_array().unwrap().len();
        assert_eq!(shards, expected);
        drop(raw);
        server.stop();
    };
    check(launch(None, None), 3);
    check(launch(None, Some("2")), 2);
    check(launch(Some("1"), Some("2")), 1);
}

#[test]
fn what_cannot_be_had_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = dir.path().join("data");
    let serve = |listen: &str, data: &Path| {
        Launch::new(["serve", "--shards", "1"])
            .set("STORE__SEGMENT_BYTES", "4194304")
            .arg("--listen")
            .arg(listen)
            .arg("--data")
            .arg(data)
    };
    refused(serve(&address, &data), 1, &[&address, "in use"]);
    refused(serve("nonsense", &data), 2, &["nonsense"]);
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    refused(serve("127.0.0.1:0", &file), 1, &[file.to_str().unwrap()]);

    let server = Launch::serve(&data).start();
    let path = data.to_str().unwrap();
    refused(serve("127.0.0.1:0", &data), 1, &[path, "another process"]);
    let running = server.address.to_string();
    let other = dir.path().join("other");
    refused(serve(&running, &other), 1, &[&running, "in use"]);
    server.stop();
    Launch::serve(&data).start().stop();
}
