//! Changes of guilds, their channels, invites and members.
//!
//! Tells nobody about a change: who calls this forgets what is remembered and tells the shards.
//!
//! Invariants: each change is one transaction that raises the guild's version, so that a version
//! names one state (a repeated join changes nothing); what a user may do is decided inside the
//! transaction that does it; a refusal leaves nothing behind.

use sqlx::{Sqlite, Transaction};
use throng_protocol::{Channel, ChannelId, ChannelType, GuildId, UserId};

use crate::config::ControlLimits;
use crate::database::{Database, id16};
use crate::entropy::{new_id, new_invite_code, unix_ms};
use crate::lookup::channel_type;
use crate::refusal::Refusal;

/// To who is no member there is no such guild.
pub(crate) const NO_SUCH_GUILD: Refusal =
    Refusal::NotFound("no such guild, or you are not a member of it");
const TOO_MANY_GUILDS: Refusal = Refusal::Conflict("you are in as many guilds as a user may be");
const NO_SUCH_INVITE: Refusal = Refusal::NotFound("no such invite");

/// What a new channel shall be.
pub(crate) struct NewChannel {
    pub(crate) name: String,
    pub(crate) kind: ChannelType,
    pub(crate) parent: Option<ChannelId>,
}

/// Makes a guild with one member, its owner, and one text channel, `general`.
pub(crate) async fn create(
    database: &Database,
    limits: &ControlLimits,
    id: GuildId,
    owner: UserId,
    name: &str,
) -> Result<(), Refusal> {
    let now_ms = unix_ms();
    let mut write = database.write().await?;
    refuse_too_many_guilds(&mut write, limits, owner).await?;
    sqlx::query(
        "INSERT INTO guilds (id, name, owner_id, version, member_count, created_ms)
         VALUES (?, ?, ?, 1, 1, ?)",
    )
    .bind(id.as_bytes().as_slice())
    .bind(name)
    .bind(owner.as_bytes().as_slice())
    .bind(now_ms.cast_signed())
    .execute(&mut *write)
    .await?;
    insert_member(&mut write, id, owner, now_ms).await?;
    let general = Channel {
        id: ChannelId::from_bytes(new_id(now_ms)),
        guild_id: id,
        name: "general".to_owned(),
        kind: ChannelType::Text,
        position: 0,
        parent_id: None,
    };
    insert_channel(&mut write, &general, now_ms).await?;
    write.commit().await?;
    Ok(())
}

/// Adds a channel below the others; says the guild's new version.
pub(crate) async fn create_channel(
    database: &Database,
    limits: &ControlLimits,
    guild: GuildId,
    caller: UserId,
    new: NewChannel,
) -> Result<(Channel, u64), Refusal> {
    let now_ms = unix_ms();
    let mut write = database.write().await?;
    if owner_if_member(&mut write, guild, caller).await? != caller {
        return Err(Refusal::PermissionDenied(
            "only the guild's owner may create channels",
        ));
    }
    if let Some(parent) = new.parent {
        refuse_bad_parent(&mut write, guild, parent, new.kind).await?;
    }
    let (count, next): (i64, i64) = sqlx::query_as(
        "SELECT count(*), coalesce(max(position) + 1, 0) FROM channels WHERE guild_id = ?",
    )
    .bind(guild.as_bytes().as_slice())
    .fetch_one(&mut *write)
    .await?;
    if limits.channels_per_guild > 0 && count >= i64::from(limits.channels_per_guild) {
        return Err(Refusal::Conflict(
            "the guild has as many channels as a guild may have",
        ));
    }
    let channel = Channel {
        id: ChannelId::from_bytes(new_id(now_ms)),
        guild_id: guild,
        name: new.name,
        kind: new.kind,
        position: u32::try_from(next)
            .map_err(|error| Refusal::internal("placing a channel", &error))?,
        parent_id: new.parent,
    };
    insert_channel(&mut write, &channel, now_ms).await?;
    let version = raise_version(&mut write, guild, 0).await?;
    write.commit().await?;
    Ok((channel, version))
}

/// Makes an invite, for any member; says its code.
pub(crate) async fn create_invite(
    database: &Database,
    guild: GuildId,
    caller: UserId,
) -> Result<String, Refusal> {
    let code = new_invite_code();
    let mut write = database.write().await?;
    owner_if_member(&mut write, guild, caller).await?;
    sqlx::query("INSERT INTO invites (code, guild_id, creator_id, created_ms) VALUES (?, ?, ?, ?)")
        .bind(&code)
        .bind(guild.as_bytes().as_slice())
        .bind(caller.as_bytes().as_slice())
        .bind(unix_ms().cast_signed())
        .execute(&mut *write)
        .await?;
    write.commit().await?;
    Ok(code)
}

/// The guild that an invite leads to.
pub(crate) async fn invited_to(database: &Database, code: &str) -> Result<GuildId, Refusal> {
    let guild: Option<Vec<u8>> = sqlx::query_scalar("SELECT guild_id FROM invites WHERE code = ?")
        .bind(code)
        .fetch_optional(&database.readers)
        .await?;
    Ok(GuildId::from_bytes(id16(&guild.ok_or(NO_SUCH_INVITE)?)?))
}

/// Makes the user a member, if they are none yet; says the guild's version after it.
pub(crate) async fn join(
    database: &Database,
    limits: &ControlLimits,
    guild: GuildId,
    user: UserId,
) -> Result<u64, Refusal> {
    let mut write = database.write().await?;
    let member: Option<i64> =
        sqlx::query_scalar("SELECT 1 FROM members WHERE user_id = ? AND guild_id = ?")
            .bind(user.as_bytes().as_slice())
            .bind(guild.as_bytes().as_slice())
            .fetch_optional(&mut *write)
            .await?;
    let version = if member.is_none() {
        refuse_too_many_guilds(&mut write, limits, user).await?;
        insert_member(&mut write, guild, user, unix_ms()).await?;
        raise_version(&mut write, guild, 1).await?
    } else {
        version_of(&mut write, guild).await?
    };
    write.commit().await?;
    Ok(version)
}

/// The guild's owner; refused when the caller is no member, or there is no such guild.
async fn owner_if_member(
    write: &mut Transaction<'static, Sqlite>,
    guild: GuildId,
    caller: UserId,
) -> Result<UserId, Refusal> {
    let owner: Option<Vec<u8>> = sqlx::query_scalar(
        "SELECT g.owner_id FROM guilds g JOIN members m ON m.guild_id = g.id
         WHERE g.id = ? AND m.user_id = ?",
    )
    .bind(guild.as_bytes().as_slice())
    .bind(caller.as_bytes().as_slice())
    .fetch_optional(&mut **write)
    .await?;
    let owner = owner.ok_or(NO_SUCH_GUILD)?;
    Ok(UserId::from_bytes(id16(&owner)?))
}

async fn refuse_too_many_guilds(
    write: &mut Transaction<'static, Sqlite>,
    limits: &ControlLimits,
    user: UserId,
) -> Result<(), Refusal> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM members WHERE user_id = ?")
        .bind(user.as_bytes().as_slice())
        .fetch_one(&mut **write)
        .await?;
    if limits.guilds_per_user > 0 && count >= i64::from(limits.guilds_per_user) {
        return Err(TOO_MANY_GUILDS);
    }
    Ok(())
}

async fn refuse_bad_parent(
    write: &mut Transaction<'static, Sqlite>,
    guild: GuildId,
    parent: ChannelId,
    child: ChannelType,
) -> Result<(), Refusal> {
    if child == ChannelType::Category {
        return Err(Refusal::invalid("parentId", "a category has no parent"));
    }
    let kind: Option<String> =
        sqlx::query_scalar("SELECT type FROM channels WHERE id = ? AND guild_id = ?")
            .bind(parent.as_bytes().as_slice())
            .bind(guild.as_bytes().as_slice())
            .fetch_optional(&mut **write)
            .await?;
    match kind.as_deref().and_then(channel_type) {
        Some(ChannelType::Category) => Ok(()),
        _ => Err(Refusal::invalid(
            "parentId",
            "the id of a category of this guild",
        )),
    }
}

async fn insert_member(
    write: &mut Transaction<'static, Sqlite>,
    guild: GuildId,
    user: UserId,
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO members (user_id, guild_id, joined_ms) VALUES (?, ?, ?)")
        .bind(user.as_bytes().as_slice())
        .bind(guild.as_bytes().as_slice())
        .bind(now_ms.cast_signed())
        .execute(&mut **write)
        .await
        .map(|_| ())
}

async fn insert_channel(
    write: &mut Transaction<'static, Sqlite>,
    channel: &Channel,
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO channels (id, guild_id, name, type, position, parent_id, created_ms)
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(channel.id.as_bytes().as_slice())
    .bind(channel.guild_id.as_bytes().as_slice())
    .bind(&channel.name)
    .bind(channel_type_name(channel.kind))
    .bind(channel.position)
    .bind(
        channel
            .parent_id
            .as_ref()
            .map(|id| id.as_bytes().as_slice()),
    )
    .bind(now_ms.cast_signed())
    .execute(&mut **write)
    .await
    .map(|_| ())
}

async fn raise_version(
    write: &mut Transaction<'static, Sqlite>,
    guild: GuildId,
    new_members: u32,
) -> Result<u64, Refusal> {
    let version: i64 = sqlx::query_scalar(
        "UPDATE guilds SET version = version + 1, member_count = member_count + ?
         WHERE id = ? RETURNING version",
    )
    .bind(new_members)
    .bind(guild.as_bytes().as_slice())
    .fetch_one(&mut **write)
    .await?;
    u64::try_from(version).map_err(|error| Refusal::internal("reading a version", &error))
}

async fn version_of(
    write: &mut Transaction<'static, Sqlite>,
    guild: GuildId,
) -> Result<u64, Refusal> {
    let version: i64 = sqlx::query_scalar("SELECT version FROM guilds WHERE id = ?")
        .bind(guild.as_bytes().as_slice())
        .fetch_one(&mut **write)
        .await?;
    u64::try_from(version).map_err(|error| Refusal::internal("reading a version", &error))
}

const fn channel_type_name(kind: ChannelType) -> &'static str {
    match kind {
        ChannelType::Text => "text",
        ChannelType::Voice => "voice",
        ChannelType::Category => "category",
    }
}
