//! A disk that is full, fails, or is used twice; the modes of durability.

use throng_storage_engine::{
    CommitError, DiskOp, Durability, SimDisk, SimFault, SimLatency, StoreConfig, StoreError, Upkept,
};

use crate::world::{START_MS, World, channel, open, root, segment_files, send, tiny};

fn disk() -> SimDisk {
    SimDisk::new(3, SimLatency::default())
}

/// Sends until the present segment is full and no next one can be had.
fn fill(world: &mut World<SimDisk>, disk: &SimDisk) -> usize {
    for sent in 0..100 {
        match disk.run(world.send(&[1], 3000)) {
            Ok(_) => {}
            Err(CommitError::Full(error)) => {
                assert!(error.is_full());
                return sent;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the disk never filled")
}

#[test]
fn a_full_disk_refuses_softly_and_service_returns_with_the_space() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    disk.set_quota_bytes(Some(disk.used_bytes() + 10_000));
    let sent = fill(&mut world, &disk);
    assert!(sent > 3, "the segment at hand is used up first");
    let files = disk.files();
    fill(&mut world, &disk);
    assert_eq!(disk.files(), files, "nothing is left of a failed try");
    assert_eq!(
        disk.run(world.logs[0].upkeep().run()).unwrap(),
        Upkept::Full
    );
    assert_eq!(
        disk.run(world.read_all()).unwrap(),
        world.acked,
        "reads go on"
    );
    disk.set_quota_bytes(None);
    send(&mut world, &[1], 3000);
    let (acked, _) = world.kill();
    disk.crash();
    assert_eq!(open(&disk, 1).unwrap().acked, acked);
}

#[test]
fn a_full_disk_at_the_start_is_no_reason_not_to_start() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    send(&mut world, &[1], 100);
    disk.run(world.close()).unwrap();
    disk.set_quota_bytes(Some(disk.used_bytes() + 16_384));
    let mut world = open(&disk, 1).unwrap();
    assert!(matches!(
        disk.run(world.send(&[1], 100)),
        Err(CommitError::Full(_))
    ));
    assert_eq!(disk.run(world.read_all()).unwrap().len(), 1);
}

#[test]
fn a_soft_failure_in_any_step_before_the_segment_is_begun_stays_soft() {
    for op in [
        DiskOp::CreateDir,
        DiskOp::Create,
        DiskOp::Allocate,
        DiskOp::Rename,
    ] {
        let disk = disk();
        let mut world = open(&disk, 1).unwrap();
        if op != DiskOp::CreateDir && op != DiskOp::Rename {
            // Uses up the file that was made ready at the start.
            while segment_files(&disk).len() < 2 {
                disk.run(world.send(&[1], 3000)).unwrap();
            }
            while disk.run(world.send(&[1], 3000)).is_ok() && segment_files(&disk).len() == 2 {
                disk.set_quota_bytes(Some(disk.used_bytes()));
            }
            disk.set_quota_bytes(None);
        }
        disk.fail_next(op, SimFault::Full);
        assert!(
            matches!(disk.run(world.send(&[1], 3000)), Err(CommitError::Full(_))),
            "{op:?}"
        );
        send(&mut world, &[1], 3000);
        let (acked, _) = world.kill();
        disk.crash();
        assert_eq!(open(&disk, 1).unwrap().acked, acked, "{op:?}");
    }
}

#[test]
fn a_failed_write_or_sync_poisons_the_log() {
    for (op, fault) in [
        (DiskOp::Write, SimFault::Io),
        (DiskOp::Write, SimFault::Full),
        (DiskOp::Sync, SimFault::Io),
        (DiskOp::SyncDir, SimFault::Io),
        (DiskOp::Rename, SimFault::Io),
    ] {
        let disk = disk();
        let mut world = open(&disk, 1).unwrap();
        disk.fail_next(op, fault);
        let failed = disk.run(world.send(&[1], 100));
        assert!(
            matches!(failed, Err(CommitError::Poisoned(StoreError::Disk(_)))),
            "{op:?}"
        );
        let again = disk.run(world.send(&[1], 100));
        assert!(
            matches!(again, Err(CommitError::Poisoned(StoreError::Poisoned))),
            "{op:?}"
        );
        assert!(matches!(
            disk.run(world.logs[0].seal_tail()),
            Err(StoreError::Poisoned)
        ));
        assert!(
            disk.run(world.close()).is_err(),
            "a failed log does not end in order"
        );
    }
}

#[test]
fn an_abandoned_commit_poisons_the_log() {
    let disk = SimDisk::new(
        3,
        SimLatency {
            min_us: 10,
            max_us: 10,
        },
    );
    let mut world = open(&disk, 1).unwrap();
    {
        let mut commit = std::pin::pin!(world.send(&[1], 100));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(commit.as_mut().poll(&mut context).is_pending());
    }
    let next = disk.run(world.send(&[1], 100));
    assert!(matches!(
        next,
        Err(CommitError::Poisoned(StoreError::Poisoned))
    ));
}

#[test]
fn two_processes_never_share_a_directory() {
    let disk = disk();
    let world = open(&disk, 1).unwrap();
    assert!(matches!(open(&disk, 1), Err(StoreError::Locked { .. })));
    disk.run(world.close()).unwrap();
    open(&disk, 1).unwrap();
}

#[test]
fn restarts_eat_no_space() {
    let disk = disk();
    for _ in 0..20 {
        let mut world = open(&disk, 3).unwrap();
        send(&mut world, &[1], 100);
        disk.run(world.close()).unwrap();
    }
    // Three blocks a start: opening, commit, idle; and four for what indexes them: header,
    // channel, message, fences. Beside them the node's catalog and the last one of a shard.
    assert_eq!(disk.used_bytes(), 20 * (3 + 4) * 4096 + 2 * 2 * 4096);
    assert_eq!(open(&disk, 1).unwrap().acked[&channel(1)].len(), 20);
}

#[test]
fn upkeep_trims_full_segments_and_prepares_the_next() {
    let disk = disk();
    let mut world = open(&disk, 1).unwrap();
    while segment_files(&disk).len() < 2 {
        send(&mut world, &[1], 7000);
    }
    let first = segment_files(&disk).remove(0);
    assert_eq!(disk.contents(&first).unwrap().len(), 64 << 10);
    assert_eq!(
        disk.run(world.logs[0].upkeep().run()).unwrap(),
        Upkept::Ready
    );
    assert!(disk.contents(&first).unwrap().len() < 64 << 10);
    assert_eq!(disk.run(world.read_all()).unwrap(), world.acked);
    let changes = disk.changes();
    assert_eq!(
        disk.run(world.logs[0].upkeep().run()).unwrap(),
        Upkept::Ready
    );
    assert_eq!(disk.changes(), changes, "nothing left to do");
}

fn relaxed(durability: Durability) -> StoreConfig {
    StoreConfig {
        durability,
        ..tiny()
    }
}

/// Sends 20 commits 10 ms apart and returns how many syncs they took.
fn syncs(durability: Durability) -> u64 {
    let disk = disk();
    let config = relaxed(durability);
    let mut world = disk
        .run(World::open(&disk, root(), config, 1, START_MS))
        .unwrap();
    disk.run(world.send(&[1], 100)).unwrap();
    let before = disk.changes();
    for _ in 0..10 {
        world.now_ms += 10;
        disk.run(world.send(&[1], 100)).unwrap();
    }
    disk.changes() - before - 10
}

#[test]
fn the_modes_sync_as_often_as_they_say() {
    assert_eq!(syncs(Durability::Sync), 10);
    assert_eq!(syncs(Durability::Interval { sync_ms_max: 50 }), 2);
    assert_eq!(syncs(Durability::Off), 0);
}

#[test]
fn an_idle_log_in_interval_mode_is_synced_when_due() {
    let disk = disk();
    let config = relaxed(Durability::Interval { sync_ms_max: 50 });
    let mut world = disk
        .run(World::open(&disk, root(), config, 1, START_MS))
        .unwrap();
    disk.run(world.send(&[1], 100)).unwrap();
    let before = disk.changes();
    for (ms, synced) in [(10, 0), (60, 1), (200, 1)] {
        disk.run(world.logs[0].sync_if_due(START_MS + ms)).unwrap();
        assert_eq!(disk.changes() - before, synced, "after {ms} ms");
    }
}

#[test]
fn power_loss_without_syncs_leaves_a_prefix_and_a_store_that_opens() {
    for durability in [Durability::Interval { sync_ms_max: 40 }, Durability::Off] {
        for seed in 0..60 {
            let disk = SimDisk::new(seed, SimLatency::default());
            let config = relaxed(durability);
            let mut world = disk
                .run(World::open(&disk, root(), config, 1, START_MS))
                .unwrap();
            for _ in 0..30 {
                world.now_ms += 10;
                disk.run(world.send(&[1], 1500)).unwrap();
            }
            let (acked, _) = world.kill();
            disk.crash();
            let world = disk
                .run(World::open(&disk, root(), config, 1, START_MS))
                .unwrap();
            let found = world.acked.get(&channel(1)).cloned().unwrap_or_default();
            let acked = &acked[&channel(1)];
            assert!(acked.starts_with(&found), "seed {seed}: a prefix");
            if matches!(durability, Durability::Interval { .. }) {
                assert!(
                    found.len() + 4 >= acked.len(),
                    "seed {seed}: lost {}",
                    found.len()
                );
            }
        }
    }
}

#[test]
fn what_was_begun_behind_a_failed_write_fails_too() {
    let latency = SimLatency {
        min_us: 10,
        max_us: 10,
    };
    let disk = SimDisk::new(3, latency);
    let mut world = open(&disk, 1).unwrap();
    let records = world.next_records(&[1; 3], 100);
    let now_ms = world.now_ms;
    let log = &mut world.logs[0];
    let encoder = log.encoder();
    let prepare = |at: usize| encoder.prepare(&records[at..=at]);
    disk.run(log.begin(now_ms, prepare(0))).unwrap();
    disk.run(log.begin(now_ms, prepare(1))).unwrap();
    disk.run(log.finish()).unwrap();
    disk.fail_next(DiskOp::Sync, SimFault::Io);
    let third = disk.run(log.begin(now_ms, prepare(2)));
    assert!(matches!(
        third,
        Err(CommitError::Poisoned(StoreError::Disk(_)))
    ));
    let second = disk.run(log.finish());
    assert!(matches!(
        second,
        Err(CommitError::Poisoned(StoreError::Poisoned))
    ));
    assert_eq!(log.index().borrow().head(channel(1)).seq, 1);
}

#[test]
fn a_finish_that_is_dropped_may_be_asked_for_again() {
    let disk = SimDisk::new(
        3,
        SimLatency {
            min_us: 10,
            max_us: 10,
        },
    );
    let mut world = open(&disk, 1).unwrap();
    let records = world.next_records(&[1; 2], 100);
    let now_ms = world.now_ms;
    let log = &mut world.logs[0];
    let encoder = log.encoder();
    disk.run(log.begin(now_ms, encoder.prepare(&records[..1])))
        .unwrap();
    {
        let mut finish = std::pin::pin!(log.finish());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(finish.as_mut().poll(&mut context).is_pending());
    }
    disk.run(log.begin(now_ms, encoder.prepare(&records[1..])))
        .unwrap();
    let first = disk.run(log.finish()).unwrap();
    let second = disk.run(log.finish()).unwrap();
    assert!(first[0].offset < second[0].offset);
}

#[test]
fn a_log_whose_begin_was_dropped_says_that_it_is_of_no_use() {
    let latency = SimLatency {
        min_us: 10,
        max_us: 20,
    };
    let disk = SimDisk::new(3, latency);
    let mut world = open(&disk, 1).unwrap();
    let records = world.next_records(&[1], 100);
    let now_ms = world.now_ms;
    let log = &mut world.logs[0];
    let prepared = log.encoder().prepare(&records);
    {
        // The first commit needs a segment, for which it waits.
        let mut begin = std::pin::pin!(log.begin(now_ms, prepared));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(begin.as_mut().poll(&mut context).is_pending());
    }
    for _ in 0..2 {
        let finished = disk.run(log.finish());
        assert!(matches!(
            finished,
            Err(CommitError::Poisoned(StoreError::Poisoned))
        ));
    }
}
