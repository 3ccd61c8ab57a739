//! What the sockets of one shard share on their way out.
//!
//! Frames that any number of sockets are due, counted once however many wait for them; the last
//! run that was joined; queues without contents, so that a send costs no allocation. It sends
//! nothing and drops nobody: it says whose turn it would be.
//!
//! Invariants: the bytes held are those of the frames that somebody still waits for, each once,
//! and what each wait costs; they are never more than the budget for longer than a look takes,
//! unless no socket waits for its peer.

use std::cell::Cell;
use std::ops::Deref;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

use crate::egress::Queue;

/// What a frame costs beside its bytes.
const FRAME_BYTES: usize = 64;

/// What it costs that a frame waits in one more queue: a pointer, and the room that lists keep.
const WAIT_BYTES: usize = 16;

/// Queues that are kept for the next sends, as many as leave in one round.
const SPARES_MAX: usize = 2_048;

/// One or more complete frames that any number of this shard's sockets may be due: a local
/// reference, so that a broadcast costs no atomic operation per recipient.
#[derive(Debug)]
pub struct Frame(Rc<Held>);

#[derive(Debug)]
struct Held {
    bytes: Bytes,
    meter: Meter,
}

/// The bytes that a shard's sockets hold.
#[derive(Clone, Default, Debug)]
struct Meter(Rc<Cell<usize>>);

/// What waits for a socket that waits for its peer. The greatest gives way first: one whose
/// session is over, then the largest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Backlog<K> {
    /// The session is over; only its end is still to be told.
    pub leaving: bool,
    /// What waits.
    pub bytes: usize,
    /// Whose it is.
    pub of: K,
}

/// What the sockets of one shard share.
#[derive(Debug)]
pub struct Spool {
    meter: Meter,
    bytes_max: usize,
    /// Backlogs are not looked at again before so much is held.
    look_from_bytes: usize,
    #[expect(clippy::vec_box, reason = "the boxes are what is kept")]
    spares: Vec<Box<Queue>>,
    run: Vec<Frame>,
    joined: Option<Frame>,
}

impl Spool {
    /// A spool that holds nothing, for sockets that may hold so many bytes together.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            meter: Meter::default(),
            bytes_max,
            look_from_bytes: 0,
            spares: Vec::new(),
            run: Vec::new(),
            joined: None,
        }
    }

    /// Bytes to be queued.
    #[must_use]
    pub fn frame(&self, bytes: Bytes) -> Frame {
        self.meter.add(FRAME_BYTES + bytes.len() + WAIT_BYTES);
        let meter = self.meter.clone();
        Frame(Rc::new(Held { bytes, meter }))
    }

    /// Bytes that wait, each counted once, with what the waiting costs.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.meter.0.get()
    }

    /// Whether more waits than may, so that somebody has to give way.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.held_bytes() > self.bytes_max.max(self.look_from_bytes)
    }

    /// Whether still more must be let go, given what will follow from what has been.
    #[must_use]
    pub fn is_short(&self, letting_go_bytes: usize) -> bool {
        let bytes = self.held_bytes().saturating_sub(letting_go_bytes);
        bytes > self.bytes_max - self.bytes_max / 8
    }

    /// All backlogs were looked at: not again before noticeably more is held, or some time has
    /// passed.
    pub fn looked(&mut self) {
        self.look_from_bytes = self.held_bytes() + self.bytes_max / 16;
    }

    /// Some time has passed: backlogs may be looked at again.
    pub fn look_again(&mut self) {
        self.look_from_bytes = 0;
    }

    /// For the end of a round: lets go of the last run, so that idle memory stays idle.
    pub fn forget(&mut self) {
        self.run.clear();
        self.joined = None;
    }

    /// One frame of several. The next socket is often due the same, so the last one is kept.
    pub(crate) fn join(&mut self, run: &[Frame]) -> Frame {
        let same = |(a, b): (&Frame, &Frame)| Rc::ptr_eq(&a.0, &b.0);
        if let Some(joined) = &self.joined
            && run.len() == self.run.len()
            && run.iter().zip(&self.run).all(same)
        {
            return joined.clone();
        }
        let mut bytes = BytesMut::with_capacity(run.iter().map(|frame| frame.len()).sum());
        for frame in run {
            bytes.extend_from_slice(frame);
        }
        let joined = self.frame(bytes.freeze());
        self.run.clear();
        self.run.extend_from_slice(run);
        self.joined = Some(joined.clone());
        joined
    }

    /// An empty queue.
    pub(crate) fn queue(&mut self) -> Box<Queue> {
        self.spares.pop().unwrap_or_default()
    }

    /// A queue that is empty again.
    pub(crate) fn put_back(&mut self, queue: Box<Queue>) {
        if self.spares.len() < SPARES_MAX && !queue.is_spilled() {
            self.spares.push(queue);
        }
    }
}

impl Meter {
    fn add(&self, bytes: usize) {
        self.0.set(self.0.get() + bytes);
    }

    fn remove(&self, bytes: usize) {
        self.0.set(self.0.get() - bytes);
    }
}

impl Clone for Frame {
    fn clone(&self) -> Self {
        self.0.meter.add(WAIT_BYTES);
        Self(Rc::clone(&self.0))
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        self.0.meter.remove(WAIT_BYTES);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.meter.remove(FRAME_BYTES + self.bytes.len());
    }
}

impl Frame {
    /// The bytes that go when this one goes.
    pub(crate) fn own_bytes(&self) -> usize {
        match Rc::strong_count(&self.0) {
            1 => self.len(),
            _ => 0,
        }
    }
}

impl Deref for Frame {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spool() -> Spool {
        Spool::new(10_000)
    }

    #[test]
    fn a_frame_is_counted_once_however_many_wait_for_it() {
        let spool = spool();
        let frame = spool.frame(Bytes::from(vec![0; 1_000]));
        let alone = spool.held_bytes();
        let waits: Vec<Frame> = (0..10).map(|_| frame.clone()).collect();
        assert_eq!(spool.held_bytes(), alone + 10 * WAIT_BYTES);
        drop((frame, waits));
        assert_eq!(spool.held_bytes(), 0);
    }

    #[test]
    fn equal_runs_share_one_buffer() {
        let mut spool = spool();
        let [a, b] = [b"a", b"b"].map(|bytes| spool.frame(Bytes::from_static(bytes)));
        let shared = spool.join(&[a.clone(), b.clone()]);
        assert_eq!(&*shared, b"ab");
        assert_eq!(
            spool.join(&[a.clone(), b.clone()]).as_ptr(),
            shared.as_ptr()
        );
        assert_ne!(spool.join(&[b, a]).as_ptr(), shared.as_ptr());
        drop(shared);
        spool.forget();
        assert_eq!(spool.held_bytes(), 0);
    }

    #[test]
    fn what_is_over_the_budget_is_let_go_until_there_is_room() {
        let mut spool = spool();
        let small = spool.frame(Bytes::from(vec![0; 8_000]));
        assert!(!spool.is_over());
        let large = spool.frame(Bytes::from(vec![0; 3_000]));
        assert!(spool.is_over() && spool.is_short(0) && !spool.is_short(3_000));
        spool.looked();
        assert!(!spool.is_over(), "nobody could give way");
        let more = spool.frame(Bytes::from(vec![0; 1_000]));
        assert!(spool.is_over());
        spool.looked();
        spool.look_again();
        assert!(spool.is_over());
        drop((large, more));
        assert!(!spool.is_over() && !spool.is_short(0));
        drop(small);
    }

    #[test]
    fn who_has_left_gives_way_before_the_largest() {
        let backlog = |leaving, bytes, of| Backlog { leaving, bytes, of };
        let mut backlogs = [
            backlog(false, 9, 'a'),
            backlog(true, 1, 'b'),
            backlog(false, 20, 'c'),
        ];
        backlogs.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(backlogs.map(|backlog| backlog.of), ['b', 'c', 'a']);
    }
}
