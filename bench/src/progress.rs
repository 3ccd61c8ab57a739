//! How far a long step has come, on standard error.
//!
//! It never writes to standard output, which belongs to the report, and draws no bar where
//! nobody sees one.
//!
//! Invariants: without a terminal a step prints at most eleven lines, and one of less than 5 s and known
//! time none.

use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::swarm::speech::rate;

/// Steps of less time show nothing, seconds.
const SHORT_S: f64 = 5.0;
/// How often a step of known time is drawn, seconds: rates of less jump.
const DRAWN_S: f64 = 0.5;

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

/// A step of known time, and what it brings a second at the moment.
#[derive(Debug)]
pub struct TimedProgress {
    step: &'static str,
    what: &'static str,
    all_s: f64,
    every_s: f64,
    told_s: f64,
    counted: u64,
    bar: Option<ProgressBar>,
}

impl TimedProgress {
    /// Begins a step of so long, which brings so many `what` a second.
    #[must_use]
    pub fn new(step: &'static str, what: &'static str, duration: Duration) -> Self {
        let all_s = duration.as_secs_f64();
        let is_long = all_s >= SHORT_S;
        let bar = (is_long && std::io::stderr().is_terminal()).then(|| {
            let style = ProgressStyle::with_template("{prefix:>12} [{bar:40}] {pos}/{len} s {msg}")
                .expect("the template is well formed");
            let bar = ProgressBar::new(duration.as_secs());
            bar.with_style(style).with_prefix(step)
        });
        let every_s = match (is_long, &bar) {
            (false, _) => f64::INFINITY,
            (true, Some(_)) => DRAWN_S,
            (true, None) => all_s / 10.0,
        };
        Self {
            step,
            what,
            all_s,
            every_s,
            told_s: 0.0,
            counted: 0,
            bar,
        }
    }

    /// After so many seconds there have been so many.
    pub fn count(&mut self, seconds: f64, count: u64) {
        let since_s = seconds - self.told_s;
        if since_s < self.every_s {
            return;
        }
        let more = count.saturating_sub(self.counted);
        self.counted = count;
        self.rate(seconds, rate(more, since_s));
    }

    /// After so many seconds there are so many a second.
    pub fn rate(&mut self, seconds: f64, per_s: f64) {
        let since_s = seconds - self.told_s;
        if since_s < self.every_s {
            return;
        }
        self.told_s = seconds;
        let Self {
            step, what, all_s, ..
        } = self;
        match &self.bar {
            Some(bar) => {
                let done = Duration::try_from_secs_f64(seconds.min(*all_s));
                bar.set_position(done.unwrap_or_default().as_secs());
                bar.set_message(format!("{per_s:.0} {what}/s"));
            }
            None => eprintln!("{step}: {seconds:.0} of {all_s:.0} s, {per_s:.0} {what}/s"),
        }
    }
}

impl Drop for TimedProgress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
