//! What a soak's samples prove: whether memory stayed, and whether everything was let go.
//!
//! It takes no sample and counts no message.
//!
//! Invariants: a verdict that cannot be given is absent, never good.

use super::report::SoakReport;
use super::samples::Sample;
use super::trend::Trend;
use crate::memory::float;

/// Descriptors that may be there after a run and were not before: an answer to `/health` under way.
const FDS_LEFT_MAX: u32 = 4;
/// Connections that may be: likewise.
const CONNECTIONS_LEFT_MAX: u64 = 4;
/// A shorter load says nothing about memory: nonces are kept for five minutes.
const JUDGED_FROM_S: f64 = 600.0;

impl SoakReport {
    /// Judges memory by the samples of the load, whose first `warm_up_s` seconds do not count.
    pub(super) fn memory(&mut self, from_s: f64, to_s: f64, is_known: bool) {
        let counted: Vec<&Sample> = self
            .samples
            .iter()
            .filter(|sample| sample.at_s >= from_s + self.warm_up_s && sample.at_s <= to_s)
            .collect();
        let trend = |of: fn(&Sample) -> i64| {
            let points: Vec<_> = counted
                .iter()
                .map(|one| (one.at_s, float(of(one))))
                .collect();
            Trend::of(&points)
        };
        self.kernel_bytes = trend(|sample| sample.kernel_bytes);
        if !is_known {
            return;
        }
        self.anonymous_bytes = trend(|sample| sample.anonymous_bytes);
        let Some(rss) = trend(|sample| sample.rss_bytes) else {
            return;
        };
        self.rss_bytes_first = Some(rss.first);
        self.rss_bytes_last = Some(rss.last);
        self.rss_slope_bytes_per_min = Some(rss.slope_per_min);
        self.rss_slope_bytes_per_min_per_session =
            Some(rss.slope_per_min / f64::from(self.connections));
        if self.load_s >= JUDGED_FROM_S {
            let is_flat = self.anonymous_bytes.is_some_and(|trend| trend.is_flat());
            self.is_memory_flat = Some(is_flat && rss.is_flat());
        }
    }

    /// Judges what was left behind.
    pub(super) fn left(&mut self, gone: Sample, is_known: bool) {
        self.gone = gone;
        self.fds_before = self.come.fds.without_files();
        self.fds_after = gone.fds.without_files();
        let most = self.samples.iter().map(|sample| sample.fds.without_files());
        self.fds_most = most.max().unwrap_or(0);
        let have_left = have_left(&self.before, &gone);
        let has_fds = is_known.then_some(self.fds_after > self.fds_before + FDS_LEFT_MAX);
        self.is_leaking = match (have_left, has_fds) {
            (None, None) => None,
            (left, fds) => Some(left == Some(false) || fds == Some(true)),
        };
    }
}

/// Whether the server counts no more sessions and connections than before anybody came.
pub(super) fn have_left(before: &Sample, now: &Sample) -> Option<bool> {
    let connections = before.server_connections? + CONNECTIONS_LEFT_MAX;
    let sessions = before.server_sessions?;
    Some(now.server_connections? <= connections && now.server_sessions? <= sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at_s: f64, mib: i64, fds: u32, sessions: u64) -> Sample {
        let mut sample = Sample {
            at_s,
            rss_bytes: mib << 20,
            anonymous_bytes: mib << 20,
            server_sessions: Some(sessions),
            server_connections: Some(sessions),
            ..Sample::default()
        };
        sample.fds.others = fds;
        sample
    }

    /// A load of 20 minutes in which memory grows by so many MiB a minute.
    fn soaked(growth: i64) -> SoakReport {
        let mib = |minute: i64| 100 + growth * minute;
        let samples = (0..20_u8).map(|n| sample(f64::from(n) * 60.0, mib(n.into()), 9, 4));
        let mut report = SoakReport {
            connections: 4,
            load_s: 1_200.0,
            warm_up_s: 240.0,
            before: sample(0.0, 90, 7, 0),
            come: sample(0.0, 95, 9, 4),
            samples: samples.collect(),
            ..SoakReport::default()
        };
        report.memory(0.0, 1_200.0, true);
        report
    }

    #[test]
    fn memory_that_grows_is_not_clean() {
        for (growth, is_flat) in [(0, true), (4, false)] {
            let mut report = soaked(growth);
            report.left(sample(1_300.0, 90, 9, 0), true);
            assert_eq!(report.is_memory_flat, Some(is_flat));
            assert_eq!(report.is_clean(), is_flat, "{report}");
        }
    }

    #[test]
    fn what_is_left_behind_is_not_clean() {
        for (fds, sessions, is_leaking) in [(9, 0, false), (30, 0, true), (9, 30, true)] {
            let mut report = soaked(0);
            report.left(sample(1_300.0, 90, fds, sessions), true);
            assert_eq!(report.is_leaking, Some(is_leaking), "{fds} {sessions}");
            assert_eq!(report.is_clean(), !is_leaking, "{report}");
        }
    }

    #[test]
    fn what_was_lost_or_dropped_is_not_clean() {
        for spoil in [
            (|report| report.lost = 1) as fn(&mut SoakReport),
            |report| report.duplicated = 1,
            |report| report.out_of_order = 1,
            |report| report.unanswered = 1,
            |report| report.doubled = 1,
            |report| report.unasked = 1,
            |report| report.misplaced = 1,
            |report| report.dropped = 1,
            |report| report.missing = 1,
            |report| report.malformed_unanswered = 1,
            |report| report.malformed_answered_otherwise = 1,
        ] {
            let mut report = soaked(0);
            assert!(report.is_clean());
            spoil(&mut report);
            assert!(!report.is_clean(), "{report}");
        }
    }
}
