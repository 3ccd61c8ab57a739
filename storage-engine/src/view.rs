//! What there is to read at the moment: segments that are not sealed, and sealed files; and who
//! is still reading what there was before.
//!
//! It opens, reads and removes nothing.
//!
//! Invariants: a reading sees one view from its beginning to its end, and nothing in that view is
//! declared gone before the reading is over; the days of sealed files do not overlap; a day that
//! a sealed file covers is read from that file, whatever segments of it are still there.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use crate::key::SegmentId;
use crate::place::Place;
use crate::sealed::Sealed;
use crate::segment::{Day, SharedSegments};

/// A sealed file among others. `S` is the file as its readers share it.
#[derive(Clone, Debug)]
pub struct Bucket<S> {
    /// Its number, unique within a node.
    pub number: u32,
    /// The first day that it covers.
    pub first_day: Day,
    /// The last day that it covers.
    pub last_day: Day,
    /// The file.
    pub sealed: S,
}

impl<M: Deref<Target = [u8]>> Bucket<Arc<Sealed<M>>> {
    /// An open sealed file.
    #[must_use]
    pub fn of(sealed: Arc<Sealed<M>>) -> Self {
        let days = sealed.days();
        Self {
            number: sealed.identity().number,
            first_day: *days.start(),
            last_day: *days.end(),
            sealed,
        }
    }
}

/// The sealed files there are.
#[derive(Clone, Debug)]
pub struct View<S> {
    /// In order of their days.
    buckets: Vec<Bucket<S>>,
    /// The first day of which anything is kept; what is older has been given up.
    retained_from: Day,
}

/// A change of what there is to read: sent to every shard, which then says when nothing reads the
/// former state any more.
#[derive(Clone, Debug)]
pub(crate) struct Installed<S> {
    /// A new sealed file.
    pub bucket: Option<Bucket<S>>,
    /// Segments that it takes the place of.
    pub obsolete: Vec<SegmentId>,
    /// Numbers of sealed files that it takes the place of, or that have been given up.
    pub replaced: Vec<u32>,
    /// The first day of which anything is kept from now on.
    pub retained_from: Day,
}

/// Where a place lies in a view.
#[derive(Clone, Debug)]
pub(crate) enum Resolved<S> {
    /// Nowhere: there is nothing older, or it has been given up.
    End,
    /// In a segment.
    Segment(SegmentId, Day),
    /// In a sealed file.
    Sealed(Bucket<S>),
    /// It should be there and is not.
    Missing,
}

impl<S: Clone> View<S> {
    /// A view of these sealed files.
    ///
    /// # Panics
    /// If the days of two of them overlap: they would disagree about what is true.
    #[must_use]
    pub fn new(mut buckets: Vec<Bucket<S>>, retained_from: Day) -> Self {
        buckets.sort_by_key(|bucket| bucket.first_day);
        for pair in buckets.windows(2) {
            assert!(
                pair[0].last_day < pair[1].first_day,
                "sealed days do not overlap"
            );
        }
        Self {
            buckets,
            retained_from,
        }
    }

    /// The sealed files, in order of their days.
    #[must_use]
    pub fn buckets(&self) -> &[Bucket<S>] {
        &self.buckets
    }

    /// The sealed file that covers a day.
    fn covering(&self, day: Day) -> Option<&Bucket<S>> {
        let behind = (self.buckets).partition_point(|bucket| bucket.first_day <= day);
        let bucket = &self.buckets[behind.checked_sub(1)?];
        (day <= bucket.last_day).then_some(bucket)
    }

    fn with(&self, installed: &Installed<S>) -> Self {
        let kept = self.buckets.iter();
        let kept = kept.filter(|bucket| !installed.replaced.contains(&bucket.number));
        let buckets = kept.chain(&installed.bucket).cloned().collect();
        Self::new(buckets, installed.retained_from)
    }
}

/// One shard's view, which its readings share.
pub(crate) struct SharedView<S> {
    segments: SharedSegments,
    current: RefCell<Rc<View<S>>>,
    /// Counts the views.
    generation: Cell<u64>,
    readings: Rc<Readings>,
}

/// Which readings are under way.
struct Readings {
    segments: SharedSegments,
    state: RefCell<ReadingsState>,
}

#[derive(Default)]
struct ReadingsState {
    /// How many there are of each generation.
    counts: BTreeMap<u64, u64>,
    /// Segments that are gone once no reading of an earlier generation is left.
    obsolete: Vec<(u64, SegmentId)>,
    /// Who waits for readings to end.
    waiting: Vec<Waker>,
}

/// A reading under way: what it sees.
pub(crate) struct Reading<S> {
    pub(crate) view: Rc<View<S>>,
    generation: u64,
    readings: Rc<Readings>,
}

impl<S: Clone> SharedView<S> {
    pub(crate) fn new(segments: SharedSegments, view: View<S>) -> Self {
        Self {
            segments: Rc::clone(&segments),
            current: RefCell::new(Rc::new(view)),
            generation: Cell::new(0),
            readings: Rc::new(Readings {
                segments,
                state: RefCell::default(),
            }),
        }
    }

    /// Begins a reading of the present view.
    pub(crate) fn begin(&self) -> Reading<S> {
        let generation = self.generation.get();
        let mut state = self.readings.state.borrow_mut();
        *state.counts.entry(generation).or_default() += 1;
        Reading {
            view: Rc::clone(&self.current.borrow()),
            generation,
            readings: Rc::clone(&self.readings),
        }
    }

    /// Whether there is a newer view than the one that a reading sees.
    pub(crate) fn is_outdated(&self, reading: &Reading<S>) -> bool {
        reading.generation < self.generation.get()
    }

    /// Replaces the view for all readings to come. The future is done when those begun before are
    /// over; obsolete segments leave the table then, whether or not anybody waits for it.
    pub(crate) fn install(&self, installed: &Installed<S>) -> impl Future<Output = ()> + use<S> {
        let next = Rc::new(self.current.borrow().with(installed));
        self.current.replace(next);
        let generation = self.generation.get() + 1;
        self.generation.set(generation);
        let obsolete = installed
            .obsolete
            .iter()
            .map(|segment| (generation, *segment));
        self.readings.state.borrow_mut().obsolete.extend(obsolete);
        self.readings.settle();
        let readings = Rc::clone(&self.readings);
        poll_fn(move |context| {
            let mut state = readings.state.borrow_mut();
            if state.oldest() >= generation {
                return Poll::Ready(());
            }
            let waker = context.waker();
            if !state.waiting.iter().any(|known| known.will_wake(waker)) {
                state.waiting.push(waker.clone());
            }
            Poll::Pending
        })
    }

    /// Where a place lies, in the view of this reading.
    pub(crate) fn resolve(&self, reading: &Reading<S>, place: Place) -> Resolved<S> {
        if place.is_none() {
            return Resolved::End;
        }
        if let Some(bucket) = reading.view.covering(place.day) {
            return Resolved::Sealed(bucket.clone());
        }
        match self.segments.borrow().get(place.segment) {
            Some(info) => Resolved::Segment(place.segment, info.day),
            None if place.day < reading.view.retained_from => Resolved::End,
            None => Resolved::Missing,
        }
    }

    /// The segments that are not sealed.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> &SharedSegments {
        &self.segments
    }
}

impl ReadingsState {
    /// The oldest generation that is still read; the highest number if none is.
    fn oldest(&self) -> u64 {
        self.counts.keys().next().copied().unwrap_or(u64::MAX)
    }
}

impl Readings {
    /// Drops what no reading needs any more, and tells those who wait.
    fn settle(&self) {
        let mut state = self.state.borrow_mut();
        let oldest = state.oldest();
        let mut segments = self.segments.borrow_mut();
        state.obsolete.retain(|(generation, segment)| {
            let is_needed = oldest < *generation;
            if !is_needed {
                segments.remove(*segment);
            }
            is_needed
        });
        let waiting = std::mem::take(&mut state.waiting);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<S> Drop for Reading<S> {
    fn drop(&mut self) {
        let mut state = self.readings.state.borrow_mut();
        let count = (state.counts.get_mut(&self.generation)).expect("this reading was counted");
        *count -= 1;
        if *count > 0 {
            return;
        }
        state.counts.remove(&self.generation);
        drop(state);
        self.readings.settle();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::Context;

    use super::*;
    use crate::segment::SegmentInfo;

    fn bucket(number: u32, days: (u32, u32)) -> Bucket<()> {
        Bucket {
            number,
            first_day: Day(days.0),
            last_day: Day(days.1),
            sealed: (),
        }
    }

    fn view() -> SharedView<()> {
        let segments = SharedSegments::default();
        for (number, day) in [(1, 11), (2, 12)] {
            let info = SegmentInfo {
                day: Day(day),
                end: Some(0),
            };
            segments.borrow_mut().insert(SegmentId(number), info);
        }
        let buckets = vec![bucket(2, (8, 8)), bucket(1, (3, 6))];
        SharedView::new(segments, View::new(buckets, Day(3)))
    }

    fn resolved(view: &SharedView<()>, reading: &Reading<()>, segment: u32, day: u32) -> String {
        let place = Place {
            segment: SegmentId(segment),
            day: Day(day),
        };
        match view.resolve(reading, place) {
            Resolved::End => "end".into(),
            Resolved::Missing => "missing".into(),
            Resolved::Segment(segment, _) => format!("segment {}", segment.0),
            Resolved::Sealed(bucket) => format!("bucket {}", bucket.number),
        }
    }

    fn install(bucket: Bucket<()>, obsolete: u32, replaced: &[u32]) -> Installed<()> {
        Installed {
            bucket: Some(bucket),
            obsolete: vec![SegmentId(obsolete)],
            replaced: replaced.to_vec(),
            retained_from: Day(4),
        }
    }

    #[test]
    fn places_lie_in_what_covers_their_day() {
        let view = view();
        let reading = view.begin();
        let check = |segment, day, expected: &str| {
            assert_eq!(resolved(&view, &reading, segment, day), expected);
        };
        check(0, 0, "end");
        check(0, 2, "end");
        check(0, 3, "bucket 1");
        check(0, 6, "bucket 1");
        check(0, 7, "missing");
        check(9, 8, "bucket 2");
        check(1, 11, "segment 1");
        check(3, 11, "missing");
    }

    #[test]
    fn a_reading_keeps_its_view_and_its_segments() {
        let view = view();
        let before = view.begin();
        let mut swapped = pin!(view.install(&install(bucket(3, (4, 11)), 1, &[1, 2])));
        let after = view.begin();
        assert_eq!(resolved(&view, &before, 1, 11), "segment 1");
        assert_eq!(resolved(&view, &before, 0, 3), "bucket 1");
        assert_eq!(resolved(&view, &after, 1, 11), "bucket 3");
        assert_eq!(resolved(&view, &after, 0, 3), "end");
        assert_eq!(resolved(&view, &after, 2, 12), "segment 2");
        assert!(view.is_outdated(&before) && !view.is_outdated(&after));

        let mut context = Context::from_waker(Waker::noop());
        assert!(swapped.as_mut().poll(&mut context).is_pending());
        assert_eq!(view.segments().borrow().len(), 2);
        drop(before);
        assert!(swapped.as_mut().poll(&mut context).is_ready());
        assert_eq!(view.segments().borrow().len(), 1);
        drop(after);
    }

    #[test]
    fn readings_of_all_earlier_views_are_waited_for() {
        let view = view();
        let first = view.begin();
        drop(view.install(&install(bucket(3, (11, 11)), 1, &[])));
        let second = view.begin();
        let mut swapped = pin!(view.install(&install(bucket(4, (12, 12)), 2, &[])));
        let mut context = Context::from_waker(Waker::noop());
        drop(second);
        assert!(swapped.as_mut().poll(&mut context).is_pending());
        drop(first);
        assert!(swapped.as_mut().poll(&mut context).is_ready());
        assert!(view.segments().borrow().is_empty());
    }

    #[test]
    #[should_panic(expected = "sealed days do not overlap")]
    fn overlapping_days_are_refused() {
        let _ = View::new(vec![bucket(1, (3, 6)), bucket(2, (6, 7))], Day(0));
    }
}
