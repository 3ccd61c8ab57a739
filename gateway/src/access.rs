//! Who may do what, as this shard remembers it.
//!
//! It never asks: the shard asks the control plane and tells this table the answer. Only
//! memberships are kept, never refusals, so somebody who has just joined is never turned away by
//! an old answer.
//!
//! Invariants: an answer older than the last invalidation of its guild is not kept; the table
//! never holds more than its limit (when full it starts afresh).

use std::collections::{HashMap, HashSet};

use throng_protocol::{ChannelId, GuildId, UserId};

/// Memberships known to one shard.
#[derive(Debug)]
pub(crate) struct AccessCache {
    channels: HashMap<ChannelId, GuildId>,
    guilds: HashMap<GuildId, GuildAccess>,
    entries: usize,
    entries_max: usize,
}

#[derive(Debug, Default)]
struct GuildAccess {
    /// Answers below this version may predate a change.
    version: u64,
    members: HashSet<UserId>,
}

impl AccessCache {
    /// A table of at most `entries_max` memberships and channels.
    #[must_use]
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            channels: HashMap::new(),
            guilds: HashMap::new(),
            entries: 0,
            entries_max,
        }
    }

    /// Whether the user is known to be a member of the channel's guild.
    #[must_use]
    pub(crate) fn knows(&self, user: UserId, channel: ChannelId) -> bool {
        self.channels
            .get(&channel)
            .and_then(|guild| self.guilds.get(guild))
            .is_some_and(|guild| guild.members.contains(&user))
    }

    /// Takes the control plane's word that the user is a member, as of `version`.
    /// Returns false when an invalidation has overtaken the answer: ask again.
    pub(crate) fn learn(
        &mut self,
        user: UserId,
        channel: ChannelId,
        guild: GuildId,
        version: u64,
    ) -> bool {
        if self.entries + 2 > self.entries_max {
            self.forget_members();
        }
        let known = self.guilds.entry(guild).or_default();
        if version < known.version {
            return false;
        }
        self.entries += usize::from(known.members.insert(user));
        self.entries += usize::from(self.channels.insert(channel, guild).is_none());
        true
    }

    /// Something about the guild changed in `version`: what was known of this user (or, without
    /// one, of all) is no longer.
    pub(crate) fn invalidate(&mut self, guild: GuildId, version: u64, user: Option<UserId>) {
        let known = self.guilds.entry(guild).or_default();
        known.version = known.version.max(version);
        match user {
            Some(user) => self.entries -= usize::from(known.members.remove(&user)),
            None => {
                self.entries -= known.members.len();
                known.members.clear();
            }
        }
    }

    /// Forgets memberships and channels; versions stay, since an answer may be under way.
    fn forget_members(&mut self) {
        self.channels.clear();
        for guild in self.guilds.values_mut() {
            guild.members.clear();
        }
        self.entries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserId = UserId::from_u128(1);
    const OTHER: UserId = UserId::from_u128(2);
    const CHANNEL: ChannelId = ChannelId::from_u128(3);
    const GUILD: GuildId = GuildId::from_u128(4);

    #[test]
    fn an_answer_that_an_invalidation_overtook_is_not_kept() {
        let mut cache = AccessCache::new(100);
        cache.invalidate(GUILD, 7, None);
        assert!(!cache.learn(USER, CHANNEL, GUILD, 6));
        assert!(!cache.knows(USER, CHANNEL));
        assert!(cache.learn(USER, CHANNEL, GUILD, 7));
        assert!(cache.knows(USER, CHANNEL));
        assert!(!cache.knows(OTHER, CHANNEL));
    }

    #[test]
    fn an_invalidation_takes_one_or_all() {
        let mut cache = AccessCache::new(100);
        assert!(cache.learn(USER, CHANNEL, GUILD, 1));
        assert!(cache.learn(OTHER, CHANNEL, GUILD, 1));
        cache.invalidate(GUILD, 2, Some(USER));
        assert!(!cache.knows(USER, CHANNEL) && cache.knows(OTHER, CHANNEL));
        cache.invalidate(GUILD, 3, None);
        assert!(!cache.knows(OTHER, CHANNEL));
    }

    #[test]
    fn it_never_grows_past_its_limit() {
        let mut cache = AccessCache::new(10);
        for n in 0..1_000u128 {
            assert!(cache.learn(UserId::from_u128(n), CHANNEL, GUILD, 1));
            assert!(cache.entries <= 10);
        }
    }
}
