//! The numbers that both sides of the protocol count on, unless a server is configured otherwise.
//!
//! Nothing here is enforced; whoever keeps a limit takes it from its configuration, whose
//! defaults these are.
//!
//! Invariant: WIRE.md lists each of them under the same name with the same value.

/// The longest message that a client may send, in bytes over all fragments.
pub const MESSAGE_BYTES_MAX: usize = 65_536;

/// The longest request head of a handshake, in bytes.
pub const HEAD_BYTES_MAX: usize = 16_384;

/// The most header lines of a handshake.
pub const HEAD_LINES_MAX: usize = 100;

/// Text messages below this many bytes are not compressed.
pub const DEFLATE_BYTES_MIN: usize = 256;

/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 4_096;

/// The longest message content, in Unicode scalar values.
pub const CONTENT_CHARS_MAX: usize = 2_000;

/// The most channels that one IDENTIFY resumes.
pub const RESUME_CHANNELS_MAX: usize = 1_000;

/// The most missed messages of one channel that are replayed; more give RESYNC.
pub const REPLAY_MESSAGES_MAX: u64 = 1_000;

/// The size in bytes beyond which READY leaves guilds to GUILD_CREATE.
pub const READY_BYTES_MAX: usize = 65_536;

/// What the server queues for one session before it drops it as a slow consumer, in bytes.
pub const BACKLOG_BYTES_MAX: usize = 262_144;

/// How long a connection may take to its handshake's head, in milliseconds.
pub const HANDSHAKE_MS_MAX: u64 = 10_000;

/// How long a connection may take from the handshake to IDENTIFY, in milliseconds.
pub const IDENTIFY_MS_MAX: u64 = 10_000;

/// How often a client sends HEARTBEAT, in milliseconds, unless the server is configured otherwise.
pub const HEARTBEAT_INTERVAL_MS: u64 = 30_000;

/// How long a connection may show neither HEARTBEAT nor pong, in milliseconds: two of the above.
pub const HEARTBEAT_MS_MAX: u64 = 60_000;

/// How long a nonce that is sent again means the same message, in milliseconds.
pub const NONCE_MS_MIN: u64 = 300_000;
