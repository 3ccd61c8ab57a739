//! The echo: what conformance suites and benchmarks speak to. It sends back each message.
//!
//! It uses the same connection, egress and edge as the chat, and nothing else of it: it knows no
//! user and stores nothing.
//!
//! Invariants: a message comes back whole, unfragmented and of its own kind; after a close frame
//! was sent nothing follows it.

use throng_protocol::deflate::Inflater;
use throng_protocol::frame::{Item, Opcode, encode_message};
use throng_protocol::{CloseReason, close_frame, close_reply};

use crate::connection::{Connection, Limits, Step};
use crate::io::{Application, ConnId, Input, Outbox, Output};

/// The longest message, in bytes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// The answer to ordinary HTTP.
const NOT_FOUND: &[u8] = b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n\
Connection: close\r\nContent-Type: application/json\r\nContent-Length: 71\r\n\r\n\
{\"error\":\"UPGRADE_REQUIRED\",\"message\":\"only WebSocket is spoken here\"}\n";

/// The application.
#[derive(Debug, Default)]
pub struct Echo {
    peers: Vec<Option<Peer>>,
    inflater: Inflater,
}

/// Who is spoken to.
#[derive(Debug)]
struct Peer {
    generation: u32,
    connection: Connection,
    /// Compressed messages may come: not yet settled, or agreed on.
    may_deflate: bool,
}

impl Echo {
    /// An echo without connections.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn accepted(&mut self, conn: ConnId) {
        let index = conn.index as usize;
        if self.peers.len() <= index {
            self.peers.resize_with(index + 1, || None);
        }
        let before = self.peers[index].replace(Peer {
            generation: conn.generation,
            connection: Connection::server(),
            may_deflate: true,
        });
        assert!(before.is_none(), "a place has one tenant");
    }

    fn received(&mut self, conn: ConnId, bytes: &mut [u8], outbox: &mut Outbox) {
        let Some(Some(peer)) = self.peers.get_mut(conn.index as usize) else {
            return;
        };
        assert_eq!(
            peer.generation, conn.generation,
            "the edge names the tenant"
        );
        let limits = Limits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            inflater: peer.may_deflate.then_some(&mut self.inflater),
        };
        let may_deflate = &mut peer.may_deflate;
        peer.connection.received(bytes, limits, &mut |step| {
            if let Step::Upgraded { deflate, .. } = step {
                *may_deflate = deflate;
            }
            answer(conn, step, outbox)
        });
    }

    fn drain(&mut self, outbox: &mut Outbox) {
        for (index, peer) in (0_u32..).zip(&mut self.peers) {
            let Some(peer) = peer else {
                continue;
            };
            let conn = ConnId {
                index,
                generation: peer.generation,
            };
            let was_open = peer.connection.is_open();
            peer.connection.end();
            if was_open {
                outbox.push(Output::Send {
                    conn,
                    bytes: close_frame(CloseReason::GoingAway),
                });
            }
            outbox.push(Output::Close { conn });
        }
    }
}

impl Application for Echo {
    fn handle(&mut self, _now_ms: u64, input: Input<'_>, outbox: &mut Outbox) {
        match input {
            Input::Accepted { conn } => self.accepted(conn),
            Input::Received { conn, bytes } => self.received(conn, bytes, outbox),
            Input::Closed { conn } => {
                if let Some(peer) = self.peers.get_mut(conn.index as usize) {
                    *peer = None;
                }
            }
            Input::Blocked { conn } => outbox.push(Output::Close { conn }),
            Input::Drain => self.drain(outbox),
            Input::Tick | Input::Writable { .. } => {}
            Input::Lane { .. }
            | Input::Committed { .. }
            | Input::Page { .. }
            | Input::StoreTrouble { .. }
            | Input::Again
            | Input::Control(_) => unreachable!("nobody was asked for it"),
        }
    }
}

/// Answers what arrived; whether the connection goes on.
fn answer(conn: ConnId, step: Step<'_>, outbox: &mut Outbox) -> bool {
    let (bytes, goes_on) = match step {
        Step::Upgraded {
            response, deflate, ..
        } => {
            if deflate {
                outbox.push(Output::Deflate { conn });
            }
            (response, true)
        }
        Step::Item(Item::Text(text)) => (encode_message(Opcode::Text, text.as_bytes()), true),
        Step::Item(Item::Binary(bytes)) => (encode_message(Opcode::Binary, bytes), true),
        Step::Item(Item::Ping(bytes)) => (encode_message(Opcode::Pong, bytes), true),
        Step::Item(Item::Pong(_)) => return true,
        Step::Item(Item::Close(code)) => (close_reply(code), false),
        Step::HandOver { .. } => (bytes::Bytes::from_static(NOT_FOUND), false),
        Step::Refused { response } => (response, false),
        Step::Failed(reason) => (close_frame(reason), false),
    };
    outbox.push(Output::Send { conn, bytes });
    if !goes_on {
        outbox.push(Output::Close { conn });
    }
    goes_on
}

#[cfg(test)]
mod tests {
    use throng_protocol::frame::encode_masked;

    use super::*;

    const CONN: ConnId = ConnId {
        index: 2,
        generation: 7,
    };
    const UPGRADE: &[u8] = b"GET /any HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// What comes back for these bytes, behind the handshake's response if they are frames, and
    /// whether the connection is closed.
    fn check(bytes: &[u8], expected: &[u8], closed: bool) {
        let (mut echo, mut outbox) = (Echo::new(), Outbox::new());
        echo.handle(0, Input::Accepted { conn: CONN }, &mut outbox);
        let mut upgrade = UPGRADE.to_vec();
        echo.handle(
            0,
            Input::Received {
                conn: CONN,
                bytes: &mut upgrade,
            },
            &mut outbox,
        );
        assert_eq!(outbox.drain().count(), 1);
        let mut bytes = bytes.to_vec();
        echo.handle(
            0,
            Input::Received {
                conn: CONN,
                bytes: &mut bytes,
            },
            &mut outbox,
        );
        let (mut sent, mut was_closed) = (Vec::new(), false);
        for output in outbox.drain() {
            match output {
                Output::Send { bytes, .. } => sent.extend_from_slice(&bytes),
                Output::Close { .. } => was_closed = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(sent, expected);
        assert_eq!(was_closed, closed);
        echo.handle(0, Input::Closed { conn: CONN }, &mut outbox);
        echo.handle(0, Input::Accepted { conn: CONN }, &mut outbox);
    }

    #[test]
    fn what_comes_back() {
        check(
            &encode_masked(Opcode::Text, b"hi", [7; 4]),
            b"\x81\x02hi",
            false,
        );
        check(
            &encode_masked(Opcode::Binary, b"", [7; 4]),
            b"\x82\x00",
            false,
        );
        check(
            &encode_masked(Opcode::Ping, b"p", [7; 4]),
            b"\x8a\x01p",
            false,
        );
        check(&encode_masked(Opcode::Pong, b"p", [7; 4]), b"", false);
        check(
            &encode_masked(Opcode::Close, &[3, 233], [7; 4]),
            b"\x88\x02\x03\xe9",
            true,
        );
        check(b"\x81\x00", &close_frame(CloseReason::ProtocolError), true);
    }

    #[test]
    fn the_answer_to_http_says_its_length() {
        let text = std::str::from_utf8(NOT_FOUND).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{}",
            body.len()
        );
    }
}
