//! What goes into a shard and what comes out of it.
//!
//! The edge turns completions of the kernel into [`Input`]s and carries out the [`Output`]s; the
//! simulation does the same with a simulated network and disk. Nothing here knows a socket, a
//! file, a clock or a thread.
//!
//! Invariants: every `Output::Append`, `Read` and `Control(Ask)` is answered by exactly one
//! input, in any order; outputs are carried out in the order they were pushed.

use std::ops::Range;
use std::vec;

use bytes::Bytes;
use throng_control::{FromShard, ToShard};
use throng_storage_engine::{PageQuery, Record, StoreError, Stored};

use crate::lane::LaneMessage;

/// A socket of this shard: its place in the edge's slab, and which of the place's successive
/// tenants is meant, so that a late completion never reaches the next one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnId {
    /// Place in the slab, reused after a close.
    pub index: u32,
    /// Counts the tenants of that place.
    pub generation: u32,
}

/// One core and all it owns, counted from 0 within a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ShardId(pub u16);

/// One durable group of appends. At most one is in flight per shard.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct CommitId(pub u64);

/// One page read from the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ReadId(pub u64);

/// Why a commit was refused with nothing written: the shard answers UNAVAILABLE and goes on.
/// (Anything worse ends the process and never reaches the shard.)
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitRefused;

/// What happens to a shard.
#[derive(Debug)]
pub enum Input<'a> {
    /// A socket was accepted.
    Accepted {
        /// The new socket.
        conn: ConnId,
    },
    /// Bytes arrived; the shard may change them in place (unmasking).
    Received {
        /// Where from.
        conn: ConnId,
        /// What arrived, in the shared receive buffer.
        bytes: &'a mut [u8],
    },
    /// The peer closed, the socket failed, or a close that the shard asked for is done.
    /// The last input that names this `conn`.
    Closed {
        /// Which socket.
        conn: ConnId,
    },
    /// Everything queued for this socket has left, after an `Output::Watch`.
    Writable {
        /// Which socket.
        conn: ConnId,
    },
    /// The socket's backlog went over its limit: what came after was dropped, so the stream can
    /// only be ended.
    Blocked {
        /// Which socket.
        conn: ConnId,
    },
    /// Another shard says something.
    Lane {
        /// Who.
        from: ShardId,
        /// What.
        message: LaneMessage,
    },
    /// The commit is written and synced, or was refused with nothing written.
    Committed {
        /// Which commit.
        commit: CommitId,
        /// Whether it happened.
        result: Result<(), CommitRefused>,
    },
    /// A page was read.
    Page {
        /// Which read.
        read: ReadId,
        /// The messages, oldest first.
        result: Result<Vec<Stored>, StoreError>,
    },
    /// The store's maintenance fails at something and tries again, or has stopped failing.
    StoreTrouble {
        /// What the operator is told.
        error: Option<String>,
    },
    /// The control plane answers or asks.
    Control(ToShard),
    /// The next step of what an `Output::Again` asked for.
    Again,
    /// Time has passed; sent at least every 100 ms.
    Tick,
    /// The process is asked to end: tell the clients, take no new ones.
    Drain,
}

/// What a shard wants done.
#[derive(Debug)]
pub enum Output {
    /// One complete frame (or handshake response) for one socket.
    Send {
        /// Where to.
        conn: ConnId,
        /// The bytes.
        bytes: Bytes,
    },
    /// The same bytes for many sockets: one frame, or several that are due together.
    Broadcast {
        /// The bytes, complete frames.
        bytes: Bytes,
        /// Who gets them, to be looked up in the batch.
        to: Recipients,
    },
    /// From here on text messages to this socket may leave compressed.
    Deflate {
        /// Which socket.
        conn: ConnId,
    },
    /// Ask for one `Input::Again` in the next round, after other inputs have had their turn and
    /// when the sends of this one have been started: there is more to do.
    Again,
    /// Ask for one `Input::Writable` as soon as nothing is queued for this socket (at once, if so).
    Watch {
        /// Which socket.
        conn: ConnId,
    },
    /// Close the socket once what is queued before has left, or after 5 s. Bytes that still
    /// arrive are thrown away. `Input::Closed` follows.
    Close {
        /// Which socket.
        conn: ConnId,
    },
    /// The connection speaks ordinary HTTP: it goes to the control plane with the bytes read so
    /// far. `Input::Closed` follows.
    HandOver {
        /// Which socket.
        conn: ConnId,
        /// All bytes received on it.
        head: Bytes,
    },
    /// Say something to another shard (never to itself).
    Forward {
        /// Who.
        to: ShardId,
        /// What.
        message: LaneMessage,
    },
    /// Write and sync these records as one commit.
    Append {
        /// Which commit.
        commit: CommitId,
        /// Its records.
        records: Vec<Record>,
    },
    /// Read a page of a channel.
    Read {
        /// Which read.
        read: ReadId,
        /// Which messages.
        query: PageQuery,
    },
    /// Say something to the control plane.
    Control(FromShard),
}

/// Who gets a broadcast: a part of the batch's list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipients(Range<usize>);

/// Outputs in the order they were pushed. Reused: whoever drives the shard drains it after each
/// batch of inputs.
#[derive(Debug, Default)]
pub struct Outbox {
    outputs: Vec<Output>,
    recipients: Vec<ConnId>,
}

impl Outbox {
    /// An empty outbox.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an output behind the others.
    pub fn push(&mut self, output: Output) {
        self.outputs.push(output);
    }

    /// Adds a broadcast behind the other outputs.
    pub fn broadcast(&mut self, bytes: Bytes, recipients: impl IntoIterator<Item = ConnId>) {
        let from = self.recipients.len();
        self.recipients.extend(recipients);
        let to = Recipients(from..self.recipients.len());
        self.outputs.push(Output::Broadcast { bytes, to });
    }

    /// Takes all outputs out, in order; the memory stays for the next batch.
    pub fn drain(&mut self) -> Batch<'_> {
        Batch {
            outputs: self.outputs.drain(..),
            recipients: self.recipients.drain(..),
        }
    }

    /// Whether nothing waits to be carried out.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outputs.is_empty()
    }
}

/// The outputs of one batch, in order.
#[derive(Debug)]
pub struct Batch<'a> {
    outputs: vec::Drain<'a, Output>,
    recipients: vec::Drain<'a, ConnId>,
}

impl Batch<'_> {
    /// Who gets a broadcast of this batch.
    #[must_use]
    pub fn recipients(&self, to: &Recipients) -> &[ConnId] {
        &self.recipients.as_slice()[to.0.clone()]
    }
}

impl Iterator for Batch<'_> {
    type Item = Output;

    fn next(&mut self) -> Option<Output> {
        self.outputs.next()
    }
}

/// What an edge drives: the chat shard, or the echo that conformance suites and benchmarks use.
pub trait Application {
    /// Takes one input at node time `now_ms` (milliseconds since 1970, never decreasing).
    fn handle(&mut self, now_ms: u64, input: Input<'_>, outbox: &mut Outbox);
}
