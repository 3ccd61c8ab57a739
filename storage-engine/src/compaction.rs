//! Holding channels against their limits: at most once a day every bucket is looked at, from the
//! newest to the oldest, and then those in which a channel is to lose something are written anew,
//! from the oldest to the newest.
//!
//! It leaves out a channel's whole part of a bucket, or nothing: single messages are cut when a
//! bucket is written anyway.
//!
//! Invariants: what a channel loses goes in the order in which it was written, so that no message
//! outlives the change that deleted it; looking at a bucket reads its directory in memory only;
//! after a crash the round begins anew, which changes nothing but time.

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
pub(crate) enum Compaction {
    /// Buckets from this day on have been looked at.
    Looking { from: Day, seen: Seen },
    /// These channels leave the buckets up to these days.
    Cutting { leaving: HashMap<ChannelKey, Day> },
}

/// What was found in the buckets that were looked at.
#[derive(Default)]
pub(crate) struct Seen {
    /// Bytes in them, of channels that have such a limit.
    bytes: HashMap<ChannelKey, u64>,
    /// The last day of the newest bucket that a channel leaves: it leaves all older ones, too.
    leaving: HashMap<ChannelKey, Day>,
}

impl<D: Disk> Maintenance<D> {
    /// Looks at the next bucket or cuts in it, if a round is due or under way.
    pub(crate) async fn cut_next(&self, now_ms: u64) -> Result<Option<Piece<D>>, StoreError> {
        match self.take_round(now_ms) {
            None => Ok(None),
            Some(Compaction::Looking { from, seen }) => Ok(Some(self.look(from, seen, now_ms))),
            Some(Compaction::Cutting { leaving }) => self.cut(leaving, now_ms).await.map(Some),
        }
    }

    fn look(&self, from: Day, mut seen: Seen, now_ms: u64) -> Piece<D> {
        let newest = {
            let state = self.state.borrow();
            let buckets = state.manifest.buckets.iter().rev();
            buckets.copied().find(|bucket| bucket.last_day < from)
        };
        let (did, round) = match newest {
            None => (
                Did::Looked {
                    channels: seen.leaving.len(),
                },
                Compaction::Cutting {
                    leaving: seen.leaving,
                },
            ),
            Some(bucket) => {
                self.look_into(&bucket, &mut seen, now_ms);
                let from = bucket.first_day;
                (
                    Did::Held { first_day: from },
                    Compaction::Looking { from, seen },
                )
            }
        };
        self.state.borrow_mut().compaction = Some(round);
        (did, Vec::new())
    }

    /// Writes the oldest bucket anew that holds something of a channel that leaves it.
    async fn cut(
        &self,
        leaving: HashMap<ChannelKey, Day>,
        now_ms: u64,
    ) -> Result<Piece<D>, StoreError> {
        let Some((bucket, cuts)) = self.oldest_to_cut(&leaving) else {
            self.replace_manifest(|manifest| manifest.compacted_ms = now_ms)
                .await?;
            return Ok((Did::HeldAll, Vec::new()));
        };
        let channels = cuts.own_ms.len();
        let policy = Policy {
            cuts,
            ..Policy::default()
        };
        let fresh = self
            .rewrite(&[bucket], policy, bucket.erased_through)
            .await?;
        let installed = self.install(&fresh, Vec::new()).await?;
        let mut state = self.state.borrow_mut();
        state.progress.buckets_rewritten += 1;
        state.compaction = Some(Compaction::Cutting { leaving });
        let did = Did::Cut {
            first_day: bucket.first_day,
            channels,
        };
        Ok((did, vec![installed]))
    }

    /// The round under way, or a new one if one is due. On failure it begins anew.
    fn take_round(&self, now_ms: u64) -> Option<Compaction> {
        let mut state = self.state.borrow_mut();
        let due_ms = state.manifest.compacted_ms + self.config.compact_ms_min;
        let has_limits = |limits: &crate::config::ChannelLimits| *limits != Default::default();
        let is_limited =
            has_limits(&self.config.retention.channel) || state.limits.values().any(has_limits);
        state.compaction.take().or_else(|| {
            (is_limited && now_ms >= due_ms).then(|| Compaction::Looking {
                from: Day(u32::MAX),
                seen: Seen::default(),
            })
        })
    }

    /// Notes the channels that leave this bucket.
    fn look_into(&self, bucket: &Bucket, seen: &mut Seen, now_ms: u64) {
        let file = Arc::clone(&self.state.borrow().open[&bucket.number]);
        for run in file.channels() {
            let limits = self.limits_of(run.channel);
            let is_old =
                (limits.days_max).is_some_and(|days| is_over(bucket.last_day, days, now_ms));
            let is_much = limits.bytes_max.is_some_and(|max| {
                let newer = seen.bytes.entry(run.channel).or_default();
                let is_much = *newer >= max;
                *newer += run.bytes;
                is_much
            });
            if is_old || is_much {
                seen.leaving.entry(run.channel).or_insert(bucket.last_day);
            }
        }
    }

    /// The oldest bucket with channels that leave it, and these. Nothing is merged while a round
    /// is under way, so the buckets are those that were looked at.
    fn oldest_to_cut(&self, leaving: &HashMap<ChannelKey, Day>) -> Option<(Bucket, Cuts)> {
        if leaving.is_empty() {
            return None;
        }
        let state = self.state.borrow();
        state.manifest.buckets.iter().find_map(|bucket| {
            let file = &state.open[&bucket.number];
            let gone = |channel: &ChannelKey| {
                let is_due = leaving
                    .get(channel)
                    .is_some_and(|day| bucket.last_day <= *day);
                is_due.then_some((*channel, Cuts::WHOLE_MS))
            };
            let gone = file.channels().filter_map(|run| gone(&run.channel));
            let cuts = Cuts {
                own_ms: gone.collect(),
                ..Cuts::default()
            };
            (!cuts.own_ms.is_empty()).then_some((*bucket, cuts))
        })
    }
}
