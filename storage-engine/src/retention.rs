//! Dropping the oldest buckets of a node beyond its limits, and how long channels are kept.
//!
//! Off unless limits are configured.
//!
//! Invariants: whole buckets go, the oldest first; the manifest says that their days are gone
//! before a file is removed; the newest bucket stays.

use crate::compaction::Cuts;
use crate::config::ChannelLimits;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::event::Did;
use crate::key::ChannelKey;
use crate::maintenance::{Maintenance, Piece};
use crate::manifest::Manifest;
use crate::segment::Day;

impl<D: Disk> Maintenance<D> {
    /// Drops the oldest bucket, if it is beyond a limit.
    pub(crate) async fn drop_oldest(&self, now_ms: u64) -> Result<Option<Piece<D>>, StoreError> {
        let Some(oldest) = self.oldest_beyond(now_ms) else {
            return Ok(None);
        };
        let mut dropped = Vec::new();
        let mut retained_from = Day(0);
        self.replace_manifest(|manifest| {
            let bucket = manifest.buckets.remove(0);
            assert_eq!(bucket.number, oldest, "only one task changes buckets");
            retained_from = Day(bucket.last_day.0 + 1);
            manifest.retained_from = retained_from;
            dropped.push(bucket.number);
        })
        .await?;
        self.state.borrow_mut().progress.buckets_dropped += 1;
        let event = self.announce(None, Vec::new(), dropped);
        Ok(Some((Did::Dropped { retained_from }, vec![event])))
    }

    /// The number of the oldest bucket, if it is too old or there is too much.
    fn oldest_beyond(&self, now_ms: u64) -> Option<u32> {
        let limits = self.config.retention;
        let state = self.state.borrow();
        let Manifest { buckets, .. } = &state.manifest;
        let oldest = buckets.first().filter(|_| buckets.len() > 1)?;
        let is_old = limits
            .days_max
            .is_some_and(|days| is_over(oldest.last_day, days, now_ms));
        let bytes: u64 = buckets.iter().map(|bucket| bucket.bytes).sum();
        let is_much = limits.bytes_max.is_some_and(|max| bytes > max);
        (is_old || is_much).then_some(oldest.number)
    }

    /// From when on messages are kept by their channels' limits in days.
    pub(crate) fn cuts_by_day(&self, now_ms: u64) -> Cuts {
        let from_ms = |limits: &ChannelLimits| {
            limits.days_max.map_or(0, |days| {
                let today = Day::of_ms(now_ms).0;
                Day(today.saturating_sub(days)).start_ms()
            })
        };
        let state = self.state.borrow();
        let own = state.limits.iter();
        Cuts {
            default_ms: from_ms(&self.config.retention.channel),
            own_ms: own
                .map(|(channel, limits)| (*channel, from_ms(limits)))
                .collect(),
        }
    }

    /// What holds for a channel.
    pub(crate) fn limits_of(&self, channel: ChannelKey) -> ChannelLimits {
        let state = self.state.borrow();
        let own = state.limits.get(&channel).copied();
        own.unwrap_or(self.config.retention.channel)
    }
}

/// Whether a day lies more than so many days back.
pub(crate) fn is_over(day: Day, days_max: u32, now_ms: u64) -> bool {
    Day::of_ms(now_ms).0 > day.0.saturating_add(days_max)
}
