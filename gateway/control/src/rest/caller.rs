//! Who makes a request, by its bearer token (RFC 6750, section 2.1).
//!
//! Takes no token from a query string or a cookie, and says no more than that a token is no good.
//!
//! Invariants: a handler that takes a [`Caller`] runs only for an existing account.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;

use crate::app::App;
use crate::lookup::Identity;
use crate::refusal::Refusal;

/// The account that a request's token belongs to.
pub(crate) struct Caller(pub(crate) Arc<Identity>);

impl FromRequestParts<Arc<App>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Refusal> {
        let token = bearer(parts).ok_or(Refusal::Unauthorized("a bearer token is needed"))?;
        let user = app.tokens.verify(token);
        let identity = match user {
            Some(user) => app.directory.identity(user).await?,
            None => None,
        };
        identity.map(Self).ok_or(Refusal::Unauthorized(
            "the token is not, or no longer, good: log in again",
        ))
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}
