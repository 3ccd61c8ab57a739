//! A generator thread: many clients on one epoll loop, paced by the plan.
//!
//! It never waits for an answer before it sends what is due, and decides nothing about promises:
//! it moves bytes between sockets and clients and tells them the time.
//!
//! Invariants: a message is sent by the thread that serves its sender; connections under way are
//! bounded; the thread ends when all promises could be checked, or nothing moves any more.

mod connections;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::client::Client;
use crate::clock::thread_cpu;
use crate::error::BenchError;
use crate::index::{ClientIndex, MessageIndex};
use crate::plan::Plan;
use crate::run::Run;
use crate::shared::{Outcome, Part, Shared};
use crate::socket::Poller;

const MS: u64 = 1_000_000;
/// Connections of one thread that are under way at once.
const CONNECTING_MAX: usize = 128;
/// The first pause before a connection is tried again; doubles with each failure.
const RETRY_NS_MIN: u64 = 50 * MS;
/// The loop looks at the plan at most this often: messages due within it leave together.
const PACE_NS: u64 = 200_000;
const WAIT_NS_MAX: u64 = 50 * MS;
/// How long the thread listens on for what should not come, once all has come.
const LINGER_NS: u64 = 300 * MS;
const READ_BYTES: usize = 256 << 10;

/// What happens to a client later; `place` is where it stands in `slots`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    Heartbeat { place: usize },
    GiveUp { place: usize, attempt_ns: u64 },
}

#[derive(Debug)]
struct Slot {
    client: Client,
    socket: Option<TcpStream>,
    attempt_ns: u64,
    retry_ns: u64,
    /// Live on this connection.
    is_live: bool,
    /// Live on this connection or an earlier one.
    was_live: bool,
}

/// The thread's state.
#[derive(Debug)]
pub struct Worker<'a> {
    part: Part,
    shared: &'a Shared,
    run: Run<'a>,
    poller: Poller,
    slots: Vec<Slot>,
    /// Clients to connect, soonest first.
    connects: BinaryHeap<Reverse<(u64, usize)>>,
    /// What else is due, soonest first.
    timers: BinaryHeap<Reverse<(u64, Timer)>>,
    connecting: usize,
    /// The next message of the plan that is not yet due.
    cursor: usize,
    has_settled: bool,
    progress: (u64, u64),
    last_progress_ns: u64,
    buffer: Vec<u8>,
}

impl<'a> Worker<'a> {
    /// A thread's part of the plan.
    ///
    /// # Errors
    /// When the system refuses an epoll instance.
    pub fn new(plan: &'a Plan, shared: &'a Shared, part: Part) -> Result<Self, BenchError> {
        let slots: Vec<Slot> = (0..plan.audiences.clients())
            .map(ClientIndex::at)
            .filter(|&client| Plan::is_served_by(client, part.thread, part.threads))
            .map(|client| Slot {
                client: Client::new(client, plan),
                socket: None,
                attempt_ns: 0,
                retry_ns: RETRY_NS_MIN,
                is_live: false,
                was_live: false,
            })
            .collect();
        let poller = Poller::new().map_err(|source| BenchError::System {
            doing: "opening an epoll instance",
            source,
        })?;
        Ok(Self {
            part,
            shared,
            run: Run::new(plan, part.thread),
            poller,
            connects: (0..slots.len()).map(|slot| Reverse((0, slot))).collect(),
            timers: BinaryHeap::new(),
            slots,
            connecting: 0,
            cursor: 0,
            has_settled: false,
            progress: (0, 0),
            last_progress_ns: 0,
            buffer: vec![0; READ_BYTES],
        })
    }

    /// Connects, offers the load, drains, and closes.
    ///
    /// # Errors
    /// When a connection failed for good, or the system refused something.
    pub fn run(mut self) -> Result<Outcome, BenchError> {
        let mut ready = Vec::new();
        let mut cpu_start = thread_cpu();
        let mut complete_ns = None;
        loop {
            let now_ns = self.part.clock.now_ns();
            if self.run.start_ns == 0 {
                self.run.start_ns = self.shared.start_ns.load(Ordering::Acquire);
                self.last_progress_ns = now_ns;
                cpu_start = thread_cpu();
            }
            self.connect_due(now_ns);
            self.send_due(now_ns);
            self.timers_due(now_ns);
            self.publish(now_ns);
            if self.is_over(now_ns, &mut complete_ns) {
                break;
            }
            self.poller
                .wait(self.wait_ns(now_ns), &mut ready)
                .map_err(|source| BenchError::System {
                    doing: "waiting for sockets",
                    source,
                })?;
            for &event in &ready {
                self.serve(event);
            }
        }
        Ok(self.finish(cpu_start))
    }

    fn send_due(&mut self, now_ns: u64) {
        if self.run.start_ns == 0 {
            return;
        }
        let plan = self.run.plan;
        while self.cursor < plan.schedule.planned().len() {
            let index = MessageIndex::at(self.cursor);
            if self.run.start_ns + plan.schedule.due_ns(index) > now_ns {
                break;
            }
            self.cursor += 1;
            let client = plan.message(index).client;
            if !Plan::is_served_by(client, self.part.thread, self.part.threads) {
                continue;
            }
            let slot = client.place() / self.part.threads;
            self.slots[slot]
                .client
                .send(index, self.part.clock.now_ns(), &mut self.run);
            self.flush(slot);
        }
    }

    /// Tells the other threads how far this one is, and notes whether anything moved.
    fn publish(&mut self, now_ns: u64) {
        let tally = &self.run.tally;
        let progress = (tally.answered, tally.deliveries);
        if progress != self.progress {
            self.shared
                .answered
                .fetch_add(progress.0 - self.progress.0, Ordering::Relaxed);
            self.shared
                .deliveries
                .fetch_add(progress.1 - self.progress.1, Ordering::Relaxed);
            self.progress = progress;
            self.last_progress_ns = now_ns;
        }
    }

    fn is_over(&mut self, now_ns: u64, complete_ns: &mut Option<u64>) -> bool {
        if self.shared.stop.load(Ordering::Relaxed) {
            return true;
        }
        if self.run.start_ns == 0 || self.cursor < self.run.plan.schedule.planned().len() {
            return false;
        }
        let idle_ns_max = u64::try_from(self.part.drain_idle.as_nanos()).unwrap_or(u64::MAX);
        if now_ns - self.last_progress_ns.min(now_ns) > idle_ns_max {
            return true;
        }
        if !self.has_settled
            && self
                .slots
                .iter()
                .all(|slot| slot.client.open_messages() == 0)
        {
            self.shared.settle(&self.run.heads);
            self.has_settled = true;
        }
        if complete_ns.is_none()
            && self.shared.settled() == self.part.threads
            && self.slots.iter().all(|slot| self.is_complete(slot))
        {
            *complete_ns = Some(now_ns);
        }
        complete_ns.is_some_and(|complete_ns| now_ns - complete_ns > LINGER_NS)
    }

    fn is_complete(&self, slot: &Slot) -> bool {
        slot.client.is_live()
            && slot
                .client
                .has_all_to(&self.run.oracle, |channel| self.shared.head(channel))
    }

    fn wait_ns(&self, now_ns: u64) -> u64 {
        let mut next_ns = now_ns + WAIT_NS_MAX;
        if self.run.start_ns != 0 && self.cursor < self.run.plan.schedule.planned().len() {
            let due_ns = self.run.plan.schedule.due_ns(MessageIndex::at(self.cursor));
            next_ns = next_ns.min(self.run.start_ns + due_ns);
        }
        if let Some(&Reverse((due_ns, _))) = self.timers.peek() {
            next_ns = next_ns.min(due_ns);
        }
        if let Some(&Reverse((due_ns, _))) = self.connects.peek()
            && self.connecting < CONNECTING_MAX
        {
            next_ns = next_ns.min(due_ns);
        }
        next_ns.saturating_sub(now_ns).max(PACE_NS)
    }

    fn finish(mut self, cpu_start: Duration) -> Outcome {
        let now_ns = self.part.clock.now_ns();
        let mut not_live = 0;
        let mut unanswered = 0;
        for slot in &mut self.slots {
            not_live += u64::from(!slot.client.is_live());
            unanswered += u64::try_from(slot.client.open_messages()).unwrap_or(u64::MAX);
            slot.client.close(&mut self.run);
            if let Some(socket) = &mut slot.socket {
                // The peer may be gone already; then nobody misses the farewell.
                let _ = socket.write(slot.client.out());
            }
        }
        let wall_s = Duration::from_nanos(now_ns.saturating_sub(self.run.start_ns)).as_secs_f64();
        let cpu_s = thread_cpu().saturating_sub(cpu_start).as_secs_f64();
        Outcome {
            oracle: self.run.oracle,
            tally: self.run.tally,
            course: self.run.course,
            resent: self.run.resent,
            unanswered,
            not_live,
            cpu_percent: 100.0 * cpu_s / wall_s.max(0.001),
            last_progress_ns: self.last_progress_ns,
        }
    }
}
