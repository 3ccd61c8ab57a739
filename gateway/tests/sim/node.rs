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
use throng::heads::Heads;
use throng::io::{ConnId, Input, Outbox, ShardId};
use throng::lane::LaneMessage;
use throng::record;
use throng::shard::{Shard, ShardStart};
use throng::spool::Spool;
use throng_protocol::{ChannelId, Nonce, Rev, Seq};
use throng_router::{Topic, Topology};
use throng_storage_engine::{
    ChannelKey, Index, Live, Log, LogPlace, Maintenance, MaintenanceConfig, PageQuery, Query,
    Reader, Recent, RecentNonce, Recovered, SegmentTable, SimDisk, StoreConfig, StoreError,
    StoreLock, View, recover,
};

use crate::journal::StoreTasks;
use crate::keeper::Keeper;
use crate::oracle::Entry;

/// The data directory.
const ROOT: &str = "/data";

/// How long after its end a day is sealed, in milliseconds: what is sealed has no nonces any more,
/// so it is as long as nonces are kept.
const GRACE_MS: u64 = 5 * 60 * 1_000;

/// Records read at a time when the whole log is looked at.
const PAGE: usize = 100;

/// What the box has, for limits that are parts of it.
const MEMORY_BYTES: usize = 16 << 30;

/// Everything that lives as long as the process.
pub(crate) struct Node {
    pub(crate) hosts: Vec<Host>,
    pub(crate) lanes: BTreeMap<(u16, u16), Lane>,
    pub(crate) topology: Topology,
    pub(crate) keeper: Keeper,
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
    pub(crate) spool: Spool,
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
    let torn = recovered.report.torn.len();
    let at_least_ms = recovered.newest_ms + 1;
    let segments = recovered.segments.clone();
    let maintenance = open_maintenance(&disk, store, shards, &segments).await?;
    let Recovered {
        index,
        recent,
        lock,
        ..
    } = recovered;
    let (log, index) = read_all(&disk, index, &maintenance, &segments, store).await?;
    let topology = Topology::single(shards);
    let owner = |channel: ChannelKey| usize::from(topology.shard_of(&Topic::Channel(channel.0)));
    let indexes = index.split(usize::from(shards), owner);
    let mut recents: Vec<Vec<RecentNonce>> = (0..shards).map(|_| Vec::new()).collect();
    for nonce in recent {
        recents[owner(nonce.channel)].push(nonce);
    }
    let mut hosts = Vec::new();
    for ((id, index), recent) in (0..shards).zip(indexes).zip(recents) {
        let buckets = maintenance.buckets();
        let place = LogPlace {
            shard: id,
            shards,
            sealed_through: buckets.sealed_through,
        };
        let heads = heads(&index);
        let index = Rc::new(RefCell::new(index));
        let opened = Log::open(
            disk.clone(),
            root,
            store,
            place,
            &segments,
            index,
            at_least_ms,
        );
        let log = opened.await?;
        let reader = Reader::new(disk.clone(), root, log.live(), View::of(buckets), store);
        let seed = seed ^ u64::from(id) << 32;
        let start = ShardStart {
            id: ShardId(id),
            shards,
            config: config.clone(),
            seed,
            now_ms: at_least_ms.max(wall_ms),
            heads,
            recent,
        };
        hosts.push(Host::new(
            Shard::new(start),
            config.limits.backlogs_part(shards, MEMORY_BYTES),
            StoreTasks::new(log, reader),
        ));
    }
    let node = Node {
        hosts,
        lanes: BTreeMap::new(),
        topology,
        keeper: Keeper::new(maintenance),
        at_least_ms,
        draining: false,
        closing: false,
        _lock: lock,
    };
    Ok(Found { node, log, torn })
}

async fn open_maintenance(
    disk: &SimDisk,
    store: StoreConfig,
    shards: u16,
    segments: &SegmentTable,
) -> Result<Maintenance<SimDisk>, StoreError> {
    let config = MaintenanceConfig {
        grace_ms: GRACE_MS,
        ..MaintenanceConfig::default()
    };
    Maintenance::open(
        disk.clone(),
        Path::new(ROOT),
        store,
        config,
        shards,
        segments,
    )
    .await
}

fn heads(index: &Index) -> Heads {
    let heads = index.heads().map(|(channel, head)| {
        let channel = ChannelId::from_bytes(channel.0);
        (channel, Seq(head.seq), Rev(head.rev))
    });
    heads.collect()
}

/// Recovers the store and reads everything in it.
pub(crate) async fn read_log(
    disk: SimDisk,
    store: StoreConfig,
) -> Result<BTreeMap<ChannelId, Vec<Entry>>, StoreError> {
    let root = Path::new(ROOT);
    let recovered = recover(&disk, root, &store).await?;
    let maintenance = open_maintenance(&disk, store, 1, &recovered.segments).await?;
    let (index, segments) = (recovered.index, &recovered.segments);
    Ok(read_all(&disk, index, &maintenance, segments, store)
        .await?
        .0)
}

/// Everything in the store, by the index, which is given back.
async fn read_all(
    disk: &SimDisk,
    index: Index,
    maintenance: &Maintenance<SimDisk>,
    segments: &SegmentTable,
    store: StoreConfig,
) -> Result<(BTreeMap<ChannelId, Vec<Entry>>, Index), StoreError> {
    let mut channels: Vec<_> = index.heads().collect();
    channels.sort_by_key(|(channel, _)| *channel);
    let index = Rc::new(RefCell::new(index));
    let live = Live {
        segments: Rc::new(RefCell::new(segments.clone())),
        index: Rc::clone(&index),
        recent: Recent::shared(&store),
    };
    let view = View::of(maintenance.buckets());
    let reader = Reader::new(disk.clone(), Path::new(ROOT), live, view, store);
    let mut log = BTreeMap::new();
    for (channel, head) in channels {
        let entries = read_channel(&reader, channel, head.seq).await?;
        log.insert(ChannelId::from_bytes(channel.0), entries);
    }
    drop(reader);
    let index = Rc::into_inner(index).expect("only the reader shared it");
    Ok((log, index.into_inner()))
}

async fn read_channel(
    reader: &Reader<SimDisk>,
    channel: ChannelKey,
    head: u64,
) -> Result<Vec<Entry>, StoreError> {
    let mut entries = Vec::new();
    while (entries.len() as u64) < head {
        let query = PageQuery {
            channel,
            query: Query::AfterSeq(entries.len() as u64),
            limit: PAGE,
            upto_seq: head,
            with_deleted: true,
            bytes_max: usize::MAX,
        };
        for found in reader.page(&query).await? {
            let record = &found.create;
            assert_eq!(record.seq, entries.len() as u64 + 1, "the log is dense");
            let message = record::message(&found).expect("what the shard wrote can be read");
            entries.push(Entry {
                id: message.id,
                author: message.author.id,
                author_name: Some(message.author.username),
                content: Some(message.content),
                // What is sealed has none any more.
                nonce: (!record.nonce.is_zero()).then(|| Nonce::from_bytes(record.nonce.0)),
            });
        }
    }
    Ok(entries)
}

impl Host {
    fn new(shard: Shard, waiting_bytes_max: usize, store: StoreTasks) -> Self {
        Self {
            shard,
            outbox: Outbox::new(),
            spool: Spool::new(waiting_bytes_max),
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
