//! The lines of an export: what a store gives out, as JSON, and back.
//!
//! It reads and writes no file.
//!
//! Invariants: a line leads back to exactly what it was made from: a body is shown as text only if
//! that text gives the same bytes again, and in base64 otherwise; unknown names are refused.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use throng_storage_engine::{
    AuthorKey, ChannelKey, Day, Exported, ExportedHead, MessageKey, NonceKey, Record, RecordKind,
};
use uuid::Uuid;

use crate::record::{CreateV1, SCHEMA_CREATE_V1, decode_create_v1, encode_create_v1};

/// A line that is not one of an export.
#[derive(Debug, Error)]
pub(super) enum BadLine {
    #[error("this is no line of an export: {0}")]
    Json(#[from] serde_json::Error),
    #[error("a record has either `username` and `content` or `bodyBase64`")]
    Body,
    #[error("`bodyBase64` is not in base64")]
    Base64,
    #[error("`{0}` is no day such as 2026-11-21")]
    Day(String),
}

/// A line as it is written.
#[derive(Serialize, Deserialize, Debug)]
#[serde(untagged)]
enum Line {
    Bucket(BucketLine),
    Segments(SegmentsLine),
    Head(HeadLine),
    Record(Box<RecordLine>),
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct BucketLine {
    bucket: Days,
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Days {
    first_day: String,
    last_day: String,
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct SegmentsLine {
    segments: Nothing,
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Nothing {}

#[derive(Serialize, Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct HeadLine {
    head: Numbers,
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Numbers {
    channel: Uuid,
    seq: u64,
    rev: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_message: Option<Uuid>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Create,
    Edit,
    Delete,
    ReactionAdd,
    ReactionRemove,
}

#[derive(Serialize, Deserialize, Debug)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RecordLine {
    kind: Kind,
    channel: Uuid,
    message: Uuid,
    author: Uuid,
    seq: u64,
    rev: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nonce: Option<Uuid>,
    schema: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body_base64: Option<String>,
}

/// Writes one thing as a line, without its end.
pub(super) fn write(item: &Exported) -> String {
    let line = match item {
        Exported::Bucket {
            first_day,
            last_day,
        } => Line::Bucket(BucketLine {
            bucket: Days {
                first_day: first_day.to_string(),
                last_day: last_day.to_string(),
            },
        }),
        Exported::Segments => Line::Segments(SegmentsLine {
            segments: Nothing {},
        }),
        Exported::Head { channel, head } => Line::Head(HeadLine {
            head: Numbers {
                channel: Uuid::from_bytes(channel.0),
                seq: head.seq,
                rev: head.rev,
                last_message: some(head.last_message.0),
            },
        }),
        Exported::Record(record) => Line::Record(Box::new(record_line(record))),
    };
    serde_json::to_string(&line).expect("texts and numbers can always be written")
}

/// Reads one line.
pub(super) fn read(line: &str) -> Result<Exported, BadLine> {
    // The first name says which line it is, so that an error speaks of that one only.
    let text = line.trim_start_matches(['{', ' ']);
    if text.starts_with("\"bucket\"") {
        let BucketLine { bucket } = serde_json::from_str(line)?;
        Ok(Exported::Bucket {
            first_day: day(bucket.first_day)?,
            last_day: day(bucket.last_day)?,
        })
    } else if text.starts_with("\"segments\"") {
        serde_json::from_str::<SegmentsLine>(line)?;
        Ok(Exported::Segments)
    } else if text.starts_with("\"head\"") {
        let HeadLine { head } = serde_json::from_str(line)?;
        Ok(Exported::Head {
            channel: ChannelKey(*head.channel.as_bytes()),
            head: ExportedHead {
                seq: head.seq,
                rev: head.rev,
                last_message: MessageKey(bytes(head.last_message)),
            },
        })
    } else {
        record(serde_json::from_str(line)?).map(Exported::Record)
    }
}

/// A record as a line shows it; dead letters are shown so, too.
pub(super) fn record_json(record: &Record) -> impl Serialize {
    record_line(record)
}

fn record_line(record: &Record) -> RecordLine {
    let text = as_text(record);
    let body_base64 = text.is_none().then(|| STANDARD.encode(&record.body));
    let (username, content) = text.map(|body| (body.username, body.content)).unzip();
    RecordLine {
        kind: Kind::of(record.kind),
        channel: Uuid::from_bytes(record.channel.0),
        message: Uuid::from_bytes(record.message.0),
        author: Uuid::from_bytes(record.author.0),
        seq: record.seq,
        rev: record.rev,
        target: some(record.target.0),
        nonce: some(record.nonce.0),
        schema: record.schema,
        username,
        content,
        body_base64,
    }
}

/// The body as text, if that text gives the same bytes again.
fn as_text(record: &Record) -> Option<CreateV1> {
    if record.schema != SCHEMA_CREATE_V1 {
        return None;
    }
    let body = decode_create_v1(record).ok()?;
    (encode_create_v1(&body) == record.body).then_some(body)
}

fn record(line: RecordLine) -> Result<Record, BadLine> {
    let body = match (line.username, line.content, line.body_base64) {
        (Some(username), Some(content), None) if line.schema == SCHEMA_CREATE_V1 => {
            encode_create_v1(&CreateV1 { username, content })
        }
        (None, None, Some(body)) => {
            Bytes::from(STANDARD.decode(body).map_err(|_| BadLine::Base64)?)
        }
        _ => return Err(BadLine::Body),
    };
    Ok(Record {
        kind: line.kind.into_kind(),
        schema: line.schema,
        channel: ChannelKey(*line.channel.as_bytes()),
        message: MessageKey(*line.message.as_bytes()),
        author: AuthorKey(*line.author.as_bytes()),
        seq: line.seq,
        rev: line.rev,
        target: MessageKey(bytes(line.target)),
        nonce: NonceKey(bytes(line.nonce)),
        body,
    })
}

fn some(key: [u8; 16]) -> Option<Uuid> {
    (key != [0; 16]).then(|| Uuid::from_bytes(key))
}

fn bytes(id: Option<Uuid>) -> [u8; 16] {
    id.map_or([0; 16], |id| *id.as_bytes())
}

fn day(text: String) -> Result<Day, BadLine> {
    Day::parse(&text).ok_or(BadLine::Day(text))
}

impl Kind {
    fn of(kind: RecordKind) -> Self {
        match kind {
            RecordKind::Create => Self::Create,
            RecordKind::Edit => Self::Edit,
            RecordKind::Delete => Self::Delete,
            RecordKind::ReactionAdd => Self::ReactionAdd,
            RecordKind::ReactionRemove => Self::ReactionRemove,
        }
    }

    fn into_kind(self) -> RecordKind {
        match self {
            Self::Create => RecordKind::Create,
            Self::Edit => RecordKind::Edit,
            Self::Delete => RecordKind::Delete,
            Self::ReactionAdd => RecordKind::ReactionAdd,
            Self::ReactionRemove => RecordKind::ReactionRemove,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_record() -> impl Strategy<Value = Record> {
        let keys = any::<[[u8; 16]; 4]>();
        let numbers = any::<(u64, u64, bool, bool)>();
        let body = prop_oneof![
            (".{0,20}", ".{0,60}").prop_map(|(username, content)| {
                (
                    SCHEMA_CREATE_V1,
                    encode_create_v1(&CreateV1 { username, content }),
                )
            }),
            (any::<u16>(), prop::collection::vec(any::<u8>(), 0..60))
                .prop_map(|(schema, body)| (schema, Bytes::from(body))),
        ];
        let kind = prop::sample::select(vec![
            RecordKind::Create,
            RecordKind::Edit,
            RecordKind::Delete,
            RecordKind::ReactionAdd,
            RecordKind::ReactionRemove,
        ]);
        (kind, keys, numbers, body).prop_map(|(kind, keys, numbers, (schema, body))| Record {
            kind,
            schema,
            channel: ChannelKey(keys[0]),
            message: MessageKey(keys[1]),
            author: AuthorKey(keys[2]),
            seq: numbers.0,
            rev: numbers.1,
            target: if numbers.2 {
                MessageKey(keys[3])
            } else {
                MessageKey::ZERO
            },
            nonce: if numbers.3 {
                NonceKey(keys[3])
            } else {
                NonceKey::ZERO
            },
            body,
        })
    }

    fn check(item: Exported) {
        let line = write(&item);
        assert!(!line.contains('\n'), "{line}");
        assert_eq!(read(&line).unwrap(), item, "{line}");
        assert_eq!(write(&read(&line).unwrap()), line);
    }

    proptest! {
        #[test]
        fn a_record_reads_back(record in any_record()) {
            check(Exported::Record(record));
        }

        #[test]
        fn any_text_is_refused_without_a_panic(text in ".{0,200}") {
            prop_assert!(read(&text).is_err());
        }
    }

    #[test]
    fn what_is_no_record_reads_back() {
        check(Exported::Segments);
        check(Exported::Bucket {
            first_day: Day(20_000),
            last_day: Day(20_030),
        });
        for last_message in [MessageKey::ZERO, MessageKey([3; 16])] {
            check(Exported::Head {
                channel: ChannelKey([7; 16]),
                head: ExportedHead {
                    seq: 5,
                    rev: 9,
                    last_message,
                },
            });
        }
    }

    #[test]
    fn a_text_is_shown_as_text() {
        let body = CreateV1 {
            username: "ada".to_owned(),
            content: "Guten Tag".to_owned(),
        };
        let record = Record {
            kind: RecordKind::Create,
            schema: SCHEMA_CREATE_V1,
            channel: ChannelKey([1; 16]),
            message: MessageKey([2; 16]),
            author: AuthorKey([3; 16]),
            seq: 1,
            rev: 1,
            target: MessageKey::ZERO,
            nonce: NonceKey::ZERO,
            body: encode_create_v1(&body),
        };
        let line = write(&Exported::Record(record));
        let shown = r#""schema":1,"username":"ada","content":"Guten Tag"}"#;
        assert!(line.ends_with(shown), "{line}");
    }

    #[test]
    fn lines_that_cannot_be_say_why() {
        let why = |line: &str| read(line).unwrap_err().to_string();
        assert!(
            why(r#"{"bucket":{"firstDay":"2026-02-30","lastDay":"x"}}"#).contains("2026-02-30")
        );
        assert!(why(r#"{"kind":"create"}"#).contains("missing field"));
        assert!(why(r#"{"kind":"create","colour":1}"#).contains("colour"));
    }
}
