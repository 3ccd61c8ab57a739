//! The generated TypeScript types, and the test that notices when they are out of date.
//!
//! They are never edited by hand: `UPDATE=1 cargo test -p throng-protocol` writes them.
//!
//! Invariant: the file declares every type that a client meets, each once.

use throng_protocol::{
    Attachment, AttachmentId, Author, Channel, ChannelHead, ChannelId, ChannelType, Command,
    ErrorCode, Event, Guild, GuildId, Message, MessageId, Nonce, Reaction, ReadState, Resume,
    ResumeChannel, Rev, Seq, SessionId, Timestamp, User, UserId, UserStatus,
};
use ts_rs::{Config, TS};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/typescript/protocol.ts");

const HEAD: &str = "\
// The wire types of Throng, generated from gateway/protocol/src. Do not edit:
// `UPDATE=1 cargo test -p throng-protocol` writes this file anew.
";

fn declarations() -> String {
    // Every number on the wire stays below 2^53, where JavaScript's numbers are exact.
    let config = Config::new().with_large_int("number");
    let mut text = HEAD.to_owned();
    macro_rules! declare {
        ($($type:ty),* $(,)?) => {
            $(
                text.push('\n');
                text.push_str(&<$type as TS>::docs().unwrap_or_default());
                text.push_str("export ");
                text.push_str(&<$type as TS>::decl(&config));
                text.push('\n');
            )*
        };
    }
    declare!(
        ChannelId,
        UserId,
        MessageId,
        GuildId,
        SessionId,
        AttachmentId,
        Nonce,
        Seq,
        Rev,
        Timestamp,
        User,
        UserStatus,
        Author,
        Guild,
        Channel,
        ChannelType,
        Message,
        Attachment,
        Reaction,
        ReadState,
        ChannelHead,
        Command<'_>,
        Resume,
        ResumeChannel,
        Event,
        ErrorCode,
    );
    tidy(&text)
}

/// Documentation of one line on one line, and no blanks at line ends.
fn tidy(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines
        .join("\n")
        .replace("/**\n * ", "/** ")
        .replace("\n */", " */")
        + "\n"
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "with UPDATE=1 the file is written anew"
)]
fn the_types_are_up_to_date() {
    let generated = declarations();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(PATH, &generated).expect("the file can be written");
        return;
    }
    let kept = include_str!("../../typescript/protocol.ts");
    assert!(
        kept == generated,
        "{PATH} is out of date: run with UPDATE=1"
    );
}
