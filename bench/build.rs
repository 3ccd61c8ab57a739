//! Which revision this is, for reports: `BENCH_REVISION`.
//!
//! `-dirty` is looked up when the bench itself changes: other programs' changes are not its own.
//!
//! Without a repository, or without git, it is `unknown`.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=../.git/HEAD");
    println!("cargo::rerun-if-changed=../.git/logs/HEAD");
    let revision =
        git(&["rev-parse", "--short=12", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    let is_dirty = changed.is_some_and(|files| !files.is_empty());
    let dirty = if is_dirty { "-dirty" } else { "" };
    println!("cargo::rustc-env=BENCH_REVISION={revision}{dirty}");
}

/// What git says, trimmed; none when it fails.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
