//! A commit that is being written: the write, and what is to be said of it afterwards.
//!
//! It does not know whether others are under way.
//!
//! Invariants: the write has been started, and holds nothing of the log: both may go on.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use crate::error::DiskError;
use crate::key::SegmentId;
use crate::prepared::PreparedRecord;
use crate::record::{Location, Record};

/// A write that owns all that it needs.
pub(crate) type Write = Pin<Box<dyn Future<Output = Result<(), DiskError>>>>;

/// What a commit holds and where.
pub(crate) struct Content {
    pub(crate) segment: SegmentId,
    /// Where its frame begins, in bytes.
    pub(crate) start: u32,
    /// Where the frame ends, in bytes.
    pub(crate) end: u32,
    /// Once it is written it is durable.
    pub(crate) is_synced: bool,
    pub(crate) records: Vec<PreparedRecord>,
}

impl Content {
    /// Its records, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = (&Record, Location)> {
        let locate = |record: &PreparedRecord| record.location(self.segment, self.start);
        self.records
            .iter()
            .map(move |record| (&record.record, locate(record)))
    }
}

/// A commit under way.
pub(crate) struct UnderWay {
    write: Write,
    /// It came before anybody waited.
    result: Option<Result<(), DiskError>>,
    content: Content,
}

impl UnderWay {
    /// Starts the write, and does not wait for it.
    pub(crate) async fn start(write: Write, content: Content) -> Self {
        let mut started = Self {
            write,
            result: None,
            content,
        };
        poll_fn(|context| {
            // If it is not done it wakes this task later: whoever settles it will see.
            if let Poll::Ready(result) = started.write.as_mut().poll(context) {
                started.result = Some(result);
            }
            Poll::Ready(())
        })
        .await;
        started
    }

    /// Waits until the write is done, and says what came of it. To be asked once.
    pub(crate) async fn settle(&mut self) -> Result<(), DiskError> {
        match self.result.take() {
            Some(result) => result,
            None => self.write.as_mut().await,
        }
    }

    /// Once it is written it is durable.
    pub(crate) fn is_synced(&self) -> bool {
        self.content.is_synced
    }

    /// What the commit holds.
    pub(crate) fn into_content(self) -> Content {
        self.content
    }
}
