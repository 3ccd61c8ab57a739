//! What lies in the data directory, before any of it is judged by its content.
//!
//! It changes nothing, apart from creating directories that are not there.
//!
//! Invariants: no two files bear one segment number; every segment that something refers to is
//! there, unless its day is sealed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::catalog::Notes;
use crate::disk::Disk;
use crate::error::{Damage, StoreError};
use crate::key::SegmentId;
use crate::scan::Candidate;
use crate::segment::{Day, Paths, parse_file_name, parse_index_name};

/// The files below `segments`.
#[derive(Default)]
pub(crate) struct Survey {
    /// All segments, in order of their numbers.
    pub(crate) candidates: Vec<Candidate>,
    /// What a crash or the end of a segment left behind: to be removed.
    pub(crate) leftovers: Vec<PathBuf>,
}

pub(crate) async fn create_directories<D: Disk>(disk: &D, paths: &Paths) -> Result<(), StoreError> {
    for directory in [paths.segments(), paths.spares(), paths.catalogs()] {
        disk.create_dir(&directory).await?;
    }
    disk.sync_dir(paths.root()).await?;
    // A catalog that was replaced just before the end may not be durable yet, and segments that
    // only it covers may be removed.
    disk.sync_dir(&paths.catalogs()).await?;
    Ok(())
}

pub(crate) async fn create_root<D: Disk>(disk: &D, root: &Path) -> Result<(), StoreError> {
    disk.create_dir(root).await?;
    match root.parent() {
        Some(parent) if parent.as_os_str().is_empty() => disk.sync_dir(Path::new(".")).await?,
        Some(parent) => disk.sync_dir(parent).await?,
        None => {}
    }
    Ok(())
}

/// Finds all segments and reads their openings. Files with other names are left alone.
pub(crate) async fn survey<D: Disk>(disk: &D, paths: &Paths) -> Result<Survey, StoreError> {
    let mut days: BTreeMap<SegmentId, Day> = BTreeMap::new();
    let mut indexes = Vec::new();
    let mut survey = Survey::default();
    for name in disk.list(&paths.segments()).await? {
        let Some(day) = Day::parse(&name) else {
            continue;
        };
        // So may index files, which the catalog will rely on.
        disk.sync_dir(&paths.day(day)).await?;
        for name in disk.list(&paths.day(day)).await? {
            if name.ends_with(".tmp") {
                survey.leftovers.push(paths.day(day).join(&name));
            }
            indexes.extend(parse_index_name(&name).map(|segment| (segment, day)));
            let Some(segment) = parse_file_name(&name) else {
                continue;
            };
            if days.insert(segment, day).is_some() {
                return Err(StoreError::Corrupt {
                    path: paths.segment(segment, day),
                    offset: 0,
                    damage: Damage::TwiceTheSameSegment,
                });
            }
        }
    }
    for (segment, day) in indexes {
        if days.get(&segment) != Some(&day) {
            survey.leftovers.push(paths.index(segment, day));
        }
    }
    for (segment, day) in days {
        let candidate = Candidate::examine(disk, paths, segment, day).await?;
        survey.candidates.push(candidate);
    }
    Ok(survey)
}

/// Where segments must end, by the catalogs and by the openings of those that followed them.
pub(crate) fn recorded_ends(
    notes: &Notes,
    candidates: &[Candidate],
    paths: &Paths,
    sealed_through: Day,
) -> Result<BTreeMap<SegmentId, u32>, StoreError> {
    let is_there = |id: SegmentId| {
        candidates
            .binary_search_by_key(&id, |found| found.segment)
            .is_ok()
    };
    let missing = |segment, referrer| Err(StoreError::SegmentMissing { segment, referrer });
    // No segment that was ended is empty: whoever says so is damaged, or not what was written.
    let no_end = |path, damage| StoreError::Corrupt {
        path,
        offset: 0,
        damage,
    };
    let mut ends = BTreeMap::new();
    for ended in notes.ends.values() {
        if ended.end == 0 {
            return Err(no_end(paths.catalogs(), Damage::Catalog));
        }
        if is_there(ended.segment) {
            ends.insert(ended.segment, ended.end);
        } else if ended.day > sealed_through {
            return missing(ended.segment, paths.catalogs());
        }
    }
    for candidate in candidates {
        let Some(previous) = candidate.previous() else {
            continue;
        };
        if previous.end == 0 {
            return Err(no_end(candidate.path.clone(), Damage::FrameContent));
        }
        // Segments that do not say the day of the one before are older than sealed days.
        let day = previous.day.unwrap_or(Day(1));
        if is_there(previous.segment) {
            let known = ends.entry(previous.segment).or_insert(previous.end);
            *known = previous.end.max(*known);
        } else if day > sealed_through {
            return missing(previous.segment, candidate.path.clone());
        }
    }
    Ok(ends)
}
