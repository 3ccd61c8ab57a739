//! The lines that a shard's inputs and outputs leave in the trace.
//!
//! Long bytes are shown as a mark, so that a line stays a line and still tells them apart.
//!
//! Invariant: two inputs or outputs that differ in anything that matters give different lines.

use throng::io::{ConnId, Input, Output};
use throng::lane::{LaneMessage, Reply};
use throng_control::ToShard;

use crate::trace::{Trace, mark};

pub(crate) fn note_input(trace: &mut Trace, now_us: u64, shard: u16, input: &Input<'_>) {
    match input {
        Input::Received { conn, bytes } => trace.note(
            now_us,
            format_args!("{shard} < {conn:?} {} bytes {:x}", bytes.len(), mark(bytes)),
        ),
        Input::Lane { from, message } => {
            trace.note(
                now_us,
                format_args!("{shard} < {from:?} {}", brief(message)),
            );
        }
        Input::Page { read, result } => {
            let records = result.as_ref().map(Vec::len);
            trace.note(now_us, format_args!("{shard} < {read:?} {records:?}"));
        }
        Input::Control(ToShard::Answer { ask, .. }) => {
            trace.note(now_us, format_args!("{shard} < answer {ask:?}"));
        }
        Input::Tick => {}
        other => trace.note(now_us, format_args!("{shard} < {other:?}")),
    }
}

pub(crate) fn note_output(
    trace: &mut Trace,
    now_us: u64,
    shard: u16,
    output: &Output,
    recipients: &[ConnId],
) {
    match output {
        Output::Send { conn, bytes } => trace.note(
            now_us,
            format_args!("{shard} > {conn:?} {} bytes {:x}", bytes.len(), mark(bytes)),
        ),
        Output::Broadcast { bytes, .. } => trace.note(
            now_us,
            format_args!(
                "{shard} > {} hear {:x} {:x}",
                recipients.len(),
                mark(bytes),
                mark_all(recipients)
            ),
        ),
        Output::Append { commit, records } => {
            trace.note(
                now_us,
                format_args!("{shard} > {commit:?} of {}", records.len()),
            );
        }
        Output::Read { read, query } => {
            trace.note(
                now_us,
                format_args!("{shard} > {read:?}: {:?}", query.query),
            );
        }
        Output::Forward { to, message } => {
            trace.note(now_us, format_args!("{shard} > {to:?} {}", brief(message)));
        }
        other => trace.note(now_us, format_args!("{shard} > {other:?}")),
    }
}

fn mark_all(conns: &[ConnId]) -> u64 {
    let numbers = conns.iter().flat_map(|conn| [conn.index, conn.generation]);
    mark(&numbers.flat_map(u32::to_le_bytes).collect::<Vec<u8>>())
}

fn brief(message: &LaneMessage) -> String {
    match message {
        LaneMessage::Publish {
            channel,
            seq,
            frame,
            ..
        } => {
            format!("Publish {channel:?} {seq} {:x}", mark(frame))
        }
        LaneMessage::PublishTyping { channel, .. } => format!("PublishTyping {channel:?}"),
        LaneMessage::Reply {
            request,
            reply: Reply::Page { frames, last },
        } => {
            format!("Page for {request:?} to {last} {:x}", mark(frames))
        }
        other => format!("{other:?}"),
    }
}
