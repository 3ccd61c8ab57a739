//! `throng store compact`: what is due is done now.
//!
//! It asks for nothing that the server would not do by itself.
//!
//! Invariant: what was done is told as it is done.

use std::io::stdout;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use throng_storage_engine::{Did, MaintenanceConfig, compact};

use super::{ToolArgs, ToolError, Verdict, on_executor, require_store, say, tell};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    days_sealed: u64,
    merges: u64,
    buckets_rewritten: u64,
    buckets_dropped: u64,
    erasures_done: u64,
    files_removed: u64,
    bytes_written: u64,
}

pub(super) fn run(args: &ToolArgs) -> Verdict {
    require_store(args)?;
    let now_ms = now_ms();
    let data = args.data.clone();
    let progress = on_executor(&args.data, move |disk, root, store| async move {
        let config = MaintenanceConfig::default();
        let tell_done = |did| {
            if let Some(text) = text(did) {
                eprintln!("{text}");
            }
        };
        let done = compact(&disk, &root, &store, &config, now_ms, tell_done).await;
        done.map_err(|error| ToolError::of_lock(error, &data))
    })?;
    let done = Done {
        days_sealed: progress.days_sealed,
        merges: progress.merges,
        buckets_rewritten: progress.buckets_rewritten,
        buckets_dropped: progress.buckets_dropped,
        erasures_done: progress.erasures_done,
        files_removed: progress.files_removed,
        bytes_written: progress.bytes_written,
    };
    if args.json {
        say(&mut stdout(), &done)?;
    } else {
        tell(
            &mut stdout(),
            format_args!(
                "{} days sealed, {} merges, {} buckets rewritten, {} dropped, {} files removed",
                done.days_sealed,
                done.merges,
                done.buckets_rewritten,
                done.buckets_dropped,
                done.files_removed
            ),
        )?;
    }
    Ok(true)
}

/// A piece of work in words; `None` for what nobody asks about.
fn text(did: Did) -> Option<String> {
    match did {
        Did::Sealed {
            day,
            messages,
            bytes,
        } => Some(format!(
            "sealed {day}: {messages} messages in {bytes} bytes"
        )),
        Did::Merged {
            first_day,
            last_day,
        } => Some(format!("merged {first_day} to {last_day}")),
        Did::Dropped { retained_from } => Some(format!("dropped what is before {retained_from}")),
        Did::Erased {
            first_day,
            last_day,
        } => Some(format!("erased in {first_day} to {last_day}")),
        _ => None,
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: what is due depends on the time"
)]
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
