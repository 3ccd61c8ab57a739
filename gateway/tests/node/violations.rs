//! What clients get wrong: some of it ends the connection with a code, the rest is answered.
//!
//! Every case that is answered ends with a heartbeat that must be answered too.

use throng_protocol::frame::Opcode;

use super::place::Place;
use super::process::{Launch, Server};
use super::raw::{Heard, Raw, frame, frame_with};

const NONCE: &str = "550e8400-e29b-41d4-a716-446655440001";
const NOWHERE: &str = "018f0000-0000-7000-8000-0000000000c1";

#[test]
fn of_the_framing_end_the_connection() {
    check_framing("multishot");
    check_framing("dense");
}

fn check_framing(mode: &str) {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path())
        .set("SOCKETS__MODE", mode)
        .start();
    let check = |bytes: &[u8], code: u16| {
        let mut raw = Raw::hello(server.address);
        raw.send(bytes);
        assert_eq!(raw.close_code(), Some(code), "{:?}", &bytes[..2]);
    };
    let unmasked = b"\x81\x14{\"type\":\"HEARTBEAT\"}";
    check(unmasked, 1002);
    check(&frame_with(0xC1, b"{}"), 1002);
    check(&frame_with(0x83, b"{}"), 1002);
    check(&frame_with(0x80, b"{}"), 1002);
    check(&frame_with(0x09, b"ping"), 1002);
    let started_twice = [frame_with(0x01, b"{"), frame_with(0x81, b"}")].concat();
    check(&started_twice, 1002);
    check(&frame(Opcode::Close, &[3]), 1002);
    check(&frame(Opcode::Close, &1005_u16.to_be_bytes()), 1002);

    check(&frame(Opcode::Text, b"{\"type\":\"\xff\xfe\"}"), 1007);
    check(&frame(Opcode::Text, b"\xed\xa0\x80"), 1007);
    check(&frame_with(0x01, b"\xc0\xaf"), 1007);

    check(&frame(Opcode::Text, &[b' '; 70 << 10]), 1009);
    check(&frame(Opcode::Text, &[b' '; 70 << 10])[..14], 1009);
    let pieces = [
        frame_with(0x01, &[b' '; 40 << 10]),
        frame_with(0x80, &[b' '; 40 << 10]),
    ];
    check(&pieces.concat(), 1009);

    check(&frame(Opcode::Close, &1000_u16.to_be_bytes()), 1000);
    check(&frame(Opcode::Close, &4321_u16.to_be_bytes()), 4321);
    let mut raw = Raw::hello(server.address);
    raw.send(&frame(Opcode::Close, b""));
    assert_eq!(raw.close_code(), None);
    drop(raw);
    server.stop();
}

/// A session of a new member of a new place.
fn session(server: &Server) -> Raw {
    let place = Place::make(server, &["ada"]);
    let mut raw = Raw::hello(server.address);
    raw.text(&identify(place.token(0)));
    assert_eq!(raw.event()["type"], "READY");
    raw
}

fn identify(token: &str) -> String {
    format!(r#"{{"type":"IDENTIFY","token":"{token}"}}"#)
}

#[track_caller]
fn answers(raw: &mut Raw) {
    raw.text(r#"{"type":"HEARTBEAT"}"#);
    assert_eq!(raw.event()["type"], "HEARTBEAT_ACK");
}

#[test]
fn of_the_commands_are_answered() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let mut raw = session(&server);
    let mut check = |text: &str, named: &str| {
        raw.text(text);
        let event = raw.event();
        assert_eq!(event["type"], "ERROR", "{text}");
        assert_eq!(event["code"], "INVALID_PAYLOAD", "{text}");
        let message = event["message"].as_str().unwrap();
        assert!(message.contains(named), "{text}: {message}");
        answers(&mut raw);
        event["nonce"].clone()
    };
    check("", "");
    check("{", "");
    check("[]", "");
    check("null", "");
    check(&"[".repeat(20_000), "");
    check(r#"{"token":"x"}"#, "type");
    check(r#"{"type":"DANCE"}"#, "SEND_MESSAGE");
    check(r#"{"type":"IDENTIFY","token":"x"}"#, "IDENTIFY");
    check(r#"{"type":"SUBSCRIBE_CHANNEL"}"#, "channelId");
    check(
        r#"{"type":"SUBSCRIBE_CHANNEL","channelId":"x"}"#,
        "channelId",
    );
    let send = |content: &str| {
        format!(
            r#"{{"type":"SEND_MESSAGE","channelId":"{NOWHERE}","nonce":"{NONCE}","content":{content}}}"#
        )
    };
    for content in [
        "\"\"".to_owned(),
        "\" \\n \"".to_owned(),
        "\"\\u0007\"".to_owned(),
        "7".to_owned(),
        format!("\"{}\"", "x".repeat(2_001)),
    ] {
        assert_eq!(check(&send(&content), "content"), NONCE, "{content}");
    }
    raw.send(&frame(Opcode::Binary, b"\x00\xff"));
    assert_eq!(raw.event()["code"], "INVALID_PAYLOAD");
    answers(&mut raw);
    raw.text(&send(&format!("\"{}\"", "😀".repeat(2_000))));
    let event = raw.event();
    assert_eq!(event["code"], "CHANNEL_NOT_FOUND", "2,000 are allowed");
    answers(&mut raw);
}

#[test]
fn a_message_may_come_in_any_pieces() {
    check_pieces("multishot");
    check_pieces("dense");
}

fn check_pieces(mode: &str) {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path())
        .set("SOCKETS__MODE", mode)
        .start();
    let mut raw = session(&server);
    raw.send(&frame_with(0x01, br#"{"type":"#));
    raw.send(&frame(Opcode::Ping, b"are you there?"));
    assert_eq!(raw.next(), Heard::Pong(b"are you there?".to_vec()));
    raw.send(&frame_with(0x00, b""));
    raw.send(&frame_with(0x00, br#""HEART"#));
    raw.send(&frame_with(0x80, br#"BEAT"}"#));
    assert_eq!(raw.event()["type"], "HEARTBEAT_ACK");

    for byte in frame(Opcode::Text, br#"{"type":"HEARTBEAT"}"#) {
        raw.send(&[byte]);
    }
    assert_eq!(raw.event()["type"], "HEARTBEAT_ACK");
    raw.send(&frame(Opcode::Text, br#"{"type":"HEARTBEAT"}"#).repeat(500));
    for _ in 0..500 {
        assert_eq!(raw.event()["type"], "HEARTBEAT_ACK");
    }
    raw.send(&frame(Opcode::Pong, b"unasked"));
    answers(&mut raw);
}

#[test]
fn commands_before_ready_are_to_be_sent_again() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let send = format!(
        r#"{{"type":"SEND_MESSAGE","channelId":"{}","nonce":"{NONCE}","content":"hi"}}"#,
        place.channel
    );
    let subscribe = format!(
        r#"{{"type":"SUBSCRIBE_CHANNEL","channelId":"{}"}}"#,
        place.channel
    );
    let mut raw = Raw::hello(server.address);
    raw.text(&send);
    let event = raw.event();
    assert_eq!(event["code"], "NOT_IDENTIFIED");
    assert_eq!(event["nonce"], NONCE);
    raw.text(&subscribe);
    assert_eq!(raw.event()["code"], "NOT_IDENTIFIED");
    answers(&mut raw);

    raw.text(&identify(place.token(0)));
    assert_eq!(raw.event()["type"], "READY");
    raw.text(&send);
    let event = raw.event();
    assert_eq!(event["type"], "MESSAGE_ACK");
    assert_eq!(event["seq"], 1);
}

#[test]
fn a_bad_token_ends_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let (head, rest) = place.token(0).split_at(place.token(0).len() / 2);
    let changed = format!(
        "{head}{}{}",
        if rest.starts_with('A') { 'B' } else { 'A' },
        &rest[1..]
    );
    for token in ["nonsense", "eyJhbGciOiJub25lIn0.e30.", &changed] {
        let mut raw = Raw::hello(server.address);
        raw.text(&identify(token));
        let event = raw.event();
        assert_eq!(event["type"], "ERROR", "{token}");
        assert_eq!(event["code"], "INVALID_SESSION", "{token}");
        assert_eq!(raw.close_code(), Some(4004), "{token}");
    }
}

#[test]
fn a_user_has_so_many_sessions() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path())
        .set("LIMITS__SESSIONS__PER_USER", 2)
        .start();
    let place = Place::make(&server, &["ada"]);
    let mut first = place.enter(&server, 0);
    let second = place.enter(&server, 0);
    let mut third = Raw::hello(server.address);
    third.text(&identify(place.token(0)));
    assert_eq!(third.close_code(), Some(4012));
    assert!(first.is_alive());
    drop(second);
    // Its end is noticed soon, not at once.
    let again = std::iter::repeat_with(|| {
        let mut raw = Raw::hello(server.address);
        raw.text(&identify(place.token(0)));
        raw.event()["type"] == "READY"
    });
    assert!(
        again.take(1_000).any(|ready| ready),
        "a place has become free"
    );
}
