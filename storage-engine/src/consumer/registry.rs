//! All consumers of a node: their stored positions, and what these keep from being removed.
//!
//! It reads no log and delivers nothing; that is each [`Consumer`]'s.
//!
//! Invariants: a position file is replaced as a whole; what a consumer has not passed is given up
//! only after that was written down, so the consumer will say so instead of skipping it silently;
//! one consumer of a name is open at a time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::Consumer;
use super::ends::Ends;
use super::name::ConsumerName;
use super::position::Position;
use crate::config::{BLOCK_BYTES, StoreConfig};
use crate::dead_letter::DeadLetters;
use crate::disk::Disk;
use crate::error::{Damage, StoreError};
use crate::format::FORMAT_VERSION;
use crate::held::{held, length, remove_held};
use crate::key::SegmentId;
use crate::segment::{Day, Paths};
use crate::whole_file::{read_whole, replace_whole};

/// First bytes of a note that something was given up.
pub(crate) const LOST_MAGIC: [u8; 4] = *b"THRL";

/// What a consumer has lost: its segments up to this number were removed unread.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct LostMark {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) reserved: [u8; 2],
    pub(crate) segment: U32,
    pub(crate) crc: U32,
}

/// Where a new consumer begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAt {
    /// With the oldest record that still lies in a segment.
    Oldest,
    /// With what comes from now on.
    Newest,
}

/// The consumers of a node. Clones share their state; the thread of each consumer and that of the
/// maintenance have one.
#[derive(Clone)]
pub struct Consumers {
    root: PathBuf,
    config: StoreConfig,
    known: Arc<Mutex<BTreeMap<ConsumerName, Known>>>,
}

struct Known {
    position: Position,
    lost: Option<SegmentId>,
    is_open: bool,
}

impl Consumers {
    /// Reads all positions. Leftovers of an unfinished replacement are removed. To be called once,
    /// by the process that holds the store's lock.
    ///
    /// # Errors
    /// If the disk fails, or a position file is damaged: the error names it.
    pub async fn load<D: Disk>(
        disk: &D,
        root: &Path,
        config: &StoreConfig,
    ) -> Result<Self, StoreError> {
        let paths = Paths::new(root);
        for directory in [paths.consumers(), paths.dead_letters()] {
            disk.create_dir(&directory).await?;
        }
        disk.sync_dir(paths.root()).await?;
        let mut known = BTreeMap::new();
        for file in disk.list(&paths.consumers()).await? {
            if file.ends_with(".tmp") {
                disk.remove(&paths.consumers().join(&file)).await?;
            }
            let Some(name) = file.strip_suffix(".pos").and_then(ConsumerName::parse) else {
                continue;
            };
            known.insert(name.clone(), Known::read(disk, &paths, &name).await?);
        }
        Ok(Self {
            root: root.to_path_buf(),
            config: *config,
            known: Arc::new(Mutex::new(known)),
        })
    }

    /// All names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<ConsumerName> {
        self.lock().keys().cloned().collect()
    }

    /// Opens a consumer, and registers it if it is new.
    ///
    /// # Errors
    /// [`StoreError::ConsumersFull`] if there are too many; [`StoreError::ConsumerOpen`] if it is
    /// open already; if the disk fails or its dead-letter log is damaged.
    pub async fn open<D: Disk>(
        &self,
        disk: &D,
        name: &ConsumerName,
        start: StartAt,
        ends: &Ends,
    ) -> Result<Consumer<D>, StoreError> {
        let (position, is_new) = self.begin(name, start, ends)?;
        let opened = self.open_begun(disk, name, position, is_new).await;
        if opened.is_err() {
            self.end(name, is_new);
        }
        opened
    }

    async fn open_begun<D: Disk>(
        &self,
        disk: &D,
        name: &ConsumerName,
        position: Position,
        is_new: bool,
    ) -> Result<Consumer<D>, StoreError> {
        if is_new {
            self.store(disk, name, &position).await?;
        }
        let limits = self.config.consumers;
        let dead = DeadLetters::open(disk, &self.root, name, limits).await?;
        Ok(Consumer::new(disk, self, name, position, dead))
    }

    /// The oldest of these segments (number, and where it ends) that some consumer has not passed.
    #[must_use]
    pub fn oldest_needed(
        &self,
        segments: impl IntoIterator<Item = (SegmentId, u32)>,
    ) -> Option<SegmentId> {
        let known = self.lock();
        let is_needed = |(segment, end): &(SegmentId, u32)| {
            let mut positions = known.values().map(|known| &known.position);
            positions.any(|position| position.needs(*segment, *end))
        };
        let needed = segments.into_iter().filter(is_needed);
        needed.map(|(segment, _)| segment).min()
    }

    /// The segments of sealed days that wait for consumers, for [`Ends`] at the start.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn held<D: Disk>(&self, disk: &D) -> Result<Vec<(SegmentId, Day)>, StoreError> {
        held(disk, &Paths::new(&self.root)).await
    }

    /// Removes those segments of sealed days that every consumer has passed, and those that were
    /// held for the configured days after their own. Consumers that lose something by it find out;
    /// that is durable before anything is removed. Returns what was removed. Meant to be called
    /// now and then, once a day at least.
    ///
    /// # Errors
    /// If the disk fails: the rest stays.
    pub async fn sweep<D: Disk>(&self, disk: &D, today: Day) -> Result<Vec<SegmentId>, StoreError> {
        let paths = Paths::new(&self.root);
        let mut removed = Vec::new();
        for (segment, day) in held(disk, &paths).await? {
            let end = length(disk, &paths.held_segment(segment, day)).await?;
            let behind = self.behind(segment, end);
            let held_until = day.0.saturating_add(self.config.consumers.hold_days);
            if !behind.is_empty() && today.0 <= held_until {
                continue;
            }
            for name in behind {
                self.mark_lost(disk, &name, segment).await?;
            }
            remove_held(disk, &paths, segment, day).await?;
            removed.push(segment);
        }
        Ok(removed)
    }

    /// Forgets ended segments that every consumer has passed.
    pub fn prune(&self, ends: &mut Ends) {
        let passed = ends
            .iter()
            .filter(|(segment, end)| end.is_ended && self.behind(*segment, end.end).is_empty());
        let passed: Vec<SegmentId> = passed.map(|(segment, _)| segment).collect();
        passed.into_iter().for_each(|segment| ends.remove(segment));
    }

    /// Forgets a consumer that is not open, its position and its dead letters.
    ///
    /// # Errors
    /// [`StoreError::ConsumerOpen`] if it is open; if the disk fails.
    pub async fn remove<D: Disk>(&self, disk: &D, name: &ConsumerName) -> Result<(), StoreError> {
        if self.lock().get(name).is_some_and(|known| known.is_open) {
            return Err(StoreError::ConsumerOpen { name: name.clone() });
        }
        let paths = Paths::new(&self.root);
        let files = [
            (paths.dead_letters(), paths.dead_letter_log(name)),
            (paths.consumers(), paths.lost_mark(name)),
            (paths.consumers(), paths.position(name)),
        ];
        for (directory, path) in files {
            remove_if_there(disk, &directory, &path).await?;
        }
        self.lock().remove(name);
        Ok(())
    }

    /// The newest segment that was removed before this consumer had read it.
    #[must_use]
    pub fn lost(&self, name: &ConsumerName) -> Option<SegmentId> {
        self.lock().get(name).and_then(|known| known.lost)
    }

    /// Fails if something that the consumer needs was given up.
    pub(super) fn check(&self, name: &ConsumerName) -> Result<(), StoreError> {
        match self.lost(name) {
            None => Ok(()),
            Some(segment) => Err(StoreError::ConsumerTooFarBehind {
                name: name.clone(),
                segment,
            }),
        }
    }

    /// Replaces the stored position.
    pub(super) async fn store<D: Disk>(
        &self,
        disk: &D,
        name: &ConsumerName,
        position: &Position,
    ) -> Result<(), StoreError> {
        let path = Paths::new(&self.root).position(name);
        replace_whole(disk, &path, &position.encode(name)).await?;
        if let Some(known) = self.lock().get_mut(name) {
            known.position = position.clone();
        }
        Ok(())
    }

    /// Forgets that something was given up, the new position being stored.
    pub(super) async fn clear_lost<D: Disk>(
        &self,
        disk: &D,
        name: &ConsumerName,
    ) -> Result<(), StoreError> {
        let paths = Paths::new(&self.root);
        remove_if_there(disk, &paths.consumers(), &paths.lost_mark(name)).await?;
        if let Some(known) = self.lock().get_mut(name) {
            known.lost = None;
        }
        Ok(())
    }

    /// The consumer of this name is no longer open.
    pub(super) fn closed(&self, name: &ConsumerName) {
        self.end(name, false);
    }

    pub(super) fn config(&self) -> &StoreConfig {
        &self.config
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    fn begin(
        &self,
        name: &ConsumerName,
        start: StartAt,
        ends: &Ends,
    ) -> Result<(Position, bool), StoreError> {
        let mut known = self.lock();
        if let Some(known) = known.get_mut(name) {
            if known.is_open {
                return Err(StoreError::ConsumerOpen { name: name.clone() });
            }
            known.is_open = true;
            return Ok((known.position.clone(), false));
        }
        if known.len() >= self.config.consumers.count_max {
            return Err(StoreError::ConsumersFull { count: known.len() });
        }
        let position = start.position(ends);
        let begun = Known {
            position: position.clone(),
            lost: None,
            is_open: true,
        };
        known.insert(name.clone(), begun);
        Ok((position, true))
    }

    fn end(&self, name: &ConsumerName, is_forgotten: bool) {
        let mut known = self.lock();
        if is_forgotten {
            known.remove(name);
        } else if let Some(known) = known.get_mut(name) {
            known.is_open = false;
        }
    }

    fn behind(&self, segment: SegmentId, end: u32) -> Vec<ConsumerName> {
        let known = self.lock();
        let behind = known
            .iter()
            .filter(|(_, known)| known.position.needs(segment, end));
        behind.map(|(name, _)| name.clone()).collect()
    }

    async fn mark_lost<D: Disk>(
        &self,
        disk: &D,
        name: &ConsumerName,
        segment: SegmentId,
    ) -> Result<(), StoreError> {
        let mut mark = LostMark {
            magic: LOST_MAGIC,
            version: FORMAT_VERSION.into(),
            reserved: [0; 2],
            segment: segment.0.into(),
            crc: 0.into(),
        };
        mark.crc = mark_crc(&mark).into();
        let mut bytes = vec![0; BLOCK_BYTES as usize];
        bytes[..size_of::<LostMark>()].copy_from_slice(mark.as_bytes());
        let path = Paths::new(&self.root).lost_mark(name);
        replace_whole(disk, &path, &bytes).await?;
        if let Some(known) = self.lock().get_mut(name) {
            known.lost = Some(segment);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConsumerName, Known>> {
        self.known.lock().expect("nobody panics while holding it")
    }
}

impl StartAt {
    pub(super) fn position(self, ends: &Ends) -> Position {
        match self {
            Self::Oldest => Position::oldest(),
            Self::Newest => Position::newest(ends),
        }
    }
}

impl Known {
    async fn read<D: Disk>(
        disk: &D,
        paths: &Paths,
        name: &ConsumerName,
    ) -> Result<Self, StoreError> {
        let position = read_position(disk, paths, name).await?;
        let mark = paths.lost_mark(name);
        let is_lost = is_there(disk, &paths.consumers(), &mark).await?;
        let lost = match is_lost {
            true => Some(decode_mark(&read_whole(disk, &mark).await?, &mark)?),
            false => None,
        };
        Ok(Self {
            position,
            lost,
            is_open: false,
        })
    }
}

/// Reads what is stored of one consumer, for no other purpose than to see whether it can be read.
pub(crate) async fn check_position<D: Disk>(
    disk: &D,
    root: &Path,
    name: &ConsumerName,
) -> Result<(), StoreError> {
    Known::read(disk, &Paths::new(root), name).await.map(|_| ())
}

/// Reads one consumer's stored position.
pub(crate) async fn read_position<D: Disk>(
    disk: &D,
    paths: &Paths,
    name: &ConsumerName,
) -> Result<Position, StoreError> {
    let path = paths.position(name);
    let bytes = read_whole(disk, &path).await?;
    Position::decode(&bytes, name, &path)
}

fn decode_mark(bytes: &[u8], path: &Path) -> Result<SegmentId, StoreError> {
    let damaged = || StoreError::Corrupt {
        path: path.to_path_buf(),
        offset: 0,
        damage: Damage::Position,
    };
    let (mark, _) = LostMark::read_from_prefix(bytes).map_err(|_| damaged())?;
    if mark.magic != LOST_MAGIC || mark.crc.get() != mark_crc(&mark) {
        return Err(damaged());
    }
    if mark.version.get() != FORMAT_VERSION {
        return Err(StoreError::Unsupported {
            path: path.to_path_buf(),
            version: mark.version.get(),
        });
    }
    Ok(SegmentId(mark.segment.get()))
}

fn mark_crc(mark: &LostMark) -> u32 {
    let bytes = mark.as_bytes();
    crc32c::crc32c(&bytes[..bytes.len() - 4])
}

async fn is_there<D: Disk>(disk: &D, directory: &Path, path: &Path) -> Result<bool, StoreError> {
    let names = disk.list(directory).await?;
    Ok(names.iter().any(|name| directory.join(name) == path))
}

async fn remove_if_there<D: Disk>(
    disk: &D,
    directory: &Path,
    path: &Path,
) -> Result<(), StoreError> {
    if is_there(disk, directory, path).await? {
        disk.remove(path).await?;
        disk.sync_dir(directory).await?;
    }
    Ok(())
}
