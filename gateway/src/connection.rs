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
use throng_protocol::frame::{Chunk, Decoder, Incomplete, Item};
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

/// What a connection reads with.
#[derive(Debug)]
pub struct Limits<'a> {
    /// The longest message, in bytes.
    pub message_bytes_max: usize,
    /// Opens compressed messages. There before the handshake where compression may be agreed on,
    /// and after it where it was.
    pub inflater: Option<&'a mut Inflater>,
}

/// One socket's state between two arrivals: 8 bytes, and nothing on the heap while frames arrive
/// whole.
#[derive(Debug, Default)]
pub struct Connection(Option<Box<Kept>>);

/// What an idle socket does not have.
#[derive(Debug)]
enum Kept {
    /// The head has not arrived whole; what has, if anything.
    Head(Vec<u8>),
    /// A frame or message has not.
    Frames(Incomplete),
    /// Nothing that arrives means anything.
    Ended,
}

impl Connection {
    /// A socket that has just been accepted.
    #[must_use]
    pub fn server() -> Self {
        Self(Some(Box::new(Kept::Head(Vec::new()))))
    }

    /// Whether it is a WebSocket that has not been ended.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.0.as_deref(), None | Some(Kept::Frames(_)))
    }

    /// Bytes of what has not arrived whole.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        match self.0.as_deref() {
            Some(Kept::Head(partial)) => partial.capacity(),
            Some(Kept::Frames(incomplete)) => incomplete.kept_bytes(),
            None | Some(Kept::Ended) => 0,
        }
    }

    /// From now on nothing that arrives means anything.
    pub fn end(&mut self) {
        self.0 = Some(Box::new(Kept::Ended));
    }

    /// Takes bytes and hands what they mean to `sink`, until it returns false: then the rest is
    /// thrown away, and so is everything after it. The limits are the same at each call.
    pub fn received(
        &mut self,
        bytes: &mut [u8],
        limits: Limits<'_>,
        sink: &mut dyn FnMut(Step<'_>) -> bool,
    ) {
        match self.0.take().map(|kept| *kept) {
            None => self.frames(Incomplete::default(), bytes, limits, sink),
            Some(Kept::Frames(rest)) => self.frames(rest, bytes, limits, sink),
            Some(Kept::Head(partial)) => self.head(partial, bytes, limits, sink),
            Some(Kept::Ended) => self.end(),
        }
    }

    fn head(
        &mut self,
        mut partial: Vec<u8>,
        bytes: &mut [u8],
        limits: Limits<'_>,
        sink: &mut dyn FnMut(Step<'_>) -> bool,
    ) {
        if partial.is_empty() {
            if !self.whole_head(bytes, limits, sink) {
                self.0 = Some(Box::new(Kept::Head(bytes.to_vec())));
            }
            return;
        }
        partial.extend_from_slice(bytes);
        // A head ends with a line; a client that drips its bytes does not make us parse each time.
        let may_be_whole = bytes.contains(&b'\n') || partial.len() > HEAD_BYTES_MAX;
        if !may_be_whole || !self.whole_head(&mut partial, limits, sink) {
            self.0 = Some(Box::new(Kept::Head(partial)));
        }
    }

    /// Whether the head was whole.
    fn whole_head(
        &mut self,
        bytes: &mut [u8],
        mut limits: Limits<'_>,
        sink: &mut dyn FnMut(Step<'_>) -> bool,
    ) -> bool {
        let Some(head) = parse_head(bytes, HEAD_BYTES_MAX, limits.inflater.is_some()) else {
            return false;
        };
        self.end();
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
                    let rest = &mut bytes[head_bytes..];
                    limits.inflater = limits.inflater.filter(|_| deflate);
                    self.frames(Incomplete::default(), rest, limits, sink);
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
        incomplete: Incomplete,
        bytes: &mut [u8],
        mut limits: Limits<'_>,
        sink: &mut dyn FnMut(Step<'_>) -> bool,
    ) {
        let mut decoder = Decoder::server(limits.message_bytes_max)
            .with_deflate(limits.inflater.is_some())
            .resuming(incomplete);
        let mut chunk = Chunk::new(bytes);
        loop {
            let next = match limits.inflater.as_deref_mut() {
                Some(inflater) => decoder.next_inflating(&mut chunk, inflater),
                None => decoder.next(&mut chunk),
            };
            let goes_on = match next {
                Ok(None) => break,
                Ok(Some(item)) => sink(Step::Item(item)),
                Err(error) => {
                    sink(Step::Failed(error.close_reason()));
                    false
                }
            };
            if !goes_on {
                return self.end();
            }
        }
        let incomplete = decoder.stopped();
        self.0 = incomplete
            .is_some()
            .then(|| Box::new(Kept::Frames(incomplete)));
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

    fn limits() -> Limits<'static> {
        Limits {
            message_bytes_max: 100,
            inflater: None,
        }
    }

    /// What the steps are when the bytes arrive cut at these places.
    fn steps(bytes: &[u8], cuts: &[usize]) -> Vec<String> {
        let (mut connection, mut steps) = (Connection::server(), Vec::new());
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for ends in cuts.windows(2) {
            let mut part = bytes[ends[0]..ends[1]].to_vec();
            connection.received(&mut part, limits(), &mut |step| {
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
    fn an_idle_socket_holds_nothing() {
        let mut connection = Connection::server();
        let mut chunk = UPGRADE.as_bytes().to_vec();
        chunk.extend(encode_masked(Opcode::Text, b"whole", [1; 4]));
        connection.received(&mut chunk, limits(), &mut |_| true);
        assert!(connection.is_open() && connection.0.is_none());
        assert_eq!(size_of::<Connection>(), 8);
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
        let mut connection = Connection::server();
        let mut found = Bytes::new();
        connection.received(&mut request.to_vec(), limits(), &mut |step| {
            let Step::HandOver { head } = step else {
                panic!("{step:?}")
            };
            found = head;
            false
        });
        assert_eq!(&found[..], request);
    }
}
