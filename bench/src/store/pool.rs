//! Bodies for the store benchmarks: cuts of one long text, each found again from its message's
//! id alone.
//!
//! It keeps no list of what it gave out and copies no text: bodies share the pool's memory.
//!
//! Invariants: the same corpus, seed and length give the same pool; a body is valid UTF-8, so that
//! it could stand in JSON, and at most three bytes shorter than was asked for.

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng_storage_engine::MessageKey;

use crate::corpus::Corpus;

/// Bytes of text that bodies are cut from: far beyond what a compressor looks back.
const POOL_BYTES: usize = 16 << 20;

/// A long text of conversations in changing order.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    text: Bytes,
    body_bytes: usize,
}

impl Pool {
    /// A pool whose bodies are `body_bytes` long.
    pub(super) fn new(corpus: &Corpus, seed: u64, body_bytes: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut text = String::with_capacity(POOL_BYTES + (64 << 10));
        while text.len() < POOL_BYTES {
            let conversation = random.random_range(0..corpus.conversations());
            for turn in corpus.turns(conversation) {
                text.push_str(corpus.text(turn));
                text.push('\n');
            }
        }
        Self {
            text: text.into(),
            body_bytes,
        }
    }

    /// The body of the message with this id.
    pub(super) fn body(&self, message: MessageKey) -> Bytes {
        let [.., a, b, c, d] = message.0;
        let room = self.text.len() - self.body_bytes;
        let drawn = usize::try_from(u32::from_le_bytes([a, b, c, d])).expect("32 bits fit");
        let start = self.boundary(drawn % room);
        let end = self.boundary(start + self.body_bytes);
        self.text.slice(start..end)
    }

    /// The last place at or before `place` where a character begins.
    fn boundary(&self, place: usize) -> usize {
        let is_inside = |&at: &usize| self.text[at] & 0b1100_0000 == 0b1000_0000;
        let inside = (0..=place).rev().take_while(|at| is_inside(at)).count();
        place - inside
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_text_of_nearly_the_length_asked_for() {
        let corpus = Corpus::parse("{\"turns\":[\"こんにちは ß 😀\",\"hello\"]}").unwrap();
        let pool = Pool::new(&corpus, 1, 100);
        for number in 0..1000_u128 {
            let body = pool.body(MessageKey((number * 7919).to_be_bytes()));
            assert!((97..=103).contains(&body.len()), "{}", body.len());
            assert!(std::str::from_utf8(&body).is_ok());
        }
    }

    #[test]
    fn the_id_alone_tells_the_body() {
        let corpus = Corpus::generated(1);
        let pools = [1, 1, 2].map(|seed| Pool::new(&corpus, seed, 300));
        let key = MessageKey(12_345_678_u128.to_be_bytes());
        assert_eq!(pools[0].body(key), pools[1].body(key));
        assert_ne!(pools[0].body(key), pools[2].body(key));
    }
}
