//! What the database says about users, guilds, channels and who may see what.
//!
//! Only reads, and remembers nothing: that is `directory.rs`. Each function answers for many keys
//! with a fixed number of statements.
//!
//! Invariants: one answer is one snapshot of the database: a guild's version never belongs to
//! other channels or members than those beside it. What does not exist is absent.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::SqlitePool;
use throng_protocol::{Channel, ChannelId, ChannelType, Guild, GuildId, User, UserId, UserStatus};

use crate::ask::{Access, GuildFragment};
use crate::database::{id16, json_ids};

/// An account and where it belongs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Identity {
    /// The account; `status` is offline, since presence is not known here.
    pub(crate) user: User,
    /// Its guilds, oldest membership first.
    pub(crate) guilds: Vec<GuildId>,
}

impl Identity {
    /// Bytes that it takes behind an `Arc`, nearly.
    pub(crate) fn heap_bytes(&self) -> usize {
        let User {
            username,
            discriminator,
            avatar_url,
            custom_status,
            ..
        } = &self.user;
        let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts = username.len() + discriminator.len();
        let texts = texts + optional(avatar_url) + optional(custom_status);
        size_of::<Self>() + texts + self.guilds.len() * size_of::<GuildId>() + BLOCKS_BYTES
    }
}

/// What the allocator takes beside the contents of an identity's or a guild's few blocks.
const BLOCKS_BYTES: usize = 64;

impl GuildFragment {
    /// Bytes that it takes behind an `Arc`, nearly.
    pub(crate) fn heap_bytes(&self) -> usize {
        let channels = self.channels.len() * size_of::<ChannelId>();
        size_of::<Self>() + self.json.len() + channels + BLOCKS_BYTES
    }
}

/// The answer to "may this user use this channel?".
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    /// The channel's guild and the guild's version; none when there is no such channel.
    pub(crate) guild: Option<(GuildId, u64)>,
    /// The answer.
    pub(crate) access: Access,
}

type UserRow = (Vec<u8>, String, String, Option<String>, Option<String>);

/// These users' identities.
pub(crate) async fn identities(
    readers: &SqlitePool,
    users: &[UserId],
) -> Result<Vec<Identity>, sqlx::Error> {
    let keys = json_ids(users.iter().map(UserId::as_u128));
    let mut snapshot = readers.begin().await?;
    let rows: Vec<UserRow> = sqlx::query_as(
        "SELECT id, username, discriminator, avatar_url, custom_status FROM users
         WHERE id IN (SELECT unhex(value) FROM json_each(?))",
    )
    .bind(&keys)
    .fetch_all(&mut *snapshot)
    .await?;
    let memberships: Vec<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
        "SELECT user_id, guild_id FROM members
         WHERE user_id IN (SELECT unhex(value) FROM json_each(?)) ORDER BY joined_ms, guild_id",
    )
    .bind(&keys)
    .fetch_all(&mut *snapshot)
    .await?;
    drop(snapshot);

    let mut guilds: HashMap<[u8; 16], Vec<GuildId>> = HashMap::new();
    for (user, guild) in &memberships {
        guilds
            .entry(id16(user)?)
            .or_default()
            .push(GuildId::from_bytes(id16(guild)?));
    }
    rows.into_iter()
        .map(|(id, username, discriminator, avatar_url, custom_status)| {
            let id = id16(&id)?;
            let user = User {
                id: UserId::from_bytes(id),
                username,
                discriminator,
                avatar_url,
                status: UserStatus::Offline,
                custom_status,
            };
            Ok(Identity {
                user,
                guilds: guilds.remove(&id).unwrap_or_default(),
            })
        })
        .collect()
}

type GuildRow = (Vec<u8>, String, Option<String>, Vec<u8>, i64, i64);
type ChannelRow = (Vec<u8>, Vec<u8>, String, String, i64, Option<Vec<u8>>);

/// These guilds as they are shown to members.
pub(crate) async fn fragments(
    readers: &SqlitePool,
    guilds: &[GuildId],
) -> Result<Vec<GuildFragment>, sqlx::Error> {
    let keys = json_ids(guilds.iter().map(GuildId::as_u128));
    let mut snapshot = readers.begin().await?;
    let rows: Vec<GuildRow> = sqlx::query_as(
        "SELECT id, name, icon_url, owner_id, version, member_count FROM guilds
         WHERE id IN (SELECT unhex(value) FROM json_each(?))",
    )
    .bind(&keys)
    .fetch_all(&mut *snapshot)
    .await?;
    let channel_rows: Vec<ChannelRow> = sqlx::query_as(
        "SELECT guild_id, id, name, type, position, parent_id FROM channels
         WHERE guild_id IN (SELECT unhex(value) FROM json_each(?)) ORDER BY guild_id, position",
    )
    .bind(&keys)
    .fetch_all(&mut *snapshot)
    .await?;
    drop(snapshot);

    let mut channels: HashMap<GuildId, Vec<Channel>> = HashMap::new();
    for row in channel_rows {
        let channel = channel(row)?;
        channels.entry(channel.guild_id).or_default().push(channel);
    }
    rows.into_iter()
        .map(|row| {
            let id = GuildId::from_bytes(id16(&row.0)?);
            fragment(row, channels.remove(&id).unwrap_or_default())
        })
        .collect()
}

fn fragment(row: GuildRow, channels: Vec<Channel>) -> Result<GuildFragment, sqlx::Error> {
    let (id, name, icon_url, owner, version, members) = row;
    let ids = channels.iter().map(|channel| channel.id).collect();
    let guild = Guild {
        id: GuildId::from_bytes(id16(&id)?),
        name,
        icon_url,
        owner_id: UserId::from_bytes(id16(&owner)?),
        channels,
        member_count: count(members)?,
    };
    let json = serde_json::to_vec(&guild).expect("a guild has string keys only");
    Ok(GuildFragment {
        id: guild.id,
        version: count(version)?,
        json: Bytes::from(json),
        channels: ids,
    })
}

fn channel(row: ChannelRow) -> Result<Channel, sqlx::Error> {
    let (guild, id, name, kind, position, parent) = row;
    Ok(Channel {
        id: ChannelId::from_bytes(id16(&id)?),
        guild_id: GuildId::from_bytes(id16(&guild)?),
        name,
        kind: channel_type(&kind).ok_or_else(|| sqlx::Error::Decode("channel type".into()))?,
        position: u32::try_from(position).map_err(|e| sqlx::Error::Decode(Box::new(e)))?,
        parent_id: parent
            .map(|id| id16(&id).map(ChannelId::from_bytes))
            .transpose()?,
    })
}

/// The type with this name.
pub(crate) fn channel_type(name: &str) -> Option<ChannelType> {
    match name {
        "text" => Some(ChannelType::Text),
        "voice" => Some(ChannelType::Voice),
        "category" => Some(ChannelType::Category),
        _ => None,
    }
}

type GrantRow = (Option<Vec<u8>>, Option<i64>, bool);

/// For each pair, in order, what the user is to the channel.
pub(crate) async fn grants(
    readers: &SqlitePool,
    pairs: &[(UserId, ChannelId)],
) -> Result<Vec<Grant>, sqlx::Error> {
    let rows: Vec<GrantRow> = sqlx::query_as(
        "SELECT c.guild_id, g.version, m.user_id IS NOT NULL
         FROM json_each(?) pair
         LEFT JOIN channels c ON c.id = unhex(pair.value ->> 1)
         LEFT JOIN guilds g ON g.id = c.guild_id
         LEFT JOIN members m ON m.user_id = unhex(pair.value ->> 0) AND m.guild_id = c.guild_id
         ORDER BY pair.key",
    )
    .bind(json_pairs(pairs))
    .fetch_all(readers)
    .await?;
    assert_eq!(rows.len(), pairs.len(), "one row per pair");
    rows.into_iter()
        .map(|(guild, version, member)| match (guild, version) {
            (Some(guild), Some(version)) => Ok(Grant {
                guild: Some((GuildId::from_bytes(id16(&guild)?), count(version)?)),
                access: if member {
                    Access::Member
                } else {
                    Access::NotMember
                },
            }),
            _ => Ok(Grant {
                guild: None,
                access: Access::NoSuchChannel,
            }),
        })
        .collect()
}

fn json_pairs(pairs: &[(UserId, ChannelId)]) -> String {
    let each = pairs
        .iter()
        .map(|(user, channel)| json_ids([user.as_u128(), channel.as_u128()]));
    format!("[{}]", each.collect::<Vec<_>>().join(","))
}

fn count(column: i64) -> Result<u64, sqlx::Error> {
    u64::try_from(column).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
