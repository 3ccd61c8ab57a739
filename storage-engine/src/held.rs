//! Segments of sealed days that a consumer has not read yet: moved aside instead of removed.
//!
//! It does not decide for how long; the consumers' limits do. Nothing but consumers reads here.
//!
//! Invariants: a segment is removed only if every stored position is behind it, or a note says for
//! whom it was given up; a position that cannot be read needs everything.

use std::path::PathBuf;

use crate::consumer::{ConsumerName, Position, read_position};
use crate::disk::{Disk, DiskFile};
use crate::error::{DiskError, StoreError};
use crate::key::SegmentId;
use crate::segment::{Day, Paths, parse_file_name};

/// What consumers still need, by their stored positions.
#[derive(Default)]
pub(crate) struct Needed {
    positions: Vec<Option<Position>>,
}

impl Needed {
    /// Reads all positions.
    ///
    /// # Errors
    /// If the directory cannot be listed.
    pub(crate) async fn load<D: Disk>(disk: &D, paths: &Paths) -> Result<Self, StoreError> {
        let names = match disk.list(&paths.consumers()).await {
            Err(error) if error.is_missing() => return Ok(Self::default()),
            listed => listed?,
        };
        let names = names.iter().filter_map(|name| name.strip_suffix(".pos"));
        let mut positions = Vec::new();
        for name in names.filter_map(ConsumerName::parse) {
            positions.push(read_position(disk, paths, &name).await.ok());
        }
        Ok(Self { positions })
    }

    fn needs(&self, segment: SegmentId, end: u32) -> bool {
        let needs = |position: &Option<Position>| {
            (position.as_ref()).is_none_or(|position| position.needs(segment, end))
        };
        self.positions.iter().any(needs)
    }

    /// Removes a segment whose records lie in a bucket, or moves it aside. The day's directory is
    /// the caller's to sync.
    ///
    /// # Errors
    /// If the disk fails.
    pub(crate) async fn retire<D: Disk>(
        &self,
        disk: &D,
        paths: &Paths,
        segment: SegmentId,
        day: Day,
    ) -> Result<(), DiskError> {
        let path = paths.segment(segment, day);
        if self.positions.is_empty() || !self.needs(segment, length(disk, &path).await?) {
            return disk.remove(&path).await;
        }
        let directory = paths.held_day(day);
        disk.create_dir(&paths.held()).await?;
        disk.sync_dir(paths.root()).await?;
        disk.create_dir(&directory).await?;
        disk.sync_dir(&paths.held()).await?;
        disk.rename(&path, &paths.held_segment(segment, day))
            .await?;
        disk.sync_dir(&directory).await
    }
}

/// All segments that were moved aside, in order of their numbers.
///
/// # Errors
/// If the disk fails.
pub(crate) async fn held<D: Disk>(
    disk: &D,
    paths: &Paths,
) -> Result<Vec<(SegmentId, Day)>, StoreError> {
    let days = match disk.list(&paths.held()).await {
        Err(error) if error.is_missing() => return Ok(Vec::new()),
        listed => listed?,
    };
    let mut found = Vec::new();
    for day in days.iter().filter_map(|name| Day::parse(name)) {
        let names = disk.list(&paths.held_day(day)).await?;
        let segments = names.iter().filter_map(|name| parse_file_name(name));
        found.extend(segments.map(|segment| (segment, day)));
    }
    found.sort_unstable();
    Ok(found)
}

/// Removes a segment that was moved aside, and its day's directory if it was the last.
///
/// # Errors
/// If the disk fails.
pub(crate) async fn remove_held<D: Disk>(
    disk: &D,
    paths: &Paths,
    segment: SegmentId,
    day: Day,
) -> Result<(), DiskError> {
    disk.remove(&paths.held_segment(segment, day)).await?;
    disk.sync_dir(&paths.held_day(day)).await?;
    if disk.list(&paths.held_day(day)).await?.is_empty() {
        disk.remove_dir(&paths.held_day(day)).await?;
        disk.sync_dir(&paths.held()).await?;
    }
    Ok(())
}

/// Where a segment that a consumer needs lies now.
///
/// # Errors
/// If the disk fails; [`StoreError::SegmentUnknown`] if it is nowhere.
pub(crate) async fn find<D: Disk>(
    disk: &D,
    paths: &Paths,
    segment: SegmentId,
    day: Day,
) -> Result<PathBuf, StoreError> {
    for path in [
        paths.segment(segment, day),
        paths.held_segment(segment, day),
    ] {
        match disk.open(&path).await {
            Ok(file) => {
                file.close().await?;
                return Ok(path);
            }
            Err(error) if error.is_missing() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(StoreError::SegmentUnknown(segment))
}

/// The length of a segment's file, in bytes.
pub(crate) async fn length<D: Disk>(disk: &D, path: &std::path::Path) -> Result<u32, DiskError> {
    let file = disk.open(path).await?;
    let length = file.length().await;
    file.close().await?;
    Ok(u32::try_from(length?).unwrap_or(u32::MAX))
}
