//! `throng echo`: the same sockets and codec without a chat.
//!
//! What the codec refuses is tested once, in `violations`. Everything here holds in both modes.

use std::io::Write;

use throng_protocol::frame::Opcode;

use super::process::{Launch, Server};
use super::raw::{Heard, Raw, frame, frame_with};

const MANY: usize = 200;

/// Runs the test against a server in each mode.
fn check(shards: &str, test: impl Fn(Server)) {
    let launch = || Launch::new(["echo", "--listen", "127.0.0.1:0", "--shards", shards]);
    test(launch().start());
    test(launch().arg("--dense").start());
}

#[test]
fn what_is_said_comes_back() {
    check("1", |server| {
        let mut raw = Raw::open(server.address, "/any/path?x=1");
        raw.text("hello, Grüße 👋");
        assert_eq!(raw.next(), Heard::Text("hello, Grüße 👋".to_owned()));
        raw.send(&frame(Opcode::Binary, &[0, 255, 7]));
        assert_eq!(raw.next(), Heard::Binary(vec![0, 255, 7]));
        raw.text("");
        assert_eq!(raw.next(), Heard::Text(String::new()));

        raw.send(&frame_with(0x02, b"in "));
        raw.send(&frame(Opcode::Ping, b"between"));
        raw.send(&frame_with(0x00, b"three "));
        raw.send(&frame_with(0x80, b"pieces"));
        assert_eq!(raw.next(), Heard::Pong(b"between".to_vec()));
        assert_eq!(raw.next(), Heard::Binary(b"in three pieces".to_vec()));

        raw.send(&frame(Opcode::Close, &[0x0f, 0xa0, b'b', b'y', b'e']));
        assert_eq!(raw.close_code(), Some(4000));
        drop(raw);
        server.stop();
    });
}

#[test]
fn large_messages_come_back_whole() {
    check("1", |server| {
        let mut raw = Raw::open(server.address, "/");
        for bytes in [125, 126, 65_535, 65_536, 1 << 20, 16 << 20] {
            let payload: Vec<u8> = (0..=250).cycle().take(bytes).collect();
            let sent = frame(Opcode::Binary, &payload);
            let mut writer = raw.writer();
            let writing = std::thread::spawn(move || writer.write_all(&sent));
            assert!(raw.next() == Heard::Binary(payload), "{bytes} bytes");
            writing.join().unwrap().unwrap();
        }
        raw.send(&frame(Opcode::Binary, &vec![0; (16 << 20) + 1])[..14]);
        assert_eq!(raw.close_code(), Some(1009));
    });
}

#[test]
fn many_at_once_get_their_own_and_are_told_of_the_end() {
    check("2", |server| {
        let mut many: Vec<Raw> = (0..MANY).map(|_| Raw::open(server.address, "/")).collect();
        for round in 0..5 {
            for (number, raw) in many.iter_mut().enumerate() {
                raw.text(&format!("{number} {round}"));
            }
            for (number, raw) in many.iter_mut().enumerate() {
                assert_eq!(raw.next(), Heard::Text(format!("{number} {round}")));
            }
        }
        server.terminate();
        for raw in &mut many {
            assert_eq!(raw.close_code(), Some(4013));
        }
        drop(many);
        server.ends_well();
    });
}

#[test]
fn who_does_not_read_is_not_read() {
    check("1", |server| {
        let mut greedy = Raw::open(server.address, "/");
        let message = frame(Opcode::Binary, &vec![7; 1 << 20]);
        let mut writer = greedy.writer();
        const MESSAGES: usize = 40;
        let writing =
            std::thread::spawn(move || (0..MESSAGES).try_for_each(|_| writer.write_all(&message)));
        let mut other = Raw::open(server.address, "/");
        for number in 0..50 {
            other.text(&format!("{number}"));
            assert_eq!(other.next(), Heard::Text(format!("{number}")));
        }
        for _ in 0..MESSAGES {
            assert!(greedy.next() == Heard::Binary(vec![7; 1 << 20]));
        }
        writing.join().unwrap().unwrap();
    });
}
