//! What a request that is not served is answered with.
//!
//! Always JSON, `{error, message, details?}`, whatever went wrong; never a framework's text, a
//! database's message or anything about things that the user may not see.
//!
//! Invariants: 429 and most 503 carry `Retry-After`; an internal error is logged, and its cause
//! stays in the log.

use std::fmt::Display;
use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// One thing that is wrong with the input.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Detail {
    /// Which field or parameter; empty for the whole.
    pub(crate) path: &'static str,
    /// What is allowed there.
    pub(crate) message: &'static str,
}

/// Why a request is not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// 400: the input breaks these rules.
    Validation(Vec<Detail>),
    /// 401: no token, or not a good one; or a wrong password.
    Unauthorized(&'static str),
    /// 403: known to the user, but not theirs to do.
    PermissionDenied(&'static str),
    /// 404: not there, or not for this user to know of.
    NotFound(&'static str),
    /// 405: the path exists, the method does not.
    MethodNotAllowed,
    /// 409: does not fit what is already there.
    Conflict(&'static str),
    /// 413: the body is larger than allowed.
    TooLarge,
    /// 415: the body is not declared as JSON.
    MediaType,
    /// 426: a WebSocket path was asked for without an upgrade.
    UpgradeRequired,
    /// 429: too often; the time until the next try can succeed.
    RateLimited(Duration),
    /// 500: our fault, in the log.
    Internal,
    /// 503: not now.
    Unavailable {
        /// Why.
        message: &'static str,
        /// Seconds until the next try makes sense.
        retry_after_s: u32,
    },
}

impl Refusal {
    /// One wrong field.
    pub(crate) fn invalid(path: &'static str, message: &'static str) -> Self {
        Self::Validation(vec![Detail { path, message }])
    }

    /// Logs what happened; the client learns only that it did.
    pub(crate) fn internal(doing: &'static str, error: &dyn Display) -> Self {
        tracing::error!(doing, %error, "request failed");
        Self::Internal
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Validation(_) => StatusCode::BAD_REQUEST,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::PermissionDenied(_) => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict(_) => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::UpgradeRequired => StatusCode::UPGRADE_REQUIRED,
            Self::RateLimited(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::Validation(_) => "VALIDATION_ERROR",
            Self::Unauthorized(_) => "UNAUTHORIZED",
            Self::PermissionDenied(_) => "PERMISSION_DENIED",
            Self::NotFound(_) => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::Conflict(_) => "CONFLICT",
            Self::TooLarge => "PAYLOAD_TOO_LARGE",
            Self::MediaType => "UNSUPPORTED_MEDIA_TYPE",
            Self::UpgradeRequired => "UPGRADE_REQUIRED",
            Self::RateLimited(_) => "RATE_LIMITED",
            Self::Internal => "INTERNAL_ERROR",
            Self::Unavailable { .. } => "UNAVAILABLE",
        }
    }

    fn message(&self) -> &'static str {
        match self {
            Self::Validation(_) => "Invalid request data",
            Self::Unauthorized(message)
            | Self::PermissionDenied(message)
            | Self::NotFound(message)
            | Self::Conflict(message)
            | Self::Unavailable { message, .. } => message,
            Self::MethodNotAllowed => "this path does not take this method",
            Self::TooLarge => "the request body is too large",
            Self::MediaType => "the request body must be declared as application/json",
            Self::UpgradeRequired => "this path speaks WebSocket only",
            Self::RateLimited(_) => "too many requests, try again later",
            Self::Internal => "An unexpected error occurred",
        }
    }

    fn header(&self) -> Option<(header::HeaderName, HeaderValue)> {
        match self {
            Self::Unauthorized(_) => {
                Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
            }
            Self::UpgradeRequired => Some((header::UPGRADE, HeaderValue::from_static("websocket"))),
            Self::RateLimited(after) => {
                let whole_s = after.as_millis().div_ceil(1000).max(1);
                let seconds = u64::try_from(whole_s).unwrap_or(u64::MAX);
                Some((header::RETRY_AFTER, seconds.into()))
            }
            Self::Unavailable { retry_after_s, .. } => {
                Some((header::RETRY_AFTER, (*retry_after_s).into()))
            }
            _ => None,
        }
    }
}

impl From<sqlx::Error> for Refusal {
    /// A database that is busy may answer later; anything else is ours to find in the log.
    fn from(error: sqlx::Error) -> Self {
        if is_busy(&error) {
            tracing::warn!(%error, "database busy");
            return Self::Unavailable {
                message: "the database is busy, try again in a moment",
                retry_after_s: 1,
            };
        }
        Self::internal("using the database", &error)
    }
}

fn is_busy(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::PoolTimedOut => true,
        // SQLITE_BUSY and SQLITE_FULL, with their extended codes above the lowest byte.
        sqlx::Error::Database(error) => error
            .code()
            .and_then(|code| code.parse::<u32>().ok())
            .is_some_and(|code| matches!(code & 0xff, 5 | 13)),
        _ => false,
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    error: &'static str,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Vec<Detail>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.status();
        let extra = self.header();
        let retry_after_ms = match &self {
            Self::RateLimited(after) => Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            _ => None,
        };
        let (error, message) = (self.code(), self.message());
        let details = match self {
            Self::Validation(details) => Some(details),
            _ => None,
        };
        let body = Json(Body {
            error,
            message,
            details,
            retry_after_ms,
        });
        let mut response = (status, body).into_response();
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_in_whole_seconds_and_never_zero() {
        for (ms, seconds) in [(0, "1"), (1, "1"), (1000, "1"), (1001, "2"), (60_000, "60")] {
            let response = Refusal::RateLimited(Duration::from_millis(ms)).into_response();
            assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
            assert_eq!(response.headers()[header::RETRY_AFTER], seconds);
        }
    }

    #[test]
    fn a_busy_database_is_not_our_fault_and_all_else_is() {
        let busy = Refusal::from(sqlx::Error::PoolTimedOut);
        assert!(matches!(busy, Refusal::Unavailable { .. }));
        assert_eq!(Refusal::from(sqlx::Error::RowNotFound), Refusal::Internal);
    }
}
