//! Every limit of the server, with its default and what must hold between them.
//!
//! It never reads a file or the environment: [`crate::edge`] does that and hands a value in. An
//! operator sees the same names in the TOML file, in `THRONG_*` variables and in the flags.
//!
//! Invariant: a `Config` that passed [`Config::check`] cannot make a bound contradict another.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{RATE_COUNT_MAX, Rate};

/// The whole configuration.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address and port to serve on; port 0 picks one.
    pub listen: String,
    /// Where everything is kept.
    pub data: PathBuf,
    /// Number of shards, 0 = one per core.
    pub shards: u16,
    /// When a message counts as stored.
    pub durability: Durability,
    /// Seconds that clients get to leave by themselves at shutdown.
    pub drain_s: u32,
    /// Seconds between two HEARTBEATs of a client, as HELLO tells it.
    pub heartbeat_s: u32,
    /// Days until a token expires.
    pub token_days: u32,
    /// Connections per shard, 0 = as many as the memory would hold at 5 KiB each. Who comes beyond
    /// them gets 503.
    pub connections_max: u32,
    /// Whether clients that offer permessage-deflate get it.
    pub compression: bool,
    /// Memory that is to stay free, of the box or of the control group; below it, who comes gets
    /// 503. 0 = the larger of 512 MiB and a twentieth of the memory.
    pub memory_reserve_bytes: u64,
    /// How sockets are served.
    pub sockets: Sockets,
    /// Limits on what users do.
    pub limits: Limits,
    /// Sizes of the message store.
    pub store: Store,
}

/// How sockets are served.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sockets {
    /// How a shard hears of what arrives.
    pub mode: ReceiveMode,
    /// Sockets per io_uring, 0 = as many as the descriptor limit allows. A shard opens as many of
    /// them as it needs; few are faster than many.
    pub ring_places: u32,
    /// How long arrivals may wait to be taken together while a shard has 10,000 connections or more
    /// that each say a little, in microseconds, 10,000 at most; 0 = each wakes its shard.
    pub gather_us_max: u32,
}

/// How a shard hears of what arrives on a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReceiveMode {
    /// A receive that goes on for as long as the socket: the least work per message.
    #[default]
    Multishot,
    /// A poll that goes on, and a receive each time it tells of something: less kernel memory per
    /// socket, one more operation per message.
    Dense,
}

/// When a message is acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After its commit is written and synced: it survives a power cut.
    Sync,
    /// After its commit is written; synced every 200 ms: a power cut may lose that much.
    Interval,
    /// After its commit is written; synced when the kernel likes.
    Off,
}

/// Limits on what users do. A count of 0 switches a limit off.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Messages per user.
    pub message: Rate,
    /// Reactions per user.
    pub reaction: Rate,
    /// Channels created per user.
    pub channel_create: Rate,
    /// Direct-message channels created per user.
    pub dm_create: Rate,
    /// Searches per user.
    pub search: Rate,
    /// Accounts registered per address.
    pub register: Rate,
    /// IDENTIFY commands per user.
    pub identify: Rate,
    /// START_TYPING and STOP_TYPING commands per connection; what exceeds it is dropped unsaid.
    pub typing: Rate,
    /// Sessions.
    pub sessions: Sessions,
    /// Unicode scalar values in a message.
    pub content_chars_max: usize,
    /// Bytes of one WebSocket message from a client.
    pub message_bytes_max: usize,
    /// Bytes of messages from clients that have not arrived whole, the whole node's together, of which
    /// each shard has an equal part; who adds to them beyond it is closed with 1013.
    pub incomplete_bytes_max: usize,
    /// Bytes that wait for one socket before it counts as a slow consumer.
    pub backlog_bytes_max: usize,
    /// Bytes that wait for all sockets of the node together, of which each shard has an equal part, and
    /// what many of its sockets wait for counts once; beyond it those with the largest backlogs count as
    /// slow consumers. 0 = a sixteenth of the memory.
    pub backlogs_bytes_max: usize,
    /// Subscribed channels per session.
    pub subscriptions_max: usize,
    /// Unanswered SEND_MESSAGE commands of one session; the next is UNAVAILABLE.
    pub sends_max: usize,
    /// Commands that wait in one session behind a SUBSCRIBE_CHANNEL.
    pub parked_max: usize,
    /// Guilds per user.
    pub guilds_per_user: u32,
    /// Channels per guild.
    pub channels_per_guild: u32,
    /// Unanswered requests of one shard's sessions.
    pub requests_max: usize,
    /// Questions of one shard that the control plane has not answered.
    pub asks_max: usize,
    /// Pages of one shard being read from the store.
    pub reads_max: usize,
    /// Memberships remembered per shard.
    pub access_entries_max: usize,
    /// Nonces remembered per shard; when full, messages are refused with UNAVAILABLE.
    pub nonces_max: usize,
    /// Bytes of live frames on their way from one shard to the listeners on another, or on itself.
    pub lane_bytes_max: u64,
    /// Listeners of one channel that a shard tells in one go; a larger channel is told in slices
    /// of so many, and other work comes between them.
    pub fanout_slice_max: usize,
    /// Bytes of records gathered for one commit.
    pub commit_bytes_max: usize,
    /// Open HTTP connections at the control plane.
    pub http_connections_max: usize,
}

/// Limits on sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Simultaneous sessions of one user; 0 = no limit.
    pub per_user: u32,
}

/// Sizes and times of the message store.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Bytes of one segment file, a multiple of 4096.
    pub segment_bytes: u32,
    /// With `durability = "interval"`: milliseconds between two syncs of a busy log.
    pub sync_interval_ms: u64,
    /// Bytes per shard for blocks of older messages that were read.
    pub cache_bytes: u64,
    /// Bytes per shard for the newest messages of channels that are read.
    pub recent_bytes: u64,
    /// Days that messages are kept after their own; 0 = for ever.
    pub retention_days: u32,
    /// Bytes of sealed days that are kept, the oldest go first; 0 = no limit.
    pub retention_bytes: u64,
    /// Whether the sealed days of a month that has ended become one file, and small neighbouring
    /// files a larger one.
    pub merge_months: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            data: PathBuf::from("./data"),
            shards: 0,
            durability: Durability::Sync,
            drain_s: 30,
            heartbeat_s: 30,
            token_days: 30,
            connections_max: 0,
            compression: true,
            memory_reserve_bytes: 0,
            sockets: Sockets::default(),
            limits: Limits::default(),
            store: Store::default(),
        }
    }
}

impl Default for Sockets {
    fn default() -> Self {
        Self {
            mode: ReceiveMode::default(),
            ring_places: 0,
            gather_us_max: 500,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: Rate {
                count: 5,
                window_s: 5,
            },
            reaction: Rate {
                count: 10,
                window_s: 1,
            },
            channel_create: Rate {
                count: 10,
                window_s: 60,
            },
            dm_create: Rate {
                count: 10,
                window_s: 60,
            },
            search: Rate {
                count: 10,
                window_s: 60,
            },
            register: Rate {
                count: 20,
                window_s: 60,
            },
            identify: Rate {
                count: 30,
                window_s: 60,
            },
            typing: Rate {
                count: 10,
                window_s: 5,
            },
            sessions: Sessions::default(),
            content_chars_max: 2_000,
            message_bytes_max: 64 << 10,
            incomplete_bytes_max: 128 << 20,
            backlog_bytes_max: 256 << 10,
            backlogs_bytes_max: 0,
            subscriptions_max: 1_000,
            sends_max: 2_048,
            parked_max: 64,
            guilds_per_user: 100,
            channels_per_guild: 500,
            requests_max: 65_536,
            asks_max: 65_536,
            reads_max: 4_096,
            access_entries_max: 1 << 20,
            nonces_max: 4 << 20,
            lane_bytes_max: 8 << 20,
            fanout_slice_max: 2_048,
            commit_bytes_max: 1 << 20,
            http_connections_max: 1_024,
        }
    }
}

impl Default for Sessions {
    fn default() -> Self {
        Self { per_user: 16 }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            sync_interval_ms: 200,
            cache_bytes: 64 << 20,
            recent_bytes: 32 << 20,
            retention_days: 0,
            retention_bytes: 0,
            merge_months: true,
        }
    }
}

/// A limit that cannot be, with what is allowed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("{name} is {value}, but {allowed}")]
pub struct ConfigError {
    /// Name of the setting, as in the TOML file.
    pub name: &'static str,
    /// What it was set to.
    pub value: u64,
    /// What is allowed.
    pub allowed: &'static str,
}

impl Config {
    /// Checks each limit and the relations between them.
    ///
    /// # Errors
    /// The first limit that cannot be.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_node()?;
        self.limits.check()?;
        self.check_store()
    }

    fn check_node(&self) -> Result<(), ConfigError> {
        let shards = u64::from(self.shards);
        require(
            shards <= 256,
            "shards",
            shards,
            "at most 256 shards are allowed",
        )?;
        let heartbeat = u64::from(self.heartbeat_s);
        let is_possible = (5..=600).contains(&heartbeat);
        require(
            is_possible,
            "heartbeat_s",
            heartbeat,
            "5 to 600 are allowed",
        )?;
        let gather_us = u64::from(self.sockets.gather_us_max);
        let (name, allowed) = ("sockets.gather_us_max", "0 to 10000 are allowed");
        require(gather_us <= 10_000, name, gather_us, allowed)?;
        let days = u64::from(self.token_days);
        require(days >= 1, "token_days", days, "1 day is the least")
    }

    /// How often clients shall send HEARTBEAT, in milliseconds.
    #[must_use]
    pub fn heartbeat_ms(&self) -> u64 {
        u64::from(self.heartbeat_s) * 1_000
    }

    fn check_store(&self) -> Result<(), ConfigError> {
        let (name, bytes) = ("store.segment_bytes", u64::from(self.store.segment_bytes));
        let commits = 2 * (self.limits.commit_bytes_max as u64 + (64 << 10));
        let allowed =
            "it must hold two of the largest commits (limits.commit_bytes_max + 64 KiB each)";
        require(bytes >= commits, name, bytes, allowed)?;
        let is_whole = bytes.is_multiple_of(4_096) && bytes <= 1 << 30;
        require(
            is_whole,
            name,
            bytes,
            "multiples of 4096 up to 1 GiB are allowed",
        )?;
        let (name, interval_ms) = ("store.sync_interval_ms", self.store.sync_interval_ms);
        let is_possible = (1..=60_000).contains(&interval_ms);
        require(is_possible, name, interval_ms, "1 to 60000 are allowed")?;
        let (name, cache_bytes) = ("store.cache_bytes", self.store.cache_bytes);
        require(
            cache_bytes >= 1 << 20,
            name,
            cache_bytes,
            "at least 1 MiB is needed (1048576)",
        )
    }
}

impl Limits {
    /// A shard's part of what may wait for all sockets, on a box with so much memory.
    #[must_use]
    pub fn backlogs_part(&self, shards: u16, memory_bytes: usize) -> usize {
        let node_bytes = match self.backlogs_bytes_max {
            0 => memory_bytes / 16,
            set => set,
        };
        node_bytes / usize::from(shards)
    }

    /// A shard's part of what may wait for its rest. It holds two messages at least.
    #[must_use]
    pub fn incomplete_part(&self, shards: u16) -> usize {
        let part = self.incomplete_bytes_max / usize::from(shards);
        part.max(2 * self.message_bytes_max + (4 << 10))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let content = self.content_chars_max as u64;
        let is_possible = (1..=100_000).contains(&content);
        require(
            is_possible,
            "limits.content_chars_max",
            content,
            "1 to 100000 are allowed",
        )?;
        self.check_bytes(content * 12 + 2_048, content * 4 + 1_024)?;
        for (name, count) in [
            ("limits.requests_max", self.requests_max),
            ("limits.asks_max", self.asks_max),
            ("limits.reads_max", self.reads_max),
            ("limits.nonces_max", self.nonces_max),
            ("limits.access_entries_max", self.access_entries_max / 16),
            ("limits.sends_max", self.sends_max),
            ("limits.subscriptions_max", self.subscriptions_max),
            ("limits.parked_max", self.parked_max),
            ("limits.fanout_slice_max", self.fanout_slice_max),
            ("limits.http_connections_max", self.http_connections_max),
        ] {
            require(
                count >= 1,
                name,
                0,
                "without any the server could do nothing",
            )?;
        }
        let (sends, subscriptions) = (self.sends_max, self.subscriptions_max);
        let (few, many) = ("65535 is the most", "16777216 is the most");
        let most_nonces = "1073741824 is the most";
        for (name, count, most, allowed) in [
            ("limits.sends_max", sends, 65_535, few),
            ("limits.subscriptions_max", subscriptions, 65_535, few),
            ("limits.requests_max", self.requests_max, 1 << 24, many),
            ("limits.nonces_max", self.nonces_max, 1 << 30, most_nonces),
        ] {
            require(count <= most, name, count as u64, allowed)?;
        }
        let windows = self
            .rates()
            .iter()
            .all(|rate| rate.is_off() || rate.window_s >= 1);
        require(windows, "limits.*.window_s", 0, "1 second is the least")?;
        let counts = self.rates().map(|rate| rate.count);
        let largest = u64::from(counts.into_iter().max().unwrap_or(0));
        let is_possible = largest <= u64::from(RATE_COUNT_MAX);
        require(
            is_possible,
            "limits.*.count",
            largest,
            "65535 is the most; 0 is no limit",
        )?;
        let sessions = u64::from(self.sessions.per_user);
        let name = "limits.sessions.per_user";
        require(sessions <= 65_535, name, sessions, "65535 is the most")
    }

    /// The limits in bytes, given the largest frame and the largest record.
    fn check_bytes(&self, frame: u64, record: u64) -> Result<(), ConfigError> {
        let message = self.message_bytes_max as u64;
        let allowed = "it must hold content_chars_max escaped characters (12 bytes each) and 2048 \
                       bytes more";
        require(
            message >= frame,
            "limits.message_bytes_max",
            message,
            allowed,
        )?;
        let incomplete = self.incomplete_bytes_max as u64;
        let allowed = "it must hold four messages of limits.message_bytes_max";
        let fits = incomplete >= 4 * message;
        require(fits, "limits.incomplete_bytes_max", incomplete, allowed)?;
        let backlog = self.backlog_bytes_max as u64;
        let allowed = "it must hold a page of 64 KiB and two of the largest messages";
        let fits = backlog >= (64 << 10) + 2 * frame;
        require(fits, "limits.backlog_bytes_max", backlog, allowed)?;
        let backlogs = self.backlogs_bytes_max as u64;
        let allowed = "it must hold the backlog of one socket; 0 is a sixteenth of the memory";
        let fits = backlogs == 0 || backlogs >= backlog;
        require(fits, "limits.backlogs_bytes_max", backlogs, allowed)?;
        let commit = self.commit_bytes_max as u64;
        let allowed = "one of the largest messages is the least, 256 MiB the most";
        let fits = (record..=256 << 20).contains(&commit);
        require(fits, "limits.commit_bytes_max", commit, allowed)?;
        let lane = self.lane_bytes_max;
        let allowed = "it must hold 16 of the largest messages";
        require(lane >= 16 * frame, "limits.lane_bytes_max", lane, allowed)
    }

    fn rates(&self) -> [Rate; 8] {
        [
            self.message,
            self.reaction,
            self.channel_create,
            self.dm_create,
            self.search,
            self.register,
            self.identify,
            self.typing,
        ]
    }
}

fn require(
    holds: bool,
    name: &'static str,
    value: u64,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    match holds {
        true => Ok(()),
        false => Err(ConfigError {
            name,
            value,
            allowed,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(toml: &str, wrong: Option<&str>) {
        let config: Config = toml::from_str(toml).expect("valid TOML");
        assert_eq!(
            config.check().err().map(|error| error.name),
            wrong,
            "{toml}"
        );
    }

    #[test]
    fn relations_between_limits() {
        check("", None);
        check("[limits.message]\ncount = 0\nwindow_s = 5", None);
        check("shards = 300", Some("shards"));
        check("heartbeat_s = 4", Some("heartbeat_s"));
        check("[limits]\nsends_max = 70_000", Some("limits.sends_max"));
        check("[store]\nsegment_bytes = 4097", Some("store.segment_bytes"));
        check(
            "[store]\nsync_interval_ms = 0",
            Some("store.sync_interval_ms"),
        );
        check("[store]\ncache_bytes = 4096", Some("store.cache_bytes"));
        check("[store]\nretention_days = 30\nmerge_months = false", None);
        check(
            "[limits]\nmessage_bytes_max = 100",
            Some("limits.message_bytes_max"),
        );
        check(
            "[limits]\nbacklog_bytes_max = 1000",
            Some("limits.backlog_bytes_max"),
        );
        check(
            "[limits]\nbacklogs_bytes_max = 200000",
            Some("limits.backlogs_bytes_max"),
        );
        check(
            "[limits]\nincomplete_bytes_max = 200000",
            Some("limits.incomplete_bytes_max"),
        );
        check(
            "[limits.search]\ncount = 1\nwindow_s = 0",
            Some("limits.*.window_s"),
        );
    }

    #[test]
    fn a_name_that_does_not_exist_is_refused() {
        let error = toml::from_str::<Config>("[limits]\nmesage_bytes = 1").expect_err("misspelt");
        assert!(error.to_string().contains("mesage_bytes"), "{error}");
    }
}
