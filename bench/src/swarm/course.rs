//! How latencies went in the course of a speech: whether a bad percentile is one bad moment or all
//! of it.
//!
//! It knows no message and no connection.
//!
//! Invariants: a latency belongs to the part in which its message was due, whenever it arrived;
//! there are at most [`PARTS_MAX`] parts, however long a speech is.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::Latency;
use crate::tally::{LATENCY_US_MAX, record};

/// Most parts of a speech.
const PARTS_MAX: u64 = 60;
/// The shortest part.
const PART_NS_MIN: u64 = 1_000_000_000;

/// Latencies by the time at which they were due.
#[derive(Debug)]
pub struct Course {
    start_ns: u64,
    part_ns: u64,
    parts: Vec<Histogram<u64>>,
}

impl Course {
    /// Of a speech that begins now and is to take so long.
    #[must_use]
    pub fn new(start_ns: u64, duration: Duration) -> Self {
        let all_ns = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self {
            start_ns,
            part_ns: all_ns.div_ceil(PARTS_MAX).max(PART_NS_MIN),
            parts: Vec::new(),
        }
    }

    /// How long a part is, seconds.
    #[must_use]
    pub fn part_s(&self) -> f64 {
        Duration::from_nanos(self.part_ns).as_secs_f64()
    }

    /// Something that was due then took so long.
    pub fn record(&mut self, due_ns: u64, late_ns: u64) {
        let part = due_ns.saturating_sub(self.start_ns) / self.part_ns;
        let part = part.min(PARTS_MAX - 1) as usize;
        if self.parts.len() <= part {
            self.parts.resize(part + 1, empty());
        }
        record(&mut self.parts[part], late_ns);
    }

    /// Adds what another thread heard of the same speech.
    pub fn merge(&mut self, other: &Self) {
        let missing = other.parts.len().saturating_sub(self.parts.len());
        self.parts.extend((0..missing).map(|_| empty()));
        for (part, other) in self.parts.iter_mut().zip(&other.parts) {
            part.add(other).expect("histograms of the same bounds");
        }
    }

    /// The latencies of each part.
    #[must_use]
    pub fn parts(&self) -> Vec<Latency> {
        self.parts.iter().map(Latency::brief).collect()
    }
}

fn empty() -> Histogram<u64> {
    Histogram::new_with_max(LATENCY_US_MAX, 2).expect("2 digits over an hour fit")
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    /// The number of latencies of each part, of messages that were due at these seconds.
    fn check(duration_s: u64, due_s: &[u64], part_s: f64, expected: &[u64]) {
        let mut course = Course::new(7 * S, Duration::from_secs(duration_s));
        for due_s in due_s {
            course.record((7 + due_s) * S, 5_000_000);
        }
        let counts: Vec<u64> = course.parts().iter().map(|part| part.count).collect();
        assert_eq!(counts, expected);
        assert!((course.part_s() - part_s).abs() < 1e-9);
        let p99s = course.parts().into_iter().filter(|part| part.count > 0);
        assert!(
            p99s.map(|part| part.p99)
                .all(|p99| (4_950..=5_050).contains(&p99))
        );
    }

    #[test]
    fn seconds_of_a_short_speech() {
        check(3, &[0, 0, 2], 1.0, &[2, 0, 1]);
    }

    #[test]
    fn threads_together() {
        let mut one = Course::new(0, Duration::from_secs(3));
        let mut other = Course::new(0, Duration::from_secs(3));
        one.record(0, 1);
        other.record(0, 1);
        other.record(2 * S, 1);
        one.merge(&other);
        let counts: Vec<u64> = one.parts().iter().map(|part| part.count).collect();
        assert_eq!(counts, [2, 0, 1]);
        other.merge(&Course::new(0, Duration::from_secs(3)));
        assert_eq!(other.parts().len(), 3);
    }

    #[test]
    fn a_long_speech_has_longer_parts() {
        check(120, &[0, 1, 2, 3, 5], 2.0, &[2, 2, 1]);
    }

    #[test]
    fn what_is_due_behind_the_end_is_of_the_last_part() {
        check(1, &[1_000], 1.0, &[[0; 59].as_slice(), &[1]].concat());
    }
}
