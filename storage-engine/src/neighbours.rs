//! Merging small neighbouring buckets, so that a channel's history lies in few files: a page of a
//! channel in which little is written costs one read for each file that it lies in.
//!
//! It leaves a month that has not ended apart from those that have, and merges nothing that
//! together would be too large, or would be kept too long.
//!
//! Invariants: when nothing is due, each bucket of a group is more than half as large again as the
//! next newer one, where the limits let them merge at all, so that their number grows with the
//! logarithm of what they hold (size-tiered compaction, in order of time), and a message is
//! rewritten as often.

use std::ops::Range;

use crate::config::ChannelLimits;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::maintenance::{Maintenance, Piece};
use crate::manifest::{Bucket, Manifest};

/// What a merge must not exceed.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Files together.
    bytes_max: u64,
    /// From the first to the last.
    days_max: u32,
    inputs_max: usize,
}

impl<D: Disk> Maintenance<D> {
    /// Merges the newest neighbours that are due.
    pub(crate) async fn merge_next_neighbours(
        &self,
        now_ms: u64,
    ) -> Result<Option<Piece<D>>, StoreError> {
        if !self.config.merge_months {
            return Ok(None);
        }
        let limits = self.neighbour_limits();
        let due = {
            let state = self.state.borrow();
            let due = due_neighbours(&state.manifest, limits);
            due.map(|due| state.manifest.buckets[due].to_vec())
        };
        match due {
            Some(buckets) => self.merge_buckets(&buckets, now_ms).await.map(Some),
            None => Ok(None),
        }
    }

    /// What is kept for a time, or up to a size, goes by whole buckets: these must stay small
    /// beside that.
    fn neighbour_limits(&self) -> Limits {
        let retention = &self.config.retention;
        let state = self.state.borrow();
        let channels = || state.limits.values().chain([&retention.channel]);
        let of_channels = channels().filter_map(|limits: &ChannelLimits| limits.days_max);
        let days_max = of_channels.chain(retention.days_max).min();
        let has_bytes = channels().any(|limits| limits.bytes_max.is_some());
        let share = |whole: u64| whole / 8;
        Limits {
            bytes_max: (self.config.neighbours_bytes_max)
                .min(retention.bytes_max.map_or(u64::MAX, share)),
            days_max: match days_max {
                _ if has_bytes => 1,
                Some(days) => days / 4,
                None => u32::MAX,
            },
            inputs_max: self.config.merge_inputs_max,
        }
    }
}

/// The newest neighbours that are due.
fn due_neighbours(manifest: &Manifest, limits: Limits) -> Option<Range<usize>> {
    let buckets = &manifest.buckets;
    let is_ended = |bucket: &Bucket| bucket.last_day.month().1 <= manifest.sealed_through;
    let ended = buckets.partition_point(is_ended);
    let open = due_in(&buckets[ended..], limits);
    let open = open.map(|due| ended + due.start..ended + due.end);
    open.or_else(|| due_in(&buckets[..ended], limits))
}

/// The newest buckets of a group of which each is not much larger than those behind it together.
fn due_in(group: &[Bucket], limits: Limits) -> Option<Range<usize>> {
    (2..=group.len()).rev().find_map(|end| {
        let newest = &group[end - 1];
        let mut bytes = newest.bytes;
        let taken = group[..end - 1].iter().rev().take_while(|older| {
            let is_due = older.bytes <= bytes.saturating_add(bytes / 2);
            bytes = bytes.saturating_add(older.bytes);
            let days = newest.last_day.0 - older.first_day.0 + 1;
            is_due && bytes <= limits.bytes_max && days <= limits.days_max
        });
        let count = taken.take(limits.inputs_max - 1).count();
        (count > 0).then(|| end - 1 - count..end)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::segment::Day;

    const LIMITS: Limits = Limits {
        bytes_max: u64::MAX,
        days_max: u32::MAX,
        inputs_max: 64,
    };

    fn bucket(first_day: u32, last_day: u32, bytes: u64) -> Bucket {
        Bucket {
            number: 1,
            first_day: Day(first_day),
            last_day: Day(last_day),
            bytes,
            footer_crc: 0,
            messages: 1,
            channels: 1,
            erased_through: 0,
        }
    }

    fn days(bytes: &[u64]) -> Vec<Bucket> {
        let days = bytes.iter().zip(100..);
        days.map(|(bytes, day)| bucket(day, day, *bytes)).collect()
    }

    #[test]
    fn what_is_due() {
        let check = |bytes: &[u64], limits, due| assert_eq!(due_in(&days(bytes), limits), due);
        check(&[], LIMITS, None);
        check(&[5], LIMITS, None);
        check(&[5, 5], LIMITS, Some(0..2));
        check(&[6, 4], LIMITS, Some(0..2));
        check(&[7, 4], LIMITS, None);
        check(&[100, 7, 4, 1], LIMITS, None);
        check(&[100, 7, 4, 4], LIMITS, Some(1..4));
        check(&[10, 7, 4, 4], LIMITS, Some(0..4));
        let bytes_max = 15;
        check(
            &[10, 7, 4, 4],
            Limits {
                bytes_max,
                ..LIMITS
            },
            Some(1..4),
        );
        let days_max = 2;
        check(&[10, 7, 4, 4], Limits { days_max, ..LIMITS }, Some(2..4));
        let inputs_max = 2;
        check(
            &[10, 7, 4, 4],
            Limits {
                inputs_max,
                ..LIMITS
            },
            Some(2..4),
        );
        check(&[4, 4, 1], LIMITS, Some(0..2));
    }

    #[test]
    fn a_month_that_has_not_ended_stays_apart() {
        let month = |name| Day::parse(name).unwrap().0;
        let mut manifest = Manifest {
            sealed_through: Day(month("2026-03-02")),
            buckets: vec![
                bucket(month("2026-01-01"), month("2026-01-31"), 100),
                bucket(month("2026-02-01"), month("2026-02-28"), 100),
                bucket(month("2026-03-01"), month("2026-03-01"), 90),
                bucket(month("2026-03-02"), month("2026-03-02"), 90),
            ],
            ..Manifest::default()
        };
        assert_eq!(due_neighbours(&manifest, LIMITS), Some(2..4));
        manifest.buckets.pop();
        assert_eq!(due_neighbours(&manifest, LIMITS), Some(0..2));
        manifest.buckets.remove(0);
        assert_eq!(due_neighbours(&manifest, LIMITS), None);
        manifest.sealed_through = Day(month("2026-03-31"));
        assert_eq!(due_neighbours(&manifest, LIMITS), Some(0..2));
    }

    proptest! {
        /// Whatever is written from day to day: few buckets are left, and little is rewritten.
        #[test]
        fn buckets_are_few_and_rewritten_seldom(
            written in prop::collection::vec(1_u64..1000, 1..300),
        ) {
            let total: u64 = written.iter().sum();
            let rounds = f64::from(u32::try_from(total).unwrap()).log(1.5).ceil() + 2.0;
            let mut group: Vec<Bucket> = Vec::new();
            let mut rewritten = 0;
            for (bytes, day) in written.iter().zip(100..) {
                group.push(bucket(day, day, *bytes));
                while let Some(due) = due_in(&group, LIMITS) {
                    let (first, last) = (group[due.start].first_day, group[due.end - 1].last_day);
                    let bytes = group[due.clone()].iter().map(|bucket| bucket.bytes).sum();
                    rewritten += bytes;
                    group.splice(due, [bucket(first.0, last.0, bytes)]);
                }
            }
            prop_assert!(group.len() as f64 <= rounds);
            prop_assert!(rewritten as f64 <= total as f64 * rounds);
            prop_assert_eq!(group.iter().map(|bucket| bucket.bytes).sum::<u64>(), total);
        }
    }
}
