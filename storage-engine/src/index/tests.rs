//! The table of channels and its segments, by themselves.
//!
//! No file is written.
//!
//! Invariants: sizes of structures are those that the documentation states.

use proptest::prelude::*;

use super::*;
use crate::hot::{CHANGE_BYTES, ENTRY_BYTES, RUN_BYTES};
use crate::segment::Day;

const CHANNEL: ChannelKey = ChannelKey([7; 16]);

fn origin(segment: u32) -> SegmentOrigin {
    SegmentOrigin {
        segment: SegmentId(segment),
        day: Day(20_000),
        shard: 0,
        salt: 0,
        created_ms: 0,
    }
}

fn record(channel: ChannelKey, kind: RecordKind, seq: u64, rev: u64) -> RecordMeta {
    RecordMeta {
        kind,
        channel,
        message: MessageKey((u128::from(rev) << 80).to_be_bytes()),
        seq,
        rev,
    }
}

fn at(segment: u32) -> Location {
    Location {
        segment: SegmentId(segment),
        offset: 0,
        bytes: 1,
    }
}

fn with_one_message() -> Index {
    let mut index = Index::new(1);
    index.begin_segment(origin(1));
    index.insert(&record(CHANNEL, RecordKind::Create, 1, 1), at(1));
    index
}

#[test]
fn memory_is_what_the_documentation_says() {
    assert_eq!((ENTRY_BYTES, CHANGE_BYTES, RUN_BYTES), (12, 24, 128));
    assert_eq!(CHANNEL_BYTES, 72);
}

#[test]
fn a_busy_segment_costs_its_messages_and_is_given_back() {
    let mut index = with_one_message();
    let before = index.memory_bytes();
    for seq in 2..=100_000 {
        index.insert(&record(CHANNEL, RecordKind::Create, seq, seq), at(1));
    }
    let after = index.memory_bytes();
    assert!((1_199_988..=2 * 1_199_988).contains(&(after - before)));
    index.end_segment(8192);
    index.drop_hot(SegmentId(1));
    assert!(index.memory_bytes() < 1000);
}

#[test]
fn an_unknown_channel_is_empty() {
    let index = Index::new(1);
    assert_eq!(index.head(CHANNEL), Head::default());
    assert_eq!(index.newest(CHANNEL), (Place::NONE, Place::NONE));
}

#[test]
#[should_panic(expected = "dense")]
fn a_gap_is_our_own_mistake() {
    with_one_message().insert(&record(CHANNEL, RecordKind::Create, 3, 2), at(1));
}

#[test]
#[should_panic(expected = "a segment's own")]
fn a_record_of_another_segment_is_our_own_mistake() {
    with_one_message().insert(&record(CHANNEL, RecordKind::Create, 2, 2), at(2));
}

#[test]
fn what_does_not_follow_is_told_apart() {
    let head = with_one_message().head(CHANNEL);
    let check = |kind, seq, rev| head.check(&record(CHANNEL, kind, seq, rev));
    assert_eq!(check(RecordKind::Create, 2, 2), Ok(()));
    assert_eq!(check(RecordKind::Edit, 1, 2), Ok(()));
    assert_eq!(check(RecordKind::Edit, 2, 2), Err(Break::Key));
    assert_eq!(check(RecordKind::Delete, 0, 2), Err(Break::Key));
    let (expected, found) = (2, 3);
    assert_eq!(
        check(RecordKind::Edit, 1, 3),
        Err(Break::Number { expected, found })
    );
    let mut again = record(CHANNEL, RecordKind::Create, 2, 2);
    again.message = head.last_message;
    assert_eq!(head.check(&again), Err(Break::Key));
}

#[test]
fn segments_stay_until_they_are_dropped_and_are_handed_out_once() {
    let mut index = with_one_message();
    index.end_segment(8192);
    index.begin_segment(origin(2));
    index.insert(&record(CHANNEL, RecordKind::Edit, 1, 2), at(2));
    let run = |index: &Index, segment| index.hot(SegmentId(segment))?.run(CHANNEL);
    let (first, second) = (run(&index, 1).unwrap(), run(&index, 2).unwrap());
    assert_eq!(
        (first.count, first.changes, first.prev),
        (1, 0, Place::NONE)
    );
    assert_eq!((second.count, second.changes, second.first_seq), (0, 1, 0));
    assert_eq!(second.prev, origin(1).place());
    let newest = (origin(1).place(), origin(2).place());
    assert_eq!(index.newest(CHANNEL), newest);
    assert_eq!(index.filled().len(), 1);
    assert_eq!(index.filled().len(), 0);
    assert!(run(&index, 1).is_some());
    index.drop_hot(SegmentId(1));
    assert!(run(&index, 1).is_none() && run(&index, 2).is_some());
}

proptest! {
    #[test]
    fn every_channel_lands_with_its_owner(channels in 1_u8..40, shards in 1_usize..6) {
        let mut index = Index::new(1);
        index.begin_segment(origin(1));
        for channel in 0..channels {
            let key = ChannelKey([channel; 16]);
            index.insert(&record(key, RecordKind::Create, 1, 1), at(1));
        }
        index.end_segment(8192);
        index.drop_hot(SegmentId(1));
        let owner = |channel: ChannelKey| usize::from(channel.0[0]) % shards;
        let parts = index.split(shards, owner);
        prop_assert_eq!(parts.len(), shards);
        let placed: usize = parts.iter().map(Index::channels).sum();
        prop_assert_eq!(placed, usize::from(channels));
        for (shard, part) in parts.iter().enumerate() {
            for (channel, head) in part.heads() {
                prop_assert_eq!(owner(channel), shard);
                prop_assert_eq!((head.seq, head.rev), (1, 1));
            }
        }
    }
}
