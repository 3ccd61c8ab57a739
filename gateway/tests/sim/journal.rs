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
use std::task::{Context, Poll, Waker};

use throng::io::{CommitId, CommitRefused, Input, ReadId};
use throng_storage_engine::{
    CommitError, Location, Log, Reader, Record, SegmentId, SimDisk, StoreError, Upkeep,
};

pub(crate) type Task<T> = Pin<Box<dyn Future<Output = T>>>;

type Records = Result<Vec<Record>, StoreError>;

/// What the journal is asked.
enum Request {
    Append {
        commit: CommitId,
        records: Vec<Record>,
    },
    /// Nothing was written for a while.
    Seal,
    /// The end, in order.
    Close,
}

#[derive(Default)]
struct Mailbox {
    requests: VecDeque<Request>,
    done: VecDeque<(CommitId, Result<Vec<Location>, CommitRefused>)>,
    upkeep: Option<Upkeep<SimDisk>>,
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
    reader: Rc<Reader<SimDisk>>,
    reads: Vec<(ReadId, Task<Records>)>,
    upkeeps: Vec<Task<Result<(), StoreError>>>,
    closing: bool,
    appends: u64,
}

impl StoreTasks {
    pub(crate) fn new(log: Log<SimDisk>, reader: Reader<SimDisk>) -> Self {
        let mailbox = Rc::new(RefCell::new(Mailbox::default()));
        Self {
            journal: Some(Box::pin(journal(log, Rc::clone(&mailbox)))),
            mailbox,
            reader: Rc::new(reader),
            reads: Vec::new(),
            upkeeps: Vec::new(),
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

    pub(crate) fn read(&mut self, read: ReadId, locations: Vec<Location>) {
        let reader = Rc::clone(&self.reader);
        let task = Box::pin(async move { reader.read(&locations).await });
        self.reads.push((read, task));
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
        if self.closing && self.upkeeps.is_empty() && self.reads.is_empty() {
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
    let mut segment = None;
    loop {
        match next(&mailbox).await {
            Request::Append { commit, records } => {
                let result = write(&mut log, &records).await?;
                let mut mailbox = mailbox.borrow_mut();
                if let Some(written_to) = last_segment(&result)
                    && segment != Some(written_to)
                {
                    segment = Some(written_to);
                    mailbox.upkeep = Some(log.upkeep());
                }
                mailbox.done.push_back((commit, result));
            }
            Request::Seal => log.seal_tail().await?,
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
) -> Result<Result<Vec<Location>, CommitRefused>, StoreError> {
    let now_ms = records
        .last()
        .map_or(0, |record| record.message.timestamp_ms());
    match log.commit(now_ms, records).await {
        Ok(locations) => Ok(Ok(locations)),
        Err(CommitError::Full(_)) => Ok(Err(CommitRefused)),
        Err(CommitError::Poisoned(error)) => Err(error),
    }
}

fn last_segment(result: &Result<Vec<Location>, CommitRefused>) -> Option<SegmentId> {
    Some(result.as_ref().ok()?.last()?.segment)
}
