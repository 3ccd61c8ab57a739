//! `/api/auth` and `/api/users`: registering, logging in, and who one is.
//!
//! Never says whether a name exists when a log-in fails, neither in words nor in time.
//!
//! Invariants: a password is hashed only for a request within its address's rate.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::Peer;
use super::caller::Caller;
use super::input::{Body, PASSWORD, USERNAME};
use crate::accounts;
use crate::app::App;
use crate::lookup::Identity;
use crate::refusal::Refusal;

const TAKEN: Refusal = Refusal::Conflict("this username is taken");
const NO_ENTRY: Refusal = Refusal::Unauthorized("unknown username or wrong password");

/// `POST /api/auth/register`
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    mut body: Body,
) -> Result<Response, Refusal> {
    let username = body.text("username", USERNAME);
    let password = body.text("password", PASSWORD);
    body.finish()?;
    app.rates.register(peer.0)?;
    if accounts::credentials(&app.database.readers, &username)
        .await?
        .is_some()
    {
        return Err(TAKEN);
    }
    let hash = app.passwords.hash(password).await?;
    let user = accounts::create(&app.database, username, &hash)
        .await?
        .ok_or(TAKEN)?;
    let token = app
        .tokens
        .sign(user.id)
        .map_err(|e| Refusal::internal("signing", &e))?;
    Ok((
        StatusCode::CREATED,
        Json(json!({ "user": user, "token": token })),
    )
        .into_response())
}

/// `POST /api/auth/login`
pub(crate) async fn login(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    mut body: Body,
) -> Result<Response, Refusal> {
    let username = body.text("username", USERNAME);
    let password = body.text("password", PASSWORD);
    body.finish()?;
    app.rates.login(peer.0)?;
    let Some(identity) = entitled(&app, &username, password).await? else {
        app.rates.login_failed(peer.0)?;
        return Err(NO_ENTRY);
    };
    let user = &identity.user;
    let token = app
        .tokens
        .sign(user.id)
        .map_err(|e| Refusal::internal("signing", &e))?;
    Ok(Json(json!({ "user": user, "token": token })).into_response())
}

async fn entitled(
    app: &App,
    username: &str,
    password: String,
) -> Result<Option<Arc<Identity>>, Refusal> {
    let found = accounts::credentials(&app.database.readers, username).await?;
    let (user, hash) = match found {
        Some(found) => (Some(found.user), found.password_hash),
        None => (None, None),
    };
    let verified = app.passwords.verify(password, hash).await?;
    match user.filter(|_| verified) {
        Some(user) => Ok(app.directory.identity(user).await?),
        None => Ok(None),
    }
}

/// `GET /api/users/@me`
pub(crate) async fn me(Caller(identity): Caller) -> Response {
    Json(json!({ "user": identity.user })).into_response()
}
