//! Broken histories: each must be found, and named for what it is.

use super::*;

const CHANNEL: ChannelId = ChannelId::from_u128(1);
const AUTHOR: UserId = UserId::from_u128(2);
const NAME: &str = "ann";
const HERE: Listener = Listener(0);
const THERE: Listener = Listener(1);

/// An oracle that is told one thing after the other.
#[derive(Default)]
struct Story {
    oracle: Oracle,
    verdicts: Vec<Violation>,
}

fn key(nonce: u128) -> Key {
    Key {
        author: AUTHOR,
        channel: CHANNEL,
        nonce: Nonce::from_u128(nonce),
    }
}

fn id(number: u64) -> MessageId {
    MessageId::from_parts(1_000 + number, 0)
}

/// The message with this number: its nonce, id and text follow from it.
fn entry(number: u64) -> Entry {
    Entry {
        id: id(number),
        author: AUTHOR,
        author_name: Some(NAME.to_owned()),
        content: Some(format!("text {number}")),
        nonce: Some(Nonce::from_u128(number.into())),
    }
}

impl Story {
    fn note(mut self, verdict: Result<(), Violation>) -> Self {
        self.verdicts.extend(verdict.err());
        self
    }

    fn sent(mut self, number: u64) -> Self {
        self.oracle
            .sent(key(number.into()), &format!("text {number}"));
        self
    }

    fn acked(mut self, number: u64, seq: u64) -> Self {
        let verdict = self
            .oracle
            .acked(HERE, key(number.into()), id(number), Seq(seq));
        self.note(verdict)
    }

    fn subscribed(mut self, listener: Listener, head: u64, from: From) -> Self {
        let known = self.oracle.head(CHANNEL);
        let verdict = self
            .oracle
            .subscribed(listener, CHANNEL, Seq(head), from, known);
        self.note(verdict)
    }

    fn hears(self, listener: Listener, seq: u64) -> Self {
        self.hears_as(listener, seq, entry(seq))
    }

    fn hears_as(mut self, listener: Listener, seq: u64, entry: Entry) -> Self {
        let verdict = self.oracle.delivered(listener, CHANNEL, Seq(seq), entry);
        self.note(verdict)
    }

    fn resynced(mut self, head: u64, excused: bool) -> Self {
        let verdict = self.oracle.resynced(HERE, CHANNEL, Seq(head), excused);
        self.note(verdict)
    }

    fn log(mut self, numbers: &[u64]) -> Self {
        let log = numbers.iter().map(|number| entry(*number)).collect();
        let verdict = self.oracle.log(CHANNEL, log);
        self.note(verdict)
    }

    fn complete(self) -> Self {
        let verdict = self.oracle.complete(HERE, CHANNEL);
        self.note(verdict)
    }
}

/// Three messages that were sent, and somebody who hears from the first on.
fn begun() -> Story {
    let story = Story::default().sent(1).sent(2).sent(3);
    story.subscribed(HERE, 0, From::Head)
}

/// Compares the kind of the first thing found, if there should be one.
fn check(story: &Story, expected: &str) {
    let found = story
        .verdicts
        .first()
        .map_or(String::new(), |violation| format!("{violation:?}"));
    let kind = found.split([' ', '{']).next().unwrap_or_default();
    assert_eq!(kind, expected, "{:?}", story.verdicts);
}

#[test]
fn a_right_history_passes() {
    let story = begun()
        .hears(HERE, 1)
        .acked(1, 1)
        .hears(HERE, 2)
        .acked(2, 2)
        .log(&[1, 2]);
    let story = story
        .subscribed(THERE, 2, From::After(Seq(1)))
        .hears(THERE, 2)
        .acked(1, 1);
    check(
        &story
            .hears(HERE, 3)
            .hears(THERE, 3)
            .log(&[1, 2, 3])
            .complete(),
        "",
    );
}

#[test]
fn gaps_duplicates_and_strangers() {
    check(&begun().hears(HERE, 2), "OutOfOrder");
    check(&begun().hears(HERE, 1).hears(HERE, 1), "OutOfOrder");
    check(&begun().hears(THERE, 1), "NotSubscribed");
    let resumed = begun()
        .hears(HERE, 1)
        .hears(HERE, 2)
        .subscribed(THERE, 2, From::After(Seq(1)));
    check(&resumed.hears(THERE, 3), "OutOfOrder");
    let again = begun().hears(HERE, 1).subscribed(HERE, 2, From::Again);
    check(&again, "OutOfOrder");
    let mut left = begun().hears(HERE, 1);
    left.oracle.gone(HERE);
    check(&left.hears(HERE, 2), "NotSubscribed");
}

#[test]
fn two_truths() {
    let other = Entry {
        content: Some("text 2".to_owned()),
        ..entry(1)
    };
    let both = || begun().subscribed(THERE, 0, From::Head).hears(HERE, 1);
    check(&both().hears_as(THERE, 1, other), "TwoAtOnePlace");
    check(
        &both().hears_as(
            THERE,
            1,
            Entry {
                id: id(9),
                ..entry(1)
            },
        ),
        "TwoAtOnePlace",
    );
    check(&begun().hears(HERE, 1).acked(2, 1), "TwoAtOnePlace");
    let elder = Entry {
        id: id(0),
        ..entry(2)
    };
    check(
        &begun().hears(HERE, 1).hears_as(HERE, 2, elder),
        "IdsOutOfOrder",
    );
}

#[test]
fn somebody_elses_name() {
    let mut story = begun().subscribed(THERE, 0, From::Head);
    story.oracle.introduced(AUTHOR, NAME);
    let other = Entry {
        author_name: Some("annann".to_owned()),
        ..entry(1)
    };
    check(&story.hears(HERE, 1).hears_as(THERE, 1, other), "WrongName");
}

#[test]
fn what_was_seen_and_is_gone() {
    check(&begun().acked(1, 1).log(&[]), "Lost");
    check(&begun().hears(HERE, 1).hears(HERE, 2).log(&[1]), "Lost");
    check(&begun().subscribed(THERE, 2, From::Head).log(&[1]), "Lost");
    check(&begun().acked(1, 1).log(&[2]), "TwoAtOnePlace");
}

#[test]
fn nonces_that_name_two_messages() {
    let twin = Entry {
        id: id(2),
        ..entry(1)
    };
    check(
        &begun().hears(HERE, 1).hears_as(HERE, 2, twin.clone()),
        "StoredTwice",
    );
    let later = Entry {
        id: id(1 + NONCE_KEEP_MS),
        ..entry(1)
    };
    check(&begun().hears(HERE, 1).hears_as(HERE, 2, later), "");
    // A replay leaves the nonce out; the acknowledgement brings it to light.
    let replayed = Entry {
        nonce: None,
        ..twin
    };
    let story = begun().hears(HERE, 1).hears_as(HERE, 2, replayed);
    let mut story = story;
    let verdict = story.oracle.acked(HERE, key(1), id(2), Seq(2));
    check(&story.note(verdict), "StoredTwice");
}

#[test]
fn messages_that_nobody_sent() {
    check(
        &Story::default()
            .subscribed(HERE, 0, From::Head)
            .hears(HERE, 1),
        "NeverSent",
    );
    let altered = Entry {
        content: Some("other".to_owned()),
        ..entry(1)
    };
    check(&begun().hears_as(HERE, 1, altered), "NeverSent");
    check(&Story::default().acked(1, 1), "NeverSent");
}

#[test]
fn one_senders_order() {
    check(&begun().acked(1, 1).acked(2, 2).acked(3, 3), "");
    let swapped = |story: Story| {
        let mut story = story;
        let verdict = story.oracle.acked(HERE, key(2), id(1), Seq(1));
        let mut story = story.note(verdict);
        let verdict = story.oracle.acked(HERE, key(1), id(2), Seq(2));
        story.note(verdict)
    };
    check(&swapped(begun()), "SendOrder");
    check(&swapped(begun().sent(1)), ""); // Sent again: the second one may have been taken.
}

#[test]
fn heads_and_resyncs() {
    check(
        &begun()
            .acked(1, 1)
            .acked(2, 2)
            .subscribed(THERE, 1, From::Head),
        "HeadWentBack",
    );
    check(&begun().resynced(1_000, false), "NeedlessResync");
    check(&begun().resynced(1_001, false), "");
    check(&begun().resynced(3, true), "");
    check(&begun().resynced(1_001, false).hears(HERE, 1), "OutOfOrder");
    check(&begun().hears(HERE, 1).acked(2, 2).complete(), "Missing");
}
