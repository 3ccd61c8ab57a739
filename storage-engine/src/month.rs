//! Merging the days of an ended month into one bucket, so that a channel in which little is
//! written does not cost a read for each day.
//!
//! It leaves alone months of which a day is not sealed.
//!
//! Invariants: changes meet their messages, so an older text that an edit in the same month
//! replaced is gone; nothing else is lost, unless its channel's time is over.

use crate::disk::Disk;
use crate::error::StoreError;
use crate::event::Did;
use crate::maintenance::{Maintenance, Piece};
use crate::manifest::{Bucket, Manifest};
use crate::policy::Policy;

impl<D: Disk> Maintenance<D> {
    /// Merges the oldest month that is due, or as many of its buckets as may be merged at once.
    pub(crate) async fn merge_next_month(
        &self,
        now_ms: u64,
    ) -> Result<Option<Piece<D>>, StoreError> {
        if !self.config.merge_months {
            return Ok(None);
        }
        let Some(mut buckets) = due_month(&self.state.borrow().manifest) else {
            return Ok(None);
        };
        buckets.truncate(self.config.merge_inputs_max);
        self.merge_buckets(&buckets, now_ms).await.map(Some)
    }

    /// Makes neighbouring buckets one.
    pub(crate) async fn merge_buckets(
        &self,
        buckets: &[Bucket],
        now_ms: u64,
    ) -> Result<Piece<D>, StoreError> {
        let erased_through = buckets.iter().map(|bucket| bucket.erased_through).min();
        let erased_through = erased_through.expect("two buckets at least");
        let policy = Policy {
            cuts: self.cuts_by_day(now_ms),
            ..Policy::default()
        };
        let fresh = self.rewrite(buckets, policy, erased_through).await?;
        let installed = self.install(&fresh, Vec::new()).await?;
        self.state.borrow_mut().progress.merges += 1;
        let did = Did::Merged {
            first_day: fresh.first_day,
            last_day: fresh.last_day,
        };
        Ok((did, vec![installed]))
    }
}

/// The buckets of the oldest month that is sealed to its end and has more than one.
fn due_month(manifest: &Manifest) -> Option<Vec<Bucket>> {
    let month = |bucket: &Bucket| bucket.first_day.month();
    let mut months = manifest
        .buckets
        .chunk_by(|one, other| month(one) == month(other));
    let due = months.find(|buckets| {
        let (_, last_day) = month(&buckets[0]);
        buckets.len() > 1 && last_day <= manifest.sealed_through
    });
    due.map(<[Bucket]>::to_vec)
}
