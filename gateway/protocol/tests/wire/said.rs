//! What a peer said, owned, so that it can be compared: the items of a byte stream, and how it
//! ended.
//!
//! It never stops before a chunk is used up, as the decoder asks of its callers.
//!
//! Invariant: the same bytes give the same `Said`, however they are cut.

use throng_protocol::deflate::Inflater;
use throng_protocol::frame::{Chunk, Decoder, Item, ProtocolError};

/// An [`Item`] that outlives its chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum SaidItem {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A close.
    Close(Option<u16>),
}

impl From<Item<'_>> for SaidItem {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Self::Text(text.to_owned()),
            Item::Binary(bytes) => Self::Binary(bytes.to_owned()),
            Item::Ping(bytes) => Self::Ping(bytes.to_owned()),
            Item::Pong(bytes) => Self::Pong(bytes.to_owned()),
            Item::Close(code) => Self::Close(code),
        }
    }
}

/// All that a peer said, and the rule it broke, if any.
pub(crate) type Said = (Vec<SaidItem>, Option<ProtocolError>);

/// Feeds the bytes to a decoder in pieces that end at these offsets.
pub(crate) fn listen(mut decoder: Decoder, bytes: &[u8], cuts: &[usize]) -> Said {
    let mut bytes = bytes.to_vec();
    let mut said = Vec::new();
    let mut inflater = Inflater::default();
    let mut start = 0;
    let end = bytes.len();
    for cut in cuts.iter().copied().chain([end]) {
        let mut chunk = Chunk::new(&mut bytes[start..cut]);
        loop {
            match decoder.next_inflating(&mut chunk, &mut inflater) {
                Ok(Some(item)) => said.push(item.into()),
                Ok(None) => break,
                Err(error) => return (said, Some(error)),
            }
        }
        assert!(chunk.rest().is_empty(), "None before the chunk is used up");
        start = cut;
    }
    (said, None)
}
