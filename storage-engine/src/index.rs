//! The channels of one shard: each one's last numbers and where its newest records lie, with the
//! segments that have no index file yet.
//!
//! Pure: it reads no file and answers no page.
//!
//! Invariants: a record is inserted once its commit counts, in order of rev; a channel takes
//! [`CHANNEL_BYTES`] however long its history is; at most one segment is open, and segments that
//! ended stay here until somebody says that their index files are written.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use ahash::RandomState;

use crate::catalog::CatalogEntry;
use crate::error::{Damage, StoreError};
use crate::hot::{HotSegment, Run, SegmentOrigin};
use crate::key::{ChannelKey, MessageKey, SegmentId};
use crate::place::Place;
use crate::record::{Location, RecordKind, RecordMeta};

/// Memory of one channel in the table. A hash table is between 7/16 and 7/8 full and takes a byte
/// beside each place, so a channel costs 84 to 167 bytes in all.
pub(crate) const CHANNEL_BYTES: usize = size_of::<(ChannelKey, Channel)>();

/// Records of a commit that are looked up together.
pub(crate) const TOUCH_RECORDS: usize = 16;

/// The last numbers that a channel has given out; zeroes if none.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Head {
    /// Last seq.
    pub seq: u64,
    /// Last rev.
    pub rev: u64,
    /// The newest message, deleted or not; zero if none.
    pub last_message: MessageKey,
}

/// What a page asks for. Keys need not exist.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Query {
    /// The last ones.
    Newest,
    /// The last ones before this key.
    Before(MessageKey),
    /// The first ones after this key.
    After(MessageKey),
    /// Half of them before this key, the rest from it on: the key's own message is included.
    Around(MessageKey),
    /// The first ones after this seq.
    AfterSeq(u64),
}

/// One shard's index: its log adds to it, its reader looks into it.
pub type SharedIndex = Rc<RefCell<Index>>;

/// All channels of one shard.
#[derive(Debug)]
pub struct Index {
    hasher: RandomState,
    channels: HashMap<ChannelKey, Channel, RandomState>,
    open: Option<HotSegment>,
    /// Segments that ended, oldest first.
    filled: Vec<Filled>,
}

#[derive(Clone, Debug)]
struct Filled {
    hot: Arc<HotSegment>,
    is_handed_out: bool,
}

#[derive(Clone, Copy, Debug)]
struct Channel {
    head: Head,
    newest: Place,
    newest_changes: Place,
    /// The segment that `slot` is of.
    slot_segment: SegmentId,
    slot: u32,
}

impl Default for Channel {
    fn default() -> Self {
        Self {
            head: Head::default(),
            newest: Place::NONE,
            newest_changes: Place::NONE,
            slot_segment: SegmentId(0),
            slot: 0,
        }
    }
}

/// A number or key that does not follow what the channel has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Break {
    /// A seq or rev that is not the one that follows.
    Number { expected: u64, found: u64 },
    /// A key that is not above the last one, or a change of a message that there is not.
    Key,
}

impl Break {
    /// The error that it means for a record, or a run, in this place.
    pub(crate) fn at(self, channel: ChannelKey, path: &Path, offset: u32) -> StoreError {
        let path = path.to_path_buf();
        match self {
            Self::Number { expected, found } => StoreError::SeqBreak {
                channel,
                expected,
                found,
                path,
                offset,
            },
            Self::Key => StoreError::Corrupt {
                path,
                offset,
                damage: Damage::RecordMisplaced,
            },
        }
    }
}

impl Head {
    /// Whether a record may come next.
    pub(crate) fn check(&self, record: &RecordMeta) -> Result<(), Break> {
        follows(self.rev, record.rev)?;
        if record.kind == RecordKind::Create {
            follows(self.seq, record.seq)?;
            return (record.message > self.last_message)
                .then_some(())
                .ok_or(Break::Key);
        }
        let is_known = (1..=self.seq).contains(&record.seq);
        is_known.then_some(()).ok_or(Break::Key)
    }

    /// Moves behind a record that may come next.
    pub(crate) fn note(&mut self, record: &RecordMeta) {
        self.rev = record.rev;
        if record.kind == RecordKind::Create {
            self.seq = record.seq;
            self.last_message = record.message;
        }
    }

    /// The head after a run, if the run may come next.
    pub(crate) fn after(&self, run: &Run) -> Result<Self, Break> {
        let first_rev = run.last_rev.saturating_sub(run.records().saturating_sub(1));
        follows(self.rev, first_rev)?;
        let mut head = *self;
        head.rev = run.last_rev;
        if run.count > 0 {
            follows(self.seq, run.first_seq)?;
            if run.last_message <= self.last_message {
                return Err(Break::Key);
            }
            head.seq = run.seqs().end - 1;
            head.last_message = run.last_message;
        }
        Ok(head)
    }
}

fn follows(last: u64, found: u64) -> Result<(), Break> {
    let expected = last.saturating_add(1);
    if found == expected {
        Ok(())
    } else {
        Err(Break::Number { expected, found })
    }
}

impl Index {
    /// An index without channels. `salt` is unforeseeable: ids that clients choose cannot be made
    /// to fall together in its tables.
    #[must_use]
    pub fn new(salt: u64) -> Self {
        let part = |turn| salt.rotate_left(turn) ^ u64::from(turn);
        Self::with_hasher(RandomState::with_seeds(
            part(0),
            part(13),
            part(29),
            part(47),
        ))
    }

    fn with_hasher(hasher: RandomState) -> Self {
        Self {
            channels: HashMap::with_hasher(hasher.clone()),
            hasher,
            open: None,
            filled: Vec::new(),
        }
    }

    /// Adds a record that follows its channel's last one and lies in the open segment.
    ///
    /// # Panics
    /// If its seq or rev is not the next one, or its key is not above the last one's: whoever
    /// gives out these numbers is wrong, and nothing that follows could be trusted.
    pub fn insert(&mut self, record: &RecordMeta, location: Location) {
        let open = self.open.as_mut().expect("a record lies in a segment");
        let channel = self.channels.entry(record.channel).or_default();
        let checked = channel.head.check(record);
        assert_eq!(
            checked,
            Ok(()),
            "seq and rev are dense and keys rise in channel {}",
            record.channel
        );
        if channel.slot_segment != open.segment() {
            channel.slot_segment = open.segment();
            channel.slot = open.begin_run(record.channel, channel.newest, channel.newest_changes);
        }
        open.insert(channel.slot, record, location);
        channel.head.rev = record.rev;
        if record.kind == RecordKind::Create {
            channel.head.seq = record.seq;
            channel.head.last_message = record.message;
            channel.newest = open.origin().place();
        } else {
            channel.newest_changes = open.origin().place();
        }
    }

    /// Brings what inserting records of these channels will look at into the processor's caches,
    /// at most [`TOUCH_RECORDS`]: the lookups wait for memory together instead of one after
    /// the other.
    pub(crate) fn touch(&self, channels: impl Iterator<Item = ChannelKey>) {
        let Some(open) = &self.open else { return };
        let mut slots = [None; TOUCH_RECORDS];
        for (slot, key) in slots.iter_mut().zip(channels) {
            let channel = self.channels.get(&key);
            let here = channel.filter(|channel| channel.slot_segment == open.segment());
            *slot = here.map(|channel| channel.slot);
        }
        for slot in slots.into_iter().flatten() {
            open.touch(slot);
        }
    }

    /// Adds a run that an index file holds, in the order of segments.
    pub(crate) fn apply(&mut self, key: ChannelKey, run: &Run, place: Place) -> Result<(), Break> {
        let channel = self.channels.entry(key).or_default();
        channel.head = channel.head.after(run)?;
        if run.count > 0 {
            channel.newest = place;
        }
        if run.changes > 0 {
            channel.newest_changes = place;
        }
        Ok(())
    }

    /// Puts a channel in as a catalog remembers it.
    pub(crate) fn restore(&mut self, entry: &CatalogEntry) {
        let channel = Channel {
            head: entry.head,
            newest: entry.newest,
            newest_changes: entry.newest_changes,
            ..Channel::default()
        };
        self.channels.insert(entry.channel, channel);
    }

    /// Begins a segment: records go into it from now on.
    pub(crate) fn begin_segment(&mut self, origin: SegmentOrigin) {
        assert!(self.open.is_none(), "one segment is open at a time");
        self.open = Some(self.hot_segment(origin));
    }

    /// A segment beside the channels of this table.
    pub(crate) fn hot_segment(&self, origin: SegmentOrigin) -> HotSegment {
        HotSegment::new(origin, self.hasher.clone())
    }

    /// Ends the open segment, at `end` bytes. It stays readable here.
    pub(crate) fn end_segment(&mut self, end: u32) {
        let mut hot = self.open.take().expect("only an open segment ends");
        hot.finish(end);
        self.filled.push(Filled {
            hot: Arc::new(hot),
            is_handed_out: false,
        });
    }

    /// Takes the open segment back, as if it had never begun: it holds nothing.
    pub(crate) fn forget_segment(&mut self) {
        let is_empty = self.open.take().is_none_or(|hot| hot.records() == 0);
        assert!(is_empty, "only an empty segment is forgotten");
    }

    /// The last numbers given out in a channel.
    #[must_use]
    pub fn head(&self, channel: ChannelKey) -> Head {
        let known = self.channels.get(&channel);
        known.map(|channel| channel.head).unwrap_or_default()
    }

    /// Where a channel's newest messages, and its newest changes, lie.
    #[must_use]
    pub fn newest(&self, channel: ChannelKey) -> (Place, Place) {
        match self.channels.get(&channel) {
            Some(channel) => (channel.newest, channel.newest_changes),
            None => (Place::NONE, Place::NONE),
        }
    }

    /// All channels and their heads, in no particular order.
    pub fn heads(&self) -> impl Iterator<Item = (ChannelKey, Head)> + '_ {
        (self.channels.iter()).map(|(key, channel)| (*key, channel.head))
    }

    /// How many channels there are.
    #[must_use]
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// Memory that it takes, in bytes; looks at each channel of the segments still in memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let filled = self.filled.iter().map(|filled| &*filled.hot);
        let hot = self.open.iter().chain(filled).map(HotSegment::memory_bytes);
        self.channels.capacity() * (CHANNEL_BYTES + 1) + hot.sum::<usize>()
    }

    /// A segment that is still in memory.
    #[must_use]
    pub fn hot(&self, segment: SegmentId) -> Option<&HotSegment> {
        let open = self.open.as_ref();
        let filled = self.filled.iter().rev().map(|filled| &*filled.hot);
        open.into_iter()
            .chain(filled)
            .find(|hot| hot.segment() == segment)
    }

    /// Segments that ended and were not handed out before, oldest first: their index files are to
    /// be written. They stay readable here until [`Index::drop_hot`].
    pub fn filled(&mut self) -> Vec<Arc<HotSegment>> {
        let new = self.filled.iter_mut().filter(|one| !one.is_handed_out);
        new.map(|filled| {
            filled.is_handed_out = true;
            Arc::clone(&filled.hot)
        })
        .collect()
    }

    /// All segments that ended and whose index files are not known to be written, oldest first.
    pub(crate) fn unindexed(&self) -> Vec<Arc<HotSegment>> {
        let filled = self.filled.iter();
        filled.map(|filled| Arc::clone(&filled.hot)).collect()
    }

    /// Lets go of a segment whose index file is written.
    pub fn drop_hot(&mut self, segment: SegmentId) {
        self.filled.retain(|filled| filled.hot.segment() != segment);
    }

    /// Deals the channels out: one index per shard, each channel where `owner` says.
    ///
    /// # Panics
    /// If `owner` names a shard that does not exist, or a segment is still in memory.
    #[must_use]
    pub fn split(self, shards: usize, owner: impl Fn(ChannelKey) -> usize) -> Vec<Self> {
        assert!(
            self.open.is_none() && self.filled.is_empty(),
            "an index is dealt out before logs add to it"
        );
        let part = || Self::with_hasher(self.hasher.clone());
        let mut parts: Vec<Self> = (0..shards).map(|_| part()).collect();
        for (key, channel) in self.channels {
            parts[owner(key)].channels.insert(key, channel);
        }
        parts
    }
}
