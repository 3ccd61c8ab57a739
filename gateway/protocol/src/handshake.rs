//! The opening handshake: RFC 6455, section 4, on tungstenite's checks and answer.
//!
//! It never serves HTTP: a request that does not ask for a WebSocket is ordinary and goes, with
//! all its bytes, to whoever does. No subprotocol is ever agreed on, and no extension but
//! permessage-deflate.
//!
//! Invariants: the verdict depends on the head alone, not on how it was cut or on what follows
//! it; a head is bounded; a refusal is one complete HTTP response that announces the close.

use bytes::{BufMut, Bytes, BytesMut};
use httparse::Status;
use tungstenite::error::ProtocolError as HandshakeError;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::http::header::{
    CONTENT_LENGTH, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    TRANSFER_ENCODING, UPGRADE,
};
use tungstenite::http::{HeaderMap, Method, Uri, Version};

use crate::deflate;
use crate::limits::HEAD_LINES_MAX;

/// What a connection's first bytes ask for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Head {
    /// A WebSocket.
    Upgrade {
        /// The path of the request, without the query.
        path: String,
        /// Length of the head; frames follow it.
        head_bytes: usize,
        /// Whether messages may be compressed from here on, in both directions.
        deflate: bool,
        /// The response to send: 101 Switching Protocols.
        response: Bytes,
    },
    /// Something else that HTTP can do.
    Ordinary {
        /// Length of the head; a body may follow it.
        head_bytes: usize,
    },
    /// Nothing that can be answered otherwise: send the response and close.
    Refused {
        /// A complete HTTP response.
        response: Bytes,
    },
}

/// Why a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refusal {
    NotHttp,
    HeadTooLarge,
    NotGet,
    BadVersion,
    BadUpgrade(&'static str),
    Timeout,
    ShortOfMemory,
}

/// Looks at the bytes that a connection began with, or returns `None` when the head is not
/// complete. The head is limited to `head_bytes_max` bytes and [`HEAD_LINES_MAX`] lines; more is
/// answered 431, what is not HTTP 400, a bad upgrade 400, 405 or 426. An offer of
/// permessage-deflate is taken only where `may_deflate`.
#[must_use]
pub fn parse_head(bytes: &[u8], head_bytes_max: usize, may_deflate: bool) -> Option<Head> {
    let mut lines = [httparse::EMPTY_HEADER; HEAD_LINES_MAX];
    let mut request = httparse::Request::new(&mut lines);
    let head_bytes = match request.parse(&bytes[..bytes.len().min(head_bytes_max)]) {
        Ok(Status::Complete(head_bytes)) => head_bytes,
        Ok(Status::Partial) if bytes.len() < head_bytes_max => return None,
        Ok(Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Some(refused(Refusal::HeadTooLarge));
        }
        Err(_) => return Some(refused(Refusal::NotHttp)),
    };
    if !asks_for_websocket(request.headers) {
        return Some(Head::Ordinary { head_bytes });
    }
    Some(match upgrade(&request, may_deflate) {
        Ok(agreed) => Head::Upgrade {
            path: agreed.path,
            head_bytes,
            deflate: agreed.deflate,
            response: agreed.response,
        },
        Err(refusal) => refused(refusal),
    })
}

/// The response to a connection that did not send its head in time: 408, then close.
#[must_use]
pub fn timeout_response() -> Bytes {
    refusal_response(Refusal::Timeout)
}

/// The response to a connection whose head would take the last memory for such: 503, then close.
#[must_use]
pub fn try_again_response() -> Bytes {
    refusal_response(Refusal::ShortOfMemory)
}

fn refused(refusal: Refusal) -> Head {
    Head::Refused {
        response: refusal_response(refusal),
    }
}

/// Whoever sends a key or names the protocol wants a WebSocket, however wrong the rest is.
fn asks_for_websocket(headers: &[httparse::Header<'_>]) -> bool {
    headers.iter().any(|header| {
        header.name.eq_ignore_ascii_case(SEC_WEBSOCKET_KEY.as_str())
            || (header.name.eq_ignore_ascii_case(UPGRADE.as_str())
                && header
                    .value
                    .to_ascii_lowercase()
                    .windows(9)
                    .any(|part| part == b"websocket"))
    })
}

/// What was agreed on with a request that asks for a WebSocket properly.
struct Agreed {
    path: String,
    deflate: bool,
    response: Bytes,
}

fn upgrade(raw: &httparse::Request<'_, '_>, may_deflate: bool) -> Result<Agreed, Refusal> {
    let request = request(raw)?;
    check_beyond_tungstenite(request.headers())?;
    let mut response = create_response(&request).map_err(|error| match error {
        tungstenite::Error::Protocol(error) => refusal_of(&error),
        _ => Refusal::BadUpgrade("the request is malformed"),
    })?;
    let agreed = deflate::answer(request.headers()).filter(|_| may_deflate);
    if let Some(agreed) = agreed {
        let agreed = HeaderValue::from_static(agreed);
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_EXTENSIONS, agreed);
    }
    let mut out = BytesMut::new().writer();
    write_response(&mut out, &response).expect("the response is plain ASCII, in memory");
    Ok(Agreed {
        path: request.uri().path().to_owned(),
        deflate: agreed.is_some(),
        response: out.into_inner().freeze(),
    })
}

fn request(raw: &httparse::Request<'_, '_>) -> Result<Request, Refusal> {
    let malformed = Refusal::BadUpgrade("the request is malformed");
    let mut headers = HeaderMap::with_capacity(raw.headers.len());
    for header in raw.headers.iter() {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(|_| malformed)?;
        let value = HeaderValue::from_bytes(header.value).map_err(|_| malformed)?;
        headers.append(name, value);
    }
    let mut request = Request::new(());
    *request.headers_mut() = headers;
    *request.method_mut() = raw
        .method
        .and_then(|it| it.parse().ok())
        .unwrap_or(Method::TRACE);
    *request.uri_mut() = raw
        .path
        .unwrap_or("")
        .parse::<Uri>()
        .map_err(|_| malformed)?;
    *request.version_mut() = if raw.version == Some(1) {
        Version::HTTP_11
    } else {
        Version::HTTP_10
    };
    Ok(request)
}

/// What section 4.2.1 asks for and tungstenite leaves to others; and no body, since what
/// follows the head is read as frames.
fn check_beyond_tungstenite(headers: &HeaderMap) -> Result<(), Refusal> {
    if !headers.contains_key(HOST) {
        return Err(Refusal::BadUpgrade("the header Host is missing"));
    }
    if headers.get_all(SEC_WEBSOCKET_KEY).iter().count() > 1 {
        return Err(Refusal::BadUpgrade(
            "the header Sec-WebSocket-Key is there twice",
        ));
    }
    let is_empty = headers
        .get(CONTENT_LENGTH)
        .is_none_or(|length| length == "0");
    if !is_empty || headers.contains_key(TRANSFER_ENCODING) {
        return Err(Refusal::BadUpgrade("an upgrade has no body"));
    }
    Ok(())
}

const fn refusal_of(error: &HandshakeError) -> Refusal {
    match error {
        HandshakeError::WrongHttpMethod => Refusal::NotGet,
        HandshakeError::WrongHttpVersion => Refusal::BadUpgrade("HTTP/1.1 is needed"),
        HandshakeError::MissingSecWebSocketVersionHeader => Refusal::BadVersion,
        HandshakeError::MissingConnectionUpgradeHeader => {
            Refusal::BadUpgrade("the header Connection does not say Upgrade")
        }
        HandshakeError::MissingUpgradeWebSocketHeader => {
            Refusal::BadUpgrade("the header Upgrade does not say websocket")
        }
        HandshakeError::MissingSecWebSocketKey => {
            Refusal::BadUpgrade("the header Sec-WebSocket-Key is missing")
        }
        HandshakeError::InvalidSecWebSocketKey => {
            Refusal::BadUpgrade("the header Sec-WebSocket-Key is not 16 bytes in base64")
        }
        _ => Refusal::BadUpgrade("the request is malformed"),
    }
}

fn refusal_response(refusal: Refusal) -> Bytes {
    let (status, extra, error, message) = match refusal {
        Refusal::NotHttp => ("400 Bad Request", "", "BAD_REQUEST", "this is not HTTP/1.1"),
        Refusal::BadUpgrade(message) => ("400 Bad Request", "", "BAD_REQUEST", message),
        Refusal::NotGet => (
            "405 Method Not Allowed",
            "Allow: GET\r\n",
            "METHOD_NOT_ALLOWED",
            "a WebSocket is asked for with GET",
        ),
        Refusal::Timeout => (
            "408 Request Timeout",
            "",
            "REQUEST_TIMEOUT",
            "the request did not come in time",
        ),
        Refusal::ShortOfMemory => (
            "503 Service Unavailable",
            "Retry-After: 10\r\n",
            "UNAVAILABLE",
            "the server is short of memory",
        ),
        Refusal::BadVersion => (
            "426 Upgrade Required",
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
            "UPGRADE_REQUIRED",
            "the header Sec-WebSocket-Version is to be 13",
        ),
        Refusal::HeadTooLarge => (
            "431 Request Header Fields Too Large",
            "",
            "HEAD_TOO_LARGE",
            "the head of the request is too large",
        ),
    };
    let body = format!(r#"{{"error":"{error}","message":"{message}"}}"#);
    let length = body.len();
    Bytes::from(format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\n{extra}Content-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::HEAD_BYTES_MAX;

    /// The headers of the example in RFC 6455, section 1.2.
    const HEADERS: &str = "Host: server.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Version: 13\r\n";

    fn check(request: &str) -> Option<Head> {
        parse_head(request.as_bytes(), HEAD_BYTES_MAX, true)
    }

    fn check_refused(request: &str, status: &str) {
        let Some(Head::Refused { response }) = check(request) else {
            panic!("not refused: {request}");
        };
        let text = String::from_utf8(response.to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert!(head.contains("Connection: close"), "{text}");
        assert!(
            head.contains(&format!("Content-Length: {}", body.len())),
            "{text}"
        );
    }

    #[test]
    fn the_example_of_the_rfc() {
        let request = format!("GET /chat?room=1 HTTP/1.1\r\n{HEADERS}\r\n");
        let Some(Head::Upgrade {
            path,
            head_bytes,
            deflate,
            response,
        }) = check(&request)
        else {
            panic!("not an upgrade");
        };
        assert_eq!((path.as_str(), head_bytes), ("/chat", request.len()));
        assert!(!deflate);
        let text = String::from_utf8(response.to_vec()).unwrap().to_lowercase();
        assert!(
            text.starts_with("http/1.1 101 switching protocols\r\n"),
            "{text}"
        );
        assert!(
            text.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"),
            "{text}"
        );
        assert!(text.contains("upgrade: websocket\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\n"), "{text}");
        assert!(
            !text.contains("protocol:") && !text.contains("extensions"),
            "{text}"
        );
    }

    #[test]
    fn compression_is_agreed_on_where_both_want_it() {
        let offer = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
        let request = format!("GET / HTTP/1.1\r\n{HEADERS}{offer}\r\n");
        for may_deflate in [true, false] {
            let head = parse_head(request.as_bytes(), HEAD_BYTES_MAX, may_deflate);
            let Some(Head::Upgrade {
                deflate, response, ..
            }) = head
            else {
                panic!("not an upgrade");
            };
            assert_eq!(deflate, may_deflate);
            let text = String::from_utf8(response.to_vec()).unwrap();
            let said = format!("sec-websocket-extensions: {}\r\n", deflate::AGREED);
            assert_eq!(text.to_lowercase().contains(&said), may_deflate, "{text}");
        }
    }

    #[test]
    fn other_requests_are_ordinary() {
        for request in [
            "GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /api/auth/login HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}",
            "GET / HTTP/1.0\r\n\r\n",
            "GET /gateway HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\n\r\n",
        ] {
            let head_bytes = request.find("\r\n\r\n").unwrap() + 4;
            assert_eq!(
                check(request),
                Some(Head::Ordinary { head_bytes }),
                "{request}"
            );
        }
    }

    #[test]
    fn bad_upgrades_are_refused() {
        let without = |header: &str| HEADERS.replace(header, "X-Other");
        let get = |headers: &str| format!("GET / HTTP/1.1\r\n{headers}\r\n");
        for header in ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key"] {
            check_refused(&get(&without(header)), "400");
        }
        check_refused(&get(&HEADERS.replace("jZQ==", "!ZQ==")), "400");
        check_refused(&get(&HEADERS.replace("dGhl", "")), "400");
        check_refused(&get(&format!("{HEADERS}{HEADERS}")), "400");
        check_refused(&get(&format!("{HEADERS}Content-Length: 5\r\n")), "400");
        check_refused(
            &get(&format!("{HEADERS}Transfer-Encoding: chunked\r\n")),
            "400",
        );
        check_refused(&format!("GET / HTTP/1.0\r\n{HEADERS}\r\n"), "400");
        check_refused(&format!("PUT / HTTP/1.1\r\n{HEADERS}\r\n"), "405");
        check_refused(&get(&HEADERS.replace("13", "8")), "426");
        check_refused(&get(&without("Sec-WebSocket-Version")), "426");
        check_refused("SSH-2.0-OpenSSH_9.2\r\n", "400");
    }

    #[test]
    fn a_head_is_bounded_however_it_comes() {
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100));
        let bytes = long.as_bytes();
        assert_eq!(parse_head(&bytes[..99], 100, true), None);
        let refused = parse_head(&bytes[..100], 100, true);
        assert_eq!(refused, Some(self::refused(Refusal::HeadTooLarge)));
        assert_eq!(parse_head(bytes, 100, true), refused);
        let head_bytes = bytes.len();
        assert_eq!(
            parse_head(bytes, head_bytes, true),
            Some(Head::Ordinary { head_bytes })
        );
    }
}
