//! Calls of the server's public API, as any client makes them.
//!
//! It never uses a special path and never ignores a limit: 429 and 503 are waited for as the
//! server asks, and whoever waits long is told which limit to raise.
//!
//! Invariants: a call is repeated only when the server said that nothing was done; the waits of
//! one call together are bounded.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::target::Target;

/// The longest that one call waits for the server's limits, all together.
pub const WAIT_MAX: Duration = Duration::from_secs(300);

const CALL_TIME_MAX: Duration = Duration::from_secs(30);
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Why a call gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum RestError {
    /// No answer.
    #[error("{call} at {base}: {source}")]
    Unreachable {
        /// Which server.
        base: String,
        /// Which call.
        call: Call,
        /// What went wrong.
        source: Box<ureq::Error>,
    },
    /// The server said no.
    #[error("{call}: the server answered {status} {code}: {message}")]
    Refused {
        /// Which call.
        call: Call,
        /// The HTTP status.
        status: u16,
        /// The server's error code.
        code: String,
        /// The server's words.
        message: String,
    },
    /// A limit of the server would have to be waited for too long.
    #[error("{call}: still refused with {status} after waiting {} s{}", WAIT_MAX.as_secs(), call.remedy())]
    GaveUp {
        /// Which call.
        call: Call,
        /// The last HTTP status.
        status: u16,
    },
    /// The answer is not what the API promises.
    #[error("{call}: the answer cannot be read: {source}")]
    BadAnswer {
        /// Which call.
        call: Call,
        /// What the parser says.
        source: Box<ureq::Error>,
    },
}

impl RestError {
    /// What went wrong, without what was asked for: few kinds, however many calls fail.
    #[must_use]
    pub fn kind(&self) -> String {
        match self {
            Self::Unreachable { .. } => "no answer".to_owned(),
            Self::Refused { status, code, .. } => format!("{status} {code}"),
            Self::GaveUp { status, .. } => status.to_string(),
            Self::BadAnswer { .. } => "an answer that cannot be read".to_owned(),
        }
    }
}

/// Method and path of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Call {
    method: &'static str,
    path: String,
}

impl Call {
    /// Reads something.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self {
            method: "GET",
            path: path.into(),
        }
    }

    /// Makes something.
    #[must_use]
    pub fn post(path: impl Into<String>) -> Self {
        Self {
            method: "POST",
            path: path.into(),
        }
    }

    /// Which setting of the server stands in the way of many such calls.
    fn limit(&self) -> Option<&'static str> {
        if self.path.ends_with("/register") {
            Some("[limits.register] count = 0 (or use `throng admin seed-users` and --tokens)")
        } else if self.path.ends_with("/channels") {
            Some("[limits.channel_create] count = 0")
        } else {
            None
        }
    }

    fn remedy(&self) -> String {
        self.limit().map_or_else(String::new, |limit| {
            format!("; raise it in the server's TOML: {limit}")
        })
    }
}

impl fmt::Display for Call {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.method, self.path)
    }
}

/// The API's error body.
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    error: String,
    #[serde(default)]
    message: String,
}

/// A client of the API; may be used by several threads at once.
#[derive(Debug)]
pub struct Rest {
    agent: ureq::Agent,
    base: String,
    has_warned: AtomicBool,
}

impl Rest {
    /// A client for this server. Nothing is opened yet.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(CALL_TIME_MAX))
            .build();
        Self {
            agent: config.into(),
            base: format!("http://{}", target.authority),
            has_warned: AtomicBool::new(false),
        }
    }

    /// Reads something once: a refusal is an answer, whatever the server says about coming back.
    ///
    /// # Errors
    /// When there is no answer, or a refusal.
    pub fn read_once<T: DeserializeOwned>(&self, call: Call, token: &str) -> Result<T, RestError> {
        let answer = self.once(&call, Some(token), None);
        let mut answer = answer.map_err(|source| RestError::Unreachable {
            base: self.base.clone(),
            call: call.clone(),
            source: Box::new(source),
        })?;
        let status = answer.status().as_u16();
        if !(200..300).contains(&status) {
            let Refusal {
                error: code,
                message,
            } = answer.body_mut().read_json().unwrap_or_default();
            return Err(RestError::Refused {
                call,
                status,
                code,
                message,
            });
        }
        let body = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        body.read_json().map_err(|source| RestError::BadAnswer {
            call,
            source: Box::new(source),
        })
    }

    /// Makes a call, with a bearer token and a JSON body if given, and reads its answer.
    ///
    /// # Errors
    /// When there is no answer, or a refusal that waiting does not help, or only for too long.
    pub fn call<T: DeserializeOwned>(
        &self,
        call: Call,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<T, RestError> {
        let mut waited = Duration::ZERO;
        loop {
            let mut answer =
                self.once(&call, token, body)
                    .map_err(|source| RestError::Unreachable {
                        base: self.base.clone(),
                        call: call.clone(),
                        source: Box::new(source),
                    })?;
            let status = answer.status().as_u16();
            if (200..300).contains(&status) {
                return answer
                    .body_mut()
                    .with_config()
                    .limit(ANSWER_BYTES_MAX)
                    .read_json()
                    .map_err(|source| RestError::BadAnswer {
                        call,
                        source: Box::new(source),
                    });
            }
            if status != 429 && status != 503 {
                let refusal: Refusal = answer.body_mut().read_json().unwrap_or_default();
                let Refusal {
                    error: code,
                    message,
                } = refusal;
                return Err(RestError::Refused {
                    call,
                    status,
                    code,
                    message,
                });
            }
            let pause = retry_after(&answer);
            waited += pause;
            if waited > WAIT_MAX {
                return Err(RestError::GaveUp { call, status });
            }
            self.warn_once(&call, status, pause);
            pause_for(pause);
        }
    }

    fn once(
        &self,
        call: &Call,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<ureq::http::Response<ureq::Body>, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(call.method)
            .uri(format!("{}{}", self.base, call.path));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        match body {
            Some(body) => {
                let request = request.header("content-type", "application/json");
                self.agent.run(request.body(body.to_string())?)
            }
            None if call.method == "POST" => self.agent.run(request.body(String::new())?),
            None => self.agent.run(request.body(())?),
        }
    }

    fn warn_once(&self, call: &Call, status: u16, pause: Duration) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            let remedy = call.remedy();
            eprintln!(
                "{call}: {status}, waiting {} s as the server asks{remedy}",
                pause.as_secs()
            );
        }
    }
}

fn retry_after(answer: &ureq::http::Response<ureq::Body>) -> Duration {
    answer
        .headers()
        .get("retry-after")
        .and_then(|value| value.to_str().ok()?.trim().parse().ok())
        .map_or(RETRY_AFTER_DEFAULT, |seconds: u64| {
            Duration::from_secs(seconds.clamp(1, 60))
        })
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is an edge: it waits as the server asks"
)]
fn pause_for(pause: Duration) {
    std::thread::sleep(pause);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_named() {
        assert!(
            Call::post("/api/auth/register")
                .remedy()
                .contains("[limits.register]")
        );
        assert!(
            Call::post("/api/guilds/x/channels")
                .remedy()
                .contains("channel_create")
        );
        assert_eq!(Call::get("/api/guilds").remedy(), "");
        let call = Call::post("/api/auth/register");
        let error = RestError::GaveUp { call, status: 429 }.to_string();
        assert!(
            error.contains("429") && error.contains("limits.register"),
            "{error}"
        );
    }
}
