//! `throng store verify`: every checksum, order and link.
//!
//! It changes nothing.
//!
//! Invariant: the exit status is 0 only if nothing was found.

use std::io::stdout;

use serde::Serialize;
use throng_storage_engine::{Finding, Report, Verified, verify};

use super::progress::Progress;
use super::{ToolArgs, Verdict, on_store, say, tell};

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "camelCase")]
enum Shown {
    Finding {
        file: String,
        offset: Option<u64>,
        reason: String,
    },
    Done {
        files: u64,
        records: u64,
        bytes: u64,
        findings: u64,
    },
}

/// Shows findings as they come.
struct Showing {
    progress: Progress,
    is_json: bool,
}

impl Report for Showing {
    fn found(&mut self, finding: Finding) {
        let file = finding.path.display().to_string();
        let reason = finding.reason.to_string();
        if self.is_json {
            let offset = finding.offset;
            let shown = Shown::Finding {
                file,
                offset,
                reason,
            };
            // Whoever reads may have gone; the count at the end decides.
            let _ = say(&mut stdout(), &shown);
            return;
        }
        let offset = finding.offset.map(|offset| format!(" at {offset}"));
        let offset = offset.unwrap_or_default();
        self.progress.line(&format!("{file}{offset}: {reason}"));
    }

    fn checked(&mut self, so_far: &Verified) {
        self.progress.at(so_far.bytes, so_far.bytes_total);
    }
}

pub(super) fn run(args: &ToolArgs) -> Verdict {
    let is_json = args.json;
    let done = on_store(args, move |disk, root, config| async move {
        let mut showing = Showing {
            progress: Progress::begin("verify", is_json),
            is_json,
        };
        let done = verify(&disk, &root, &config, &mut showing).await;
        showing.progress.end();
        Ok(done)
    })?;
    let Verified {
        files,
        records,
        bytes,
        findings,
        ..
    } = done;
    if is_json {
        let shown = Shown::Done {
            files,
            records,
            bytes,
            findings,
        };
        say(&mut stdout(), &shown)?;
    } else {
        tell(
            &mut stdout(),
            format_args!(
                "{files} files, {records} records, {bytes} bytes checked: {findings} findings"
            ),
        )?;
    }
    Ok(findings == 0)
}
