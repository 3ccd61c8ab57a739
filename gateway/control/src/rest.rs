//! The paths that ordinary HTTP requests may take.
//!
//! Each handler reads its input, asks `accounts`, `guilds`, `directory` or `shards`, and shapes the
//! answer; no rule is decided in a route. Nothing here speaks WebSocket.
//!
//! Invariants: every answer below `/api` is JSON, whatever goes wrong; who is no member of a guild
//! gets the same 404 as for a guild that does not exist.

mod account;
mod caller;
mod guild;
mod health;
mod history;
mod input;

use std::net::IpAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get, post};
use bytes::Bytes;

use crate::app::App;
use crate::refusal::Refusal;

/// Who sent a request: put into its extensions by the connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) IpAddr);

/// All routes.
pub(crate) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route(
            "/",
            get(|| async { Html(include_str!("rest/welcome.html")) }),
        )
        .route("/health", get(health::show))
        .route("/gateway", any(|| async { Refusal::UpgradeRequired }))
        .route("/api/auth/register", post(account::register))
        .route("/api/auth/login", post(account::login))
        .route("/api/users/@me", get(account::me))
        .route("/api/guilds", get(guild::list).post(guild::create))
        .route("/api/guilds/{id}/channels", post(guild::create_channel))
        .route("/api/guilds/{id}/invites", post(guild::create_invite))
        .route("/api/invites/{code}", post(guild::join))
        .route("/api/channels/{id}/messages", get(history::list))
        .fallback(|| async { Refusal::NotFound("there is nothing at this path") })
        .method_not_allowed_fallback(|| async { Refusal::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(app.config.body_bytes_max))
        .layer(axum::middleware::map_response(guarded))
        .with_state(app)
}

/// Answers belong to one user and are what they are declared to be.
async fn guarded(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// JSON that is encoded already.
fn json(bytes: impl Into<Bytes>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], bytes.into()).into_response()
}

/// Carries a change through even when the client goes away half-way: once it is committed,
/// the shards must hear of it.
async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::spawn(change).await {
        Ok(result) => result,
        Err(error) => Err(Refusal::internal("making a change", &error)),
    }
}
