//! How far a long task has come, on stderr: a bar on a terminal, a line each tenth otherwise.
//!
//! It reads no clock of its own and writes nothing to stdout.
//!
//! Invariant: what it shows never decides anything.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const TEMPLATE: &str = "{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}";

/// A task under way.
pub(super) struct Progress {
    task: &'static str,
    bar: Option<ProgressBar>,
    /// Tenths that were told as lines.
    told: u64,
}

impl Progress {
    /// Begins. `is_quiet` shows nothing at all.
    pub(super) fn begin(task: &'static str, is_quiet: bool) -> Self {
        let is_bar = !is_quiet && std::io::stderr().is_terminal();
        let bar = is_bar.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(TEMPLATE).expect("a constant that was tried");
            bar.with_style(style).with_message(task)
        });
        Self {
            task,
            bar,
            told: if is_quiet { u64::MAX } else { 0 },
        }
    }

    /// So many bytes of so many are done.
    pub(super) fn at(&mut self, bytes: u64, bytes_total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(bytes_total);
            bar.set_position(bytes);
            return;
        }
        let tenths = bytes
            .saturating_mul(10)
            .checked_div(bytes_total)
            .unwrap_or(0);
        if tenths > self.told {
            self.told = tenths;
            eprintln!("{}: {}0 % of {bytes_total} bytes", self.task, tenths);
        }
    }

    /// Shows a line above the bar.
    pub(super) fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }

    /// Ends.
    pub(super) fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}
