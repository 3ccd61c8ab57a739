//! What a crash leaves behind in the directories that the manifest rules over, and how it goes.
//!
//! It removes nothing that the manifest names, and no file whose name the store does not give.
//!
//! Invariants: it runs before anything is opened for reading, and only once the store was found
//! sound.

use std::path::Path;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::manifest::Manifest;
use crate::segment::{Day, Paths};

/// Removes unfinished files, buckets that do not count, and the directories of sealed days. Returns
/// how many files went.
///
/// # Errors
/// If the disk fails; what is left goes the next time.
pub(crate) async fn remove_leftovers<D: Disk>(
    disk: &D,
    paths: &Paths,
    manifest: &Manifest,
) -> Result<usize, StoreError> {
    let is_unfinished = |name: &str| name.ends_with(".tmp");
    let mut removed = remove(disk, &paths.manifests(), is_unfinished).await?;
    let counts = |name: &str| {
        let mut buckets = manifest.buckets.iter();
        buckets.any(|one| {
            paths
                .bucket(one.number, one.first_day, one.last_day)
                .ends_with(name)
        })
    };
    let is_own =
        |name: &str| name.ends_with(".seg") || is_unfinished(name) || name.starts_with("part-");
    removed += remove(disk, &paths.sealed(), |name| is_own(name) && !counts(name)).await?;
    for name in disk.list(&paths.segments()).await? {
        let day = Day::parse(&name).filter(|day| *day <= manifest.sealed_through);
        if let Some(day) = day {
            remove_if_empty(disk, paths, day).await?;
        }
    }
    Ok(removed)
}

/// Recovery has removed the segments of sealed days by then.
async fn remove_if_empty<D: Disk>(disk: &D, paths: &Paths, day: Day) -> Result<(), StoreError> {
    if disk.list(&paths.day(day)).await?.is_empty() {
        disk.remove_dir(&paths.day(day)).await?;
        disk.sync_dir(&paths.segments()).await?;
    }
    Ok(())
}

async fn remove<D: Disk>(
    disk: &D,
    directory: &Path,
    goes: impl Fn(&str) -> bool,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    for name in disk.list(directory).await? {
        if goes(&name) {
            disk.remove(&directory.join(name)).await?;
            removed += 1;
        }
    }
    if removed > 0 {
        disk.sync_dir(directory).await?;
    }
    Ok(removed)
}
