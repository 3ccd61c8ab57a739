//! Pages against a list: any sequence of commits, index files, sealed days and merged ones, then
//! every kind of page, compared with what filtering a list gives.
//!
//! Invariants: everything follows from the seed; each run goes through every kind of place.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::world::{DAY_MS, START_MS, World, channel, config, without_nonces};
use crate::*;

/// What a page must be: messages, of which the first so many lie before the boundary.
fn expected(all: &[Stored], query: &PageQuery) -> (Vec<Stored>, usize) {
    let shown = all.iter().filter(|message| {
        let is_shown = query.with_deleted || !message.is_deleted();
        is_shown && message.create.seq <= query.upto_seq
    });
    let is_before = |message: &Stored| match query.query {
        Query::Newest => true,
        Query::Before(key) | Query::Around(key) => message.create.message < key,
        Query::After(key) => message.create.message <= key,
        Query::AfterSeq(seq) => message.create.seq <= seq,
    };
    let (before, after): (Vec<&Stored>, Vec<&Stored>) = shown.partition(|one| is_before(one));
    let (most_before, most_after) = match query.query {
        Query::Newest | Query::Before(_) => (query.limit, 0),
        Query::After(_) | Query::AfterSeq(_) => (0, query.limit),
        Query::Around(_) => (query.limit / 2, query.limit - query.limit / 2),
    };
    let before = &before[before.len().saturating_sub(most_before)..];
    let after = &after[..after.len().min(most_after)];
    let page = before.iter().chain(after).map(|one| (*one).clone());
    (page.collect(), before.len())
}

fn check_page(world: &World, all: &[Stored], query: &PageQuery) {
    let page = world.page(query);
    let (whole, before) = expected(all, query);
    let bytes: usize = page.iter().map(page::bytes_of).sum();
    assert!(bytes <= query.bytes_max || page.len() <= 1, "{query:?}");
    if query.bytes_max > 1 << 20 {
        assert_eq!(page, whole, "{query:?}");
        return;
    }
    let Some(first) = page.first() else {
        assert!(whole.is_empty(), "{query:?}");
        return;
    };
    let start = whole.iter().position(|one| one == first);
    let start = start.unwrap_or_else(|| panic!("{first:?} in {query:?}"));
    assert_eq!(page, whole[start..start + page.len()], "{query:?}");
    assert!(
        start <= before && start + page.len() >= before,
        "nearest: {query:?}"
    );
}

fn random_query(rng: &mut StdRng, number: u8, all: &[Stored]) -> PageQuery {
    let any = &all[rng.random_range(0..all.len())].create;
    let near = |key: MessageKey, by: i128| {
        let key = u128::from_be_bytes(key.0);
        MessageKey(key.wrapping_add_signed(by).to_be_bytes())
    };
    let key = match rng.random_range(0..4) {
        0 => near(any.message, 1),
        1 => near(any.message, -1),
        2 => near(
            any.message,
            i128::from(rng.random_range(-DAY_MS.cast_signed()..DAY_MS.cast_signed())) << 80,
        ),
        _ => any.message,
    };
    let head = all.len() as u64;
    PageQuery {
        channel: channel(number),
        query: match rng.random_range(0..5) {
            0 => Query::Newest,
            1 => Query::Before(key),
            2 => Query::After(key),
            3 => Query::Around(key),
            _ => Query::AfterSeq(rng.random_range(0..head + 3)),
        },
        limit: *[1, 2, 7, 50, 400].get(rng.random_range(0..5)).unwrap(),
        upto_seq: match rng.random_range(0..3) {
            0 => rng.random_range(0..head + 1),
            _ => u64::MAX,
        },
        with_deleted: rng.random_range(0..4) == 0,
        bytes_max: match rng.random_range(0..4) {
            0 => rng.random_range(0..8000),
            _ => usize::MAX,
        },
    }
}

fn check_all(world: &World, rng: &mut StdRng, pages: usize) {
    for number in 1..5 {
        let all = world.messages(number);
        if all.is_empty() {
            continue;
        }
        for _ in 0..pages {
            let query = random_query(rng, number, &all);
            check_page(world, &all, &query);
            assert!(
                world.reader.cached_bytes() <= world.config.cache_bytes + world.config.recent_bytes
            );
        }
        let some = &all[rng.random_range(0..all.len())];
        let found = world
            .disk
            .run(world.reader.find(channel(number), some.create.message));
        assert_eq!(found.unwrap().map(without_nonces).as_ref(), Some(some));
        let mut key = some.create.message;
        key.0[15] ^= 0x80;
        let found = world.disk.run(world.reader.find(channel(number), key));
        assert_eq!(found.unwrap(), None);
    }
}

/// One thing happens.
fn step(world: &mut World, rng: &mut StdRng) {
    let number = rng.random_range(1..5_u8).min(rng.random_range(1..5));
    let head = world.log.index().borrow().head(channel(number)).seq;
    match rng.random_range(0..100) {
        0..50 => {
            for _ in 0..rng.random_range(1..30) {
                let bytes = *[0, 10, 100, 100, 700].get(rng.random_range(0..5)).unwrap();
                world.send(number, bytes);
                if rng.random_range(0..3) == 0 {
                    world.now_ms += rng.random_range(0..2000);
                }
            }
        }
        50..85 if head > 0 => {
            for _ in 0..rng.random_range(1..10) {
                let kind = *[
                    RecordKind::Edit,
                    RecordKind::Delete,
                    RecordKind::ReactionAdd,
                    RecordKind::ReactionAdd,
                    RecordKind::ReactionRemove,
                ]
                .get(rng.random_range(0..5))
                .unwrap();
                let newest = head.saturating_sub(20).max(1);
                let seq = if rng.random() {
                    rng.random_range(newest..=head)
                } else {
                    rng.random_range(1..=head)
                };
                world.change(kind, number, seq);
            }
        }
        85..90 => world.fill(),
        90..96 => world.now_ms += DAY_MS / 2 * rng.random_range(1..5),
        _ => {
            let first = Day::of_ms(START_MS).0;
            let sealed = world.sealed.iter().map(|(_, days)| *days.end());
            let from = sealed.max().map_or(first, |day| day + 1);
            let merge = rng.random_range(0..4) == 0 && !world.sealed.is_empty();
            let from = if merge { first } else { from };
            if from < world.today() {
                let last = rng.random_range(from..world.today());
                let sealed = world.sealed.iter().map(|(_, days)| *days.end());
                let last = if merge {
                    sealed.max().unwrap_or(last)
                } else {
                    last
                };
                world.seal(from..=last);
            }
        }
    }
}

/// Returns what the pages cost.
fn check_seed(seed: u64, config: StoreConfig) -> ReadStats {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut world = World::new(seed, config);
    for turn in 0..60 {
        step(&mut world, &mut rng);
        if turn % 10 == 9 {
            check_all(&world, &mut rng, 5);
        }
    }
    check_all(&world, &mut rng, 40);
    world.reader.stats()
}

#[test]
fn any_page_is_that_of_a_list() {
    let (mut hops, mut blocks) = (0, 0);
    for seed in 0..20 {
        let stats = check_seed(seed, config());
        assert_eq!(stats.pages_recent, 0);
        hops += stats.hops;
        blocks += stats.blocks_cached.min(stats.blocks_read);
    }
    assert!(
        hops > 10_000 && blocks > 1000,
        "chains are long: {hops}, {blocks}"
    );
}

#[test]
fn recent_messages_and_a_small_cache_change_no_page() {
    for seed in 100..112 {
        let config = StoreConfig {
            cache_bytes: 40_000,
            recent_bytes: 30_000,
            recent_messages_max: 16,
            ..config()
        };
        let stats = check_seed(seed, config);
        assert!(stats.pages_recent > 10 && stats.blocks_read > stats.blocks_cached / 50);
    }
}

#[test]
fn without_any_memory_pages_are_the_same() {
    for seed in 200..206 {
        let config = StoreConfig {
            cache_bytes: 0,
            page_step_max: 3,
            ..config()
        };
        assert_eq!(check_seed(seed, config).blocks_cached, 0);
    }
}
