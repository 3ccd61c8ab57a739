//! The one task that drives a shard: completions in, outputs out, and sleep when there is nothing.
//!
//! It decides nothing about chat. It knows three neighbours: the application (pure), the sockets
//! (one ring), and the services, which stand for everything else an application may ask for.
//!
//! Invariants: outputs are carried out in their order, right after the input that caused them; a
//! round is bounded, and after it glommio's other tasks have their turn; the application gets a
//! tick at least every 100 ms of node time; it is never called from two places at once.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use glommio::timer::Timer;

use super::clock::NodeClock;
use super::error::EdgeError;
use super::executor::Drain;
use super::gathering::Gathering;
use super::operation::Completion;
use super::sockets::{Happened, SENDS_PER_ROUND_MAX, Sockets};
use super::wake::{Bell, Sleeper};
use crate::compression::Compression;
use crate::io::{Application, ConnId, Input, Outbox, Output, ShardId};

/// Completions taken in one turn: those of all sends that it starts, and as many others. With fewer
/// what arrives during a broadcast would wait behind ever more sends.
const COMPLETIONS_PER_TURN_MAX: usize = 2 * SENDS_PER_ROUND_MAX;
/// Inputs taken from the services in one turn. Few: what they cause starts to leave only with the
/// next turn, and would look like the backlog of slow readers.
const INPUTS_PER_TURN_MAX: usize = 64;
/// Turns of one round, which go on while the services have more inputs.
const TURNS_PER_ROUND_MAX: usize = 16;
/// How often glommio looks at its own rings while a shard never sleeps, in milliseconds; after each
/// round while the disk works for it.
const LOOK_MS: u64 = 2;

/// What an application asks for besides sockets: commits, pages, other shards, the control plane.
/// Runs on the shard's thread; what takes time goes into tasks of its own, which ring the
/// shard's [`Bell`] when they have an input.
pub trait Services {
    /// Carries out an `Append`, `Read`, `Forward` or `Control`, or begins to.
    fn perform(&mut self, output: Output);

    /// The round is over: sends off what was gathered.
    fn flush(&mut self);

    /// The next input for the application.
    fn next_input(&mut self) -> Option<Input<'static>>;

    /// Whether there is one. Asked once more before each sleep.
    fn has_input(&self) -> bool;

    /// Whether a task of this shard waits for the disk.
    fn is_busy(&self) -> bool;

    /// The shard takes no more inputs: finishes what was begun.
    fn finish(self) -> impl Future<Output = ()>;
}

/// The services of an application that asks for none.
#[derive(Debug)]
pub struct NoServices;

impl Services for NoServices {
    fn perform(&mut self, output: Output) {
        unreachable!("nobody carries out {output:?}");
    }

    fn flush(&mut self) {}

    fn next_input(&mut self) -> Option<Input<'static>> {
        None
    }

    fn has_input(&self) -> bool {
        false
    }

    fn is_busy(&self) -> bool {
        false
    }

    async fn finish(self) {}
}

/// Everything that one shard's task holds.
pub(super) struct Pump<A, S> {
    pub(super) application: A,
    pub(super) services: S,
    pub(super) sockets: Sockets,
    pub(super) sleeper: Sleeper,
    pub(super) bell: Bell,
    pub(super) clock: NodeClock,
    pub(super) shard: ShardId,
    pub(super) drain: Drain,
    pub(super) drain_ms_max: u64,
    pub(super) compression: Compression,
    pub(super) gathering: Gathering,
    pub(super) tick_ms: u64,
}

/// Where the pump is between two rounds.
struct Rhythm {
    outbox: Outbox,
    completions: Vec<Completion>,
    /// The application has more to do.
    again: bool,
    ticked_ms: u64,
    looked_ms: u64,
    drain_until_ms: Option<u64>,
}

impl<A: Application, S: Services> Pump<A, S> {
    /// Runs until the process is asked to end and the clients have gone or had their time.
    pub(super) async fn run(mut self) -> Result<(), EdgeError> {
        let now_ms = self.clock.now_ms();
        let mut rhythm = Rhythm {
            outbox: Outbox::new(),
            completions: Vec::with_capacity(COMPLETIONS_PER_TURN_MAX),
            again: false,
            ticked_ms: now_ms,
            looked_ms: now_ms,
            drain_until_ms: None,
        };
        loop {
            let now_ms = self.clock.now_ms();
            let worked = self.round(now_ms, &mut rhythm)?;
            if let Some(until_ms) = rhythm.drain_until_ms
                && self.has_ended(now_ms, until_ms)
            {
                break;
            }
            if worked {
                self.let_others_run(now_ms, &mut rhythm).await;
            } else if let Some(rest) = self.rest(now_ms, &rhythm) {
                self.sleeper.rest(rest).await;
                rhythm.looked_ms = now_ms;
            } else {
                self.sleep(now_ms, &mut rhythm).await;
            }
        }
        self.services.flush();
        drop(self.sockets);
        self.services.finish().await;
        Ok(())
    }

    /// Whether nobody needs this shard any more, or the time is over.
    fn has_ended(&self, now_ms: u64, until_ms: u64) -> bool {
        if self.sockets.live() == 0 {
            self.drain.part(self.shard);
        }
        self.drain.have_all_parted() || now_ms >= until_ms
    }

    /// Takes in what there is, a bounded amount; whether there was something.
    fn round(&mut self, now_ms: u64, rhythm: &mut Rhythm) -> Result<bool, EdgeError> {
        self.bell.take();
        let mut worked = false;
        for _ in 0..TURNS_PER_ROUND_MAX {
            worked |= self.take_completions(now_ms, rhythm)?;
            let inputs = self.take_inputs(now_ms, rhythm);
            worked |= inputs > 0 || rhythm.again;
            let went_on = self.go_on(now_ms, rhythm);
            self.services.flush();
            if inputs < INPUTS_PER_TURN_MAX || went_on {
                break;
            }
        }
        self.keep_time(now_ms, rhythm);
        self.services.flush();
        Ok(worked)
    }

    /// Starts the sends that are due and takes in what the kernel says; whether it said something.
    fn take_completions(&mut self, now_ms: u64, rhythm: &mut Rhythm) -> Result<bool, EdgeError> {
        self.sockets
            .turn(&mut rhythm.completions, COMPLETIONS_PER_TURN_MAX)?;
        let mut worked = !rhythm.completions.is_empty();
        self.gathering.heard(now_ms, rhythm.completions.len());
        let mut completions = std::mem::take(&mut rhythm.completions);
        for completion in completions.drain(..) {
            let happened = self.sockets.complete(completion, now_ms);
            self.tell(now_ms, happened, rhythm);
        }
        rhythm.completions = completions;
        self.sockets.batch_done();
        while let Some(happened) = self.sockets.next_happened() {
            worked = true;
            self.tell(now_ms, Some(happened), rhythm);
        }
        Ok(worked)
    }

    /// Takes in what the services have, a few; how many.
    fn take_inputs(&mut self, now_ms: u64, rhythm: &mut Rhythm) -> usize {
        for taken in 0..INPUTS_PER_TURN_MAX {
            let Some(input) = self.services.next_input() else {
                return taken;
            };
            self.handle(now_ms, input, rhythm);
        }
        INPUTS_PER_TURN_MAX
    }

    /// Lets the application do more of what it has to do, unless the sends of what it did before
    /// have not been started; whether it did. What others wait for comes first: it gets one step in
    /// a round.
    fn go_on(&mut self, now_ms: u64, rhythm: &mut Rhythm) -> bool {
        let goes_on = rhythm.again && !self.sockets.is_behind();
        if goes_on {
            rhythm.again = false;
            self.handle(now_ms, Input::Again, rhythm);
        }
        goes_on
    }

    fn keep_time(&mut self, now_ms: u64, rhythm: &mut Rhythm) {
        if now_ms >= rhythm.ticked_ms + self.tick_ms {
            rhythm.ticked_ms = now_ms;
            self.sockets.tick(now_ms);
            self.compression.forget();
            self.handle(now_ms, Input::Tick, rhythm);
        }
        if rhythm.drain_until_ms.is_none() && self.drain.is_asked() {
            rhythm.drain_until_ms = Some(now_ms + self.drain_ms_max);
            self.sockets.stop_accepting();
            self.handle(now_ms, Input::Drain, rhythm);
        }
    }

    /// Tells the application what happened to a socket.
    fn tell(&mut self, now_ms: u64, happened: Option<Happened>, rhythm: &mut Rhythm) {
        let input = match happened {
            None => return,
            Some(Happened::Received(conn, buffer, bytes)) => {
                let bytes = self.sockets.received(conn, buffer, bytes);
                self.application.handle(
                    now_ms,
                    Input::Received { conn, bytes },
                    &mut rhythm.outbox,
                );
                self.sockets.give_back(conn, buffer);
                return self.carry_out(now_ms, rhythm);
            }
            Some(Happened::Accepted(conn)) => Input::Accepted { conn },
            Some(Happened::Closed(conn)) => Input::Closed { conn },
            Some(Happened::Writable(conn)) => Input::Writable { conn },
            Some(Happened::Blocked(conn)) => Input::Blocked { conn },
        };
        self.handle(now_ms, input, rhythm);
    }

    fn handle(&mut self, now_ms: u64, input: Input<'_>, rhythm: &mut Rhythm) {
        self.application.handle(now_ms, input, &mut rhythm.outbox);
        self.carry_out(now_ms, rhythm);
    }

    fn carry_out(&mut self, now_ms: u64, rhythm: &mut Rhythm) {
        let mut batch = rhythm.outbox.drain();
        while let Some(output) = batch.next() {
            match output {
                Output::Send { conn, bytes } => {
                    let bytes = match self.sockets.is_deflating(conn) {
                        true => self.compression.of_one(&bytes),
                        false => bytes,
                    };
                    let frame = self.sockets.frame(bytes);
                    self.sockets.send(conn, frame);
                }
                Output::Broadcast { bytes, to } => {
                    self.broadcast(bytes, batch.recipients(&to));
                }
                Output::Deflate { conn } => self.sockets.deflate(conn),
                Output::Again => rhythm.again = true,
                Output::Watch { conn } => self.sockets.watch(conn),
                Output::Close { conn } => self.sockets.close(conn, now_ms),
                Output::HandOver { conn, head } => self.sockets.hand_over(conn, &head),
                other @ (Output::Forward { .. }
                | Output::Append { .. }
                | Output::Read { .. }
                | Output::Control(_)) => self.services.perform(other),
            }
        }
    }

    /// One frame for many; those who take it compressed share that too.
    fn broadcast(&mut self, bytes: Bytes, to: &[ConnId]) {
        if !self.sockets.has_deflated() {
            let frame = self.sockets.frame(bytes);
            return to
                .iter()
                .for_each(|conn| self.sockets.send(*conn, frame.clone()));
        }
        let (mut plain, mut compressed) = (None, None);
        for conn in to {
            let frame = match self.sockets.is_deflating(*conn) {
                true => compressed
                    .get_or_insert_with(|| self.sockets.frame(self.compression.of(&bytes))),
                false => plain.get_or_insert_with(|| self.sockets.frame(bytes.clone())),
            };
            self.sockets.send(*conn, frame.clone());
        }
    }

    /// Another round follows, but other tasks have their turn first. Tasks that wait for glommio's
    /// rings get theirs only when this one does not keep the executor busy: a timer that is over
    /// at once makes it look.
    async fn let_others_run(&mut self, now_ms: u64, rhythm: &mut Rhythm) {
        if self.services.is_busy() || now_ms >= rhythm.looked_ms + LOOK_MS {
            rhythm.looked_ms = now_ms;
            Timer::new(Duration::ZERO).await;
        } else {
            glommio::executor().yield_now().await;
        }
    }

    /// How long to leave arrivals where they are, if nothing that the shard itself has to do waits.
    fn rest(&self, now_ms: u64, rhythm: &Rhythm) -> Option<Duration> {
        let is_free = !rhythm.again && !self.sockets.has_plans() && !self.services.has_input();
        let to_tick_ms = (rhythm.ticked_ms + self.tick_ms).saturating_sub(now_ms);
        let rest = self.gathering.rest(self.sockets.live())?;
        is_free.then(|| rest.min(Duration::from_millis(to_tick_ms)))
    }

    async fn sleep(&mut self, now_ms: u64, rhythm: &mut Rhythm) {
        self.sleeper.prepare();
        self.sockets.signal(true);
        let late = rhythm.again
            || self.sockets.has_work()
            || self.services.has_input()
            || (rhythm.drain_until_ms.is_none() && self.drain.is_asked());
        if !late {
            let rest_ms = (rhythm.ticked_ms + self.tick_ms).saturating_sub(now_ms);
            self.sleeper.sleep(Duration::from_millis(rest_ms)).await;
            rhythm.looked_ms = now_ms;
        }
        self.sockets.signal(false);
        self.sleeper.awake();
    }
}
