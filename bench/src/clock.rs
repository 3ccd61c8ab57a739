//! The run's clock, and what a thread has used of its core.
//!
//! It is the only place that reads a clock; everything else is told the time.
//!
//! Invariants: all threads of a run read the same time line, nanoseconds since its origin.

use std::time::{Duration, Instant, SystemTime};

use rustix::time::{ClockId, clock_gettime};
use throng_protocol::Timestamp;

/// A time line. Copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    origin: Instant,
}

impl Clock {
    /// A time line that begins now.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the edge that reads the clock"
    )]
    pub fn start() -> Self {
        Self {
            origin: Instant::now(),
        }
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Seconds since the origin.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.origin.elapsed().as_secs_f64()
    }
}

/// The time of day: ISO 8601 in UTC with milliseconds.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "this is the edge that reads the clock"
)]
pub fn utc_now() -> String {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now_ms = since_1970.unwrap_or_default().as_millis();
    Timestamp(u64::try_from(now_ms).unwrap_or(0)).to_string()
}

/// CPU time that the calling thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(used).unwrap_or(Duration::ZERO)
}

/// Waits.
#[expect(clippy::disallowed_methods, reason = "this is the edge that waits")]
pub fn pause(duration: Duration) {
    std::thread::sleep(duration);
}
