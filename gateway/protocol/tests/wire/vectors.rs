//! The golden vectors: frames as hexadecimal digits with what they say, commands and events as text.
//!
//! They are plain JSON, so that clients in other languages are held against the same ones.
//!
//! Invariant: every vector passes whole, in single bytes, and cut in two at every place.

use serde::Deserialize;
use serde_json::Value;
use throng_protocol::frame::Decoder;
use throng_protocol::{
    CloseReason, Command, ErrorCode, Event, TextLimits, encode_command, encode_frame, parse,
};

use crate::said::{Said, SaidItem, listen};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FrameVector {
    name: String,
    side: Side,
    message_bytes_max: usize,
    hex: String,
    items: Vec<ItemVector>,
    error: Option<FrameError>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Side {
    Server,
    Client,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ItemVector {
    Text(String),
    Binary(String),
    Ping(String),
    Pong(String),
    Close(Option<u16>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct FrameError {
    close_code: u16,
    text: String,
}

fn from_hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "half a byte in {digits}");
    let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(byte).collect()
}

impl From<ItemVector> for SaidItem {
    fn from(item: ItemVector) -> Self {
        match item {
            ItemVector::Text(text) => Self::Text(text),
            ItemVector::Binary(hex) => Self::Binary(from_hex(&hex)),
            ItemVector::Ping(hex) => Self::Ping(from_hex(&hex)),
            ItemVector::Pong(hex) => Self::Pong(from_hex(&hex)),
            ItemVector::Close(code) => Self::Close(code),
        }
    }
}

fn check_frames(vector: FrameVector) {
    let name = vector.name;
    let bytes = from_hex(&vector.hex);
    let decoder = || match vector.side {
        Side::Server => Decoder::server(vector.message_bytes_max),
        Side::Client => Decoder::client(vector.message_bytes_max),
    };
    let said: Said = listen(decoder(), &bytes, &[]);
    let expected: Vec<SaidItem> = vector.items.into_iter().map(SaidItem::from).collect();
    assert_eq!(said.0, expected, "{name}");
    match (&said.1, vector.error) {
        (None, None) => {}
        (Some(error), Some(expected)) => {
            assert_eq!(error.to_string(), expected.text, "{name}");
            assert_eq!(error.close_reason().code(), expected.close_code, "{name}");
        }
        (error, _) => panic!("{name}: {error:?}"),
    }

    let single_bytes: Vec<usize> = (1..bytes.len()).collect();
    assert_eq!(
        listen(decoder(), &bytes, &single_bytes),
        said,
        "{name}, in single bytes"
    );
    for cut in single_bytes {
        assert_eq!(
            listen(decoder(), &bytes, &[cut]),
            said,
            "{name}, cut at {cut}"
        );
    }
}

#[test]
fn frames() {
    let vectors: Vec<FrameVector> =
        serde_json::from_str(include_str!("../../vectors/frames.json")).unwrap();
    let seen: Vec<u16> = vectors
        .iter()
        .filter_map(|it| it.error.as_ref())
        .map(|it| it.close_code)
        .collect();
    for reason in [
        CloseReason::ProtocolError,
        CloseReason::InvalidUtf8,
        CloseReason::TooBig,
    ] {
        assert!(seen.contains(&reason.code()), "no vector for {reason:?}");
    }
    vectors.into_iter().for_each(check_frames);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandVector {
    name: String,
    text: String,
    command: Option<Value>,
    error: Option<CommandErrorVector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CommandErrorVector {
    message: String,
    nonce: Option<String>,
}

fn check_command(vector: &CommandVector) {
    let name = &vector.name;
    match (
        parse(&vector.text, &TextLimits::default()),
        &vector.command,
        &vector.error,
    ) {
        (Ok(command), Some(expected), None) => {
            let text = encode_command(&command);
            let read_back: Value = serde_json::from_str(&text).expect("encoded commands are JSON");
            assert_eq!(read_back, *expected, "{name}");
            assert_eq!(parse(&text, &TextLimits::default()), Ok(command), "{name}");
        }
        (Err(error), None, Some(expected)) => {
            assert_eq!(error.code, ErrorCode::InvalidPayload, "{name}");
            assert_eq!(error.message, expected.message, "{name}");
            assert_eq!(
                error.nonce.map(|it| it.to_string()),
                expected.nonce,
                "{name}"
            );
        }
        (result, ..) => panic!("{name}: {result:?}"),
    }
}

#[test]
fn commands() {
    let vectors: Vec<CommandVector> =
        serde_json::from_str(include_str!("../../vectors/commands.json")).unwrap();
    for kind in Command::TYPES {
        let mut commands = vectors.iter().filter_map(|vector| vector.command.as_ref());
        assert!(
            commands.any(|command| command["type"] == kind),
            "no vector for {kind}"
        );
    }
    vectors.iter().for_each(check_command);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventVector {
    name: String,
    text: String,
}

#[test]
fn events() {
    let vectors: Vec<EventVector> =
        serde_json::from_str(include_str!("../../vectors/events.json")).unwrap();
    for EventVector { name, text } in vectors {
        let event: Event = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), text, "{name}");
        let said = listen(Decoder::client(1 << 20), &encode_frame(&event), &[]);
        assert_eq!(said, (vec![SaidItem::Text(text)], None), "{name}");
    }
}
