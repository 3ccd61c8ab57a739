//! Why a run could not be made, or not be finished.
//!
//! Broken promises of the server are not errors but findings: they are in the report.
//!
//! Invariants: every message says what to do about it, where something can be done.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use throng_protocol::GuildId;

use crate::corpus::CorpusError;
use crate::peers::PeersError;
use crate::rest::RestError;
use crate::schedule::MESSAGES_MAX;
use crate::store::StoreBenchError;
use crate::suite::compare::read::ReportError;
use crate::target::TargetError;

/// What ends a run without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The target cannot be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The corpus cannot be used.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A call of the API failed.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// Stores cannot be compared.
    #[error(transparent)]
    Store(#[from] StoreBenchError),
    /// Another server cannot be measured.
    #[error(transparent)]
    Peers(#[from] PeersError),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that should hold a suite's report does not.
    #[error("{}: {source}", path.display())]
    Report {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: ReportError,
    },
    /// A token file is too short.
    #[error(
        "the token file holds {found} token(s), {needed} clients need one each (`throng admin seed-users --count {needed}` makes them)"
    )]
    TooFewTokens {
        /// How many it holds.
        found: usize,
        /// How many are needed.
        needed: usize,
    },
    /// A channel would have nobody who speaks in it.
    #[error(
        "{clients} clients with {subscriptions} subscriptions each do not reach {channels} channels: raise --clients or --subscriptions, or lower --channels"
    )]
    TooFewSubscriptions {
        /// How many clients.
        clients: u32,
        /// How many channels each watches.
        subscriptions: u32,
        /// How many channels there are.
        channels: u32,
    },
    /// More subscriptions than a client can resume in one IDENTIFY.
    #[error("--subscriptions {subscriptions}: at most {max}, and not more than --channels")]
    TooManySubscriptions {
        /// How many were asked for.
        subscriptions: u32,
        /// How many are possible.
        max: u32,
    },
    /// The plan does not fit.
    #[error("rate and duration make {messages} messages; 1 to {MESSAGES_MAX} are possible")]
    PlanSize {
        /// How many messages it would be.
        messages: u64,
    },
    /// Nothing would be measured.
    #[error("no message is due after --warm-up: raise --duration or --rate")]
    OnlyWarmUp,
    /// The clients are not members of the guild that was named.
    #[error(
        "the first token's user is no member of guild {guild}: seed the users with `--guild {guild}`"
    )]
    NotAMember {
        /// Which guild.
        guild: GuildId,
    },
    /// There is no channel for a message to all.
    #[error(
        "the clients share no channel: seed the users with `throng admin seed-users --everyone NAME`"
    )]
    NoSharedChannel,
    /// Slow readers wait between two receives, which a receive that goes on cannot.
    #[error("--slow needs --recv dense")]
    SlowNeedDense,
    /// A message did not reach all its subscribers.
    #[error("nothing has come for a while, and {missing} deliveries are missing")]
    Stalled {
        /// How many.
        missing: u64,
    },
    /// Not all clients could be connected, subscribed or kept.
    #[error("{live} of {clients} clients connected and subscribed; the last failure: {last}")]
    NotAllLive {
        /// How many were live.
        live: u64,
        /// How many there should be.
        clients: usize,
        /// The last reason why a connection ended.
        last: String,
    },
    /// The server's program is not there.
    #[error("{}: {source} (`make build` makes the server's program; --server of `suite` and --throng of `peers` name another one)", path.display())]
    NoServer {
        /// Where it was looked for.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A server of our own ended, and not well.
    #[error("{doing}: the server ended with {status}{}{said}", if said.is_empty() { "" } else { ": " })]
    ServerEnded {
        /// What it was to do.
        doing: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it wrote about it; empty where nothing was kept.
        said: String,
    },
    /// A server of our own did not say where it listens.
    #[error("the server said {said:?} where it should say where it listens")]
    NoAddress {
        /// What it said; empty when it ended or said nothing in time.
        said: String,
    },
    /// A server of our own did not end.
    #[error("the server did not end within {seconds} s of SIGTERM")]
    ServerStays {
        /// How long it was waited for.
        seconds: u64,
    },
    /// Ctrl-C or SIGTERM came.
    #[error("ended before it was done")]
    Interrupted,
    /// A part of a suite that there is not.
    #[error("--only {name}: there is no such part; there are {allowed}")]
    NoSuchPart {
        /// What was asked for.
        name: String,
        /// What there is.
        allowed: String,
    },
    /// A report that cannot be read.
    #[error("{}: not a report: {source}", path.display())]
    NoReport {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: serde_json::Error,
    },
    /// The system refused sockets, threads or polling.
    #[error("{doing}: {source}{}", hint(source))]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}

fn hint(source: &io::Error) -> &'static str {
    const EMFILE: i32 = 24;
    if source.raw_os_error() == Some(EMFILE) {
        " (raise the limit of open files: ulimit -n)"
    } else {
        ""
    }
}
