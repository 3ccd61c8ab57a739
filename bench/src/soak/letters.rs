//! What was said, until it is answered: a message without an answer is sent again with its nonce, as a
//! client does that lost its connection.
//!
//! It picks no speaker and no channel, and repeats nothing that was answered.
//!
//! Invariants: what is kept grows with the messages under way, never with those of the run; a message
//! is repeated by who said it, while that one is live, and not more often than each
//! [`PATIENCE_NS`].

use std::collections::VecDeque;

use crate::index::MessageIndex;
use crate::swarm::crowd::Crowd;
use crate::swarm::links::Link;
use crate::swarm::people::Phase;
use crate::swarm::speech::text;

/// How long an answer may take before the message is sent again.
const PATIENCE_NS: u64 = 2_000_000_000;
/// Bytes of the texts; most are short, the last one is the longest that is allowed.
const SIZES: [usize; 10] = [2, 12, 20, 30, 45, 64, 80, 140, 400, 2_000];

/// One of the texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Text(usize);

impl Text {
    /// How many there are.
    pub(super) const COUNT: usize = SIZES.len();
    /// The longest.
    pub(super) const LONGEST: Self = Self(SIZES.len() - 1);

    /// The one of this number.
    pub(super) fn of(number: usize) -> Self {
        assert!(number < Self::COUNT, "there are fewer texts");
        Self(number)
    }

    /// Its length.
    pub(super) const fn bytes(self) -> usize {
        SIZES[self.0]
    }
}

struct Letter {
    index: MessageIndex,
    link: Link,
    channel: u128,
    text: Text,
    sent_ns: u64,
}

/// Messages on their way.
pub(super) struct Letters {
    texts: Vec<String>,
    /// By when they were sent last.
    open: VecDeque<Letter>,
    resent: u64,
}

impl Letters {
    /// Nothing was said.
    pub(super) fn new() -> Self {
        Self {
            texts: SIZES.into_iter().map(text).collect(),
            open: VecDeque::new(),
            resent: 0,
        }
    }

    /// A live client says something, which was due then.
    pub(super) fn say(
        &mut self,
        crowd: &mut Crowd,
        (link, channel): (Link, u128),
        text: Text,
        due_ns: u64,
    ) {
        let place = usize::try_from(crowd.people.talk.sent()).expect("below 2^32 messages");
        crowd.say(link, channel, &self.texts[text.0], due_ns);
        self.open.push_back(Letter {
            index: MessageIndex::at(place),
            link,
            channel,
            text,
            sent_ns: crowd.clock().now_ns(),
        });
    }

    /// Sends again what has waited long enough, where its speaker is there.
    pub(super) fn turn(&mut self, crowd: &mut Crowd, now_ns: u64) {
        while let Some(letter) = self.open.front()
            && letter.sent_ns + PATIENCE_NS <= now_ns
        {
            let mut letter = self.open.pop_front().expect("it was there");
            if crowd.people.talk.is_answered(letter.index) {
                continue;
            }
            if crowd.people.phase(letter.link) == Phase::Live {
                let text = &self.texts[letter.text.0];
                crowd.say_again(letter.link, letter.channel, text, letter.index);
                self.resent += 1;
            }
            letter.sent_ns = now_ns;
            self.open.push_back(letter);
        }
    }

    /// Messages that were sent again.
    pub(super) const fn resent(&self) -> u64 {
        self.resent
    }
}
