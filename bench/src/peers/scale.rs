//! How much is measured.
//!
//! It measures nothing.
//!
//! Invariants: all servers of a run get the same.

use std::time::Duration;

use clap::ValueEnum;

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Scale {
    /// Seconds a server: shows that everything works; the figures mean little.
    Smoke,
    /// Minutes a server.
    Standard,
    /// An hour and more with all servers.
    Full,
}

/// What of each benchmark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sizes {
    /// Rounds, unless --rounds says otherwise.
    pub(super) rounds: u32,
    /// Bytes of a message.
    pub(super) size: u16,
    /// Connections that echo, and for how long.
    pub(super) echo: (u32, Duration),
    /// Subscribers of the closed loop, and for how long.
    pub(super) closed: (u32, Duration),
    /// Subscribers of the open loop, and how long one rate is tried.
    pub(super) open: (u32, Duration),
    /// Connections that idle, and for how long.
    pub(super) idle: (u32, Duration),
}

impl Scale {
    /// As the command line has it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Smoke => "smoke",
            Self::Standard => "standard",
            Self::Full => "full",
        }
    }

    pub(super) const fn sizes(self) -> Sizes {
        let ms = Duration::from_millis;
        match self {
            Self::Smoke => Sizes {
                rounds: 1,
                size: 64,
                echo: (50, ms(300)),
                closed: (50, ms(1_000)),
                open: (50, ms(300)),
                idle: (300, ms(500)),
            },
            Self::Standard => Sizes {
                rounds: 3,
                size: 64,
                echo: (1_000, ms(3_000)),
                closed: (5_000, ms(4_000)),
                open: (1_000, ms(3_000)),
                idle: (10_000, ms(5_000)),
            },
            Self::Full => Sizes {
                rounds: 5,
                size: 64,
                echo: (1_000, ms(10_000)),
                closed: (5_000, ms(10_000)),
                open: (1_000, ms(5_000)),
                idle: (15_000, ms(60_000)),
            },
        }
    }
}
