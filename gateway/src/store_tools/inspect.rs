//! `throng store inspect`: what the store consists of.
//!
//! It reads no messages.
//!
//! Invariant: people and programs get the same numbers.

use std::io::stdout;

use serde::Serialize;
use throng_storage_engine::{Inspection, inspect};

use super::{ToolArgs, ToolError, Verdict, on_store, say, tell};

/// One line for programs.
#[derive(Serialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
enum Shown {
    Store {
        segments: usize,
        segment_bytes: u64,
        buckets: usize,
        bucket_bytes: u64,
        sealed_messages: u64,
        channels: u64,
        sealed_through: Option<String>,
        retained_from: Option<String>,
        pending_erasures: usize,
    },
    Segment {
        segment: String,
        day: String,
        bytes: u64,
        end: Option<u32>,
        is_sealed: bool,
    },
    Bucket {
        number: u32,
        first_day: String,
        last_day: String,
        bytes: u64,
        messages: u64,
        channels: u64,
    },
    Consumer {
        name: String,
        dead_letters: usize,
        lost: Option<String>,
    },
}

pub(super) fn run(args: &ToolArgs) -> Verdict {
    let found = on_store(args, |disk, root, config| async move {
        Ok(inspect(&disk, &root, &config).await?)
    })?;
    let mut out = stdout().lock();
    for shown in shown(&found) {
        match args.json {
            true => say(&mut out, &shown)?,
            false => show(&mut out, &shown)?,
        }
    }
    Ok(true)
}

fn shown(found: &Inspection) -> Vec<Shown> {
    let mut shown = vec![Shown::Store {
        segments: found.segments.len(),
        segment_bytes: found.segments.iter().map(|segment| segment.bytes).sum(),
        buckets: found.buckets.len(),
        bucket_bytes: found.buckets.iter().map(|bucket| bucket.bytes).sum(),
        sealed_messages: found.buckets.iter().map(|bucket| bucket.messages).sum(),
        channels: found.channels,
        sealed_through: found.sealed_through.map(|day| day.to_string()),
        retained_from: found.retained_from.map(|day| day.to_string()),
        pending_erasures: found.pending_erasures,
    }];
    shown.extend(found.buckets.iter().map(|bucket| Shown::Bucket {
        number: bucket.number,
        first_day: bucket.first_day.to_string(),
        last_day: bucket.last_day.to_string(),
        bytes: bucket.bytes,
        messages: bucket.messages,
        channels: bucket.channels,
    }));
    shown.extend(found.segments.iter().map(|segment| Shown::Segment {
        segment: segment.segment.to_string(),
        day: segment.day.to_string(),
        bytes: segment.bytes,
        end: segment.end,
        is_sealed: segment.is_sealed,
    }));
    shown.extend(found.consumers.iter().map(|consumer| Shown::Consumer {
        name: consumer.name.to_string(),
        dead_letters: consumer.dead_letters,
        lost: consumer.lost.map(|segment| segment.to_string()),
    }));
    shown
}

fn show(out: &mut impl std::io::Write, shown: &Shown) -> Result<(), ToolError> {
    match shown {
        Shown::Store { .. } => show_store(out, shown),
        Shown::Bucket {
            number,
            first_day,
            last_day,
            bytes,
            messages,
            channels,
        } => tell(
            out,
            format_args!(
                "bucket {number:08x}  {first_day} to {last_day}  {bytes} bytes  {messages} messages  {channels} channels"
            ),
        ),
        Shown::Segment {
            segment,
            day,
            bytes,
            end,
            is_sealed,
        } => {
            let end = end.map_or_else(|| "not recorded".to_owned(), |end| end.to_string());
            let note = if *is_sealed { "  sealed" } else { "" };
            tell(
                out,
                format_args!("segment {segment}  {day}  {bytes} bytes  end {end}{note}"),
            )
        }
        Shown::Consumer {
            name,
            dead_letters,
            lost,
        } => {
            let note = if lost.is_some() {
                "  too far behind"
            } else {
                ""
            };
            tell(
                out,
                format_args!("consumer {name}  {dead_letters} dead letters{note}"),
            )
        }
    }
}

fn show_store(out: &mut impl std::io::Write, shown: &Shown) -> Result<(), ToolError> {
    let Shown::Store {
        segments,
        segment_bytes,
        buckets,
        bucket_bytes,
        sealed_messages,
        channels,
        sealed_through,
        retained_from,
        pending_erasures,
    } = shown
    else {
        unreachable!("asked for the store alone");
    };
    let or_none = |day: &Option<String>| day.clone().unwrap_or_else(|| "nothing".to_owned());
    tell(
        out,
        format_args!("segments         {segments} ({segment_bytes} bytes)"),
    )?;
    tell(
        out,
        format_args!("sealed buckets   {buckets} ({bucket_bytes} bytes)"),
    )?;
    tell(out, format_args!("sealed messages  {sealed_messages}"))?;
    tell(
        out,
        format_args!("channels         {channels} (as of the last catalog)"),
    )?;
    tell(
        out,
        format_args!("sealed through   {}", or_none(sealed_through)),
    )?;
    tell(
        out,
        format_args!("dropped before   {}", or_none(retained_from)),
    )?;
    tell(out, format_args!("erasures to do   {pending_erasures}"))
}
