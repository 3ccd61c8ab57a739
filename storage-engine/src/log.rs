//! The hot log of one shard: commits in, durable frames out, one at a time.
//!
//! It never retries a failed write or sync and never writes a block twice. It does not look for
//! room in older segments.
//!
//! Invariants: after a failed or abandoned write nothing more is written; a segment is durable
//! before the next one begins, and its last block is kept free for the idle frame; the index
//! learns of a record when its commit counts; no segment begins on a day that is sealed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use crate::catalog::{EndedSegment, store_shard};
use crate::config::{Durability, StoreConfig};
use crate::disk::Disk;
use crate::error::{CommitError, StoreError};
use crate::format::Opening;
use crate::hot::SegmentOrigin;
use crate::index::{SharedIndex, TOUCH_RECORDS};
use crate::key::SegmentId;
use crate::prepared::{Encoder, Prepared};
use crate::reader::Live;
use crate::recent::{Recent, SharedRecent};
use crate::record::{Location, Record};
use crate::segment::{Day, Paths, SegmentInfo, SegmentTable, SharedSegments};
use crate::segment_index::write_index;
use crate::tail::Tail;
use crate::under_way::{Content, UnderWay};
use crate::upkeep::{Ended, Upkeep};

/// Which of a node's logs it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogPlace {
    /// The shard, counted from 0.
    pub shard: u16,
    /// How many shards there are.
    pub shards: u16,
    /// The last day that is sealed; day 0 if none.
    pub sealed_through: Day,
}

/// Most commits begun and not finished: one is written, the next one waits for its turn.
const UNFINISHED_MAX: usize = 2;

/// One shard's log. Exactly one commit at a time is written.
pub struct Log<D: Disk> {
    disk: D,
    paths: Paths,
    config: StoreConfig,
    place: LogPlace,
    /// The first number that this log may still give out.
    next_segment: SegmentId,
    /// The first number that this log gave out: those before it are others'.
    first_segment: SegmentId,
    tail: Option<Tail<D::File>>,
    /// The oldest first.
    under_way: VecDeque<UnderWay>,
    /// Commits that count and have not been asked for: older than all under way.
    counted: VecDeque<Vec<Location>>,
    /// The segment that ended last.
    previous: Option<EndedSegment>,
    /// The first day on which a segment may begin.
    first_day: Day,
    upkeep: Upkeep<D>,
    segments: SharedSegments,
    index: SharedIndex,
    recent: SharedRecent,
    synced_ms: u64,
    health: Health,
}

/// How far a log is durable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Synced {
    /// The segment that is written to; all before it are durable to their ends.
    pub segment: SegmentId,
    /// Its day.
    pub day: Day,
    /// Where its synced frames end, in bytes.
    pub end: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Ready,
    /// A write is under way, or its future was dropped.
    Writing,
    Poisoned,
}

/// Errors after which a log may or may not go on.
trait MayPoison {
    fn poisons(&self) -> bool;
}

impl MayPoison for StoreError {
    fn poisons(&self) -> bool {
        true
    }
}

impl MayPoison for CommitError {
    fn poisons(&self) -> bool {
        matches!(self, Self::Poisoned(_))
    }
}

impl<D: Disk> Log<D> {
    /// Opens the log of one shard. Its first segment is made with the first commit; the file for
    /// it is made ready now, unless the disk is full.
    ///
    /// `segments` are those that recovery found, of all shards; `index` is this shard's part of
    /// the channels, to which the log adds what it commits.
    ///
    /// # Errors
    /// If the disk fails other than by being full.
    ///
    /// # Panics
    /// If the limits contradict each other, or the shard is not below the number of shards.
    pub async fn open(
        disk: D,
        root: &Path,
        config: StoreConfig,
        place: LogPlace,
        segments: &SegmentTable,
        index: SharedIndex,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        config.assert_consistent();
        assert!(place.shard < place.shards, "shards are counted from 0");
        let first_segment = first_own_segment(segments.newest(), place.shard, place.shards)?;
        let paths = Paths::new(root);
        let upkeep = Upkeep::new(disk.clone(), paths.clone(), config, place.shard);
        upkeep.run().await?;
        Ok(Self {
            disk,
            paths,
            config,
            place,
            next_segment: first_segment,
            first_segment,
            tail: None,
            under_way: VecDeque::new(),
            counted: VecDeque::new(),
            previous: None,
            first_day: day_after(place.sealed_through).max(segments.newest_day()),
            upkeep,
            segments: Rc::new(RefCell::new(segments.clone())),
            index,
            recent: Recent::shared(&config),
            synced_ms: now_ms,
            health: Health::Ready,
        })
    }

    /// The segments that this shard can read, for its [`crate::Reader`]; new ones appear by
    /// themselves.
    #[must_use]
    pub fn segments(&self) -> SharedSegments {
        Rc::clone(&self.segments)
    }

    /// How far the log is durable; `None` before the first commit of this run.
    #[must_use]
    pub fn synced(&self) -> Option<Synced> {
        let tail = self.tail.as_ref()?;
        Some(Synced {
            segment: tail.segment(),
            day: tail.day(),
            end: tail.synced_end(),
        })
    }

    /// The channels of this shard and what memory knows of its newest segments; new records appear
    /// by themselves.
    #[must_use]
    pub fn index(&self) -> SharedIndex {
        Rc::clone(&self.index)
    }

    /// All that this shard's [`crate::Reader`] looks into and the log adds to.
    #[must_use]
    pub fn live(&self) -> Live {
        Live {
            segments: self.segments(),
            index: self.index(),
            recent: Rc::clone(&self.recent),
        }
    }

    /// The segment that commits go to, and up to where it holds some, in bytes; `None` until the
    /// first one, and after a day was ended.
    #[must_use]
    pub fn end(&self) -> Option<(SegmentId, u32)> {
        let tail = self.tail.as_ref().filter(|tail| tail.end() > 0)?;
        Some((tail.segment(), tail.end()))
    }

    /// The background work, to be run beside commits.
    #[must_use]
    pub fn upkeep(&self) -> Upkeep<D> {
        self.upkeep.clone()
    }

    /// Whether [`Upkeep::run`] has something to do.
    #[must_use]
    pub fn needs_upkeep(&self) -> bool {
        self.upkeep.is_due()
    }

    /// Makes commits ready for [`Log::begin`], also while this log writes.
    #[must_use]
    pub fn encoder(&self) -> Encoder<D> {
        Encoder::new(self.disk.clone(), self.config)
    }

    /// Writes the records as one frame, all or nothing, waits until they are durable as the
    /// configuration says, and adds them to the index. Returns where each lies, in order.
    /// `now_ms` is the time in milliseconds since 1970: a commit on a later day than the last one
    /// begins that day's directory. If the future is dropped the log is poisoned.
    ///
    /// # Errors
    /// [`CommitError::Full`] if the next segment is needed and has no space: nothing was written.
    /// [`CommitError::Poisoned`] for anything else, and for ever after.
    ///
    /// # Panics
    /// If there are no records, one record or all together exceed the limits, their numbers do
    /// not follow those of their channels, or a commit was begun and not finished.
    pub async fn commit(
        &mut self,
        now_ms: u64,
        records: &[Record],
    ) -> Result<Vec<Location>, CommitError> {
        let prepared = self.encoder().prepare(records);
        self.enter().map_err(CommitError::Poisoned)?;
        self.assert_all_finished();
        let done = match self.begin_on_disk(now_ms, prepared).await {
            Ok(()) => self.finish_oldest().await,
            Err(error) => Err(error),
        };
        self.leave(done)
    }

    /// Begins a commit that [`Log::encoder`] has prepared: it is written when those begun before
    /// are durable. At most two may be begun and not finished; while the first one is written the
    /// second one is ready for the disk, so that it never waits for this thread. Waits only for a
    /// new segment, and where the disk cannot queue. If the future is dropped the log is poisoned.
    ///
    /// # Errors
    /// As [`Log::commit`]. After [`CommitError::Full`] those begun before are still to be
    /// finished.
    ///
    /// # Panics
    /// If two commits are begun and not finished.
    pub async fn begin(&mut self, now_ms: u64, prepared: Prepared<D>) -> Result<(), CommitError> {
        let unfinished = self.under_way.len() + self.counted.len();
        assert!(unfinished < UNFINISHED_MAX, "two commits at most");
        self.enter().map_err(CommitError::Poisoned)?;
        let begun = self.begin_on_disk(now_ms, prepared).await;
        self.leave(begun)
    }

    /// Waits until the oldest commit begun is durable as the configuration says and in the index,
    /// and returns where its records lie, in order. The future may be dropped and asked for again.
    ///
    /// # Errors
    /// [`CommitError::Poisoned`] if the disk failed, now or before.
    ///
    /// # Panics
    /// If none is begun, or the numbers of its records do not follow those of their channels.
    pub async fn finish(&mut self) -> Result<Vec<Location>, CommitError> {
        let done = self.finish_oldest().await;
        if done.is_err() {
            self.health = Health::Poisoned;
        }
        done
    }

    /// Appends an empty frame if the last one is a commit: from then on damage to that commit
    /// cannot be taken for a write that was cut short. For when a log has been idle for a while.
    /// Syncs in every mode.
    ///
    /// # Errors
    /// If the disk fails: the log is poisoned.
    pub async fn seal_tail(&mut self) -> Result<(), StoreError> {
        self.enter()?;
        let done = self.seal_on_disk().await;
        self.leave(done)
    }

    /// Syncs what is written but not synced, if the configured interval has passed. In the mode
    /// [`Durability::Interval`] this must be called that often while no commits come; otherwise
    /// it does nothing.
    ///
    /// # Errors
    /// If the disk fails: the log is poisoned.
    pub async fn sync_if_due(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.enter()?;
        let done = match self.is_sync_due(now_ms) {
            true => self.sync_on_disk(now_ms).await,
            false => Ok(()),
        };
        self.leave(done)
    }

    /// Ends the present segment if its day is `day` or before, and begins none there any more: an
    /// idle log does not hold a day back from being sealed. When it returns, all that the log has
    /// of those days is durable and in [`crate::Index::filled`].
    ///
    /// # Errors
    /// If the disk fails: the log is poisoned.
    pub async fn end_day(&mut self, day: Day) -> Result<(), StoreError> {
        if self.health != Health::Ready {
            return Err(StoreError::Poisoned);
        }
        self.first_day = self.first_day.max(day_after(day));
        if self.tail.as_ref().is_none_or(|tail| tail.day() > day) {
            return Ok(());
        }
        // Nothing else records where the segment ends until the next one begins.
        self.seal_tail().await?;
        self.end_segment();
        Ok(())
    }

    /// Ends the log in order: everything durable and indexed, unused space given back, the ends
    /// of its segments noted in the catalog. No upkeep may be running, and nobody else may be
    /// writing the index files of its segments.
    ///
    /// # Errors
    /// If the disk fails; recovery then treats the log as after a crash.
    ///
    /// # Panics
    /// If a commit was begun and not finished.
    pub async fn close(mut self) -> Result<(), StoreError> {
        self.seal_tail().await?;
        self.assert_all_finished();
        self.end_segment();
        self.upkeep.finish().await?;
        while self.index_oldest(1).await? {}
        let segments = self.own_segments();
        if segments.is_empty() {
            return Ok(());
        }
        store_shard(&self.disk, &self.paths, self.place.shard, &segments).await
    }

    fn own_segments(&self) -> Vec<EndedSegment> {
        let segments = self.segments.borrow();
        let own = segments
            .iter()
            .filter(|(segment, _)| *segment >= self.first_segment);
        own.filter_map(|(segment, SegmentInfo { day, end })| {
            let end = end?;
            Some(EndedSegment { segment, day, end })
        })
        .collect()
    }

    /// Writes the oldest index file that is due, if that many or more are due.
    async fn index_oldest(&self, due: usize) -> Result<bool, StoreError> {
        let unindexed = self.index.borrow().unindexed();
        if unindexed.len() < due {
            return Ok(false);
        }
        let Some(oldest) = unindexed.first() else {
            return Ok(false);
        };
        let is_own = self.segments.borrow().get(oldest.segment()).is_some();
        if is_own {
            write_index(&self.disk, &self.paths, oldest, "log").await?;
        }
        self.index.borrow_mut().drop_hot(oldest.segment());
        Ok(true)
    }

    fn assert_all_finished(&self) {
        assert!(
            self.under_way.is_empty() && self.counted.is_empty(),
            "what was begun is finished first"
        );
    }

    /// Before something is written: if the future is dropped meanwhile, the log stays unusable.
    fn enter(&mut self) -> Result<(), StoreError> {
        if self.health != Health::Ready {
            return Err(StoreError::Poisoned);
        }
        self.health = Health::Writing;
        Ok(())
    }

    /// After something was written: whether more may follow.
    fn leave<T, E: MayPoison>(&mut self, done: Result<T, E>) -> Result<T, E> {
        self.health = match &done {
            Err(error) if error.poisons() => Health::Poisoned,
            Ok(_) | Err(_) => Health::Ready,
        };
        done
    }

    async fn begin_on_disk(
        &mut self,
        now_ms: u64,
        prepared: Prepared<D>,
    ) -> Result<(), CommitError> {
        let bytes = prepared.frame_bytes();
        if !self.has_room(now_ms, bytes) {
            self.settle().await.map_err(CommitError::Poisoned)?;
            self.roll(now_ms).await?;
        }
        assert!(
            self.has_room(now_ms, bytes),
            "an empty segment takes any commit"
        );
        let must_sync = self.is_sync_due(now_ms);
        let may_queue = must_sync
            && self.tail.as_ref().is_some_and(Tail::queues_synced)
            && self.under_way.iter().all(UnderWay::is_synced);
        if !may_queue {
            self.settle().await.map_err(CommitError::Poisoned)?;
        }
        let tail = self
            .tail
            .as_mut()
            .expect("a segment with room was found or made");
        let (write, content) = tail.append(&self.disk, prepared, must_sync);
        let started = UnderWay::start(write, content).await;
        self.under_way.push_back(started);
        if must_sync {
            self.synced_ms = now_ms;
        }
        Ok(())
    }

    async fn finish_oldest(&mut self) -> Result<Vec<Location>, CommitError> {
        if self.counted.is_empty() {
            let settled = self.settle_oldest().await;
            settled.map_err(CommitError::Poisoned)?;
        }
        self.counted
            .pop_front()
            .ok_or(CommitError::Poisoned(StoreError::Poisoned))
    }

    /// Waits until nothing is under way.
    async fn settle(&mut self) -> Result<(), StoreError> {
        while !self.under_way.is_empty() {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    /// Waits for the oldest write under way. If it failed nothing is under way any more.
    async fn settle_oldest(&mut self) -> Result<(), StoreError> {
        let Some(oldest) = self.under_way.front_mut() else {
            // After a future that was dropped nobody knows what was begun.
            assert!(self.health != Health::Ready, "a commit was begun");
            return Err(StoreError::Poisoned);
        };
        let written = oldest.settle().await;
        let oldest = self.under_way.pop_front();
        let content = oldest.expect("it was looked at just now").into_content();
        if let Err(error) = written {
            self.under_way.clear();
            return Err(error.into());
        }
        self.count(&content);
        Ok(())
    }

    /// Takes note of a commit that counts from now on.
    fn count(&mut self, content: &Content) {
        if let Some(tail) = &mut self.tail {
            tail.note_written(content);
        }
        let mut index = self.index.borrow_mut();
        let mut recent = self.recent.borrow_mut();
        let records: Vec<(&Record, Location)> = content.records().collect();
        for some in records.chunks(TOUCH_RECORDS) {
            index.touch(some.iter().map(|(record, _)| record.channel));
            for (record, location) in some {
                index.insert(&record.meta(), *location);
                recent.note(record);
            }
        }
        let locations = records.into_iter().map(|(_, location)| location);
        self.counted.push_back(locations.collect());
    }

    async fn seal_on_disk(&mut self) -> Result<(), StoreError> {
        self.settle().await?;
        match self.tail.as_mut().filter(|tail| !tail.is_sealed()) {
            Some(tail) => tail.append_idle(&self.disk).await,
            None => Ok(()),
        }
    }

    async fn sync_on_disk(&mut self, now_ms: u64) -> Result<(), StoreError> {
        self.settle().await?;
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.has_unsynced()) {
            self.synced_ms = now_ms;
            tail.sync().await?;
        }
        Ok(())
    }

    fn has_room(&self, now_ms: u64, frame_bytes: u32) -> bool {
        self.tail.as_ref().is_some_and(|tail| {
            let is_same_day = tail.day() >= Day::of_ms(now_ms);
            is_same_day && tail.has_room(frame_bytes, self.config.segment_bytes)
        })
    }

    fn is_sync_due(&self, now_ms: u64) -> bool {
        match self.config.durability {
            Durability::Sync => true,
            Durability::Interval { sync_ms_max } => {
                now_ms.saturating_sub(self.synced_ms) >= sync_ms_max
            }
            Durability::Off => false,
        }
    }

    /// Ends the present segment and begins the next one. The old one is synced in every mode:
    /// the new one's opening states where it ends.
    async fn roll(&mut self, now_ms: u64) -> Result<(), CommitError> {
        let next = next_segment(self.next_segment, self.place.shards);
        let next = next.map_err(CommitError::Poisoned)?;
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.has_unsynced()) {
            tail.sync().await.map_err(CommitError::Poisoned)?;
        }
        let unindexed_max = self.config.unindexed_segments_max;
        let indexed = self.index_oldest(unindexed_max).await;
        indexed.map_err(full_or_poisoned)?;
        let last_day = self.tail.as_ref().map_or(self.first_day, Tail::day);
        let day = Day::of_ms(now_ms).max(last_day).max(self.first_day);
        let segment = self.next_segment;
        let file = self.install(segment, day).await?;
        self.end_segment();
        self.next_segment = next;
        self.begin_segment(segment, day, file, now_ms);
        Ok(())
    }

    fn begin_segment(&mut self, segment: SegmentId, day: Day, file: D::File, now_ms: u64) {
        let previous = self.previous;
        let opening = Opening {
            shard: self.place.shard.into(),
            shards: self.place.shards.into(),
            segment_bytes: self.config.segment_bytes.into(),
            created_ms: now_ms.into(),
            previous: previous.map_or(0, |ended| ended.segment.0).into(),
            previous_end: previous.map_or(0, |ended| ended.end).into(),
            previous_day: previous.map_or(0, |ended| ended.day.0).into(),
            reserved: [0; 4],
        };
        let info = SegmentInfo { day, end: None };
        self.segments.borrow_mut().insert(segment, info);
        let salt = self.disk.salt();
        self.index.borrow_mut().begin_segment(SegmentOrigin {
            segment,
            day,
            shard: self.place.shard,
            salt,
            created_ms: now_ms,
        });
        self.tail = Some(Tail::new(segment, day, file, salt, opening));
    }

    /// Ends the present segment, if there is one. It must be synced.
    fn end_segment(&mut self) {
        let Some(tail) = self.tail.take() else {
            return;
        };
        assert!(
            tail.is_begun() && !tail.has_unsynced(),
            "a segment without a commit, or not durable, is never left behind"
        );
        let (segment, day, end) = (tail.segment(), tail.day(), tail.end());
        self.previous = Some(EndedSegment { segment, day, end });
        let info = SegmentInfo {
            day,
            end: Some(end),
        };
        self.segments.borrow_mut().insert(segment, info);
        self.index.borrow_mut().end_segment(end);
        self.upkeep.note_ended(Ended {
            file: tail.into_file(),
            end,
        });
    }

    /// Moves a prewritten file to its place. Only what happens before the move may fail softly.
    async fn install(&self, segment: SegmentId, day: Day) -> Result<D::File, CommitError> {
        let directory = self.paths.day(day);
        self.disk
            .create_dir(&directory)
            .await
            .map_err(full_or_poisoned)?;
        let poisoned = |error| CommitError::Poisoned(StoreError::Disk(error));
        self.disk
            .sync_dir(&self.paths.segments())
            .await
            .map_err(poisoned)?;
        let spare = self.upkeep.take().await.map_err(full_or_poisoned)?;
        let path = self.paths.segment(segment, day);
        if let Err(error) = self.disk.rename(&spare, &path).await {
            if error.is_full() {
                self.upkeep.put_back(spare);
            }
            return Err(full_or_poisoned(error));
        }
        self.disk.sync_dir(&directory).await.map_err(poisoned)?;
        self.disk.open(&path).await.map_err(poisoned)
    }
}

fn day_after(day: Day) -> Day {
    Day(day.0.saturating_add(1))
}

/// The smallest number above all known ones that is this shard's to give out.
fn first_own_segment(newest: SegmentId, shard: u16, shards: u16) -> Result<SegmentId, StoreError> {
    let shards = u32::from(shards);
    let round = newest.0 / shards + 1;
    let number = round
        .checked_mul(shards)
        .and_then(|base| base.checked_add(shard.into()));
    number.map(SegmentId).ok_or(StoreError::SegmentsExhausted)
}

fn next_segment(segment: SegmentId, shards: u16) -> Result<SegmentId, StoreError> {
    let number = segment.0.checked_add(shards.into());
    number.map(SegmentId).ok_or(StoreError::SegmentsExhausted)
}

fn full_or_poisoned(error: impl Into<StoreError>) -> CommitError {
    let error = error.into();
    if error.is_full() {
        CommitError::Full(error)
    } else {
        CommitError::Poisoned(error)
    }
}
