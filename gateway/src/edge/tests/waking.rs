//! Sleep: nothing that happens is slept through, and nothing but the tick ends it otherwise.
//!
//! A tick would hide a wake-up that was lost, so here there is one an hour: then whoever waits for
//! an answer waits too long.
//!
//! Invariant: no time is measured; what is awaited has a limit after which the test has failed.

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use glommio::{LocalExecutorBuilder, Placement};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::raw::{Raw, Seen};
use super::{MODES, connect, nobody};
use crate::edge::wake::{Bell, Sleeper};
use crate::edge::{EdgeSettings, Services, ShardWaker};
use crate::io::{Input, Output};

const THREADS: usize = 3;
const ROUNDS: usize = 3_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Services that answer everybody who asks, and count rounds.
struct Desk {
    asked: Receiver<Sender<()>>,
    rounds: Arc<AtomicUsize>,
    random: RefCell<StdRng>,
}

impl Services for Desk {
    fn perform(&mut self, output: Output) {
        unreachable!("nobody carries out {output:?}");
    }

    fn flush(&mut self) {
        self.rounds.fetch_add(1, Ordering::Relaxed);
    }

    fn next_input(&mut self) -> Option<Input<'static>> {
        let asks = self.asked.try_recv().ok()?;
        asks.send(()).unwrap();
        Some(Input::StoreTrouble { error: None })
    }

    /// The shard asks this between its last look at the rings and its sleep. What happens while it
    /// dawdles here is what could be lost.
    fn has_input(&self) -> bool {
        let has_input = !self.asked.is_empty();
        dawdle(&mut self.random.borrow_mut());
        has_input
    }

    fn is_busy(&self) -> bool {
        false
    }

    async fn finish(self) {}
}

/// Lets a moment pass, of a length that nobody can foresee: up to about the time that it takes to
/// fall asleep.
fn dawdle(random: &mut StdRng) {
    for _ in 0..random.random_range(0..20_000) {
        std::hint::spin_loop();
    }
}

fn ask_again_and_again(seed: u64, ask: &Sender<Sender<()>>, waker: &ShardWaker) {
    let mut random = StdRng::seed_from_u64(seed);
    let (answer, answered) = bounded(1);
    for round in 0..ROUNDS {
        ask.send(answer.clone()).unwrap();
        waker.wake();
        let heard = answered.recv_timeout(PATIENCE);
        assert!(heard.is_ok(), "a wake-up was lost in round {round}");
        dawdle(&mut random);
    }
}

fn ping_again_and_again(seed: u64, address: SocketAddr) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut streams: Vec<_> = (0..10).map(|_| connect(address)).collect();
    for round in 0..ROUNDS {
        let which = random.random_range(0..streams.len());
        let stream = &mut streams[which];
        stream.write_all(b"ping").unwrap();
        let heard = stream.read_exact(&mut [0; 4]);
        assert!(
            heard.is_ok(),
            "an arrival was slept through in round {round}"
        );
        dawdle(&mut random);
    }
}

/// Serves with a desk, over rings of eight places.
fn serve(
    mode: crate::config::ReceiveMode,
    tick_ms: u64,
    gather_us_max: u32,
    test: impl FnOnce(SocketAddr, &ShardWaker, &Sender<Sender<()>>, &Seen, &AtomicUsize),
) {
    let (ask, asked) = bounded(THREADS);
    let (seen, rounds) = (Arc::<Seen>::default(), Arc::<AtomicUsize>::default());
    let change = |settings: &mut EdgeSettings| {
        (settings.ring_places, settings.refusals_max) = (8, 2);
        settings.tick_ms = tick_ms;
        (settings.gather_us_max, settings.gather_sessions_min) = (gather_us_max, 0);
    };
    let (shared, counted) = (Arc::clone(&seen), Arc::clone(&rounds));
    let parts = move || {
        let desk = Desk {
            asked: asked.clone(),
            rounds: Arc::clone(&counted),
            random: RefCell::new(StdRng::seed_from_u64(7)),
        };
        (Raw::new(&shared), desk, nobody())
    };
    super::run(mode, change, parts, |address, waker| {
        test(address, waker, &ask, &seen, &rounds);
    });
}

/// Threads ask and clients ping, all at once.
fn check_that_all_are_heard(gather_us_max: u32) {
    for mode in MODES {
        serve(
            mode,
            3_600_000,
            gather_us_max,
            |address, waker, ask, _, _| {
                std::thread::scope(|scope| {
                    for seed in 0..THREADS {
                        scope.spawn(move || ask_again_and_again(seed as u64, ask, waker));
                        scope.spawn(move || ping_again_and_again(100 + seed as u64, address));
                    }
                });
            },
        );
    }
}

#[test]
fn no_wake_up_is_lost_between_the_last_look_and_the_sleep() {
    check_that_all_are_heard(0);
}

#[test]
fn nor_where_arrivals_may_be_gathered() {
    check_that_all_are_heard(300);
}

#[test]
fn a_bell_ends_a_rest() {
    let shard = LocalExecutorBuilder::new(Placement::Unbound).spawn(|| async {
        let bell = Bell::default();
        let mut sleeper = Sleeper::new(ShardWaker::new().unwrap(), bell.clone()).unwrap();
        sleeper.rest(Duration::from_micros(1)).await;
        let ringer = bell.clone();
        let ringing = glommio::spawn_local(async move { ringer.ring() });
        sleeper.rest(Duration::from_secs(3_600)).await;
        ringing.await;
        assert!(bell.take());
        bell.ring();
        sleeper.rest(Duration::from_secs(3_600)).await;
    });
    shard.unwrap().join().unwrap();
}

#[test]
fn nothing_is_slept_through_when_only_one_thing_happens_at_a_time() {
    for mode in MODES {
        serve(mode, 3_600_000, 0, |address, waker, ask, _, _| {
            ask_again_and_again(1, ask, waker);
            ping_again_and_again(2, address);
        });
    }
}

#[test]
fn an_idle_shard_wakes_for_nothing_but_its_tick() {
    for mode in MODES {
        serve(mode, 20, 500, |address, _, _, seen, rounds| {
            let mut streams: Vec<_> = (0..50).map(|_| connect(address)).collect();
            for stream in &mut streams {
                super::streams::check_echo(stream, b"in");
            }
            let ticks = || seen.ticks.load(Ordering::Relaxed);
            let wait_for = |tick| {
                while ticks() < tick {
                    std::thread::yield_now();
                }
            };
            wait_for(ticks() + 5);
            let (from, before) = (ticks(), rounds.load(Ordering::Relaxed));
            wait_for(from + 50);
            // A round flushes twice; one begins with the tick, one may find that all is done.
            let flushed = rounds.load(Ordering::Relaxed) - before;
            let ticked = ticks() - from;
            assert!(flushed <= 8 * ticked, "{flushed} flushes in {ticked} ticks");
        });
    }
}
