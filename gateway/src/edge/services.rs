//! What a chat shard asks for besides sockets: the store, the other shards, the control plane.
//!
//! It carries out and brings back; it decides nothing. A page is read in a task of its own.
//!
//! Invariants: each output that is answered is answered once, also when the control plane takes
//! no more; what was said to a shard arrives in its order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use crossbeam::channel::Receiver;
use glommio::task::JoinHandle;
use glommio::timer::Timer;
use glommio::{Latency, Shares, TaskQueueHandle};
use throng_control::{Answer, FromShard, Inlet, ToShard};
use throng_storage_engine::{Event, GlommioDisk, Installed, PageQuery, Reader, SharedIndex};

use super::inbox::Inbox;
use super::journal::Journal;
use super::lane::Lanes;
use super::pump::Services;
use super::reports::{Link, Mapped, Notice, Report};
use crate::io::{Input, Output, ReadId, ShardId};
use crate::lane::LaneMessage;

/// How often a shard that ends looks whether its index files are written.
const WAIT: Duration = Duration::from_millis(2);

/// Shares of the core for reading pages, beside the 1,000 of everything else: blocks are unpacked
/// and checked there, and the live messages of others do not wait for somebody's history.
const PAGE_SHARES: usize = 250;

/// The queue of tasks that read pages, below the pump and the journal. For the shard's executor.
pub(super) fn page_queue() -> TaskQueueHandle {
    let shares = Shares::Static(PAGE_SHARES);
    glommio::executor().create_task_queue(shares, Latency::NotImportant, "pages")
}

/// The services of one shard of a node.
pub(super) struct NodeServices {
    pub(super) shard: ShardId,
    pub(super) inbox: Inbox,
    pub(super) journal: Journal,
    pub(super) reader: Rc<Reader<GlommioDisk>>,
    /// Where pages are read, see [`page_queue`].
    pub(super) pages: TaskQueueHandle,
    pub(super) index: SharedIndex,
    /// To the store's maintenance.
    pub(super) link: Rc<RefCell<Link>>,
    /// The last change of files that reads are being moved to.
    pub(super) moving: Option<JoinHandle<()>>,
    pub(super) lanes: Lanes<LaneMessage>,
    pub(super) from_control: Receiver<ToShard>,
    pub(super) to_control: ToControl,
    /// The control plane's next input comes before the other shards'.
    pub(super) control_first: bool,
}

/// The way to the control plane.
pub(super) struct ToControl {
    inlet: Inlet<(u16, FromShard)>,
    /// Answers that did not fit. Each belongs to a question of the control plane, which bounds
    /// how many it asks.
    held: VecDeque<(u16, FromShard)>,
    wake: bool,
}

impl ToControl {
    /// Nothing said yet.
    pub(super) fn new(inlet: Inlet<(u16, FromShard)>) -> Self {
        Self {
            inlet,
            held: VecDeque::new(),
            wake: false,
        }
    }

    /// Says something; a question that does not fit is answered "unavailable" at once.
    fn say(&mut self, shard: ShardId, message: FromShard, inbox: &Inbox) {
        self.wake = true;
        let Err((_, message)) = self.inlet.try_send((shard.0, message)) else {
            return;
        };
        match message {
            FromShard::Ask { ask, .. } => {
                let answer = Answer::Unavailable;
                inbox.push(Input::Control(ToShard::Answer { ask, answer }));
            }
            answer => self.held.push_back((shard.0, answer)),
        }
    }

    fn flush(&mut self) {
        while let Some(held) = self.held.pop_front() {
            self.wake = true;
            if let Err(held) = self.inlet.try_send(held) {
                self.held.push_front(held);
                break;
            }
        }
        if std::mem::take(&mut self.wake) {
            self.inlet.wake();
        }
    }
}

impl NodeServices {
    fn read(&self, read: ReadId, query: PageQuery) {
        let (reader, inbox) = (Rc::clone(&self.reader), self.inbox.clone());
        inbox.begin();
        let page = async move {
            let result = reader.page(&query).await;
            if let Err(error) = &result {
                tracing::error!(%error, "a page cannot be read");
            }
            inbox.done(Input::Page { read, result });
        };
        glommio::spawn_local_into(page, self.pages)
            .expect("the queue lives as long as its executor")
            .detach();
    }

    /// Takes what the store's maintenance has to say.
    fn hear(&mut self) {
        loop {
            let notice = self.link.borrow_mut().hear();
            match notice {
                None => return,
                Some(Notice::Indexed(segment)) => self.index.borrow_mut().drop_hot(segment),
                Some(Notice::NotIndexed) => {}
                Some(Notice::Event(Event::EndDay(day))) => self.journal.end_day(day),
                Some(Notice::Event(Event::Installed(installed))) => self.install(&installed),
                Some(Notice::Trouble(error)) => self.inbox.push(Input::StoreTrouble { error }),
            }
        }
    }

    /// Reads from other files from now on, and says so when no read uses the former ones; one change
    /// after the other.
    fn install(&mut self, installed: &Installed<Mapped>) {
        let (reader, link) = (Rc::clone(&self.reader), Rc::clone(&self.link));
        let (installed, ticket) = (installed.clone(), installed.ticket);
        let before = self.moving.take();
        let moving = glommio::spawn_local(async move {
            if let Some(before) = before {
                before.await;
            }
            // A file that cannot be closed is no reason to keep others.
            if let Err(error) = reader.install(&installed).await {
                tracing::warn!(%error, "closing files that were replaced");
            }
            link.borrow_mut().report(Report::Released { ticket });
        });
        self.moving = Some(moving.detach());
    }
}

impl Services for NodeServices {
    fn perform(&mut self, output: Output) {
        match output {
            Output::Append { commit, records } => self.journal.append(commit, records),
            Output::Read { read, query } => self.read(read, query),
            Output::Forward { to, message } => self.lanes.send(to, message),
            Output::Control(message) => self.to_control.say(self.shard, message, &self.inbox),
            other => unreachable!("sockets carry out {other:?}"),
        }
    }

    fn flush(&mut self) {
        self.lanes.flush();
        self.to_control.flush();
        self.link.borrow_mut().flush();
    }

    fn next_input(&mut self) -> Option<Input<'static>> {
        self.hear();
        // In turns, so that neither lanes nor the control plane wait for a silence of the other.
        self.control_first = !self.control_first;
        if self.control_first
            && let Ok(message) = self.from_control.try_recv()
        {
            return Some(Input::Control(message));
        }
        if self.inbox.is_empty() {
            let inbox = &self.inbox;
            self.lanes
                .receive(|from, message| inbox.push(Input::Lane { from, message }));
        }
        self.inbox
            .pop()
            .or_else(|| self.from_control.try_recv().ok().map(Input::Control))
    }

    fn has_input(&self) -> bool {
        !self.inbox.is_empty()
            || self.lanes.has_arrived()
            || self.lanes.can_flush()
            || !self.from_control.is_empty()
            || self.link.borrow().has_notice()
    }

    fn is_busy(&self) -> bool {
        self.inbox.is_busy()
    }

    async fn finish(mut self) {
        self.link.borrow_mut().end(self.shard.0);
        // Nobody else may be writing an index file when the log writes its last ones.
        while self.link.borrow().is_waiting() {
            self.link.borrow_mut().flush();
            self.hear();
            Timer::new(WAIT).await;
        }
        self.journal.finish().await;
        self.link.borrow_mut().report(Report::Closed);
        while !self.link.borrow().is_told() {
            Timer::new(WAIT).await;
            self.link.borrow_mut().flush();
        }
    }
}
