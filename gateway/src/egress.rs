//! What waits to leave on one socket.
//!
//! It performs no I/O: whoever drives it asks for the next send, carries it out, and says how many
//! bytes left. The edge and the simulation drive the same code.
//!
//! Invariants: the bytes that leave are the pushed frames, whole and in order, whatever the sends
//! accept at a time; at most one send is in flight; an idle socket holds nothing on the heap; the
//! backlog never exceeds its limit, except for one close frame after an overflow.

use std::rc::Rc;

use bytes::Bytes;
use smallvec::SmallVec;

/// One complete frame that any number of this shard's sockets may be due: a local reference, so
/// that a broadcast costs no atomic operation per recipient.
pub type Frame = Rc<Bytes>;

/// Bytes of several frames that leave in one send, unless the first alone is larger.
pub const SEND_BYTES_MAX: usize = 256 << 10;

/// First byte of a final close frame (RFC 6455, section 5.2).
const CLOSE_FRAME: u8 = 0x88;
/// The largest unmasked control frame: two bytes of header, 125 of payload (section 5.5).
const CONTROL_FRAME_BYTES_MAX: usize = 127;

/// What became of a pushed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pushed {
    /// It waits its turn.
    Queued,
    /// It does not fit: dropped, and so is everything after it but one close frame. Said once.
    Overflow,
    /// Dropped after an earlier overflow.
    Dropped,
}

/// The outgoing queue of one socket. Its size is 16 bytes.
#[derive(Debug, Default)]
pub struct Egress {
    queue: Option<Box<Queue>>,
    deflating: bool,
    overflowed: bool,
    closing: bool,
    watched: bool,
}

#[derive(Debug, Default)]
struct Queue {
    current: Option<Frame>,
    current_sent: usize,
    in_flight: bool,
    waiting: SmallVec<[Frame; 4]>,
    bytes: usize,
}

impl Egress {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a frame behind the others. `backlog_bytes_max` bounds all bytes that have not left.
    pub fn push(&mut self, frame: Frame, backlog_bytes_max: usize) -> Pushed {
        if self.closing || (self.overflowed && !is_close_frame(&frame)) {
            return Pushed::Dropped;
        }
        if !self.overflowed && self.queued_bytes() + frame.len() > backlog_bytes_max {
            self.overflowed = true;
            return Pushed::Overflow;
        }
        if self.overflowed {
            self.closing = true;
        }
        if !frame.is_empty() {
            let queue = self.queue.get_or_insert_default();
            queue.bytes += frame.len();
            queue.waiting.push(frame);
        }
        Pushed::Queued
    }

    /// Starts the next send: the bytes to hand to the kernel, which stay where they are until
    /// [`Egress::sent`] or [`Egress::failed`]. `None` when one is in flight or nothing waits.
    pub fn next_send(&mut self, joiner: &mut Joiner) -> Option<&[u8]> {
        let queue = self.queue.as_deref_mut().filter(|queue| !queue.in_flight)?;
        if queue.current.is_none() {
            queue.current = Some(queue.take_run(joiner));
        }
        queue.in_flight = true;
        queue
            .current
            .as_ref()
            .map(|frame| &frame[queue.current_sent..])
    }

    /// The send in flight is over: so many of its bytes have left.
    ///
    /// # Panics
    /// If none was in flight, or more left than were handed out.
    pub fn sent(&mut self, bytes: usize) {
        let queue = self
            .queue
            .as_deref_mut()
            .expect("a send that ended was started");
        assert!(queue.in_flight, "a send that ended was in flight");
        queue.in_flight = false;
        let current_bytes = queue.current.as_ref().map_or(0, |frame| frame.len());
        queue.current_sent += bytes;
        assert!(
            queue.current_sent <= current_bytes,
            "more left than was handed out"
        );
        queue.bytes -= bytes;
        if queue.current_sent == current_bytes {
            queue.current = None;
            queue.current_sent = 0;
            if queue.waiting.is_empty() {
                assert_eq!(queue.bytes, 0, "an empty queue counts no bytes");
                self.queue = None;
            }
        }
    }

    /// The socket takes nothing more: forgets everything but the bytes of a send in flight.
    pub fn discard(&mut self) {
        self.closing = true;
        match self.queue.as_deref_mut() {
            Some(queue) if queue.in_flight => {
                queue.waiting.clear();
                let current_bytes = queue.current.as_ref().map_or(0, |frame| frame.len());
                queue.bytes = current_bytes - queue.current_sent;
            }
            _ => self.queue = None,
        }
    }

    /// The send in flight failed, so that nothing can follow it.
    pub fn failed(&mut self) {
        self.queue = None;
        self.closing = true;
    }

    /// Takes no more frames; what is queued still leaves.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// From here on the client takes compressed messages.
    pub fn deflate(&mut self) {
        self.deflating = true;
    }

    /// Whether the client takes compressed messages.
    #[must_use]
    pub fn is_deflating(&self) -> bool {
        self.deflating
    }

    /// Asks for one [`Egress::take_writable`] when nothing is queued any more.
    pub fn watch(&mut self) {
        self.watched = true;
    }

    /// Whether somebody watches and nothing is queued; says so once per watch.
    pub fn take_writable(&mut self) -> bool {
        let writable = self.watched && self.is_idle();
        self.watched &= !writable;
        writable
    }

    /// Bytes that have not left, those in flight included.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.bytes)
    }

    /// Whether nothing is queued and nothing in flight.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queue.is_none()
    }

    /// Whether a send is in flight.
    #[must_use]
    pub fn in_flight(&self) -> bool {
        self.queue.as_ref().is_some_and(|queue| queue.in_flight)
    }
}

impl Queue {
    /// Takes the frames that leave in the next send, joined when there are several.
    fn take_run(&mut self, joiner: &mut Joiner) -> Frame {
        let mut run_bytes = 0;
        let count = self
            .waiting
            .iter()
            .take_while(|frame| {
                run_bytes += frame.len();
                run_bytes <= SEND_BYTES_MAX
            })
            .count();
        if count <= 1 {
            return self.waiting.remove(0);
        }
        let joined = joiner.join(&self.waiting[..count]);
        self.waiting.drain(..count);
        joined
    }
}

fn is_close_frame(frame: &Frame) -> bool {
    frame.first() == Some(&CLOSE_FRAME) && frame.len() <= CONTROL_FRAME_BYTES_MAX
}

/// Joins runs of frames, and remembers the last one: the next socket is often due the same.
#[derive(Debug, Default)]
pub struct Joiner {
    run: Vec<Frame>,
    joined: Option<Frame>,
}

impl Joiner {
    /// A joiner that remembers nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets go of the last run. For the end of a tick, so that idle memory stays idle.
    pub fn forget(&mut self) {
        self.run.clear();
        self.joined = None;
    }

    fn join(&mut self, run: &[Frame]) -> Frame {
        if let Some(joined) = &self.joined
            && run.len() == self.run.len()
            && run.iter().zip(&self.run).all(|(a, b)| Rc::ptr_eq(a, b))
        {
            return Rc::clone(joined);
        }
        let mut bytes = Vec::with_capacity(run.iter().map(|frame| frame.len()).sum());
        for frame in run {
            bytes.extend_from_slice(frame);
        }
        let joined = Rc::new(Bytes::from(bytes));
        self.run.clear();
        self.run.extend_from_slice(run);
        self.joined = Some(Rc::clone(&joined));
        joined
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(bytes: &[u8]) -> Frame {
        Rc::new(Bytes::copy_from_slice(bytes))
    }

    /// Pushes frames and lets sends of the given sizes leave between them; what left must be the
    /// frames, exactly.
    fn check(frames: &[Vec<u8>], sends: &[usize]) {
        let (mut egress, mut joiner, mut left) = (Egress::new(), Joiner::new(), Vec::new());
        let mut accepts = sends.iter().copied().cycle();
        let mut send = |egress: &mut Egress, left: &mut Vec<u8>| {
            let Some(bytes) = egress.next_send(&mut joiner) else {
                return false;
            };
            let accepted = accepts.next().unwrap_or(1).min(bytes.len());
            left.extend_from_slice(&bytes[..accepted]);
            assert!(
                egress.next_send(&mut joiner).is_none(),
                "one send at a time"
            );
            egress.sent(accepted);
            true
        };
        for (index, bytes) in frames.iter().enumerate() {
            assert_eq!(egress.push(frame(bytes), usize::MAX), Pushed::Queued);
            if index % 3 == 2 {
                send(&mut egress, &mut left);
            }
        }
        let total = frames.iter().map(Vec::len).sum::<usize>();
        assert_eq!(egress.queued_bytes(), total - left.len());
        while send(&mut egress, &mut left) {}
        assert_eq!(left, frames.concat());
        assert!(egress.is_idle() && egress.queued_bytes() == 0);
    }

    proptest! {
        #[test]
        fn any_short_sends_give_the_exact_stream(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..40),
            sends in prop::collection::vec(1_usize..700, 1..20),
        ) {
            check(&frames, &sends);
        }
    }

    #[test]
    fn frames_beyond_one_send_leave_in_several() {
        let frames = vec![
            vec![1; SEND_BYTES_MAX - 1],
            vec![2; 2],
            vec![3; SEND_BYTES_MAX + 9],
        ];
        check(&frames, &[usize::MAX]);
        check(&frames, &[100_000]);
    }

    #[test]
    fn a_single_frame_is_not_copied_and_equal_runs_share_one_buffer() {
        let (a, b) = (frame(b"a"), frame(b"b"));
        let mut joiner = Joiner::new();
        let mut send = |frames: &[&Frame]| {
            let mut egress = Egress::new();
            for frame in frames {
                egress.push(Rc::clone(frame), 100);
            }
            egress.next_send(&mut joiner).unwrap().as_ptr()
        };
        assert_eq!(send(&[&a]), a.as_ptr());
        let shared = send(&[&a, &b]);
        assert_eq!(send(&[&a, &b]), shared);
        assert_ne!(send(&[&b, &a]), shared);
    }

    #[test]
    fn an_overflow_is_said_once_and_lets_one_close_frame_through() {
        let (mut egress, mut joiner) = (Egress::new(), Joiner::new());
        assert_eq!(egress.push(frame(b"12345"), 8), Pushed::Queued);
        assert_eq!(egress.push(frame(b"6789"), 8), Pushed::Overflow);
        assert_eq!(egress.push(frame(b"1"), 8), Pushed::Dropped);
        assert_eq!(egress.push(frame(b"\x88\x02\x0f\xa8"), 8), Pushed::Queued);
        assert_eq!(egress.push(frame(b"\x88\x02\x0f\xa8"), 8), Pushed::Dropped);
        assert_eq!(
            egress.next_send(&mut joiner).unwrap(),
            b"12345\x88\x02\x0f\xa8"
        );
        egress.sent(9);
        assert_eq!(egress.push(frame(b"1"), 8), Pushed::Dropped);
        assert!(egress.is_idle());
    }

    #[test]
    fn writable_is_said_once_per_watch_when_all_has_left() {
        let (mut egress, mut joiner) = (Egress::new(), Joiner::new());
        assert!(!egress.take_writable());
        egress.watch();
        egress.push(frame(b"12"), 8);
        egress.next_send(&mut joiner);
        egress.sent(1);
        assert!(!egress.take_writable());
        egress.next_send(&mut joiner);
        egress.sent(1);
        assert!(egress.take_writable());
        assert!(!egress.take_writable());
    }

    #[test]
    fn discarding_keeps_what_is_in_flight() {
        let (mut egress, mut joiner) = (Egress::new(), Joiner::new());
        egress.push(frame(b"12"), 8);
        egress.next_send(&mut joiner);
        egress.push(frame(b"34"), 8);
        egress.discard();
        assert!(egress.in_flight() && egress.queued_bytes() == 2);
        egress.sent(1);
        egress.discard();
        assert!(egress.is_idle());
    }

    #[test]
    fn an_idle_socket_is_small() {
        assert!(size_of::<Egress>() <= 16);
    }
}
