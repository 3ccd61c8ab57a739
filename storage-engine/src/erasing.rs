//! Carrying out erasures: buckets that hold something of them are written anew, the oldest
//! first.
//!
//! It does not wait longer than it must for several erasures to share a rewrite.
//!
//! Invariants: a bucket's number of applied erasures rises with the rewrite itself; an erasure
//! is struck off only when all buckets have had it and no unsealed segment can hold what it is
//! of.

use std::sync::Arc;

use crate::disk::Disk;
use crate::erasure::{Asked, Erasures, PendingErasure};
use crate::error::StoreError;
use crate::event::Did;
use crate::maintenance::{Maintenance, Piece};
use crate::manifest::{Bucket, Manifest};
use crate::merge::Merge;
use crate::policy::Policy;
use crate::sealed::Sealed;
use crate::segment::Day;

impl<D: Disk> Maintenance<D> {
    /// Does the next piece of erasing, if one is due.
    pub(crate) async fn erase_next(&self, now_ms: u64) -> Result<Option<Piece<D>>, StoreError> {
        if let Some(did) = self.settle_erasures().await? {
            return Ok(Some((did, Vec::new())));
        }
        let manifest = self.state.borrow().manifest.clone();
        let wait_ms = self.config.erase_wait_ms;
        let first = self.first_unapplied(&manifest);
        if first.is_none_or(|asked| now_ms < asked.asked_ms + wait_ms) {
            return Ok(None);
        }
        let through = manifest.next_erasure - 1;
        let behind = |bucket: &&Bucket| bucket.erased_through < through;
        let bucket = manifest.buckets.iter().find(behind);
        let bucket = *bucket.expect("an erasure is not applied to some bucket");
        let due = (manifest.erasures.iter()).filter(|asked| asked.erasure > bucket.erased_through);
        let erasures = Erasures::of(due);
        if !self.is_touched(&bucket, &erasures).await? {
            self.note_erased(bucket.number, through).await?;
            return Ok(Some((
                Did::Searched {
                    first_day: bucket.first_day,
                },
                Vec::new(),
            )));
        }
        let policy = Policy {
            erasures,
            cuts: self.cuts_by_day(now_ms),
        };
        let fresh = self.rewrite(&[bucket], policy, through).await?;
        let installed = self.install(&fresh, Vec::new()).await?;
        self.state.borrow_mut().progress.buckets_rewritten += 1;
        let did = Did::Erased {
            first_day: bucket.first_day,
            last_day: bucket.last_day,
        };
        Ok(Some((did, vec![installed])))
    }

    /// The oldest erasure that some bucket has not had.
    pub(crate) fn first_unapplied(&self, manifest: &Manifest) -> Option<Asked> {
        let everywhere = manifest.erased_everywhere();
        let mut erasures = manifest.erasures.iter();
        erasures.find(|asked| asked.erasure > everywhere).copied()
    }

    pub(crate) fn pending_of(&self, manifest: &Manifest, asked: &Asked) -> PendingErasure {
        let left = |bucket: &&Bucket| bucket.erased_through < asked.erasure;
        let unsealed_until = self.last_day_of(asked);
        PendingErasure {
            number: asked.erasure,
            of: asked.of,
            asked_ms: asked.asked_ms,
            due_ms: asked.asked_ms + self.config.erase_within_ms,
            buckets_left: manifest.buckets.iter().filter(left).count(),
            unsealed_until: (unsealed_until > manifest.sealed_through).then_some(unsealed_until),
        }
    }

    /// The last day whose segments may hold something that was made before it was asked for.
    fn last_day_of(&self, asked: &Asked) -> Day {
        Day::of_ms(asked.asked_ms + self.config.grace_ms)
    }

    /// Strikes off what is done.
    async fn settle_erasures(&self) -> Result<Option<Did>, StoreError> {
        let is_done = |manifest: &Manifest, asked: &Asked| {
            asked.erasure <= manifest.erased_everywhere()
                && self.last_day_of(asked) <= manifest.sealed_through
        };
        let any = {
            let state = self.state.borrow();
            let mut erasures = state.manifest.erasures.iter();
            erasures.any(|asked| is_done(&state.manifest, asked))
        };
        if !any {
            return Ok(None);
        }
        let mut erasures = 0;
        self.replace_manifest(|manifest| {
            let before = manifest.clone();
            manifest.erasures.retain(|asked| !is_done(&before, asked));
            erasures = before.erasures.len() - manifest.erasures.len();
        })
        .await?;
        self.state.borrow_mut().progress.erasures_done += erasures as u64;
        Ok(Some(Did::Settled { erasures }))
    }

    async fn note_erased(&self, number: u32, through: u64) -> Result<(), StoreError> {
        self.replace_manifest(|manifest| {
            let mut buckets = manifest.buckets.iter_mut();
            let bucket = buckets.find(|bucket| bucket.number == number);
            bucket
                .expect("only one task changes buckets")
                .erased_through = through;
        })
        .await
    }

    /// Whether a bucket holds something that is to be erased. Authors are found by reading it.
    async fn is_touched(&self, bucket: &Bucket, erasures: &Erasures) -> Result<bool, StoreError> {
        let file = Arc::clone(&self.state.borrow().open[&bucket.number]);
        if holds_message(&file, erasures) {
            return Ok(true);
        }
        if !erasures.has_authors() {
            return Ok(false);
        }
        let source = self.stream(&file, 1).await?;
        let mut merge = Merge::begin([source], Policy::default()).await?;
        let mut is_touched = false;
        while let Some(kept) = merge.next().await? {
            is_touched |= kept.records.iter().any(|record| erasures.touches(record));
            if is_touched {
                break;
            }
        }
        self.state.borrow_mut().progress.records_read += merge.finish().await?;
        Ok(is_touched)
    }
}

fn holds_message<M: std::ops::Deref<Target = [u8]>>(file: &Sealed<M>, erasures: &Erasures) -> bool {
    erasures.messages().any(|(channel, seq)| {
        file.find(channel).is_some_and(|run| {
            let may_be_changed = run.changes_min_seq != 0 && run.changes_min_seq <= seq;
            let is_older = run.count == 0 || seq < run.first_seq;
            run.seqs().contains(&seq) || (may_be_changed && is_older)
        })
    })
}
