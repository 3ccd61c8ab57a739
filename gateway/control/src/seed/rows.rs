//! The rows of seeded accounts and their groups: one statement a table and chunk.
//!
//! It decides nothing about who is in which group and signs no token.
//!
//! Invariants: ids ascend within a chunk, as new ids do, so that an index grows at its end; a
//! guild's member count changes with its members.

use sqlx::{Sqlite, Transaction};
use throng_protocol::{GuildId, UserId};

use super::CIRCLE_CHANNELS;
use crate::database::id16;
use crate::entropy::{new_discriminator, new_id, unix_ms};

/// 128 MiB of pages stay in memory: the growing ends of all tables and indexes fit.
const LARGE_CACHE: &str = "PRAGMA cache_size = -131072";

/// Accounts that are made together.
pub(super) struct Chunk {
    now_ms: u64,
    run: u64,
    first: u64,
    users: Vec<UserId>,
    /// `[[id, name, discriminator], ...]`: one bound value.
    rows: String,
}

impl Chunk {
    /// `count` new accounts, numbered from `first`.
    pub(super) fn new(now_ms: u64, run: u64, first: u64, count: u64) -> Self {
        let mut users: Vec<UserId> = (0..count)
            .map(|_| UserId::from_bytes(new_id(now_ms)))
            .collect();
        users.sort_unstable();
        let row = |(user, number): (&UserId, u64)| {
            let id = user.as_u128();
            let discriminator = new_discriminator();
            format!(r#"["{id:032x}","seed_{run:06x}_{number}","{discriminator}"]"#)
        };
        let rows: Vec<String> = users.iter().zip(first..).map(row).collect();
        let rows = format!("[{}]", rows.join(","));
        Self {
            now_ms,
            run,
            first,
            users,
            rows,
        }
    }

    /// The accounts, in their order.
    pub(super) fn users(&self) -> &[UserId] {
        &self.users
    }
}

/// The one transaction.
pub(super) struct Writing {
    write: Transaction<'static, Sqlite>,
}

impl Writing {
    pub(super) async fn begin(
        mut write: Transaction<'static, Sqlite>,
    ) -> Result<Self, sqlx::Error> {
        sqlx::query(LARGE_CACHE).execute(&mut *write).await?;
        Ok(Self { write })
    }

    pub(super) async fn commit(self) -> Result<(), sqlx::Error> {
        self.write.commit().await
    }

    pub(super) async fn insert_users(&mut self, chunk: &Chunk) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO users (id, username, discriminator, created_ms)
             SELECT unhex(value ->> 0), value ->> 1, value ->> 2, ? FROM json_each(?)",
        )
        .bind(chunk.now_ms.cast_signed())
        .bind(&chunk.rows)
        .execute(&mut *self.write)
        .await
        .map(drop)
    }

    /// The oldest guild of this name, or a new one of `owner` with one channel and nobody in it.
    pub(super) async fn guild_named(
        &mut self,
        name: &str,
        owner: UserId,
    ) -> Result<GuildId, sqlx::Error> {
        let found: Option<Vec<u8>> =
            sqlx::query_scalar("SELECT id FROM guilds WHERE name = ? ORDER BY created_ms LIMIT 1")
                .bind(name)
                .fetch_optional(&mut *self.write)
                .await?;
        if let Some(found) = found {
            return Ok(GuildId::from_bytes(id16(&found)?));
        }
        let now_ms = unix_ms();
        let guild = new_id(now_ms);
        sqlx::query(
            "INSERT INTO guilds (id, name, owner_id, version, member_count, created_ms)
             VALUES (?, ?, ?, 1, 0, ?)",
        )
        .bind(guild.as_slice())
        .bind(name)
        .bind(owner.as_bytes().as_slice())
        .bind(now_ms.cast_signed())
        .execute(&mut *self.write)
        .await?;
        sqlx::query(
            "INSERT INTO channels (id, guild_id, name, type, position, created_ms)
             VALUES (?, ?, 'general', 'text', 0, ?)",
        )
        .bind(new_id(now_ms).as_slice())
        .bind(guild.as_slice())
        .bind(now_ms.cast_signed())
        .execute(&mut *self.write)
        .await?;
        Ok(GuildId::from_bytes(guild))
    }

    /// Makes the accounts members of a guild; false when there is no such guild.
    pub(super) async fn join(
        &mut self,
        chunk: &Chunk,
        guild: GuildId,
    ) -> Result<bool, sqlx::Error> {
        let updated = sqlx::query(
            "UPDATE guilds SET version = version + 1, member_count = member_count + ?
             WHERE id = ?",
        )
        .bind((chunk.users.len() as u64).cast_signed())
        .bind(guild.as_bytes().as_slice())
        .execute(&mut *self.write)
        .await?;
        if updated.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "INSERT INTO members (user_id, guild_id, joined_ms)
             SELECT unhex(value ->> 0), ?, ? FROM json_each(?)",
        )
        .bind(guild.as_bytes().as_slice())
        .bind(chunk.now_ms.cast_signed())
        .bind(&chunk.rows)
        .execute(&mut *self.write)
        .await?;
        Ok(true)
    }

    /// Gives each group of `size` neighbours a guild of their own, the first of them its owner.
    pub(super) async fn make_circles(
        &mut self,
        chunk: &Chunk,
        size: u32,
    ) -> Result<(), sqlx::Error> {
        let circles = Circles::of(chunk, size);
        let now_ms = chunk.now_ms.cast_signed();
        for (statement, rows) in [
            (
                "INSERT INTO guilds (id, name, owner_id, version, member_count, created_ms)
                 SELECT unhex(value ->> 0), value ->> 1, unhex(value ->> 2), 1, value ->> 3, ?
                 FROM json_each(?)",
                &circles.guilds,
            ),
            (
                "INSERT INTO channels (id, guild_id, name, type, position, created_ms)
                 SELECT unhex(value ->> 0), unhex(value ->> 1), 'circle-' || (value ->> 2),
                        'text', value ->> 2, ?
                 FROM json_each(?)",
                &circles.channels,
            ),
            (
                "INSERT INTO members (user_id, guild_id, joined_ms)
                 SELECT unhex(value ->> 0), unhex(value ->> 1), ? FROM json_each(?)",
                &circles.members,
            ),
        ] {
            sqlx::query(statement)
                .bind(now_ms)
                .bind(format!("[{}]", rows.join(",")))
                .execute(&mut *self.write)
                .await?;
        }
        Ok(())
    }
}

/// JSON rows of the circles of one chunk.
#[derive(Default)]
struct Circles {
    guilds: Vec<String>,
    channels: Vec<String>,
    members: Vec<String>,
}

impl Circles {
    fn of(chunk: &Chunk, size: u32) -> Self {
        let mut rows = Self::default();
        let size = size as usize;
        let count = chunk.users.len().div_ceil(size);
        let mut guilds: Vec<[u8; 16]> = (0..count).map(|_| new_id(chunk.now_ms)).collect();
        guilds.sort_unstable();
        let circles = chunk.users.chunks(size).zip(guilds);
        for (number, (users, guild)) in (chunk.first / size as u64..).zip(circles) {
            let guild = u128::from_be_bytes(guild);
            let (run, owner, members) = (chunk.run, users[0].as_u128(), users.len());
            rows.guilds.push(format!(
                r#"["{guild:032x}","circle {run:06x} {number}","{owner:032x}",{members}]"#
            ));
            for position in 0..CIRCLE_CHANNELS {
                let id = u128::from_be_bytes(new_id(chunk.now_ms));
                rows.channels
                    .push(format!(r#"["{id:032x}","{guild:032x}",{position}]"#));
            }
            for user in users {
                let user = user.as_u128();
                rows.members
                    .push(format!(r#"["{user:032x}","{guild:032x}"]"#));
            }
        }
        rows.channels.sort_unstable();
        rows
    }
}
