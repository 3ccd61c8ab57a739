//! The client protocol of NATS: lines, and payloads whose length their line says.
//!
//! It knows what a client that publishes and subscribes without headers needs, and no more.
//!
//! Invariants: a line is bounded.

use super::{First, Nonsense, Said};

/// The answer to a ping.
pub(super) const PONG: &[u8] = b"PONG\r\n";
/// The longest line of a server, bytes: INFO is some 400 (and at most 4 KiB by the documentation).
const LINE_BYTES_MAX: usize = 16 << 10;
/// The largest payload that a server lets through, bytes (`max_payload` of nats.conf is less).
const PAYLOAD_BYTES_MAX: usize = 16 << 20;
const END: &[u8] = b"\r\n";

/// Introduces, subscribes and asks for a PONG, which comes when both have been done.
pub(super) fn join(subject: &str) -> Vec<u8> {
    let options = r#"{"verbose":false,"pedantic":false,"tls_required":false,"lang":"rust","version":"1","protocol":1,"echo":true}"#;
    format!("CONNECT {options}\r\nSUB {subject} 1\r\nPING\r\n").into_bytes()
}

/// Publishes.
pub(super) fn publish(subject: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("PUB {subject} {}\r\n", payload.len());
    [head.as_bytes(), payload, END].concat()
}

/// The first thing said.
pub(super) fn first(bytes: &[u8]) -> First<'_> {
    let Some(end) = bytes.iter().position(|&byte| byte == b'\n') else {
        let is_endless = bytes.len() > LINE_BYTES_MAX;
        return if is_endless { Err(Nonsense) } else { Ok(None) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(Nonsense)?;
    let line_bytes = end + 1;
    let verb = line.split(|&byte| byte == b' ').next().unwrap_or(line);
    match verb {
        b"MSG" => delivered(line, line_bytes, bytes),
        b"PONG" => Ok(Some((Said::Subscribed, line_bytes))),
        b"PING" => Ok(Some((Said::Ping, line_bytes))),
        b"INFO" | b"+OK" => Ok(Some((Said::Other, line_bytes))),
        _ => Err(Nonsense),
    }
}

/// `MSG subject sid [reply-to] bytes`, and then the payload.
fn delivered<'a>(line: &[u8], line_bytes: usize, bytes: &'a [u8]) -> First<'a> {
    let last = line.rsplit(|&byte| byte == b' ').next();
    let last = last.and_then(|word| std::str::from_utf8(word).ok());
    let length: usize = last.and_then(|word| word.parse().ok()).ok_or(Nonsense)?;
    if length > PAYLOAD_BYTES_MAX {
        return Err(Nonsense);
    }
    let whole = line_bytes + length + END.len();
    let Some(rest) = bytes.get(line_bytes..whole) else {
        return Ok(None);
    };
    let payload = rest.strip_suffix(END).ok_or(Nonsense)?;
    Ok(Some((Said::Delivered(payload), whole)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says() {
        let joined = String::from_utf8(join("room")).unwrap();
        assert!(joined.starts_with("CONNECT {") && joined.ends_with("}\r\nSUB room 1\r\nPING\r\n"));
        assert_eq!(publish("room", b"a\r\nb"), b"PUB room 4\r\na\r\nb\r\n");
    }

    #[test]
    fn what_a_server_says() {
        let check = |bytes: &[u8], said: Said<'_>| {
            assert_eq!(first(bytes), Ok(Some((said, bytes.len()))));
            for cut in 0..bytes.len() {
                assert_eq!(first(&bytes[..cut]), Ok(None), "cut at {cut}");
            }
        };
        check(b"INFO {\"server_id\":\"x\"}\r\n", Said::Other);
        check(b"PONG\r\n", Said::Subscribed);
        check(b"PING\r\n", Said::Ping);
        check(b"MSG room 1 4\r\na\r\nb\r\n", Said::Delivered(b"a\r\nb"));
        check(b"MSG room 1 reply 0\r\n\r\n", Said::Delivered(b""));
    }

    #[test]
    fn what_a_server_may_not_say() {
        for bytes in [
            &b"-ERR 'Slow Consumer'\r\n"[..],
            b"HELLO\r\n",
            b"PING\n",
            b"MSG room 1 x\r\n",
            b"MSG room 1 99999999999\r\n",
            b"MSG room 1 1\r\nabc",
            &[b'x'; LINE_BYTES_MAX + 1],
        ] {
            assert_eq!(first(bytes), Err(Nonsense), "{bytes:?}");
        }
    }
}
