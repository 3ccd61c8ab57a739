//! Who may do what, as this shard remembers it.
//!
//! It never asks: the shard asks the control plane and tells this table the answer. Only
//! memberships are kept, never refusals, so somebody who has just joined is never turned away by
//! an old answer.
//!
//! Invariants: an answer older than the last invalidation of its guild is not kept; the table
//! never holds more than its limit (when full it starts afresh, and answers to questions asked
//! before that are asked for again).

use throng_protocol::{ChannelId, GuildId, UserId};
use throng_router::Table;

/// Memberships known to one shard.
#[derive(Debug)]
pub(crate) struct AccessCache {
    /// Each with the place of its guild.
    channels: Table<ChannelId, u32>,
    /// None is removed but all at once, so that places stay.
    guilds: Table<GuildId, GuildAccess>,
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
    members: Members,
}

/// Members of one guild that are known here. Most guilds are small, and all of those together are
/// many: the first few members lie in the guild's entry.
#[derive(Debug)]
enum Members {
    Few(SmallSet),
    Many(Box<Table<UserId, ()>>),
}

/// Bytes of one entry of each kind, its place in the table of ids aside.
#[cfg(test)]
pub(crate) const CHANNEL_BYTES: usize = size_of::<(ChannelId, u32)>();
#[cfg(test)]
pub(crate) const GUILD_BYTES: usize = size_of::<(GuildId, GuildAccess)>();
#[cfg(test)]
pub(crate) const MEMBER_BYTES: usize = size_of::<(UserId, ())>();

/// Members that a guild's entry has room for.
const FEW: usize = 4;

#[derive(Clone, Copy, Debug)]
struct SmallSet {
    count: u8,
    users: [UserId; FEW],
}

impl AccessCache {
    /// A table of at most `entries_max` memberships and channels.
    #[must_use]
    pub(crate) fn new(entries_max: usize) -> Self {
        Self {
            channels: Table::new(),
            guilds: Table::new(),
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
            .is_some_and(|guild| self.guilds.at(*guild).1.members.contains(user))
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
        let place = self.guild_place(guild);
        self.entries += usize::from(self.guilds.at_mut(place).members.insert(user));
        let Self {
            channels, entries, ..
        } = self;
        *channels.get_or_insert_with(channel, || {
            *entries += 1;
            place
        }) = place;
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
        let place = self.guild_place(guild);
        let known = self.guilds.at_mut(place);
        known.version = known.version.max(version);
        match user {
            Some(user) => self.entries -= usize::from(known.members.remove(user)),
            None => {
                self.entries -= known.members.len();
                known.members = Members::default();
            }
        }
    }

    fn guild_place(&mut self, guild: GuildId) -> u32 {
        let Self {
            guilds, entries, ..
        } = self;
        guilds.place_or_insert_with(guild, || {
            *entries += 1;
            GuildAccess::default()
        })
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

impl Default for Members {
    fn default() -> Self {
        Self::Few(SmallSet {
            count: 0,
            users: [UserId::from_u128(0); FEW],
        })
    }
}

impl Members {
    fn contains(&self, user: UserId) -> bool {
        match self {
            Self::Few(few) => few.as_slice().contains(&user),
            Self::Many(many) => many.place(&user).is_some(),
        }
    }

    /// False when the user was there.
    fn insert(&mut self, user: UserId) -> bool {
        if self.contains(user) {
            return false;
        }
        match self {
            Self::Few(few) => {
                if !few.push(user) {
                    let mut many = Table::new();
                    for user in few.as_slice().iter().chain([&user]) {
                        many.place_or_insert_with(*user, || ());
                    }
                    *self = Self::Many(Box::new(many));
                }
            }
            Self::Many(many) => {
                many.place_or_insert_with(user, || ());
            }
        }
        true
    }

    /// False when the user was not there.
    fn remove(&mut self, user: UserId) -> bool {
        match self {
            Self::Few(few) => few.remove(user),
            Self::Many(many) => many.remove(&user).is_some(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Few(few) => few.as_slice().len(),
            Self::Many(many) => many.len(),
        }
    }
}

impl SmallSet {
    fn as_slice(&self) -> &[UserId] {
        &self.users[..usize::from(self.count)]
    }

    /// False when it is full.
    fn push(&mut self, user: UserId) -> bool {
        let Some(place) = self.users.get_mut(usize::from(self.count)) else {
            return false;
        };
        *place = user;
        self.count += 1;
        true
    }

    fn remove(&mut self, user: UserId) -> bool {
        let Some(place) = self.as_slice().iter().position(|held| *held == user) else {
            return false;
        };
        self.count -= 1;
        self.users.swap(place, usize::from(self.count));
        true
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
    fn a_guild_that_grows_keeps_its_members() {
        let mut cache = AccessCache::new(100);
        let users: Vec<UserId> = (10..20).map(UserId::from_u128).collect();
        for (count, user) in (1..).zip(&users) {
            for _ in 0..2 {
                assert!(cache.learn(*user, CHANNEL, GUILD, 1, cache.epoch()));
            }
            assert_eq!(cache.entries, count + 2);
            assert!(
                users[..count]
                    .iter()
                    .all(|user| cache.knows(*user, CHANNEL))
            );
            assert!(
                !users[count..]
                    .iter()
                    .any(|user| cache.knows(*user, CHANNEL))
            );
            let gone = users[count / 2];
            cache.invalidate(GUILD, 1, Some(gone));
            assert!(!cache.knows(gone, CHANNEL));
            assert_eq!(cache.entries, count + 1);
            assert!(cache.learn(gone, CHANNEL, GUILD, 1, cache.epoch()));
        }
        cache.invalidate(GUILD, 2, None);
        assert_eq!(cache.entries, 2);
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<(GuildId, GuildAccess)>(), 96);
        assert_eq!(size_of::<(ChannelId, u32)>(), 20);
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
