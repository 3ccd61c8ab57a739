//! The echo as a WebSocket client sees it: handshake, messages of all sizes, and ends.
//!
//! The client here is the protocol crate's decoder on a blocking socket.
//!
//! Invariant: what the server sends is checked as frames, in order, to the end of the stream.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use throng_protocol::frame::{Chunk, Decoder, Item, Opcode, encode_masked};

use super::{connect, nobody};
use crate::echo::{Echo, MESSAGE_BYTES_MAX};

const UPGRADE: &[u8] = b"GET /any HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What arrived, owned.
#[derive(PartialEq, Eq, Debug)]
enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    End,
}

struct Client {
    stream: TcpStream,
    decoder: Decoder,
    heard: std::collections::VecDeque<Heard>,
}

impl Client {
    fn open(address: SocketAddr) -> Self {
        let mut stream = connect(address);
        stream.write_all(UPGRADE).unwrap();
        Self::after_request(stream)
    }

    /// The response is read byte by byte, so that no frame is swallowed with it.
    fn after_request(mut stream: TcpStream) -> Self {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(
            head.starts_with(b"HTTP/1.1 101 "),
            "{}",
            String::from_utf8_lossy(&head)
        );
        let decoder = Decoder::client(MESSAGE_BYTES_MAX);
        Self {
            stream,
            decoder,
            heard: std::collections::VecDeque::new(),
        }
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) {
        self.stream
            .write_all(&encode_masked(opcode, payload, MASK))
            .unwrap();
    }

    fn hear(&mut self) -> Heard {
        let mut bytes = vec![0; 64 << 10];
        while self.heard.is_empty() {
            let count = self.stream.read(&mut bytes).unwrap();
            if count == 0 {
                return Heard::End;
            }
            let mut chunk = Chunk::new(&mut bytes[..count]);
            while let Some(item) = self.decoder.next(&mut chunk).unwrap() {
                self.heard.push_back(match item {
                    Item::Text(text) => Heard::Text(text.to_owned()),
                    Item::Binary(bytes) => Heard::Binary(bytes.to_vec()),
                    Item::Pong(bytes) => Heard::Pong(bytes.to_vec()),
                    Item::Ping(_) => panic!("the echo sends no ping"),
                    Item::Close(code) => Heard::Close(code),
                });
            }
        }
        self.heard.pop_front().unwrap()
    }
}

fn check(test: impl FnMut(SocketAddr)) {
    check_with(5_000, test);
}

fn check_with(linger_ms_max: u64, test: impl FnMut(SocketAddr)) {
    let change = |settings: &mut crate::edge::EdgeSettings| {
        settings.backlog_bytes_max = 2 * MESSAGE_BYTES_MAX + (4 << 20);
        settings.unread_bytes_max = Some(256 << 10);
        settings.linger_ms_max = linger_ms_max;
    };
    super::serve(change, Echo::new, nobody, test);
}

/// Bytes that repeat late.
fn payload(len: usize) -> Vec<u8> {
    (0..len)
        .map(|index| u8::try_from((index * 31 + index / 251) % 251).unwrap())
        .collect()
}

#[test]
fn a_thousand_connections_hear_their_own_words() {
    check(|address| {
        let mut clients: Vec<_> = (0..1_000).map(|_| Client::open(address)).collect();
        for round in 0..3 {
            for (index, client) in clients.iter_mut().enumerate() {
                client.send(
                    Opcode::Text,
                    format!("{index} grüßt zum {round}. Mal").as_bytes(),
                );
            }
            for (index, client) in clients.iter_mut().enumerate() {
                assert_eq!(
                    client.hear(),
                    Heard::Text(format!("{index} grüßt zum {round}. Mal"))
                );
            }
        }
    });
}

#[test]
fn one_byte_at_a_time_is_enough() {
    check(|address| {
        let mut stream = connect(address);
        UPGRADE
            .chunks(1)
            .for_each(|byte| stream.write_all(byte).unwrap());
        let mut client = Client::after_request(stream);
        let mut frames = encode_masked(Opcode::Text, "drip 💧".as_bytes(), MASK).to_vec();
        frames.extend_from_slice(&encode_masked(Opcode::Binary, &payload(200), MASK));
        frames
            .chunks(1)
            .for_each(|byte| client.stream.write_all(byte).unwrap());
        assert_eq!(client.hear(), Heard::Text("drip 💧".to_owned()));
        assert_eq!(client.hear(), Heard::Binary(payload(200)));
    });
}

#[test]
fn messages_of_every_size_come_back_whole() {
    check(|address| {
        let mut client = Client::open(address);
        for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, MESSAGE_BYTES_MAX] {
            client.send(Opcode::Binary, &payload(len));
            assert!(client.hear() == Heard::Binary(payload(len)), "{len} bytes");
        }
    });
}

#[test]
fn a_message_beyond_the_limit_ends_the_connection() {
    check(|address| {
        let mut client = Client::open(address);
        let header_only = &encode_masked(Opcode::Binary, &payload(MESSAGE_BYTES_MAX + 1), MASK);
        client.stream.write_all(&header_only[..14]).unwrap();
        assert_eq!(client.hear(), Heard::Close(Some(1009)));
        assert_eq!(client.hear(), Heard::End);
    });
}

#[test]
fn what_was_sent_before_a_violation_is_answered_even_while_more_arrives() {
    check(|address| {
        let mut client = Client::open(address);
        client.send(Opcode::Text, b"before");
        // Unmasked; the rest is never read by the protocol and must not reset the connection.
        let mut violation = vec![0; 300_000];
        violation[..2].copy_from_slice(&[0x81, 1]);
        client.stream.write_all(&violation).unwrap();
        assert_eq!(client.hear(), Heard::Text("before".to_owned()));
        assert_eq!(client.hear(), Heard::Close(Some(1002)));
        assert_eq!(client.hear(), Heard::End);
    });
}

#[test]
fn fragments_come_back_as_one_and_pings_between_them_are_answered() {
    check(|address| {
        let mut client = Client::open(address);
        let mut first = encode_masked(Opcode::Text, b"one ", MASK).to_vec();
        first[0] &= 0x7f;
        client.stream.write_all(&first).unwrap();
        client.send(Opcode::Ping, b"there?");
        client.send(Opcode::Continuation, b"message");
        assert_eq!(client.hear(), Heard::Pong(b"there?".to_vec()));
        assert_eq!(client.hear(), Heard::Text("one message".to_owned()));
    });
}

#[test]
fn many_messages_in_one_write_keep_their_order_towards_a_late_reader() {
    check(|address| {
        let mut client = Client::open(address);
        let mut writer = client.stream.try_clone().unwrap();
        let writing = std::thread::Builder::new()
            .spawn(move || {
                for index in 0..3_000_u32 {
                    let text = format!("{index} {}", "x".repeat(1_000));
                    writer
                        .write_all(&encode_masked(Opcode::Text, text.as_bytes(), MASK))
                        .unwrap();
                }
            })
            .unwrap();
        for index in 0..3_000_u32 {
            let expected = format!("{index} {}", "x".repeat(1_000));
            assert!(client.hear() == Heard::Text(expected), "message {index}");
        }
        writing.join().unwrap();
    });
}

#[test]
fn the_closing_handshake_repeats_the_code() {
    check(|address| {
        let mut client = Client::open(address);
        client.send(Opcode::Close, &[0x0f, 0xa0, b'b', b'y', b'e']);
        assert_eq!(client.hear(), Heard::Close(Some(4000)));
        assert_eq!(client.hear(), Heard::End);
        let mut client = Client::open(address);
        client.send(Opcode::Close, &[]);
        assert_eq!(client.hear(), Heard::Close(None));
        assert_eq!(client.hear(), Heard::End);
    });
}

#[test]
fn a_half_closed_client_still_hears_its_answer() {
    check(|address| {
        let mut client = Client::open(address);
        client.send(Opcode::Binary, &payload(500_000));
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert!(client.hear() == Heard::Binary(payload(500_000)));
        assert_eq!(client.hear(), Heard::End);
    });
}

#[test]
fn a_drain_tells_every_client() {
    let mut clients = Vec::new();
    check_with(100, |address| {
        clients.extend((0..20).map(|_| Client::open(address)));
    });
    for mut client in clients {
        assert_eq!(client.hear(), Heard::Close(Some(4013)));
        assert_eq!(client.hear(), Heard::End);
    }
}
