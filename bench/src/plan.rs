//! All that is settled before the first client connects, shared by all generator threads.
//!
//! It never changes while a run goes on.
//!
//! Invariants: one token per client, one channel id per channel of the plan; a nonce names one
//! planned message of one run, so that what other runs left in a channel is told apart.

use throng_protocol::{ChannelId, Nonce};

use crate::audience::Audiences;
use crate::corpus::Corpus;
use crate::index::{ClientIndex, MessageIndex};
use crate::schedule::{Planned, Schedule};
use crate::target::Target;

/// What the clients are to do.
#[derive(Debug)]
pub struct Plan {
    /// Where.
    pub target: Target,
    /// Each client's identity.
    pub tokens: Vec<String>,
    /// Each channel's id.
    pub channels: Vec<ChannelId>,
    /// Who watches what.
    pub audiences: Audiences,
    /// Who says what where, and when.
    pub schedule: Schedule,
    /// The texts.
    pub corpus: Corpus,
    /// How messages are named.
    pub nonces: Nonces,
}

impl Plan {
    /// A message of the plan.
    #[must_use]
    pub fn message(&self, index: MessageIndex) -> Planned {
        self.schedule.planned()[index.place()]
    }

    /// Which message of the plan a nonce names; none for other runs' nonces.
    #[must_use]
    pub fn named(&self, nonce: Nonce) -> Option<MessageIndex> {
        self.nonces
            .index(nonce)
            .filter(|index| index.place() < self.schedule.planned().len())
    }

    /// Whether a client belongs to a thread, of `threads`.
    #[must_use]
    pub const fn is_served_by(client: ClientIndex, thread: usize, threads: usize) -> bool {
        client.place() % threads == thread
    }
}

/// Nonces of one run: version 8 UUIDs (RFC 9562, section 5.8) of a tag and a number.
#[derive(Clone, Copy, Debug)]
pub struct Nonces {
    tag: u128,
}

const VERSION_8: u128 = 0x8 << 76;
const VERSION_BITS: u128 = 0xF << 76;
const VARIANT: u128 = 0b10 << 62;
const INDEX_BITS: u128 = 0xFFFF_FFFF;

impl Nonces {
    /// Nonces of the run with this tag.
    #[must_use]
    pub const fn new(tag: u64) -> Self {
        Self {
            tag: ((tag as u128) << 64) & !VERSION_BITS | VERSION_8 | VARIANT,
        }
    }

    /// The nonce of a message.
    #[must_use]
    pub fn of(&self, index: MessageIndex) -> Nonce {
        Nonce::from_u128(self.tag | u128::from(index.0))
    }

    fn index(&self, nonce: Nonce) -> Option<MessageIndex> {
        let value = nonce.as_u128();
        let index = u32::try_from(value & INDEX_BITS).expect("32 bits");
        (value & !INDEX_BITS == self.tag).then_some(MessageIndex(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonces_name_their_message_and_no_other_run_s() {
        let nonces = Nonces::new(u64::MAX);
        for index in [0, 1, u32::MAX].map(MessageIndex) {
            assert_eq!(nonces.index(nonces.of(index)), Some(index));
            assert_eq!(Nonces::new(1).index(nonces.of(index)), None);
        }
        let text = Nonces::new(0x0123_4567_89AB_CDEF)
            .of(MessageIndex(0x42))
            .to_string();
        assert_eq!(text, "01234567-89ab-8def-8000-000000000042");
    }
}
