//! Single stories, each about one promise, told step by step instead of drawn from a seed.
//!
//! They use the same world as the seeds and end with the same reckoning. Clients do nothing by
//! themselves but stay alive, come back, go on where they were and send again what was not
//! acknowledged.
//!
//! Invariant: a story fails when its promise is broken, and also when what it is about did not
//! happen.

use throng_protocol::ChannelId;

use crate::client::{Kind, Stage};
use crate::counts::Happening;
use crate::link::Reading;
use crate::oracle::Listener;
use crate::plan::{Delay, Fault, Plan};
use crate::world::World;

const SECOND_US: u64 = 1_000_000;

/// Tells a story in a calm world in which everybody has come and subscribed to everything.
fn check(plan: Plan, story: impl FnOnce(&mut World)) {
    crate::run(plan, false, |world| {
        world.winding = true;
        world.run_until(6 * SECOND_US);
        subscribe_all(world);
        story(world);
        world.wind_down();
        world.reckon();
    });
}

fn subscribe_all(world: &mut World) {
    for client in 0..world.clients.len() {
        let mine: Vec<ChannelId> = world.clients[client].mine.iter().copied().collect();
        for channel in mine {
            world.clients[client]
                .heard
                .entry(channel)
                .or_default()
                .wanted = true;
        }
    }
    world.run_until(world.now_us + 3 * SECOND_US);
}

/// Two clients that share a channel, and the channel.
fn pair(world: &World) -> (usize, usize, ChannelId) {
    let channels = world.control.channels();
    let found = channels.into_iter().find_map(|channel| {
        let members = (0..world.clients.len())
            .filter(|client| world.clients[*client].mine.contains(&channel))
            .collect::<Vec<usize>>();
        (members.len() > 3).then(|| (members[0], members[1], channel))
    });
    found.expect("a calm world has channels with members")
}

/// Sends so many messages and waits until they are all acknowledged.
fn write(world: &mut World, client: usize, channel: ChannelId, count: usize) {
    let mut left = count;
    while left > 0 {
        let batch = left.min(40);
        for _ in 0..batch {
            world.send_new_to(client, channel);
        }
        left -= batch;
        until_acknowledged(world, client);
    }
}

fn until_acknowledged(world: &mut World, client: usize) {
    let latest_us = world.now_us + 60 * SECOND_US;
    while !world.clients[client].outgoing.is_empty() {
        assert!(
            world.now_us < latest_us,
            "client {client} waits for an acknowledgement"
        );
        world.step();
    }
}

#[test]
fn a_stalled_reader_is_dropped_and_nobody_waits_for_it() {
    check(Plan::calm(1), |world| {
        let (stalled, writer, channel) = pair(world);
        let link = world.clients[stalled].link.expect("everybody is there");
        world.read_from_now_on(link, Reading::Not);
        write(world, writer, channel, 1_200);
        assert_eq!(world.counts.of(Happening::SlowConsumer), 1);
        world.run_until(world.now_us + SECOND_US);
        for (client, held) in world
            .clients
            .iter()
            .enumerate()
            .filter(|(at, _)| *at != stalled)
        {
            if let (true, Some(link)) = (held.mine.contains(&channel), held.link) {
                let verdict = world.oracle.complete(Listener(link), channel);
                assert_eq!(
                    verdict,
                    Ok(()),
                    "client {client} waited for the stalled one"
                );
            }
        }
        world.run_until(world.now_us + 6 * SECOND_US);
        assert!(
            world.clients[stalled].link != Some(link),
            "the stalled one was not dropped"
        );
    });
}

#[test]
fn the_largest_backlogs_give_way_before_any_is_too_large() {
    let mut plan = Plan::calm(9);
    plan.config.limits.backlogs_bytes_max = 100 << 10;
    check(plan, |world| {
        let (_, writer, channel) = pair(world);
        let stalled: Vec<usize> = (0..world.clients.len())
            .filter(|client| *client != writer && client % 3 == 0)
            .collect();
        for client in &stalled {
            let link = world.clients[*client].link.expect("everybody is there");
            world.read_from_now_on(link, Reading::Not);
        }
        write(world, writer, channel, 600);
        assert!(world.counts.of(Happening::GaveWay) > 0, "nobody gave way");
        assert_eq!(world.counts.of(Happening::SlowConsumer), 0);
        for (client, held) in world.clients.iter().enumerate() {
            let link = held.link.map(|link| &world.links[link]);
            let gave_way = link.is_some_and(|link| link.gave_way);
            assert!(!gave_way || stalled.contains(&client), "{client} gave way");
        }
    });
}

#[test]
fn messages_that_are_begun_and_never_ended_do_not_add_up() {
    let mut plan = Plan::calm(3);
    let limits = &mut plan.config.limits;
    limits.incomplete_bytes_max = 4 * limits.message_bytes_max;
    check(plan, |world| {
        let (talker, _, channel) = pair(world);
        let crowd: Vec<usize> = (0..world.clients.len())
            .filter(|client| *client != talker)
            .collect();
        // A shard's part of the limit holds two of them.
        let held_max = 2 * usize::from(world.plan.shards_max);
        assert!(crowd.len() > held_max, "too few to fill every shard");
        for client in &crowd {
            world.begin_and_never_end(*client);
        }
        world.run_until(world.now_us + SECOND_US);
        let ended = world.counts.of(Happening::TryAgainLater);
        assert!(
            ended >= (crowd.len() - held_max) as u64,
            "{ended} of {crowd:?}"
        );
        write(world, talker, channel, 10);
    });
}

#[test]
fn listeners_come_and_go_while_their_channel_is_told_in_slices() {
    for seed in 0..6 {
        let mut plan = Plan::calm(seed);
        (plan.users, plan.clients, plan.guilds) = (40, 60, 1);
        plan.channels_per_guild = 1;
        plan.config.limits.fanout_slice_max = 2;
        plan.again = Delay {
            min_us: 500,
            max_us: 3_000,
        };
        check(plan, |world| {
            let (_, writer, channel) = pair(world);
            for turn in 0..400 {
                if turn % 3 == 0 {
                    world.send_new_to(writer, channel);
                }
                let client = (turn * 7) % world.clients.len();
                match turn % 5 {
                    _ if client == writer || world.clients[client].stage != Stage::Ready => {}
                    0 => world.leave_abruptly(client),
                    1 => world.unsubscribe_some(client),
                    2 => world.subscribe_again(client),
                    _ => world.subscribe_some(client),
                }
                world.run_until(world.now_us + 4_000);
            }
            until_acknowledged(world, writer);
            assert!(world.counts.of(Happening::FullSlice) > 200);
        });
    }
}

#[test]
fn what_was_acknowledged_survives_a_power_cut_right_after() {
    for seed in 0..20 {
        check(Plan::calm(seed), |world| {
            let (_, writer, channel) = pair(world);
            for _ in 0..3 {
                write(world, writer, channel, 1);
                world.fault(Fault::PowerCut);
                world.run_until(world.now_us + 6 * SECOND_US);
            }
            assert_eq!(world.counts.of(Happening::PowerCut), 3);
        });
    }
}

#[test]
fn a_commit_that_a_power_cut_has_torn_is_cleared() {
    let mut torn = 0;
    for seed in 0..40 {
        check(Plan::calm(seed), |world| {
            let (_, writer, channel) = pair(world);
            write(world, writer, channel, 1);
            // The first of these is a commit of its own; the others gather behind it and are one.
            for _ in 0..60 {
                world.send_new_to(writer, channel);
            }
            let changes = 1 + seed % 6;
            world.fault(Fault::PowerCutInWrite { changes });
            until_acknowledged(world, writer);
            torn += world.counts.of(Happening::TornTail);
        });
    }
    assert!(torn >= 3, "{torn} torn commits");
}

#[test]
fn a_message_sent_again_after_a_crash_is_stored_once() {
    for moment in 0..60 {
        check(Plan::calm(7), |world| {
            let (_, writer, channel) = pair(world);
            world.send_new_to(writer, channel);
            world.run_until(world.now_us + moment * 700);
            world.fault(if moment % 2 == 0 {
                Fault::PowerCut
            } else {
                Fault::Kill
            });
            until_acknowledged(world, writer);
            assert_eq!(world.oracle.places(channel).len(), 1);
        });
    }
}

#[test]
fn a_resume_goes_on_after_crashes_with_other_numbers_of_shards() {
    check(
        Plan {
            shards_max: 7,
            ..Plan::calm(3)
        },
        |world| {
            let (reader, writer, channel) = pair(world);
            for _ in 0..12 {
                write(world, writer, channel, 5);
                world.leave_abruptly(reader);
                write(world, writer, channel, 5);
                world.fault(Fault::PowerCut);
                world.run_until(world.now_us + 5 * SECOND_US);
            }
            assert!(world.counts.of(Happening::OtherShardCount) > 3);
            assert!(world.counts.of(Happening::ReplayedMessage) >= 60);
        },
    );
}

/// Somebody is away while so many messages are written, and is told to start anew, or not.
fn check_missed(missed: usize, resyncs: u64) {
    check(Plan::calm(4), |world| {
        let (reader, writer, channel) = pair(world);
        write(world, writer, channel, 3);
        world.run_until(world.now_us + SECOND_US);
        world.leave_abruptly(reader);
        world.client_turn(reader, 600 * SECOND_US);
        write(world, writer, channel, missed);
        let replayed = world.counts.of(Happening::ReplayedMessage);
        world.client_turn(reader, 0);
        world.run_until(world.now_us + 20 * SECOND_US);
        assert_eq!(world.counts.of(Happening::Resync), resyncs);
        let replayed = world.counts.of(Happening::ReplayedMessage) - replayed;
        assert_eq!(replayed, if resyncs == 0 { missed as u64 } else { 0 });
    });
}

#[test]
fn who_missed_too_much_is_resynced_and_who_did_not_is_told_everything() {
    check_missed(1_000, 0);
    check_missed(1_001, 1);
}

#[test]
fn a_full_disk_refuses_messages_and_recovers() {
    check(Plan::calm(5), |world| {
        let (_, writer, channel) = pair(world);
        write(world, writer, channel, 10);
        world.fault(Fault::DiskFull { us: 20 * SECOND_US });
        for _ in 0..200 {
            world.send_new_to(writer, channel);
            world.run_until(world.now_us + SECOND_US / 20);
        }
        assert!(
            world.counts.of(Happening::Unavailable) > 0,
            "the disk was never full"
        );
        world.disk.set_quota_bytes(None);
        until_acknowledged(world, writer);
    });
}

#[test]
fn a_drain_tells_everybody_and_ends_who_stays() {
    check(Plan::calm(6), |world| {
        let (_, writer, channel) = pair(world);
        write(world, writer, channel, 20);
        for client in (0..world.clients.len()).step_by(3) {
            world.clients[client].kind = Kind::Stubborn;
        }
        let ready = world
            .clients
            .iter()
            .filter(|held| held.stage == Stage::Ready)
            .count();
        assert_eq!(ready, world.clients.len(), "everybody is there");
        world.fault(Fault::Drain);
        world.run_until(world.now_us + 9 * SECOND_US);
        assert!(world.counts.of(Happening::Reconnect) >= ready as u64);
        let stayed = world.clients.len().div_ceil(3) as u64;
        assert_eq!(world.counts.of(Happening::DrainOutlasted), stayed);
    });
}

#[test]
fn who_has_joined_is_not_turned_away_by_an_old_answer() {
    let after = |us| Delay {
        min_us: us,
        max_us: us,
    };
    check(Plan::calm(8), |world| {
        let stranger = (0..world.clients.len())
            .find(|client| world.clients[*client].mine.is_empty())
            .expect("one in ten is in no guild");
        // The question takes a second to the control plane, and its answer a second back.
        world.plan.control = after(SECOND_US);
        for channel in world.control.channels() {
            world.send_new_to(stranger, channel);
        }
        world.run_until(world.now_us + SECOND_US * 3 / 2);
        assert_eq!(
            world.clients[stranger].outgoing.len(),
            world.control.channels().len()
        );
        // Meanwhile the stranger joins, and every shard hears of it at once.
        world.plan.control = after(1_000);
        world.fault(Fault::Join);
        world.run_until(world.now_us + SECOND_US / 10);
        let mine: Vec<ChannelId> = world.clients[stranger].mine.iter().copied().collect();
        assert!(!mine.is_empty(), "nobody has joined");
        for channel in mine {
            world.send_new_to(stranger, channel);
        }
        until_acknowledged(world, stranger);
    });
}

#[test]
fn a_pong_keeps_a_session_and_a_heartbeat_spares_the_ping() {
    let mut plan = Plan::calm(9);
    plan.config.heartbeat_s = 10;
    check(plan, |world| {
        let (ponger, heartbeater, _) = pair(world);
        let silent = (0..world.clients.len())
            .find(|client| ![ponger, heartbeater].contains(client))
            .expect("there are more");
        world.clients[ponger].kind = Kind::Ponger;
        world.clients[silent].kind = Kind::Silent;
        let links = [ponger, heartbeater].map(|client| world.clients[client].link);
        assert!(links.iter().all(Option::is_some));
        world.run_until(world.now_us + 300 * SECOND_US);
        for (client, link) in [ponger, heartbeater].into_iter().zip(links) {
            assert_eq!(world.clients[client].link, link, "it was kept");
        }
        let pings = world.clients[ponger].wire.pings;
        assert!(
            (18..=24).contains(&pings),
            "one each 12.5 s and a little: {pings}"
        );
        assert_eq!(world.clients[heartbeater].wire.pings, 0);
        assert_eq!(world.counts.of(Happening::SilentClosed), 1);
    });
}
