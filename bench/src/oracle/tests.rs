//! Broken streams, one kind at a time: each must show in its own count and in no other.

use super::*;

const ROOM: ChannelIndex = ChannelIndex(0);

/// What the subscribers of one channel heard, and what was acknowledged.
struct Stream {
    oracle: Oracle,
    watches: Vec<WatchId>,
}

impl Stream {
    fn with_subscribers(subscribers: usize) -> Self {
        let mut oracle = Oracle::new(2, 100);
        let watches = (0..subscribers)
            .map(|_| oracle.watch(ROOM, Seq(0)))
            .collect();
        Self { oracle, watches }
    }

    /// Message `seq` as an honest server numbers it.
    fn deliver(&mut self, subscriber: usize, seq: u64) {
        self.deliver_as(subscriber, seq, seq, seq);
    }

    fn deliver_as(&mut self, subscriber: usize, seq: u64, id: u64, index: u64) {
        let watch = self.watches[subscriber];
        self.oracle
            .delivered(watch, Seq(seq), message(id), Some(planned(index)));
    }

    fn ack(&mut self, seq: u64) {
        self.oracle
            .acked(ROOM, Seq(seq), message(seq), planned(seq));
    }

    fn verdict(&self) -> Verdict {
        self.oracle.verdict(|_| Some(ClientIndex(0)))
    }
}

fn message(id: u64) -> MessageId {
    MessageId::from_u128(u128::from(id))
}

fn planned(index: u64) -> MessageIndex {
    MessageIndex(u32::try_from(index).unwrap())
}

/// Three messages, acknowledged, to two subscribers.
fn honest() -> Stream {
    let mut stream = Stream::with_subscribers(2);
    for seq in 1..=3 {
        stream.deliver(0, seq);
        stream.ack(seq);
        stream.deliver(1, seq);
    }
    stream
}

const CLEAN: Verdict = Verdict {
    acked: 3,
    delivered: 6,
    expected: 6,
    stored: 3,
    lost: 0,
    duplicated: 0,
    out_of_order: 0,
    disagreements: 0,
    gaps: 0,
    wrong_content: 0,
    unasked: 0,
    forgotten: 0,
};

fn check(stream: &Stream, expected: Verdict) {
    assert_eq!(stream.verdict(), expected);
    let Verdict {
        acked,
        delivered,
        expected: due,
        stored,
        ..
    } = CLEAN;
    let broken = Verdict {
        acked,
        delivered,
        expected: due,
        stored,
        ..expected
    } != CLEAN;
    assert_eq!(stream.verdict().is_clean(), !broken);
}

#[test]
fn an_honest_stream_is_clean() {
    check(&honest(), CLEAN);
}

#[test]
fn acknowledged_and_delivered_to_nobody() {
    let mut stream = honest();
    stream.ack(4);
    check(
        &stream,
        Verdict {
            acked: 4,
            stored: 4,
            expected: 8,
            lost: 2,
            ..CLEAN
        },
    );
}

#[test]
fn delivered_to_one_of_two() {
    let mut stream = honest();
    stream.deliver(1, 4);
    check(
        &stream,
        Verdict {
            stored: 4,
            delivered: 7,
            expected: 8,
            lost: 1,
            ..CLEAN
        },
    );
}

#[test]
fn a_message_skipped_at_one_subscriber() {
    let mut stream = honest();
    for seq in [4, 5] {
        stream.ack(seq);
        stream.deliver(0, seq);
    }
    stream.deliver(1, 5);
    let expected = Verdict {
        acked: 5,
        stored: 5,
        delivered: 9,
        expected: 10,
        lost: 1,
        ..CLEAN
    };
    check(&stream, expected);
}

#[test]
fn a_number_that_nobody_saw() {
    let mut stream = honest();
    stream.deliver(0, 5);
    stream.deliver(1, 5);
    check(
        &stream,
        Verdict {
            stored: 4,
            delivered: 8,
            expected: 8,
            gaps: 1,
            ..CLEAN
        },
    );
}

#[test]
fn delivered_twice() {
    let mut stream = honest();
    stream.deliver(0, 3);
    check(
        &stream,
        Verdict {
            duplicated: 1,
            ..CLEAN
        },
    );
}

#[test]
fn delivered_in_the_wrong_order() {
    let mut stream = honest();
    stream.deliver(0, 4);
    stream.deliver(0, 5);
    stream.deliver(1, 5);
    stream.deliver(1, 4);
    let expected = Verdict {
        stored: 5,
        delivered: 10,
        expected: 10,
        out_of_order: 1,
        ..CLEAN
    };
    check(&stream, expected);
}

#[test]
fn subscribers_disagree() {
    let mut stream = honest();
    stream.deliver(0, 4);
    stream.deliver_as(1, 4, 77, 5);
    let expected = Verdict {
        stored: 4,
        delivered: 8,
        expected: 8,
        disagreements: 1,
        ..CLEAN
    };
    check(&stream, expected);
}

#[test]
fn acknowledged_as_another_message() {
    let mut stream = honest();
    stream.oracle.acked(ROOM, Seq(3), message(78), planned(3));
    check(
        &stream,
        Verdict {
            disagreements: 1,
            ..CLEAN
        },
    );
}

#[test]
fn acknowledged_under_another_nonce() {
    let mut stream = honest();
    stream.oracle.acked(ROOM, Seq(3), message(3), planned(9));
    check(
        &stream,
        Verdict {
            acked: 4,
            disagreements: 1,
            ..CLEAN
        },
    );
}

#[test]
fn one_nonce_stored_twice() {
    let mut stream = honest();
    stream.deliver_as(0, 4, 4, 2);
    stream.deliver_as(1, 4, 4, 2);
    let expected = Verdict {
        stored: 4,
        delivered: 8,
        expected: 8,
        duplicated: 1,
        // The same message now stands after one that its sender sent later.
        out_of_order: 1,
        ..CLEAN
    };
    check(&stream, expected);
}

#[test]
fn ids_that_do_not_ascend() {
    let mut stream = honest();
    stream.deliver_as(0, 4, 0, 4);
    stream.deliver_as(1, 4, 0, 4);
    let expected = Verdict {
        stored: 4,
        delivered: 8,
        expected: 8,
        out_of_order: 1,
        ..CLEAN
    };
    check(&stream, expected);
}

#[test]
fn one_senders_messages_swapped() {
    let mut stream = honest();
    for subscriber in [0, 1] {
        stream.deliver_as(subscriber, 4, 4, 5);
        stream.deliver_as(subscriber, 5, 5, 4);
    }
    let expected = Verdict {
        stored: 5,
        delivered: 10,
        expected: 10,
        out_of_order: 1,
        ..CLEAN
    };
    check(&stream, expected);
    let of_nobody = stream.oracle.verdict(|_| None);
    assert_eq!(
        of_nobody.out_of_order, 0,
        "no order is promised for messages sent again"
    );
}

#[test]
fn foreign_text_unasked_events_and_a_head_that_went_back() {
    let mut stream = honest();
    stream.oracle.wrong_content();
    stream.oracle.unasked();
    stream.oracle.forgotten(2);
    check(
        &stream,
        Verdict {
            wrong_content: 1,
            unasked: 1,
            forgotten: 2,
            ..CLEAN
        },
    );
}

#[test]
fn what_was_skipped_by_a_resync_is_not_lost() {
    let mut stream = honest();
    for seq in 4..=9 {
        stream.ack(seq);
        stream.deliver(0, seq);
    }
    stream.oracle.resynced(stream.watches[1], Seq(8));
    stream.deliver(1, 9);
    let expected = Verdict {
        acked: 9,
        stored: 9,
        delivered: 13,
        expected: 13,
        ..CLEAN
    };
    check(&stream, expected);
}

#[test]
fn a_late_subscriber_is_due_nothing_older() {
    let mut stream = honest();
    stream.oracle.watch(ROOM, Seq(3));
    check(&stream, CLEAN);
}

/// The same events on one thread and on two give the same verdict, good or bad.
#[test]
fn merging_threads_changes_nothing() {
    let mut together = honest();
    together.deliver(0, 4);
    together.deliver_as(1, 4, 77, 5);
    together.ack(6);

    let mut first = Stream::with_subscribers(1);
    let mut second = Stream::with_subscribers(1);
    for seq in 1..=4 {
        first.deliver(0, seq);
    }
    for seq in 1..=3 {
        second.deliver(0, seq);
        second.ack(seq);
    }
    second.deliver_as(0, 4, 77, 5);
    second.ack(6);
    first.oracle.merge(second.oracle);
    assert_eq!(first.verdict(), together.verdict());
    assert_eq!(first.verdict().disagreements, 1);
    assert_eq!(first.verdict().gaps, 1);
}
