//! `throng-bench idle`: how many sessions a server holds, what each costs, and that they live.
//!
//! It measures the server's process from outside and takes its own ends off what the kernel
//! counts (`swarm/calibrate.rs` says how). It starts and stops no server.
//!
//! Invariants: what is measured begins after a warm-up that brought all that a server keeps for
//! good; a session counts as held only while it is live; a run in which one was lost says so.

mod hear;
mod report;

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::chat::parse_duration;
use crate::clock::{pause, thread_cpu};
use crate::error::BenchError;
use crate::files;
use crate::loopback::LoopbackLosses;
use crate::memory::{Kernel, ProcessUse, free_bytes, lingering, resident_bytes};
use crate::swarm::calibrate::{Calibration, SETTLE, calibrate};
use crate::swarm::crowd::Crowd;
use crate::swarm::hold;
use crate::swarm::options::{Ending, SwarmOptions, system};
use crate::swarm::speech::Speech;
use crate::target::Target;
pub use report::IdleReport;

/// Heartbeats that each of them sends: together enough to have touched every receive buffer.
const WARM_UP_HEARTBEATS: u64 = 40;
/// So few closed connections do not change a figure that means something.
const LINGERING_MIN: i64 = 500;
/// TIME_WAIT lasts a minute.
const FORGET_S_MAX: u32 = 70;
/// Connections of the calibration: enough for its noise to vanish.
const CALIBRATION_CONNECTIONS: u32 = 15_000;

/// Holds sessions that are subscribed and send heartbeats; then, if asked, lets them hear.
#[derive(Args, Debug)]
#[command(
    after_help = "The users need as many channels as --subscriptions says: `throng admin seed-users \
    --everyone NAME --circles 4` gives five.\n\nExit status: 0 when every session came with all its \
    subscriptions, was held, and every message arrived, 1 when not, 2 when the run could not be made."
)]
pub struct IdleArgs {
    #[command(flatten)]
    swarm: SwarmOptions,
    /// Sessions to hold.
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    connections: u32,
    /// Connections begun per second.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// For how long.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    duration: Duration,
    /// Sessions of the warm-up.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    warm_up: u32,
    /// Leaves out what the generator's own ends cost; kernel memory is then that of both ends.
    #[arg(long)]
    no_calibration: bool,
    /// After the hold, sends one message to the channel that all of them watch.
    #[arg(long)]
    then_broadcast: bool,
    /// After the hold, so many messages a second to channels that not all of them watch.
    #[arg(long)]
    then_rate: Option<u32>,
    /// For how long.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    then_duration: Duration,
    /// How long all rest before, so that what a message to all has held up is over.
    #[arg(long, default_value = "0s", value_parser = parse_duration, requires = "then_rate")]
    then_rest: Duration,
    /// Bytes of the text of those messages.
    #[arg(long, default_value_t = 64)]
    size: usize,
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &IdleArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => files::conclude(&report, args.swarm.json.as_deref(), report.is_clean()),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Memory and processor time at one moment.
#[derive(Clone, Default, Debug)]
struct Moment {
    server: ProcessUse,
    kernel: Kernel,
    free: i64,
    clock_s: f64,
    live: u64,
    /// Subscriptions that were confirmed so far.
    subscriptions: u64,
    /// Heartbeats that were sent so far, and answered.
    heartbeats: [u64; 2],
    /// Processor time of the generator.
    own_cpu: Duration,
}

impl Moment {
    fn now(pid: Option<u32>, crowd: &Crowd) -> Self {
        Self {
            server: pid.and_then(ProcessUse::of).unwrap_or_default(),
            kernel: Kernel::now(),
            free: free_bytes(),
            clock_s: crowd.clock().seconds(),
            live: crowd.live(),
            subscriptions: crowd.people.tally.subscriptions,
            heartbeats: [crowd.sent_heartbeats(), crowd.people.tally.heartbeat_acks],
            own_cpu: thread_cpu(),
        }
    }

    fn heartbeats_since(&self, earlier: &Self) -> [u64; 2] {
        let [sent, answered] = self.heartbeats;
        let [sent_before, answered_before] = earlier.heartbeats;
        [sent - sent_before, answered - answered_before]
    }
}

/// Steps in which the server's memory is looked at while sessions come.
const GROWTH_STEPS: u64 = 20;

/// How the server's memory grows while sessions come.
struct Growth {
    pid: Option<u32>,
    before: i64,
    step: u64,
    points: Vec<(u64, i64)>,
}

impl Growth {
    fn of(pid: Option<u32>, connections: u32) -> Self {
        Self {
            pid,
            before: pid.map_or(0, resident_bytes),
            step: u64::from(connections).div_ceil(GROWTH_STEPS),
            points: vec![(0, 0)],
        }
    }

    fn see(&mut self, live: u64) {
        let last = self.points.last().map_or(0, |point| point.0);
        if let Some(pid) = self.pid
            && live >= last + self.step
        {
            self.points.push((live, resident_bytes(pid) - self.before));
        }
    }
}

fn measure(args: &IdleArgs) -> Result<IdleReport, BenchError> {
    let options = &args.swarm;
    let mut crowd = options.crowd(args.connections, args.rate, Ending::Reset)?;
    if args.then_broadcast || args.then_rate.is_some() {
        crowd.people.keep_ledger();
    }
    forget(args.connections);
    let calibration = calibrated(args)?;
    warm_up(&mut crowd, args)?;
    pause(SETTLE);
    crowd.restart_handshakes();
    let losses = LoopbackLosses::now();
    let empty = Moment::now(options.pid, &crowd);
    let mut growth = Growth::of(options.pid, args.connections);
    let connect_s = come(&mut crowd, args, &mut growth)?;
    hold::stay(&mut crowd, SETTLE)?;
    let full = Moment::now(options.pid, &crowd);
    let mut least = hold::stay(&mut crowd, args.duration)?;
    let held = Moment::now(options.pid, &crowd);
    let came = u32::try_from(full.live).unwrap_or(args.connections);
    let mut report = IdleReport::new(args.connections, came, &calibration);
    report.memory(&empty, &full, &held);
    report.memory_by_connections = growth.points;
    report.subscriptions = held.subscriptions - empty.subscriptions;
    report.subscriptions_asked = u64::from(args.connections) * u64::from(options.subscriptions);
    if args.then_broadcast {
        report.broadcast = Some(hear::broadcast(&mut crowd, args.connections, args.size)?);
    }
    if let Some(rate) = args.then_rate {
        least = least.min(hold::stay(&mut crowd, args.then_rest)?);
        report.then_rest_s = args.then_rest.as_secs_f64();
        let speech = Speech {
            rate,
            duration: args.then_duration,
            size: args.size,
        };
        report.chatter = Some(hear::chatter(&mut crowd, args.connections, speech)?);
    }
    report.sessions(&crowd, connect_s, least);
    report.heartbeats = Moment::now(None, &crowd).heartbeats_since(&empty);
    report.losses = losses.until_now();
    Ok(report)
}

/// Lets all come; how long it took, seconds. Where the server has no room for all, the run goes on
/// with those who came, and says so.
fn come(crowd: &mut Crowd, args: &IdleArgs, growth: &mut Growth) -> Result<f64, BenchError> {
    let begun = crowd.clock().seconds();
    let see = &mut |live| growth.see(live);
    match hold::come_seen(crowd, args.connections, args.swarm.connect_timeout, see) {
        Err(error @ BenchError::NotAllLive { live: 1.., .. }) => {
            eprintln!("throng-bench: {error}");
            Ok(crowd.clock().seconds() - begun)
        }
        result => result,
    }
}

fn calibrated(args: &IdleArgs) -> Result<Calibration, BenchError> {
    if args.no_calibration {
        return Ok(Calibration::default());
    }
    let target = Target::resolve(&args.swarm.target)?;
    let settings = args.swarm.links(&target, args.connections)?;
    let connections = args.connections.min(CALIBRATION_CONNECTIONS);
    let calibration = calibrate(settings, connections).map_err(system("calibrating"))?;
    pause(SETTLE);
    Ok(calibration)
}

/// Waits until the kernel remembers few connections that are closed: it would forget them during
/// the run, and what they held would be taken off what the sessions cost.
fn forget(connections: u32) {
    let few = i64::from(connections / 100).max(LINGERING_MIN);
    let mut waited = 0;
    while lingering() > few && waited < FORGET_S_MAX {
        if waited == 0 {
            eprintln!("waiting until earlier connections are forgotten");
        }
        pause(Duration::from_secs(1));
        waited += 1;
    }
}

/// Sessions that come, beat and leave, so that the server has what it keeps for good.
fn warm_up(crowd: &mut Crowd, args: &IdleArgs) -> Result<(), BenchError> {
    let sessions = args.connections.min(args.warm_up);
    hold::come(crowd, sessions, args.swarm.connect_timeout)?;
    for _ in 0..WARM_UP_HEARTBEATS {
        crowd.beat_all(sessions);
        hold::stay(crowd, Duration::from_millis(20))?;
    }
    crowd
        .dismiss(sessions)
        .map_err(system("warming the server up"))
}
