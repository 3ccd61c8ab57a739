//! One glommio executor per shard, each pinned to a core.
//!
//! It starts and ends shards; what they do is the pump's. More shards than cores wrap around.
//!
//! Invariants: the address is bound before any shard starts; nobody is served before all shards
//! are ready; when one shard ends in an error the others are asked to end too.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded};
use glommio::timer::Timer;
use glommio::{
    BuilderErrorKind, ExecutorJoinHandle, GlommioError, LocalExecutorBuilder, Placement,
};
use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::Socket;

use super::admission::Admission;
use super::clock::NodeClock;
use super::error::EdgeError;
use super::gathering::Gathering;
use super::http::TakeOver;
use super::listen;
use super::memory::{MemoryGate, MemoryWatch, connections_that_fit};
use super::plan::RingPlan;
use super::pump::{Pump, Services};
use super::rings::Rings;
use super::settings::EdgeSettings;
use super::sockets::{SocketLimits, Sockets};
use super::wake::{Bell, ShardWaker, Sleeper};
use crate::compression::Compression;
use crate::io::{Application, ShardId};

/// Entries of each of glommio's own rings, which only carry file I/O.
const FILE_RING_DEPTH: usize = 64;

/// How often, and how long after each, a ring is opened again for which memory was short.
const MEMORY_ATTEMPTS_MAX: u32 = 50;
const MEMORY_RETRY_AFTER: Duration = Duration::from_millis(20);

/// What a shard is made of, made on the shard's own executor.
pub struct ShardParts<A, S> {
    /// The application.
    pub application: A,
    /// What it asks for besides sockets.
    pub services: S,
    /// Takes connections that speak ordinary HTTP.
    pub take_over: TakeOver,
    /// Node time does not start before this, in milliseconds since 1970: the newest stored
    /// message.
    pub at_least_ms: u64,
}

/// Asks all shards to end; may be called from any thread, any number of times.
#[derive(Clone, Debug)]
pub struct Drain {
    asked: Arc<AtomicBool>,
    /// Shards that have no socket left. None of them ends before all are here: until then the
    /// clients of one may need the channels of another.
    parted: Arc<[AtomicBool]>,
    wakers: Arc<[ShardWaker]>,
}

impl Drain {
    /// Asks. The shards stop accepting and their applications part from their clients.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.wakers.iter().for_each(ShardWaker::wake);
    }

    /// Whether the shards are to end.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// A shard has parted from its clients, or has ended.
    pub(super) fn part(&self, shard: ShardId) {
        let before = self.parted[usize::from(shard.0)].swap(true, Ordering::Relaxed);
        if !before && self.have_all_parted() {
            self.wakers.iter().for_each(ShardWaker::wake);
        }
    }

    /// Whether no shard has a client left.
    pub(super) fn have_all_parted(&self) -> bool {
        self.parted
            .iter()
            .all(|parted| parted.load(Ordering::Relaxed))
    }
}

/// The shards of this process.
pub struct Shards {
    address: SocketAddr,
    drain: Drain,
    threads: Vec<ExecutorJoinHandle<Result<(), EdgeError>>>,
    ended: Receiver<()>,
    _memory: MemoryWatch,
}

/// What one shard's thread is given.
struct Seat {
    shard: ShardId,
    settings: EdgeSettings,
    listener: Socket,
    memory: MemoryGate,
    waker: ShardWaker,
    drain: Drain,
    ready: Sender<()>,
    go: Receiver<()>,
    _ended: Ending,
}

/// Says that a shard's thread ends, however it does.
struct Ending {
    shard: ShardId,
    drain: Drain,
    ended: Sender<()>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.drain.part(self.shard);
        let _ = self.ended.try_send(());
    }
}

impl Shards {
    /// Starts one shard per waker; the shards serve when this returns. `make` runs once on each
    /// executor and may read the shard's files before it says what the shard is.
    ///
    /// # Errors
    /// The address cannot be had, the kernel lacks something, or `make` failed.
    ///
    /// # Panics
    /// If the settings contradict each other or the number of wakers.
    pub fn start<A, S, E, M, F>(
        settings: &EdgeSettings,
        wakers: &[ShardWaker],
        make: M,
    ) -> Result<Self, EdgeError>
    where
        A: Application + 'static,
        S: Services + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
        M: Fn(ShardId, Bell) -> F + Clone + Send + 'static,
        F: Future<Output = Result<ShardParts<A, S>, E>> + 'static,
    {
        settings.check();
        assert_eq!(
            wakers.len(),
            usize::from(settings.shards),
            "one waker per shard"
        );
        raise_descriptor_limit();
        let listeners = listen::bind(settings.listen, settings.shards, settings.send_buffer_bytes)?;
        let address = listeners[0]
            .local_addr()
            .map_err(EdgeError::kernel("asking for the address"))?
            .as_socket()
            .unwrap_or(settings.listen);
        let drain = Drain {
            asked: Arc::new(AtomicBool::new(false)),
            parted: wakers.iter().map(|_| AtomicBool::new(false)).collect(),
            wakers: wakers.into(),
        };
        let (memory, memory_watch) = MemoryWatch::start(settings.memory_reserve_bytes)?;
        let (ready, all_ready) = bounded(wakers.len());
        let (ended_tx, ended) = bounded(wakers.len());
        let mut gates = Vec::new();
        let mut shards = Self {
            address,
            drain: drain.clone(),
            threads: Vec::new(),
            ended,
            _memory: memory_watch,
        };
        for ((index, listener), waker) in (0_u16..).zip(&listeners).zip(wakers) {
            let (gate, go) = bounded(1);
            gates.push(gate);
            let seat = Seat {
                shard: ShardId(index),
                settings: settings.clone(),
                listener: listener
                    .try_clone()
                    .map_err(EdgeError::kernel("duplicating a listener"))?,
                memory: memory.clone(),
                waker: waker.clone(),
                drain: drain.clone(),
                ready: ready.clone(),
                go,
                _ended: Ending {
                    shard: ShardId(index),
                    drain: drain.clone(),
                    ended: ended_tx.clone(),
                },
            };
            shards.threads.push(spawn(seat, make.clone())?);
        }
        drop((ready, ended_tx));
        // A shard that fails drops its sender, so this ends in any case.
        if all_ready.iter().take(wakers.len()).count() < wakers.len() {
            drop(gates);
            drain.ask();
            return Err(shards
                .wait()
                .err()
                .unwrap_or(EdgeError::ShardDied { shard: 0 }));
        }
        listeners.iter().try_for_each(listen::listen)?;
        for gate in gates {
            let _ = gate.send(());
        }
        Ok(shards)
    }

    /// The address that is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What asks the shards to end.
    #[must_use]
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// Waits until the shards have ended.
    ///
    /// # Errors
    /// What the first shard that failed says; the others were asked to end.
    pub fn wait(self) -> Result<(), EdgeError> {
        // The first end asks the others: a node with a missing shard must not go on serving.
        let _ = self.ended.recv();
        self.drain.ask();
        let mut result = Ok(());
        for (shard, thread) in (0_u16..).zip(self.threads) {
            let ended = thread
                .join()
                .unwrap_or_else(|error| Err(not_run(shard, error)));
            result = result.and(ended);
        }
        result
    }
}

fn spawn<A, S, E, M, F>(
    seat: Seat,
    make: M,
) -> Result<ExecutorJoinHandle<Result<(), EdgeError>>, EdgeError>
where
    A: Application + 'static,
    S: Services + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    M: Fn(ShardId, Bell) -> F + Send + 'static,
    F: Future<Output = Result<ShardParts<A, S>, E>> + 'static,
{
    let shard = seat.shard.0;
    let placement = match allowed_cores() {
        cores if cores.is_empty() => Placement::Unbound,
        cores => Placement::Fixed(cores[usize::from(shard) % cores.len()]),
    };
    LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{shard}"))
        .io_memory(io_memory_bytes(&seat.settings))
        .ring_depth(FILE_RING_DEPTH)
        .spawn(move || run(seat, make))
        .map_err(|error| not_run(shard, error))
}

/// The cores that this process may use, which need not be the first ones; empty if the kernel
/// does not say.
#[expect(
    unsafe_code,
    reason = "asking for the affinity has no safe interface here"
)]
fn allowed_cores() -> Vec<usize> {
    // SAFETY: a set is plain bits, all of which may be zero.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes at most the given size into the set, which is ours.
    let asked = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    if asked != 0 {
        return Vec::new();
    }
    let places = 0..8 * size_of_val(&set);
    places
        // SAFETY: the place is within the set.
        .filter(|core| unsafe { libc::CPU_ISSET(*core, &set) })
        .collect()
}

/// What it means that an executor gave nothing back.
fn not_run<T>(shard: u16, error: GlommioError<T>) -> EdgeError {
    match error {
        GlommioError::BuilderError(BuilderErrorKind::ThreadPanic(_)) => {
            EdgeError::ShardDied { shard }
        }
        error => EdgeError::Executor {
            shard,
            source: error.to_string().into(),
        },
    }
}

/// One shard, from its first file to its last socket.
async fn run<A, S, E, M, F>(seat: Seat, make: M) -> Result<(), EdgeError>
where
    A: Application,
    S: Services,
    E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    M: Fn(ShardId, Bell) -> F,
    F: Future<Output = Result<ShardParts<A, S>, E>>,
{
    let Seat {
        shard,
        settings,
        listener,
        memory,
        waker,
        drain,
        ready,
        go,
        _ended,
    } = seat;
    let bell = Bell::default();
    let parts = make(shard, bell.clone())
        .await
        .map_err(|source| EdgeError::Start {
            shard: shard.0,
            source: source.into(),
        })?;
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let fitting = connections_that_fit(settings.shards);
    let plan = RingPlan::new(&settings, fitting, descriptors);
    let rings = open_rings(plan, &waker).await?;
    let sleeper = Sleeper::new(waker, bell.clone())?;
    // The executor's thread may wait here: it has nothing else to do yet.
    let _ = ready.send(());
    drop(ready);
    if go.recv().is_err() {
        return Ok(());
    }
    let admission = Admission::new(plan, settings.refusals_max, memory, random_seed());
    let limits = SocketLimits {
        mode: settings.mode,
        backlog_bytes_max: settings.backlog_bytes_max,
        backlogs_bytes_max: settings.backlogs_bytes_max,
        unread_bytes_max: settings.unread_bytes_max,
        linger_ms_max: settings.linger_ms_max,
    };
    let pump = Pump {
        application: parts.application,
        services: parts.services,
        sockets: Sockets::new(rings, listener, admission, limits, parts.take_over),
        sleeper,
        bell,
        clock: NodeClock::start(parts.at_least_ms),
        shard,
        drain,
        drain_ms_max: settings.drain_ms_max,
        compression: Compression::default(),
        gathering: Gathering::new(settings.gather_us_max, settings.gather_sessions_min),
        tick_ms: settings.tick_ms,
    };
    pump.run().await
}

/// The kernel gives back the locked memory of a process that has ended only a moment later, so a
/// restart may have to wait for it.
async fn open_rings(plan: RingPlan, waker: &ShardWaker) -> Result<Rings, EdgeError> {
    for attempt in 0.. {
        let is_short = |error: &std::io::Error| error.raw_os_error() == Some(libc::ENOMEM);
        match Rings::open(plan, waker) {
            Err(EdgeError::Kernel { source, .. })
                if is_short(&source) && attempt < MEMORY_ATTEMPTS_MAX => {}
            opened => return opened,
        }
        Timer::new(MEMORY_RETRY_AFTER).await;
    }
    unreachable!("the last attempt returns")
}

/// A seed that nobody can guess.
#[expect(
    clippy::disallowed_methods,
    reason = "the edge is where randomness comes from"
)]
pub(super) fn random_seed() -> u64 {
    use rand::RngExt;
    rand::rng().random()
}

/// Memory to register for file I/O. glommio registers it with each of its three rings, and each
/// counts against RLIMIT_MEMLOCK; half of that is left to the rings themselves.
fn io_memory_bytes(settings: &EdgeSettings) -> usize {
    let limit = getrlimit(Resource::Memlock).current.unwrap_or(u64::MAX);
    let share = limit / 2 / 3 / u64::from(settings.shards);
    settings
        .io_memory_bytes
        .min(usize::try_from(share).unwrap_or(usize::MAX))
}

/// A ring's table holds no more sockets than the process may have descriptors.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the descriptor limit stays as it is");
    }
}
