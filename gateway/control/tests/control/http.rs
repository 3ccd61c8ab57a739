//! HTTP itself: shapes of errors, connections, health, shutdown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::stage::{Stage, stage, stage_with};

#[test]
fn every_error_has_the_same_shape() {
    let stage = stage();
    let token = stage.user("alice");
    stage.get(&token, "/api/nothing").refused(404, "NOT_FOUND");
    stage.get(&token, "/nothing").refused(404, "NOT_FOUND");
    stage
        .get(&token, "/api/auth/login")
        .refused(405, "METHOD_NOT_ALLOWED");
    stage
        .get(&token, "/gateway")
        .refused(426, "UPGRADE_REQUIRED");
    stage
        .post(&token, "/gateway", &json!({}))
        .refused(426, "UPGRADE_REQUIRED");
    let check = |content_type, body: &[u8], status, code| {
        stage
            .post_raw(&token, "/api/guilds", content_type, body)
            .refused(status, code);
    };
    let json = Some("application/json");
    check(None, br#"{"name":"mine"}"#, 415, "UNSUPPORTED_MEDIA_TYPE");
    check(
        Some("text/plain"),
        br#"{"name":"mine"}"#,
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    );
    check(json, b"", 400, "VALIDATION_ERROR");
    check(json, br#"{"name":"#, 400, "VALIDATION_ERROR");
    check(json, b"{\"name\":\"\xff\xff\"}", 400, "VALIDATION_ERROR");
    check(json, "[".repeat(10_000).as_bytes(), 400, "VALIDATION_ERROR");
    check(json, &vec![b' '; 64 * 1024 + 1], 413, "PAYLOAD_TOO_LARGE");
    let declared = Some("Application/JSON; charset=utf-8");
    let made = stage.post_raw(
        &token,
        "/api/guilds",
        declared,
        br#"{"name":"mine","more":1}"#,
    );
    made.expect(201);
}

#[test]
fn the_first_page_says_how_to_chat() {
    let stage = stage();
    let page = stage.get("", "/").expect(200);
    assert!(page.as_str().unwrap().contains("throng chat --target"));
}

#[test]
fn health_says_how_shards_and_database_are() {
    let stage = stage();
    let health = stage.get("", "/health").expect(200);
    assert_eq!(health["status"], "healthy");
    assert_eq!(health["connections"], 6);
    assert_eq!(health["sessions"], 4);
    assert_eq!(health["database"]["healthy"], true);
    assert_eq!(health["shards"].as_array().unwrap().len(), 2);

    *stage.script.store_error.lock().unwrap() = Some("segments/3: bad frame".into());
    let sick = stage.get("", "/health");
    assert_eq!(
        (sick.status, &sick.body["status"]),
        (503, &json!("unhealthy"))
    );
    assert_eq!(
        sick.body["shards"][1]["storeError"],
        "segments/3: bad frame"
    );

    *stage.script.store_error.lock().unwrap() = None;
    stage.script.silent.store(true, Ordering::SeqCst);
    let silent = stage.get("", "/health");
    assert_eq!(silent.status, 503);
    assert_eq!(silent.body["shards"][0]["healthy"], false);
}

/// Sends and reads one response, of which the head's length is declared.
fn exchange(stream: &mut TcpStream, request: &str) -> (String, Value) {
    stream.write_all(request.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(
            reader.read_line(&mut head).unwrap() > 0,
            "closed after {head:?}"
        );
    }
    let length = head
        .split("content-length: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    (head, serde_json::from_slice(&body).unwrap())
}

const HEALTH: &str = "GET /health HTTP/1.1\r\nhost: throng\r\n\r\n";

#[test]
fn a_request_may_come_in_pieces_and_be_followed_by_another() {
    let stage = stage();
    let mut stream = TcpStream::connect(stage.address).unwrap();
    let (first, rest) = HEALTH.split_at(7);
    stream.write_all(first.as_bytes()).unwrap();
    while stage.handed_over.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    assert_eq!(exchange(&mut stream, rest).1["status"], "healthy");
    assert_eq!(exchange(&mut stream, HEALTH).1["status"], "healthy");
    assert_eq!(stage.handed_over.load(Ordering::SeqCst), 1);
}

#[test]
fn one_connection_too_many_is_told_so() {
    let stage = stage_with(|config| config.http_connections_max = 1);
    let mut first = TcpStream::connect(stage.address).unwrap();
    exchange(&mut first, HEALTH);
    let mut second = TcpStream::connect(stage.address).unwrap();
    let (head, body) = exchange(&mut second, HEALTH);
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 1"),
        "{head}"
    );
    assert_eq!(body["error"], "UNAVAILABLE");
    assert_eq!(second.read(&mut [0]).unwrap_or(0), 0, "closed");
    exchange(&mut first, HEALTH);
}

fn ends(stage: &Stage, sent: &str) {
    let mut stream = TcpStream::connect(stage.address).unwrap();
    stream.write_all(sent.as_bytes()).unwrap();
    let mut received = Vec::new();
    // Returns when the server closes, with or without an answer.
    let _ = stream.read_to_end(&mut received);
}

#[test]
fn nobody_keeps_a_connection_without_using_it() {
    let stage = stage_with(|config| {
        config.http_idle_ms_max = 50;
        config.http_body_ms_max = 50;
    });
    ends(&stage, HEALTH);
    ends(&stage, "GET /heal");
    ends(
        &stage,
        "POST /api/auth/login HTTP/1.1\r\nhost: throng\r\ncontent-type: application/json\r\n\
         content-length: 100\r\n\r\n{",
    );
}

#[test]
fn a_request_under_way_is_finished_at_shutdown() {
    let mut stage = stage();
    let owner = stage.user("owner");
    let guild = stage.guild(&owner);
    let channel = guild["channels"][0]["id"].as_str().unwrap();
    stage.script.delay_ms.store(100, Ordering::SeqCst);
    let handle = stage.handle.take().unwrap();
    std::thread::scope(|scope| {
        let reading =
            scope.spawn(|| stage.get(&owner, &format!("/api/channels/{channel}/messages")));
        while stage.script.asked_history.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        handle.shutdown();
        reading.join().unwrap().expect(200);
    });
}
