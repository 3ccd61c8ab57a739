//! A connection that says exactly what it is told to, right or wrong.
//!
//! It never masks, frames or answers by itself; frames that come are read by the codec's client
//! side.
//!
//! Invariants: each read has a bound, and running into it fails the test.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use serde_json::Value;
use throng_protocol::deflate::Inflater;
use throng_protocol::frame::{Chunk, Decoder, Item, Opcode, encode_masked};

use super::process::PATIENCE;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The longest message taken, in bytes.
const MESSAGE_BYTES_MAX: usize = 32 << 20;

/// A TCP connection, and what came over it as WebSocket.
pub(crate) struct Raw {
    stream: TcpStream,
    decoder: Decoder,
    inflater: Inflater,
    heard: VecDeque<Heard>,
    /// Bytes of frames that came.
    pub(crate) bytes: usize,
}

/// What came.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    /// The connection ended, with or without a reset.
    End,
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

/// A frame of a client, final unless said otherwise.
pub(crate) fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    encode_masked(opcode, payload, MASK).to_vec()
}

/// The same, with another first byte: other flags, other opcodes.
pub(crate) fn frame_with(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(Opcode::Text, payload);
    frame[0] = first;
    frame
}

/// The request for a WebSocket at this path.
pub(crate) fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

impl Raw {
    /// A connection on which nothing was said.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            decoder: Decoder::client(MESSAGE_BYTES_MAX),
            inflater: Inflater::default(),
            heard: VecDeque::new(),
            bytes: 0,
        }
    }

    /// A WebSocket at this path.
    pub(crate) fn open(address: SocketAddr, path: &str) -> Self {
        let mut raw = Self::connect(address);
        raw.send(upgrade(path).as_bytes());
        raw.upgraded();
        raw
    }

    /// A WebSocket of the chat that agreed to compression and has heard HELLO.
    pub(crate) fn deflating(address: SocketAddr, offer: &str) -> Self {
        let mut raw = Self::connect(address);
        let request = upgrade("/gateway");
        let request = request.trim_end();
        let offer = format!("{request}\r\nSec-WebSocket-Extensions: {offer}\r\n\r\n");
        raw.send(offer.as_bytes());
        let head = raw.head().to_lowercase();
        let agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert!(
            head.contains(&format!("sec-websocket-extensions: {agreed}\r\n")),
            "{head}"
        );
        raw.decoder = Decoder::client(MESSAGE_BYTES_MAX).with_deflate(true);
        assert_eq!(raw.event()["type"], "HELLO");
        raw
    }

    /// A WebSocket at this path, or what was answered instead.
    #[track_caller]
    pub(crate) fn try_open(address: SocketAddr, path: &str) -> Result<Self, Answer> {
        let mut raw = Self::connect(address);
        raw.send(upgrade(path).as_bytes());
        let head = raw.head();
        if head.starts_with("HTTP/1.1 101 ") {
            return Ok(raw);
        }
        Err(raw.answer_after(head))
    }

    /// Reads the answer that makes it a WebSocket; its head.
    #[track_caller]
    pub(crate) fn upgraded(&mut self) -> String {
        let head = self.head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        head
    }

    /// A WebSocket of the chat that has heard HELLO.
    pub(crate) fn hello(address: SocketAddr) -> Self {
        let mut raw = Self::open(address, "/gateway");
        assert_eq!(raw.event()["type"], "HELLO");
        raw
    }

    /// Sends these bytes. A peer that has closed already is noticed when something is read.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Sends one text message.
    pub(crate) fn text(&mut self, text: &str) {
        self.send(&frame(Opcode::Text, text.as_bytes()));
    }

    /// The sending side, for a thread of its own.
    pub(crate) fn writer(&self) -> TcpStream {
        self.stream.try_clone().unwrap()
    }

    /// Will send nothing more.
    pub(crate) fn shut(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// What comes next.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Heard {
        let mut bytes = vec![0; 64 << 10];
        while self.heard.is_empty() {
            let count = self.read(&mut bytes);
            if count == 0 {
                return Heard::End;
            }
            self.decode(&mut bytes[..count]);
        }
        self.heard.pop_front().unwrap()
    }

    /// The next event; anything else fails the test.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Value {
        match self.next() {
            Heard::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("no event: {other:?}"),
        }
    }

    /// The code of the close frame that comes after all events; then the connection must end.
    #[track_caller]
    pub(crate) fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.next() {
                Heard::Close(code) => {
                    assert_eq!(self.next(), Heard::End, "nothing follows a close");
                    return code;
                }
                Heard::End => panic!("no close frame came"),
                _ => {}
            }
        }
    }

    /// Reads an HTTP answer with a JSON body.
    #[track_caller]
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        self.answer_after(head)
    }

    #[track_caller]
    fn answer_after(&mut self, head: String) -> Answer {
        let status = head.get(9..12).expect(&head).parse().expect(&head);
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let named = name.eq_ignore_ascii_case("content-length");
            named.then(|| value.trim().parse::<usize>().unwrap())
        });
        let mut body = vec![0; length.expect(&head)];
        self.stream.read_exact(&mut body).unwrap();
        let body = serde_json::from_slice(&body).unwrap();
        Answer { status, head, body }
    }

    /// Everything up to the end of a request's or an answer's head.
    #[track_caller]
    fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let count = self.read(&mut byte);
            assert_eq!(count, 1, "ended: {:?}", String::from_utf8_lossy(&head));
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    #[track_caller]
    fn read(&mut self, into: &mut [u8]) -> usize {
        match self.stream.read(into) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("the server says nothing")
            }
            Err(_) => 0,
        }
    }

    #[track_caller]
    fn decode(&mut self, bytes: &mut [u8]) {
        self.bytes += bytes.len();
        let mut chunk = Chunk::new(bytes);
        let Self {
            decoder, inflater, ..
        } = self;
        while let Some(item) = decoder.next_inflating(&mut chunk, inflater).unwrap() {
            self.heard.push_back(match item {
                Item::Text(text) => Heard::Text(text.to_owned()),
                Item::Binary(bytes) => Heard::Binary(bytes.to_vec()),
                Item::Pong(bytes) => Heard::Pong(bytes.to_vec()),
                Item::Close(code) => Heard::Close(code),
                Item::Ping(_) => continue,
            });
        }
    }
}
