//! The task that writes a shard's commits.
//!
//! It takes one commit at a time from its application, has the store write and sync it, and
//! reports where the records lie. It never tries a failed sync again.
//!
//! Invariants: commits are written in the order in which they came; a log that has been idle for
//! [`IDLE_MS`] ends in an empty frame; when the store is poisoned the process ends.

use std::time::Duration;

use glommio::channels::local_channel::{self, LocalReceiver, LocalSender};
use glommio::task::JoinHandle;
use glommio::timer::Timer;
use throng_storage_engine::{CommitError, GlommioDisk, Log, Record, StoreError, Upkept};

use super::inbox::Inbox;
use crate::io::{CommitId, CommitRefused, Input};

/// After how long without a commit the tail is sealed, in milliseconds.
const IDLE_MS: u64 = 100;

/// Exit status when the store has failed (EX_IOERR of sysexits.h).
const EXIT_STORE_FAILED: i32 = 74;

struct Append {
    commit: CommitId,
    records: Vec<Record>,
}

/// The application's end of the journal.
pub(super) struct Journal {
    appends: LocalSender<Append>,
    inbox: Inbox,
    task: JoinHandle<()>,
}

impl Journal {
    /// Starts the task on this executor.
    pub(super) fn start(log: Log<GlommioDisk>, inbox: Inbox) -> Self {
        // One commit is in flight at a time, so one place is enough.
        let (appends, coming) = local_channel::new_bounded(1);
        let task = glommio::spawn_local(run(log, coming, inbox.clone())).detach();
        Self {
            appends,
            inbox,
            task,
        }
    }

    /// Writes a commit; the answer comes through the inbox.
    pub(super) fn append(&self, commit: CommitId, records: Vec<Record>) {
        self.inbox.begin();
        let sent = self.appends.try_send(Append { commit, records });
        assert!(sent.is_ok(), "one commit is in flight at a time");
    }

    /// Writes what was begun and closes the log.
    pub(super) async fn finish(self) {
        drop(self.appends);
        self.task.await;
    }
}

async fn run(mut log: Log<GlommioDisk>, coming: LocalReceiver<Append>, inbox: Inbox) {
    let mut segment = None;
    let mut is_sealed = true;
    let mut upkeep: Option<JoinHandle<()>> = None;
    loop {
        let next = match is_sealed {
            true => Next::of(coming.recv().await),
            false => next_or_idle(&coming).await,
        };
        match next {
            Next::Append(append) => {
                let result = write(&mut log, &append).await;
                let place = result.as_ref().ok().and_then(|places| places.last());
                let written_to = place.map(|place| place.segment);
                inbox.done(Input::Committed {
                    commit: append.commit,
                    result,
                });
                is_sealed = false;
                if written_to.is_some() && segment != written_to {
                    segment = written_to;
                    upkeep = Some(prepare_next(&log, upkeep.take()));
                }
            }
            // In the mode `interval` this is also the sync that is due.
            Next::Idle => {
                log.seal_tail()
                    .await
                    .unwrap_or_else(|error| store_failed(&error));
                is_sealed = true;
            }
            Next::End => break,
        }
    }
    if let Some(upkeep) = upkeep {
        upkeep.await;
    }
    log.close()
        .await
        .unwrap_or_else(|error| store_failed(&error));
}

enum Next {
    Append(Append),
    Idle,
    End,
}

impl Next {
    fn of(received: Option<Append>) -> Self {
        received.map_or(Self::End, Self::Append)
    }
}

async fn next_or_idle(coming: &LocalReceiver<Append>) -> Next {
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

async fn write(
    log: &mut Log<GlommioDisk>,
    append: &Append,
) -> Result<Vec<throng_storage_engine::Location>, CommitRefused> {
    // A record's bucket is the day of its id, and a commit is one frame of one bucket.
    let now_ms = append
        .records
        .last()
        .map_or(0, |record| record.message.timestamp_ms());
    match log.commit(now_ms, &append.records).await {
        Ok(places) => Ok(places),
        Err(CommitError::Full(error)) => {
            tracing::error!(%error, "the disk is full: messages are refused until space returns");
            Err(CommitRefused)
        }
        Err(CommitError::Poisoned(error)) => store_failed(&error),
    }
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
            Ok(Upkept::Ready | Upkept::Busy) => {}
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
