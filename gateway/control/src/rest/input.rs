//! Reads what a request brings: JSON bodies, path segments, query parameters.
//!
//! Checks shape and length, never whether the thing named exists. Repeats no input in an error.
//!
//! Invariants: every refusal names the field and what is allowed there; all wrong fields of a body
//! are reported at once; a body is read within a bound of bytes and of time.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde_json::{Map, Value};

use crate::app::App;
use crate::refusal::{Detail, Refusal};

/// A JSON object that a request brought, and what was found wrong with it so far.
pub(crate) struct Body {
    object: Map<String, Value>,
    wrong: Vec<Detail>,
}

/// What may stand in a field.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    /// For people: completes "this must be ...".
    pub(crate) says: &'static str,
    /// Whether a text follows it.
    pub(crate) holds: fn(&str) -> bool,
}

impl Body {
    /// A text field that follows a rule; empty after a fault, which [`Body::finish`] reports.
    pub(crate) fn text(&mut self, path: &'static str, rule: Rule) -> String {
        match self.object.remove(path) {
            Some(Value::String(text)) if (rule.holds)(&text) => text,
            _ => {
                self.wrong.push(Detail {
                    path,
                    message: rule.says,
                });
                String::new()
            }
        }
    }

    /// A field that may be absent or null, and is parsed otherwise.
    pub(crate) fn optional<T: FromStr>(
        &mut self,
        path: &'static str,
        says: &'static str,
    ) -> Option<T> {
        match self.object.remove(path) {
            None | Some(Value::Null) => return None,
            Some(Value::String(text)) => {
                if let Ok(value) = text.parse() {
                    return Some(value);
                }
            }
            Some(_) => {}
        }
        self.wrong.push(Detail {
            path,
            message: says,
        });
        None
    }

    /// Refuses if anything was wrong.
    pub(crate) fn finish(self) -> Result<(), Refusal> {
        if self.wrong.is_empty() {
            Ok(())
        } else {
            Err(Refusal::Validation(self.wrong))
        }
    }
}

impl FromRequest<Arc<App>> for Body {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Refusal> {
        if !is_json(request.headers()) {
            return Err(Refusal::MediaType);
        }
        if announced_bytes(request.headers()) > Some(app.config.body_bytes_max as u64) {
            return Err(Refusal::TooLarge);
        }
        let limit = Duration::from_millis(app.config.http_body_ms_max);
        let bytes = match tokio::time::timeout(limit, Bytes::from_request(request, app)).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(rejection)) => return Err(unreadable(rejection.into_response().status())),
            Err(_) => return Err(Refusal::invalid("", "the request body took too long")),
        };
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(Self {
                object,
                wrong: Vec::new(),
            }),
            Ok(_) => Err(Refusal::invalid(
                "",
                "the request body must be a JSON object",
            )),
            Err(_) => Err(Refusal::invalid("", "the request body is not valid JSON")),
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    declared.is_some_and(|declared| {
        let essence = declared.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    })
}

/// What the head says of the body's length; without a word it is measured as it comes.
fn announced_bytes(headers: &HeaderMap) -> Option<u64> {
    let announced = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    announced.parse().ok()
}

fn unreadable(status: StatusCode) -> Refusal {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return Refusal::TooLarge;
    }
    Refusal::invalid("", "the request body could not be read")
}

/// The one variable segment of a path. What cannot be such a segment names nothing.
pub(crate) struct Segment<T>(pub(crate) T);

impl<T: FromStr> FromRequestParts<Arc<App>> for Segment<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        const NOTHING: Refusal = Refusal::NotFound("nothing has this id");
        let segments = RawPathParams::from_request_parts(parts, app)
            .await
            .map_err(|_| NOTHING)?;
        let (_, text) = segments.iter().next().ok_or(NOTHING)?;
        text.parse().map(Self).map_err(|_| NOTHING)
    }
}

/// The query parameters in their order. Unknown ones are ignored.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// The parameter with this name, parsed, if it is given.
    pub(crate) fn get<T: FromStr>(
        &self,
        path: &'static str,
        says: &'static str,
    ) -> Result<Option<T>, Refusal> {
        let mut given = self.0.iter().filter(|(name, _)| name == path);
        let Some((_, text)) = given.next() else {
            return Ok(None);
        };
        if given.next().is_some() {
            return Err(Refusal::invalid(path, "given more than once"));
        }
        text.parse()
            .map(Some)
            .map_err(|_| Refusal::invalid(path, says))
    }
}

impl FromRequestParts<Arc<App>> for Parameters {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        match Query::from_request_parts(parts, app).await {
            Ok(Query(pairs)) => Ok(Self(pairs)),
            Err(_) => Err(Refusal::invalid("", "the query string cannot be read")),
        }
    }
}

/// Unique names of users.
pub(crate) const USERNAME: Rule = Rule {
    says: "2 to 32 characters of a-z, 0-9, _ and .",
    holds: |text| {
        (2..=32).contains(&text.len())
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.'))
    },
};

/// Passwords, counted in Unicode scalar values.
pub(crate) const PASSWORD: Rule = Rule {
    says: "8 to 128 characters",
    holds: |text| (8..=128).contains(&text.chars().count()),
};

/// Names of guilds: something to see, on one line.
pub(crate) const GUILD_NAME: Rule = Rule {
    says: "2 to 100 characters, no control characters, no spaces at the ends",
    holds: |text| {
        (2..=100).contains(&text.chars().count())
            && text.trim() == text
            && !text.chars().any(char::is_control)
    },
};

/// Names of channels.
pub(crate) const CHANNEL_NAME: Rule = Rule {
    says: "1 to 100 characters of a-z, 0-9 and -",
    holds: |text| {
        (1..=100).contains(&text.len())
            && text
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
    },
};

/// Types of channels.
pub(crate) const CHANNEL_TYPE: Rule = Rule {
    says: "text, voice or category",
    holds: |text| crate::lookup::channel_type(text).is_some(),
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: Rule, good: &[&str], bad: &[&str]) {
        for text in good {
            assert!((rule.holds)(text), "{text:?} is allowed: {}", rule.says);
        }
        for text in bad {
            assert!(!(rule.holds)(text), "{text:?} is refused: {}", rule.says);
        }
    }

    #[test]
    fn names_and_passwords_keep_their_rules() {
        let (long, longer) = ("a".repeat(32), "a".repeat(33));
        check(
            USERNAME,
            &["ab", "a.b_9", &long],
            &["a", &longer, "Ab", "a b", "a-b", "é9", ""],
        );
        let (long, longer) = ("ß".repeat(128), "x".repeat(129));
        check(
            PASSWORD,
            &["12345678", "pass word", &long],
            &["1234567", "ßßßß", &longer, ""],
        );
        let (long, longer) = ("ß".repeat(100), "ß".repeat(101));
        check(
            GUILD_NAME,
            &["ab", "A guild", &long],
            &["a", &longer, " ab", "ab ", "   ", "a\nb", "a\u{0}b", ""],
        );
        let (long, longer) = ("a".repeat(100), "a".repeat(101));
        check(
            CHANNEL_NAME,
            &["a", "off-topic-2", &long],
            &["", &longer, "A", "a b", "a_b", "ä"],
        );
        check(
            CHANNEL_TYPE,
            &["text", "voice", "category"],
            &["", "Text", "dm"],
        );
    }
}
