//! The task that writes a shard's commits.
//!
//! It takes one commit at a time from its application, has the store write and sync it, and
//! reports that it is. It never tries a failed sync again.
//!
//! Invariants: commits are written in the order in which they came; a log that has been idle for
//! [`IDLE_MS`] ends in an empty frame; when the store is poisoned the process ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};
use glommio::task::JoinHandle;
use glommio::timer::Timer;
use throng_storage_engine::{CommitError, Day, GlommioDisk, Log, Record, StoreError, Upkept};

use super::inbox::Inbox;
use super::reports::{Link, Report};
use crate::io::{CommitId, CommitRefused, Input};

/// After how long without a commit the tail is sealed, in milliseconds.
const IDLE_MS: u64 = 100;

/// Exit status when the store has failed (EX_IOERR of sysexits.h).
const EXIT_STORE_FAILED: i32 = 74;

/// Orders that wait for the journal: one commit, and the days that are to end.
const ORDERS_MAX: usize = 64;

enum Order {
    Append {
        commit: CommitId,
        records: Vec<Record>,
    },
    /// End the segments of this day and older ones.
    EndDay(Day),
}

/// What the journal task works with.
struct Desk {
    log: Log<GlommioDisk>,
    shard: u16,
    inbox: Inbox,
    /// To the store's maintenance.
    link: Rc<RefCell<Link>>,
    upkeep: Option<JoinHandle<()>>,
    /// How often making files for later segments had to end: something else is to be done.
    interruptions: Rc<Cell<u64>>,
}

/// The application's end of the journal.
pub(super) struct Journal {
    orders: LocalSender<Order>,
    inbox: Inbox,
    task: JoinHandle<()>,
}

impl Journal {
    /// Starts the task on this executor.
    pub(super) fn start(
        log: Log<GlommioDisk>,
        shard: u16,
        inbox: Inbox,
        link: Rc<RefCell<Link>>,
    ) -> Self {
        let (orders, coming) = local_channel::new_bounded(ORDERS_MAX);
        let desk = Desk {
            log,
            shard,
            inbox: inbox.clone(),
            link,
            upkeep: None,
            interruptions: Rc::default(),
        };
        let task = glommio::spawn_local(desk.run(coming)).detach();
        Self {
            orders,
            inbox,
            task,
        }
    }

    /// Writes a commit; the answer comes through the inbox.
    pub(super) fn append(&self, commit: CommitId, records: Vec<Record>) {
        self.inbox.begin();
        let sent = self.orders.try_send(Order::Append { commit, records });
        assert!(sent.is_ok(), "one commit is in flight at a time");
    }

    /// Ends the log's segments of this day and older ones; the answer goes to the maintenance.
    pub(super) fn end_day(&self, day: Day) {
        let sent = self.orders.try_send(Order::EndDay(day));
        assert!(sent.is_ok(), "one day ends at a time");
    }

    /// Writes what was begun and closes the log.
    pub(super) async fn finish(self) {
        drop(self.orders);
        self.task.await;
    }
}

impl Desk {
    async fn run(mut self, coming: LocalReceiver<Order>) {
        let mut is_sealed = true;
        loop {
            let next = match is_sealed {
                true => Next::of(coming.recv().await),
                false => next_or_idle(&coming).await,
            };
            match next {
                Next::Order(Order::Append { commit, records }) => {
                    self.interrupt_stocking();
                    let result = self.write(&records).await;
                    self.inbox.done(Input::Committed { commit, result });
                    self.hand_over();
                    is_sealed = false;
                }
                Next::Order(Order::EndDay(day)) => self.end_day(day).await,
                // In the mode `interval` this is also the sync that is due.
                Next::Idle => {
                    let sealed = self.log.seal_tail().await;
                    sealed.unwrap_or_else(|error| store_failed(&error));
                    is_sealed = true;
                    self.upkeep = Some(self.stock());
                }
                Next::End => break,
            }
        }
        self.close().await;
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), CommitRefused> {
        // A record's bucket is the day of its id, and a commit is one frame of one bucket.
        let now_ms = records
            .last()
            .map_or(0, |record| record.message.timestamp_ms());
        match self.log.commit(now_ms, records).await {
            Ok(_) => Ok(()),
            Err(CommitError::Full(error)) => {
                tracing::error!(%error, "the disk is full: messages are refused until space returns");
                Err(CommitRefused)
            }
            Err(CommitError::Poisoned(error)) => store_failed(&error),
        }
    }

    /// Gives segments that have ended to the maintenance, and has the next one's file made.
    fn hand_over(&mut self) {
        let filled = self.log.index().borrow_mut().filled();
        for hot in filled {
            let (shard, hot) = (self.shard, Arc::downgrade(&hot));
            self.link.borrow_mut().report(Report::Filled { shard, hot });
        }
        if self.log.needs_upkeep() {
            self.upkeep = Some(prepare_next(&self.log, self.upkeep.take()));
        }
    }

    /// Ends it behind the file under way.
    fn interrupt_stocking(&self) {
        self.interruptions.update(|interruptions| interruptions + 1);
    }

    /// Makes files for later segments until there are enough or something else is to be done.
    fn stock(&mut self) -> JoinHandle<()> {
        let (upkeep, before) = (self.log.upkeep(), self.upkeep.take());
        let (interruptions, then) = (Rc::clone(&self.interruptions), self.interruptions.get());
        let task = glommio::spawn_local(async move {
            if let Some(before) = before {
                before.await;
            }
            while interruptions.get() == then {
                match upkeep.stock().await {
                    Ok(Upkept::Stocked) => {}
                    Ok(Upkept::Ready | Upkept::Busy | Upkept::Full) => break,
                    Err(error) => store_failed(&error),
                }
            }
        });
        task.detach()
    }

    async fn end_day(&mut self, day: Day) {
        self.interrupt_stocking();
        let ended = self.log.end_day(day).await;
        ended.unwrap_or_else(|error| store_failed(&error));
        self.hand_over();
        // A segment that is sealed must have been cut to its end before.
        self.wait_for_upkeep().await;
        let shard = self.shard;
        self.link
            .borrow_mut()
            .report(Report::DayEnded { shard, day });
    }

    async fn wait_for_upkeep(&mut self) {
        if let Some(upkeep) = self.upkeep.take() {
            upkeep.await;
        }
    }

    async fn close(mut self) {
        self.interrupt_stocking();
        self.wait_for_upkeep().await;
        let closed = self.log.close().await;
        closed.unwrap_or_else(|error| store_failed(&error));
    }
}

enum Next {
    Order(Order),
    Idle,
    End,
}

impl Next {
    fn of(received: Option<Order>) -> Self {
        received.map_or(Self::End, Self::Order)
    }
}

async fn next_or_idle(coming: &LocalReceiver<Order>) -> Next {
    let mut receive = std::pin::pin!(coming.recv());
    let mut idle = std::pin::pin!(Timer::new(Duration::from_millis(IDLE_MS)));
    std::future::poll_fn(|context| {
        if let std::task::Poll::Ready(received) = receive.as_mut().poll(context) {
            return std::task::Poll::Ready(Next::of(received));
        }
        idle.as_mut().poll(context).map(|_| Next::Idle)
    })
    .await
}

/// Makes the next segment's file beside the commits, so that rolling over does not wait for it;
/// after the one before, so that who waits for the last has waited for all.
fn prepare_next(log: &Log<GlommioDisk>, before: Option<JoinHandle<()>>) -> JoinHandle<()> {
    let upkeep = log.upkeep();
    let task = glommio::spawn_local(async move {
        if let Some(before) = before {
            before.await;
        }
        match upkeep.run().await {
            Ok(Upkept::Full) => tracing::warn!("no space for the next segment yet"),
            Ok(Upkept::Ready | Upkept::Stocked | Upkept::Busy) => {}
            Err(error) => store_failed(&error),
        }
    });
    task.detach()
}

/// What is on disk is unknown: only a restart with recovery may go on.
#[expect(
    clippy::exit,
    reason = "nothing may be acknowledged after a failed sync"
)]
fn store_failed(error: &StoreError) -> ! {
    tracing::error!(%error, "the message store failed; the process ends");
    std::process::exit(EXIT_STORE_FAILED)
}
