//! Accounts in bulk, for benchmarks: no password, a token each.
//!
//! Works on the data directory beside a running server, which sees the accounts at once; a member
//! count in a guild that it has in memory is right again after `guild_age_ms_max` (10 s). Nothing
//! is read back or removed.
//!
//! Invariants: a token is written out only after its account is committed; a batch is one
//! transaction, and the database is free between batches.

use std::io::Write;
use std::path::Path;

use sqlx::{Sqlite, Transaction};
use throng_protocol::{GuildId, UserId};

use crate::database::Database;
use crate::entropy::{new_discriminator, new_id, random_bytes, unix_ms};
use crate::error::ControlError;
use crate::token::Tokens;

const BATCH: u64 = 1000;

/// Which accounts to make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seeding {
    /// How many.
    pub count: u64,
    /// The guild that they all join. The limit of guilds per user is not reached by one.
    pub guild: Option<GuildId>,
    /// How long their tokens are good, in seconds.
    pub token_ttl_s: u64,
}

/// Makes accounts named `seed_<run>_<number>` and writes one token a line, in their order. Nobody
/// can log in to them with a password.
///
/// # Errors
/// When the data directory cannot be used, the guild does not exist, or `out` fails. Accounts of
/// complete batches stay.
///
/// # Panics
/// When called from async code.
pub fn seed_users(
    data_dir: &Path,
    seeding: &Seeding,
    out: &mut impl Write,
) -> Result<(), ControlError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControlError::Threads)?;
    runtime.block_on(async {
        let database = Database::open(data_dir).await?;
        let seeded = seed(&database, data_dir, seeding, out).await;
        database.close().await;
        seeded
    })
}

async fn seed(
    database: &Database,
    data_dir: &Path,
    seeding: &Seeding,
    out: &mut impl Write,
) -> Result<(), ControlError> {
    let tokens = Tokens::open(data_dir, seeding.token_ttl_s)?;
    let run = u64::from_le_bytes(random_bytes()) >> 16;
    let mut done = 0;
    while done < seeding.count {
        let count = BATCH.min(seeding.count - done);
        let now_ms = unix_ms();
        let users: Vec<UserId> = (0..count)
            .map(|_| UserId::from_bytes(new_id(now_ms)))
            .collect();
        let lines = sign_all(&tokens, &users)?;
        let rows = rows(&users, run, done);
        let mut write = database.write().await.map_err(|e| database.failed(e))?;
        insert(&mut write, &rows, now_ms)
            .await
            .map_err(|e| database.failed(e))?;
        if let Some(guild) = seeding.guild {
            let joined = join(&mut write, &rows, guild, count, now_ms).await;
            if !joined.map_err(|e| database.failed(e))? {
                return Err(ControlError::NoSuchGuild(guild));
            }
        }
        write.commit().await.map_err(|e| database.failed(e))?;
        out.write_all(lines.as_bytes())
            .map_err(ControlError::Output)?;
        done += count;
    }
    out.flush().map_err(ControlError::Output)
}

fn sign_all(tokens: &Tokens, users: &[UserId]) -> Result<String, ControlError> {
    let mut lines = String::new();
    for user in users {
        lines.push_str(&tokens.sign(*user).map_err(ControlError::Sign)?);
        lines.push('\n');
    }
    Ok(lines)
}

/// `[[id, name, discriminator], ...]`: one bound value for the whole batch.
fn rows(users: &[UserId], run: u64, first: u64) -> String {
    let row = |(user, number): (&UserId, u64)| {
        let id = user.as_u128();
        format!(
            r#"["{id:032x}","seed_{run:012x}_{number}","{}"]"#,
            new_discriminator()
        )
    };
    let rows: Vec<String> = users.iter().zip(first..).map(row).collect();
    format!("[{}]", rows.join(","))
}

async fn insert(
    write: &mut Transaction<'static, Sqlite>,
    rows: &str,
    now_ms: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO users (id, username, discriminator, created_ms)
         SELECT unhex(value ->> 0), value ->> 1, value ->> 2, ? FROM json_each(?)",
    )
    .bind(now_ms.cast_signed())
    .bind(rows)
    .execute(&mut **write)
    .await
    .map(|_| ())
}

/// False when there is no such guild.
async fn join(
    write: &mut Transaction<'static, Sqlite>,
    rows: &str,
    guild: GuildId,
    count: u64,
    now_ms: u64,
) -> Result<bool, sqlx::Error> {
    let updated = sqlx::query(
        "UPDATE guilds SET version = version + 1, member_count = member_count + ? WHERE id = ?",
    )
    .bind(count.cast_signed())
    .bind(guild.as_bytes().as_slice())
    .execute(&mut **write)
    .await?;
    if updated.rows_affected() == 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO members (user_id, guild_id, joined_ms)
         SELECT unhex(value ->> 0), ?, ? FROM json_each(?)",
    )
    .bind(guild.as_bytes().as_slice())
    .bind(now_ms.cast_signed())
    .bind(rows)
    .execute(&mut **write)
    .await?;
    Ok(true)
}
