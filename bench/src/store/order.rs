//! What the parent tells the process that runs an engine, and what that answers: a line of JSON
//! each.
//!
//! Nothing of a message travels: both sides know the stream.
//!
//! Invariants: every order has exactly one answer, but for [`Order::AppendUntilKilled`], which
//! has many.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::engine::Limits;
use super::samples::Samples;
use super::workload::Shape;

/// What a child must know before it opens its engine.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) directory: PathBuf,
    pub(super) shape: Shape,
    /// Messages of the stream that the store holds already.
    pub(super) stored: u64,
    pub(super) limits: Limits,
    pub(super) corpus: Option<PathBuf>,
}

/// Which pages are read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum PageKind {
    /// The newest of a busy channel.
    Newest,
    /// Before some message of some channel.
    Deep,
    /// Around some message of some channel.
    Around,
    /// The newest of a channel with one message a month.
    Sparse,
}

impl PageKind {
    pub(super) const ALL: [Self; 4] = [Self::Newest, Self::Deep, Self::Around, Self::Sparse];

    /// As it stands in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Deep => "deep",
            Self::Around => "around",
            Self::Sparse => "sparse",
        }
    }
}

/// What a child is to do next.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Order {
    /// Append so many messages in batches of this size.
    Append { messages: u64, batch: usize },
    /// Append without end, reporting how many messages are acknowledged.
    AppendUntilKilled { batch: usize },
    /// Do what was put off.
    Settle,
    /// Read pages: those of the kind's list from a place on.
    Pages {
        kind: PageKind,
        from: usize,
        count: usize,
    },
    /// Say how much memory is used.
    Memory,
    /// Close the store and end.
    Close,
}

/// What a child answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The store is open and has served its first page.
    Opened {
        first_page_ns: u64,
    },
    Appended(Appended),
    /// So many messages of the stream are acknowledged.
    Acked {
        stored: u64,
    },
    Settled(Settled),
    Pages(Pages),
    Memory(Memory),
    Closed {
        ns: u64,
    },
    /// The engine failed.
    Failed {
        error: String,
    },
}

/// What an append order came to.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Appended {
    pub(super) messages: u64,
    /// Time inside the engine and between its calls, without making the messages.
    pub(super) ns: u64,
    /// Each batch, until it was durable.
    pub(super) commits: Samples,
    /// Bytes of the bodies.
    pub(super) body_bytes: u64,
    /// Work put off on days that ended meanwhile.
    pub(super) settled: Settled,
}

/// What settling came to.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
pub(super) struct Settled {
    pub(super) ns: u64,
    /// Messages that it was about, where the engine can tell: those stored since the last time.
    pub(super) messages: u64,
}

/// What reading pages came to.
#[derive(Clone, Default, Debug, Serialize, Deserialize)]
pub(super) struct Pages {
    pub(super) reads: Samples,
    pub(super) messages: u64,
    /// Pages that were not what was stored.
    pub(super) wrong: u64,
    /// Bytes that came from the device meanwhile, as the kernel counts them.
    pub(super) device_bytes: u64,
    /// Reads sent to the device meanwhile, if the engine counts them.
    pub(super) device_reads: Option<u64>,
}

/// Resident memory that came since before the store was opened, in bytes.
#[derive(Clone, Copy, Default, Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    /// All of it, files mapped into memory too.
    pub(super) resident_bytes: u64,
    /// Without files.
    pub(super) anonymous_bytes: u64,
}
