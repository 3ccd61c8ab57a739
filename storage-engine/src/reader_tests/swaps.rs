//! Sealed files that take the place of others while pages are being read.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use super::reads::query;
use super::world::{DAY_MS, World, config, without_nonces};
use crate::view::Installed;
use crate::*;

fn two_days() -> (World, u32) {
    let mut world = World::new(5, config());
    let first = world.today();
    for day in 0..2 {
        for seq in 1..=40 {
            world.send(1, 100);
            world.now_ms += 5;
            if day == 1 && seq % 5 == 0 {
                world.change(RecordKind::Edit, 1, seq);
            }
        }
        world.now_ms += DAY_MS;
    }
    (world, first)
}

/// A page that is under way when the files that it reads are replaced, and what waits for it.
fn check(mut world: World, before: impl Fn(&mut World), days: std::ops::RangeInclusive<u32>) {
    before(&mut world);
    let installed = world.write_sealed(days.clone());
    let all = world.messages(1);
    let asked = query(1, Query::Newest);
    let mut context = Context::from_waker(Waker::noop());
    {
        let mut page = pin!(world.reader.page(&asked));
        assert!(page.as_mut().poll(&mut context).is_pending());
        let mut drained = pin!(world.reader.swap(&installed));
        assert!(drained.as_mut().poll(&mut context).is_pending());
        let page: Vec<Stored> = world.disk.run(page).unwrap();
        let page: Vec<Stored> = page.into_iter().map(without_nonces).collect();
        assert_eq!(page, all[30..]);
        world.disk.run(drained).unwrap();
    }
    world.unlink(&installed, days);
    assert_eq!(world.page(&asked), all[30..]);
    let segments = world.log.segments();
    for segment in &installed.obsolete {
        assert_eq!(segments.borrow().get(*segment), None);
    }
}

#[test]
fn a_page_outlives_the_sealing_of_its_day() {
    let (world, first) = two_days();
    check(world, |_| {}, first..=first);
    let (world, first) = two_days();
    check(world, World::fill, first..=first + 1);
}

#[test]
fn a_page_outlives_the_merging_of_its_days() {
    let (world, first) = two_days();
    let seal = |world: &mut World| {
        world.seal(first..=first);
        world.seal(first + 1..=first + 1);
    };
    check(world, seal, first..=first + 1);
}

/// Whoever removes files too early is forgiven, as long as the new view is there.
#[test]
fn a_page_whose_files_vanish_is_read_from_the_new_view() {
    let (mut world, first) = two_days();
    let installed = world.write_sealed(first..=first + 1);
    let all = world.messages(1);
    let asked = query(1, Query::Newest);
    let mut context = Context::from_waker(Waker::noop());
    world.fill();
    let mut files = world.disk.files();
    files.retain(|path| path.starts_with("/data/segments"));
    {
        let mut page = pin!(world.reader.page(&asked));
        assert!(page.as_mut().poll(&mut context).is_pending());
        let drained = world.reader.swap(&installed);
        for path in files {
            world.disk.run(world.disk.remove(&path)).unwrap();
        }
        assert_eq!(world.disk.run(page).unwrap().len(), 50);
        world.disk.run(drained).unwrap();
    }
    assert_eq!(world.page(&asked), all[30..]);
}

#[test]
fn what_is_no_longer_retained_is_the_end_of_history() {
    let (mut world, first) = two_days();
    world.seal(first..=first);
    world.seal(first + 1..=first + 1);
    let all = world.messages(1);
    let installed = Installed {
        bucket: None,
        obsolete: Vec::new(),
        replaced: vec![1],
        retained_from: Day(first + 1),
    };
    world.disk.run(world.reader.swap(&installed)).unwrap();
    assert_eq!(world.page(&query(1, Query::Newest)), all[40..]);
    assert_eq!(world.page(&query(1, Query::AfterSeq(3))), all[40..]);
    let gone = all[20].create.message;
    assert_eq!(world.page(&query(1, Query::Before(gone))), []);
    assert_eq!(world.page(&query(1, Query::Around(gone))), all[40..65]);
}
