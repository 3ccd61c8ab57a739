//! Holding channels against their limits: at most once a day every bucket is looked at, from the
//! newest to the oldest, and written anew if a channel in it is to lose something.
//!
//! It leaves out a channel's whole part of a bucket, or nothing: single messages are cut when a
//! bucket is written anyway.
//!
//! Invariants: looking at a bucket reads its directory in memory only; after a crash the round
//! begins anew, which changes nothing but time.

use std::collections::HashMap;
use std::sync::Arc;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::event::Did;
use crate::key::ChannelKey;
use crate::maintenance::{Maintenance, Piece};
use crate::manifest::Bucket;
use crate::policy::Policy;
use crate::retention::is_over;
use crate::segment::Day;

/// From when on channels' messages are kept, in milliseconds since 1970; 0 for all of them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Cuts {
    pub(crate) default_ms: u64,
    /// Of channels for which it is something else.
    pub(crate) own_ms: HashMap<ChannelKey, u64>,
}

impl Cuts {
    /// Of a channel that is cut as a whole.
    pub(crate) const WHOLE_MS: u64 = u64::MAX;

    /// From when on a channel's messages are kept.
    pub(crate) fn of(&self, channel: ChannelKey) -> u64 {
        self.own_ms
            .get(&channel)
            .copied()
            .unwrap_or(self.default_ms)
    }

    /// Whether nothing is kept of a channel.
    pub(crate) fn is_whole(&self, channel: ChannelKey) -> bool {
        self.of(channel) == Self::WHOLE_MS
    }
}

/// A round under way.
pub(crate) struct Compaction {
    /// Buckets from this day on have been looked at.
    looked_from: Day,
    /// Bytes in them, of channels that have such a limit.
    bytes: HashMap<ChannelKey, u64>,
}

impl<D: Disk> Maintenance<D> {
    /// Looks at the next bucket, if a round is due or under way.
    pub(crate) async fn cut_next(&self, now_ms: u64) -> Result<Option<Piece<D>>, StoreError> {
        let Some(mut round) = self.take_round(now_ms) else {
            return Ok(None);
        };
        let Some(bucket) = self.newest_before(round.looked_from) else {
            self.replace_manifest(|manifest| manifest.compacted_ms = now_ms)
                .await?;
            return Ok(Some((Did::HeldAll, Vec::new())));
        };
        round.looked_from = bucket.first_day;
        let cuts = self.cuts_in(&bucket, &mut round, now_ms);
        let channels = cuts.own_ms.len();
        let mut events = Vec::new();
        if channels > 0 {
            let policy = Policy {
                cuts,
                ..Policy::default()
            };
            let fresh = self
                .rewrite(&[bucket], policy, bucket.erased_through)
                .await?;
            events.push(self.install(&fresh, Vec::new()).await?);
            self.state.borrow_mut().progress.buckets_rewritten += 1;
        }
        self.state.borrow_mut().compaction = Some(round);
        let did = Did::Held {
            first_day: bucket.first_day,
            channels,
        };
        Ok(Some((did, events)))
    }

    /// The round under way, or a new one if one is due. On failure it begins anew.
    fn take_round(&self, now_ms: u64) -> Option<Compaction> {
        let mut state = self.state.borrow_mut();
        let due_ms = state.manifest.compacted_ms + self.config.compact_ms_min;
        let has_limits = |limits: &crate::config::ChannelLimits| *limits != Default::default();
        let is_limited =
            has_limits(&self.config.retention.channel) || state.limits.values().any(has_limits);
        state.compaction.take().or_else(|| {
            (is_limited && now_ms >= due_ms).then(|| Compaction {
                looked_from: Day(u32::MAX),
                bytes: HashMap::new(),
            })
        })
    }

    fn newest_before(&self, day: Day) -> Option<Bucket> {
        let state = self.state.borrow();
        let buckets = state.manifest.buckets.iter().rev();
        buckets.copied().find(|bucket| bucket.last_day < day)
    }

    /// The channels that leave this bucket.
    fn cuts_in(&self, bucket: &Bucket, round: &mut Compaction, now_ms: u64) -> Cuts {
        let file = Arc::clone(&self.state.borrow().open[&bucket.number]);
        let mut cuts = Cuts::default();
        for run in file.channels() {
            let limits = self.limits_of(run.channel);
            let is_old =
                (limits.days_max).is_some_and(|days| is_over(bucket.last_day, days, now_ms));
            let is_much = limits.bytes_max.is_some_and(|max| {
                let newer = round.bytes.entry(run.channel).or_default();
                let is_much = *newer >= max;
                *newer += run.bytes;
                is_much
            });
            if is_old || is_much {
                cuts.own_ms.insert(run.channel, Cuts::WHOLE_MS);
            }
        }
        cuts
    }
}
