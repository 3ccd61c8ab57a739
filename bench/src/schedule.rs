//! Who says what where, and when it is due: the whole load, planned before it is offered.
//!
//! The plan never waits for an answer. A message's intended time follows from its place in the
//! plan alone, so a server that falls behind shows in the latencies (no coordinated omission).
//!
//! Invariants: times never decrease; a sender belongs to the audience of the channel it speaks
//! in; turns of one conversation appear in one channel in their order, its speakers alternating.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::audience::Audiences;
use crate::corpus::{Corpus, TextId};
use crate::index::{ChannelIndex, ClientIndex, MessageIndex};
use crate::swarm::course::Course;
use crate::zipf::Zipf;

/// Most messages in one plan: 12 bytes each are kept, and their answers too.
pub const MESSAGES_MAX: u64 = 50_000_000;

/// One message of the plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Planned {
    /// Who sends it.
    pub client: ClientIndex,
    /// Where.
    pub channel: ChannelIndex,
    /// What.
    pub text: TextId,
}

/// What load to offer.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Messages per second, at least 1.
    pub rate: u32,
    /// For how long before anything is measured.
    pub warm_up: Duration,
    /// For how long after that.
    pub duration: Duration,
    /// Zipf exponent of the channels' popularity; 0 makes all alike.
    pub zipf: f64,
    /// Same seed, same plan.
    pub seed: u64,
}

impl Load {
    /// How many messages that makes.
    #[must_use]
    pub fn messages(&self) -> u64 {
        let duration = self.warm_up.saturating_add(self.duration);
        let messages = u128::from(self.rate) * duration.as_millis() / 1000;
        u64::try_from(messages).unwrap_or(u64::MAX)
    }

    /// Whether one of them is due after the warm-up.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        let last = self.messages().checked_sub(1);
        let due_ns = |last| u128::from(last) * 1_000_000_000 / u128::from(self.rate.max(1));
        last.is_some_and(|last: u64| due_ns(last) >= self.warm_up.as_nanos())
    }
}

/// The plan.
#[derive(Debug)]
pub struct Schedule {
    rate: u32,
    warm_up_ns: u64,
    planned: Vec<Planned>,
}

impl Schedule {
    /// Plans a load: each message goes to a channel drawn by popularity and is the next turn of
    /// the conversation that is under way there.
    ///
    /// # Panics
    /// When the load is beyond [`MESSAGES_MAX`], or a channel has no audience.
    #[must_use]
    pub fn plan(corpus: &Corpus, audiences: &Audiences, load: &Load) -> Self {
        assert!(
            load.rate > 0 && load.messages() <= MESSAGES_MAX,
            "options are checked before"
        );
        let mut random = StdRng::seed_from_u64(load.seed);
        let popularity = Zipf::new(audiences.channels(), load.zipf);
        let mut talks: Vec<Option<Talk>> = (0..audiences.channels()).map(|_| None).collect();
        let planned = (0..load.messages())
            .map(|_| {
                let place = popularity.draw(&mut random);
                let channel = ChannelIndex::at(place);
                let talk = talks[place]
                    .take()
                    .filter(|talk| talk.turns.len() > 0)
                    .unwrap_or_else(|| Talk::begin(corpus, audiences.of(channel), &mut random));
                let (planned, talk) = talk.next(channel);
                talks[place] = Some(talk);
                planned
            })
            .collect();
        Self {
            rate: load.rate,
            warm_up_ns: u64::try_from(load.warm_up.as_nanos()).unwrap_or(u64::MAX),
            planned,
        }
    }

    /// The messages in the order in which they are due.
    #[must_use]
    pub fn planned(&self) -> &[Planned] {
        &self.planned
    }

    /// When a message is due, in nanoseconds after the start.
    #[must_use]
    pub fn due_ns(&self, message: MessageIndex) -> u64 {
        u64::from(message.0) * 1_000_000_000 / u64::from(self.rate)
    }

    /// Whether a message is due after the warm-up.
    #[must_use]
    pub fn is_measured(&self, message: MessageIndex) -> bool {
        self.due_ns(message) >= self.warm_up_ns
    }

    /// The course of what is measured, counted from the start: nothing has been heard yet.
    #[must_use]
    pub fn course(&self) -> Course {
        let messages = u64::try_from(self.planned.len()).unwrap_or(u64::MAX);
        let all = Duration::from_secs(messages) / self.rate;
        Course::new(
            self.warm_up_ns,
            all.saturating_sub(Duration::from_nanos(self.warm_up_ns)),
        )
    }
}

/// A conversation under way in a channel.
struct Talk {
    turns: std::vec::IntoIter<TextId>,
    speakers: [ClientIndex; 2],
}

impl Talk {
    fn begin(corpus: &Corpus, audience: &[ClientIndex], random: &mut StdRng) -> Self {
        let turns: Vec<TextId> = corpus
            .turns(random.random_range(0..corpus.conversations()))
            .collect();
        let first = random.random_range(0..audience.len());
        let second = (first + random.random_range(0..audience.len())) % audience.len();
        Self {
            turns: turns.into_iter(),
            speakers: [audience[first], audience[second]],
        }
    }

    fn next(mut self, channel: ChannelIndex) -> (Planned, Self) {
        let text = self
            .turns
            .next()
            .expect("a conversation that is over is replaced before");
        let [client, other] = self.speakers;
        self.speakers = [other, client];
        (
            Planned {
                client,
                channel,
                text,
            },
            self,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load {
        rate: 300,
        warm_up: Duration::ZERO,
        duration: Duration::from_secs(10),
        zipf: 1.0,
        seed: 5,
    };

    fn plan(load: &Load) -> (Corpus, Audiences, Schedule) {
        let corpus = Corpus::generated(1);
        let audiences = Audiences::even(40, 20, 4, 1);
        let schedule = Schedule::plan(&corpus, &audiences, load);
        (corpus, audiences, schedule)
    }

    #[test]
    fn times_follow_the_rate_and_nothing_else() {
        let (_, _, schedule) = plan(&LOAD);
        assert_eq!(schedule.planned().len(), 3000);
        assert_eq!(schedule.due_ns(MessageIndex(0)), 0);
        assert_eq!(schedule.due_ns(MessageIndex(1)), 3_333_333);
        assert_eq!(schedule.due_ns(MessageIndex(300)), 1_000_000_000);
        assert_eq!(schedule.due_ns(MessageIndex(2999)), 9_996_666_666);
    }

    #[test]
    fn nothing_but_a_warm_up_is_told_apart() {
        let check = |rate, warm_up_ms, duration_ms, expected| {
            let load = Load {
                rate,
                warm_up: Duration::from_millis(warm_up_ms),
                duration: Duration::from_millis(duration_ms),
                ..LOAD
            };
            assert_eq!(load.is_measured(), expected, "{load:?}");
        };
        check(300, 0, 10_000, true);
        check(300, 2_000, 10, true);
        check(300, 2_000, 0, false);
        check(1, 500, 600, false);
        check(1, 0, 0, false);
        check(1, 1_000, 1_000, true);
    }

    #[test]
    fn a_warm_up_comes_before() {
        let (_, _, schedule) = plan(&Load {
            warm_up: Duration::from_secs(2),
            ..LOAD
        });
        assert_eq!(schedule.planned().len(), 3600);
        assert!(!schedule.is_measured(MessageIndex(599)));
        assert!(schedule.is_measured(MessageIndex(600)));
        assert!(plan(&LOAD).2.is_measured(MessageIndex(0)));
    }

    #[test]
    fn the_seed_decides() {
        let (_, _, schedule) = plan(&LOAD);
        assert_eq!(schedule.planned(), plan(&LOAD).2.planned());
        assert_ne!(
            schedule.planned(),
            plan(&Load { seed: 6, ..LOAD }).2.planned()
        );
    }

    #[test]
    fn senders_watch_where_they_speak() {
        let (_, audiences, schedule) = plan(&LOAD);
        for planned in schedule.planned() {
            assert!(audiences.of(planned.channel).contains(&planned.client));
        }
    }

    #[test]
    fn a_channel_carries_whole_conversations() {
        let corpus =
            Corpus::parse("{\"turns\":[\"a\",\"b\",\"c\"]}\n{\"turns\":[\"d\",\"e\"]}").unwrap();
        let audiences = Audiences::even(6, 3, 2, 1);
        let schedule = Schedule::plan(&corpus, &audiences, &LOAD);
        let said: String = schedule
            .planned()
            .iter()
            .filter(|planned| planned.channel == ChannelIndex(0))
            .map(|planned| corpus.text(planned.text))
            .collect();
        let rest = said.replace("abc", "").replace("de", "");
        assert!(
            said.len() > 100 && "abcde".contains(&rest) && rest.len() < 3,
            "{said}"
        );
    }
}
