//! The store's maintenance as the node runs it: one piece of work at a time beside the shards,
//! polled by hand.
//!
//! It decides nothing: what is due is the store's to say.
//!
//! Invariants: index files are written in the order in which segments ended; a former file is let
//! go only when every shard has let go of it.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use throng_storage_engine::{
    Did, Event, HotSegment, Maintenance, Ran, SegmentId, SimDisk, StoreError,
};

use crate::journal::{Task, poll_once};
use crate::node::Host;

/// After how long a piece that failed is tried again, in milliseconds.
const RETRY_MS: u64 = 200;

/// Pieces that are polled in one turn.
const PIECES_MAX: usize = 64;

/// An index file being written.
struct Indexing {
    shard: usize,
    hot: Arc<HotSegment>,
    task: Task<Result<SegmentId, StoreError>>,
}

/// The maintenance and what it has under way.
pub(crate) struct Keeper {
    maintenance: Rc<Maintenance<SimDisk>>,
    piece: Option<Task<Result<Ran<Vec<u8>>, StoreError>>>,
    due_ms: u64,
    to_index: VecDeque<(usize, Arc<HotSegment>)>,
    indexing: Option<Indexing>,
    /// Index files that could not be written are not tried again before this.
    index_due_ms: u64,
    released: BTreeMap<u64, usize>,
    /// Days sealed and months merged so far.
    pub(crate) sealed: u64,
}

impl Keeper {
    pub(crate) fn new(maintenance: Maintenance<SimDisk>) -> Self {
        Self {
            maintenance: Rc::new(maintenance),
            piece: None,
            due_ms: 0,
            to_index: VecDeque::new(),
            indexing: None,
            index_due_ms: 0,
            released: BTreeMap::new(),
            sealed: 0,
        }
    }

    /// Moves everything on as far as it goes.
    pub(crate) fn poll(&mut self, now_ms: u64, hosts: &mut [Host], is_ending: bool) {
        for (shard, host) in hosts.iter_mut().enumerate() {
            let filled = host.store.filled().into_iter().map(|hot| (shard, hot));
            self.to_index.extend(filled);
        }
        self.poll_indexing(now_ms, hosts);
        self.hear(hosts);
        for _ in 0..PIECES_MAX {
            if is_ending || !self.poll_piece(now_ms, hosts) {
                return;
            }
        }
    }

    fn poll_indexing(&mut self, now_ms: u64, hosts: &mut [Host]) {
        loop {
            if self.indexing.is_none()
                && now_ms >= self.index_due_ms
                && let Some((shard, hot)) = self.to_index.pop_front()
            {
                let (maintenance, segment) = (Rc::clone(&self.maintenance), Arc::clone(&hot));
                let task = Box::pin(async move { maintenance.filled(&segment).await });
                self.indexing = Some(Indexing { shard, hot, task });
            }
            let Some(mut indexing) = self.indexing.take() else {
                return;
            };
            let Poll::Ready(indexed) = poll_once(&mut indexing.task) else {
                self.indexing = Some(indexing);
                return;
            };
            let Indexing { shard, hot, .. } = indexing;
            let store = &mut hosts[shard].store;
            match indexed {
                Ok(segment) => store.indexed(segment),
                Err(_) if store.is_closing() => store.unindexed(),
                Err(_) => {
                    self.to_index.push_front((shard, hot));
                    self.index_due_ms = now_ms + RETRY_MS;
                }
            }
            self.due_ms = 0;
        }
    }

    /// What shards have to say. Days count as ended only when their index files are written.
    fn hear(&mut self, hosts: &mut [Host]) {
        let count = hosts.len();
        for (shard, host) in (0_u16..).zip(hosts) {
            if self.indexing.is_none() && self.to_index.is_empty() {
                let ended = host.store.ended();
                for day in ended {
                    self.maintenance.day_ended(shard, day);
                    self.due_ms = 0;
                }
            }
            for ticket in host.store.released() {
                let released = self.released.entry(ticket).or_default();
                *released += 1;
                if *released == count {
                    self.maintenance.released(ticket);
                    self.due_ms = 0;
                }
            }
        }
    }

    /// Whether a piece was brought to its end.
    fn poll_piece(&mut self, now_ms: u64, hosts: &mut [Host]) -> bool {
        if self.piece.is_none() && now_ms >= self.due_ms {
            let maintenance = Rc::clone(&self.maintenance);
            let task = Box::pin(async move { maintenance.run_due(now_ms).await });
            self.piece = Some(task);
        }
        let Some(piece) = &mut self.piece else {
            return false;
        };
        let Poll::Ready(ran) = poll_once(piece) else {
            return false;
        };
        self.piece = None;
        match ran {
            Ok(ran) => {
                let is_sealed = matches!(ran.did, Did::Sealed { .. } | Did::Merged { .. });
                self.sealed += u64::from(is_sealed);
                self.due_ms = ran.next_ms;
                ran.events.iter().for_each(|event| tell(event, hosts));
                ran.did != Did::Nothing
            }
            Err(_) => {
                self.due_ms = now_ms + RETRY_MS;
                false
            }
        }
    }
}

fn tell(event: &Event<Vec<u8>>, hosts: &mut [Host]) {
    for host in hosts {
        match event {
            Event::EndDay(day) => host.store.end_day(*day),
            Event::Installed(installed) => host.store.install(installed),
        }
    }
}
