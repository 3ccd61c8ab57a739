//! Which files of a store there are and what is recorded of them, for tools that look at a store
//! while nobody else uses it.
//!
//! It changes nothing and reads no records.
//!
//! Invariants: segments stand in order of their numbers; those of sealed days are known as such,
//! since what they hold lies in a bucket too.

use std::collections::BTreeMap;

use crate::catalog::{CatalogReader, Notes, node_path};
use crate::disk::Disk;
use crate::error::StoreError;
use crate::export::ExportedHead;
use crate::key::{ChannelKey, SegmentId};
use crate::manifest::Manifest;
use crate::recovery::{recorded_ends, survey};
use crate::scan::Candidate;
use crate::segment::{Day, Paths};

/// The files of a store.
pub(crate) struct Survey {
    candidates: Vec<Candidate>,
    sealed_through: Day,
    ends: BTreeMap<SegmentId, u32>,
    has_catalog: bool,
}

impl Survey {
    /// Looks at all segments' openings, and at what catalogs say of their ends.
    ///
    /// # Errors
    /// If the disk fails, a catalog is damaged, a segment is missing, or two bear one number.
    pub(crate) async fn of<D: Disk>(
        disk: &D,
        paths: &Paths,
        manifest: &Manifest,
    ) -> Result<Self, StoreError> {
        let notes = Notes::load(disk, paths).await?;
        let candidates = survey(disk, paths).await?.candidates;
        let sealed_through = manifest.sealed_through;
        Ok(Self {
            ends: recorded_ends(&notes, &candidates, paths, sealed_through)?,
            candidates,
            sealed_through,
            has_catalog: notes.covered.is_some(),
        })
    }

    /// The segments whose records lie nowhere else.
    pub(crate) fn live(&self) -> impl Iterator<Item = &Candidate> + '_ {
        let is_live = |candidate: &&Candidate| candidate.day > self.sealed_through;
        self.candidates.iter().filter(is_live)
    }

    /// The segments of sealed days: held for a consumer, or about to be removed.
    pub(crate) fn sealed(&self) -> impl Iterator<Item = &Candidate> + '_ {
        let is_sealed = |candidate: &&Candidate| candidate.day <= self.sealed_through;
        self.candidates.iter().filter(is_sealed)
    }

    /// Where a segment must end, in bytes, if that is recorded anywhere.
    pub(crate) fn recorded_end(&self, segment: SegmentId) -> Option<u32> {
        self.ends.get(&segment).copied()
    }

    /// What the node's catalog says of channels, in order of their keys.
    ///
    /// # Errors
    /// If the disk fails or the catalog is damaged.
    pub(crate) async fn heads<D: Disk>(
        &self,
        disk: &D,
        paths: &Paths,
    ) -> Result<Vec<(ChannelKey, ExportedHead)>, StoreError> {
        let mut heads = Vec::new();
        if !self.has_catalog {
            return Ok(heads);
        }
        let mut catalog = CatalogReader::open(disk, &node_path(paths)).await?;
        while let Some(entry) = catalog.next().await? {
            let head = ExportedHead {
                seq: entry.head.seq,
                rev: entry.head.rev,
                last_message: entry.head.last_message,
            };
            heads.push((entry.channel, head));
        }
        catalog.close().await?;
        Ok(heads)
    }
}
