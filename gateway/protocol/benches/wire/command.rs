//! From a frame's text to a command.
//!
//! Invariant: every text is a command that is taken.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use throng_protocol::{TextLimits, parse};

use crate::text;

const KINDS: [&str; 6] = [
    "heartbeat",
    "send_message_short",
    "send_message_long",
    "send_message_escaped",
    "identify",
    "identify_resume_20",
];

/// The text that a kind stands for.
fn command(kind: &str) -> String {
    match kind {
        "heartbeat" => r#"{"type":"HEARTBEAT"}"#.to_owned(),
        "send_message_short" => send_message("good morning!"),
        "send_message_long" => send_message(&text(2_000)),
        // Nothing with an escape can be borrowed.
        "send_message_escaped" => send_message(&text(400).replace("coffee", r#"\"coffee\"\n"#)),
        "identify" => format!(r#"{{"type":"IDENTIFY","token":"{}"}}"#, "t".repeat(200)),
        "identify_resume_20" => identify_resume(20),
        other => unreachable!("{other} is none of the kinds"),
    }
}

fn send_message(content: &str) -> String {
    format!(
        r#"{{"type":"SEND_MESSAGE","channelId":"018f0000-0000-7000-8000-0000000000c1","nonce":"550e8400-e29b-41d4-a716-446655440001","content":"{content}"}}"#
    )
}

fn identify_resume(channels: u32) -> String {
    let channel = |number| {
        format!(r#"{{"channelId":"018f0000-0000-7000-8000-{number:012x}","afterSeq":{number}}}"#)
    };
    let channels: Vec<String> = (0..channels).map(channel).collect();
    format!(
        r#"{{"type":"IDENTIFY","token":"{}","resume":{{"channels":[{}]}}}}"#,
        "t".repeat(200),
        channels.join(",")
    )
}

#[divan::bench(name = "parse", args = KINDS)]
fn parse_command(bencher: Bencher, kind: &str) {
    let (text, limits) = (command(kind), TextLimits::default());
    bencher.counter(BytesCount::of_str(&text)).bench_local(|| {
        drop(black_box(
            parse(black_box(&text), &limits).expect("a command"),
        ))
    });
}
