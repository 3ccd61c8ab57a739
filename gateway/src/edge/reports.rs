//! What the shards and the store's maintenance tell each other, over bounded queues.
//!
//! It carries and looks into nothing.
//!
//! Invariants: nothing is lost and the order is kept: what does not fit is held by its sender and
//! sent later, and nobody waits for room.

use std::collections::VecDeque;
use std::sync::Weak;

use crossbeam::channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use throng_storage_engine::{Day, Disk, Event, GlommioDisk, HotSegment, SegmentId};

use super::wake::ShardWaker;

/// Reports of one shard that wait to be taken. A shard whose report does not fit holds it.
const REPORTS_PER_SHARD: usize = 64;

/// Notices that wait for one shard: each is small, and they come a few a minute.
const NOTICES_MAX: usize = 1_024;

pub(super) type Mapped = <GlommioDisk as Disk>::Mapped;

/// What a shard tells.
#[derive(Debug)]
pub(super) enum Report {
    /// A segment has ended: its index file is to be written, unless the log has done it meanwhile.
    Filled { shard: u16, hot: Weak<HotSegment> },
    /// No segment of this day or an older one is open or will be begun.
    DayEnded { shard: u16, day: Day },
    /// No read sees what was there before this ticket.
    Released { ticket: u64 },
    /// The shard is about to close its log, which writes the index files that are left.
    Ending { shard: u16 },
    /// The shard has closed its log.
    Closed,
}

/// What a shard hears.
#[derive(Debug)]
pub(super) enum Notice {
    /// The segment's index file is written: it need not stay in memory.
    Indexed(SegmentId),
    /// Somebody else has written it, or will when the log is closed.
    NotIndexed,
    /// What changes for readers, and what is asked of the log.
    Event(Event<Mapped>),
    /// Something keeps failing, or fails no more.
    Trouble(Option<String>),
}

/// One shard's end.
pub(super) struct Link {
    reports: Sender<Report>,
    waker: ShardWaker,
    notices: Receiver<Notice>,
    /// Reports that did not fit, in their order; as many as segments fill and days end.
    held: VecDeque<Report>,
    /// Segments whose index files are being written.
    unanswered: usize,
    is_lost: bool,
}

impl Link {
    /// Tells the maintenance something, at once or with a later [`Link::flush`].
    pub(super) fn report(&mut self, report: Report) {
        if matches!(report, Report::Filled { .. }) {
            self.unanswered += 1;
        }
        self.held.push_back(report);
        self.flush();
    }

    /// Tells that the shard ends: what cannot be written now is not tried again.
    pub(super) fn end(&mut self, shard: u16) {
        self.report(Report::Ending { shard });
    }

    /// Tells what did not fit before.
    pub(super) fn flush(&mut self) {
        if self.held.is_empty() {
            return;
        }
        while let Some(report) = self.held.pop_front() {
            if let Err(TrySendError::Full(report)) = self.reports.try_send(report) {
                self.held.push_front(report);
                break;
            }
        }
        self.waker.wake();
    }

    /// Whether everything was told.
    pub(super) fn is_told(&self) -> bool {
        self.held.is_empty()
    }

    /// The next notice.
    pub(super) fn hear(&mut self) -> Option<Notice> {
        match self.notices.try_recv() {
            Ok(notice) => {
                if matches!(notice, Notice::Indexed(_) | Notice::NotIndexed) {
                    self.unanswered -= 1;
                }
                Some(notice)
            }
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                self.unanswered = 0;
                let is_news = !std::mem::replace(&mut self.is_lost, true);
                is_news.then(|| Notice::Trouble(Some("the store's maintenance has ended".into())))
            }
        }
    }

    /// Whether there is one.
    pub(super) fn has_notice(&self) -> bool {
        !self.notices.is_empty()
    }

    /// Whether an index file of this shard is being written.
    pub(super) fn is_waiting(&self) -> bool {
        self.unanswered > 0
    }
}

/// What the thread holds for one shard.
pub(super) struct ShardEnd {
    notices: Sender<Notice>,
    waker: ShardWaker,
    /// Notices that did not fit.
    unsaid: VecDeque<Notice>,
    /// Reports behind an index file that could not be written, in their order.
    pub(super) reports: VecDeque<Report>,
    pub(super) is_ending: bool,
}

impl ShardEnd {
    /// Says something, at once or with a later [`ShardEnd::flush`].
    pub(super) fn tell(&mut self, notice: Notice) {
        self.unsaid.push_back(notice);
        self.flush();
    }

    /// Says what did not fit before.
    pub(super) fn flush(&mut self) {
        if self.unsaid.is_empty() {
            return;
        }
        while let Some(notice) = self.unsaid.pop_front() {
            if let Err(TrySendError::Full(notice)) = self.notices.try_send(notice) {
                self.unsaid.push_front(notice);
                break;
            }
        }
        self.waker.wake();
    }
}

/// The queues between the shards that these wakers wake and the thread that `waker` wakes.
pub(super) fn connect(
    wakers: &[ShardWaker],
    waker: &ShardWaker,
) -> (Vec<Link>, Vec<ShardEnd>, Receiver<Report>) {
    let (reports, reported) = bounded(wakers.len() * REPORTS_PER_SHARD);
    let ends = wakers.iter().map(|shard| {
        let (notices, heard) = bounded(NOTICES_MAX);
        let link = Link {
            reports: reports.clone(),
            waker: waker.clone(),
            notices: heard,
            held: VecDeque::new(),
            unanswered: 0,
            is_lost: false,
        };
        let end = ShardEnd {
            notices,
            waker: shard.clone(),
            unsaid: VecDeque::new(),
            reports: VecDeque::new(),
            is_ending: false,
        };
        (link, end)
    });
    let (links, ends) = ends.unzip();
    (links, ends, reported)
}
