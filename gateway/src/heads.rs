//! The last place of every channel that a shard owns, as far as it is synced.
//!
//! It knows nothing of where messages lie: that is the store's.
//!
//! Invariants: a head never goes back; a channel without messages has none.

use std::collections::HashMap;

use throng_protocol::{ChannelId, Rev, Seq};

/// One entry per channel with a message, 40 bytes and the table's own overhead.
#[derive(Debug, Default)]
pub struct Heads {
    channels: HashMap<ChannelId, (Seq, Rev)>,
}

impl Heads {
    /// The last place given out in a channel; zeroes if none.
    pub(crate) fn get(&self, channel: ChannelId) -> (Seq, Rev) {
        self.channels.get(&channel).copied().unwrap_or_default()
    }

    /// A message of the channel is synced.
    pub(crate) fn advance(&mut self, channel: ChannelId, seq: Seq, rev: Rev) {
        let head = self.channels.entry(channel).or_default();
        assert!(head.1 < rev, "records of a channel are committed in order");
        *head = (seq, rev);
    }
}

impl FromIterator<(ChannelId, Seq, Rev)> for Heads {
    fn from_iter<T: IntoIterator<Item = (ChannelId, Seq, Rev)>>(heads: T) -> Self {
        let channels = heads
            .into_iter()
            .map(|(channel, seq, rev)| (channel, (seq, rev)));
        Self {
            channels: channels.collect(),
        }
    }
}
