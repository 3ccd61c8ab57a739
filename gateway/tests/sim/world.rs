//! The whole simulated world of one run: a node, its disk and control plane, a network and
//! clients, on one virtual time.
//!
//! It never reads a clock, and nothing in it runs beside anything else: one event after the
//! other, each at its time, all of it from one seed.
//!
//! Invariants: time never goes back; what belonged to an earlier life of the node is never given
//! to a later one; a violation of what the oracle knows ends the run with a panic.

use std::collections::BTreeMap;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use throng::compression::Compression;
use throng::io::Input;
use throng_control::{FromShard, ShardStatus, ToShard};
use throng_storage_engine::{SimDisk, StoreError};

use crate::client::{Client, Parser};
use crate::control::ControlPlane;
use crate::counts::Counts;
use crate::history::Browsed;
use crate::journal::Task;
use crate::link::Link;
use crate::node::{Found, Node};
use crate::oracle::{Oracle, Violation};
use crate::plan::{Fault, Plan};
use crate::queue::Queue;
use crate::trace::Trace;

/// How often a shard hears that time has passed.
const TICK_US: u64 = 100_000;

/// How often somebody reads history.
pub(crate) const BROWSE_US: u64 = 400_000;

/// What will happen.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client looks for something to do; its older plans are void.
    Client {
        client: usize,
        turn: u64,
    },
    /// A connection reaches the shard that it was made to.
    Accept {
        link: usize,
    },
    ToServer {
        link: usize,
        bytes: Vec<u8>,
    },
    ToClient {
        link: usize,
        bytes: Bytes,
    },
    /// A slow client takes a little.
    Look {
        link: usize,
    },
    ServerSeesEnd {
        link: usize,
    },
    ClientSeesEnd {
        link: usize,
    },
    /// A socket has had long enough for its last bytes.
    Linger {
        link: usize,
    },
    Lane {
        epoch: u32,
        from: u16,
        to: u16,
    },
    Tick {
        epoch: u32,
        shard: u16,
    },
    Flush {
        epoch: u32,
        shard: u16,
    },
    /// A shard goes on with what it has to do.
    Again {
        epoch: u32,
        shard: u16,
    },
    Seal {
        epoch: u32,
        shard: u16,
        appends: u64,
    },
    AtControl {
        epoch: u32,
        shard: u16,
        message: FromShard,
    },
    FromControl {
        epoch: u32,
        shard: u16,
        message: ToShard,
    },
    Start {
        epoch: u32,
    },
    Fault(Fault),
    SpaceReturns,
    ControlReturns,
    /// A look whether the drain is over.
    Drained {
        epoch: u32,
    },
    /// Somebody reads a page of history.
    Browse,
}

/// Whether the process runs.
pub(crate) enum Power {
    Down,
    /// The store is being recovered.
    Starting(Task<Result<Found, StoreError>>),
    Up(Box<Node>),
}

/// One run.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) random: StdRng,
    pub(crate) now_us: u64,
    queue: Queue<Event>,
    pub(crate) disk: SimDisk,
    pub(crate) power: Power,
    /// Counts the lives of the process.
    pub(crate) epoch: u32,
    /// How far the wall clock is off, in milliseconds: it steps at each start.
    pub(crate) clock_step_ms: i64,
    /// How long the machine was off in all, in milliseconds, beside the time that everybody lived.
    pub(crate) off_ms: u64,
    last_ms: u64,
    pub(crate) shards: u16,
    pub(crate) links: Vec<Link>,
    /// Connections that were given something since they were last pumped.
    pub(crate) touched: Vec<usize>,
    pub(crate) store_due: bool,
    pub(crate) control: ControlPlane,
    pub(crate) clients: Vec<Client>,
    pub(crate) parser: Parser,
    /// Of all shards: nothing of one message helps the next.
    pub(crate) compression: Compression,
    pub(crate) oracle: Oracle,
    /// The active time is over: nothing new is begun, everything is brought to its end.
    pub(crate) winding: bool,
    pub(crate) next_ticket: u64,
    /// Pages of history that were asked for.
    pub(crate) browsing: BTreeMap<u64, Browsed>,
    /// Pages that were compared with the whole truth.
    pub(crate) exact_pages: u64,
    pub(crate) statuses: BTreeMap<u64, ShardStatus>,
    /// Live frames on their way to other shards or to sockets, so far.
    pub(crate) published: u64,
    pub(crate) trace: Trace,
    pub(crate) counts: Counts,
}

impl World {
    /// A world before its first event. `aloud` prints the trace as it grows.
    pub(crate) fn new(plan: Plan, aloud: bool) -> Self {
        let mut random = StdRng::seed_from_u64(plan.seed);
        let control = ControlPlane::new(&plan, &mut random);
        let mut clients: Vec<Client> = (0..plan.clients)
            .map(|n| Client::new(n, &plan, &mut random))
            .collect();
        for client in &mut clients {
            client.mine.extend(control.channels_of(client.account));
        }
        let mut world = Self {
            disk: SimDisk::new(plan.seed, plan.disk),
            random,
            now_us: 0,
            queue: Queue::new(),
            power: Power::Down,
            epoch: 0,
            off_ms: 0,
            clock_step_ms: 0,
            last_ms: 0,
            shards: 0,
            links: Vec::new(),
            touched: Vec::new(),
            store_due: false,
            control,
            clients,
            parser: Parser::default(),
            compression: Compression::default(),
            oracle: Oracle::default(),
            winding: false,
            next_ticket: 0,
            browsing: BTreeMap::new(),
            exact_pages: 0,
            statuses: BTreeMap::new(),
            published: 0,
            trace: Trace::new(aloud),
            counts: Counts::default(),
            plan,
        };
        for user in world.control.users() {
            world.oracle.introduced(user.id, &user.username);
        }
        world.put(0, Event::Start { epoch: 0 });
        for (at_us, fault) in world.plan.faults.clone() {
            world.put(at_us, Event::Fault(fault));
        }
        world.put(BROWSE_US, Event::Browse);
        for client in 0..world.clients.len() {
            let after_us = world.clients[client].arrives_us;
            world.client_turn(client, after_us);
        }
        world
    }

    /// An event so many microseconds from now.
    pub(crate) fn put(&mut self, after_us: u64, event: Event) {
        self.queue.put(self.now_us + after_us, event);
    }

    /// Lets everything happen up to a time.
    pub(crate) fn run_until(&mut self, until_us: u64) {
        while self.next_us().is_some_and(|next_us| next_us <= until_us) {
            self.step();
        }
        self.now_us = self.now_us.max(until_us);
    }

    fn next_us(&self) -> Option<u64> {
        let disk_us = self.disk.next_due_us();
        self.queue.next_us().into_iter().chain(disk_us).min()
    }

    /// The next thing happens: something that the disk does, or an event.
    pub(crate) fn step(&mut self) {
        let event_us = self.queue.next_us().unwrap_or(u64::MAX);
        if let Some(disk_us) = self
            .disk
            .next_due_us()
            .filter(|disk_us| *disk_us <= event_us)
        {
            self.now_us = self.now_us.max(disk_us);
            self.disk.advance_to(self.now_us);
            self.store_due = true;
        } else if let Some((at_us, event)) = self.queue.take() {
            self.now_us = self.now_us.max(at_us);
            self.disk.advance_to(self.now_us);
            self.happen(event);
        }
        self.poll_start();
        self.poll_store();
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Client { client, turn } => self.client_acts(client, turn),
            Event::Accept { link } => self.accept(link),
            Event::ToServer { link, bytes } => self.arrives_at_server(link, bytes),
            Event::ToClient { link, bytes } => self.arrives_at_client(link, &bytes),
            Event::Look { link } => self.look(link),
            Event::ServerSeesEnd { link } => self.server_end(link),
            Event::ClientSeesEnd { link } => self.client_end(link),
            Event::Linger { link } => self.linger_over(link),
            Event::Start { epoch } if epoch == self.epoch => self.start_node(),
            Event::Fault(fault) => self.fault(fault),
            Event::SpaceReturns => self.disk.set_quota_bytes(None),
            Event::ControlReturns => self.control.away = false,
            Event::Browse => self.browse(),
            Event::Lane { epoch, .. }
            | Event::Tick { epoch, .. }
            | Event::Flush { epoch, .. }
            | Event::Again { epoch, .. }
            | Event::Seal { epoch, .. }
            | Event::AtControl { epoch, .. }
            | Event::FromControl { epoch, .. }
            | Event::Drained { epoch }
            | Event::Start { epoch } => {
                if epoch == self.epoch {
                    self.happen_at_node(event);
                }
            }
        }
    }

    fn happen_at_node(&mut self, event: Event) {
        match event {
            Event::Lane { from, to, .. } => self.lane_delivers(from, to),
            Event::Tick { epoch, shard } => {
                self.put(TICK_US, Event::Tick { epoch, shard });
                if let Some(node) = self.node() {
                    node.hosts[usize::from(shard)].spool.look_again();
                }
                self.give(shard, Input::Tick);
            }
            Event::Flush { shard, .. } => self.flush(shard),
            Event::Again { shard, .. } => self.give(shard, Input::Again),
            Event::Seal { shard, appends, .. } => {
                if let Some(node) = self.node() {
                    node.hosts[usize::from(shard)].store.seal_if_idle(appends);
                    self.store_due = true;
                }
            }
            Event::AtControl { shard, message, .. } => self.at_control(shard, message),
            Event::FromControl { shard, message, .. } => {
                if self.node().is_some() {
                    self.give(shard, Input::Control(message));
                }
            }
            Event::Drained { .. } => self.look_whether_drained(),
            other => unreachable!("{other:?} is not the node's"),
        }
    }

    /// Node time: the wall clock, never going back, never before the newest stored message.
    pub(crate) fn node_ms(&mut self) -> u64 {
        let wall_ms = self.wall_ms();
        let at_least_ms = self.node().map_or(0, |node| node.at_least_ms);
        self.last_ms = self.last_ms.max(wall_ms).max(at_least_ms);
        self.last_ms
    }

    /// What the machine's clock shows.
    pub(crate) fn wall_ms(&self) -> u64 {
        let true_ms = self.plan.base_ms + self.off_ms + self.now_us / 1_000;
        true_ms.saturating_add_signed(self.clock_step_ms)
    }

    /// The node has a new clock.
    pub(crate) fn forget_time(&mut self) {
        self.last_ms = 0;
    }

    /// A number below `limit`.
    pub(crate) fn random_below(&mut self, limit: u64) -> u64 {
        self.random.random_range(0..limit)
    }

    /// Ends the run if something cannot be.
    pub(crate) fn check(&self, verdict: Result<(), Violation>) {
        if let Err(violation) = verdict {
            panic!("{violation}");
        }
    }
}
