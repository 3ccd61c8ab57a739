//! What one socket speaks: first a request head, then WebSocket frames.
//!
//! Used by the chat shard and by the echo. It holds no socket: bytes come in, in pieces of any
//! size, and what they mean goes to a closure. A head that has not arrived whole is the only
//! thing kept aside here; an incomplete frame is the decoder's.
//!
//! Invariants: how the bytes were split changes nothing; a head is at most
//! [`HEAD_BYTES_MAX`] bytes; after a step that ends the connection no other follows.

use bytes::Bytes;
use throng_protocol::CloseReason;
use throng_protocol::deflate::Inflater;
use throng_protocol::frame::{Chunk, Decoder, Item};
use throng_protocol::handshake::{Head, parse_head};

/// The longest request head, in bytes.
pub const HEAD_BYTES_MAX: usize = 16 << 10;

/// What arrived.
#[derive(Debug)]
pub enum Step<'a> {
    /// A request for a WebSocket; frames follow once the response is sent.
    Upgraded {
        /// The request's path, without its query.
        path: &'a str,
        /// Whether the peer takes compressed messages.
        deflate: bool,
        /// 101, complete.
        response: Bytes,
    },
    /// A message or a control frame.
    Item(Item<'a>),
    /// An ordinary HTTP request: the connection is somebody else's, with all its bytes.
    HandOver {
        /// Everything received.
        head: Bytes,
    },
    /// A request that is refused; the connection ends with this response.
    Refused {
        /// Complete.
        response: Bytes,
    },
    /// RFC 6455 was violated; the connection ends with this close code.
    Failed(CloseReason),
}

/// One socket's state between two arrivals.
#[derive(Debug, Default)]
pub enum Connection {
    /// The head has not arrived whole; what has, if anything.
    Head {
        /// Bytes so far.
        partial: Vec<u8>,
        /// For the decoder to come: the longest message, in bytes.
        message_bytes_max: usize,
    },
    /// Frames.
    Open(Decoder),
    /// Nothing that arrives means anything.
    #[default]
    Ended,
}

impl Connection {
    /// A socket that has just been accepted.
    #[must_use]
    pub fn server(message_bytes_max: usize) -> Self {
        Self::Head {
            partial: Vec::new(),
            message_bytes_max,
        }
    }

    /// Takes bytes and hands what they mean to `sink`, until it returns false: then the rest is
    /// thrown away, and so is everything after it. Compression is agreed on where there is an
    /// inflater, which is then always there.
    pub fn received(
        &mut self,
        bytes: &mut [u8],
        inflater: Option<&mut Inflater>,
        sink: &mut dyn FnMut(Step<'_>) -> bool,
    ) {
        let Self::Head {
            partial,
            message_bytes_max,
        } = self
        else {
            return self.frames(bytes, inflater, sink);
        };
        let message_bytes_max = *message_bytes_max;
        if partial.is_empty() {
            if !self.head(bytes, message_bytes_max, inflater, sink) {
                *self = Self::Head {
                    partial: bytes.to_vec(),
                    message_bytes_max,
                };
            }
            return;
        }
        partial.extend_from_slice(bytes);
        // A head ends with a line; a client that drips its bytes does not make us parse each time.
        if bytes.contains(&b'\n') || partial.len() > HEAD_BYTES_MAX {
            let mut whole = std::mem::take(partial);
            if !self.head(&mut whole, message_bytes_max, inflater, sink) {
                *self = Self::Head {
                    partial: whole,
                    message_bytes_max,
                };
            }
        }
    }

    /// Whether the head was whole.
    fn head(
        &mut self,
        bytes: &mut [u8],
        message_bytes_max: usize,
        inflater: Option<&mut Inflater>,
        sink: &mut dyn FnMut(Step<'_>) -> bool,
    ) -> bool {
        let Some(head) = parse_head(bytes, HEAD_BYTES_MAX, inflater.is_some()) else {
            return false;
        };
        *self = Self::Ended;
        match head {
            Head::Upgrade {
                path,
                head_bytes,
                deflate,
                response,
            } => {
                if sink(Step::Upgraded {
                    path: &path,
                    deflate,
                    response,
                }) {
                    let decoder = Decoder::server(message_bytes_max).with_deflate(deflate);
                    *self = Self::Open(decoder);
                    self.frames(&mut bytes[head_bytes..], inflater, sink);
                }
            }
            Head::Ordinary { .. } => {
                sink(Step::HandOver {
                    head: Bytes::copy_from_slice(bytes),
                });
            }
            Head::Refused { response } => {
                sink(Step::Refused { response });
            }
        }
        true
    }

    fn frames(
        &mut self,
        bytes: &mut [u8],
        mut inflater: Option<&mut Inflater>,
        sink: &mut dyn FnMut(Step<'_>) -> bool,
    ) {
        let Self::Open(decoder) = self else { return };
        let mut chunk = Chunk::new(bytes);
        loop {
            let next = match inflater.as_deref_mut() {
                Some(inflater) => decoder.next_inflating(&mut chunk, inflater),
                None => decoder.next(&mut chunk),
            };
            let goes_on = match next {
                Ok(None) => return,
                Ok(Some(item)) => sink(Step::Item(item)),
                Err(error) => {
                    sink(Step::Failed(error.close_reason()));
                    false
                }
            };
            if !goes_on {
                *self = Self::Ended;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use throng_protocol::frame::{Opcode, encode_masked};

    use super::*;

    const UPGRADE: &str = "GET /gateway HTTP/1.1\r\nHost: throng\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

    /// What the steps are when the bytes arrive cut at these places.
    fn steps(bytes: &[u8], cuts: &[usize]) -> Vec<String> {
        let (mut connection, mut steps) = (Connection::server(100), Vec::new());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for ends in cuts.windows(2) {
            let mut part = bytes[ends[0]..ends[1]].to_vec();
            connection.received(&mut part, None, &mut |step| {
                let goes_on = !matches!(step, Step::Item(Item::Close(_)));
                steps.push(format!("{step:?}"));
                goes_on
            });
        }
        steps
    }

    fn check(bytes: &[u8], last: &str) {
        let steps = steps(bytes, &(0..bytes.len()).collect::<Vec<_>>());
        let found = steps.last().map_or("", String::as_str);
        assert!(found.starts_with(last), "{found} instead of {last}");
    }

    fn session() -> Vec<u8> {
        let mut bytes = UPGRADE.as_bytes().to_vec();
        bytes.extend(encode_masked(Opcode::Text, "grüß".as_bytes(), [1, 2, 3, 4]));
        bytes.extend(encode_masked(Opcode::Ping, b"?", [0; 4]));
        bytes.extend(encode_masked(Opcode::Close, &[3, 232], [9; 4]));
        bytes.extend(encode_masked(Opcode::Text, b"after the end", [5; 4]));
        bytes
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_steps(cuts in prop::collection::vec(any::<usize>(), 0..12)) {
            let expected = steps(&session(), &[]);
            prop_assert_eq!(expected.len(), 4);
            prop_assert_eq!(steps(&session(), &cuts), expected);
        }
    }

    #[test]
    fn each_kind_of_end() {
        check(&session(), "Item(Close(Some(1000)))");
        check(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n", "HandOver");
        check(b"\x16\x03\x01 no HTTP at all\r\n\r\n", "Refused");
        let mut unmasked = UPGRADE.as_bytes().to_vec();
        unmasked.extend([0x81, 1, b'a']);
        check(&unmasked, "Failed(ProtocolError)");
        let mut too_big = UPGRADE.as_bytes().to_vec();
        too_big.extend(encode_masked(Opcode::Binary, &[0; 101], [1; 4]));
        check(&too_big, "Failed(TooBig)");
    }

    #[test]
    fn a_head_that_never_ends_is_refused() {
        let mut bytes = b"GET / HTTP/1.1\r\nX: ".to_vec();
        bytes.resize(HEAD_BYTES_MAX + 2, b'x');
        check(&bytes, "Refused");
    }

    #[test]
    fn bytes_behind_an_ordinary_head_are_handed_over_with_it() {
        let request = b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
        let mut connection = Connection::server(100);
        let mut found = Bytes::new();
        connection.received(&mut request.to_vec(), None, &mut |step| {
            let Step::HandOver { head } = step else {
                panic!("{step:?}")
            };
            found = head;
            false
        });
        assert_eq!(&found[..], request);
    }
}
