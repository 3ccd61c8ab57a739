//! Accounts in bulk, for benchmarks: no password, a token each, and groups for them to talk in.
//!
//! Works on the data directory beside a running server, which sees the accounts at once; a member
//! count in a guild that it has in memory is right again after `guild_age_ms_max` (10 s). While
//! it works, the server's own changes of the database wait. Nothing is read back or removed.
//!
//! Invariants: all accounts and groups are one transaction, so there are all of them or none; a
//! token is written out only after its account is committed.

mod rows;

use std::io::Write;
use std::path::Path;

use throng_protocol::{GuildId, UserId};

use crate::database::Database;
use crate::entropy::{random_bytes, unix_ms};
use crate::error::ControlError;
use crate::token::Tokens;
use rows::{Chunk, Writing};

/// Accounts that one statement makes: their rows are one bound value of about a megabyte.
const CHUNK: u64 = 10_000;
/// Tokens that are signed before they are written.
const SIGNED_TOGETHER: usize = 1_000;

/// Which accounts to make. A user gets into three guilds at most, so the limit of guilds per user
/// is not reached unless it is below that.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Seeding {
    /// How many.
    pub count: u64,
    /// The guild that they all join.
    pub guild: Option<GuildId>,
    /// The name of a guild of one channel that they all join. It is made if there is none of that
    /// name.
    pub everyone: Option<String>,
    /// Users of a circle: neighbours in the list of accounts with a guild of their own of
    /// [`CIRCLE_CHANNELS`] channels. The last circle may be smaller.
    pub circles: Option<u32>,
    /// How long their tokens are good, in seconds.
    pub token_ttl_s: u64,
}

/// Channels of a circle's guild.
pub const CIRCLE_CHANNELS: u32 = 4;
/// Users of a circle at most.
pub const CIRCLE_USERS_MAX: u32 = 1_000;

/// Makes accounts named `seed_<run>_<number>` and writes one token a line, in their order. Nobody
/// can log in to them with a password. `progress` hears now and then how many accounts are
/// written.
///
/// # Errors
/// When the data directory cannot be used, the guild does not exist, or `out` fails. Nothing is
/// left behind unless `out` was the one that failed.
///
/// # Panics
/// When called from async code, or with circles of 0 or more than [`CIRCLE_USERS_MAX`] users.
pub fn seed_users(
    data_dir: &Path,
    seeding: &Seeding,
    out: &mut impl Write,
    progress: impl FnMut(u64),
) -> Result<(), ControlError> {
    let circle = seeding.circles.unwrap_or(1);
    assert!(
        (1..=CIRCLE_USERS_MAX).contains(&circle),
        "a circle has users, and fits into a chunk"
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControlError::Threads)?;
    let tokens = Tokens::open(data_dir, seeding.token_ttl_s)?;
    let users = runtime.block_on(async {
        let database = Database::open(data_dir).await?;
        let users = make(&database, seeding, progress).await;
        database.close().await;
        users
    })?;
    sign(&tokens, &users, out)
}

/// The accounts, once they are committed.
async fn make(
    database: &Database,
    seeding: &Seeding,
    mut progress: impl FnMut(u64),
) -> Result<Vec<UserId>, ControlError> {
    let failed = |error| database.failed(error);
    let run = u64::from_le_bytes(random_bytes()) >> 40;
    let write = database.write().await.map_err(failed)?;
    let mut writing = Writing::begin(write).await.map_err(failed)?;
    let circle = u64::from(seeding.circles.unwrap_or(1));
    let whole_circles = CHUNK - CHUNK % circle;
    let mut everyone = None;
    let mut users = Vec::new();
    while (users.len() as u64) < seeding.count {
        let first = users.len() as u64;
        let count = whole_circles.min(seeding.count - first);
        let chunk = Chunk::new(unix_ms(), run, first, count);
        writing.insert_users(&chunk).await.map_err(failed)?;
        if let (Some(name), None) = (&seeding.everyone, everyone) {
            let owner = chunk.users()[0];
            let guild = writing.guild_named(name, owner).await;
            everyone = Some(guild.map_err(failed)?);
        }
        for guild in seeding.guild.into_iter().chain(everyone) {
            let joined = writing.join(&chunk, guild).await.map_err(failed)?;
            if !joined {
                return Err(ControlError::NoSuchGuild(guild));
            }
        }
        if let Some(circle) = seeding.circles {
            writing.make_circles(&chunk, circle).await.map_err(failed)?;
        }
        users.extend_from_slice(chunk.users());
        progress(users.len() as u64);
    }
    writing.commit().await.map_err(failed)?;
    Ok(users)
}

fn sign(tokens: &Tokens, users: &[UserId], out: &mut impl Write) -> Result<(), ControlError> {
    for users in users.chunks(SIGNED_TOGETHER) {
        let mut lines = String::new();
        for user in users {
            lines.push_str(&tokens.sign(*user).map_err(ControlError::Sign)?);
            lines.push('\n');
        }
        out.write_all(lines.as_bytes())
            .map_err(ControlError::Output)?;
    }
    out.flush().map_err(ControlError::Output)
}
