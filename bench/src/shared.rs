//! What the generator's threads and its main thread tell each other.
//!
//! It holds no socket and no client; nothing in it is written more than once per turn of a loop,
//! except the counts.
//!
//! Invariants: a channel's head only grows; a thread settles once.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use throng_protocol::Seq;

use crate::clock::Clock;
use crate::ended::Ended;
use crate::index::{ChannelIndex, MessageIndex};
use crate::oracle::Oracle;
use crate::swarm::course::Course;
use crate::tally::Tally;

/// What the threads of a run tell each other.
#[derive(Debug)]
pub struct Shared {
    /// Clients that are live.
    pub live: AtomicU64,
    /// When load begins, on the run's clock, nanoseconds; 0 until it is known.
    pub start_ns: AtomicU64,
    /// Ends all threads early.
    pub stop: AtomicBool,
    /// Messages acknowledged or refused, for the progress line.
    pub answered: AtomicU64,
    /// Events that delivered a message, for the progress line.
    pub deliveries: AtomicU64,
    settled: AtomicUsize,
    heads: Vec<AtomicU64>,
    last_end: Mutex<String>,
}

impl Shared {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self {
            live: AtomicU64::new(0),
            start_ns: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            settled: AtomicUsize::new(0),
            heads: (0..channels).map(|_| AtomicU64::new(0)).collect(),
            last_end: Mutex::new("none".to_owned()),
        }
    }

    /// A thread's messages are all answered; these are the newest of them in each channel.
    pub fn settle(&self, heads: &[Seq]) {
        for (shared, head) in self.heads.iter().zip(heads) {
            shared.fetch_max(head.0, Ordering::AcqRel);
        }
        self.settled.fetch_add(1, Ordering::AcqRel);
    }

    /// How many threads have settled.
    #[must_use]
    pub fn settled(&self) -> usize {
        self.settled.load(Ordering::Acquire)
    }

    /// A channel's newest acknowledged message; final once all threads have settled.
    #[must_use]
    pub fn head(&self, channel: ChannelIndex) -> Seq {
        Seq(self.heads[channel.place()].load(Ordering::Acquire))
    }

    /// Notes why a connection ended.
    pub fn note_end(&self, ended: &Ended) {
        *self
            .last_end
            .lock()
            .expect("nobody panics while holding it") = ended.to_string();
    }

    /// The last reason why a connection ended.
    #[must_use]
    pub fn last_end(&self) -> String {
        self.last_end
            .lock()
            .expect("nobody panics while holding it")
            .clone()
    }
}

/// Which part of the work a thread does.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// This thread, from 0.
    pub thread: usize,
    /// How many there are.
    pub threads: usize,
    /// The run's clock.
    pub clock: Clock,
    /// Without any progress for this long after the load, the thread gives up.
    pub drain_idle: Duration,
}

/// What a thread found.
#[derive(Debug)]
pub struct Outcome {
    /// What its clients saw.
    pub oracle: Oracle,
    /// What it counted.
    pub tally: Tally,
    /// Deliveries by when their message was due.
    pub course: Course,
    /// Messages that were sent more than once.
    pub resent: Vec<MessageIndex>,
    /// Messages neither acknowledged nor refused.
    pub unanswered: u64,
    /// Clients that were not live at the end.
    pub not_live: u64,
    /// Share of a core used while load was offered and drained, percent.
    pub cpu_percent: f64,
    /// When the last answer or delivery came, on the run's clock.
    pub last_progress_ns: u64,
}
