//! The model test: one workload, with the power cut in every single write, sync and rename.

use std::task::{Context, Waker};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng_storage_engine::{Day, Record, RecordKind, SimDisk, SimLatency, Upkept};

use crate::world::{DAY_MS, Messages, START_MS, World, channel, root, tiny};

/// What a workload does next.
#[derive(Clone, Debug)]
enum Step {
    Send {
        channels: Vec<u8>,
        body_bytes: usize,
    },
    Change {
        channels: Vec<u8>,
        kind: RecordKind,
    },
    Wait {
        ms: u64,
    },
    SealTails,
    EndDay,
    Upkeep,
    Index,
    Restart {
        shards: u16,
    },
}

fn draw_step(rng: &mut StdRng, shards: u16) -> Step {
    match rng.random_range(0..100) {
        0..=54 => Step::Send {
            channels: draw_channels(rng, shards),
            body_bytes: rng.random_range(0..2500),
        },
        55..=66 => Step::Change {
            channels: draw_channels(rng, shards),
            kind: [
                RecordKind::Edit,
                RecordKind::Delete,
                RecordKind::ReactionAdd,
            ][rng.random_range(0..3)],
        },
        67..=69 => Step::EndDay,
        70..=77 => Step::Wait {
            ms: rng.random_range(1..DAY_MS),
        },
        78..=85 => Step::SealTails,
        86..=90 => Step::Upkeep,
        91..=94 => Step::Index,
        _ => Step::Restart {
            shards: rng.random_range(1..4),
        },
    }
}

/// Some channels of one owner.
fn draw_channels(rng: &mut StdRng, shards: u16) -> Vec<u8> {
    let owner = rng.random_range(0..shards);
    let channels = (0..rng.random_range(1..6))
        .map(|_| u8::try_from(owner + shards * rng.random_range(0..4)).unwrap());
    channels.collect()
}

/// What the outside knows after a workload: what was acknowledged, and what was asked last.
#[derive(Default)]
struct Known {
    acked: Messages,
    in_flight: Vec<Record>,
}

/// Runs the workload of a seed until its end or the first failure.
async fn workload(disk: &SimDisk, seed: u64, steps: usize) -> Known {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shards = rng.random_range(1..4);
    let mut now_ms = START_MS;
    let mut known = Known::default();
    let Ok(mut world) = World::open(disk, root(), tiny(), shards, now_ms).await else {
        return known;
    };
    for _ in 0..steps {
        let step = draw_step(&mut rng, shards);
        world.now_ms += 1;
        let done = match step {
            Step::Send {
                channels,
                body_bytes,
            } => world.send(&channels, body_bytes).await.is_ok(),
            Step::Change { channels, kind } => world.change(&channels, kind).await.is_ok(),
            Step::Wait { ms } => {
                world.now_ms += ms;
                true
            }
            Step::EndDay => {
                let day = Day::of_ms(world.now_ms);
                let mut done = true;
                for log in &mut world.logs {
                    done &= log.end_day(day).await.is_ok();
                }
                done
            }
            Step::Index => world.index_filled().await.is_ok(),
            Step::SealTails => {
                let mut done = true;
                for log in &mut world.logs {
                    done &= log.seal_tail().await.is_ok();
                }
                done
            }
            Step::Upkeep => {
                let mut done = true;
                for log in &world.logs {
                    done &= matches!(log.upkeep().run().await, Ok(Upkept::Ready));
                }
                done
            }
            Step::Restart { shards: next } => {
                now_ms = world.now_ms;
                shards = next;
                known.acked.clone_from(&world.acked);
                if world.close().await.is_err() {
                    return known;
                }
                match World::open(disk, root(), tiny(), shards, now_ms).await {
                    Ok(opened) => world = opened,
                    Err(_) => return known,
                }
                assert_eq!(world.acked, known.acked, "a clean restart keeps everything");
                assert_eq!(world.report.torn, [], "a clean end leaves nothing torn");
                true
            }
        };
        if !done {
            break;
        }
    }
    (known.acked, known.in_flight) = world.kill();
    known
}

/// What was acknowledged is there; the commit that was under way is there wholly or not at all;
/// there is nothing else.
fn assert_survived(found: &Messages, known: &Known, context: &str) {
    let mut with_last = known.acked.clone();
    for record in &known.in_flight {
        with_last
            .entry(record.channel)
            .or_default()
            .push(record.clone());
    }
    assert!(
        *found == known.acked || *found == with_last,
        "{context}: not what was acknowledged"
    );
}

fn check_every_cut(seed: u64, steps: usize, latency: SimLatency) {
    let disk = SimDisk::new(seed, latency);
    let known = disk.run(workload(&disk, seed, steps));
    assert!(
        known.in_flight.is_empty(),
        "seed {seed}: nothing fails without a cut"
    );
    let changes = disk.changes();
    for cut in 1..=changes {
        let context = format!("seed {seed}, cut in change {cut} of {changes}");
        let disk = SimDisk::new(seed ^ (cut << 32), latency);
        disk.cut_power_at(cut);
        let known = disk.run(workload(&disk, seed, steps));
        assert!(!disk.has_power(), "{context}: the workload differs");
        disk.crash();
        let reopened = disk.run(World::open(&disk, root(), tiny(), 2, START_MS));
        let mut world = reopened.unwrap_or_else(|error| panic!("{context}: {error}"));
        assert_survived(&world.acked, &known, &context);
        disk.run(world.send(&[2, 4], 100)).unwrap();
        let (acked, _) = world.kill();
        disk.crash();
        let world = disk.run(World::open(&disk, root(), tiny(), 1, START_MS));
        let world = world.unwrap_or_else(|error| panic!("{context}, again: {error}"));
        assert_eq!(
            world.acked, acked,
            "{context}: what came after the first recovery"
        );
    }
}

#[test]
fn a_crash_in_any_change_loses_nothing_acknowledged() {
    for seed in 0..12 {
        check_every_cut(seed, 60, SimLatency::default());
    }
}

#[test]
fn latency_changes_nothing() {
    check_every_cut(
        99,
        30,
        SimLatency {
            min_us: 20,
            max_us: 3000,
        },
    );
}

#[test]
fn a_crash_while_recovering_is_recovered_from() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed, SimLatency::default());
        disk.cut_power_at(60 + seed);
        let known = disk.run(workload(&disk, seed, 60));
        disk.crash();
        for again in 1..=30 {
            let before = disk.changes();
            disk.cut_power_at(before + again);
            let opened = disk.run(World::open(&disk, root(), tiny(), 2, START_MS));
            let context = format!("seed {seed}, cut {again}");
            if let Ok(world) = opened {
                assert_survived(&world.acked, &known, &context);
                break;
            }
            assert!(!disk.has_power(), "{context}: fails by itself");
            disk.crash();
        }
    }
}

#[test]
fn one_seed_gives_one_disk() {
    let image = |seed| {
        let disk = SimDisk::new(
            seed,
            SimLatency {
                min_us: 1,
                max_us: 50,
            },
        );
        disk.run(workload(&disk, seed, 40));
        disk.crash();
        let files = disk.files();
        files
            .into_iter()
            .map(|path| (disk.contents(&path), path))
            .collect::<Vec<_>>()
    };
    assert!(image(5) == image(5));
    assert!(image(5) != image(6));
}

#[test]
fn what_recovery_showed_survives_the_next_power_loss() {
    let mut shown = 0;
    for seed in 0..40 {
        let disk = SimDisk::new(
            seed,
            SimLatency {
                min_us: 10,
                max_us: 10,
            },
        );
        let open = || {
            disk.run(World::open(&disk, root(), tiny(), 1, START_MS))
                .unwrap()
        };
        let mut world = open();
        disk.run(world.send(&[1], 100)).unwrap();
        {
            // The process dies with the second commit written, but not synced.
            let mut commit = std::pin::pin!(world.send(&[1], 5000));
            let mut context = Context::from_waker(Waker::noop());
            assert!(commit.as_mut().poll(&mut context).is_pending());
        }
        world.kill();
        let (found, _) = open().kill();
        shown += found[&channel(1)].len() - 1;
        disk.crash();
        assert_eq!(open().acked, found, "seed {seed}");
    }
    assert_eq!(shown, 40, "the unsynced commit was there to be shown");
}
