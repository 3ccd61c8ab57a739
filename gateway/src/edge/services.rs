//! What a chat shard asks for besides sockets: the store, the other shards, the control plane.
//!
//! It carries out and brings back; it decides nothing. A page is read in a task of its own.
//!
//! Invariants: each output that is answered is answered once, also when the control plane takes
//! no more; what was said to a shard arrives in its order.

use std::collections::VecDeque;
use std::rc::Rc;

use crossbeam::channel::Receiver;
use throng_control::{Answer, FromShard, Inlet, ToShard};
use throng_storage_engine::{GlommioDisk, Location, Reader};

use super::inbox::Inbox;
use super::journal::Journal;
use super::lane::Lanes;
use super::pump::Services;
use crate::io::{Input, Output, ReadId, ShardId};
use crate::lane::LaneMessage;

/// The services of one shard of a node.
pub(super) struct NodeServices {
    pub(super) shard: ShardId,
    pub(super) inbox: Inbox,
    pub(super) journal: Journal,
    pub(super) reader: Rc<Reader<GlommioDisk>>,
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
    fn read(&self, read: ReadId, locations: Vec<Location>) {
        let (reader, inbox) = (Rc::clone(&self.reader), self.inbox.clone());
        inbox.begin();
        glommio::spawn_local(async move {
            let result = reader.read(&locations).await;
            if let Err(error) = &result {
                tracing::error!(%error, "a page cannot be read");
            }
            inbox.done(Input::Page { read, result });
        })
        .detach();
    }
}

impl Services for NodeServices {
    fn perform(&mut self, output: Output) {
        match output {
            Output::Append { commit, records } => self.journal.append(commit, records),
            Output::Read { read, locations } => self.read(read, locations),
            Output::Forward { to, message } => self.lanes.send(to, message),
            Output::Control(message) => self.to_control.say(self.shard, message, &self.inbox),
            other => unreachable!("sockets carry out {other:?}"),
        }
    }

    fn flush(&mut self) {
        self.lanes.flush();
        self.to_control.flush();
    }

    fn next_input(&mut self) -> Option<Input<'static>> {
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
    }

    fn is_busy(&self) -> bool {
        self.inbox.is_busy()
    }

    async fn finish(self) {
        self.journal.finish().await;
    }
}
