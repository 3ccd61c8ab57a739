//! Connections that say nothing, or only half of it.
//!
//! They end after their time and disturb nobody meanwhile.

use super::place::Place;
use super::process::Launch;
use super::raw::{Heard, Raw, frame_with, upgrade};

const FLOOD: usize = 600;

#[test]
fn a_flood_of_silence_disturbs_nobody() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let mut ada = place.enter(&server, 0);
    ada.subscribe(place.channel, None);
    let flood: Vec<Raw> = (0..FLOOD)
        .map(|number| {
            let mut raw = Raw::connect(server.address);
            match number % 4 {
                0 => {}
                1 => raw.send(b"GET /gateway HT"),
                2 => raw.send(upgrade("/gateway").as_bytes()),
                _ => {
                    raw.send(upgrade("/gateway").as_bytes());
                    raw.send(&frame_with(0x01, b"{"));
                }
            }
            raw
        })
        .collect();
    let mut bob = place.enter(&server, 1);
    for number in 1..=20 {
        assert_eq!(bob.store(place.channel, "through").1, number);
        assert_eq!(ada.message().seq.0, number);
    }
    drop(flood);
    assert!(ada.is_alive() && bob.is_alive());
    drop((ada, bob));
    server.stop();
}

#[test]
fn silence_ends_after_its_time() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let mut nothing = Raw::connect(server.address);
    let mut half = Raw::connect(server.address);
    half.send(b"GET /health HTTP/1.1\r\nHost: he");
    let mut nameless = Raw::hello(server.address);
    assert_eq!(nameless.close_code(), Some(4001));
    for raw in [&mut nothing, &mut half] {
        assert_eq!(raw.answer().status, 408);
        assert_eq!(raw.next(), Heard::End);
    }
}

#[test]
fn who_will_say_nothing_more_is_let_go() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let mut silent = Raw::connect(server.address);
    silent.shut();
    assert_eq!(silent.next(), Heard::End);
    let mut half = Raw::connect(server.address);
    half.send(b"GET /gateway");
    half.shut();
    assert_eq!(half.next(), Heard::End);
    let mut session = Raw::hello(server.address);
    session.text(&format!(
        r#"{{"type":"IDENTIFY","token":"{}"}}"#,
        place.token(0)
    ));
    assert_eq!(session.event()["type"], "READY");
    session.shut();
    while session.next() != Heard::End {}
    let mut asked = Raw::connect(server.address);
    asked.send(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n");
    asked.shut();
    assert_eq!(asked.answer().status, 200, "what was asked is answered");
    assert!(place.enter(&server, 0).is_alive());
}
