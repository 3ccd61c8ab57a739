//! What waits to leave on one socket.
//!
//! It performs no I/O: whoever drives it asks for the next send, carries it out, and says how many
//! bytes left. The edge and the simulation drive the same code.
//!
//! Invariants: the bytes that leave are the pushed frames, whole and in order, whatever the sends
//! accept at a time; at most one send is in flight; an idle socket holds nothing on the heap; the
//! backlog never exceeds its limit, except for one close frame after an overflow.

use smallvec::SmallVec;

use crate::spool::{Frame, Spool};

/// Bytes of several frames that are joined to leave in one send. More would cost slow readers a
/// copy each of what they share, to save a few sends.
const JOINED_BYTES_MAX: usize = 32 << 10;

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

/// What waits for a socket that is not idle.
#[derive(Debug, Default)]
pub(crate) struct Queue {
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
    pub fn push(&mut self, frame: Frame, backlog_bytes_max: usize, spool: &mut Spool) -> Pushed {
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
            let queue = self.queue.get_or_insert_with(|| spool.queue());
            queue.bytes += frame.len();
            queue.waiting.push(frame);
        }
        Pushed::Queued
    }

    /// Starts the next send: the bytes to hand to the kernel, which stay where they are until
    /// [`Egress::sent`] or [`Egress::failed`]. `None` when one is in flight or nothing waits.
    pub fn next_send(&mut self, spool: &mut Spool) -> Option<&[u8]> {
        let queue = self.queue.as_deref_mut().filter(|queue| !queue.in_flight)?;
        if queue.current.is_none() {
            queue.current = Some(queue.take_run(spool));
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
    pub fn sent(&mut self, bytes: usize, spool: &mut Spool) {
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
                if let Some(queue) = self.queue.take() {
                    spool.put_back(queue);
                }
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

    /// Makes room for others: what waits behind a send that was begun is dropped, and so is
    /// everything after it but one close frame, as after an overflow. Returns how many bytes will
    /// follow when that send is over; `None` if no more frames were taken before.
    pub fn give_way(&mut self) -> Option<usize> {
        if self.overflowed || self.closing {
            return None;
        }
        self.overflowed = true;
        let queue = self.queue.as_deref_mut()?;
        let current = queue.current.as_deref().unwrap_or_default();
        queue.bytes = current.len() - queue.current_sent;
        queue.waiting = SmallVec::new();
        if queue.current.is_none() {
            self.queue = None;
        }
        Some(self.own_bytes())
    }

    /// Bytes of the send in flight that nobody else waits for.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        let current = self.queue.as_ref().and_then(|queue| queue.current.as_ref());
        current.map_or(0, Frame::own_bytes)
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
    /// Whether it keeps room for many frames.
    pub(crate) fn is_spilled(&self) -> bool {
        self.waiting.spilled()
    }

    /// Takes the frames that leave in the next send, joined when there are several.
    fn take_run(&mut self, spool: &mut Spool) -> Frame {
        let mut run_bytes = 0;
        let count = self
            .waiting
            .iter()
            .take_while(|frame| {
                run_bytes += frame.len();
                run_bytes <= JOINED_BYTES_MAX
            })
            .count();
        if count <= 1 {
            return self.waiting.remove(0);
        }
        let joined = spool.join(&self.waiting[..count]);
        self.waiting.drain(..count);
        joined
    }
}

fn is_close_frame(frame: &Frame) -> bool {
    frame.first() == Some(&CLOSE_FRAME) && frame.len() <= CONTROL_FRAME_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;

    /// An egress with the spool that it would share.
    struct Alone {
        egress: Egress,
        spool: Spool,
    }

    impl Alone {
        fn new() -> Self {
            Self {
                egress: Egress::new(),
                spool: Spool::new(usize::MAX),
            }
        }

        fn push(&mut self, bytes: &[u8], backlog_bytes_max: usize) -> Pushed {
            let frame = self.spool.frame(Bytes::copy_from_slice(bytes));
            self.egress.push(frame, backlog_bytes_max, &mut self.spool)
        }

        fn next_send(&mut self) -> Option<&[u8]> {
            self.egress.next_send(&mut self.spool)
        }

        fn sent(&mut self, bytes: usize) {
            self.egress.sent(bytes, &mut self.spool);
        }
    }

    /// Pushes frames and lets sends of the given sizes leave between them; what left must be the
    /// frames, exactly.
    fn check(frames: &[Vec<u8>], sends: &[usize]) {
        let (mut alone, mut left) = (Alone::new(), Vec::new());
        let mut accepts = sends.iter().copied().cycle();
        let mut send = |alone: &mut Alone, left: &mut Vec<u8>| {
            let Some(bytes) = alone.next_send() else {
                return false;
            };
            let accepted = accepts.next().unwrap_or(1).min(bytes.len());
            left.extend_from_slice(&bytes[..accepted]);
            assert!(alone.next_send().is_none(), "one send at a time");
            alone.sent(accepted);
            true
        };
        for (index, bytes) in frames.iter().enumerate() {
            assert_eq!(alone.push(bytes, usize::MAX), Pushed::Queued);
            if index % 3 == 2 {
                send(&mut alone, &mut left);
            }
        }
        let total = frames.iter().map(Vec::len).sum::<usize>();
        assert_eq!(alone.egress.queued_bytes(), total - left.len());
        while send(&mut alone, &mut left) {}
        assert_eq!(left, frames.concat());
        assert!(alone.egress.is_idle() && alone.egress.queued_bytes() == 0);
        alone.spool.forget();
        assert_eq!(alone.spool.held_bytes(), 0);
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
            vec![1; JOINED_BYTES_MAX - 1],
            vec![2; 2],
            vec![3; JOINED_BYTES_MAX + 9],
        ];
        check(&frames, &[usize::MAX]);
        check(&frames, &[100_000]);
    }

    #[test]
    fn a_single_frame_is_not_copied() {
        let mut alone = Alone::new();
        let frame = alone.spool.frame(Bytes::from_static(b"12"));
        let address = frame.as_ptr();
        alone.egress.push(frame, 8, &mut alone.spool);
        assert_eq!(alone.next_send().unwrap().as_ptr(), address);
    }

    #[test]
    fn an_overflow_is_said_once_and_lets_one_close_frame_through() {
        let mut alone = Alone::new();
        assert_eq!(alone.push(b"12345", 8), Pushed::Queued);
        assert_eq!(alone.push(b"6789", 8), Pushed::Overflow);
        assert_eq!(alone.push(b"1", 8), Pushed::Dropped);
        assert_eq!(alone.push(b"\x88\x02\x0f\xa8", 8), Pushed::Queued);
        assert_eq!(alone.push(b"\x88\x02\x0f\xa8", 8), Pushed::Dropped);
        assert_eq!(alone.next_send().unwrap(), b"12345\x88\x02\x0f\xa8");
        alone.sent(9);
        assert_eq!(alone.push(b"1", 8), Pushed::Dropped);
        assert!(alone.egress.is_idle());
    }

    #[test]
    fn who_gives_way_ends_what_was_begun_and_takes_one_close_frame() {
        let mut alone = Alone::new();
        assert_eq!(alone.push(b"12345", 100), Pushed::Queued);
        alone.next_send();
        assert_eq!(alone.push(b"6789", 100), Pushed::Queued);
        assert_eq!(alone.egress.give_way(), Some(5));
        assert_eq!(alone.egress.give_way(), None);
        assert_eq!(alone.push(b"1", 100), Pushed::Dropped);
        assert_eq!(alone.push(b"\x88\x02\x0f\xa8", 100), Pushed::Queued);
        alone.sent(3);
        assert_eq!(alone.next_send().unwrap(), b"45");
        alone.sent(2);
        assert_eq!(alone.next_send().unwrap(), b"\x88\x02\x0f\xa8");
        alone.sent(4);
        assert!(alone.egress.is_idle() && alone.spool.held_bytes() == 0);
    }

    #[test]
    fn writable_is_said_once_per_watch_when_all_has_left() {
        let mut alone = Alone::new();
        assert!(!alone.egress.take_writable());
        alone.egress.watch();
        alone.push(b"12", 8);
        alone.next_send();
        alone.sent(1);
        assert!(!alone.egress.take_writable());
        alone.next_send();
        alone.sent(1);
        assert!(alone.egress.take_writable());
        assert!(!alone.egress.take_writable());
    }

    #[test]
    fn discarding_keeps_what_is_in_flight() {
        let mut alone = Alone::new();
        alone.push(b"12", 8);
        alone.next_send();
        alone.push(b"34", 8);
        alone.egress.discard();
        assert!(alone.egress.in_flight() && alone.egress.queued_bytes() == 2);
        alone.sent(1);
        alone.egress.discard();
        assert!(alone.egress.is_idle());
    }

    #[test]
    fn an_idle_socket_is_small() {
        assert!(size_of::<Egress>() <= 16);
    }
}
