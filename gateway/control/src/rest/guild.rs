//! `/api/guilds` and `/api/invites`: guilds, their channels, and how one gets in.
//!
//! A guild that one is no member of does not exist (404); what is the owner's alone is forbidden to
//! members (403).
//!
//! Invariants: after a 2xx every shard knows that a membership or a channel has changed; a 503
//! after a change says that it was made.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, BytesMut};
use serde_json::json;
use throng_protocol::{ChannelType, GuildId};

use super::caller::Caller;
use super::input::{Body, CHANNEL_NAME, CHANNEL_TYPE, GUILD_NAME, Segment};
use super::{json as encoded, to_the_end};
use crate::app::App;
use crate::entropy::{new_id, unix_ms};
use crate::guilds::{self, NO_SUCH_GUILD, NewChannel};
use crate::lookup::channel_type;
use crate::refusal::Refusal;
use crate::shards::{Invalidation, NoAnswer};

/// `GET /api/guilds`
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
) -> Result<Response, Refusal> {
    let fragments = app.directory.fragments(&identity.guilds).await?;
    let own = identity
        .guilds
        .iter()
        .filter_map(|guild| fragments.get(guild));
    let mut body = BytesMut::from(r#"{"guilds":["#);
    for (index, fragment) in own.enumerate() {
        if index > 0 {
            body.put_u8(b',');
        }
        body.put_slice(&fragment.json);
    }
    body.put_slice(b"]}");
    Ok(encoded(body))
}

/// `POST /api/guilds`
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    mut body: Body,
) -> Result<Response, Refusal> {
    let name = body.text("name", GUILD_NAME);
    body.finish()?;
    let owner = identity.user.id;
    let guild = GuildId::from_bytes(new_id(unix_ms()));
    let made = Arc::clone(&app);
    to_the_end(async move {
        let _change = made.directory.change(guild, Some(owner));
        guilds::create(&made.database, &made.config.limits, guild, owner, &name).await
    })
    .await?;
    Ok((StatusCode::CREATED, shown(&app, guild).await?).into_response())
}

/// `POST /api/guilds/{id}/channels`
pub(crate) async fn create_channel(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    Segment(guild): Segment<GuildId>,
    mut body: Body,
) -> Result<Response, Refusal> {
    let name = body.text("name", CHANNEL_NAME);
    let kind = body.text("type", CHANNEL_TYPE);
    let parent = body.optional("parentId", "the id of a category of this guild");
    body.finish()?;
    let kind = channel_type(&kind).unwrap_or(ChannelType::Text);
    let caller = identity.user.id;
    app.rates.channel_create(caller)?;
    let channel = to_the_end(async move {
        let change = app.directory.change(guild, None);
        let new = NewChannel { name, kind, parent };
        let (channel, version) =
            guilds::create_channel(&app.database, &app.config.limits, guild, caller, new).await?;
        drop(change);
        let what = Invalidation {
            guild,
            version,
            user: None,
            channel: Some(channel.id),
        };
        tell_shards(
            &app,
            what,
            "the channel was created, but not all shards know of it yet",
        )
        .await?;
        Ok(channel)
    })
    .await?;
    Ok((StatusCode::CREATED, Json(json!({ "channel": channel }))).into_response())
}

/// `POST /api/guilds/{id}/invites`
pub(crate) async fn create_invite(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    Segment(guild): Segment<GuildId>,
) -> Result<Response, Refusal> {
    let code = guilds::create_invite(&app.database, guild, identity.user.id).await?;
    let invite = json!({ "invite": { "code": code } });
    Ok((StatusCode::CREATED, Json(invite)).into_response())
}

/// `POST /api/invites/{code}`
pub(crate) async fn join(
    State(app): State<Arc<App>>,
    Caller(identity): Caller,
    Segment(code): Segment<String>,
) -> Result<Response, Refusal> {
    let user = identity.user.id;
    let guild = guilds::invited_to(&app.database, &code).await?;
    let joining = Arc::clone(&app);
    to_the_end(async move {
        let change = joining.directory.change(guild, Some(user));
        let limits = &joining.config.limits;
        let version = guilds::join(&joining.database, limits, guild, user).await?;
        drop(change);
        // Also for who was a member already: they may ask again because the first request could
        // not tell all shards.
        let what = Invalidation {
            guild,
            version,
            user: Some(user),
            channel: None,
        };
        tell_shards(
            &joining,
            what,
            "you have joined, but not all shards know of it yet: try again",
        )
        .await
    })
    .await?;
    shown(&app, guild).await
}

async fn tell_shards(
    app: &App,
    what: Invalidation,
    otherwise: &'static str,
) -> Result<(), Refusal> {
    app.shards.invalidate(what).await.map_err(|NoAnswer| {
        tracing::error!(guild = %what.guild, version = what.version, "shards did not acknowledge");
        Refusal::Unavailable {
            message: otherwise,
            retry_after_s: 1,
        }
    })
}

/// `{"guild": ...}`
async fn shown(app: &App, guild: GuildId) -> Result<Response, Refusal> {
    let fragments = app.directory.fragments(&[guild]).await?;
    let fragment = fragments.get(&guild).ok_or(NO_SUCH_GUILD)?;
    let mut body = BytesMut::from(r#"{"guild":"#);
    body.put_slice(&fragment.json);
    body.put_u8(b'}');
    Ok(encoded(body))
}
