//! Changes of accounts.
//!
//! Knows password hashes, never passwords; checks no rule about names: that is done before.
//!
//! Invariants: a name belongs to at most one account, whoever asks for it at the same time.

use sqlx::SqlitePool;
use throng_protocol::{User, UserId, UserStatus};

use crate::database::{Database, id16};
use crate::entropy::{new_discriminator, new_id, unix_ms};

/// What logging in needs.
pub(crate) struct Credentials {
    pub(crate) user: UserId,
    /// None: this account has no password.
    pub(crate) password_hash: Option<String>,
}

/// Makes an account; none when the name is taken.
pub(crate) async fn create(
    database: &Database,
    username: String,
    password_hash: &str,
) -> Result<Option<User>, sqlx::Error> {
    let now_ms = unix_ms();
    let user = User {
        id: UserId::from_bytes(new_id(now_ms)),
        username,
        discriminator: new_discriminator(),
        avatar_url: None,
        status: UserStatus::Offline,
        custom_status: None,
    };
    let mut write = database.write().await?;
    let inserted = sqlx::query(
        "INSERT INTO users (id, username, discriminator, password_hash, created_ms)
         VALUES (?, ?, ?, ?, ?) ON CONFLICT (username) DO NOTHING",
    )
    .bind(user.id.as_bytes().as_slice())
    .bind(&user.username)
    .bind(&user.discriminator)
    .bind(password_hash)
    .bind(now_ms.cast_signed())
    .execute(&mut *write)
    .await?;
    write.commit().await?;
    Ok((inserted.rows_affected() == 1).then_some(user))
}

/// Of the account with this name.
pub(crate) async fn credentials(
    readers: &SqlitePool,
    username: &str,
) -> Result<Option<Credentials>, sqlx::Error> {
    let row: Option<(Vec<u8>, Option<String>)> =
        sqlx::query_as("SELECT id, password_hash FROM users WHERE username = ?")
            .bind(username)
            .fetch_optional(readers)
            .await?;
    row.map(|(id, password_hash)| {
        Ok(Credentials {
            user: UserId::from_bytes(id16(&id)?),
            password_hash,
        })
    })
    .transpose()
}
