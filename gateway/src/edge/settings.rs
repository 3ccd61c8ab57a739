//! The limits of one edge, with their defaults.
//!
//! It reads nothing: whoever starts the edge fills it in.
//!
//! Invariants, checked at start: the receive buffers are a power of two; a socket's backlog is
//! larger than the mark above which it is no longer read; somebody can be told that the shard is
//! full.

use std::net::SocketAddr;

use crate::config::ReceiveMode;

/// How an edge serves. Sizes in bytes, times in milliseconds, counts per shard.
#[derive(Clone, Debug)]
pub struct EdgeSettings {
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// Number of shards, at least 1.
    pub shards: u16,
    /// How arrivals are heard.
    pub mode: ReceiveMode,
    /// Connections per shard; who comes beyond them gets 503. 0 = as many as the memory would hold
    /// at 5 KiB each.
    pub connections_max: u32,
    /// Places per shard for those who are told that it is full. While all are taken the shard accepts
    /// nobody.
    pub refusals_max: u32,
    /// Memory that is to stay free, of the box or the control group: below it, who comes gets 503.
    /// 0 = the larger of 512 MiB and a twentieth of the memory.
    pub memory_reserve_bytes: u64,
    /// Sockets per ring; 0 = as many as the descriptor limit allows, or as are needed.
    pub ring_places: u32,
    /// How long arrivals may wait to be taken together while very many sessions each say a little,
    /// in microseconds; 0 = each wakes its shard.
    pub gather_us_max: u32,
    /// Connections of a shard from which on that is done.
    pub gather_sessions_min: u32,
    /// Completions that a ring holds, 16 bytes each; more are kept by the kernel, only slower.
    pub completions: u32,
    /// What may wait for one socket that is slow to take it; up to four times that when the server
    /// itself queued it at once, and always one frame.
    pub backlog_bytes_max: usize,
    /// What may wait for all sockets of a shard together, frames that many wait for counted once.
    /// Beyond it the largest backlogs are dropped.
    pub backlogs_bytes_max: usize,
    /// A socket with more than this waiting is not read until half of it has left, if given;
    /// otherwise only the backlog's limit protects the server.
    pub unread_bytes_max: Option<usize>,
    /// Longest time between two ticks.
    pub tick_ms: u64,
    /// How long the application gets to part from its clients when the process is to end.
    pub drain_ms_max: u64,
    /// How long a socket that the application closed may take to drain.
    pub linger_ms_max: u64,
    /// Receive buffers of a shard's first ring, a power of two; the later ones have 256 of 2 KiB at
    /// most.
    pub receive_buffers: u16,
    /// Size of one receive buffer.
    pub receive_buffer_bytes: u32,
    /// The kernel's send buffer of one socket. Fixed, since the kernel's own tuning goes to
    /// megabytes for each slow reader; the kernel doubles it for its bookkeeping.
    pub send_buffer_bytes: usize,
    /// Memory that each executor registers for file I/O; it counts against RLIMIT_MEMLOCK.
    pub io_memory_bytes: usize,
}

impl EdgeSettings {
    /// The defaults, for this address and number of shards.
    #[must_use]
    pub fn new(listen: SocketAddr, shards: u16) -> Self {
        Self {
            listen,
            shards,
            mode: ReceiveMode::default(),
            connections_max: 0,
            refusals_max: 256,
            memory_reserve_bytes: 0,
            ring_places: 0,
            gather_us_max: 500,
            gather_sessions_min: 10_000,
            completions: 4_096,
            backlog_bytes_max: 256 << 10,
            backlogs_bytes_max: 512 << 20,
            unread_bytes_max: None,
            tick_ms: 100,
            drain_ms_max: 30_000,
            linger_ms_max: 5_000,
            receive_buffers: 1_024,
            receive_buffer_bytes: 8 << 10,
            send_buffer_bytes: 128 << 10,
            io_memory_bytes: 256 << 10,
        }
    }

    /// # Panics
    /// If two of the limits contradict each other: a mistake of the caller, not of a user.
    pub(super) fn check(&self) {
        assert!(self.shards >= 1, "an edge has a shard");
        assert!(
            self.receive_buffers.is_power_of_two(),
            "the kernel's ring is a power of two"
        );
        assert!(
            self.receive_buffers <= 1 << 15,
            "the kernel's ring has 32768 entries at most"
        );
        assert!(
            self.receive_buffer_bytes >= 1,
            "a receive buffer holds something"
        );
        assert!(
            self.completions.is_power_of_two(),
            "the kernel rounds it up to one"
        );
        assert!(
            self.refusals_max >= 1,
            "somebody can be told that the shard is full"
        );
        let unread = self.unread_bytes_max.unwrap_or(0);
        assert!(
            unread < self.backlog_bytes_max,
            "reading stops before the backlog is full"
        );
    }
}
