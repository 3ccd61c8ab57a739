//! The sockets of one shard: what the shard wants of them, and what the kernel says about them.
//!
//! No task and no buffer belongs to a connection: an entry in a table does, and a heap allocation
//! only while something is queued for it. It calls no application; the pump carries what happened
//! there.
//!
//! Invariants: at most one send and one receive are outstanding per socket; a place is closed only
//! when no operation on it is, and reused only after that; the application hears `Closed` exactly
//! once for each `Accepted`, and nothing after it.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use socket2::Socket as Listener;

use super::admission::Admission;
use super::error::EdgeError;
use super::http::{HandOvers, TakeOver};
use super::operation::Completion;
use super::ring::SUBMISSIONS;
use super::rings::Rings;
use super::socket::{Bit, Socket, State};
use crate::config::ReceiveMode;
use crate::egress::Pushed;
use crate::io::ConnId;
use crate::spool::{Backlog, Frame, Spool};

/// Sends that go to the kernel in one call.
const SENDS_PER_SUBMIT: usize = 256;
const _: () = assert!(SENDS_PER_SUBMIT <= SUBMISSIONS as usize);
/// Sends started in one turn; their completions must fit into the ring's queue.
pub(super) const SENDS_PER_ROUND_MAX: usize = 2_048;
/// Times 100 ms to wait in vain for outstanding operations at the end.
const QUIESCE_WAITS_MAX: u32 = 50;
const QUIESCE_WAIT: Duration = Duration::from_millis(100);
/// Sockets that are given up at the end before the kernel is heard.
const QUIESCE_BATCH: usize = 1_024;

/// What happened to a socket, for the application.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Happened {
    Accepted(ConnId),
    /// The bytes lie in a receive buffer, to be given back.
    Received(ConnId, u16, usize),
    Closed(ConnId),
    Writable(ConnId),
    Blocked(ConnId),
}

/// The limits that matter here; see [`super::settings::EdgeSettings`].
#[derive(Clone, Copy, Debug)]
pub(super) struct SocketLimits {
    pub(super) mode: ReceiveMode,
    pub(super) backlog_bytes_max: usize,
    pub(super) backlogs_bytes_max: usize,
    pub(super) unread_bytes_max: Option<usize>,
    pub(super) linger_ms_max: u64,
}

/// The sockets of one shard.
pub(super) struct Sockets {
    // The rings come first: they are dropped before the memory that their operations point to.
    pub(super) rings: Rings,
    pub(super) table: Vec<Socket>,
    pub(super) listener: Option<Listener>,
    pub(super) limits: SocketLimits,
    pub(super) live: u32,
    has_deflated: bool,
    pub(super) admission: Admission,
    pub(super) due: VecDeque<ConnId>,
    pub(super) starved: Vec<ConnId>,
    pub(super) stubborn: Vec<ConnId>,
    pub(super) deadlines: VecDeque<(u64, ConnId)>,
    pub(super) happened: VecDeque<Happened>,
    pub(super) spool: Spool,
    pub(super) hand_overs: HandOvers,
}

impl Sockets {
    /// Serves the listener's connections on the rings.
    pub(super) fn new(
        rings: Rings,
        listener: Listener,
        admission: Admission,
        limits: SocketLimits,
        take_over: TakeOver,
    ) -> Self {
        Self {
            table: Vec::with_capacity(rings.places() as usize),
            rings,
            listener: Some(listener),
            limits,
            live: 0,
            has_deflated: false,
            admission,
            due: VecDeque::new(),
            starved: Vec::new(),
            stubborn: Vec::new(),
            deadlines: VecDeque::new(),
            happened: VecDeque::new(),
            spool: Spool::new(limits.backlogs_bytes_max),
            hand_overs: HandOvers::new(take_over),
        }
    }

    /// Bytes to be queued.
    pub(super) fn frame(&self, bytes: Bytes) -> Frame {
        self.spool.frame(bytes)
    }

    /// Queues a frame for a socket; one that has gone is passed over.
    pub(super) fn send(&mut self, conn: ConnId, frame: Frame) {
        let limits = self.limits;
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        if !matches!(socket.state, State::Open | State::Leaving) {
            return;
        }
        let bytes_max = socket.waiting_bytes_max(limits.backlog_bytes_max);
        match socket.egress.push(frame, bytes_max, &mut self.spool) {
            Pushed::Queued => {}
            Pushed::Overflow => return self.happened.push_back(Happened::Blocked(conn)),
            Pushed::Dropped => return,
        }
        if socket.first(Bit::Due) {
            self.due.push_back(conn);
        }
        let unread = limits
            .unread_bytes_max
            .is_some_and(|max| socket.egress.queued_bytes() > max);
        if unread && socket.state == State::Open && socket.first(Bit::Unread) {
            self.pause_receiving(conn);
        }
    }

    /// The client of this socket takes compressed messages from here on.
    pub(super) fn deflate(&mut self, conn: ConnId) {
        if let Some(socket) = socket(&mut self.table, conn) {
            self.has_deflated = true;
            socket.egress.deflate();
        }
    }

    /// Whether the client of this socket takes compressed messages.
    pub(super) fn is_deflating(&mut self, conn: ConnId) -> bool {
        self.has_deflated
            && socket(&mut self.table, conn).is_some_and(|socket| socket.egress.is_deflating())
    }

    /// Whether any client ever took compressed messages.
    pub(super) fn has_deflated(&self) -> bool {
        self.has_deflated
    }

    /// Says `Writable` once as soon as nothing is queued.
    pub(super) fn watch(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        if socket.state != State::Open {
            return;
        }
        socket.egress.watch();
        if socket.egress.take_writable() {
            self.happened.push_back(Happened::Writable(conn));
        }
    }

    /// Closes a socket once what is queued has left, or the linger time has passed.
    pub(super) fn close(&mut self, conn: ConnId, now_ms: u64) {
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        if socket.state == State::Open {
            socket.egress.close();
            self.leave(conn, now_ms);
        }
    }

    /// Hands a socket to the control plane with the bytes that the application got.
    pub(super) fn hand_over(&mut self, conn: ConnId, head: &Bytes) {
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        if socket.state == State::Open {
            socket.state = State::HandingOver;
            self.hand_overs.begin(conn.index, head.to_vec());
            self.step(conn);
        }
    }

    /// Number of sockets that have not gone.
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Whether a round would find something to do.
    pub(super) fn has_work(&mut self) -> bool {
        self.has_plans() || self.rings.has_work()
    }

    /// Whether a round would find something to do that no completion tells it to.
    pub(super) fn has_plans(&self) -> bool {
        !self.due.is_empty() || !self.starved.is_empty() || !self.happened.is_empty()
    }

    /// Whether more sends are due than one round starts.
    pub(super) fn is_behind(&self) -> bool {
        self.due.len() >= SENDS_PER_ROUND_MAX
    }

    /// Whether the kernel signals arrivals on the wake-up.
    pub(super) fn signal(&mut self, on: bool) {
        self.rings.signal(on);
    }

    /// Submits what is queued and takes completions out.
    pub(super) fn turn(
        &mut self,
        into: &mut Vec<Completion>,
        count_max: usize,
    ) -> Result<(), EdgeError> {
        self.accept_if_room();
        self.flush()?;
        self.rings.turn(into, count_max)
    }

    /// Things that happened outside a completion.
    pub(super) fn next_happened(&mut self) -> Option<Happened> {
        loop {
            let happened = self.happened.pop_front()?;
            let (Happened::Writable(conn) | Happened::Blocked(conn)) = happened else {
                unreachable!("completions are told at once");
            };
            if socket(&mut self.table, conn).is_some_and(|socket| !socket.is(Bit::Told)) {
                return Some(happened);
            }
        }
    }

    /// The bytes of [`Happened::Received`].
    pub(super) fn received(&mut self, conn: ConnId, buffer: u16, bytes: usize) -> &mut [u8] {
        self.rings[conn].buffers().filled(buffer, bytes)
    }

    /// The bytes of [`Happened::Received`] are done with.
    pub(super) fn give_back(&mut self, conn: ConnId, buffer: u16) {
        self.rings[conn].buffers().give_back(buffer);
    }

    /// After a batch of completions: the buffers are free again, so starved sockets go on. Now those
    /// whose send is still in flight wait for their peers: if too much waits, they give way.
    pub(super) fn batch_done(&mut self) {
        if self.spool.is_over() {
            self.relieve();
        }
        while let Some(conn) = self.starved.pop() {
            self.resume_receiving(conn);
        }
    }

    /// Lets the largest backlogs go until there is room for others.
    fn relieve(&mut self) {
        let backlog = |(index, socket): (u32, &Socket)| {
            let waits = socket.egress.in_flight() && socket.state < State::Failed;
            waits.then(|| Backlog {
                leaving: socket.state > State::Open,
                bytes: socket.egress.queued_bytes(),
                of: ConnId {
                    index,
                    generation: socket.generation,
                },
            })
        };
        let mut backlogs: Vec<_> = (0..).zip(&self.table).filter_map(backlog).collect();
        backlogs.sort_unstable_by(|a, b| b.cmp(a));
        let mut letting_go_bytes = 0;
        for backlog in backlogs {
            if !self.spool.is_short(letting_go_bytes) {
                break;
            }
            letting_go_bytes += self.give_way(backlog.of);
        }
        self.spool.looked();
    }

    /// Lets go what waits for a socket, so that its session ends; with the session, the socket.
    /// Returns the bytes that will follow.
    fn give_way(&mut self, conn: ConnId) -> usize {
        let Some(socket) = socket(&mut self.table, conn) else {
            return 0;
        };
        if socket.state == State::Open {
            let own_bytes = socket.egress.give_way();
            if own_bytes.is_some() {
                self.happened.push_back(Happened::Blocked(conn));
            }
            return own_bytes.unwrap_or(0);
        }
        let own_bytes = socket.egress.own_bytes();
        self.fail(conn);
        own_bytes
    }

    /// Ends sockets that linger too long, and tries again what the kernel put off.
    pub(super) fn tick(&mut self, now_ms: u64) {
        self.accept_again(now_ms);
        self.spool.look_again();
        while let Some((deadline_ms, conn)) = self.deadlines.front().copied()
            && deadline_ms <= now_ms
        {
            self.deadlines.pop_front();
            self.fail(conn);
        }
        for conn in std::mem::take(&mut self.stubborn) {
            self.step(conn);
        }
    }

    /// Starts the sends that are due, a bounded number of them.
    fn flush(&mut self) -> Result<(), EdgeError> {
        for _ in 0..SENDS_PER_ROUND_MAX {
            let Some(conn) = self.due.pop_front() else {
                break;
            };
            self.start_send(conn);
            let ring = &mut self.rings[conn];
            if ring.queued() >= SENDS_PER_SUBMIT {
                ring.enter()?;
            }
        }
        self.spool.forget();
        Ok(())
    }

    #[expect(unsafe_code, reason = "the kernel reads the queue's memory")]
    fn start_send(&mut self, conn: ConnId) {
        let Some(socket) = socket(&mut self.table, conn) else {
            return;
        };
        socket.set(Bit::Due, false);
        if !socket.egress.in_flight() {
            socket.note_send(self.limits.backlog_bytes_max);
        }
        if let Some(bytes) = socket.egress.next_send(&mut self.spool) {
            // SAFETY: the queue keeps the frame of a send in flight until `sent` or `failed`,
            // which follow only from its completion; a table that is dropped waits for it.
            unsafe { self.rings[conn].send(conn, bytes) };
        }
    }

    /// Ends every operation and waits for it, so that the kernel no longer uses our memory.
    fn quiesce(&mut self) -> bool {
        self.stop_accepting();
        self.admission.end();
        for index in 0..self.table.len() {
            let generation = self.table[index].generation;
            let place = u32::try_from(index).expect("a place has a 28-bit number");
            self.fail(ConnId {
                index: place,
                generation,
            });
            if index % QUIESCE_BATCH == 0 && self.hear_the_end().is_err() {
                return false;
            }
        }
        let mut waits = 0;
        while waits < QUIESCE_WAITS_MAX {
            let Ok(heard) = self.hear_the_end() else {
                return false;
            };
            waits += u32::from(!heard);
            let waiting = self.rings.iter_mut().find(|ring| ring.outstanding() > 0);
            match waiting.map(|ring| ring.enter_and_wait(QUIESCE_WAIT)) {
                None => return true,
                Some(Err(_)) => return false,
                Some(Ok(())) => {}
            }
        }
        false
    }

    /// Takes in all completions while sockets are given up; whether there were any.
    fn hear_the_end(&mut self) -> Result<bool, EdgeError> {
        let mut completions = Vec::new();
        self.rings.turn(&mut completions, usize::MAX)?;
        let heard = !completions.is_empty();
        for completion in completions {
            self.complete(completion, 0);
        }
        self.batch_done();
        for conn in std::mem::take(&mut self.stubborn) {
            self.step(conn);
        }
        Ok(heard)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        if !self.quiesce() {
            let is_test = cfg!(test) && !std::thread::panicking();
            assert!(!is_test, "every operation can be ended");
            tracing::error!("the kernel still uses some sockets' memory; it is kept");
            std::mem::forget(std::mem::take(&mut self.table));
            self.rings.iter_mut().for_each(|ring| ring.buffers().leak());
        }
    }
}

/// The entry that a name means, unless its tenant has gone.
pub(super) fn socket(table: &mut [Socket], conn: ConnId) -> Option<&mut Socket> {
    table
        .get_mut(conn.index as usize)
        .filter(|socket| socket.generation == conn.generation && socket.state != State::Free)
}
