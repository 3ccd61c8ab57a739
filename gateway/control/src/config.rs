//! The control plane's settings and every limit it works within.
//!
//! Nothing is read from a file or the environment here: the server's configuration fills this in.
//! No secret is part of it.
//!
//! Invariants: [`ControlConfig::assert_consistent`] holds for every configuration that
//! [`crate::Control::start`] accepts; a limit of 0 switches a limit off only where its
//! documentation says so.

use std::path::PathBuf;

use serde::Deserialize;

/// At most `count` times within a window that opens with the first; 0 for either: no limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
pub struct Rate {
    /// How often within one window.
    pub count: u32,
    /// The window in seconds.
    pub window_s: u32,
}

impl Rate {
    /// So many per window of so many seconds.
    #[must_use]
    pub const fn new(count: u32, window_s: u32) -> Self {
        Self { count, window_s }
    }

    /// Whether this limits nothing.
    #[must_use]
    pub const fn is_off(self) -> bool {
        self.count == 0 || self.window_s == 0
    }
}

/// What users may do how often and how many. 0 switches a limit off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ControlLimits {
    /// Registrations per address (an IPv6 address counts as its /64).
    pub register: Rate,
    /// Failed log-ins per address; who knows the password is never counted.
    pub login_failures: Rate,
    /// Channels created per user.
    pub channel_create: Rate,
    /// Guilds a user is in at most.
    pub guilds_per_user: u32,
    /// Channels in a guild at most.
    pub channels_per_guild: u32,
}

impl Default for ControlLimits {
    fn default() -> Self {
        Self {
            register: Rate::new(20, 60),
            login_failures: Rate::new(20, 60),
            channel_create: Rate::new(10, 60),
            guilds_per_user: 100,
            channels_per_guild: 500,
        }
    }
}

/// What hashing one password costs (argon2id, one lane).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PasswordCost {
    /// Memory in KiB, at least 8.
    pub memory_kib: u32,
    /// Passes over it, at least 1.
    pub passes: u32,
}

/// Everything the control plane needs to know to start.
#[derive(Clone, Debug)]
pub struct ControlConfig {
    /// Where `control.db` and `token.key` live; created when missing.
    pub data_dir: PathBuf,
    /// Threads of the control plane's own runtime.
    pub threads: usize,
    /// How long a token is good, in seconds.
    pub token_ttl_s: u64,
    /// What a password hash costs.
    pub password_cost: PasswordCost,
    /// Passwords hashed at the same time.
    pub passwords_at_once: usize,
    /// Requests that wait for a password's turn; the next gets 503.
    pub passwords_waiting_max: usize,
    /// Open HTTP connections; the next gets 503.
    pub http_connections_max: usize,
    /// Handed-over connections that wait to be taken up; the next is refused.
    pub hand_overs_queued_max: usize,
    /// Messages from shards that wait to be read; the next is refused.
    pub asks_queued_max: usize,
    /// How long a request head may take, and a connection be idle between requests, in ms.
    pub http_idle_ms_max: u64,
    /// How long a request body may take, in ms.
    pub http_body_ms_max: u64,
    /// How long a client may leave a response unread, in ms.
    pub http_write_ms_max: u64,
    /// Request body in bytes.
    pub body_bytes_max: usize,
    /// How long a shard may take to answer before a request gets 503, in ms.
    pub shard_answer_ms_max: u64,
    /// How long requests under way get to finish at shutdown, in ms.
    pub shutdown_ms_max: u64,
    /// How long another process's change of a guild (seeding) may go unseen, in ms.
    pub guild_age_ms_max: u64,
    /// Bytes of users kept in memory, for between their IDENTIFY and their first subscriptions.
    pub users_cached_bytes_max: usize,
    /// Bytes of guilds kept in memory, as READY shows them. The small ones of all members would be
    /// as much as the members' sessions; the large ones are always among those used last.
    pub guilds_cached_bytes_max: usize,
    /// Bytes of which channel is in which guild.
    pub channels_cached_bytes_max: usize,
    /// What users may do.
    pub limits: ControlLimits,
}

impl ControlConfig {
    /// The defaults, for a data directory.
    #[must_use]
    pub fn new(data_dir: PathBuf) -> Self {
        Self {
            data_dir,
            threads: 2,
            token_ttl_s: 30 * 24 * 3600,
            // The second of the settings that OWASP's password storage guide calls equivalent.
            password_cost: PasswordCost {
                memory_kib: 19 * 1024,
                passes: 2,
            },
            passwords_at_once: 2,
            passwords_waiting_max: 128,
            http_connections_max: 1024,
            hand_overs_queued_max: 1024,
            asks_queued_max: 16 * 1024,
            http_idle_ms_max: 10_000,
            http_body_ms_max: 10_000,
            http_write_ms_max: 30_000,
            body_bytes_max: 64 * 1024,
            shard_answer_ms_max: 5_000,
            shutdown_ms_max: 5_000,
            guild_age_ms_max: 10_000,
            users_cached_bytes_max: 256 << 10,
            guilds_cached_bytes_max: 512 << 10,
            channels_cached_bytes_max: 256 << 10,
            limits: ControlLimits::default(),
        }
    }

    /// Panics when settings contradict each other: the process must not start with them.
    pub fn assert_consistent(&self) {
        let positive = [
            self.threads,
            self.passwords_at_once,
            self.http_connections_max,
            self.hand_overs_queued_max,
            self.asks_queued_max,
            self.body_bytes_max,
            self.users_cached_bytes_max,
            self.guilds_cached_bytes_max,
            self.channels_cached_bytes_max,
        ];
        assert!(
            positive.iter().all(|n| *n > 0),
            "control: a size of 0 would refuse everything"
        );
        assert!(self.token_ttl_s > 0, "control: tokens would expire at once");
        assert!(
            self.password_cost.memory_kib >= 8 && self.password_cost.passes >= 1,
            "control: argon2 needs 8 KiB and one pass"
        );
        assert!(
            self.http_idle_ms_max > 0 && self.http_body_ms_max > 0 && self.http_write_ms_max > 0,
            "control: an HTTP timeout of 0 would end every connection"
        );
        assert!(
            self.shard_answer_ms_max > 0,
            "control: shards need time to answer"
        );
    }
}
