//! HTTP on the port of the WebSocket.
//!
//! Requests are written byte for byte: what an HTTP library would not send is sent too.

use super::place::Place;
use super::process::Launch;
use super::raw::{Heard, Raw, frame, upgrade};
use throng_protocol::frame::Opcode;

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: here\r\n\r\n")
}

#[test]
fn a_connection_carries_many_requests() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let mut raw = Raw::connect(server.address);
    for _ in 0..3 {
        raw.send(get("/health").as_bytes());
        let answer = raw.answer();
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(answer.body["status"], "healthy");
        assert_eq!(answer.body["shards"].as_array().unwrap().len(), 2);
    }
    raw.send(get("/health").repeat(2).as_bytes());
    raw.send(get("/nothing").as_bytes());
    let statuses = [raw.answer(), raw.answer(), raw.answer()].map(|answer| answer.status);
    assert_eq!(statuses, [200, 200, 404]);

    let mut slow = Raw::connect(server.address);
    for byte in get("/health").bytes() {
        slow.send(&[byte]);
    }
    assert_eq!(slow.answer().status, 200);
}

#[test]
fn a_body_may_come_with_the_head_or_after_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let body = r#"{"username":"ada","password":"correct horse"}"#;
    let head = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        )
    };
    let mut raw = Raw::connect(server.address);
    raw.send(format!("{}{body}", head("/api/auth/register")).as_bytes());
    assert_eq!(raw.answer().status, 201);
    let mut raw = Raw::connect(server.address);
    raw.send(head("/api/auth/login").as_bytes());
    raw.send(&body.as_bytes()[..10]);
    raw.send(&body.as_bytes()[10..]);
    assert_eq!(raw.answer().status, 200);
}

#[test]
fn what_is_refused_is_answered_first() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let check = |request: &str, status: u16, error: &str| {
        let mut raw = Raw::connect(server.address);
        raw.send(request.as_bytes());
        let answer = raw.answer();
        assert_eq!(answer.status, status, "{}", answer.head);
        assert_eq!(answer.body["error"], error);
        assert!(answer.body["message"].is_string());
    };
    let padded = |bytes: usize| {
        format!(
            "GET /health HTTP/1.1\r\nHost: here\r\nX-Padding: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    check(&padded(20 << 10), 431, "HEAD_TOO_LARGE");
    check(&padded(200 << 10), 431, "HEAD_TOO_LARGE");
    check(&upgrade("/elsewhere"), 404, "NOT_FOUND");
    check(&get("/nothing"), 404, "NOT_FOUND");
    check(&get("/gateway"), 426, "UPGRADE_REQUIRED");
    check(
        &upgrade("/gateway").replace("Version: 13", "Version: 8"),
        426,
        "UPGRADE_REQUIRED",
    );
    check(
        &upgrade("/gateway").replace("dGhlIHNhbXBsZSBub25jZQ==", "short"),
        400,
        "BAD_REQUEST",
    );
    check(
        &upgrade("/gateway").replace("GET", "POST"),
        405,
        "METHOD_NOT_ALLOWED",
    );
    check("\u{16}\u{3}\u{1}hello, TLS?\r\n\r\n", 400, "BAD_REQUEST");
    let large = format!(
        "POST /api/auth/login HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        1 << 30
    );
    check(&large, 413, "PAYLOAD_TOO_LARGE");
}

#[test]
fn frames_may_follow_the_request_at_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let identify = format!(r#"{{"type":"IDENTIFY","token":"{}"}}"#, place.token(0));
    let mut raw = Raw::connect(server.address);
    let mut bytes = upgrade("/gateway").into_bytes();
    bytes.extend(frame(Opcode::Text, identify.as_bytes()));
    bytes.extend(frame(Opcode::Ping, b"?"));
    raw.send(&bytes);
    raw.upgraded();
    assert_eq!(raw.event()["type"], "HELLO");
    let mut heard = [raw.next(), raw.next()];
    heard.sort_by_key(|heard| matches!(heard, Heard::Pong(_)));
    assert!(matches!(&heard[0], Heard::Text(text) if text.contains("READY")));
    assert_eq!(heard[1], Heard::Pong(b"?".to_vec()));
}
