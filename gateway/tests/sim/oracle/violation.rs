//! What a history can have wrong with it.
//!
//! It finds nothing by itself.
//!
//! Invariant: each kind names the place, so that the trace can be read from there.

use thiserror::Error;
use throng_protocol::{ChannelId, Seq};

use super::{Entry, Key, Listener};

/// What cannot be.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Violation {
    #[error("{channel:?} {seq}: two messages, {first:?} and {second:?}")]
    TwoAtOnePlace {
        channel: ChannelId,
        seq: Seq,
        first: Box<Entry>,
        second: Box<Entry>,
    },
    #[error("{channel:?} {seq}: the author is called {found:?} and is {expected:?}")]
    WrongName {
        channel: ChannelId,
        seq: Seq,
        expected: String,
        found: String,
    },
    #[error("{channel:?} {seq}: ids do not rise with the places")]
    IdsOutOfOrder { channel: ChannelId, seq: Seq },
    #[error("{key:?} names two messages, at {first} and {second}")]
    StoredTwice { key: Key, first: Seq, second: Seq },
    #[error("{key:?} at {seq} has a content that was never sent: {content:?}")]
    NeverSent {
        key: Key,
        seq: Seq,
        content: Option<String>,
    },
    #[error("{channel:?} {seq} was seen and is not in the log, which ends at {end}")]
    Lost {
        channel: ChannelId,
        seq: Seq,
        end: Seq,
    },
    #[error("{listener:?} hears {channel:?} without a subscription")]
    NotSubscribed {
        listener: Listener,
        channel: ChannelId,
    },
    #[error("{listener:?} hears {channel:?} {found} when {expected} is next")]
    OutOfOrder {
        listener: Listener,
        channel: ChannelId,
        expected: Seq,
        found: Seq,
    },
    #[error("{channel:?}: the head is said to be {head} when {known} has been seen")]
    HeadWentBack {
        channel: ChannelId,
        head: Seq,
        known: Seq,
    },
    #[error("{listener:?} is resynced in {channel:?} after missing only {missed}")]
    NeedlessResync {
        listener: Listener,
        channel: ChannelId,
        missed: u64,
    },
    #[error("{listener:?} {key:?}: {seq} breaks the order in which it was sent")]
    SendOrder {
        listener: Listener,
        key: Key,
        seq: Seq,
    },
    #[error("{listener:?} stopped at {heard} in {channel:?}, whose head is {head}")]
    Missing {
        listener: Listener,
        channel: ChannelId,
        heard: Seq,
        head: Seq,
    },
    #[error("{channel:?}: a page holds {found:?} instead of {expected:?}")]
    WrongPage {
        channel: ChannelId,
        expected: Vec<Seq>,
        found: Vec<Seq>,
    },
}
