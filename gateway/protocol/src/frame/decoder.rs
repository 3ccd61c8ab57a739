//! From the bytes of a connection to what the peer said.
//!
//! It never copies a message that arrived whole, never looks ahead of what it was given, and
//! keeps nothing on the heap while no frame is incomplete.
//!
//! Invariants: how the bytes are cut into chunks makes no difference to the items (a property
//! test holds it to that); after an error or a close it gives nothing more.

use std::ops::Range;

use super::aside::{Aside, Complete};
use super::header::{self, Frame, Rules};
use super::mask::apply_mask;
use super::{Chunk, Item, Opcode, ProtocolError};
use crate::close;
use crate::deflate::Inflater;

/// One connection's receiving side. 32 bytes, and nothing on the heap while it idles.
#[derive(Debug)]
pub struct Decoder {
    aside: Option<Box<Aside>>,
    message_bytes_max: usize,
    /// What the last item was borrowed from, to be freed when the next is asked for.
    delivered: Option<Complete>,
    masked: bool,
    may_deflate: bool,
    ended: bool,
}

/// What a [`Decoder`] keeps between two chunks: 8 bytes, and nothing on the heap unless a frame or
/// message is incomplete. For whoever holds very many connections.
#[derive(Debug, Default)]
pub struct Incomplete(Option<Box<Aside>>);

impl Incomplete {
    /// Whether a frame or message is.
    #[must_use]
    #[inline]
    pub const fn is_some(&self) -> bool {
        self.0.is_some()
    }

    /// Bytes on the heap.
    #[must_use]
    pub fn kept_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |aside| aside.kept_bytes())
    }
}

/// Where the payload of a whole item lies.
enum Found {
    InChunk(Opcode, bool, Range<usize>),
    Aside(Complete),
}

impl Decoder {
    /// Reads what a client sends: masked frames, messages of at most this many bytes.
    #[must_use]
    #[inline]
    pub const fn server(message_bytes_max: usize) -> Self {
        Self::new(message_bytes_max, true)
    }

    /// Reads what a server sends: unmasked frames, messages of at most this many bytes.
    #[must_use]
    pub const fn client(message_bytes_max: usize) -> Self {
        Self::new(message_bytes_max, false)
    }

    const fn new(message_bytes_max: usize, masked: bool) -> Self {
        Self {
            aside: None,
            message_bytes_max,
            delivered: None,
            masked,
            may_deflate: false,
            ended: false,
        }
    }

    /// Takes compressed messages too: permessage-deflate (RFC 7692) was agreed on. From then on
    /// items come from [`Decoder::next_inflating`].
    #[must_use]
    #[inline]
    pub const fn with_deflate(mut self, agreed: bool) -> Self {
        self.may_deflate = agreed;
        self
    }

    /// Goes on where another decoder of the same side and limit has stopped.
    #[must_use]
    #[inline]
    pub fn resuming(self, incomplete: Incomplete) -> Self {
        Self {
            aside: incomplete.0,
            ..self
        }
    }

    /// Stops until the next chunk comes.
    ///
    /// # Panics
    /// When the last chunk was not used up, or nothing can follow it.
    #[must_use]
    #[inline]
    pub fn stopped(self) -> Incomplete {
        assert!(
            self.delivered.is_none() && !self.ended,
            "an item is still borrowed, or was the last"
        );
        Incomplete(self.aside)
    }

    /// The next item, or `None` when the chunk is used up; call it until then, so that what
    /// the last item was kept in is freed. Parses in place (unmasks inside the chunk); only an
    /// incomplete frame or message is copied aside.
    ///
    /// # Errors
    /// When the peer broke a rule; the connection is to be closed with
    /// [`ProtocolError::close_reason`], and whatever still comes is skipped.
    pub fn next<'a>(
        &'a mut self,
        chunk: &'a mut Chunk<'_>,
    ) -> Result<Option<Item<'a>>, ProtocolError> {
        assert!(!self.may_deflate, "compressed messages need an inflater");
        self.next_item(chunk, None)
    }

    /// Like [`Decoder::next`], for a connection that may compress: a compressed message comes out
    /// as what it says, borrowed from the inflater. Its limit holds before and after.
    ///
    /// # Errors
    /// As [`Decoder::next`], and when a message cannot be decompressed.
    pub fn next_inflating<'a>(
        &'a mut self,
        chunk: &'a mut Chunk<'_>,
        inflater: &'a mut Inflater,
    ) -> Result<Option<Item<'a>>, ProtocolError> {
        self.next_item(chunk, Some(inflater))
    }

    fn next_item<'a>(
        &'a mut self,
        chunk: &'a mut Chunk<'_>,
        inflater: Option<&'a mut Inflater>,
    ) -> Result<Option<Item<'a>>, ProtocolError> {
        self.release_delivered();
        if self.ended {
            chunk.take(chunk.rest().len());
            return Ok(None);
        }
        let found = match self.advance(chunk) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.fail(error)),
        };
        let Self {
            aside,
            delivered,
            ended,
            message_bytes_max,
            ..
        } = self;
        let (opcode, is_deflated, payload) = match found {
            Found::InChunk(opcode, is_deflated, range) => {
                (opcode, is_deflated, &chunk.bytes[range])
            }
            Found::Aside(complete) => {
                *delivered = Some(complete);
                let aside = aside.as_deref().expect("what is complete is there");
                let (opcode, is_deflated) = complete.kind();
                (opcode, is_deflated, aside.payload(complete))
            }
        };
        let payload = match inflater.filter(|_| is_deflated) {
            Some(inflater) => inflater.inflate(payload, *message_bytes_max),
            None => Ok(payload),
        };
        let item = payload
            .map_err(ProtocolError::from)
            .and_then(|payload| item(opcode, payload));
        *ended = matches!(item, Err(_) | Ok(Item::Close(_)));
        item.map(Some)
    }

    /// Reads on until something is whole or the chunk is used up.
    fn advance(&mut self, chunk: &mut Chunk<'_>) -> Result<Option<Found>, ProtocolError> {
        loop {
            if self
                .aside
                .as_ref()
                .is_none_or(|aside| aside.missing_bytes().is_none())
            {
                let Some(frame) = self.read_header(chunk)? else {
                    return Ok(None);
                };
                if frame.stands_alone() && frame.payload_bytes <= chunk.rest().len() {
                    let range = chunk.take(frame.payload_bytes);
                    if let Some(mask) = frame.mask {
                        apply_mask(&mut chunk.bytes[range.clone()], mask, 0);
                    }
                    let found = Found::InChunk(frame.opcode, frame.is_deflated, range);
                    return Ok(Some(found));
                }
                self.aside.get_or_insert_default().begin(frame);
            }
            let aside = self.aside.as_mut().expect("a frame is in progress");
            let missing_bytes = aside.missing_bytes().expect("a frame is in progress");
            let range = chunk.take(missing_bytes.min(chunk.rest().len()));
            let is_cut = range.len() < missing_bytes;
            if let Some(complete) = aside.absorb(&mut chunk.bytes[range], self.message_bytes_max)? {
                return Ok(Some(Found::Aside(complete)));
            }
            if is_cut {
                return Ok(None);
            }
        }
    }

    /// The next frame's header, or `None` when the rest of the chunk does not hold all of it
    /// and was kept.
    fn read_header(&mut self, chunk: &mut Chunk<'_>) -> Result<Option<Frame>, ProtocolError> {
        if chunk.rest().is_empty() {
            return Ok(None);
        }
        let rules = self.rules();
        let kept_before_bytes = self.aside.as_ref().map_or(0, |aside| aside.header().len());
        if kept_before_bytes == 0
            && let Some((frame, header_bytes)) = header::read(chunk.rest(), rules)?
        {
            chunk.take(header_bytes);
            return Ok(Some(frame));
        }
        let aside = self.aside.get_or_insert_default();
        let kept_bytes = aside.keep_header(chunk.rest());
        let Some((frame, header_bytes)) = header::read(aside.header(), rules)? else {
            chunk.take(kept_bytes);
            assert!(chunk.rest().is_empty(), "14 bytes hold any header");
            return Ok(None);
        };
        aside.drop_header();
        chunk.take(header_bytes - kept_before_bytes);
        Ok(Some(frame))
    }

    fn rules(&self) -> Rules {
        Rules {
            masked: self.masked,
            may_deflate: self.may_deflate,
            message_bytes_max: self.message_bytes_max,
            message_so_far_bytes: self.aside.as_ref().and_then(|it| it.message_so_far_bytes()),
        }
    }

    fn release_delivered(&mut self) {
        let Some(aside) = &mut self.aside else { return };
        if let Some(complete) = self.delivered.take() {
            aside.release(complete);
        }
        if self.ended || aside.is_idle() {
            self.aside = None;
        }
    }

    fn fail(&mut self, error: ProtocolError) -> ProtocolError {
        self.ended = true;
        self.aside = None;
        error
    }
}

impl Complete {
    /// What it is, and whether it is compressed.
    const fn kind(self) -> (Opcode, bool) {
        match self {
            Self::Control(opcode) => (opcode, false),
            Self::Message(opcode, is_deflated) => (opcode, is_deflated),
        }
    }
}

/// The item with this payload, which is whole and unmasked.
fn item(opcode: Opcode, payload: &[u8]) -> Result<Item<'_>, ProtocolError> {
    match opcode {
        Opcode::Text => simdutf8::basic::from_utf8(payload)
            .map(Item::Text)
            .map_err(|_| ProtocolError::TextNotUtf8),
        Opcode::Binary => Ok(Item::Binary(payload)),
        Opcode::Ping => Ok(Item::Ping(payload)),
        Opcode::Pong => Ok(Item::Pong(payload)),
        Opcode::Close => close_code(payload).map(Item::Close),
        Opcode::Continuation => unreachable!("a whole message has its first frame's opcode"),
    }
}

/// The code of a close (RFC 6455, section 5.5.1): none, or two bytes and a reason.
fn close_code(payload: &[u8]) -> Result<Option<u16>, ProtocolError> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(ProtocolError::CloseCodeCut),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
    };
    if !close::may_be_received(code) {
        return Err(ProtocolError::CloseCodeInvalid { code });
    }
    if simdutf8::basic::from_utf8(reason).is_err() {
        return Err(ProtocolError::CloseReasonNotUtf8);
    }
    Ok(Some(code))
}

#[cfg(test)]
mod tests {
    use super::super::{Opcode, encode_masked};
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Decoder>() <= 32, "{} bytes", size_of::<Decoder>());
    }

    #[test]
    fn a_whole_message_is_borrowed_from_its_chunk() {
        let mut bytes = encode_masked(Opcode::Text, b"hello", MASK).to_vec();
        let range = bytes.as_ptr_range();
        let mut decoder = Decoder::server(100);
        let mut chunk = Chunk::new(&mut bytes);
        let Ok(Some(Item::Text(text))) = decoder.next(&mut chunk) else {
            panic!("no text")
        };
        assert_eq!(text, "hello");
        assert!(range.contains(&text.as_ptr()), "copied");
        assert!(decoder.aside.is_none(), "allocated");
    }

    /// Feeds a frame cut in two and says what is on the heap after each part.
    fn check(frame: &[u8], cut: usize) -> [bool; 2] {
        let mut decoder = Decoder::server(100_000);
        let mut bytes = frame.to_vec();
        let (head, tail) = bytes.split_at_mut(cut);
        [head, tail].map(|part| {
            let mut chunk = Chunk::new(part);
            while decoder.next(&mut chunk).unwrap().is_some() {}
            decoder.aside.is_some()
        })
    }

    #[test]
    fn what_was_kept_is_freed_with_the_message() {
        for opcode in [Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Close] {
            let payload = [0x03, 0xE8, b'o', b'k'];
            let payload = if opcode == Opcode::Text {
                b"text"
            } else {
                &payload
            };
            let frame = encode_masked(opcode, payload, MASK);
            for cut in 1..frame.len() {
                assert_eq!(check(&frame, cut), [true, false], "{opcode:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn what_is_only_announced_takes_no_room() {
        let frame = encode_masked(Opcode::Binary, &[0; 60_000], MASK);
        let mut decoder = Decoder::server(65_536);
        let mut bytes = frame[..500].to_vec();
        assert_eq!(decoder.next(&mut Chunk::new(&mut bytes)), Ok(None));
        let room_bytes = decoder
            .aside
            .expect("a frame is in progress")
            .message_room_bytes();
        assert!(room_bytes < 1_000, "{room_bytes} bytes for 492");
    }

    #[test]
    fn room_never_exceeds_the_limit() {
        let frame = encode_masked(Opcode::Binary, &[0; 1_000], MASK);
        let mut decoder = Decoder::server(1_000);
        let mut bytes = frame.to_vec();
        for byte in bytes.chunks_mut(100).take(10) {
            assert_eq!(decoder.next(&mut Chunk::new(byte)), Ok(None));
        }
        let room_bytes = decoder
            .aside
            .expect("a frame is in progress")
            .message_room_bytes();
        assert!(room_bytes <= 1_000, "{room_bytes} bytes");
    }

    #[test]
    fn nothing_comes_after_an_error() {
        let mut decoder = Decoder::server(100);
        let mut bytes = vec![0xFF; 50];
        let mut chunk = Chunk::new(&mut bytes);
        assert!(decoder.next(&mut chunk).is_err());
        assert_eq!(decoder.next(&mut chunk), Ok(None));
        assert!(chunk.rest().is_empty());
        let mut bytes = encode_masked(Opcode::Text, b"hello", MASK).to_vec();
        assert_eq!(decoder.next(&mut Chunk::new(&mut bytes)), Ok(None));
    }
}
