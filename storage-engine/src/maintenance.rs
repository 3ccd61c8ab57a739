//! What happens to a node's segments once they are full and their days over: indexed, sealed,
//! merged into months, erased from, and at last dropped. One piece of work at a time, for a
//! thread that nobody waits for; its methods may overlap, each only holds what it needs.
//!
//! It never touches a segment that is written to, and unlinks nothing that a shard may still
//! read.
//!
//! Invariants: the manifest is what counts, and each piece changes it once at most: a crash
//! leaves the state before the piece or the one after it. After a change of the manifest whose
//! outcome is unknown nothing more is done.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use crate::catalog::EndedSegment;
use crate::compaction::Compaction;
use crate::config::{ChannelLimits, MaintenanceConfig, StoreConfig};
use crate::disk::Disk;
use crate::erasure::{Asked, Erasure, PendingErasure};
use crate::error::StoreError;
use crate::event::{Buckets, Did, Event, Installed, Progress, Ran, Unlink};
use crate::hot::HotSegment;
use crate::key::{ChannelKey, SegmentId};
use crate::leftovers::remove_leftovers;
use crate::manifest::{Bucket, Manifest};
use crate::seal::Sealing;
use crate::sealed::{self, Sealed, SealedIdentity};
use crate::segment::{Day, Paths, SegmentInfo, SegmentTable};
use crate::segment_index::write_index;
use crate::turns::Turns;

/// For how long nothing is merged after a merge found no room, in milliseconds.
const MERGE_RETRY_MS: u64 = 60 * 60 * 1000;

/// A node's maintenance.
pub struct Maintenance<D: Disk> {
    pub(crate) disk: D,
    pub(crate) paths: Paths,
    pub(crate) store: StoreConfig,
    pub(crate) config: MaintenanceConfig,
    pub(crate) state: RefCell<State<D>>,
    /// Who replaces the manifest.
    manifest_turns: Turns,
    /// Who replaces the catalog.
    pub(crate) catalog_turns: Turns,
    /// Who does a piece of work.
    work_turns: Turns,
    is_poisoned: Cell<bool>,
}

/// What is known of the store. Borrowed only between two awaits.
pub(crate) struct State<D: Disk> {
    pub(crate) manifest: Manifest,
    pub(crate) next_number: u32,
    /// The buckets of the manifest, by number.
    pub(crate) open: BTreeMap<u32, Arc<Sealed<D::Mapped>>>,
    /// Segments that ended and have an index file, of days that are not sealed.
    pub(crate) segments: BTreeMap<SegmentId, SegmentInfo>,
    /// For each shard, up to which day it has ended its segments.
    pub(crate) ended_through: Vec<Day>,
    /// Up to which day the shards were asked to.
    pub(crate) asked_through: Day,
    pub(crate) unlinks: Vec<Unlink>,
    pub(crate) next_ticket: u64,
    pub(crate) sealing: Option<Sealing>,
    pub(crate) compaction: Option<Compaction>,
    pub(crate) limits: HashMap<ChannelKey, ChannelLimits>,
    /// Segments that were indexed since the catalog was replaced, in order.
    pub(crate) uncovered: Vec<EndedSegment>,
    /// Segments that the catalog need not name any more.
    pub(crate) gone: BTreeSet<SegmentId>,
    /// Nothing is merged before this time.
    pub(crate) merge_from_ms: u64,
    pub(crate) progress: Progress,
}

/// A bucket's file that is complete and not yet in the manifest.
pub(crate) struct Fresh {
    pub(crate) identity: SealedIdentity,
    pub(crate) first_day: Day,
    pub(crate) last_day: Day,
    pub(crate) messages: u64,
    pub(crate) channels: u64,
    pub(crate) erased_through: u64,
}

impl<D: Disk> Maintenance<D> {
    /// Opens the buckets of a recovered store, once nothing in it was found damaged, and removes
    /// what a crash left of them. `segments` are those that recovery found: all of
    /// them ended and indexed. `shards` is how many logs there will be.
    ///
    /// # Errors
    /// If the disk fails, or the manifest or a bucket is damaged.
    ///
    /// # Panics
    /// If the limits contradict each other, or a segment has not ended.
    pub async fn open(
        disk: D,
        root: &Path,
        store: StoreConfig,
        config: MaintenanceConfig,
        shards: u16,
        segments: &SegmentTable,
    ) -> Result<Self, StoreError> {
        store.assert_consistent();
        config.assert_consistent();
        assert!(shards > 0, "somebody writes");
        let paths = Paths::new(root);
        create_directories(&disk, &paths).await?;
        let manifest = Manifest::load(&disk, &paths).await?;
        remove_leftovers(&disk, &paths, &manifest).await?;
        let mut open = BTreeMap::new();
        for bucket in &manifest.buckets {
            let path = paths.bucket(bucket.number, bucket.first_day, bucket.last_day);
            let identity = bucket.identity();
            let file = Sealed::open(&disk, &path, Some(&identity)).await?;
            open.insert(bucket.number, file);
        }
        assert!(
            segments.iter().all(|(_, info)| info.end.is_some()),
            "recovery leaves no segment open"
        );
        let state = State {
            next_number: manifest.next_number,
            ended_through: vec![manifest.sealed_through; usize::from(shards)],
            asked_through: manifest.sealed_through,
            manifest,
            open,
            segments: segments.iter().collect(),
            unlinks: Vec::new(),
            next_ticket: 1,
            sealing: None,
            compaction: None,
            limits: HashMap::new(),
            uncovered: Vec::new(),
            gone: BTreeSet::new(),
            merge_from_ms: 0,
            progress: Progress::default(),
        };
        Ok(Self {
            disk,
            paths,
            store,
            config,
            state: RefCell::new(state),
            manifest_turns: Turns::default(),
            catalog_turns: Turns::default(),
            work_turns: Turns::default(),
            is_poisoned: Cell::new(false),
        })
    }

    /// The sealed buckets there are now, for a shard that begins to read. What changes later
    /// comes as events.
    #[must_use]
    pub fn buckets(&self) -> Buckets<D::Mapped> {
        let state = self.state.borrow();
        Buckets {
            files: state.open.values().cloned().collect(),
            retained_from: state.manifest.retained_from,
            sealed_through: state.manifest.sealed_through,
        }
    }

    /// What has been done since the start.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.state.borrow().progress
    }

    /// Writes the index file of a segment that a log has ended, so that its shard may forget it
    /// once this has returned. Goes beside everything else; to be called in order of the
    /// segments of each shard.
    ///
    /// # Errors
    /// If the disk fails. A full one may be tried again: the shard keeps the segment in memory.
    pub async fn filled(&self, hot: &HotSegment) -> Result<SegmentId, StoreError> {
        self.assert_usable()?;
        write_index(&self.disk, &self.paths, hot, "node").await?;
        let segment = hot.segment();
        self.note_indexed(EndedSegment {
            segment,
            day: hot.day(),
            end: hot.end(),
        });
        Ok(segment)
    }

    /// A shard's answer to [`Event::EndDay`]: its log has no open segment of that day or an older
    /// one and will begin none, its upkeep has run since, and [`Maintenance::filled`] has
    /// returned for each of them.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn day_ended(&self, shard: u16, day: Day) {
        let mut state = self.state.borrow_mut();
        let ended = &mut state.ended_through[usize::from(shard)];
        *ended = day.max(*ended);
    }

    /// All shards have done what an [`Installed`] asks for, and no read that was begun before
    /// that is under way: files that it replaced may go.
    pub fn released(&self, ticket: u64) {
        let mut state = self.state.borrow_mut();
        for unlink in &mut state.unlinks {
            unlink.is_released |= unlink.ticket == ticket;
        }
    }

    /// Gives a channel limits of its own, or takes them back.
    pub fn set_channel_limits(&self, channel: ChannelKey, limits: Option<ChannelLimits>) {
        let mut state = self.state.borrow_mut();
        match limits {
            Some(limits) => state.limits.insert(channel, limits),
            None => state.limits.remove(&channel),
        };
    }

    /// Records, durably, that something is to be erased. Readers must hide it from now on by
    /// other means: by a [`crate::RecordKind::Delete`] of the message, or their own. Returns the
    /// erasure's number.
    ///
    /// # Errors
    /// If the disk fails, or as many wait as may.
    pub async fn erase(&self, now_ms: u64, of: Erasure) -> Result<u64, StoreError> {
        let max = self.config.erasures_max;
        if self.state.borrow().manifest.erasures.len() >= max {
            return Err(StoreError::ErasuresFull { max });
        }
        let mut number = 0;
        self.replace_manifest(|manifest| {
            number = manifest.next_erasure;
            manifest.next_erasure += 1;
            manifest.erasures.push(Asked {
                erasure: number,
                asked_ms: now_ms,
                of,
            });
        })
        .await?;
        Ok(number)
    }

    /// Erasures that are still under way, in the order of asking.
    #[must_use]
    pub fn pending(&self) -> Vec<PendingErasure> {
        let state = self.state.borrow();
        let erasures = state.manifest.erasures.iter();
        erasures
            .map(|asked| self.pending_of(&state.manifest, asked))
            .collect()
    }

    /// Does one piece of what is due, if anything is, and says what it was. Takes as long as the
    /// device needs: the longest pieces write one bucket. It waits for the device after each MiB,
    /// so that other tasks of its thread go on; only sorting (some 100 ms for 64 MiB) and training
    /// a dictionary (about a second) do not. To be called again at once while there is more, and
    /// after each of the other methods.
    ///
    /// # Errors
    /// If the disk fails: the piece was not done. A full disk may be tried again. After any other
    /// error while the manifest was replaced, every call fails.
    pub async fn run_due(&self, now_ms: u64) -> Result<Ran<D::Mapped>, StoreError> {
        self.assert_usable()?;
        let Some(_turn) = self.work_turns.try_take() else {
            return Ok(Ran::idle(self.next_due_ms(now_ms)));
        };
        let (did, events) = self.next_piece(now_ms).await?;
        if did == Did::Nothing {
            return Ok(Ran::idle(self.next_due_ms(now_ms)));
        }
        Ok(Ran {
            did,
            events,
            next_ms: now_ms,
        })
    }

    /// What is due comes in this order: space given back, old buckets dropped, days sealed,
    /// things erased, channels cut, months and then neighbours merged, the catalog replaced.
    /// What frees space comes before what only needs it for a time, or a full disk would stay
    /// full; and cutting, once begun, before merging.
    async fn next_piece(&self, now_ms: u64) -> Result<Piece<D>, StoreError> {
        if let Some(did) = self.unlink_released().await? {
            return Ok((did, Vec::new()));
        }
        if let Some(piece) = self.drop_oldest(now_ms).await? {
            return Ok(piece);
        }
        if let Some(piece) = self.seal_next(now_ms).await? {
            return Ok(piece);
        }
        if let Some(piece) = self.erase_next(now_ms).await? {
            return Ok(piece);
        }
        if let Some(piece) = self.cut_next(now_ms).await? {
            return Ok(piece);
        }
        if let Some(piece) = self.merge_next(now_ms).await? {
            return Ok(piece);
        }
        if self.state.borrow().uncovered.len() >= self.config.checkpoint_segments {
            self.checkpoint().await?;
            return Ok((Did::Checkpointed, Vec::new()));
        }
        Ok((Did::Nothing, Vec::new()))
    }

    /// Merges what is due. One that found no room is left alone for a while: it would fill the
    /// disk again each time, and everything behind it would wait.
    async fn merge_next(&self, now_ms: u64) -> Result<Option<Piece<D>>, StoreError> {
        if now_ms < self.state.borrow().merge_from_ms {
            return Ok(None);
        }
        let merged = match self.merge_next_month(now_ms).await {
            Ok(None) => self.merge_next_neighbours(now_ms).await,
            done => done,
        };
        if merged.as_ref().is_err_and(StoreError::is_full) {
            self.state.borrow_mut().merge_from_ms = now_ms + MERGE_RETRY_MS;
        }
        merged
    }

    /// When something will be due by time alone.
    fn next_due_ms(&self, now_ms: u64) -> u64 {
        let tomorrow = Day(self.due_day(now_ms).0 + 2);
        let mut next_ms = tomorrow.start_ms() + self.config.grace_ms;
        let state = self.state.borrow();
        if state.merge_from_ms > now_ms {
            next_ms = next_ms.min(state.merge_from_ms);
        }
        if let Some(asked) = self.first_unapplied(&state.manifest) {
            next_ms = next_ms.min(asked.asked_ms + self.config.erase_wait_ms);
        }
        next_ms.max(now_ms + 1)
    }

    /// The last day whose end, with its grace, has passed.
    pub(crate) fn due_day(&self, now_ms: u64) -> Day {
        let today = Day::of_ms(now_ms.saturating_sub(self.config.grace_ms));
        Day(today.0.saturating_sub(1))
    }

    pub(crate) fn assert_usable(&self) -> Result<(), StoreError> {
        if self.is_poisoned.get() {
            return Err(StoreError::Poisoned);
        }
        Ok(())
    }

    /// A number for a new file.
    pub(crate) fn take_number(&self) -> u32 {
        let mut state = self.state.borrow_mut();
        let number = state.next_number;
        state.next_number = number
            .checked_add(1)
            .expect("four billion files in one store");
        number
    }

    /// Replaces the manifest by a changed one, durably. In memory it changes only then.
    pub(crate) async fn replace_manifest(
        &self,
        change: impl FnOnce(&mut Manifest),
    ) -> Result<(), StoreError> {
        let _turn = self.manifest_turns.take().await;
        self.assert_usable()?;
        let mut manifest = self.state.borrow().manifest.clone();
        change(&mut manifest);
        manifest.next_number = self.state.borrow().next_number;
        let stored = manifest.store(&self.disk, &self.paths).await;
        stored.map_err(|unstored| {
            self.is_poisoned.set(!unstored.is_unchanged);
            unstored.error
        })?;
        self.state.borrow_mut().manifest = manifest;
        Ok(())
    }

    /// Makes a complete file a bucket in the place of the segments and buckets it was made from.
    pub(crate) async fn install(
        &self,
        fresh: &Fresh,
        obsolete: Vec<(SegmentId, Day)>,
    ) -> Result<Event<D::Mapped>, StoreError> {
        let number = fresh.identity.number;
        let path = self.paths.bucket(number, fresh.first_day, fresh.last_day);
        sealed::install(&self.disk, &path).await?;
        let file = Sealed::open(&self.disk, &path, Some(&fresh.identity)).await?;
        let mut replaced = Vec::new();
        let installed = self
            .replace_manifest(|manifest| replaced = manifest.install(bucket(fresh)))
            .await;
        if let Err(error) = installed {
            if self.assert_usable().is_ok() {
                self.disk.remove(&path).await?;
            }
            return Err(error);
        }
        self.state
            .borrow_mut()
            .open
            .insert(number, Arc::clone(&file));
        Ok(self.announce(Some(file), obsolete, replaced))
    }

    /// Takes what does not count any more out of the lists, and lets the shards know.
    pub(crate) fn announce(
        &self,
        bucket: Option<Arc<Sealed<D::Mapped>>>,
        obsolete: Vec<(SegmentId, Day)>,
        replaced: Vec<u32>,
    ) -> Event<D::Mapped> {
        let mut state = self.state.borrow_mut();
        let files = replaced
            .iter()
            .filter_map(|number| state.open.remove(number));
        let buckets = files.map(|file| file.path().to_path_buf()).collect();
        let segments: Vec<SegmentId> = obsolete.iter().map(|(segment, _)| *segment).collect();
        for segment in &segments {
            state.segments.remove(segment);
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        state.unlinks.push(Unlink {
            ticket,
            is_released: false,
            segments: obsolete,
            buckets,
        });
        Event::Installed(Installed {
            ticket,
            bucket,
            obsolete: segments,
            replaced,
            retained_from: state.manifest.retained_from,
            sealed_through: state.manifest.sealed_through,
        })
    }
}

async fn create_directories<D: Disk>(disk: &D, paths: &Paths) -> Result<(), StoreError> {
    disk.create_dir(&paths.manifests()).await?;
    disk.create_dir(&paths.sealed()).await?;
    disk.sync_dir(paths.root()).await?;
    Ok(())
}

/// What was done, and what the shards have to hear.
pub(crate) type Piece<D> = (Did, Vec<Event<<D as Disk>::Mapped>>);

fn bucket(fresh: &Fresh) -> Bucket {
    Bucket {
        number: fresh.identity.number,
        first_day: fresh.first_day,
        last_day: fresh.last_day,
        bytes: fresh.identity.bytes,
        footer_crc: fresh.identity.footer_crc,
        messages: fresh.messages,
        channels: fresh.channels,
        erased_through: fresh.erased_through,
    }
}
