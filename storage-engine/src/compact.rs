//! All that maintenance would do by and by, done at once on a store that nobody else uses.
//!
//! It decides nothing: what is due is the maintenance's to say.
//!
//! Invariants: the store is recovered first, so that nothing is built on what is not sound; when
//! this returns nothing is due at the time that was given.

use std::path::Path;

use crate::config::{MaintenanceConfig, StoreConfig};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::event::{Did, Event, Progress};
use crate::maintenance::Maintenance;
use crate::recovery::recover;

/// Seals ended days, merges ended months and small neighbours, drops what is kept no longer and erases what waits for
/// it, as of `now_ms` (milliseconds since 1970). `on_done` hears of each piece of work.
///
/// # Errors
/// As [`recover`] and [`Maintenance::run_due`]. What was done before stays done.
pub async fn compact<D: Disk>(
    disk: &D,
    root: &Path,
    store: &StoreConfig,
    config: &MaintenanceConfig,
    now_ms: u64,
    mut on_done: impl FnMut(Did),
) -> Result<Progress, StoreError> {
    let recovered = recover(disk, root, store).await?;
    let segments = &recovered.segments;
    let maintenance = Maintenance::open(disk.clone(), root, *store, *config, 1, segments).await?;
    loop {
        let ran = maintenance.run_due(now_ms).await?;
        for event in ran.events {
            match event {
                // No log is open, and nobody reads.
                Event::EndDay(day) => maintenance.day_ended(0, day),
                Event::Installed(installed) => maintenance.released(installed.ticket),
            }
        }
        if ran.did == Did::Nothing {
            break;
        }
        on_done(ran.did);
    }
    drop(recovered.lock);
    Ok(maintenance.progress())
}
