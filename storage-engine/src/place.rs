//! Where a channel's records of a stretch of time lie, as far as memory and files remember it.
//!
//! It resolves nothing: that takes the segments and sealed days there are at the moment.
//!
//! Invariants: a place stays true when its day is sealed, since it names both; places of one
//! channel are linked from the newest to the oldest, so that paging back never looks into a day
//! in which the channel was silent.

use crate::key::SegmentId;
use crate::segment::Day;

/// A segment, and its day; once the day is sealed only the day counts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The segment; 0 when it is known to be sealed.
    pub segment: SegmentId,
    /// Its day. Day 0 (1970-01-01) stands for no place at all.
    pub day: Day,
}

impl Place {
    /// Nowhere: the channel has nothing older.
    pub const NONE: Self = Self {
        segment: SegmentId(0),
        day: Day(0),
    };

    /// Somewhere in a sealed day.
    #[must_use]
    pub fn sealed(day: Day) -> Self {
        Self {
            segment: SegmentId(0),
            day,
        }
    }

    /// Whether there is nothing older.
    #[must_use]
    pub fn is_none(self) -> bool {
        self.day == Day(0)
    }
}
