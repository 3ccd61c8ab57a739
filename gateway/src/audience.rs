//! Who of this shard hears one channel live, and what they are due.
//!
//! Frames that are published gather. A walk takes what has gathered as one *run*, joined once for
//! everybody, and tells it slice by slice: first those who joined while it gathered, each from
//! its own beginning on, then the list from its end downwards. It knows of sessions only where they
//! lie: who holds a place is told when the place changes.
//!
//! Invariants: each listener is told every frame pushed after it joined and before it left, once
//! and in order; what waits is bounded by the lanes' credit, which is given back only when a run
//! has been told; who hears a quiet channel costs 4 bytes, which up to four listeners find in the audience itself.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use throng_protocol::{Rev, Seq};

use crate::io::{ConnId, Outbox};
use crate::session::SessionIndex;

/// Bytes of frames that are told as one run, unless the first alone is larger: a small part of a
/// backlog, so that no run makes a reader look slow.
const RUN_BYTES_MAX: usize = 64 << 10;

/// Deliveries that are kept for the next channel that is due something.
const SPARES_MAX: usize = 64;

/// Frames for which a spare delivery keeps room.
const SPARE_FRAMES_MAX: usize = 256;

/// The last message and record of a channel, as somebody was told of them.
pub(crate) type Head = (Seq, Rev);

/// A listener, and the number of its new place.
pub(crate) type Move = (SessionIndex, u32);

/// Everybody who hears one channel, but for those who joined late.
type Listeners = SmallVec<[SessionIndex; 4]>;

/// Everybody who hears one channel live.
#[derive(Debug, Default)]
pub(crate) struct Audience {
    live: Listeners,
    /// Only while something is due.
    delivery: Option<Box<Delivery>>,
}

/// What is due to an audience.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Frames that wait for the next walk, each with the channel's head after it.
    pending: VecDeque<(Bytes, Head)>,
    pending_bytes: usize,
    /// The head that was told before the first of them.
    told: Head,
    run: Option<Run>,
    /// Who joined while the run gathered and has not been told it.
    joining: Vec<Late>,
    /// Who joined while the pending frames gathered.
    fresh: Vec<Late>,
    /// The owner has been told that more gathers than is told.
    is_crowded: bool,
}

/// What is being told.
#[derive(Debug)]
struct Run {
    bytes: Bytes,
    /// Places of the list below this one have not been told.
    cursor: usize,
    /// The head that was told before it.
    before: Head,
}

/// Somebody who joined while frames waited.
#[derive(Clone, Copy, Debug)]
struct Late {
    session: SessionIndex,
    /// Bytes of the run that came before.
    from: usize,
    /// The head at that moment.
    told: Head,
}

/// What became of a pushed frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kept {
    /// Nobody hears it.
    No,
    /// The first that is due: the audience wants a walk.
    First,
    /// Behind others that are due.
    Behind,
}

/// What one step of a walk did.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Told {
    /// How many were told something.
    pub(crate) recipients: usize,
    /// Bytes of published frames that need not be kept any more.
    pub(crate) released_bytes: usize,
    /// What gathers is little again.
    pub(crate) caught_up: bool,
}

/// Deliveries without contents, so that a frame of a quiet channel costs no allocation.
#[derive(Debug, Default)]
#[expect(clippy::vec_box, reason = "the boxes are what is kept")]
pub(crate) struct Spares(Vec<Box<Delivery>>);

/// Where a listener's entry is.
enum Place {
    Live(usize),
    Fresh(usize),
    Joining(usize),
}

const FRESH: u32 = 1 << 30;
const JOINING: u32 = 1 << 29;

impl Place {
    fn of(number: u32) -> Self {
        let index = (number & !(FRESH | JOINING)) as usize;
        match number {
            _ if number & FRESH != 0 => Self::Fresh(index),
            _ if number & JOINING != 0 => Self::Joining(index),
            _ => Self::Live(index),
        }
    }

    fn number(self) -> u32 {
        let (index, list) = match self {
            Self::Live(index) => (index, 0),
            Self::Fresh(index) => (index, FRESH),
            Self::Joining(index) => (index, JOINING),
        };
        let index = u32::try_from(index).expect("a shard has fewer than 2^29 sockets");
        assert!(index < JOINING, "a shard has fewer than 2^29 sockets");
        index | list
    }
}

impl Audience {
    /// Whether nobody hears the channel live.
    pub(crate) fn is_empty(&self) -> bool {
        let nobody_late = |due: &Delivery| due.joining.is_empty() && due.fresh.is_empty();
        self.live.is_empty() && self.delivery.as_deref().is_none_or(nobody_late)
    }

    /// Whether something is due to somebody.
    pub(crate) fn is_due(&self) -> bool {
        self.delivery.is_some()
    }

    /// Whether some have been told what others are still due.
    pub(crate) fn is_walking(&self) -> bool {
        self.delivery.as_ref().is_some_and(|due| due.run.is_some())
    }

    /// Somebody hears everything that is pushed from now on; `head` is the channel's now. Returns
    /// the number of the place.
    pub(crate) fn join(&mut self, session: SessionIndex, head: Head) -> u32 {
        match &mut self.delivery {
            Some(due) if !due.pending.is_empty() => {
                let from = due.pending_bytes;
                let told = head;
                due.fresh.push(Late {
                    session,
                    from,
                    told,
                });
                Place::Fresh(due.fresh.len() - 1).number()
            }
            _ => {
                self.live.push(session);
                Place::Live(self.live.len() - 1).number()
            }
        }
    }

    /// Who holds this place hears no more. Returns who has got another place by that.
    pub(crate) fn leave(&mut self, number: u32) -> SmallVec<[Move; 2]> {
        let due = self.delivery.as_deref_mut();
        match (Place::of(number), due) {
            (Place::Live(index), due) => {
                let run = due.and_then(|due| due.run.as_mut());
                leave_live(&mut self.live, run, index)
            }
            (Place::Fresh(index), Some(due)) => leave_late(&mut due.fresh, index, Place::Fresh),
            (Place::Joining(index), Some(due)) => {
                leave_late(&mut due.joining, index, Place::Joining)
            }
            (Place::Fresh(_) | Place::Joining(_), None) => {
                unreachable!("who joins late is due something")
            }
        }
    }

    /// The head that the holder of a place has been told, if it is not the channel's.
    pub(crate) fn told(&self, number: u32) -> Option<Head> {
        let due = self.delivery.as_deref()?;
        match Place::of(number) {
            Place::Fresh(index) => Some(due.fresh[index].told),
            Place::Joining(index) => Some(due.joining[index].told),
            Place::Live(index) => match &due.run {
                Some(run) if index < run.cursor => Some(run.before),
                _ if due.pending.is_empty() => None,
                _ => Some(due.told),
            },
        }
    }

    /// A frame is published; the channel's head was `before` and is `after`.
    pub(crate) fn push(
        &mut self,
        frame: Bytes,
        before: Head,
        after: Head,
        spares: &mut Spares,
    ) -> Kept {
        if self.is_empty() {
            return Kept::No;
        }
        let kept = match self.delivery {
            Some(_) => Kept::Behind,
            None => Kept::First,
        };
        let due = self.delivery.get_or_insert_with(|| spares.take());
        if due.pending.is_empty() {
            due.told = before;
        }
        due.pending_bytes += frame.len();
        due.pending.push_back((frame, after));
        kept
    }

    /// Whether more than so many bytes have gathered; says so once until [`Told::caught_up`].
    pub(crate) fn is_crowded_now(&mut self, bytes_max: usize) -> bool {
        let due = self.delivery.as_deref_mut();
        due.is_some_and(|due| {
            due.pending_bytes > bytes_max && !std::mem::replace(&mut due.is_crowded, true)
        })
    }

    /// Tells about `slice` listeners what they are due, as outputs to their sockets; notes who has
    /// got another place by that.
    pub(crate) fn walk(
        &mut self,
        slice: usize,
        moves: &mut Vec<Move>,
        spares: &mut Spares,
        socket_of: &impl Fn(SessionIndex) -> ConnId,
        out: &mut Outbox,
    ) -> Told {
        let Some(due) = self.delivery.as_deref_mut() else {
            return Told::default();
        };
        let mut told = Told::default();
        if due.run.is_none() {
            due.begin(&mut self.live, moves);
            told.caught_up = due.is_crowded && due.pending_bytes <= RUN_BYTES_MAX;
            due.is_crowded &= !told.caught_up;
        }
        if let Some(run) = &mut due.run {
            let (joining, live) = (&mut due.joining, &mut self.live);
            told.recipients = tell_joining(run, joining, live, slice, moves, socket_of, out);
            let most = slice - told.recipients;
            told.recipients += run.tell_live(&self.live, most, socket_of, out);
            if run.cursor == 0 && due.joining.is_empty() {
                told.released_bytes = run.bytes.len();
                due.run = None;
            }
        }
        if due.run.is_none() && due.pending.is_empty() {
            self.finish(spares);
        }
        told
    }

    /// Nobody is left: forgets what was due.
    pub(crate) fn give_up(&mut self, spares: &mut Spares) -> Told {
        assert!(self.is_empty(), "somebody is still due something");
        let Some(due) = self.delivery.as_deref() else {
            return Told::default();
        };
        let run_bytes = due.run.as_ref().map_or(0, |run| run.bytes.len());
        let told = Told {
            recipients: 0,
            released_bytes: due.pending_bytes + run_bytes,
            caught_up: due.is_crowded,
        };
        self.finish(spares);
        told
    }

    fn finish(&mut self, spares: &mut Spares) {
        if let Some(due) = self.delivery.take() {
            spares.put(due);
        }
    }
}

impl Delivery {
    /// What has gathered becomes the run, as far as it is small enough.
    fn begin(&mut self, live: &mut Listeners, moves: &mut Vec<Move>) {
        let Some((bytes, last)) = self.take_pending() else {
            return;
        };
        self.run = Some(Run {
            cursor: live.len(),
            before: std::mem::replace(&mut self.told, last),
            bytes: bytes.clone(),
        });
        // Not in place: those that stay late move up, and there are few.
        for late in std::mem::take(&mut self.fresh) {
            let place = if late.from < bytes.len() {
                self.joining.push(late);
                Place::Joining(self.joining.len() - 1)
            } else if self.pending.is_empty() {
                live.push(late.session);
                Place::Live(live.len() - 1)
            } else {
                let from = late.from - bytes.len();
                self.fresh.push(Late { from, ..late });
                Place::Fresh(self.fresh.len() - 1)
            };
            moves.push((late.session, place.number()));
        }
    }

    /// The frames of the next run, joined, and the head after them.
    fn take_pending(&mut self) -> Option<(Bytes, Head)> {
        let mut bytes = 0;
        let fits = |(frame, _): &&(Bytes, Head)| {
            bytes += frame.len();
            bytes <= RUN_BYTES_MAX
        };
        let count = self.pending.iter().take_while(fits).count();
        let (joined, last) = if count <= 1 {
            self.pending.pop_front()?
        } else {
            let last = self.pending[count - 1].1;
            let frames = self.pending.range(..count).map(|(frame, _)| frame);
            let mut joined = BytesMut::with_capacity(frames.clone().map(Bytes::len).sum());
            frames.for_each(|frame| joined.extend_from_slice(frame));
            self.pending.drain(..count);
            (joined.freeze(), last)
        };
        self.pending_bytes -= joined.len();
        Some((joined, last))
    }
}

impl Run {
    /// Tells the next ones of the list, at most so many; returns how many.
    fn tell_live(
        &mut self,
        live: &[SessionIndex],
        most: usize,
        socket_of: &impl Fn(SessionIndex) -> ConnId,
        out: &mut Outbox,
    ) -> usize {
        let from = self.cursor.saturating_sub(most);
        let recipients = &live[from..self.cursor];
        if !recipients.is_empty() {
            let sockets = recipients.iter().map(|session| socket_of(*session));
            out.broadcast(self.bytes.clone(), sockets);
        }
        self.cursor = from;
        recipients.len()
    }
}

impl Spares {
    fn take(&mut self) -> Box<Delivery> {
        self.0.pop().unwrap_or_default()
    }

    fn put(&mut self, mut due: Box<Delivery>) {
        if self.0.len() < SPARES_MAX {
            due.pending.clear();
            due.pending.shrink_to(SPARE_FRAMES_MAX);
            due.pending_bytes = 0;
            due.run = None;
            due.is_crowded = false;
            (due.joining, due.fresh) = (Vec::new(), Vec::new());
            self.0.push(due);
        }
    }
}

/// Tells those who joined while the run gathered the rest of it, at most so many; they go to the
/// end of the list, where the cursor has been. Returns how many.
fn tell_joining(
    run: &Run,
    joining: &mut Vec<Late>,
    live: &mut Listeners,
    most: usize,
    moves: &mut Vec<Move>,
    socket_of: &impl Fn(SessionIndex) -> ConnId,
    out: &mut Outbox,
) -> usize {
    let count = most.min(joining.len());
    for late in joining.drain(joining.len() - count..) {
        out.broadcast(run.bytes.slice(late.from..), [socket_of(late.session)]);
        live.push(late.session);
        moves.push((late.session, Place::Live(live.len() - 1).number()));
    }
    count
}

/// Takes an entry out of the list. Below the cursor the hole is filled from below the cursor, so
/// that nobody crosses it.
fn leave_live(live: &mut Listeners, run: Option<&mut Run>, index: usize) -> SmallVec<[Move; 2]> {
    let mut moves = SmallVec::new();
    let mut hole = index;
    if let Some(run) = run.filter(|run| index < run.cursor) {
        run.cursor -= 1;
        live.swap(index, run.cursor);
        hole = run.cursor;
        if hole != index {
            moves.push((live[index], Place::Live(index).number()));
        }
    }
    live.swap_remove(hole);
    if let Some(session) = live.get(hole) {
        moves.push((*session, Place::Live(hole).number()));
    }
    if live.len() < live.capacity() / 4 {
        live.shrink_to_fit();
    }
    moves
}

fn leave_late(
    list: &mut Vec<Late>,
    index: usize,
    place: impl Fn(usize) -> Place,
) -> SmallVec<[Move; 2]> {
    list.swap_remove(index);
    let moved = list
        .get(index)
        .map(|late| (late.session, place(index).number()));
    moved.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::io::Output;

    #[derive(Clone, Debug)]
    enum Step {
        Join,
        /// The one at this place among those present, counted modulo their number.
        Leave(usize),
        Push(usize),
        Walk(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Join),
            2 => any::<usize>().prop_map(Step::Leave),
            3 => prop_oneof![1..20_usize, Just(RUN_BYTES_MAX / 2), Just(RUN_BYTES_MAX + 1)]
                .prop_map(Step::Push),
            4 => (1..5_usize).prop_map(Step::Walk),
        ]
    }

    /// What a listener was due since it joined, and what it has been told.
    #[derive(Debug, Default)]
    struct Listener {
        place: u32,
        due: Vec<u8>,
        told: Vec<u8>,
        joined: u64,
        ends: Vec<(usize, u64)>,
    }

    /// An audience beside what each of its listeners must come to hear.
    #[derive(Default)]
    struct Model {
        audience: Audience,
        spares: Spares,
        outbox: Outbox,
        present: BTreeMap<u32, Listener>,
        come: u32,
        seq: u64,
        held_bytes: usize,
    }

    fn socket(SessionIndex(index): SessionIndex) -> ConnId {
        ConnId {
            index,
            generation: 7,
        }
    }

    fn head(seq: u64) -> Head {
        (Seq(seq), Rev(seq))
    }

    impl Model {
        fn join(&mut self) {
            self.come += 1;
            let place = self.audience.join(SessionIndex(self.come), head(self.seq));
            let listener = Listener {
                place,
                joined: self.seq,
                ..Listener::default()
            };
            self.present.insert(self.come, listener);
        }

        fn leave(&mut self, at: usize) {
            let Some(index) = self
                .present
                .keys()
                .nth(at % self.present.len().max(1))
                .copied()
            else {
                return;
            };
            let listener = self.present.remove(&index).expect("it is there");
            assert!(
                listener.due.starts_with(&listener.told),
                "in order and once"
            );
            for (moved, place) in self.audience.leave(listener.place) {
                self.move_to(moved, place);
            }
            if self.audience.is_empty() {
                self.held_bytes -= self.audience.give_up(&mut self.spares).released_bytes;
                assert!(self.present.is_empty() && !self.audience.is_due());
            }
        }

        fn move_to(&mut self, SessionIndex(moved): SessionIndex, place: u32) {
            let listener = self.present.get_mut(&moved);
            listener.expect("only who is there moves").place = place;
        }

        fn push(&mut self, bytes: usize) {
            let was_due = self.audience.is_due();
            let letter = u8::try_from(self.seq % 251).expect("below 251");
            let frame = vec![letter; bytes];
            let (before, after) = (head(self.seq), head(self.seq + 1));
            self.seq += 1;
            let kept =
                self.audience
                    .push(Bytes::from(frame.clone()), before, after, &mut self.spares);
            match kept {
                Kept::No => assert!(self.present.is_empty()),
                Kept::First => assert!(!was_due),
                Kept::Behind => assert!(was_due),
            }
            if kept != Kept::No {
                self.held_bytes += bytes;
            }
            for listener in self.present.values_mut() {
                listener.due.extend_from_slice(&frame);
                listener.ends.push((listener.due.len(), self.seq));
            }
        }

        fn walk(&mut self, slice: usize) -> Told {
            let mut moves = Vec::new();
            let (spares, out) = (&mut self.spares, &mut self.outbox);
            let told = self.audience.walk(slice, &mut moves, spares, &socket, out);
            for (moved, place) in moves {
                self.move_to(moved, place);
            }
            self.held_bytes -= told.released_bytes;
            let mut recipients = 0;
            let mut batch = self.outbox.drain();
            while let Some(output) = batch.next() {
                let Output::Broadcast { bytes, to } = output else {
                    unreachable!("a walk broadcasts")
                };
                for conn in batch.recipients(&to) {
                    recipients += 1;
                    let listener = self.present.get_mut(&conn.index);
                    let told = &mut listener.expect("only who is there is told").told;
                    told.extend_from_slice(&bytes);
                }
            }
            assert_eq!(recipients, told.recipients);
            assert!(recipients <= slice, "a slice is bounded");
            told
        }

        fn check(&self) {
            for listener in self.present.values() {
                assert!(
                    listener.due.starts_with(&listener.told),
                    "in order and once"
                );
                let told = self.audience.told(listener.place).unwrap_or(head(self.seq));
                let ends = listener.ends.iter().rev();
                let mut ends = ends.skip_while(|(end, _)| *end > listener.told.len());
                let last = ends.next().map_or(listener.joined, |(_, seq)| *seq);
                assert_eq!(told, head(last), "the head that it knows");
            }
        }
    }

    proptest! {
        #[test]
        fn everybody_is_told_what_was_pushed_while_they_were_there(
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let mut model = Model::default();
            for step in steps {
                match step {
                    Step::Join => model.join(),
                    Step::Leave(at) => model.leave(at),
                    Step::Push(bytes) => model.push(bytes),
                    Step::Walk(slice) => {
                        model.walk(slice);
                    }
                }
                model.check();
            }
            for _ in 0..1_000 {
                model.walk(3);
            }
            prop_assert!(!model.audience.is_due());
            prop_assert_eq!(model.held_bytes, 0);
            for listener in model.present.values() {
                prop_assert_eq!(&listener.due, &listener.told);
            }
        }
    }

    #[test]
    fn frames_that_gathered_are_joined_once_for_all() {
        let mut model = Model::default();
        (0..3).for_each(|_| model.join());
        (0..4).for_each(|_| model.push(5));
        let (spares, out) = (&mut model.spares, &mut model.outbox);
        model
            .audience
            .walk(10, &mut Vec::new(), spares, &socket, out);
        let outputs: Vec<Output> = model.outbox.drain().collect();
        assert_eq!(outputs.len(), 1, "{outputs:?}");
    }

    #[test]
    fn that_too_much_gathers_is_said_once_and_that_it_is_told_too() {
        let mut model = Model::default();
        model.join();
        let most = 2 * RUN_BYTES_MAX;
        for _ in 0..2 {
            (0..2).for_each(|_| model.push(RUN_BYTES_MAX));
            assert!(!model.audience.is_crowded_now(most));
            model.push(1);
            assert!(model.audience.is_crowded_now(most));
            assert!(!model.audience.is_crowded_now(most), "said once");
            let caught_up: Vec<bool> = (0..3).map(|_| model.walk(9).caught_up).collect();
            assert_eq!(caught_up, [false, true, false]);
        }
    }

    #[test]
    fn a_quiet_audience_holds_its_list_and_nothing_else() {
        assert!(size_of::<Audience>() <= 32);
        let mut model = Model::default();
        (0..100).for_each(|_| model.join());
        model.push(5);
        model.walk(1_000);
        assert!(!model.audience.is_due());
        (0..99).for_each(|_| model.leave(0));
        assert!(
            model.audience.live.capacity() < 16,
            "the list shrinks again"
        );
    }
}
