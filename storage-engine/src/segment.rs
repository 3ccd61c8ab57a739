//! Segment files: their names, their days, which ones there are, and how a new one is made.
//!
//! It knows nothing of what lies inside them.
//!
//! Invariants: a file is reserved, written with zeroes from end to end and synced before it
//! becomes a segment, so that commits never wait for the file system to find blocks; numbers
//! rise in order of use, over all shards and starts.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::config::StoreConfig;
use crate::consumer::ConsumerName;
use crate::disk::{Disk, DiskFile};
use crate::error::DiskError;
use crate::key::SegmentId;
use crate::sealed;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// A day in UTC, counted from 1970-01-01. Displays as `2026-11-21`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Day(pub u32);

impl Day {
    /// The day of a time in milliseconds since 1970.
    #[must_use]
    pub fn of_ms(ms: u64) -> Self {
        Self(u32::try_from(ms / DAY_MS).unwrap_or(u32::MAX))
    }

    /// Reads `2026-11-21`; `None` for anything that would not be displayed so.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let mut parts = name.splitn(3, '-');
        let mut part = || parts.next()?.parse::<u64>().ok();
        let (year, month, day) = (part()?, part()?, part()?);
        if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) {
            return None;
        }
        let found = Self(u32::try_from(days_before(year, month) + day.checked_sub(1)?).ok()?);
        (found.to_string() == name).then_some(found)
    }

    /// The first and the last day of its month.
    #[must_use]
    pub(crate) fn month(self) -> (Self, Self) {
        let (year, month, _) = self.civil();
        let (next_year, next_month) = if month == 12 {
            (year + 1, 1)
        } else {
            (year, month + 1)
        };
        let number = |days: u64| u32::try_from(days).expect("days of a calendar year");
        let last = number(days_before(next_year, next_month)) - 1;
        (Self(number(days_before(year, month))), Self(last))
    }

    /// Its first millisecond since 1970.
    pub(crate) fn start_ms(self) -> u64 {
        u64::from(self.0) * DAY_MS
    }

    /// Year, month and day of the month.
    fn civil(self) -> (u64, u64, u64) {
        let days = u64::from(self.0);
        let mut year = 1970 + days / 366;
        while days_before(year + 1, 1) <= days {
            year += 1;
        }
        let mut month = 12;
        while days_before(year, month) > days {
            month -= 1;
        }
        (year, month, days - days_before(year, month) + 1)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.civil();
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// Days from 1970-01-01 to the first of a month, in the Gregorian calendar.
fn days_before(year: u64, month: u64) -> u64 {
    const BEFORE_MONTH: [u64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];
    let index = usize::try_from(month - 1).expect("months are 1 to 12");
    let leap_years = |year: u64| year / 4 - year / 100 + year / 400;
    let is_leap = leap_years(year) > leap_years(year - 1);
    (year - 1970) * 365 + leap_years(year - 1) - leap_years(1969)
        + BEFORE_MONTH[index]
        + u64::from(is_leap && month > 2)
}

/// What is known of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentInfo {
    /// Whose directory it is in.
    pub day: Day,
    /// Where its frames end, in bytes; `None` while it is written to.
    pub end: Option<u32>,
}

/// All segments that one reader can find.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SegmentTable {
    by_id: BTreeMap<SegmentId, SegmentInfo>,
    /// The highest number and the latest day there ever were, also of segments that are gone.
    newest: SegmentId,
    newest_day: Day,
}

/// One shard's table: its log adds to it, its reader looks into it.
pub type SharedSegments = Rc<RefCell<SegmentTable>>;

impl Default for SegmentTable {
    fn default() -> Self {
        Self {
            by_id: BTreeMap::new(),
            newest: SegmentId(0),
            newest_day: Day(0),
        }
    }
}

impl SegmentTable {
    /// What is known of a segment.
    #[must_use]
    pub fn get(&self, segment: SegmentId) -> Option<SegmentInfo> {
        self.by_id.get(&segment).copied()
    }

    /// All segments in order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (SegmentId, SegmentInfo)> + '_ {
        self.by_id.iter().map(|(id, info)| (*id, *info))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The highest number ever given out, also to a segment that is gone; 0 if there was none.
    #[must_use]
    pub fn newest(&self) -> SegmentId {
        self.newest
    }

    /// The latest day that any segment was of, gone or not; day 0 if there was none.
    #[must_use]
    pub fn newest_day(&self) -> Day {
        self.newest_day
    }

    pub(crate) fn insert(&mut self, segment: SegmentId, info: SegmentInfo) {
        self.by_id.insert(segment, info);
        self.note_newest(segment, info.day);
    }

    /// Notes how far numbers and days have come.
    pub(crate) fn note_newest(&mut self, segment: SegmentId, day: Day) {
        self.newest = self.newest.max(segment);
        self.newest_day = self.newest_day.max(day);
    }

    /// Lets go of a segment whose day is sealed.
    pub(crate) fn remove(&mut self, segment: SegmentId) {
        self.by_id.remove(&segment);
    }
}

/// Where everything lies below the root.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            root: root.to_path_buf(),
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.root.join("LOCK")
    }

    pub(crate) fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    pub(crate) fn spares(&self) -> PathBuf {
        self.root.join("spare")
    }

    pub(crate) fn catalogs(&self) -> PathBuf {
        self.root.join("catalog")
    }

    pub(crate) fn consumers(&self) -> PathBuf {
        self.root.join("consumers")
    }

    pub(crate) fn position(&self, name: &ConsumerName) -> PathBuf {
        self.consumers().join(format!("{name}.pos"))
    }

    pub(crate) fn lost_mark(&self, name: &ConsumerName) -> PathBuf {
        self.consumers().join(format!("{name}.lost"))
    }

    pub(crate) fn held(&self) -> PathBuf {
        self.root.join("held")
    }

    pub(crate) fn held_day(&self, day: Day) -> PathBuf {
        self.held().join(day.to_string())
    }

    /// Where a segment of a sealed day waits for consumers.
    pub(crate) fn held_segment(&self, segment: SegmentId, day: Day) -> PathBuf {
        self.held_day(day).join(format!("{segment}.log"))
    }

    pub(crate) fn dead_letters(&self) -> PathBuf {
        self.root.join("dead-letters")
    }

    pub(crate) fn dead_letter_log(&self, name: &ConsumerName) -> PathBuf {
        self.dead_letters().join(format!("{name}.dlq"))
    }

    pub(crate) fn manifests(&self) -> PathBuf {
        self.root.join("manifest")
    }

    pub(crate) fn sealed(&self) -> PathBuf {
        self.root.join("sealed")
    }

    /// A sealed bucket's file.
    pub(crate) fn bucket(&self, number: u32, first_day: Day, last_day: Day) -> PathBuf {
        self.sealed()
            .join(sealed::file_name(number, first_day, last_day))
    }

    pub(crate) fn day(&self, day: Day) -> PathBuf {
        self.segments().join(day.to_string())
    }

    pub(crate) fn segment(&self, segment: SegmentId, day: Day) -> PathBuf {
        self.day(day).join(format!("{segment}.log"))
    }

    pub(crate) fn index(&self, segment: SegmentId, day: Day) -> PathBuf {
        self.day(day).join(format!("{segment}.idx"))
    }

    pub(crate) fn spare(&self, shard: u16, number: u64) -> PathBuf {
        self.spares().join(format!("{shard}-{number}.new"))
    }
}

/// The number in a segment's file name; `None` for any other name.
pub(crate) fn parse_file_name(name: &str) -> Option<SegmentId> {
    parse_number(name.strip_suffix(".log")?)
}

/// The number in the name of a segment's index file; `None` for any other name.
pub(crate) fn parse_index_name(name: &str) -> Option<SegmentId> {
    parse_number(name.strip_suffix(".idx")?)
}

fn parse_number(digits: &str) -> Option<SegmentId> {
    let segment = SegmentId(u32::from_str_radix(digits, 16).ok()?);
    (segment.to_string() == digits).then_some(segment)
}

/// Makes a file ready to become a segment. On failure nothing of it is left, as far as the disk
/// lets itself be cleaned up.
pub(crate) async fn prewrite<D: Disk>(
    disk: &D,
    path: &Path,
    config: &StoreConfig,
) -> Result<(), DiskError> {
    let file = disk.create(path).await?;
    let filled = fill_with_zeroes(disk, &file, config).await;
    file.close().await?;
    if filled.is_err() {
        disk.remove(path).await?;
    }
    filled
}

async fn fill_with_zeroes<D: Disk>(
    disk: &D,
    file: &D::File,
    config: &StoreConfig,
) -> Result<(), DiskError> {
    file.allocate(config.segment_bytes.into()).await?;
    let mut offset = 0;
    while offset < config.segment_bytes {
        let bytes = config.chunk_bytes.min(config.segment_bytes - offset);
        file.write_at(disk.buffer(bytes), offset.into()).await?;
        offset += bytes;
    }
    file.sync().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        let check = |ms: u64, name: &str| {
            assert_eq!(Day::of_ms(ms).to_string(), name);
            assert_eq!(Day::parse(name), Some(Day::of_ms(ms)));
        };
        check(0, "1970-01-01");
        check(DAY_MS - 1, "1970-01-01");
        check(951_782_400_000, "2000-02-29");
        check(1_709_251_199_999, "2024-02-29");
        check(1_709_251_200_000, "2024-03-01");
        check(1_795_219_200_000, "2026-11-21");
        check(4_107_542_400_000, "2100-03-01");
    }

    #[test]
    fn a_month_is_from_its_first_to_its_last_day() {
        let month = |name| Day::parse(name).map(|day| day.month()).unwrap();
        let days = |first, last| (Day::parse(first).unwrap(), Day::parse(last).unwrap());
        assert_eq!(month("2026-12-31"), days("2026-12-01", "2026-12-31"));
        assert_eq!(month("2028-02-01"), days("2028-02-01", "2028-02-29"));
        assert_eq!(Day(20_000).start_ms(), 20_000 * DAY_MS);
    }

    #[test]
    fn every_day_of_a_century_reads_back() {
        for day in (0..60_000).map(Day) {
            assert_eq!(Day::parse(&day.to_string()), Some(day));
        }
    }

    #[test]
    fn other_names_are_no_days_and_no_segments() {
        for name in [
            "2026-02-30",
            "2026-13-01",
            "2026-1-01",
            "x",
            "",
            "1969-12-31",
            "2026-01-00",
        ] {
            assert_eq!(Day::parse(name), None, "{name}");
        }
        for name in [
            "1.log",
            "0000000g.log",
            "00000001",
            "000000001.log",
            "00000001.tmp",
        ] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
        assert_eq!(parse_file_name("0000001f.log"), Some(SegmentId(31)));
    }
}
