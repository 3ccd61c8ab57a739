//! A generator thread: many clients on one epoll loop, paced by the plan.
//!
//! It never waits for an answer before it sends what is due, and decides nothing about promises:
//! it moves bytes between sockets and clients and tells them the time.
//!
//! Invariants: a message is sent by the thread that serves its sender; connections under way are
//! bounded; the thread ends when all promises could be checked, or nothing moves any more.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Buf;

use crate::client::Client;
use crate::clock::thread_cpu;
use crate::ended::Ended;
use crate::error::BenchError;
use crate::index::{ClientIndex, MessageIndex};
use crate::plan::Plan;
use crate::run::Run;
use crate::shared::{Outcome, Part, Shared};
use crate::socket::{Poller, Ready, begin_connect};

const MS: u64 = 1_000_000;
/// Connections of one thread that are under way at once.
const CONNECTING_MAX: usize = 128;
/// A connection that is not live by then is given up.
const ATTEMPT_NS_MAX: u64 = 20_000 * MS;
/// First pause before a connection is tried again; doubles up to the longest.
const RETRY_NS_MIN: u64 = 50 * MS;
const RETRY_NS_MAX: u64 = 2_000 * MS;
/// The loop looks at the plan at most this often: messages due within it leave together.
const PACE_NS: u64 = 200_000;
const WAIT_NS_MAX: u64 = 50 * MS;
/// How long the thread listens on for what should not come, once all has come.
const LINGER_NS: u64 = 300 * MS;
const READ_BYTES: usize = 256 << 10;

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
    /// When each client's next heartbeat is due.
    heartbeats: VecDeque<(u64, usize)>,
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
            heartbeats: VecDeque::new(),
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
            self.heartbeat_due(now_ns);
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

    fn connect_due(&mut self, now_ns: u64) {
        while self.connecting < CONNECTING_MAX {
            let Some(&Reverse((due_ns, slot))) = self.connects.peek() else {
                break;
            };
            if due_ns > now_ns {
                break;
            }
            self.connects.pop();
            let key = tungstenite::handshake::client::generate_key();
            self.slots[slot].client.connecting(&key, &self.run);
            self.slots[slot].attempt_ns = now_ns;
            self.connecting += 1;
            match self.open(slot) {
                Ok(socket) => self.slots[slot].socket = Some(socket),
                Err(error) => self.ended(slot, &error.into()),
            }
        }
    }

    fn open(&self, slot: usize) -> std::io::Result<TcpStream> {
        let socket = begin_connect(self.run.plan.target.address)?;
        let key = u32::try_from(slot).expect("clients are counted in 32 bits");
        self.poller.add(&socket, key)?;
        Ok(socket)
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

    fn heartbeat_due(&mut self, now_ns: u64) {
        while let Some(&(due_ns, slot)) = self.heartbeats.front() {
            if due_ns > now_ns {
                break;
            }
            self.heartbeats.pop_front();
            let interval_ms = self.slots[slot].client.heartbeat(&mut self.run);
            self.heartbeats.push_back((now_ns + interval_ms * MS, slot));
            self.flush(slot);
            let is_stuck = !self.slots[slot].client.is_live()
                && self.slots[slot].socket.is_some()
                && now_ns - self.slots[slot].attempt_ns > ATTEMPT_NS_MAX;
            if is_stuck {
                self.ended(slot, &Ended::TimedOut);
            }
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
        if let Some(&(due_ns, _)) = self.heartbeats.front() {
            next_ns = next_ns.min(due_ns);
        }
        if let Some(&Reverse((due_ns, _))) = self.connects.peek()
            && self.connecting < CONNECTING_MAX
        {
            next_ns = next_ns.min(due_ns);
        }
        next_ns.saturating_sub(now_ns).max(PACE_NS)
    }

    fn serve(&mut self, event: Ready) {
        let slot = usize::try_from(event.key).expect("a 32-bit key fits");
        if event.is_readable
            && let Err(ended) = self.read(slot, event.is_ending)
        {
            self.ended(slot, &ended);
            return;
        }
        self.flush(slot);
    }

    fn read(&mut self, place: usize, to_the_end: bool) -> Result<(), Ended> {
        loop {
            let Self {
                slots,
                buffer,
                run,
                part,
                ..
            } = self;
            let slot = &mut slots[place];
            let Some(mut socket) = slot.socket.as_ref() else {
                return Ok(());
            };
            match socket.read(buffer) {
                Ok(0) => return Err(Ended::Closed(None)),
                Ok(bytes) => {
                    let now_ns = part.clock.now_ns();
                    slot.client.received(&mut buffer[..bytes], now_ns, run)?;
                    if slot.client.is_live() && !slot.is_live {
                        self.went_live(place, now_ns);
                    }
                    if bytes < READ_BYTES && !to_the_end {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn went_live(&mut self, place: usize, now_ns: u64) {
        let slot = &mut self.slots[place];
        slot.is_live = true;
        slot.retry_ns = RETRY_NS_MIN;
        if std::mem::replace(&mut slot.was_live, true) {
            self.run.tally.reconnects += 1;
        } else {
            // All intervals are alike, so the queue stays sorted.
            self.heartbeats
                .push_back((now_ns + slot.client.heartbeat_ms() * MS, place));
        }
        self.connecting -= 1;
        self.last_progress_ns = now_ns;
        self.shared.live.fetch_add(1, Ordering::AcqRel);
    }

    fn flush(&mut self, slot: usize) {
        let Slot {
            client,
            socket: Some(socket),
            ..
        } = &mut self.slots[slot]
        else {
            return;
        };
        let out = client.out();
        while !out.is_empty() {
            match socket.write(out) {
                Ok(bytes) => out.advance(bytes),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.ended(slot, &error.into());
                    return;
                }
            }
        }
    }

    /// A connection is over: it is tried again later, unless that cannot help.
    fn ended(&mut self, place: usize, ended: &Ended) {
        let now_ns = self.part.clock.now_ns();
        let slot = &mut self.slots[place];
        if std::mem::replace(&mut slot.is_live, false) {
            self.shared.live.fetch_sub(1, Ordering::AcqRel);
            self.run.tally.end(ended);
        } else {
            self.connecting -= 1;
        }
        slot.client.disconnected();
        slot.socket = None;
        self.shared.note_end(ended);
        if ended.is_final() {
            self.shared.stop.store(true, Ordering::Relaxed);
        }
        let pause_ns = slot
            .client
            .take_retry_after_ms()
            .map_or(slot.retry_ns, |ms| ms * MS);
        slot.retry_ns = (slot.retry_ns * 2).min(RETRY_NS_MAX);
        self.connects.push(Reverse((now_ns + pause_ns, place)));
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
            resent: self.run.resent,
            unanswered,
            not_live,
            cpu_percent: 100.0 * cpu_s / wall_s.max(0.001),
            last_progress_ns: self.last_progress_ns,
        }
    }
}
