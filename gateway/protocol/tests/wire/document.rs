//! WIRE.md against the code: every table and every example in it.
//!
//! It reads the document as text and knows only headings, tables and JSON blocks.
//!
//! Invariant: what the document lists, the code has, and the other way round.

use std::collections::BTreeSet;

use bytes::BytesMut;
use serde_json::{Map, Value};
use throng_protocol::frame::{
    CONTROL_PAYLOAD_BYTES_MAX, HEADER_BYTES_MAX, Opcode, encode_header, encode_masked,
};
use throng_protocol::handshake::{Head, parse_head, timeout_response, try_again_response};
use throng_protocol::{
    CloseReason, Command, ErrorCode, Event, TextLimits, encode_command, limits, parse,
};

const DOCUMENT: &str = include_str!("../../WIRE.md");

/// The lines under a heading, up to the next one.
fn section(heading: &str) -> Vec<&'static str> {
    let lines: Vec<_> = DOCUMENT
        .lines()
        .skip_while(|line| *line != heading)
        .skip(1)
        .take_while(|line| !line.starts_with('#'))
        .collect();
    assert!(!lines.is_empty(), "no section {heading}");
    lines
}

/// The rows of the table under a heading, without its head; cells without backticks.
fn table(heading: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_start_matches('|').trim_end_matches('|');
        line.split('|')
            .map(|cell| cell.trim().replace('`', ""))
            .collect()
    };
    section(heading)
        .iter()
        .filter(|it| it.starts_with('|'))
        .skip(2)
        .map(|it| cells(it))
        .collect()
}

fn column(heading: &str, index: usize) -> Vec<String> {
    table(heading)
        .into_iter()
        .map(|mut row| row.swap_remove(index))
        .collect()
}

#[test]
fn header() {
    let rows = table("### Header");
    let largest = |cell: &String| -> usize { cell.rsplit('-').next().unwrap().parse().unwrap() };
    let mut end_max = 0;
    for row in &rows {
        assert_eq!(largest(&row[0]), end_max, "{row:?}");
        end_max += largest(&row[1]);
    }
    assert_eq!(end_max, HEADER_BYTES_MAX);
}

#[test]
fn lengths() {
    for row in table("### Lengths") {
        let from: usize = row[0].parse().unwrap();
        let to = if row[1].is_empty() {
            from
        } else {
            row[1].parse().unwrap()
        };
        for payload_bytes in [from, to] {
            let mut header = BytesMut::new();
            encode_header(Opcode::Binary, payload_bytes, &mut header);
            assert_eq!(header.len().to_string(), row[4], "server, {payload_bytes}");
            assert_eq!(
                (header.len() - 2).to_string(),
                row[3],
                "extended, {payload_bytes}"
            );
            let itself = payload_bytes.to_string();
            let expected = if row[2] == "itself" { &itself } else { &row[2] };
            assert_eq!(
                header[1].to_string(),
                *expected,
                "length byte, {payload_bytes}"
            );
            let masked = encode_masked(Opcode::Binary, &vec![0; payload_bytes], [1; 4]);
            assert_eq!((masked.len() - payload_bytes).to_string(), row[5], "client");
        }
    }
}

#[test]
fn opcodes() {
    let code: Vec<_> = Opcode::ALL
        .iter()
        .map(|it| (format!("{:#X}", it.number()), format!("{it:?}")))
        .collect();
    let rows = table("### Opcodes");
    let document: Vec<_> = rows
        .iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(document, code);
    for row in rows.iter().filter(|row| row[2].contains("up to")) {
        assert!(
            row[2].contains(&CONTROL_PAYLOAD_BYTES_MAX.to_string()),
            "{row:?}"
        );
    }
}

#[test]
fn close_codes() {
    let code: Vec<_> = CloseReason::ALL
        .iter()
        .map(|it| {
            vec![
                it.code().to_string(),
                format!("{it:?}"),
                it.text().to_owned(),
            ]
        })
        .collect();
    let document: Vec<_> = table("### Close codes")
        .into_iter()
        .map(|row| row[..3].to_vec())
        .collect();
    assert_eq!(document, code);
}

#[test]
fn error_codes() {
    let code: Vec<_> = ErrorCode::ALL.iter().map(ToString::to_string).collect();
    assert_eq!(column("## 6. Error codes", 0), code);
}

#[test]
fn limits_table() {
    macro_rules! listed {
        ($($name:ident),* $(,)?) => {
            vec![$((stringify!($name).to_owned(), limits::$name.to_string())),*]
        };
    }
    let code = listed![
        MESSAGE_BYTES_MAX,
        HEAD_BYTES_MAX,
        HEAD_LINES_MAX,
        DEFLATE_BYTES_MIN,
        TOKEN_BYTES_MAX,
        CONTENT_CHARS_MAX,
        RESUME_CHANNELS_MAX,
        REPLAY_MESSAGES_MAX,
        READY_BYTES_MAX,
        BACKLOG_BYTES_MAX,
        HANDSHAKE_MS_MAX,
        IDENTIFY_MS_MAX,
        HEARTBEAT_INTERVAL_MS,
        HEARTBEAT_MS_MAX,
        NONCE_MS_MIN,
    ];
    let document: Vec<_> = table("## 7. Limits")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(document, code);
    let constants = include_str!("../../src/limits.rs")
        .matches("pub const ")
        .count();
    assert_eq!(constants, code.len(), "a limit is not in WIRE.md");
}

#[test]
fn refusals() {
    const UPGRADE: &str = "Host: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let mut responses = vec![timeout_response(), try_again_response()];
    for request in [
        "\u{16}\u{3}\u{1}".to_owned(),
        format!("POST / HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 13\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{UPGRADE}Sec-WebSocket-Version: 8\r\n\r\n"),
        format!(
            "GET / HTTP/1.1\r\n{}",
            "a: b\r\n".repeat(limits::HEAD_LINES_MAX + 1)
        ),
    ] {
        let head = parse_head(request.as_bytes(), limits::HEAD_BYTES_MAX, true);
        let Some(Head::Refused { response }) = head else {
            panic!("{request}: {head:?}")
        };
        responses.push(response);
    }
    let seen: BTreeSet<_> = responses
        .iter()
        .map(|response| {
            let text = std::str::from_utf8(response).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            let body: Map<String, Value> = serde_json::from_str(body).unwrap();
            let status = head.split(' ').nth(1).unwrap().to_owned();
            (status, body["error"].as_str().unwrap().to_owned())
        })
        .collect();
    let rows = table("### Refusals");
    let document: BTreeSet<_> = rows
        .iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!(document, seen);
    assert_eq!(rows.len(), document.len());
}

/// The headings of this level between two others.
fn subsections(from: &str, to: &str) -> Vec<&'static str> {
    DOCUMENT
        .lines()
        .skip_while(|line| *line != from)
        .take_while(|line| *line != to)
        .filter_map(|line| line.strip_prefix("### "))
        .collect()
}

fn example(heading: &str) -> Map<String, Value> {
    let json: String = section(heading)
        .into_iter()
        .skip_while(|line| *line != "```json")
        .skip(1)
        .take_while(|line| *line != "```")
        .collect();
    serde_json::from_str(&json).unwrap_or_else(|error| panic!("{heading}: {error}"))
}

/// Holds one command or event against its example: `read` gives it back as JSON, or the error.
fn check_example(kind: &str, read: impl Fn(&Value) -> Result<Value, String>) {
    let heading = format!("### {kind}");
    let example = example(&heading);
    assert_eq!(example["type"], kind);
    let members: BTreeSet<_> = table(&heading)
        .into_iter()
        .map(|row| row[0].clone())
        .collect();
    let in_example: BTreeSet<_> = example.keys().filter(|it| *it != "type").cloned().collect();
    assert_eq!(members, in_example, "{kind}: table and example");

    let read_back =
        read(&Value::Object(example.clone())).unwrap_or_else(|error| panic!("{kind}: {error}"));
    let mut expected = example.clone();
    // The one member that is only there to be empty.
    expected.remove("attachments");
    assert_eq!(read_back, Value::Object(expected), "{kind}");
    for row in table(&heading) {
        let mut without = example.clone();
        without.remove(&row[0]);
        let result = read(&Value::Object(without));
        let is_needed = match row[2].as_str() {
            "yes" => true,
            "no" => false,
            other => panic!("{kind}: needed is {other}"),
        };
        assert_eq!(
            result.is_err(),
            is_needed,
            "{kind} without {}: {result:?}",
            row[0]
        );
        if let Err(message) = result {
            assert!(
                message.contains(&row[0]),
                "{kind} without {}: {message}",
                row[0]
            );
        }
    }
}

#[test]
fn commands() {
    assert_eq!(
        subsections("## 4. Commands", "## 5. Events"),
        Command::TYPES
    );
    for kind in Command::TYPES {
        check_example(kind, |example| {
            let text = example.to_string();
            let command = parse(&text, &TextLimits::default()).map_err(|it| it.to_string())?;
            Ok(serde_json::from_str(&encode_command(&command)).unwrap())
        });
    }
}

#[test]
fn events() {
    let kinds = subsections("## 5. Events", "## 6. Error codes");
    let types = include_str!("../../typescript/protocol.ts");
    let (_, union) = types.split_once("export type Event =").unwrap();
    let (union, _) = union.split_once(";\n").unwrap();
    let declared: Vec<_> = union
        .split("\"type\": \"")
        .skip(1)
        .map(|it| it.split('"').next().unwrap())
        .collect();
    assert_eq!(kinds, declared, "an event is missing in WIRE.md");
    for kind in kinds {
        check_example(kind, |example| {
            let event: Event =
                serde_json::from_value(example.clone()).map_err(|it| it.to_string())?;
            Ok(serde_json::to_value(event).unwrap())
        });
    }
}
