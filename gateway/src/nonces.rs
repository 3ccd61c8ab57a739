//! Resent messages: which nonce of which author in which channel already names a message.
//!
//! It never reads a clock. A nonce is remembered for [`KEEP_MS`] after its message, over
//! reconnects and (refilled from the log) restarts. The whole key is kept, not a hash of it.
//!
//! Invariants: one key names at most one message; whoever resends a message that is still being
//! committed is answered with that commit, not before; the table is bounded, and full means that
//! new messages are refused, never that an old nonce is forgotten early.

mod stored;

use std::collections::HashMap;

use throng_protocol::{ChannelId, MessageId, Nonce, Seq, UserId};

use crate::lane::ReplyTo;
use stored::Stored;

/// How long a nonce is remembered after its message, in milliseconds.
pub(crate) const KEEP_MS: u64 = 5 * 60 * 1_000;

/// What names a message from the client's side.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct NonceKey {
    /// Where it was sent.
    pub(crate) channel: ChannelId,
    /// Who sent it.
    pub(crate) author: UserId,
    /// The client's name for it.
    pub(crate) nonce: Nonce,
}

/// Bytes of a nonce that is remembered, its message's id and seq with it, its bucket aside.
#[cfg(test)]
pub(crate) const NONCE_BYTES: usize = stored::ENTRY_BYTES;

/// What a nonce means for a message that has just arrived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// Not seen: it is a new message.
    New,
    /// Being committed; the resender has been noted (or, too many wait already, is refused).
    Pending {
        /// False when too many wait already.
        noted: bool,
    },
    /// Stored.
    Stored(MessageId, Seq),
}

/// Resenders that may wait for one commit.
const WAITERS_MAX: usize = 64;

/// The nonces of the channels that one shard owns.
#[derive(Debug)]
pub(crate) struct Nonces {
    /// In commits that are not synced; these resenders wait for each.
    pending: HashMap<NonceKey, Vec<ReplyTo>>,
    stored: Stored,
    entries_max: usize,
}

impl Nonces {
    /// A table of at most `entries_max` nonces.
    ///
    /// # Panics
    /// When that is more than 2^30, which the configuration refuses.
    #[must_use]
    pub(crate) fn new(entries_max: usize) -> Self {
        assert!(entries_max <= 1 << 30, "numbers tell 2^32 entries apart");
        Self {
            pending: HashMap::new(),
            stored: Stored::default(),
            entries_max,
        }
    }

    /// Whether there is room for one more message.
    #[must_use]
    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() + self.stored.len() < self.entries_max
    }

    /// Looks up a nonce that has arrived; a resender of a pending one is noted.
    pub(crate) fn look_up(&mut self, key: NonceKey, reply_to: ReplyTo) -> Seen {
        if let Some(waiters) = self.pending.get_mut(&key) {
            let noted = waiters.len() < WAITERS_MAX;
            if noted {
                waiters.push(reply_to);
            }
            return Seen::Pending { noted };
        }
        match self.stored.get(&key) {
            Some((message, seq)) => Seen::Stored(message, seq),
            None => Seen::New,
        }
    }

    /// A message with this nonce goes into the open commit.
    pub(crate) fn admit(&mut self, key: NonceKey) {
        assert!(
            self.stored.get(&key).is_none(),
            "a stored nonce is no new one"
        );
        let before = self.pending.insert(key, Vec::new());
        assert!(before.is_none(), "a nonce is admitted once");
    }

    /// The message is stored; returns who else waits for it.
    pub(crate) fn stored(
        &mut self,
        key: NonceKey,
        message: MessageId,
        seq: Seq,
        now_ms: u64,
    ) -> Vec<ReplyTo> {
        let due_ms = now_ms.saturating_add(KEEP_MS);
        self.stored.insert(key, message, seq, due_ms);
        self.pending.remove(&key).unwrap_or_default()
    }

    /// The commit was refused: the message never was. Returns who else waited for it.
    pub(crate) fn refused(&mut self, key: NonceKey) -> Vec<ReplyTo> {
        let waiters = self.pending.remove(&key);
        waiters.expect("only a pending nonce is refused")
    }

    /// Forgets what is older than [`KEEP_MS`].
    pub(crate) fn expire(&mut self, now_ms: u64) {
        self.stored.expire(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ShardId;
    use crate::lane::RequestId;

    pub(super) fn key(nonce: u128) -> NonceKey {
        NonceKey {
            channel: ChannelId::from_u128(1),
            author: UserId::from_u128(2),
            nonce: Nonce::from_u128(nonce),
        }
    }

    fn from(request: u32) -> ReplyTo {
        ReplyTo {
            shard: ShardId(0),
            request: RequestId(request),
        }
    }

    #[test]
    fn a_resent_nonce_waits_for_the_commit_and_then_gets_its_message() {
        let message = MessageId::from_u128(9);
        let mut nonces = Nonces::new(10);
        assert_eq!(nonces.look_up(key(1), from(1)), Seen::New);
        nonces.admit(key(1));
        assert_eq!(
            nonces.look_up(key(1), from(2)),
            Seen::Pending { noted: true }
        );
        assert_eq!(nonces.stored(key(1), message, Seq(4), 1_000), vec![from(2)]);
        assert_eq!(
            nonces.look_up(key(1), from(3)),
            Seen::Stored(message, Seq(4))
        );
        nonces.expire(1_000 + KEEP_MS - 1);
        assert_eq!(
            nonces.look_up(key(1), from(3)),
            Seen::Stored(message, Seq(4))
        );
        nonces.expire(1_000 + KEEP_MS);
        assert_eq!(nonces.look_up(key(1), from(3)), Seen::New);
    }

    #[test]
    fn a_refused_message_leaves_its_nonce_free() {
        let mut nonces = Nonces::new(1);
        nonces.admit(key(1));
        assert!(!nonces.has_room());
        assert_eq!(
            nonces.look_up(key(1), from(2)),
            Seen::Pending { noted: true }
        );
        assert_eq!(nonces.refused(key(1)), vec![from(2)]);
        assert_eq!(nonces.look_up(key(1), from(2)), Seen::New);
        assert!(nonces.has_room());
    }

    #[test]
    fn the_resenders_that_wait_are_bounded() {
        let mut nonces = Nonces::new(1);
        nonces.admit(key(1));
        for n in 0..WAITERS_MAX {
            let request = u32::try_from(n).expect("small");
            assert_eq!(
                nonces.look_up(key(1), from(request)),
                Seen::Pending { noted: true }
            );
        }
        assert_eq!(
            nonces.look_up(key(1), from(999)),
            Seen::Pending { noted: false }
        );
    }
}
