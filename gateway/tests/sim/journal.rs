//! A shard's use of the store: its journal, its reads and its upkeep, as futures that are polled
//! by hand.
//!
//! It never advances the disk's time and never asks a waker: whoever drives the run polls again
//! when the disk has done something.
//!
//! Invariants: one commit at a time, in the order asked for; when the store has failed nothing
//! more is done.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use throng::io::{CommitId, CommitRefused, Input, ReadId};
use throng_storage_engine::{
    CommitError, Day, HotSegment, Installed, Log, PageQuery, Reader, Record, SegmentId,
    SharedIndex, SimDisk, StoreError, Stored, Upkeep,
};

pub(crate) type Task<T> = Pin<Box<dyn Future<Output = T>>>;

type Page = Result<Vec<Stored>, StoreError>;

/// What the journal is asked.
enum Request {
    Append {
        commit: CommitId,
        records: Vec<Record>,
    },
    /// Nothing was written for a while.
    Seal,
    /// No segment of this day is needed any more.
    EndDay(Day),
    /// The end, in order.
    Close,
}

#[derive(Default)]
struct Mailbox {
    requests: VecDeque<Request>,
    done: VecDeque<(CommitId, Result<(), CommitRefused>)>,
    upkeep: Option<Upkeep<SimDisk>>,
    ended: VecDeque<Day>,
}

/// How the store's tasks stand.
#[derive(Debug)]
pub(crate) enum Health {
    Running,
    /// Closed in order.
    Closed,
    /// The process must end.
    Failed(StoreError),
}

/// All tasks of one shard that use the disk.
pub(crate) struct StoreTasks {
    mailbox: Rc<RefCell<Mailbox>>,
    journal: Option<Task<Result<(), StoreError>>>,
    index: SharedIndex,
    reader: Rc<Reader<SimDisk>>,
    reads: Vec<(ReadId, Task<Page>)>,
    upkeeps: Vec<Task<Result<(), StoreError>>>,
    /// Reads of former files that are waited for, each with what it is waited for.
    letting_go: Vec<(u64, Task<Result<(), StoreError>>)>,
    /// Segments whose index files are being written.
    indexing: usize,
    closing: bool,
    appends: u64,
}

impl StoreTasks {
    pub(crate) fn new(log: Log<SimDisk>, reader: Reader<SimDisk>) -> Self {
        let mailbox = Rc::new(RefCell::new(Mailbox::default()));
        Self {
            index: log.index(),
            journal: Some(Box::pin(journal(log, Rc::clone(&mailbox)))),
            mailbox,
            reader: Rc::new(reader),
            reads: Vec::new(),
            upkeeps: Vec::new(),
            letting_go: Vec::new(),
            indexing: 0,
            closing: false,
            appends: 0,
        }
    }

    pub(crate) fn append(&mut self, commit: CommitId, records: Vec<Record>) {
        self.appends += 1;
        self.mailbox
            .borrow_mut()
            .requests
            .push_back(Request::Append { commit, records });
    }

    pub(crate) fn read(&mut self, read: ReadId, query: PageQuery) {
        let reader = Rc::clone(&self.reader);
        let task = Box::pin(async move { reader.page(&query).await });
        self.reads.push((read, task));
    }

    /// Segments that have ended: their index files are to be written.
    pub(crate) fn filled(&mut self) -> Vec<Arc<HotSegment>> {
        let filled = self.index.borrow_mut().filled();
        self.indexing += filled.len();
        filled
    }

    /// An index file is written.
    pub(crate) fn indexed(&mut self, segment: SegmentId) {
        self.indexing -= 1;
        self.index.borrow_mut().drop_hot(segment);
    }

    /// Whether the log is to be closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing
    }

    /// An index file could not be written, and the log will when it is closed.
    pub(crate) fn unindexed(&mut self) {
        self.indexing -= 1;
    }

    /// Has the log end its segments of this day and older ones.
    pub(crate) fn end_day(&mut self, day: Day) {
        let mut mailbox = self.mailbox.borrow_mut();
        mailbox.requests.push_back(Request::EndDay(day));
    }

    /// Days that the log has ended since this was last asked.
    pub(crate) fn ended(&mut self) -> Vec<Day> {
        if self.upkeeps.is_empty() {
            self.mailbox.borrow_mut().ended.drain(..).collect()
        } else {
            Vec::new()
        }
    }

    /// Reads from other files from now on.
    pub(crate) fn install(&mut self, installed: &Installed<Vec<u8>>) {
        let reader = Rc::clone(&self.reader);
        let (ticket, installed) = (installed.ticket, installed.clone());
        let over = Box::pin(async move { reader.install(&installed).await });
        self.letting_go.push((ticket, over));
    }

    /// Tickets whose former files nobody reads any more.
    pub(crate) fn released(&mut self) -> Vec<u64> {
        let mut released = Vec::new();
        self.letting_go.retain_mut(|(ticket, over)| {
            let is_over = poll_once(over).is_ready();
            if is_over {
                released.push(*ticket);
            }
            !is_over
        });
        released
    }

    /// How many commits have been asked for.
    pub(crate) fn appends(&self) -> u64 {
        self.appends
    }

    /// Appends the empty frame, unless a commit has been asked for since `appends`.
    pub(crate) fn seal_if_idle(&mut self, appends: u64) {
        if self.appends == appends && !self.closing {
            self.mailbox.borrow_mut().requests.push_back(Request::Seal);
        }
    }

    /// Whether the log has been closed in order.
    pub(crate) fn is_closed(&self) -> bool {
        self.journal.is_none()
    }

    /// Ends the journal in order, once nothing else is under way.
    pub(crate) fn close(&mut self) {
        self.closing = true;
    }

    /// Moves every task on as far as it goes; what is done becomes inputs.
    pub(crate) fn poll(&mut self, inputs: &mut Vec<Input<'static>>) -> Health {
        if let Some(error) = self.poll_upkeeps() {
            return Health::Failed(error);
        }
        let is_idle = self.upkeeps.is_empty() && self.reads.is_empty() && self.indexing == 0;
        if self.closing && is_idle {
            self.closing = false;
            self.mailbox.borrow_mut().requests.push_back(Request::Close);
        }
        let health = self.poll_journal();
        let mut mailbox = self.mailbox.borrow_mut();
        for (commit, result) in mailbox.done.drain(..) {
            inputs.push(Input::Committed { commit, result });
        }
        if let Some(upkeep) = mailbox.upkeep.take() {
            self.upkeeps
                .push(Box::pin(async move { upkeep.run().await.map(|_| ()) }));
        }
        drop(mailbox);
        self.reads.retain_mut(|(read, task)| match poll_once(task) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                inputs.push(Input::Page {
                    read: *read,
                    result,
                });
                false
            }
        });
        health
    }

    fn poll_journal(&mut self) -> Health {
        let Some(journal) = &mut self.journal else {
            return Health::Closed;
        };
        match poll_once(journal) {
            Poll::Pending => Health::Running,
            Poll::Ready(ended) => {
                self.journal = None;
                ended.map_or_else(Health::Failed, |()| Health::Closed)
            }
        }
    }

    fn poll_upkeeps(&mut self) -> Option<StoreError> {
        let mut failed = None;
        self.upkeeps.retain_mut(|task| match poll_once(task) {
            Poll::Pending => true,
            Poll::Ready(result) => {
                failed = result.err();
                false
            }
        });
        failed
    }
}

/// Polls a future once, without anybody to be woken.
pub(crate) fn poll_once<T>(task: &mut Task<T>) -> Poll<T> {
    task.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

async fn journal(mut log: Log<SimDisk>, mailbox: Rc<RefCell<Mailbox>>) -> Result<(), StoreError> {
    loop {
        match next(&mailbox).await {
            Request::Append { commit, records } => {
                let result = write(&mut log, &records).await?;
                let mut mailbox = mailbox.borrow_mut();
                if log.needs_upkeep() {
                    mailbox.upkeep = Some(log.upkeep());
                }
                mailbox.done.push_back((commit, result));
            }
            Request::Seal => log.seal_tail().await?,
            Request::EndDay(day) => {
                log.end_day(day).await?;
                let mut mailbox = mailbox.borrow_mut();
                mailbox.upkeep = Some(log.upkeep());
                mailbox.ended.push_back(day);
            }
            Request::Close => return log.close().await,
        }
    }
}

async fn next(mailbox: &RefCell<Mailbox>) -> Request {
    poll_fn(|_| match mailbox.borrow_mut().requests.pop_front() {
        Some(request) => Poll::Ready(request),
        None => Poll::Pending,
    })
    .await
}

async fn write(
    log: &mut Log<SimDisk>,
    records: &[Record],
) -> Result<Result<(), CommitRefused>, StoreError> {
    let now_ms = records
        .last()
        .map_or(0, |record| record.message.timestamp_ms());
    match log.commit(now_ms, records).await {
        Ok(_) => Ok(Ok(())),
        Err(CommitError::Full(_)) => Ok(Err(CommitRefused)),
        Err(CommitError::Poisoned(error)) => Err(error),
    }
}
