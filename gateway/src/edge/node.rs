//! A node: recovery, then the control plane and the shards, then their end.
//!
//! It wires the parts together and decides nothing about chat.
//!
//! Invariants: nobody is served before what is stored has been recovered; the store stays locked
//! until the last shard has closed its log; an orderly end returns `Ok`.

use std::cell::RefCell;
use std::fs::DirBuilder;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use crossbeam::channel::{Receiver, bounded};
use glommio::{LocalExecutorBuilder, Placement};
use thiserror::Error;
use throng_control::{
    Control, ControlConfig, ControlError, ControlHandle, FromShard, HandedOver, Inlet, OwnerOf,
    ShardLink, ToShard,
};
use throng_protocol::{ChannelId, Rev, Seq};
use throng_router::{Topic, Topology};
use throng_storage_engine::{
    Buckets, GlommioDisk, Index, Log, LogPlace, MaintenanceConfig, Reader, RecentNonce, Recovered,
    Retention, SegmentTable, StoreConfig, StoreError, View, recover,
};

use super::clock::NodeClock;
use super::error::EdgeError;
use super::executor::{ShardParts, Shards, random_seed};
use super::http::TakeOver;
use super::inbox::Inbox;
use super::journal::Journal;
use super::lane::{Lanes, connect};
use super::maintenance;
use super::memory::total_bytes;
use super::reports::{Link, Mapped};
use super::services::{NodeServices, ToControl, page_queue};
use super::settings::EdgeSettings;
use super::signal::on_terminate;
use super::wake::{Bell, ShardWaker};
use crate::config::{Config, ConfigError, Durability};
use crate::heads::Heads;
use crate::io::ShardId;
use crate::lane::LaneMessage;
use crate::shard::{Shard, ShardStart};

/// Messages of the control plane that wait for one shard beside the answers to its questions.
const CONTROL_QUEUE_EXTRA: usize = 1_024;

/// Time between a drain's end and the end of sockets that do not take their last bytes.
const LINGER_MS: u64 = 5_000;

/// Why a node did not start, or ended badly.
#[derive(Debug, Error)]
pub enum NodeError {
    /// A setting cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address to listen on cannot be read.
    #[error("listen is {listen:?}, but an address and port are needed, such as 127.0.0.1:8080")]
    Address {
        /// What was set.
        listen: String,
    },
    /// The data directory cannot be made.
    #[error("cannot make the data directory {}: {source}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The message store cannot be opened.
    #[error("the message store in {} cannot be opened: {source}", path.display())]
    Store {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// The control plane did not start.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The shards did not start, or one ended badly.
    #[error(transparent)]
    Edge(#[from] EdgeError),
}

/// What one shard takes over from recovery.
struct ShardSeed {
    index: Index,
    recent: Vec<RecentNonce>,
    segments: SegmentTable,
    buckets: Buckets<Mapped>,
    link: Link,
    at_least_ms: u64,
    lanes: Lanes<LaneMessage>,
    from_control: Receiver<ToShard>,
}

/// What all shards are made from.
#[derive(Clone)]
struct Maker {
    config: Config,
    shards: u16,
    seeds: Arc<Mutex<Vec<Option<ShardSeed>>>>,
    asks: Inlet<(u16, FromShard)>,
    connections: Inlet<HandedOver>,
}

/// Serves until SIGTERM or SIGINT; `ready` hears the address once clients may connect.
///
/// # Errors
/// What kept the node from starting, or ended it.
pub fn serve(config: &Config, ready: impl FnOnce(SocketAddr)) -> Result<(), NodeError> {
    config.check()?;
    let listen = address(&config.listen)?;
    let (asked_to_end, end) = bounded::<()>(1);
    on_terminate(move || {
        let _ = asked_to_end.try_send(()); // Full: it was asked before.
    })?;

    make_data_dir(&config.data)?;
    let recovered = recover_store(config)?;
    let _lock = recovered.lock;
    let shards = shard_count(config);
    let topology = Topology::single(shards);
    let wakers: Vec<ShardWaker> = (0..shards)
        .map(|_| ShardWaker::new())
        .collect::<Result<_, _>>()?;
    let at_least_ms = recovered.newest_ms + 1;
    let started = start_maintenance(config, &recovered.segments, at_least_ms, &wakers)?;

    let (links, from_control) = links(config, &wakers);
    let owner_of = topology.clone();
    let owner: OwnerOf =
        Arc::new(move |channel| owner_of.shard_of(&Topic::Channel(*channel.as_bytes())));
    let control = Control::start(control_config(config), links, owner)?;

    let parts = deal(recovered.index, recovered.recent, shards, &topology)
        .into_iter()
        .zip(connect(&wakers))
        .zip(from_control)
        .zip(started.links);
    let seeds = parts.map(|((((index, recent), lanes), from_control), link)| {
        Some(ShardSeed {
            index,
            recent,
            segments: recovered.segments.clone(),
            buckets: started.buckets.clone(),
            link,
            at_least_ms,
            lanes,
            from_control,
        })
    });
    let maker = Maker {
        config: config.clone(),
        shards,
        seeds: Arc::new(Mutex::new(seeds.collect())),
        asks: control.asks.clone(),
        connections: control.connections.clone(),
    };
    let settings = edge_settings(config, listen, shards);
    let running = Shards::start(&settings, &wakers, move |shard, bell| {
        maker.clone().make(shard, bell)
    });
    let running = match running {
        Ok(running) => running,
        Err(error) => {
            control.shutdown();
            return Err(error.into());
        }
    };
    ready(running.address());
    let result = run(running, control, &end);
    if result.is_ok() {
        started.running.wait();
    }
    result
}

fn start_maintenance(
    config: &Config,
    segments: &SegmentTable,
    at_least_ms: u64,
    wakers: &[ShardWaker],
) -> Result<maintenance::Started, NodeError> {
    let started = maintenance::start(maintenance::Start {
        root: store_dir(&config.data),
        store: store_config(config),
        config: maintenance_config(config),
        segments: segments.clone(),
        at_least_ms,
        wakers: wakers.to_vec(),
    })?;
    let started = started.map_err(|source| NodeError::Store {
        path: store_dir(&config.data),
        source,
    })?;
    tracing::info!(
        buckets = started.buckets.count(),
        index_bytes = started.buckets.index_bytes(),
        "sealed days opened"
    );
    Ok(started)
}

/// Each shard's channels and nonces.
fn deal(
    index: Index,
    nonces: Vec<RecentNonce>,
    shards: u16,
    topology: &Topology,
) -> Vec<(Index, Vec<RecentNonce>)> {
    let owner = |channel: [u8; 16]| usize::from(topology.shard_of(&Topic::Channel(channel)));
    let indexes = index.split(shards.into(), |channel| owner(channel.0));
    let mut parts: Vec<_> = indexes
        .into_iter()
        .map(|index| (index, Vec::new()))
        .collect();
    for nonce in nonces {
        parts[owner(nonce.channel.0)].1.push(nonce);
    }
    parts
}

/// From the first client to the last.
fn run(running: Shards, control: ControlHandle, end: &Receiver<()>) -> Result<(), NodeError> {
    let drain = running.drain();
    let (running_ended, ended) = bounded::<()>(0);
    let result = std::thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let result = running.wait();
            drop(running_ended);
            result
        });
        crossbeam::select! {
            recv(end) -> _ => tracing::info!("asked to end: draining"),
            recv(ended) -> _ => {}
        }
        drain.ask();
        control.stop_serving(); // Requests under way still find their shards.
        waiter
            .join()
            .unwrap_or(Err(EdgeError::ShardDied { shard: 0 }))
    });
    // Only now: what clients began before the drain may still ask who they are.
    control.shutdown();
    result.map_err(NodeError::from)
}

impl Maker {
    /// Makes one shard, on its own executor.
    async fn make(
        self,
        id: ShardId,
        bell: Bell,
    ) -> Result<ShardParts<Shard, NodeServices>, StoreError> {
        let seed = {
            let mut seeds = self
                .seeds
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            seeds[usize::from(id.0)]
                .take()
                .expect("each shard is made once")
        };
        let at_least_ms = seed.at_least_ms;
        let store = store_config(&self.config);
        let root = store_dir(&self.config.data);
        let disk = GlommioDisk::at(&root).await?;
        let heads = heads(&seed.index);
        let index = Rc::new(RefCell::new(seed.index));
        let place = LogPlace {
            shard: id.0,
            shards: self.shards,
            sealed_through: seed.buckets.sealed_through,
        };
        let log = Log::open(
            disk.clone(),
            &root,
            store,
            place,
            &seed.segments,
            Rc::clone(&index),
            at_least_ms,
        )
        .await?;
        let reader = Reader::new(disk, &root, log.live(), View::of(seed.buckets), store);
        let inbox = Inbox::new(bell);
        let link = Rc::new(RefCell::new(seed.link));
        let services = NodeServices {
            shard: id,
            inbox: inbox.clone(),
            journal: Journal::start(log, id.0, inbox, Rc::clone(&link)),
            reader: Rc::new(reader),
            pages: page_queue(),
            index,
            link,
            moving: None,
            lanes: seed.lanes,
            from_control: seed.from_control,
            to_control: ToControl::new(self.asks),
            control_first: false,
        };
        let application = Shard::new(ShardStart {
            id,
            shards: self.shards,
            config: self.config,
            seed: random_seed(),
            now_ms: NodeClock::start(at_least_ms).now_ms(),
            heads,
            recent: seed.recent,
        });
        let take_over = take_over(self.connections);
        Ok(ShardParts {
            application,
            services,
            take_over,
            at_least_ms,
        })
    }
}

/// The last places of a shard's channels.
fn heads(index: &Index) -> Heads {
    let heads = index.heads().map(|(channel, head)| {
        let channel = ChannelId::from_bytes(channel.0);
        (channel, Seq(head.seq), Rev(head.rev))
    });
    heads.collect()
}

/// Ordinary HTTP goes to the control plane; what it has no room for is closed.
fn take_over(connections: Inlet<HandedOver>) -> TakeOver {
    Box::new(move |fd, head| {
        if connections.try_send(HandedOver { fd, head }).is_err() {
            tracing::warn!("too many HTTP connections wait: one was closed");
        }
        connections.wake();
    })
}

type Links = (Vec<ShardLink>, Vec<Receiver<ToShard>>);

fn links(config: &Config, wakers: &[ShardWaker]) -> Links {
    let link = |waker: &ShardWaker| {
        let (to_shard, from_control) = bounded(config.limits.asks_max + CONTROL_QUEUE_EXTRA);
        let waker = waker.clone();
        (
            ShardLink {
                to_shard,
                wake: Arc::new(move || waker.wake()),
            },
            from_control,
        )
    };
    wakers.iter().map(link).unzip()
}

fn address(listen: &str) -> Result<SocketAddr, NodeError> {
    let address = listen
        .to_socket_addrs()
        .ok()
        .and_then(|mut found| found.next());
    address.ok_or_else(|| NodeError::Address {
        listen: listen.to_owned(),
    })
}

/// As many shards as configured, or one per core.
fn shard_count(config: &Config) -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    match config.shards {
        0 => u16::try_from(cores).unwrap_or(u16::MAX).min(256),
        shards => shards,
    }
}

/// What lies there is its owner's only: messages, accounts, the key that signs tokens.
fn make_data_dir(path: &Path) -> Result<(), NodeError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| NodeError::Data {
        path: path.to_owned(),
        source,
    })
}

fn recover_store(config: &Config) -> Result<Recovered, NodeError> {
    let (root, store) = (store_dir(&config.data), store_config(config));
    let path = root.clone();
    let executor = |error: String| EdgeError::Executor {
        shard: 0,
        source: error.into(),
    };
    let recovery = LocalExecutorBuilder::new(Placement::Unbound)
        .name("recovery")
        .io_memory(512 << 10)
        .spawn(move || async move {
            let disk = GlommioDisk::at(&root).await?;
            recover(&disk, &root, &store).await
        })
        .map_err(|error| executor(error.to_string()))?;
    let recovered = recovery
        .join()
        .map_err(|error| executor(error.to_string()))?;
    let recovered = recovered.map_err(|source| NodeError::Store { path, source })?;
    let report = &recovered.report;
    tracing::info!(
        segments = report.segments,
        records = report.records,
        "messages recovered"
    );
    for tail in &report.torn {
        tracing::warn!(path = %tail.path.display(), end = tail.end, "a torn tail was cleared");
    }
    Ok(recovered)
}

fn store_dir(data: &Path) -> PathBuf {
    data.to_owned()
}

fn store_config(config: &Config) -> StoreConfig {
    let limits = &config.limits;
    let bytes = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    StoreConfig {
        segment_bytes: config.store.segment_bytes,
        commit_bytes_max: bytes(limits.commit_bytes_max + (64 << 10)),
        record_bytes_max: bytes(limits.content_chars_max * 4 + 1_024),
        durability: match config.durability {
            Durability::Sync => throng_storage_engine::Durability::Sync,
            Durability::Interval => throng_storage_engine::Durability::Interval {
                sync_ms_max: config.store.sync_interval_ms,
            },
            Durability::Off => throng_storage_engine::Durability::Off,
        },
        cache_bytes: config.store.cache_bytes,
        recent_bytes: config.store.recent_bytes,
        ..StoreConfig::default()
    }
}

fn maintenance_config(config: &Config) -> MaintenanceConfig {
    let store = &config.store;
    let limit = |number: u64| (number > 0).then_some(number);
    let standard = MaintenanceConfig::default();
    assert!(
        standard.grace_ms >= StoreConfig::default().recent_ms,
        "what is sealed has no nonces, so it must be older than they are kept"
    );
    MaintenanceConfig {
        merge_months: store.merge_months,
        retention: Retention {
            days_max: (store.retention_days > 0).then_some(store.retention_days),
            bytes_max: limit(store.retention_bytes),
            ..Retention::default()
        },
        ..standard
    }
}

fn control_config(config: &Config) -> ControlConfig {
    let rate = |rate: crate::limits::Rate| throng_control::Rate::new(rate.count, rate.window_s);
    let limits = &config.limits;
    let mut control = ControlConfig::new(config.data.clone());
    control.token_ttl_s = u64::from(config.token_days) * 86_400;
    control.http_connections_max = limits.http_connections_max;
    control.limits.register = rate(limits.register);
    control.limits.channel_create = rate(limits.channel_create);
    control.limits.guilds_per_user = limits.guilds_per_user;
    control.limits.channels_per_guild = limits.channels_per_guild;
    control
}

fn edge_settings(config: &Config, listen: SocketAddr, shards: u16) -> EdgeSettings {
    let limits = &config.limits;
    EdgeSettings {
        mode: config.sockets.mode,
        connections_max: config.connections_max,
        memory_reserve_bytes: config.memory_reserve_bytes,
        ring_places: config.sockets.ring_places,
        gather_us_max: config.sockets.gather_us_max,
        backlog_bytes_max: config.limits.backlog_bytes_max,
        backlogs_bytes_max: limits
            .backlogs_part(shards, total_bytes())
            .max(limits.backlog_bytes_max),
        drain_ms_max: u64::from(config.drain_s) * 1_000 + LINGER_MS,
        linger_ms_max: LINGER_MS,
        ..EdgeSettings::new(listen, shards)
    }
}
