//! A message as key and value, for stores that know nothing else.
//!
//! It holds only what a page needs.
//!
//! Invariants: keys sort by channel, then by id, which is the order of creation.

use bytes::Bytes;
use throng_storage_engine::{AuthorKey, ChannelKey, MessageKey, Record};

use crate::store::engine::{Ask, PAGE_MESSAGES, PageMessage};

/// Bytes of the author, before the body.
const AUTHOR_BYTES: usize = 16;

/// Key and value of one message.
pub(super) struct Entry {
    pub(super) key: [u8; 32],
    pub(super) value: Vec<u8>,
}

impl Entry {
    /// The entry of a record.
    pub(super) fn of(record: &Record) -> Self {
        let mut value = Vec::with_capacity(AUTHOR_BYTES + record.body.len());
        value.extend_from_slice(&record.author.0);
        value.extend_from_slice(&record.body);
        Self {
            key: key(record.channel, record.message),
            value,
        }
    }

    /// The key that a page's older part ends below and its newer part begins at.
    pub(super) fn bound(channel: ChannelKey, ask: Ask) -> [u8; 32] {
        match ask {
            Ask::Newest => key(channel, MessageKey([0xFF; 16])),
            Ask::Before(message) | Ask::Around(message) => key(channel, message),
        }
    }

    /// How many messages a page takes below its bound, and from it on.
    pub(super) fn split(ask: Ask) -> (usize, usize) {
        match ask {
            Ask::Newest | Ask::Before(_) => (PAGE_MESSAGES, 0),
            Ask::Around(_) => (PAGE_MESSAGES / 2, PAGE_MESSAGES - PAGE_MESSAGES / 2),
        }
    }
}

/// Channel and id, one after the other.
pub(super) fn key(channel: ChannelKey, message: MessageKey) -> [u8; 32] {
    let mut key = [0; 32];
    key[..16].copy_from_slice(&channel.0);
    key[16..].copy_from_slice(&message.0);
    key
}

/// The message of an entry.
///
/// # Panics
/// If the key or value is not one that [`Entry::of`] made.
pub(super) fn page_message(key: &[u8], value: Bytes) -> PageMessage {
    let message = key[16..].try_into().expect("keys are 32 bytes");
    let author = value[..AUTHOR_BYTES]
        .try_into()
        .expect("values begin with the author");
    PageMessage {
        message: MessageKey(message),
        author: AuthorKey(author),
        body: value.slice(AUTHOR_BYTES..),
    }
}
