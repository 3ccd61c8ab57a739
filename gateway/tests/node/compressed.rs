//! permessage-deflate on real connections: who agreed to it and who did not hear the same.
//!
//! It does not look into the compressed bytes; the codec's own tests do.

use serde_json::json;
use throng_protocol::deflate::Deflater;
use throng_protocol::frame::{Opcode, encode_masked};

use super::place::Place;
use super::process::Launch;
use super::raw::{Raw, frame_with, upgrade};

const OFFER: &str = "permessage-deflate; client_max_window_bits";
const NONCE: &str = "550e8400-e29b-41d4-a716-446655440001";

/// A text message of a client, compressed.
fn deflated(text: &str) -> Vec<u8> {
    let mut deflater = Deflater::default();
    let payload = deflater.message(text.as_bytes()).expect("it gets shorter");
    let mut frame = encode_masked(Opcode::Text, payload, [1, 2, 3, 4]).to_vec();
    frame[0] |= 0x40;
    frame
}

/// Identifies and subscribes.
fn enter(raw: &mut Raw, place: &Place, number: usize) {
    raw.text(&json!({"type": "IDENTIFY", "token": place.token(number)}).to_string());
    assert_eq!(raw.event()["type"], "READY");
    raw.text(&json!({"type": "SUBSCRIBE_CHANNEL", "channelId": place.channel}).to_string());
    assert_eq!(raw.event()["type"], "SUBSCRIBED");
}

#[test]
fn both_kinds_of_clients_hear_the_same() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let mut ada = Raw::deflating(server.address, OFFER);
    enter(&mut ada, &place, 0);
    let mut bob = Raw::hello(server.address);
    enter(&mut bob, &place, 1);
    let content = "the same words again, ".repeat(80);
    let (ada_before, bob_before) = (ada.bytes, bob.bytes);
    let said = json!({"type": "SEND_MESSAGE", "channelId": place.channel, "nonce": NONCE, "content": content});
    ada.send(&deflated(&said.to_string()));
    let mut heard = [ada.event(), ada.event()];
    heard.sort_by_key(|event| event["type"].to_string());
    assert_eq!(heard[0]["type"], "MESSAGE_ACK");
    assert_eq!(heard[1]["message"]["content"], content);
    assert_eq!(bob.event(), heard[1]);
    let (ada_bytes, bob_bytes) = (ada.bytes - ada_before, bob.bytes - bob_before);
    assert!(
        ada_bytes < bob_bytes / 2,
        "{ada_bytes} of {bob_bytes} bytes"
    );
    server.stop();
}

#[test]
fn what_cannot_be_opened_ends_the_connection() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let check = |bytes: &[u8], code: u16| {
        let mut raw = Raw::deflating(server.address, OFFER);
        raw.send(bytes);
        assert_eq!(raw.close_code(), Some(code));
    };
    check(&deflated(&" ".repeat(100 << 10)), 1009);
    check(&frame_with(0xC1, &[0xFF; 20]), 1002);
    check(&frame_with(0xC9, b"ping"), 1002);
    check(&frame_with(0xA1, b"{}"), 1002);
    // Stored as it is: a block of two bytes that are no UTF-8.
    check(
        &frame_with(0xC1, &[0, 2, 0, 0xFD, 0xFF, 0xFF, 0xFE, 0]),
        1007,
    );
    server.stop();
}

#[test]
fn nobody_gets_what_they_did_not_ask_for_or_what_is_switched_off() {
    let check = |compression: bool, offer: &str| {
        let data = tempfile::tempdir().unwrap();
        let launch = Launch::serve(data.path());
        let server = launch.set("COMPRESSION", compression).start();
        let mut raw = Raw::connect(server.address);
        let request = upgrade("/gateway");
        let request = request.trim_end();
        raw.send(format!("{request}\r\n{offer}\r\n\r\n").as_bytes());
        let head = raw.upgraded();
        assert!(!head.to_lowercase().contains("extensions"), "{head}");
        assert_eq!(raw.event()["type"], "HELLO");
        raw.send(&deflated(&" ".repeat(1_000)));
        assert_eq!(raw.close_code(), Some(1002));
        server.stop();
    };
    check(true, "X-Other: 1");
    check(
        true,
        "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9",
    );
    let offer = format!("Sec-WebSocket-Extensions: {OFFER}");
    check(false, &offer);
}
