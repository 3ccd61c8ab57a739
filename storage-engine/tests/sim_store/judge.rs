//! Compares the store with what it must hold.
//!
//! It reads pages as a client would, and looks at heads.
//!
//! Invariants: a difference is a panic that names the channel; an error of a read is handed back,
//! never taken for an answer.

use std::collections::BTreeMap;

use throng_storage_engine::{ChannelKey, DiskOp, Query, Record, StoreError};

use crate::model::{Message, Model};
use crate::node::{Asked, Node};

/// The commit that each shard was about to make when it was cut off.
pub(crate) type InFlight = BTreeMap<usize, Vec<Record>>;

/// The commits that each shard acknowledged since an idle frame stood behind all of them.
pub(crate) type LastCommits = BTreeMap<usize, Vec<Vec<Record>>>;

/// Checks one page against the model.
pub(crate) fn compare(asked: &Asked, model: &Model, found: &[throng_storage_engine::Stored]) {
    let found: Vec<Message> = found.iter().map(Message::from).collect();
    let expected = model.page(asked);
    let differing = (0..found.len().max(expected.len()))
        .find(|place| found.get(*place) != expected.get(*place));
    if let Some(place) = differing {
        panic!(
            "{asked:?}: {} messages instead of {}; the one at place {place} is\n{:?}\nand not\n{:?}",
            found.len(),
            expected.len(),
            found.get(place),
            expected.get(place)
        );
    }
}

/// Whether an error says what is wrong and where, as it must if something is damaged.
pub(crate) fn is_named(error: &StoreError) -> bool {
    match error {
        StoreError::Disk(error) => matches!(error.op, DiskOp::Read | DiskOp::Map | DiskOp::Open),
        StoreError::Locked { .. } | StoreError::Poisoned | StoreError::SegmentsExhausted => false,
        _ => true,
    }
}

/// Reads every channel whole, and returns the errors; there may be some if the disk did harm.
pub(crate) async fn compare_all(node: &Node, model: &Model) -> Vec<StoreError> {
    let mut errors = Vec::new();
    for channel in model.channels.keys() {
        let head = node.head(*channel);
        assert_eq!(
            (head.seq, head.rev),
            (model.seq(*channel), model.rev(*channel)),
            "head of channel {channel}"
        );
        if let Err(error) = compare_channel(node, model, *channel).await {
            errors.push(error);
        }
    }
    errors
}

async fn compare_channel(
    node: &Node,
    model: &Model,
    channel: ChannelKey,
) -> Result<(), StoreError> {
    let limit = 40;
    let mut after = 0;
    loop {
        let asked = Asked {
            channel,
            query: Query::AfterSeq(after),
            limit,
            with_deleted: true,
        };
        let found = node.page(&asked).await?;
        compare(&asked, model, &found);
        match found.last() {
            Some(last) if found.len() == limit => after = last.create.seq,
            _ => return Ok(()),
        }
    }
}

/// After a start: takes the commits that were under way into the model if they are there, wholly;
/// and out of it, of each shard's last commits, at most so many that cannot be told from torn
/// writes since the disk destroyed them.
pub(crate) fn settle(
    node: &Node,
    model: &mut Model,
    in_flight: &InFlight,
    last: &LastCommits,
    destroyed_max: usize,
) {
    for commits in last.values() {
        for (number, records) in commits.iter().rev().enumerate() {
            if !is_missing(node, model, records) {
                break;
            }
            assert!(
                number < destroyed_max,
                "an acknowledged commit is gone: {}",
                Named(records)
            );
            take_back(model, records);
        }
    }
    for records in in_flight.values() {
        let there = records
            .iter()
            .filter(|record| node.head(record.channel).rev >= record.rev);
        match there.count() {
            0 => {}
            count if count == records.len() => records.iter().for_each(|r| model.apply(r)),
            count => panic!("{count} records of a commit are there: {}", Named(records)),
        }
    }
    for channel in node.channels() {
        let (head, rev) = (node.head(channel), model.rev(channel));
        assert_eq!(
            head.rev, rev,
            "channel {channel} does not end where it must"
        );
    }
}

fn is_missing(node: &Node, model: &Model, records: &[Record]) -> bool {
    let ends_before = |record: &&Record| {
        node.head(record.channel).rev < record.rev && model.rev(record.channel) >= record.rev
    };
    let missing = records.iter().filter(ends_before).count();
    assert!(
        missing == 0 || missing == records.len(),
        "part of an acknowledged commit is gone: {}",
        Named(records)
    );
    missing > 0
}

fn take_back(model: &mut Model, records: &[Record]) {
    for record in records.iter().rev() {
        model.take_back(record.channel, record.rev - 1);
    }
}

/// Which records.
pub(crate) struct Named<'a>(pub(crate) &'a [Record]);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for record in self.0 {
            let (channel, rev) = (record.channel.0[0], record.rev);
            write!(f, "channel {channel} rev {rev} ({:?}) ", record.kind)?;
        }
        Ok(())
    }
}
