//! How often each thing happened that a run is there to make happen.
//!
//! It judges no run by itself: a set of seeds is asked which things none of them did.
//!
//! Invariant: every kind of happening is in `ALL`.

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Happening {
    PowerCut,
    PowerCutInWrite,
    PowerCutInRecovery,
    Kill,
    DiskError,
    TornTail,
    OtherShardCount,
    DiskFull,
    Drain,
    DrainOutlasted,
    Reconnect,
    Resume,
    ReplayedMessage,
    Resync,
    SlowConsumer,
    BegunOnly,
    TryAgainLater,
    GaveWay,
    FullSlice,
    SilentClosed,
    UnidentifiedClosed,
    BadToken,
    TooManySessions,
    ProtocolViolation,
    Garbage,
    Denied,
    Joined,
    ResentAcked,
    ResentUnanswered,
    SameAckAgain,
    Unavailable,
    RateLimited,
    ControlOutage,
    Typing,
    GuildCreate,
    AbruptEnd,
    HistoryPage,
    DayPassed,
    Sealed,
}

impl Happening {
    /// What single stories are about and seeds seldom or never do.
    pub(crate) const IN_STORIES: [Self; 3] = [Self::TornTail, Self::BegunOnly, Self::TryAgainLater];

    /// All of them.
    const ALL: [Self; 39] = [
        Self::PowerCut,
        Self::PowerCutInWrite,
        Self::PowerCutInRecovery,
        Self::Kill,
        Self::DiskError,
        Self::TornTail,
        Self::OtherShardCount,
        Self::DiskFull,
        Self::Drain,
        Self::DrainOutlasted,
        Self::Reconnect,
        Self::Resume,
        Self::ReplayedMessage,
        Self::Resync,
        Self::SlowConsumer,
        Self::BegunOnly,
        Self::TryAgainLater,
        Self::GaveWay,
        Self::FullSlice,
        Self::SilentClosed,
        Self::UnidentifiedClosed,
        Self::BadToken,
        Self::TooManySessions,
        Self::ProtocolViolation,
        Self::Garbage,
        Self::Denied,
        Self::Joined,
        Self::ResentAcked,
        Self::ResentUnanswered,
        Self::SameAckAgain,
        Self::Unavailable,
        Self::RateLimited,
        Self::ControlOutage,
        Self::Typing,
        Self::GuildCreate,
        Self::AbruptEnd,
        Self::HistoryPage,
        Self::DayPassed,
        Self::Sealed,
    ];
}

/// A tally.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Counts {
    counts: [u64; Happening::ALL.len()],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            counts: [0; Happening::ALL.len()],
        }
    }
}

impl Counts {
    /// It happened once more.
    pub(crate) fn add(&mut self, happening: Happening) {
        self.counts[happening as usize] += 1;
    }

    /// How often it happened.
    pub(crate) fn of(&self, happening: Happening) -> u64 {
        self.counts[happening as usize]
    }

    /// Adds another run's counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
    }

    /// What never happened.
    pub(crate) fn missing(&self) -> Vec<Happening> {
        Happening::ALL
            .into_iter()
            .filter(|happening| self.of(*happening) == 0)
            .collect()
    }

    /// One line of text.
    pub(crate) fn line(&self) -> String {
        let shown = Happening::ALL.map(|happening| format!("{happening:?} {}", self.of(happening)));
        shown.join(", ")
    }
}
