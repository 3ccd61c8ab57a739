//! The store as a node's server would run it: logs and readers of all shards, and maintenance, on
//! one disk.
//!
//! It knows nothing of what should come out.
//!
//! Invariants: one commit is in flight per shard; what runs at the same time is polled in one
//! order, so that one seed gives one course of events.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use throng_storage_engine::{
    ChannelKey, CommitError, Day, Did, Erasure, Event, Head, HotSegment, Log, LogPlace,
    Maintenance, MaintenanceConfig, PageQuery, Query, Ran, Reader, Record, RecoveryReport, SimDisk,
    StoreConfig, StoreError, StoreLock, Stored, Upkept, View, recover,
};

pub(crate) fn root() -> &'static Path {
    Path::new("/data")
}

/// A running store.
pub(crate) struct Node {
    logs: Vec<Log<SimDisk>>,
    readers: Vec<Reader<SimDisk>>,
    maintenance: Maintenance<SimDisk>,
    /// What maintenance said and the shards have not heard yet.
    events: VecDeque<Event<Mapped>>,
    /// For each shard, the segments that have no index file yet.
    filled: Vec<VecDeque<Arc<HotSegment>>>,
    retained_from: Day,
    pub(crate) report: RecoveryReport,
    _lock: StoreLock,
}

type Mapped = <SimDisk as throng_storage_engine::Disk>::Mapped;

/// How a store is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) store: StoreConfig,
    pub(crate) maintenance: MaintenanceConfig,
}

/// What became of one shard's commit.
pub(crate) type Committed = Result<(), CommitError>;

/// What became of everything that ran at the same time.
#[derive(Default)]
pub(crate) struct Worked {
    pub(crate) commits: Vec<Committed>,
    pub(crate) pages: Vec<Result<Vec<Stored>, StoreError>>,
    pub(crate) did: Option<Result<Did, StoreError>>,
}

enum Done {
    Commit(Committed),
    Page(Result<Vec<Stored>, StoreError>),
    Ran(Result<Ran<Mapped>, StoreError>),
}

/// A page that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) channel: ChannelKey,
    pub(crate) query: Query,
    pub(crate) limit: usize,
    pub(crate) with_deleted: bool,
}

impl Asked {
    fn query(&self) -> PageQuery {
        PageQuery {
            channel: self.channel,
            query: self.query,
            limit: self.limit,
            upto_seq: u64::MAX,
            with_deleted: self.with_deleted,
            bytes_max: usize::MAX,
        }
    }
}

impl Node {
    pub(crate) async fn open(
        disk: &SimDisk,
        setup: &Setup,
        shards: u16,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        let config = setup.store;
        let found = recover(disk, root(), &config).await?;
        let segments = &found.segments;
        let (disk, maintenance) = (disk.clone(), setup.maintenance);
        let maintenance =
            Maintenance::open(disk.clone(), root(), config, maintenance, shards, segments).await?;
        let owner = |channel: ChannelKey| usize::from(channel.0[0]) % usize::from(shards);
        let mut logs = Vec::new();
        let mut readers = Vec::new();
        for (shard, index) in (0..shards).zip(found.index.split(shards.into(), owner)) {
            let place = LogPlace {
                shard,
                shards,
                sealed_through: found.sealed_through,
            };
            let (disk, index) = (disk.clone(), Rc::new(RefCell::new(index)));
            let log = Log::open(disk.clone(), root(), config, place, segments, index, now_ms);
            let log = log.await?;
            let view = View::of(maintenance.buckets());
            readers.push(Reader::new(disk, root(), log.live(), view, config));
            logs.push(log);
        }
        Ok(Self {
            filled: logs.iter().map(|_| VecDeque::new()).collect(),
            logs,
            readers,
            retained_from: maintenance.buckets().retained_from,
            maintenance,
            events: VecDeque::new(),
            report: found.report,
            _lock: found.lock,
        })
    }

    /// Days before this one are gone, as far as the shards have heard.
    pub(crate) fn retained_from(&self) -> Day {
        self.retained_from
    }

    pub(crate) fn shards(&self) -> usize {
        self.logs.len()
    }

    pub(crate) fn owner(&self, channel: ChannelKey) -> usize {
        usize::from(channel.0[0]) % self.shards()
    }

    /// The numbers that the store gave out last.
    pub(crate) fn head(&self, channel: ChannelKey) -> Head {
        let index = self.logs[self.owner(channel)].index();
        index.borrow().head(channel)
    }

    pub(crate) fn channels(&self) -> Vec<ChannelKey> {
        let mut channels = Vec::new();
        for log in &self.logs {
            channels.extend(log.index().borrow().heads().map(|(channel, _)| channel));
        }
        channels.sort();
        channels
    }

    /// Does everything at the same time: commits, at most one for each shard, pages, and one
    /// piece of maintenance. What became of each, in order.
    pub(crate) async fn work(
        &mut self,
        now_ms: u64,
        commits: &[(usize, Vec<Record>)],
        pages: &[Asked],
        maintains: bool,
    ) -> Worked {
        let shards = self.shards();
        let mut work: Vec<Work<'_, Done>> = Vec::new();
        for (shard, log) in self.logs.iter_mut().enumerate() {
            if let Some((_, records)) = commits.iter().find(|(asked, _)| *asked == shard) {
                work.push(Box::pin(async move {
                    Done::Commit(log.commit(now_ms, records).await.map(drop))
                }));
            }
        }
        for asked in pages {
            let reader = &self.readers[usize::from(asked.channel.0[0]) % shards];
            work.push(Box::pin(async move {
                Done::Page(reader.page(&asked.query()).await)
            }));
        }
        if maintains {
            let maintenance = &self.maintenance;
            work.push(Box::pin(async move {
                Done::Ran(maintenance.run_due(now_ms).await)
            }));
        }
        let mut worked = Worked::default();
        for done in all(work).await {
            match done {
                Done::Commit(committed) => worked.commits.push(committed),
                Done::Page(page) => worked.pages.push(page),
                Done::Ran(ran) => {
                    worked.did = Some(ran.map(|ran| {
                        self.events.extend(ran.events);
                        ran.did
                    }));
                }
            }
        }
        worked
    }

    pub(crate) async fn page(&self, asked: &Asked) -> Result<Vec<Stored>, StoreError> {
        let reader = &self.readers[self.owner(asked.channel)];
        reader.page(&asked.query()).await
    }

    /// Does what is due, but not more than so many pieces. What was done, and how it ended.
    pub(crate) async fn maintain(
        &mut self,
        now_ms: u64,
        pieces: usize,
    ) -> (Vec<Did>, Result<(), StoreError>) {
        let mut all = Vec::new();
        for _ in 0..pieces {
            if let Err(error) = self.hear().await {
                return (all, Err(error));
            }
            match self.maintenance.run_due(now_ms).await {
                Ok(ran) if ran.did == Did::Nothing => break,
                Ok(ran) => {
                    all.push(ran.did);
                    self.events.extend(ran.events);
                }
                Err(error) => return (all, Err(error)),
            }
        }
        let heard = self.hear().await;
        (all, heard)
    }

    pub(crate) async fn erase(&self, now_ms: u64, of: Erasure) -> Result<u64, StoreError> {
        self.maintenance.erase(now_ms, of).await
    }

    /// Hands full segments over, and lets the shards do what maintenance asks for.
    async fn hear(&mut self) -> Result<(), StoreError> {
        self.index_filled().await?;
        while let Some(event) = self.events.front().cloned() {
            match event {
                Event::EndDay(day) => self.end_day(day).await?,
                Event::Installed(installed) => {
                    for reader in &self.readers {
                        reader.install(&installed).await?;
                    }
                    self.maintenance.released(installed.ticket);
                    self.retained_from = installed.retained_from;
                }
            }
            self.events.pop_front();
        }
        Ok(())
    }

    async fn end_day(&mut self, day: Day) -> Result<(), StoreError> {
        for log in &mut self.logs {
            log.end_day(day).await?;
            log.upkeep().run().await?;
        }
        self.index_filled().await?;
        for shard in 0..self.logs.len() {
            let shard = u16::try_from(shard).expect("few shards");
            self.maintenance.day_ended(shard, day);
        }
        Ok(())
    }

    async fn index_filled(&mut self) -> Result<(), StoreError> {
        for (log, waiting) in self.logs.iter().zip(&mut self.filled) {
            let index = log.index();
            waiting.extend(index.borrow_mut().filled());
            while let Some(hot) = waiting.front() {
                let segment = self.maintenance.filled(hot).await?;
                index.borrow_mut().drop_hot(segment);
                waiting.pop_front();
            }
        }
        Ok(())
    }

    /// What logs do when nothing comes for a while.
    pub(crate) async fn seal_tails(&mut self) -> Result<(), StoreError> {
        for log in &mut self.logs {
            log.seal_tail().await?;
        }
        Ok(())
    }

    pub(crate) async fn upkeep(&self) -> Result<Vec<Upkept>, StoreError> {
        let mut all = Vec::new();
        for log in &self.logs {
            all.push(log.upkeep().run().await?);
            all.push(log.upkeep().stock().await?);
        }
        Ok(all)
    }

    pub(crate) async fn close(self) -> Result<(), StoreError> {
        for log in self.logs {
            log.close().await?;
        }
        Ok(())
    }
}

type Work<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// Runs everything at the same time, to the end.
async fn all<T>(mut work: Vec<Work<'_, T>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = work.iter().map(|_| None).collect();
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    poll_fn(|_| {
        let mut context = Context::from_waker(&waker);
        loop {
            for (work, done) in work.iter_mut().zip(&mut done) {
                if done.is_none()
                    && let Poll::Ready(value) = work.as_mut().poll(&mut context)
                {
                    *done = Some(value);
                }
            }
            if done.iter().all(Option::is_some) {
                return Poll::Ready(());
            }
            // Some wait for others of them, not for the disk.
            if !woken.0.swap(false, Ordering::Relaxed) {
                return Poll::Pending;
            }
        }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// Whether something has been woken since it was last looked at.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}
