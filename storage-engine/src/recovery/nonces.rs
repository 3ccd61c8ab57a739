//! Collects the nonces of records that are young enough for a repeated request to come.
//!
//! Records may come in any order.
//!
//! Invariants: memory is in proportion to the records inside the time that counts.

use crate::format::RecordView;
use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey};
use crate::record::RecordKind;

/// A record that is young enough for its nonce to matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecentNonce {
    /// The channel.
    pub channel: ChannelKey,
    /// Who wrote it.
    pub author: AuthorKey,
    /// The writer's mark.
    pub nonce: NonceKey,
    /// What the record does.
    pub kind: RecordKind,
    /// The record's own key: for a creation the message's.
    pub message: MessageKey,
    /// The message's place among the channel's messages.
    pub seq: u64,
}

/// What was collected so far.
pub(crate) struct Nonces {
    newest_ms: u64,
    recent_ms: u64,
    recent: Vec<RecentNonce>,
    /// Length at which `recent` is next rid of what has become too old.
    prune_at: usize,
}

impl Nonces {
    pub(crate) fn new(recent_ms: u64) -> Self {
        Self {
            newest_ms: 0,
            recent_ms,
            recent: Vec::new(),
            prune_at: 1024,
        }
    }

    /// Time of the newest key, in milliseconds since 1970.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.newest_ms
    }

    pub(crate) fn note_newest(&mut self, newest_ms: u64) {
        self.newest_ms = self.newest_ms.max(newest_ms);
    }

    /// Whether what is not newer than this is too old.
    pub(crate) fn is_old(&self, ms: u64) -> bool {
        ms.saturating_add(self.recent_ms) < self.newest_ms
    }

    pub(crate) fn add(&mut self, record: &RecordView<'_>) {
        let meta = record.meta();
        let ms = meta.message.timestamp_ms();
        self.note_newest(ms);
        if record.nonce().is_zero() || self.is_old(ms) {
            return;
        }
        if self.recent.len() >= self.prune_at {
            self.prune();
            self.prune_at = (self.recent.len() * 2).max(1024);
        }
        self.recent.push(RecentNonce {
            channel: meta.channel,
            author: record.author(),
            nonce: record.nonce(),
            kind: meta.kind,
            message: meta.message,
            seq: meta.seq,
        });
    }

    /// All that are young enough, in order of their keys.
    pub(crate) fn finish(mut self) -> Vec<RecentNonce> {
        self.prune();
        self.recent
            .sort_by_key(|nonce| (nonce.message, nonce.channel));
        self.recent
    }

    fn prune(&mut self) {
        let mut recent = std::mem::take(&mut self.recent);
        recent.retain(|nonce| !self.is_old(nonce.message.timestamp_ms()));
        self.recent = recent;
    }
}
