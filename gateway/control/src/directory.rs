//! Users, guilds and access as the control plane knows them: memory first, then the database.
//!
//! It changes nothing, and it never remembers that something does not exist or that somebody is no
//! member: another process may add accounts at any time.
//!
//! Invariants: while a [`Change`] is open nothing is taken from or put into memory, so that what is
//! remembered was read before it or after it, never across it. A guild that another process
//! changes is seen after `guild_age_ms_max` at the latest; one changed here, at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use sqlx::SqlitePool;
use throng_protocol::{ChannelId, GuildId, UserId};
use tokio::time::Instant;

use crate::ask::{Access, GuildFragment};
use crate::cache::Cache;
use crate::config::ControlConfig;
use crate::lookup::{self, Grant, Identity};

/// See the file's head.
pub(crate) struct Directory {
    readers: SqlitePool,
    guild_age_max: Duration,
    known: Mutex<Known>,
}

struct Known {
    users: Cache<UserId, Arc<Identity>>,
    guilds: Cache<GuildId, Held>,
    /// A channel never moves to another guild, so this needs no invalidation.
    channels: Cache<ChannelId, GuildId>,
    changes_open: usize,
    changes_begun: u64,
}

#[derive(Clone)]
struct Held {
    fragment: Arc<GuildFragment>,
    read_at: Instant,
}

/// Something is being changed in the database; ends when dropped, whatever came of it.
pub(crate) struct Change<'a> {
    directory: &'a Directory,
    user: Option<UserId>,
    guild: GuildId,
}

impl Directory {
    /// Knows nothing yet.
    pub(crate) fn new(readers: SqlitePool, config: &ControlConfig) -> Self {
        Self {
            readers,
            guild_age_max: Duration::from_millis(config.guild_age_ms_max),
            known: Mutex::new(Known {
                users: Cache::new(config.users_cached_bytes_max),
                guilds: Cache::new(config.guilds_cached_bytes_max),
                channels: Cache::new(config.channels_cached_bytes_max),
                changes_open: 0,
                changes_begun: 0,
            }),
        }
    }

    /// To be held from before a transaction begins until it has ended. What is remembered about
    /// the guild, and about the user if one is given, is forgotten with it.
    pub(crate) fn change(&self, guild: GuildId, user: Option<UserId>) -> Change<'_> {
        let mut known = self.known();
        known.changes_open += 1;
        known.changes_begun += 1;
        drop(known);
        Change {
            directory: self,
            user,
            guild,
        }
    }

    /// These users; who does not exist is absent.
    pub(crate) async fn identities(
        &self,
        users: &[UserId],
    ) -> Result<HashMap<UserId, Arc<Identity>>, sqlx::Error> {
        let (seen, mut found) = self.recall(|known| known.remembered_users(users));
        let missing: Vec<UserId> = users
            .iter()
            .filter(|user| !found.contains_key(*user))
            .copied()
            .collect();
        if missing.is_empty() {
            return Ok(found);
        }
        let read = lookup::identities(&self.readers, &missing).await?;
        let read: Vec<_> = read
            .into_iter()
            .map(|each| (each.user.id, Arc::new(each)))
            .collect();
        self.remember(seen, |known| {
            for (user, identity) in &read {
                let bytes = identity.heap_bytes();
                known.users.put(*user, Arc::clone(identity), bytes);
            }
        });
        found.extend(read);
        Ok(found)
    }

    /// This user.
    pub(crate) async fn identity(
        &self,
        user: UserId,
    ) -> Result<Option<Arc<Identity>>, sqlx::Error> {
        Ok(self.identities(&[user]).await?.remove(&user))
    }

    /// These guilds; what does not exist is absent.
    pub(crate) async fn fragments(
        &self,
        guilds: &[GuildId],
    ) -> Result<HashMap<GuildId, Arc<GuildFragment>>, sqlx::Error> {
        let oldest = Instant::now().checked_sub(self.guild_age_max);
        let (seen, mut found) = self.recall(|known| known.remembered_guilds(guilds, oldest));
        let missing: Vec<GuildId> = guilds
            .iter()
            .filter(|guild| !found.contains_key(*guild))
            .copied()
            .collect();
        if missing.is_empty() {
            return Ok(found);
        }
        // Before the statement: the age counts from the oldest state that it may show.
        let read_at = Instant::now();
        let read = lookup::fragments(&self.readers, &missing).await?;
        let read: Vec<_> = read.into_iter().map(Arc::new).collect();
        self.remember(seen, |known| known.keep_guilds(&read, read_at));
        found.extend(read.into_iter().map(|fragment| (fragment.id, fragment)));
        Ok(found)
    }

    /// For each pair, in order, what the user is to the channel.
    pub(crate) async fn grants(
        &self,
        pairs: &[(UserId, ChannelId)],
    ) -> Result<Vec<Grant>, sqlx::Error> {
        let oldest = Instant::now().checked_sub(self.guild_age_max);
        let (seen, remembered) = self.recall(|known| {
            pairs
                .iter()
                .map(|(user, channel)| known.grant(*user, *channel, oldest))
                .collect()
        });
        let mut remembered: Vec<Option<Grant>> = remembered;
        remembered.resize(pairs.len(), None);
        let missing: Vec<_> = pairs
            .iter()
            .zip(&remembered)
            .filter(|(_, grant)| grant.is_none())
            .collect();
        if missing.is_empty() {
            return Ok(remembered.into_iter().flatten().collect());
        }
        let missing: Vec<_> = missing.into_iter().map(|(pair, _)| *pair).collect();
        let read = lookup::grants(&self.readers, &missing).await?;
        self.remember(seen, |known| {
            for ((_, channel), grant) in missing.iter().zip(&read) {
                if let Some((guild, _)) = grant.guild {
                    known.channels.put(*channel, guild, 0);
                }
            }
        });
        let mut read = read.into_iter();
        let filled = remembered
            .into_iter()
            .map(|grant| grant.or_else(|| read.next()));
        Ok(filled
            .map(|grant| grant.expect("every gap was read"))
            .collect())
    }

    /// What the user is to the channel.
    pub(crate) async fn grant(
        &self,
        user: UserId,
        channel: ChannelId,
    ) -> Result<Grant, sqlx::Error> {
        let grants = self.grants(&[(user, channel)]).await?;
        Ok(*grants.first().expect("one answer per pair"))
    }

    /// Looks into memory, unless a change is open; says which changes had begun by then.
    fn recall<T: Default>(&self, look: impl FnOnce(&mut Known) -> T) -> (Option<u64>, T) {
        let mut known = self.known();
        if known.changes_open > 0 {
            return (None, T::default());
        }
        let found = look(&mut known);
        (Some(known.changes_begun), found)
    }

    /// Keeps what was read since `seen`, unless a change has begun meanwhile.
    fn remember(&self, seen: Option<u64>, keep: impl FnOnce(&mut Known)) {
        let mut known = self.known();
        if seen == Some(known.changes_begun) {
            keep(&mut known);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it is held")
    }
}

impl Known {
    fn remembered_users(&mut self, users: &[UserId]) -> HashMap<UserId, Arc<Identity>> {
        users
            .iter()
            .filter_map(|user| Some((*user, self.users.get(user)?)))
            .collect()
    }

    fn remembered_guilds(
        &mut self,
        guilds: &[GuildId],
        oldest: Option<Instant>,
    ) -> HashMap<GuildId, Arc<GuildFragment>> {
        let fresh = |guild| Some((guild, self.fresh_guild(guild, oldest)?));
        guilds.iter().copied().filter_map(fresh).collect()
    }

    fn fresh_guild(
        &mut self,
        guild: GuildId,
        oldest: Option<Instant>,
    ) -> Option<Arc<GuildFragment>> {
        let held = self.guilds.get(&guild)?;
        // A clock that has not run for `guild_age_max` yet has no `oldest`: all is fresh.
        oldest
            .is_none_or(|oldest| held.read_at >= oldest)
            .then_some(held.fragment)
    }

    /// An unchanged guild keeps its fragment, so that all who share it go on sharing it.
    fn keep_guilds(&mut self, read: &[Arc<GuildFragment>], read_at: Instant) {
        for fragment in read {
            let same = self.guilds.get(&fragment.id).map(|held| held.fragment);
            let same = same.filter(|known| known.version == fragment.version);
            let fragment = same.unwrap_or_else(|| Arc::clone(fragment));
            let bytes = fragment.heap_bytes();
            self.guilds
                .put(fragment.id, Held { fragment, read_at }, bytes);
        }
    }

    /// Only "yes" can be said from memory.
    fn grant(
        &mut self,
        user: UserId,
        channel: ChannelId,
        oldest: Option<Instant>,
    ) -> Option<Grant> {
        let guild = self.channels.get(&channel)?;
        let version = self.fresh_guild(guild, oldest)?.version;
        let member = self.users.get(&user)?.guilds.contains(&guild);
        member.then_some(Grant {
            guild: Some((guild, version)),
            access: Access::Member,
        })
    }
}

impl Drop for Change<'_> {
    fn drop(&mut self) {
        let mut known = self.directory.known();
        known.guilds.forget(&self.guild);
        if let Some(user) = self.user {
            known.users.forget(&user);
        }
        assert!(known.changes_open > 0, "a change ends once");
        known.changes_open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts;
    use crate::config::ControlLimits;
    use crate::database::Database;
    use crate::guilds;

    const GUILD: GuildId = GuildId::from_u128(7);

    fn check(test: impl AsyncFnOnce(Database, Directory, UserId)) {
        let dir = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(async {
            let database = Database::open(dir.path()).await.unwrap();
            let config = ControlConfig::new(dir.path().into());
            let directory = Directory::new(database.readers.clone(), &config);
            let user = accounts::create(&database, "alice".into(), "")
                .await
                .unwrap()
                .unwrap();
            test(database, directory, user.id).await;
        });
    }

    async fn create_guild(database: &Database, owner: UserId) {
        let limits = ControlLimits::default();
        guilds::create(database, &limits, GUILD, owner, "A guild")
            .await
            .unwrap();
    }

    fn remembered(directory: &Directory, user: UserId) -> bool {
        directory.known().users.get(&user).is_some()
    }

    #[test]
    fn what_was_read_across_a_change_is_not_remembered() {
        check(async |database, directory, user| {
            let (seen, _) = directory.recall(|_| ());
            let stale = lookup::identities(&directory.readers, &[user])
                .await
                .unwrap()
                .remove(0);
            let change = directory.change(GUILD, Some(user));
            create_guild(&database, user).await;
            drop(change);
            directory.remember(seen, |known| known.users.put(user, Arc::new(stale), 0));
            assert!(!remembered(&directory, user));
            let fresh = directory.identity(user).await.unwrap().unwrap();
            assert_eq!(fresh.guilds, [GUILD]);
            assert!(remembered(&directory, user));
        });
    }

    #[test]
    fn nothing_is_recalled_or_remembered_while_a_change_is_open() {
        check(async |database, directory, user| {
            directory.identity(user).await.unwrap().unwrap();
            let change = directory.change(GUILD, Some(user));
            create_guild(&database, user).await;
            let meanwhile = directory.identity(user).await.unwrap().unwrap();
            assert_eq!(meanwhile.guilds, [GUILD], "read, not recalled");
            drop(change);
            assert!(!remembered(&directory, user));
        });
    }

    #[test]
    fn who_does_not_exist_may_exist_later() {
        check(async |database, directory, _| {
            let fragments = directory.fragments(&[GUILD]).await.unwrap();
            assert!(fragments.is_empty());
            let bob = accounts::create(&database, "bob".into(), "")
                .await
                .unwrap()
                .unwrap();
            create_guild(&database, bob.id).await;
            let fragments = directory.fragments(&[GUILD]).await.unwrap();
            let channel = fragments[&GUILD].channels[0];
            assert_eq!(
                directory.identity(bob.id).await.unwrap().unwrap().guilds,
                [GUILD]
            );
            let grant = Grant {
                guild: Some((GUILD, 1)),
                access: Access::Member,
            };
            for _ in 0..3 {
                assert_eq!(directory.grant(bob.id, channel).await.unwrap(), grant);
            }
        });
    }
}
