//! How far a long step has come, on standard error.
//!
//! It never writes to standard output, which belongs to the report, and draws no bar where
//! nobody sees one.
//!
//! Invariants: without a terminal a step prints at most eleven lines.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

/// A step of known length; may be advanced by several threads at once.
#[derive(Debug)]
pub struct Progress {
    step: &'static str,
    total: u64,
    done: AtomicU64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Begins a step.
    #[must_use]
    pub fn new(step: &'static str, total: usize) -> Self {
        let total = u64::try_from(total).unwrap_or(u64::MAX);
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("{msg:>12} [{bar:40}] {pos}/{len} {per_sec} {eta}")
                    .expect("the template is well formed");
            ProgressBar::new(total).with_style(style).with_message(step)
        });
        Self {
            step,
            total,
            done: AtomicU64::new(0),
            bar,
        }
    }

    /// One more is done.
    pub fn advance(&self) {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if done == self.total || done.is_multiple_of(self.total.div_ceil(10)) {
            eprintln!("{}: {done}/{}", self.step, self.total);
        }
    }

    /// Moves to a count known elsewhere.
    pub fn set(&self, done: u64) {
        let before = self.done.swap(done, Ordering::Relaxed);
        let tenth = self.total.div_ceil(10).max(1);
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if before / tenth != done / tenth || (done == self.total && before != done) {
            eprintln!("{}: {done}/{}", self.step, self.total);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
