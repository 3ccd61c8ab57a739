//! Who may do what, as this shard remembers it.
//!
//! It never asks: the shard asks the control plane and tells this table the answer. Only
//! memberships are kept, never refusals, so somebody who has just joined is never turned away by
//! an old answer.
//!
//! Invariants: an answer older than the last invalidation of its guild is not kept; the table
//! never holds more than its limit (when full it starts afresh, and answers to questions asked
//! before that are asked for again).

use std::collections::{HashMap, HashSet};

use throng_protocol::{ChannelId, GuildId, UserId};

/// Memberships known to one shard.
#[derive(Debug)]
pub(crate) struct AccessCache {
    channels: HashMap<ChannelId, GuildId>,
    guilds: HashMap<GuildId, GuildAccess>,
    entries: usize,
    entries_max: usize,
    epoch: Epoch,
}

/// How often the table has started afresh.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Epoch(u64);

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
            epoch: Epoch::default(),
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

    /// What a question asked now is to be answered under.
    #[must_use]
    pub(crate) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes the control plane's word that the user is a member, as of `version`, to a question
    /// asked in `epoch`. Returns false when an invalidation may have overtaken the answer: ask
    /// again.
    pub(crate) fn learn(
        &mut self,
        user: UserId,
        channel: ChannelId,
        guild: GuildId,
        version: u64,
        epoch: Epoch,
    ) -> bool {
        self.make_room();
        if !self.is_current(guild, version, epoch) {
            return false;
        }
        let known = self.guilds.entry(guild).or_insert_with(|| {
            self.entries += 1;
            GuildAccess::default()
        });
        self.entries += usize::from(known.members.insert(user));
        self.entries += usize::from(self.channels.insert(channel, guild).is_none());
        true
    }

    /// Whether no invalidation has overtaken an answer of this version, to a question asked in
    /// `epoch`. Holds for refusals too: somebody may have joined meanwhile.
    #[must_use]
    pub(crate) fn is_current(&self, guild: GuildId, version: u64, epoch: Epoch) -> bool {
        let known = self.guilds.get(&guild).map_or(0, |known| known.version);
        epoch == self.epoch && version >= known
    }

    /// Something about the guild changed in `version`: what was known of this user (or, without
    /// one, of all) is no longer. The version is kept, since an older answer may be under way.
    pub(crate) fn invalidate(&mut self, guild: GuildId, version: u64, user: Option<UserId>) {
        self.make_room();
        let known = self.guilds.entry(guild).or_insert_with(|| {
            self.entries += 1;
            GuildAccess::default()
        });
        known.version = known.version.max(version);
        match user {
            Some(user) => self.entries -= usize::from(known.members.remove(&user)),
            None => {
                self.entries -= known.members.len();
                known.members.clear();
            }
        }
    }

    /// Starts afresh when the next entry might not fit. Versions go too, so answers to questions
    /// asked before are not believed any more.
    fn make_room(&mut self) {
        if self.entries + 3 > self.entries_max {
            self.channels.clear();
            self.guilds.clear();
            self.entries = 0;
            self.epoch.0 += 1;
        }
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
        assert!(!cache.learn(USER, CHANNEL, GUILD, 6, cache.epoch()));
        assert!(!cache.knows(USER, CHANNEL));
        assert!(cache.learn(USER, CHANNEL, GUILD, 7, cache.epoch()));
        assert!(cache.knows(USER, CHANNEL));
        assert!(!cache.knows(OTHER, CHANNEL));
    }

    #[test]
    fn an_invalidation_takes_one_or_all() {
        let mut cache = AccessCache::new(100);
        assert!(cache.learn(USER, CHANNEL, GUILD, 1, cache.epoch()));
        assert!(cache.learn(OTHER, CHANNEL, GUILD, 1, cache.epoch()));
        cache.invalidate(GUILD, 2, Some(USER));
        assert!(!cache.knows(USER, CHANNEL) && cache.knows(OTHER, CHANNEL));
        cache.invalidate(GUILD, 3, None);
        assert!(!cache.knows(OTHER, CHANNEL));
    }

    #[test]
    fn it_never_grows_past_its_limit_and_believes_no_answer_from_before() {
        let mut cache = AccessCache::new(10);
        let first = cache.epoch();
        for n in 0..1_000u128 {
            let (user, guild) = (UserId::from_u128(n), GuildId::from_u128(n));
            let epoch = cache.epoch();
            let kept = cache.learn(user, CHANNEL, guild, 1, epoch);
            assert_eq!(kept, epoch == cache.epoch());
            cache.invalidate(guild, 2, None);
            assert!(cache.entries <= 10);
        }
        assert!(!cache.learn(USER, CHANNEL, GUILD, 9, first));
    }
}
