//! The thread that looks after the store: index files of full segments, sealing, merging,
//! retention.
//!
//! It decides nothing: the store's `Maintenance` does, one piece of work at a time. It runs beside
//! the shards at a lower priority, and no shard waits for it.
//!
//! Invariants: what a shard reports is taken in its order; a file is let go only when every shard
//! has said so; a failure here ends no shard: it is told to the operator and tried again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Weak;
use std::time::Duration;

use crossbeam::channel::{Receiver, bounded};
use glommio::task::JoinHandle;
use glommio::{LocalExecutorBuilder, Placement};
use throng_storage_engine::{
    Buckets, Did, GlommioDisk, HotSegment, Maintenance, MaintenanceConfig, SegmentTable,
    StoreConfig, StoreError,
};

use super::clock::NodeClock;
use super::error::EdgeError;
use super::reports::{Link, Mapped, Notice, Report, ShardEnd, connect};
use super::wake::{Bell, ShardWaker, Sleeper};

/// How much less of a contended core this thread gets than a shard (setpriority(2)).
const NICE: i32 = 10;

/// After how long a piece of work that failed is tried again, in milliseconds.
const RETRY_MS: u64 = 10_000;

/// How often it is asked at least what is due, in milliseconds.
const RUN_AT_LEAST_MS: u64 = 60_000;

/// The longest sleep, in milliseconds.
const LOOK_MS: u64 = 1_000;

/// How long the end of the process waits for this thread.
const END_WAIT: Duration = Duration::from_secs(5);

/// The running thread.
pub(super) struct Running {
    ended: Receiver<()>,
}

impl Running {
    /// Waits until it has seen that every shard has closed its log, but not for a long piece of
    /// work: any may be broken off by the end of the process.
    pub(super) fn wait(self) {
        let _ = self.ended.recv_timeout(END_WAIT);
    }
}

/// What the thread starts from.
pub(super) struct Start {
    pub(super) root: PathBuf,
    pub(super) store: StoreConfig,
    pub(super) config: MaintenanceConfig,
    pub(super) segments: SegmentTable,
    pub(super) at_least_ms: u64,
    /// Wakes the shards, one each.
    pub(super) wakers: Vec<ShardWaker>,
}

/// What the shards start with.
pub(super) struct Started {
    pub(super) running: Running,
    pub(super) links: Vec<Link>,
    pub(super) buckets: Buckets<Mapped>,
}

/// Opens the sealed buckets and starts the thread.
///
/// # Errors
/// The thread cannot be had, or (inside) a bucket is damaged.
pub(super) fn start(start: Start) -> Result<Result<Started, StoreError>, EdgeError> {
    let waker = ShardWaker::new()?;
    let (links, shard_ends, reported) = connect(&start.wakers, &waker);
    let (opened, is_open) = bounded(1);
    let (ends, ended) = bounded(0);
    LocalExecutorBuilder::new(Placement::Unbound)
        .name("maintenance")
        .io_memory(4 << 20)
        .spawn(move || async move {
            let _ends = ends;
            let maintenance = match open(&start).await {
                Ok(maintenance) => Rc::new(maintenance),
                Err(error) => {
                    let _ = opened.send(Err(error)); // Nobody waits any more: nothing to tell.
                    return;
                }
            };
            let _ = opened.send(Ok(maintenance.buckets()));
            be_modest();
            let keeper = Keeper {
                maintenance,
                shards: shard_ends,
                reported,
                released: HashMap::new(),
                closed: 0,
                has_news: false,
                is_troubled: false,
                retry_ms: 0,
                outcome: Rc::default(),
                bell: Bell::default(),
                clock: NodeClock::start(start.at_least_ms),
            };
            if let Err(error) = keeper.run(waker).await {
                tracing::error!(%error, "the store's maintenance ended");
            }
        })
        .map_err(|error| EdgeError::Executor {
            shard: 0,
            source: error.to_string().into(),
        })?;
    let running = Running { ended };
    Ok(match is_open.recv() {
        Ok(Ok(buckets)) => Ok(Started {
            running,
            links,
            buckets,
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => return Err(EdgeError::ShardDied { shard: 0 }),
    })
}

async fn open(start: &Start) -> Result<Maintenance<GlommioDisk>, StoreError> {
    let disk = GlommioDisk::at(&start.root).await?;
    let shards = u16::try_from(start.wakers.len()).expect("a node has at most 256 shards");
    Maintenance::open(
        disk,
        &start.root,
        start.store,
        start.config,
        shards,
        &start.segments,
    )
    .await
}

/// The shards' cores are theirs first.
fn be_modest() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        tracing::warn!(%error, "the store's maintenance runs at the shards' priority");
    }
}

/// The thread's one task, and the piece of work that it has under way.
struct Keeper {
    maintenance: Rc<Maintenance<GlommioDisk>>,
    shards: Vec<ShardEnd>,
    reported: Receiver<Report>,
    /// How many shards have let go of each ticket.
    released: HashMap<u64, usize>,
    closed: usize,
    /// Something was reported since the piece of work under way began.
    has_news: bool,
    is_troubled: bool,
    /// Index files that could not be written are not tried again before this.
    retry_ms: u64,
    outcome: Rc<RefCell<Option<Outcome>>>,
    bell: Bell,
    clock: NodeClock,
}

type Outcome = Result<throng_storage_engine::Ran<Mapped>, StoreError>;

impl Keeper {
    async fn run(mut self, waker: ShardWaker) -> Result<(), EdgeError> {
        let mut sleeper = Sleeper::new(waker, self.bell.clone())?;
        let mut work: Option<JoinHandle<()>> = None;
        let mut due_ms = 0;
        loop {
            if self.take_reports().await {
                due_ms = 0; // What a shard reports may be what a piece waited for.
            }
            self.shards.iter_mut().for_each(ShardEnd::flush);
            let outcome = self.outcome.borrow_mut().take();
            if let Some(outcome) = outcome {
                work = None;
                due_ms = self.finished(outcome);
            }
            if self.closed == self.shards.len() {
                return Ok(());
            }
            let now_ms = self.clock.now_ms();
            let is_ending = self.shards.iter().any(|shard| shard.is_ending);
            if work.is_none() && now_ms >= due_ms && !is_ending {
                self.has_news = false;
                work = Some(self.begin(now_ms));
            }
            sleeper.prepare();
            if self.reported.is_empty() && !self.bell.take() {
                let wait_ms = due_ms.saturating_sub(now_ms).clamp(1, LOOK_MS);
                sleeper.sleep(Duration::from_millis(wait_ms)).await;
                let _ = self.bell.take();
            }
            sleeper.awake();
        }
    }

    /// Begins the next piece of work beside the reports.
    fn begin(&self, now_ms: u64) -> JoinHandle<()> {
        let maintenance = Rc::clone(&self.maintenance);
        let (outcome, bell) = (Rc::clone(&self.outcome), self.bell.clone());
        glommio::spawn_local(async move {
            let ran = maintenance.run_due(now_ms).await;
            *outcome.borrow_mut() = Some(ran);
            bell.ring();
        })
        .detach()
    }

    /// Returns when there is more to do: soon, if something was reported meanwhile.
    fn finished(&mut self, outcome: Outcome) -> u64 {
        match outcome {
            Ok(ran) => {
                if ran.did != Did::Nothing {
                    tracing::debug!(did = ?ran.did, "store maintenance");
                }
                for event in &ran.events {
                    self.tell_all(|| Notice::Event(event.clone()));
                }
                self.trouble(None);
                match self.has_news {
                    true => 0,
                    false => ran.next_ms.min(self.clock.now_ms() + RUN_AT_LEAST_MS),
                }
            }
            Err(error) => {
                tracing::error!(%error, "store maintenance failed; it is tried again");
                self.trouble(Some(error.to_string()));
                self.clock.now_ms() + RETRY_MS
            }
        }
    }

    /// Whether something was reported, or tried again.
    async fn take_reports(&mut self) -> bool {
        let mut were_any = false;
        while let Ok(report) = self.reported.try_recv() {
            were_any = true;
            match report {
                Report::Released { ticket } => self.release(ticket),
                Report::Closed => self.closed += 1,
                Report::Ending { shard } => self.shards[usize::from(shard)].is_ending = true,
                Report::Filled { shard, .. } | Report::DayEnded { shard, .. } => {
                    self.shards[usize::from(shard)].reports.push_back(report);
                }
            }
        }
        let is_due = self.clock.now_ms() >= self.retry_ms;
        for shard in 0..self.shards.len() {
            let is_ending = self.shards[shard].is_ending;
            if (is_due || is_ending) && !self.shards[shard].reports.is_empty() {
                were_any |= self.take_in_order(shard).await;
            }
        }
        self.has_news |= were_any;
        were_any
    }

    /// Goes through one shard's reports up to an index file that cannot be written. Whether it
    /// got any further.
    async fn take_in_order(&mut self, shard: usize) -> bool {
        let number = u16::try_from(shard).expect("a node has at most 256 shards");
        let mut did_any = false;
        while let Some(report) = self.shards[shard].reports.pop_front() {
            match report {
                Report::Filled { ref hot, .. } => {
                    let is_done = self.index(shard, hot).await;
                    if !is_done {
                        self.shards[shard].reports.push_front(report);
                        return did_any;
                    }
                }
                Report::DayEnded { day, .. } => self.maintenance.day_ended(number, day),
                _ => unreachable!("others have no order"),
            }
            did_any = true;
        }
        did_any
    }

    /// Writes a segment's index file, if its log has not; false if it is to be tried again.
    async fn index(&mut self, shard: usize, hot: &Weak<HotSegment>) -> bool {
        let Some(hot) = hot.upgrade() else {
            self.shards[shard].tell(Notice::NotIndexed);
            return true;
        };
        match self.maintenance.filled(&hot).await {
            Ok(segment) => {
                self.shards[shard].tell(Notice::Indexed(segment));
                true
            }
            Err(error) => {
                tracing::error!(%error, segment = %hot.segment(), "an index file is not written");
                self.trouble(Some(error.to_string()));
                self.retry_ms = self.clock.now_ms() + RETRY_MS;
                let is_ending = self.shards[shard].is_ending;
                if is_ending {
                    self.shards[shard].tell(Notice::NotIndexed);
                }
                is_ending
            }
        }
    }

    fn release(&mut self, ticket: u64) {
        let count = self.released.entry(ticket).or_default();
        *count += 1;
        if *count == self.shards.len() {
            self.released.remove(&ticket);
            self.maintenance.released(ticket);
        }
    }

    /// Says what keeps failing, or once that nothing does any more.
    fn trouble(&mut self, error: Option<String>) {
        if error.is_some() || self.is_troubled {
            self.is_troubled = error.is_some();
            self.tell_all(|| Notice::Trouble(error.clone()));
        }
    }

    fn tell_all(&mut self, notice: impl Fn() -> Notice) {
        for shard in &mut self.shards {
            shard.tell(notice());
        }
    }
}
