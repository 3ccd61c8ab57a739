//! Gives memory back that a burst has left in the allocator.
//!
//! When thousands shake hands in a second, each thread's arena grows by what they all need at once,
//! and afterwards keeps most of it: several hundred bytes for each session that came. It looks at
//! this process's resident memory only, and frees nothing that is in use.
//!
//! Invariants: nothing is given back while memory still grows or shrinks, since it would be asked
//! for again at once; nor before noticeably more is held than after the last time, but for once more
//! some time after each burst.

/// Looks between two decisions.
const LOOKS: u32 = 10;
/// Decisions in a row that found nothing to change.
const CALM_MIN: u32 = 3;
/// A change that is none.
const STILL_BYTES: u64 = 1 << 20;
/// Calm decisions, a second each, until it is given back once more: the control plane has closed
/// connections to its database that idle by then (15 to 30 s), and what they leave is seen by no growth.
const ONCE_MORE_AFTER: u32 = 40;
/// What must have come since the last time: so much, and a thirty-second of what is there, since
/// going through a large heap takes longer.
const GROWN_BYTES_MIN: u64 = 2 << 20;
const GROWN_PART: u64 = 32;

/// When to give back.
#[derive(Debug, Default)]
pub(super) struct Trim {
    looks: u32,
    resident_bytes: u64,
    calm: u32,
    kept_bytes: u64,
    /// Decisions until it is time once more; 0 for never.
    once_more: u32,
}

impl Trim {
    /// To be called ten times a second.
    pub(super) fn look(&mut self, resident_bytes: impl Fn() -> Option<u64>) {
        self.looks += 1;
        if self.looks < LOOKS {
            return;
        }
        self.looks = 0;
        let Some(bytes) = resident_bytes() else {
            return;
        };
        if self.is_due(bytes) {
            give_back();
            self.gave_back(resident_bytes().unwrap_or(bytes));
            tracing::debug!(before = bytes, after = self.kept_bytes, "memory given back");
        }
    }

    /// Whether it is time, with so much resident.
    fn is_due(&mut self, bytes: u64) -> bool {
        let is_still = bytes.abs_diff(self.resident_bytes) < STILL_BYTES;
        self.resident_bytes = bytes;
        self.calm = if is_still { self.calm + 1 } else { 0 };
        self.kept_bytes = self.kept_bytes.min(bytes);
        if self.calm < CALM_MIN {
            return false;
        }
        let grown_bytes = GROWN_BYTES_MIN.max(bytes / GROWN_PART);
        let has_grown = bytes >= self.kept_bytes + grown_bytes;
        let is_once_more = self.once_more == 1;
        self.once_more = if has_grown {
            ONCE_MORE_AFTER
        } else {
            self.once_more.saturating_sub(1)
        };
        has_grown || is_once_more
    }

    fn gave_back(&mut self, bytes: u64) {
        (self.kept_bytes, self.resident_bytes, self.calm) = (bytes, bytes, 0);
    }
}

/// Gives free pages of all arenas back to the kernel. An arena is locked while it is gone through.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator has no safe interface for it")]
#[expect(
    clippy::disallowed_methods,
    reason = "an edge; how long it took is only logged"
)]
fn give_back() {
    let began = std::time::Instant::now();
    // SAFETY: it touches free memory only, under the allocator's own locks.
    unsafe { libc::malloc_trim(0) };
    let took_us = began.elapsed().as_micros();
    tracing::debug!(took_us, "the allocator was gone through");
}

/// Other allocators give back by themselves.
#[cfg(not(target_env = "gnu"))]
fn give_back() {}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// After which of these decisions memory is given back; a MiB comes back each time.
    fn check(resident_mib: &[u64], expected: &[usize]) {
        let mut trim = Trim::default();
        trim.gave_back(50 * MIB);
        let due = |(at, mib): (usize, &u64)| {
            let is_due = trim.is_due(mib * MIB);
            if is_due {
                trim.gave_back((mib - 1) * MIB);
            }
            is_due.then_some(at)
        };
        let due: Vec<_> = resident_mib.iter().enumerate().filter_map(due).collect();
        assert_eq!(due, expected, "{resident_mib:?}");
    }

    #[test]
    fn after_a_burst_once() {
        check(&[50, 60, 70, 80, 80, 80, 80, 79, 79, 79, 79, 79], &[6]);
    }

    #[test]
    fn not_while_it_changes_nor_for_little() {
        check(&[50, 52, 54, 56, 58, 60, 62, 64, 66], &[]);
        check(&[51, 51, 51, 51, 51, 51, 51], &[]);
        check(
            &[1_000, 1_000, 1_000, 1_000, 1_005, 1_005, 1_005, 1_005],
            &[3],
        );
    }

    #[test]
    fn once_more_some_time_later() {
        let still = vec![80; 2 * ONCE_MORE_AFTER as usize];
        let later = 6 + ONCE_MORE_AFTER as usize + CALM_MIN as usize;
        check(&[vec![50, 60, 70, 80, 80, 80], still].concat(), &[6, later]);
    }

    #[test]
    fn what_has_gone_counts_as_room_for_the_next_burst() {
        check(&[40, 40, 40, 40, 48, 48, 48, 48], &[7]);
    }
}
