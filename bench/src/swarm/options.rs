//! What every run of a swarm is told on the command line, and the crowd that follows from it.
//!
//! It opens the token file and nothing else.
//!
//! Invariants: a ring holds no more sockets than the system's limit of open files; the limit is
//! raised as far as the process may.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use rand::RngExt;
use rand::rngs::StdRng;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::BufferSizes;
use super::crowd::{Crowd, CrowdSettings};
use super::links::{LinkSettings, Receiving};
use super::people::{Manners, People};
use super::talk::Talk;
use super::tokens::Tokens;
use super::voice::Voice;
use crate::chat::parse_duration;
use crate::clock::Clock;
use crate::error::BenchError;
use crate::target::Target;

/// Descriptors that are not for a ring's table.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Attempts of a client that may fail in a row, where no server is to come back: some 12 s.
const FAILURES_MAX: u8 = 8;
/// Rings up to this many get large buffers.
const FEW_RINGS: u32 = 4;

/// What becomes of a connection that ends, and of its client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// It is closed; the client comes back as a new one.
    Orderly,
    /// It is reset, so that the kernel forgets it at once.
    Reset,
    /// It is closed; the client comes back, as long as it takes, and goes on where it was.
    Resume,
}

/// Who comes, how, and with which server.
#[derive(Args, Clone, Debug)]
pub struct SwarmOptions {
    /// The server, http://ADDR:PORT, over IPv4. On loopback, clients come from 127.1.0.0 on.
    #[arg(long)]
    pub target: String,
    /// Identities, one token a line: `throng admin seed-users` makes them.
    #[arg(long)]
    pub tokens: PathBuf,
    /// Handshakes under way at once.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub under_way: u32,
    /// Channels that each client subscribes to, of those that READY names.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=255))]
    pub subscriptions: u32,
    /// Between two heartbeats of a client, e.g. 30s [default: what the server asks for].
    #[arg(long, value_parser = parse_duration)]
    pub heartbeat: Option<Duration>,
    /// How the generator receives.
    #[arg(long, value_enum, default_value_t = Receiving::Dense)]
    pub recv: Receiving,
    /// Sockets of one ring of the generator [default: as many as the limit of open files allows].
    #[arg(long, value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    pub ring_places: Option<u32>,
    /// One in so many messages is parsed whole; of the others, what is counted is scanned for.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub sample: u64,
    /// How long all clients may take to come.
    #[arg(long, default_value = "10m", value_parser = parse_duration)]
    pub connect_timeout: Duration,
    /// The server's process, for its memory and processor time.
    #[arg(long)]
    pub pid: Option<u32>,
    /// Where to write the report as JSON.
    #[arg(long)]
    pub json: Option<PathBuf>,
}

impl SwarmOptions {
    /// A crowd of so many clients, none of them there yet, who come at this rate a second.
    ///
    /// # Errors
    /// When the target or the tokens cannot be used.
    pub fn crowd(&self, clients: u32, rate: u32, ending: Ending) -> Result<Crowd, BenchError> {
        let target = Target::resolve(&self.target)?;
        let tokens = Tokens::open(&self.tokens).map_err(|source| BenchError::File {
            path: self.tokens.clone(),
            source,
        })?;
        if tokens.count() < clients as usize {
            return Err(BenchError::TooFewTokens {
                found: tokens.count(),
                needed: clients as usize,
            });
        }
        let mut fresh: StdRng = rand::make_rng();
        let key = tungstenite::handshake::client::generate_key();
        let voice = Voice::new(&target.authority, fresh.random(), key);
        let manners = Manners {
            channels_max: self.subscriptions as usize,
            sample: self.sample,
            resumes: ending == Ending::Resume,
            slow_from: u32::MAX,
        };
        let talk = Talk::new(fresh.random());
        let people = People::new(clients, tokens, voice, manners, talk);
        let heartbeat_ms = self
            .heartbeat
            .map(|every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX));
        let settings = CrowdSettings {
            links: LinkSettings {
                is_abortive: ending == Ending::Reset,
                ..self.links(&target, clients)?
            },
            rate,
            under_way_max: self.under_way as usize,
            heartbeat_ms,
            failures_max: match ending {
                Ending::Resume => u8::MAX - 1,
                Ending::Reset | Ending::Orderly => FAILURES_MAX,
            },
        };
        Crowd::new(Clock::start(), settings, people).map_err(system("opening a swarm"))
    }

    /// How connections to this target are made.
    ///
    /// # Errors
    /// When the system allows no sockets.
    pub fn links(&self, target: &Target, clients: u32) -> Result<LinkSettings, BenchError> {
        swarm_links(target, clients, self.recv, self.ring_places)
    }
}

/// How so many connections to this target are made, on rings of `places` sockets at most.
///
/// # Errors
/// When the system allows no sockets.
pub fn swarm_links(
    target: &Target,
    clients: u32,
    receiving: Receiving,
    places: Option<u32>,
) -> Result<LinkSettings, BenchError> {
    let allowed = places_allowed()?;
    let places = places.unwrap_or(allowed).min(allowed);
    Ok(LinkSettings {
        target: target.address,
        count: clients,
        places,
        receiving,
        buffers: buffers(clients.div_ceil(places)),
        is_abortive: false,
    })
}

/// Keeps the calling thread on one core.
///
/// # Errors
/// When there is no such core.
pub fn pin(core: usize) -> Result<(), BenchError> {
    pin_thread(core).map_err(system("staying on one core"))
}

/// [`pin`], for a thread that reports in its own way.
///
/// # Errors
/// When there is no such core.
pub fn pin_thread(core: usize) -> std::io::Result<()> {
    if core >= CpuSet::MAX_CPU {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    Ok(sched_setaffinity(None, &cores)?)
}

/// Many rings share a machine's memory; a few may be fast.
const fn buffers(rings: u32) -> BufferSizes {
    if rings <= FEW_RINGS {
        BufferSizes {
            count: 1_024,
            bytes: 16 << 10,
        }
    } else {
        BufferSizes {
            count: 128,
            bytes: 4 << 10,
        }
    }
}

/// Raises the limit of open files; says how many sockets a ring may hold.
///
/// # Errors
/// When the system refuses.
pub(crate) fn places_allowed() -> Result<u32, BenchError> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised)
        .map_err(|error| system("raising the limit of open files")(error.into()))?;
    let files = limit.maximum.unwrap_or(1 << 20).min(1 << 20);
    let places = files.saturating_sub(DESCRIPTORS_RESERVED).max(2);
    Ok(u32::try_from(places).unwrap_or(u32::MAX))
}

/// Names what was being done when the system refused.
pub fn system(doing: &'static str) -> impl Fn(std::io::Error) -> BenchError {
    move |source| BenchError::System { doing, source }
}
