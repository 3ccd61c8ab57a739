//! `throng-bench compare`: what changed from one report of a suite to another.
//!
//! It measures nothing and contacts nobody.
//!
//! Invariants: with `--fail-on-worse` the exit status says whether anything got worse; without it
//! a comparison that could be made is a success.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::error::BenchError;
use crate::files;
use crate::suite::compare::{Comparison, compare, html};

/// Compares two reports of `suite` or `peers`, and says what changed by more than noise.
#[derive(Args, Debug)]
#[command(
    after_help = "A change counts when no round of one report reaches those of the other, and the medians \
    lie further apart than the rounds of both and the noise of both machines together. Fewer than three \
    rounds count as if they lay a tenth apart at least.\n\nExit status: 0 when the two could be compared, \
    1 with --fail-on-worse when a figure got worse by more than noise or a promise that was kept in A is \
    not in B, 2 when a report could not be read."
)]
pub struct CompareArgs {
    /// The report of before.
    a: PathBuf,
    /// The report of after.
    b: PathBuf,
    /// Writes the comparison as JSON to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Writes it as an HTML page to this file.
    #[arg(long)]
    html: Option<PathBuf>,
    /// Exit status 1 when something got worse by more than noise.
    #[arg(long)]
    fail_on_worse: bool,
}

/// Runs it and prints the comparison.
#[must_use]
pub fn run(args: &CompareArgs) -> ExitCode {
    match read(args) {
        Ok(comparison) => {
            let is_clean = !(args.fail_on_worse && comparison.is_worse());
            files::conclude(&comparison, args.json.as_deref(), is_clean)
        }
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn read(args: &CompareArgs) -> Result<Comparison, BenchError> {
    let comparison = compare(&files::report(&args.a)?, &files::report(&args.b)?);
    if let Some(path) = &args.html {
        files::write_text(path, &html::page(&comparison))?;
    }
    Ok(comparison)
}
