//! What pages cost: reads of the device, blocks, and how many pages share them.

use super::world::{DAY_MS, World, channel, config};
use crate::fetch::all;
use crate::sealed::SEALED_BLOCK_BYTES;
use crate::*;

pub(super) fn query(number: u8, query: Query) -> PageQuery {
    PageQuery {
        channel: channel(number),
        query,
        limit: 50,
        upto_seq: u64::MAX,
        with_deleted: false,
        bytes_max: usize::MAX,
    }
}

/// What a page of so many messages costs.
fn cost(world: &World, query: &PageQuery, messages: usize) -> ReadStats {
    let before = world.reader.stats();
    let page = world.page(query);
    assert_eq!(page.len(), messages, "{query:?}");
    let after = world.reader.stats();
    ReadStats {
        pages: after.pages - before.pages,
        pages_recent: after.pages_recent - before.pages_recent,
        hops: after.hops - before.hops,
        device_reads: after.device_reads - before.device_reads,
        device_bytes: after.device_bytes - before.device_bytes,
        blocks_read: after.blocks_read - before.blocks_read,
        blocks_cached: after.blocks_cached - before.blocks_cached,
        blocks_coalesced: after.blocks_coalesced - before.blocks_coalesced,
    }
}

/// One channel that had 1,000 messages on a sealed day, between two others.
fn one_sealed_day(config: StoreConfig) -> World {
    let mut world = World::new(1, config);
    for turn in 0..1000 {
        world.now_ms += 10;
        world.send(2, 150);
        if turn % 3 == 0 {
            world.send(1, 100);
            world.send(3, 100);
        }
    }
    let day = world.today();
    world.now_ms += DAY_MS;
    world.seal(day..=day);
    world
}

#[test]
fn a_page_of_a_sealed_day_is_one_read_of_few_blocks() {
    let config = StoreConfig {
        cache_bytes: 0,
        ..config()
    };
    let world = one_sealed_day(config);
    let all = world.messages(2);
    let mut queries = vec![Query::Newest];
    for at in (60..940).step_by(7) {
        let key = all[at].create.message;
        queries.extend([Query::Before(key), Query::After(key), Query::Around(key)]);
        queries.push(Query::AfterSeq(at as u64));
    }
    for one in queries {
        let query = query(2, one);
        let page = world.page(&query);
        let bytes: usize = page.iter().map(page::bytes_of).sum();
        let cost = cost(&world, &query, 50);
        let blocks = (bytes as u64).div_ceil(SEALED_BLOCK_BYTES.into()) + 1;
        assert!(cost.blocks_read <= blocks, "{one:?}: {cost:?}");
        let reads = if matches!(one, Query::Around(_)) {
            2
        } else {
            1
        };
        assert!(cost.device_reads <= reads, "{one:?}: {cost:?}");
    }
}

#[test]
fn a_warm_page_reads_nothing() {
    let world = one_sealed_day(config());
    cost(&world, &query(2, Query::Newest), 50);
    let again = cost(&world, &query(2, Query::Newest), 50);
    assert_eq!((again.device_reads, again.blocks_read), (0, 0));
    assert!(again.blocks_cached > 0);
}

#[test]
fn ten_pages_at_once_read_a_block_once() {
    let world = one_sealed_day(config());
    let asked = query(2, Query::Newest);
    let pages = (0..10).map(|_| Box::pin(world.reader.page(&asked)));
    let pages = world.disk.run(all(pages.collect(), 10));
    let whole = world.page(&asked);
    for page in pages {
        assert_eq!(page.unwrap().len(), whole.len());
    }
    let stats = world.reader.stats();
    assert_eq!(stats.device_reads, 1);
    assert!(stats.blocks_coalesced >= 9);
}

#[test]
fn a_page_that_is_dropped_leaves_the_others_theirs() {
    let world = one_sealed_day(config());
    let asked = query(2, Query::Newest);
    let mut first = Box::pin(world.reader.page(&asked));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(first.as_mut().poll(&mut context).is_pending());
    let mut second = Box::pin(world.reader.page(&asked));
    assert!(second.as_mut().poll(&mut context).is_pending());
    drop(first);
    assert_eq!(world.disk.run(second).unwrap().len(), 50);
}

#[test]
fn a_failed_read_is_not_remembered() {
    let world = one_sealed_day(config());
    let asked = query(2, Query::Newest);
    world.disk.fail_next(DiskOp::Read, SimFault::Io);
    assert!(world.disk.run(world.reader.page(&asked)).is_err());
    assert_eq!(world.page(&asked).len(), 50);
}

#[test]
fn a_sparse_channel_takes_a_block_a_month_and_silence_nothing() {
    let mut world = World::new(2, config());
    let first = world.today();
    for _ in 0..36 {
        for _ in 0..3 {
            world.send(1, 100);
            world.send(2, 100);
            world.now_ms += 10 * DAY_MS;
        }
        let from = world
            .sealed
            .last()
            .map_or(first, |(_, days)| days.end() + 1);
        let last = world.today() - 1;
        world.seal(from..=last);
    }
    let sparse = cost(&world, &query(1, Query::Newest), 50);
    assert_eq!((sparse.blocks_read, sparse.device_reads), (17, 17));

    // Channel 2 goes on for ten years in which channel 1 says nothing.
    for _ in 0..120 {
        world.now_ms += 30 * DAY_MS;
        world.send(2, 100);
        let from = world.sealed.last().unwrap().1.end() + 1;
        let last = world.today() - 1;
        world.seal(from..=last);
    }
    let later = cost(&world, &query(1, Query::Newest), 50);
    assert_eq!((later.device_reads, later.hops), (0, sparse.hops));
    let key = world.messages(1)[80].create.message;
    let deep = cost(&world, &query(1, Query::Before(key)), 50);
    assert!(deep.blocks_read <= 17, "{deep:?}");
}

#[test]
fn recent_messages_of_a_busy_channel_take_no_read() {
    let config = StoreConfig {
        recent_bytes: 1 << 20,
        ..config()
    };
    let mut world = World::new(3, config);
    for _ in 0..200 {
        world.send(1, 100);
    }
    world.change(RecordKind::Edit, 1, 190);
    let first = cost(&world, &query(1, Query::Newest), 50);
    assert_eq!(first.pages_recent, 0, "nobody has read it so far");
    world.send(1, 100);
    world.change(RecordKind::Edit, 1, 191);
    let newest = cost(&world, &query(1, Query::Newest), 50);
    assert_eq!((newest.pages_recent, newest.device_reads), (1, 0));
    let behind = cost(&world, &query(1, Query::AfterSeq(170)), 31);
    assert_eq!((behind.pages_recent, behind.device_reads), (1, 0));
    let deep = cost(&world, &query(1, Query::AfterSeq(10)), 50);
    assert_eq!(deep.pages_recent, 0);
}

#[test]
fn a_deleted_message_keeps_no_channel_out_of_memory() {
    let config = StoreConfig {
        recent_bytes: 1 << 20,
        ..config()
    };
    let mut world = World::new(4, config);
    for _ in 0..100 {
        world.send(1, 100);
    }
    for seq in [70, 90, 100] {
        world.change(RecordKind::Delete, 1, seq);
    }
    let first = cost(&world, &query(1, Query::Newest), 50);
    assert_eq!(first.pages_recent, 0);
    let again = cost(&world, &query(1, Query::Newest), 50);
    assert_eq!((again.pages_recent, again.device_reads), (1, 0));
}

#[test]
fn a_filled_segment_is_found_through_cached_blocks() {
    let mut world = World::new(4, config());
    for _ in 0..300 {
        world.send(1, 100);
    }
    let day = world.today();
    world.disk.clone().run(world.log.end_day(Day(day))).unwrap();
    world.fill();
    let cold = cost(&world, &query(1, Query::Newest), 50);
    let warm = cost(&world, &query(1, Query::Newest), 50);
    assert!(cold.blocks_read > 0 && warm.blocks_read == 0);
    assert!(warm.device_reads < cold.device_reads, "only the records");
}
