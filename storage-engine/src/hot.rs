//! What memory keeps of one segment that has no index file yet: for each channel, where its
//! records lie in the segment.
//!
//! It reads no file, and keeps no message keys but each channel's last: what shares a
//! millisecond is told apart by whoever reads the records.
//!
//! Invariants: a channel's entries stand in order of seq, without a gap, and their times never
//! fall, so that a position is a subtraction and a time a binary search; its changes stand in
//! order of rev. A message takes [`ENTRY_BYTES`] (12), a change [`CHANGE_BYTES`] (24), a channel
//! [`RUN_BYTES`] (128), its slot (24 to 48), and what its lists leave unused: at most as much again.

use std::collections::HashMap;
use std::ops::Range;

use ahash::RandomState;

use crate::key::{ChannelKey, MessageKey, SegmentId};
use crate::place::Place;
use crate::record::{Location, RecordKind, RecordMeta};
use crate::segment::Day;

/// Memory of one message's entry.
pub(crate) const ENTRY_BYTES: usize = size_of::<Entry>();
/// Memory of one change's entry.
pub(crate) const CHANGE_BYTES: usize = size_of::<ChangeEntry>();
/// Memory of a channel's part of a segment, its entries aside.
pub(crate) const RUN_BYTES: usize = size_of::<HotRun>();

/// Which segment it is. Every number is the segment's own, see `FORMAT.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentOrigin {
    pub(crate) segment: SegmentId,
    pub(crate) day: Day,
    pub(crate) shard: u16,
    /// What all its frames bear.
    pub(crate) salt: u64,
    /// Time of its first commit, in milliseconds since 1970; times of entries count from it.
    pub(crate) created_ms: u64,
}

impl SegmentOrigin {
    pub(crate) fn place(&self) -> Place {
        Place {
            segment: self.segment,
            day: self.day,
        }
    }

    /// A key's time as entries hold it: cut off at both ends, so it never falls as keys rise.
    pub(crate) fn time_ms(&self, message: MessageKey) -> u32 {
        let since = message.timestamp_ms().saturating_sub(self.created_ms);
        u32::try_from(since).unwrap_or(u32::MAX)
    }
}

/// Where a message's creation lies in its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    /// From the start of the file, in bytes.
    pub(crate) offset: u32,
    /// Length, header and body.
    pub(crate) bytes: u32,
    /// The key's time, see [`SegmentOrigin::time_ms`].
    pub(crate) time_ms: u32,
}

impl Entry {
    pub(crate) fn location(&self, segment: SegmentId) -> Location {
        Location {
            segment,
            offset: self.offset,
            bytes: self.bytes,
        }
    }
}

/// Where a change lies in its segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ChangeEntry {
    /// The changed message's seq.
    pub(crate) seq: u64,
    /// The change's own rev.
    pub(crate) rev: u64,
    /// From the start of the file, in bytes.
    pub(crate) offset: u32,
    /// Length, header and body.
    pub(crate) bytes: u32,
}

impl ChangeEntry {
    pub(crate) fn location(&self, segment: SegmentId) -> Location {
        Location {
            segment,
            offset: self.offset,
            bytes: self.bytes,
        }
    }
}

/// A channel's part of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    /// Seq of the first message; 0 if there are only changes.
    pub(crate) first_seq: u64,
    /// How many messages.
    pub(crate) count: u32,
    /// How many changes.
    pub(crate) changes: u32,
    /// Smallest seq that a change is of; 0 if there are no changes.
    pub(crate) changes_min_seq: u64,
    /// Rev of the last record.
    pub(crate) last_rev: u64,
    /// The last message; zero if there are only changes.
    pub(crate) last_message: MessageKey,
    /// Where the channel's next older messages lie.
    pub(crate) prev: Place,
    /// Where its next older changes lie.
    pub(crate) prev_changes: Place,
}

impl Run {
    /// The seqs of its messages; empty if there are only changes.
    pub(crate) fn seqs(&self) -> Range<u64> {
        self.first_seq..self.first_seq.saturating_add(self.count.into())
    }

    /// How many records it has.
    pub(crate) fn records(&self) -> u64 {
        u64::from(self.count) + u64::from(self.changes)
    }

    fn begin(prev: Place, prev_changes: Place) -> Self {
        Self {
            first_seq: 0,
            count: 0,
            changes: 0,
            changes_min_seq: 0,
            last_rev: 0,
            last_message: MessageKey::ZERO,
            prev,
            prev_changes,
        }
    }
}

#[derive(Clone, Debug)]
struct HotRun {
    channel: ChannelKey,
    run: Run,
    entries: Vec<Entry>,
    changes: Vec<ChangeEntry>,
}

/// One segment's index in memory. Once the segment has ended it never changes.
#[derive(Clone, Debug)]
pub struct HotSegment {
    origin: SegmentOrigin,
    /// Where the segment's frames end, in bytes; 0 while it is written to.
    end: u32,
    newest_ms: u64,
    slots: HashMap<ChannelKey, u32, RandomState>,
    runs: Vec<HotRun>,
}

impl HotSegment {
    pub(crate) fn new(origin: SegmentOrigin, hasher: RandomState) -> Self {
        Self {
            origin,
            end: 0,
            newest_ms: 0,
            slots: HashMap::with_hasher(hasher),
            runs: Vec::new(),
        }
    }

    /// The segment.
    #[must_use]
    pub fn segment(&self) -> SegmentId {
        self.origin.segment
    }

    /// Its day.
    #[must_use]
    pub fn day(&self) -> Day {
        self.origin.day
    }

    /// Where its frames end, in bytes; 0 while it is written to.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.end
    }

    /// How many records it knows.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.runs.iter().map(|hot| hot.run.records()).sum()
    }

    /// Memory that it takes, in bytes; looks at each of its channels.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let lists = self.runs.iter().map(|hot| {
            hot.entries.capacity() * ENTRY_BYTES + hot.changes.capacity() * CHANGE_BYTES
        });
        let slot_bytes = size_of::<(ChannelKey, u32)>() + 1;
        lists.sum::<usize>() + self.runs.capacity() * RUN_BYTES + self.slots.capacity() * slot_bytes
    }

    pub(crate) fn origin(&self) -> &SegmentOrigin {
        &self.origin
    }

    /// Time of the newest key, in milliseconds since 1970.
    pub(crate) fn newest_ms(&self) -> u64 {
        self.newest_ms
    }

    /// Notes that no more records come.
    pub(crate) fn finish(&mut self, end: u32) {
        assert!(self.end == 0 && end > 0, "a segment ends once");
        self.end = end;
    }

    /// Makes room for a channel's first record here; returns its slot.
    pub(crate) fn begin_run(
        &mut self,
        channel: ChannelKey,
        prev: Place,
        prev_changes: Place,
    ) -> u32 {
        let slot = u32::try_from(self.runs.len()).expect("a segment is below 4 GiB");
        let known = self.slots.insert(channel, slot);
        assert_eq!(known, None, "a channel has one run in a segment");
        self.runs.push(HotRun {
            channel,
            run: Run::begin(prev, prev_changes),
            entries: Vec::new(),
            changes: Vec::new(),
        });
        slot
    }

    /// Says where a channel's older records lie, for one whose run began without knowing it.
    pub(crate) fn link(&mut self, channel: ChannelKey, prev: Place, prev_changes: Place) {
        let slot = *self.slots.get(&channel).expect("only its own are linked");
        let run = &mut self.runs[slot as usize].run;
        (run.prev, run.prev_changes) = (prev, prev_changes);
    }

    /// Adds a record of the channel with this slot.
    pub(crate) fn insert(&mut self, slot: u32, record: &RecordMeta, location: Location) {
        assert!(self.end == 0, "nothing is added to a segment that ended");
        assert_eq!(location.segment, self.origin.segment, "a segment's own");
        let hot = &mut self.runs[slot as usize];
        assert_eq!(hot.channel, record.channel, "a slot belongs to one channel");
        let Location { offset, bytes, .. } = location;
        if record.kind == RecordKind::Create {
            let time_ms = self.origin.time_ms(record.message);
            hot.push_message(
                record,
                Entry {
                    offset,
                    bytes,
                    time_ms,
                },
            );
        } else {
            hot.push_change(ChangeEntry {
                seq: record.seq,
                rev: record.rev,
                offset,
                bytes,
            });
        }
        hot.run.last_rev = record.rev;
        self.newest_ms = self.newest_ms.max(record.message.timestamp_ms());
    }

    /// Brings a slot into the processor's caches.
    pub(crate) fn touch(&self, slot: u32) {
        let last = self.runs[slot as usize].entries.last();
        std::hint::black_box(last.map(|entry| entry.offset));
    }

    /// What it has of a channel.
    pub(crate) fn run(&self, channel: ChannelKey) -> Option<Run> {
        self.find(channel).map(|hot| hot.run)
    }

    /// A channel's messages, in order of seq.
    pub(crate) fn entries(&self, channel: ChannelKey) -> &[Entry] {
        self.find(channel).map_or(&[], |hot| &hot.entries)
    }

    /// A channel's changes, in order of rev.
    pub(crate) fn changes(&self, channel: ChannelKey) -> &[ChangeEntry] {
        self.find(channel).map_or(&[], |hot| &hot.changes)
    }

    /// The seqs of those messages that share the key's millisecond: everything before them is
    /// older than the key, everything behind them newer, and which of them are only their
    /// records tell. Empty, but in the right place, if there are none; `None` without messages.
    pub(crate) fn ties(&self, channel: ChannelKey, key: MessageKey) -> Option<Range<u64>> {
        let hot = self.find(channel).filter(|hot| hot.run.count > 0)?;
        let time_ms = self.origin.time_ms(key);
        let below = hot.entries.partition_point(|entry| entry.time_ms < time_ms);
        let up_to = hot
            .entries
            .partition_point(|entry| entry.time_ms <= time_ms);
        Some(hot.run.first_seq + below as u64..hot.run.first_seq + up_to as u64)
    }

    /// All channels with their slots, in order of their keys. Sorts: not for a shard's thread.
    pub(crate) fn sorted(&self) -> Vec<(ChannelKey, u32)> {
        let mut sorted: Vec<_> = (self.slots.iter())
            .map(|(channel, slot)| (*channel, *slot))
            .collect();
        sorted.sort_unstable();
        sorted
    }

    /// What lies in a slot: the run, its entries, its changes.
    pub(crate) fn slot(&self, slot: u32) -> (&Run, &[Entry], &[ChangeEntry]) {
        let hot = &self.runs[slot as usize];
        (&hot.run, &hot.entries, &hot.changes)
    }

    fn find(&self, channel: ChannelKey) -> Option<&HotRun> {
        let slot = self.slots.get(&channel)?;
        Some(&self.runs[*slot as usize])
    }
}

impl HotRun {
    fn push_message(&mut self, record: &RecordMeta, entry: Entry) {
        if self.entries.is_empty() {
            self.run.first_seq = record.seq;
            // Most channels have one message in a segment: no room for more until it comes.
            self.entries.reserve_exact(1);
        }
        self.entries.push(entry);
        self.run.count += 1;
        self.run.last_message = record.message;
    }

    fn push_change(&mut self, change: ChangeEntry) {
        let is_first = self.changes.is_empty();
        if is_first || change.seq < self.run.changes_min_seq {
            self.run.changes_min_seq = change.seq;
        }
        self.changes.push(change);
        self.run.changes += 1;
    }
}
