//! The control plane as the shards see it: accounts, guilds, and answers that take their time.
//!
//! It is no part of the server under test and holds no connection; delays and their order are
//! the world's.
//!
//! Invariants: an answer holds for the moment it was asked at; whoever joins is told so only
//! after every shard has said that it dropped what it kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use throng_control::{Access, Answer, Ask, GuildFragment};
use throng_protocol::{Channel, ChannelId, ChannelType, Guild, GuildId, User, UserId, UserStatus};

use crate::plan::Plan;

/// An account, by its place in [`ControlPlane::users`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Account(pub(crate) usize);

/// Accounts and guilds.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    users: Vec<User>,
    guilds: Vec<GuildState>,
    /// The database does not answer.
    pub(crate) away: bool,
    joins: Vec<Join>,
    next_ticket: u64,
}

#[derive(Debug)]
struct GuildState {
    guild: Guild,
    version: u64,
    members: BTreeSet<Account>,
}

/// A membership that not every shard has heard of yet.
#[derive(Debug)]
struct Join {
    ticket: u64,
    account: Account,
    waiting: BTreeSet<u16>,
}

/// What the shards are told of a new member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Invalidation {
    pub(crate) ticket: u64,
    pub(crate) guild: GuildId,
    pub(crate) version: u64,
    pub(crate) user: UserId,
}

impl ControlPlane {
    /// Accounts in one or two guilds each, and one in ten in none.
    pub(crate) fn new(plan: &Plan, random: &mut StdRng) -> Self {
        let users = (0..plan.users).map(|number| user(number, random)).collect();
        let guilds = (0..plan.guilds)
            .map(|number| guild(number, plan, random))
            .collect();
        let mut control = Self {
            users,
            guilds,
            away: false,
            joins: Vec::new(),
            next_ticket: 0,
        };
        for account in (0..plan.users).map(Account) {
            if account.0 % 10 == 9 {
                continue;
            }
            for _ in 0..random.random_range(1..=2) {
                let guild = random.random_range(0..plan.guilds);
                control.guilds[guild].members.insert(account);
            }
        }
        control
    }

    /// The answer as things stand now.
    pub(crate) fn answer(&self, ask: &Ask) -> Answer {
        if self.away {
            return Answer::Unavailable;
        }
        match ask {
            Ask::Identify { token } => match self.account(token) {
                None => Answer::BadToken,
                Some(account) => Answer::Identified {
                    user: self.users[account.0].clone(),
                    guilds: self.fragments(account),
                },
            },
            Ask::Access { user, channel } => self.access(*user, *channel),
        }
    }

    /// The token of an account.
    pub(crate) fn token(&self, account: Account) -> String {
        format!("token-{}", account.0)
    }

    /// The user of an account.
    pub(crate) fn user(&self, account: Account) -> UserId {
        self.users[account.0].id
    }

    /// All accounts.
    pub(crate) fn users(&self) -> &[User] {
        &self.users
    }

    /// All channels, guild after guild.
    pub(crate) fn channels(&self) -> Vec<ChannelId> {
        self.guilds.iter().flat_map(GuildState::channels).collect()
    }

    /// The channels that an account may use.
    pub(crate) fn channels_of(&self, account: Account) -> Vec<ChannelId> {
        let mine = self
            .guilds
            .iter()
            .filter(|guild| guild.members.contains(&account));
        mine.flat_map(GuildState::channels).collect()
    }

    /// Whether an account may use a channel.
    pub(crate) fn may(&self, account: Account, channel: ChannelId) -> bool {
        self.guild_of(channel)
            .is_some_and(|guild| guild.members.contains(&account))
    }

    /// Somebody who is in no guild joins one; the shards are to be told. `None` if there is
    /// nobody, or somebody else is just joining.
    pub(crate) fn join(&mut self, shards: u16, random: &mut StdRng) -> Option<Invalidation> {
        if !self.joins.is_empty() {
            return None;
        }
        let account = (0..self.users.len()).map(Account).find(|account| {
            self.guilds
                .iter()
                .all(|guild| !guild.members.contains(account))
        })?;
        let number = random.random_range(0..self.guilds.len());
        let guild = &mut self.guilds[number];
        guild.version += 1;
        guild.members.insert(account);
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        self.joins.push(Join {
            ticket,
            account,
            waiting: (0..shards).collect(),
        });
        let (guild, version) = (guild.guild.id, guild.version);
        Some(Invalidation {
            ticket,
            guild,
            version,
            user: self.users[account.0].id,
        })
    }

    /// A shard has dropped what it kept; returns who has now joined.
    pub(crate) fn invalidated(&mut self, shard: u16, ticket: u64) -> Option<Account> {
        let position = self.joins.iter().position(|join| join.ticket == ticket)?;
        self.joins[position].waiting.remove(&shard);
        let done = self.joins[position].waiting.is_empty();
        done.then(|| self.joins.remove(position).account)
    }

    /// The shards are gone, and with them what they kept; returns who has now joined.
    pub(crate) fn shards_gone(&mut self) -> Vec<Account> {
        self.joins.drain(..).map(|join| join.account).collect()
    }

    fn account(&self, token: &str) -> Option<Account> {
        let number: usize = token.strip_prefix("token-")?.parse().ok()?;
        (number < self.users.len()).then_some(Account(number))
    }

    fn access(&self, user: UserId, channel: ChannelId) -> Answer {
        let Some(guild) = self.guild_of(channel) else {
            let guild = GuildId::from_u128(0);
            return Answer::Access {
                guild,
                guild_version: 0,
                access: Access::NoSuchChannel,
            };
        };
        let is_member = guild
            .members
            .iter()
            .any(|account| self.users[account.0].id == user);
        let access = if is_member {
            Access::Member
        } else {
            Access::NotMember
        };
        Answer::Access {
            guild: guild.guild.id,
            guild_version: guild.version,
            access,
        }
    }

    fn guild_of(&self, channel: ChannelId) -> Option<&GuildState> {
        self.guilds
            .iter()
            .find(|guild| guild.channels().any(|held| held == channel))
    }

    fn fragments(&self, account: Account) -> Vec<Arc<GuildFragment>> {
        let mine = self
            .guilds
            .iter()
            .filter(|guild| guild.members.contains(&account));
        mine.map(|guild| Arc::new(guild.fragment())).collect()
    }
}

impl GuildState {
    fn channels(&self) -> impl Iterator<Item = ChannelId> {
        self.guild.channels.iter().map(|channel| channel.id)
    }

    fn fragment(&self) -> GuildFragment {
        let json = serde_json::to_vec(&self.guild).expect("a guild can be written");
        GuildFragment {
            id: self.guild.id,
            version: self.version,
            json: Bytes::from(json),
            channels: self.channels().collect(),
        }
    }
}

fn user(number: usize, random: &mut StdRng) -> User {
    User {
        id: UserId::from_u128(random.random()),
        username: format!("user.{number}"),
        discriminator: "0001".to_owned(),
        avatar_url: None,
        status: UserStatus::Offline,
        custom_status: None,
    }
}

fn guild(number: usize, plan: &Plan, random: &mut StdRng) -> GuildState {
    let id = GuildId::from_u128(random.random());
    let channels = (0..plan.channels_per_guild).map(|place| Channel {
        id: ChannelId::from_u128(random.random()),
        guild_id: id,
        name: format!("room-{number}-{place}"),
        kind: ChannelType::Text,
        position: u32::try_from(place).expect("few channels"),
        parent_id: None,
    });
    let channels = channels.collect();
    let guild = Guild {
        id,
        name: "g".repeat(plan.guild_name_bytes),
        icon_url: None,
        owner_id: UserId::from_u128(random.random()),
        channels,
        member_count: 0,
    };
    GuildState {
        guild,
        version: 1,
        members: BTreeSet::new(),
    }
}
