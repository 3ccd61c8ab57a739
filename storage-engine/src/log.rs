//! The hot log of one shard: commits in, durable frames out, one at a time.
//!
//! It never retries a failed write or sync and never writes a block twice. It does not look for
//! room in older segments.
//!
//! Invariants: after a failed or abandoned write nothing more is written; a segment is durable
//! before the next one begins, and its last block is kept free for the idle frame.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::Path;
use std::rc::Rc;

use crate::catalog::Catalog;
use crate::config::{Durability, StoreConfig};
use crate::disk::Disk;
use crate::error::{CommitError, StoreError};
use crate::format::{Opening, frame_bytes};
use crate::index::Head;
use crate::key::{ChannelKey, SegmentId};
use crate::record::{Location, Record};
use crate::segment::{Day, Paths, SegmentInfo, SegmentTable, SharedSegments};
use crate::tail::Tail;
use crate::upkeep::{Ended, Upkeep, trim};

/// One shard's log. Exactly one commit is in flight: [`Log::commit`] borrows it mutably.
pub struct Log<D: Disk> {
    disk: D,
    paths: Paths,
    config: StoreConfig,
    shard: u16,
    shards: u16,
    /// The first number that this log may still give out.
    next_segment: SegmentId,
    /// The first number that this log gave out: those before it are others'.
    first_segment: SegmentId,
    tail: Option<Tail<D::File>>,
    upkeep: Upkeep<D>,
    segments: SharedSegments,
    heads: HashMap<ChannelKey, Head>,
    synced_ms: u64,
    health: Health,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Ready,
    /// A write is under way, or its future was dropped.
    Writing,
    Poisoned,
}

impl<D: Disk> Log<D> {
    /// Opens the log of one shard. Its first segment is made with the first commit; the file for
    /// it is made ready now, unless the disk is full.
    ///
    /// `segments` are those that recovery found, of all shards.
    ///
    /// # Errors
    /// If the disk fails other than by being full.
    ///
    /// # Panics
    /// If the limits contradict each other, or `shard` is not below `shards`.
    pub async fn open(
        disk: D,
        root: &Path,
        config: StoreConfig,
        shard: u16,
        shards: u16,
        segments: &SegmentTable,
        now_ms: u64,
    ) -> Result<Self, StoreError> {
        config.assert_consistent();
        assert!(shard < shards, "shards are counted from 0");
        let first_segment = first_own_segment(segments.newest(), shard, shards)?;
        let paths = Paths::new(root);
        let upkeep = Upkeep::new(disk.clone(), paths.clone(), config, shard);
        upkeep.run().await?;
        Ok(Self {
            disk,
            paths,
            config,
            shard,
            shards,
            next_segment: first_segment,
            first_segment,
            tail: None,
            upkeep,
            segments: Rc::new(RefCell::new(segments.clone())),
            heads: HashMap::new(),
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

    /// The background work, to be run beside commits.
    #[must_use]
    pub fn upkeep(&self) -> Upkeep<D> {
        self.upkeep.clone()
    }

    /// Writes the records as one frame, all or nothing, and waits until they are durable as the
    /// configuration says. Returns where each lies, in order. `now_ms` is the time in
    /// milliseconds since 1970: a commit on a later day than the last one begins that day's
    /// directory.
    ///
    /// # Errors
    /// [`CommitError::Full`] if the next segment is needed and has no space: nothing was written.
    /// [`CommitError::Poisoned`] for anything else, and for ever after.
    ///
    /// # Panics
    /// If there are no records, or one record or all together exceed the limits.
    pub async fn commit(
        &mut self,
        now_ms: u64,
        records: &[Record],
    ) -> Result<Vec<Location>, CommitError> {
        self.assert_within_limits(records);
        if self.health != Health::Ready {
            return Err(CommitError::Poisoned(StoreError::Poisoned));
        }
        self.health = Health::Writing;
        let done = self.commit_on_disk(now_ms, records).await;
        self.health = match &done {
            Ok(_) | Err(CommitError::Full(_)) => Health::Ready,
            Err(CommitError::Poisoned(_)) => Health::Poisoned,
        };
        done
    }

    /// Appends an empty frame if the last one is a commit: from then on damage to that commit
    /// cannot be taken for a write that was cut short. For when a log has been idle for a while.
    /// Syncs in every mode.
    ///
    /// # Errors
    /// If the disk fails: the log is poisoned.
    pub async fn seal_tail(&mut self) -> Result<(), StoreError> {
        if self.health != Health::Ready {
            return Err(StoreError::Poisoned);
        }
        let Some(tail) = &mut self.tail else {
            return Ok(());
        };
        if tail.is_sealed() {
            return Ok(());
        }
        self.health = Health::Writing;
        let done = tail.append_idle(&self.disk).await;
        self.health = if done.is_ok() {
            Health::Ready
        } else {
            Health::Poisoned
        };
        done
    }

    /// Syncs what is written but not synced, if the configured interval has passed. In the mode
    /// [`Durability::Interval`] this must be called that often while no commits come; otherwise
    /// it does nothing.
    ///
    /// # Errors
    /// If the disk fails: the log is poisoned.
    pub async fn sync_if_due(&mut self, now_ms: u64) -> Result<(), StoreError> {
        if self.health != Health::Ready {
            return Err(StoreError::Poisoned);
        }
        let is_due = self.is_sync_due(now_ms);
        let Some(tail) = self
            .tail
            .as_mut()
            .filter(|tail| is_due && tail.has_unsynced())
        else {
            return Ok(());
        };
        self.health = Health::Writing;
        let done = tail.sync().await;
        self.health = if done.is_ok() {
            Health::Ready
        } else {
            Health::Poisoned
        };
        self.synced_ms = now_ms;
        done
    }

    /// Ends the log in order: everything durable, unused space given back, the ends of its
    /// segments and the heads of its channels noted in the catalog. No upkeep may be running.
    ///
    /// # Errors
    /// If the disk fails; recovery then treats the log as after a crash.
    pub async fn close(mut self) -> Result<(), StoreError> {
        self.seal_tail().await?;
        if let Some(tail) = self.tail.take() {
            self.note_end(&tail);
            let end = tail.end();
            trim(tail.into_file(), end).await?;
        }
        self.upkeep.finish().await?;
        let catalog = Catalog::of_log(&self.own_segments(), &self.heads);
        if catalog.is_empty() {
            return Ok(());
        }
        catalog
            .store_shard(&self.disk, &self.paths, self.shard)
            .await
    }

    fn own_segments(&self) -> Vec<(SegmentId, SegmentInfo)> {
        let segments = self.segments.borrow();
        segments
            .iter()
            .filter(|(id, _)| *id >= self.first_segment)
            .collect()
    }

    fn assert_within_limits(&self, records: &[Record]) {
        assert!(!records.is_empty(), "a commit holds something");
        for record in records {
            assert!(
                record.bytes() <= self.config.record_bytes_max.into(),
                "record too large"
            );
        }
        assert!(
            frame_bytes(records) <= self.config.commit_bytes_max.into(),
            "commit too large"
        );
    }

    async fn commit_on_disk(
        &mut self,
        now_ms: u64,
        records: &[Record],
    ) -> Result<Vec<Location>, CommitError> {
        let bytes = u32::try_from(frame_bytes(records)).expect("commits are below 1 GiB");
        if !self.has_room(now_ms, bytes) {
            self.roll(now_ms).await?;
        }
        assert!(
            self.has_room(now_ms, bytes),
            "an empty segment takes any commit"
        );
        let must_sync = self.is_sync_due(now_ms);
        let tail = self
            .tail
            .as_mut()
            .expect("a segment with room was found or made");
        let locations = tail.append(&self.disk, bytes, records).await;
        let locations = locations.map_err(CommitError::Poisoned)?;
        if must_sync {
            tail.sync().await.map_err(CommitError::Poisoned)?;
            self.synced_ms = now_ms;
        }
        for record in records {
            self.heads.insert(
                record.channel,
                Head {
                    seq: record.seq,
                    rev: record.rev,
                },
            );
        }
        Ok(locations)
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
        let next = next_segment(self.next_segment, self.shards).map_err(CommitError::Poisoned)?;
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.has_unsynced()) {
            tail.sync().await.map_err(CommitError::Poisoned)?;
        }
        let last_day = self.tail.as_ref().map_or(Day(0), Tail::day);
        let day = Day::of_ms(now_ms).max(last_day);
        let segment = self.next_segment;
        let file = self.install(segment, day).await?;
        let previous = self.tail.take();
        let is_begun = previous.as_ref().is_none_or(Tail::is_begun);
        assert!(is_begun, "a segment without a commit is never left behind");
        let opening = Opening {
            shard: self.shard.into(),
            shards: self.shards.into(),
            segment_bytes: self.config.segment_bytes.into(),
            created_ms: now_ms.into(),
            previous: previous.as_ref().map_or(0, |tail| tail.segment().0).into(),
            previous_end: previous.as_ref().map_or(0, |tail| tail.end()).into(),
            reserved: [0; 8],
        };
        if let Some(tail) = previous {
            self.note_end(&tail);
            let end = tail.end();
            self.upkeep.note_ended(Ended {
                file: tail.into_file(),
                end,
            });
        }
        self.next_segment = next;
        self.segments
            .borrow_mut()
            .insert(segment, SegmentInfo { day, end: None });
        self.tail = Some(Tail::new(segment, day, file, self.disk.salt(), opening));
        Ok(())
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
                self.upkeep.put_back(spare).await.map_err(poisoned)?;
            }
            return Err(full_or_poisoned(error));
        }
        self.disk.sync_dir(&directory).await.map_err(poisoned)?;
        self.disk.open(&path).await.map_err(poisoned)
    }

    fn note_end(&self, tail: &Tail<D::File>) {
        let info = SegmentInfo {
            day: tail.day(),
            end: Some(tail.end()),
        };
        self.segments.borrow_mut().insert(tail.segment(), info);
    }
}

/// The smallest number above all known ones that is this shard's to give out.
fn first_own_segment(
    newest: Option<SegmentId>,
    shard: u16,
    shards: u16,
) -> Result<SegmentId, StoreError> {
    let shards = u32::from(shards);
    let round = newest.map_or(0, |segment| segment.0) / shards + 1;
    let number = round
        .checked_mul(shards)
        .and_then(|base| base.checked_add(shard.into()));
    number.map(SegmentId).ok_or(StoreError::SegmentsExhausted)
}

fn next_segment(segment: SegmentId, shards: u16) -> Result<SegmentId, StoreError> {
    let number = segment.0.checked_add(shards.into());
    number.map(SegmentId).ok_or(StoreError::SegmentsExhausted)
}

fn full_or_poisoned(error: crate::error::DiskError) -> CommitError {
    if error.is_full() {
        CommitError::Full(error.into())
    } else {
        CommitError::Poisoned(error.into())
    }
}
