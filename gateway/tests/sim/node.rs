//! One life of the node: recovery, then shards with their lanes, sockets and store.
//!
//! It owns the parts and starts them; what they say to each other is carried by `serve`.
//!
//! Invariants: nothing is served before the store has been recovered; a place of a shard's slab
//! has one tenant at a time, and its generation tells the tenants apart.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::rc::Rc;

use throng::config::Config;
use throng::egress::Joiner;
use throng::io::{ConnId, Input, Outbox, ShardId};
use throng::lane::LaneMessage;
use throng::record;
use throng::shard::{Shard, ShardStart};
use throng_protocol::{ChannelId, Nonce};
use throng_router::{Topic, Topology};
use throng_storage_engine::{
    ChannelKey, Index, Log, Query, Reader, RecentNonce, Recovered, SimDisk, StoreConfig,
    StoreError, StoreLock, recover,
};

use crate::journal::StoreTasks;
use crate::oracle::Entry;

/// The data directory.
const ROOT: &str = "/data";

/// Records read at a time when the whole log is looked at.
const PAGE: usize = 100;

/// Everything that lives as long as the process.
pub(crate) struct Node {
    pub(crate) hosts: Vec<Host>,
    pub(crate) lanes: BTreeMap<(u16, u16), Lane>,
    pub(crate) topology: Topology,
    /// Node time does not start before this.
    pub(crate) at_least_ms: u64,
    pub(crate) draining: bool,
    pub(crate) closing: bool,
    _lock: StoreLock,
}

/// What is on its way from one shard to another.
#[derive(Default)]
pub(crate) struct Lane {
    pub(crate) queue: VecDeque<LaneMessage>,
    /// A delivery is due.
    pub(crate) due: bool,
    /// Bytes of live frames in the queue.
    pub(crate) live_bytes: u64,
}

/// One shard and what an edge holds for it.
pub(crate) struct Host {
    pub(crate) shard: Shard,
    pub(crate) outbox: Outbox,
    pub(crate) joiner: Joiner,
    pub(crate) store: StoreTasks,
    /// Inputs that came of outputs.
    pub(crate) inputs: VecDeque<Input<'static>>,
    /// Outputs wait in the outbox for the end of a batch.
    pub(crate) flush_due: bool,
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Place {
    generation: u32,
    link: Option<usize>,
}

/// What was found on the disk.
pub(crate) struct Found {
    pub(crate) node: Node,
    pub(crate) log: BTreeMap<ChannelId, Vec<Entry>>,
    pub(crate) torn: usize,
}

/// Recovers the store and makes `shards` shards.
pub(crate) async fn start(
    disk: SimDisk,
    config: Config,
    store: StoreConfig,
    shards: u16,
    seed: u64,
    wall_ms: u64,
) -> Result<Found, StoreError> {
    let root = Path::new(ROOT);
    let recovered = recover(&disk, root, &store).await?;
    let log = read_all(&disk, &recovered, store).await?;
    let torn = recovered.report.torn.len();
    let Recovered {
        index,
        newest_ms,
        segments,
        recent,
        lock,
        ..
    } = recovered;
    let topology = Topology::single(shards);
    let owner = |channel: ChannelKey| usize::from(topology.shard_of(&Topic::Channel(channel.0)));
    let indexes = index.split(usize::from(shards), owner);
    let mut recents: Vec<Vec<RecentNonce>> = (0..shards).map(|_| Vec::new()).collect();
    for nonce in recent {
        recents[owner(nonce.channel)].push(nonce);
    }
    let at_least_ms = newest_ms + 1;
    let mut hosts = Vec::new();
    for ((id, index), recent) in (0..shards).zip(indexes).zip(recents) {
        let log = Log::open(
            disk.clone(),
            root,
            store,
            id,
            shards,
            &segments,
            at_least_ms,
        )
        .await?;
        let reader = Reader::new(disk.clone(), root, log.segments(), store);
        let seed = seed ^ u64::from(id) << 32;
        let start = ShardStart {
            id: ShardId(id),
            shards,
            config: config.clone(),
            seed,
            now_ms: at_least_ms.max(wall_ms),
            index,
            recent,
        };
        hosts.push(Host::new(Shard::new(start), StoreTasks::new(log, reader)));
    }
    let node = Node {
        hosts,
        lanes: BTreeMap::new(),
        topology,
        at_least_ms,
        draining: false,
        closing: false,
        _lock: lock,
    };
    Ok(Found { node, log, torn })
}

/// Recovers the store and reads everything in it.
pub(crate) async fn read_log(
    disk: SimDisk,
    store: StoreConfig,
) -> Result<BTreeMap<ChannelId, Vec<Entry>>, StoreError> {
    let recovered = recover(&disk, Path::new(ROOT), &store).await?;
    read_all(&disk, &recovered, store).await
}

async fn read_all(
    disk: &SimDisk,
    recovered: &Recovered,
    store: StoreConfig,
) -> Result<BTreeMap<ChannelId, Vec<Entry>>, StoreError> {
    let segments = Rc::new(RefCell::new(recovered.segments.clone()));
    let reader = Reader::new(disk.clone(), Path::new(ROOT), segments, store);
    let mut channels: Vec<_> = recovered.index.channels().collect();
    channels.sort_by_key(|(channel, _)| *channel);
    let mut log = BTreeMap::new();
    for (channel, head) in channels {
        let entries = read_channel(&reader, &recovered.index, channel, head.seq).await?;
        log.insert(ChannelId::from_bytes(channel.0), entries);
    }
    Ok(log)
}

async fn read_channel(
    reader: &Reader<SimDisk>,
    index: &Index,
    channel: ChannelKey,
    head: u64,
) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    while (entries.len() as u64) < head {
        let after = Query::AfterSeq(entries.len() as u64);
        for found in reader.read(&index.page(channel, after, PAGE)).await? {
            assert_eq!(found.seq, entries.len() as u64 + 1, "the log is dense");
            let message = record::message(&found).expect("what the shard wrote can be read");
            entries.push(Entry {
                id: message.id,
                author: message.author.id,
                content: Some(message.content),
                nonce: Some(Nonce::from_bytes(found.nonce.0)),
            });
        }
    }
    Ok(entries)
}

impl Host {
    fn new(shard: Shard, store: StoreTasks) -> Self {
        Self {
            shard,
            outbox: Outbox::new(),
            joiner: Joiner::new(),
            store,
            inputs: VecDeque::new(),
            flush_due: false,
            places: Vec::new(),
            free: Vec::new(),
        }
    }

    /// Gives a new connection its place.
    pub(crate) fn admit(&mut self, link: usize) -> ConnId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place::default());
            u32::try_from(self.places.len() - 1).expect("few connections")
        });
        let place = &mut self.places[index as usize];
        place.generation += 1;
        place.link = Some(link);
        ConnId {
            index,
            generation: place.generation,
        }
    }

    /// The connection, unless it has gone.
    pub(crate) fn link(&self, conn: ConnId) -> Option<usize> {
        let place = self.places.get(conn.index as usize)?;
        place.link.filter(|_| place.generation == conn.generation)
    }

    /// The place is free for the next one.
    pub(crate) fn release(&mut self, conn: ConnId) {
        assert!(self.link(conn).is_some(), "a place is given back once");
        self.places[conn.index as usize].link = None;
        self.free.push(conn.index);
    }
}
