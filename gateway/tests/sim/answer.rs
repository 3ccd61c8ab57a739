//! What becomes of what clients asked for: acknowledged, refused for now, refused for good.
//!
//! It sends nothing; what is to be tried again goes out on the client's next turn.
//!
//! Invariants: every answer belongs to one question; who has been told to be a member is never
//! turned away.

use throng_protocol::{ErrorCode, MessageId, Nonce, Seq};

use crate::client::{Outgoing, Stage};
use crate::counts::Happening;
use crate::oracle::{Key, Listener};
use crate::world::World;

/// Messages that are kept to be sent again.
const STORED_MAX: usize = 8;

impl World {
    /// An answer to a message arrived: one less is due.
    fn answered(&mut self, client: usize, nonce: Nonce) {
        let awaiting = &mut self.clients[client].wire.awaiting;
        let Some(due) = awaiting.get_mut(&nonce) else {
            panic!("client {client} is answered {nonce:?} without having asked, or twice")
        };
        *due -= 1;
        if *due == 0 {
            awaiting.remove(&nonce);
        }
    }

    pub(crate) fn acked(
        &mut self,
        client: usize,
        link: usize,
        nonce: Nonce,
        id: MessageId,
        seq: Seq,
    ) {
        self.answered(client, nonce);
        let held = &mut self.clients[client];
        let known = held.stored.iter().find(|stored| stored.nonce == nonce);
        let channel = match held
            .outgoing
            .iter()
            .position(|outgoing| outgoing.nonce == nonce)
        {
            Some(at) => {
                let stored = held.outgoing.remove(at);
                let channel = stored.channel;
                held.stored.push_back(stored);
                if held.stored.len() > STORED_MAX {
                    held.stored.pop_front();
                }
                channel
            }
            None => match known {
                Some(stored) => {
                    self.counts.add(Happening::SameAckAgain);
                    stored.channel
                }
                None => return, // An answer to what was sent again and then forgotten.
            },
        };
        let account = self.clients[client].account;
        assert!(
            self.control.may(account, channel),
            "client {client} wrote to a foreign channel"
        );
        let key = Key {
            author: self.control.user(account),
            channel,
            nonce,
        };
        let verdict = self.oracle.acked(Listener(link), key, id, seq);
        self.check(verdict);
    }

    pub(crate) fn message_refused(
        &mut self,
        client: usize,
        code: ErrorCode,
        nonce: Nonce,
        retry_after_ms: Option<u64>,
    ) {
        self.answered(client, nonce);
        let after_us = match code {
            ErrorCode::Unavailable => {
                self.counts.add(Happening::Unavailable);
                200_000 + self.random_below(600_000)
            }
            ErrorCode::RateLimited => {
                self.counts.add(Happening::RateLimited);
                retry_after_ms.expect("RATE_LIMITED says when to try again") * 1_000
            }
            ErrorCode::PermissionDenied => {
                self.counts.add(Happening::Denied);
                let refused = |held: &Outgoing| held.nonce == nonce;
                let outgoing = &mut self.clients[client].outgoing;
                let member = outgoing
                    .iter()
                    .find(|held| refused(held))
                    .map(|held| held.member);
                assert!(
                    member != Some(true),
                    "client {client} is a member and was turned away"
                );
                return outgoing.retain(|held| !refused(held));
            }
            other => panic!("client {client}: {other} answers a message"),
        };
        let due_us = self.now_us + after_us;
        let held = self.clients[client]
            .outgoing
            .iter_mut()
            .find(|held| held.nonce == nonce);
        if let Some(outgoing) = held {
            outgoing.due_us = Some(due_us);
        }
    }

    /// An error that names no message.
    pub(crate) fn refused(
        &mut self,
        client: usize,
        code: ErrorCode,
        retry_after_ms: Option<u64>,
        message: &str,
    ) {
        let now_us = self.now_us;
        let held = &mut self.clients[client];
        let wire = &mut held.wire;
        if code == ErrorCode::InvalidPayload {
            self.counts.add(Happening::Garbage);
            wire.nonsense = wire
                .nonsense
                .checked_sub(1)
                .expect("nonsense is answered once");
            return;
        }
        if held.stage == Stage::Identifying {
            wire.identify_refused = true;
            wire.identify_us = Some(now_us + retry_after_ms.unwrap_or(500) * 1_000);
            return;
        }
        assert!(
            held.stage == Stage::Ready,
            "client {client}: {code} {message}"
        );
        match code {
            // It may have been an UNSUBSCRIBE_CHANNEL that found too many commands waiting.
            ErrorCode::Unavailable => {
                self.counts.add(Happening::Unavailable);
                for heard in held.heard.values_mut() {
                    heard.ended_us = heard.ended_us.map(|_| now_us);
                }
            }
            ErrorCode::PermissionDenied | ErrorCode::ChannelNotFound => {
                self.counts.add(Happening::Denied);
                let foreign = wire.pending.values().any(|asked| !asked.member);
                assert!(
                    foreign,
                    "client {client} is a member and was turned away: {message}"
                );
            }
            other => panic!("client {client}: {other} {message}"),
        }
        wire.unexplained += 1;
        wire.last_was_error = true;
        wire.news_us = now_us;
    }
}
