//! `throng-bench chat`: people talk, and every promise is checked at the client.
//!
//! It reads files and writes the report; it never measures anything itself.
//!
//! Invariants: load begins only when every client is live; the report is made whatever was
//! found; a run that was broken off gives an error instead.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Args;
use rand::RngExt;
use rand::rngs::StdRng;
use throng_protocol::{ErrorCode, GuildId};

use crate::audience::Audiences;
use crate::client::SUBSCRIPTIONS_MAX;
use crate::clock::{Clock, pause};
use crate::error::BenchError;
use crate::files;
use crate::history;
use crate::plan::{Nonces, Plan};
use crate::progress::Progress;
use crate::report::{Latency, Options, REPORT_VERSION, Report};
use crate::rest::Rest;
use crate::schedule::{Load, MESSAGES_MAX, Schedule};
use crate::setup;
use crate::shared::{Outcome, Part, Shared};
use crate::target::Target;
use crate::worker::Worker;

/// Replays conversations at a fixed rate and checks every promise at the client.
#[derive(Args, Debug)]
#[command(
    after_help = "The server's limits apply to these clients as to any. For more than a try, \
    raise them in its TOML file: [limits.message] count = 0, [limits.register] count = 0 (or take \
    users from `throng admin seed-users` with --tokens), [limits.channel_create] count = 0, \
    [limits.identify] count = 0.\n\nExit status: 0 when every promise was kept, 1 when one was \
    broken, 2 when the run could not be made."
)]
pub struct ChatArgs {
    /// The server, http://HOST:PORT.
    #[arg(long)]
    target: String,
    /// Clients, each a user of its own with one connection.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    clients: u32,
    /// Channels that they talk in.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=40_000))]
    channels: u32,
    /// Channels that each client watches [default: 5, or all when there are fewer].
    #[arg(long)]
    subscriptions: Option<u32>,
    /// Messages per second, all clients together, whatever the server answers.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    rate: u32,
    /// For how long, e.g. 500ms, 30s, 5m.
    #[arg(long, default_value = "30s", value_parser = parse_duration)]
    duration: Duration,
    /// For how long before that at the same rate: promises are checked, and nothing is measured.
    #[arg(long, default_value = "0s", value_parser = parse_duration)]
    warm_up: Duration,
    /// Text to send: JSON lines {"lang", "topic", "turns": [text, ...]}; made up without it.
    #[arg(long)]
    corpus: Option<PathBuf>,
    /// Where to write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Identities, one token a line, instead of registering users.
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// A guild that all of them are members of already, instead of making guilds and joining.
    #[arg(long)]
    guild: Option<GuildId>,
    /// Same seed, same plan.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How uneven the channels' popularity is: Zipf exponent, 0 for all alike.
    #[arg(long, default_value_t = 1.0, value_parser = parse_exponent)]
    zipf: f64,
    /// Generator threads.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// How long all clients may take to connect.
    #[arg(long, default_value = "120s", value_parser = parse_duration)]
    connect_timeout: Duration,
    /// After the load: give up when nothing has moved for this long.
    #[arg(long, default_value = "15s", value_parser = parse_duration)]
    drain_idle: Duration,
    /// Channels whose history is compared over REST afterwards.
    #[arg(long, default_value_t = 16)]
    history_channels: usize,
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &ChatArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => {
            print!("{report}");
            if let Some(path) = &args.json
                && let Err(error) = files::write_json(path, &report)
            {
                eprintln!("throng-bench: {error}");
                return ExitCode::from(2);
            }
            match (report.broken().is_empty(), report.not_live) {
                (false, _) => ExitCode::from(1),
                (true, 0) => ExitCode::SUCCESS,
                (true, _) => ExitCode::from(2),
            }
        }
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &ChatArgs) -> Result<Report, BenchError> {
    let clock = Clock::start();
    let (plan, rest) = prepare(args)?;
    let setup_s = clock.seconds();
    let shared = Shared::new(plan.channels.len());
    let threads = usize::from(args.threads).min(plan.tokens.len());
    let workers: Vec<Worker<'_>> = (0..threads)
        .map(|thread| {
            let part = Part {
                thread,
                threads,
                clock,
                drain_idle: args.drain_idle,
            };
            Worker::new(&plan, &shared, part)
        })
        .collect::<Result<_, _>>()?;
    let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let handles: Vec<_> = workers
            .into_iter()
            .map(|worker| scope.spawn(|| worker.run()))
            .collect();
        let started = start(args, &plan, &shared, clock);
        if started.is_ok() {
            watch(&plan, &shared, || {
                handles
                    .iter()
                    .all(std::thread::ScopedJoinHandle::is_finished)
            });
        }
        let outcomes: Result<_, _> = handles
            .into_iter()
            .map(|handle| {
                handle
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        started.and(outcomes)
    })?;
    let start_ns = shared.start_ns.load(Ordering::Acquire);
    let connect_s = Duration::from_nanos(start_ns).as_secs_f64() - setup_s;
    let mut report = summarise(args, &plan, &outcomes, start_ns);
    report.setup_s = setup_s;
    report.connect_s = connect_s;
    let oracle = judge(&plan, outcomes, &mut report);
    if report.not_live == 0 {
        let compared = history::compare(&rest, &plan, &oracle, args.history_channels)?;
        report.history_checked = compared.checked;
        report.history_mismatches = compared.mismatches;
    }
    Ok(report)
}

fn prepare(args: &ChatArgs) -> Result<(Plan, Rest), BenchError> {
    let target = Target::resolve(&args.target)?;
    let subscriptions = subscriptions(args)?;
    let load = Load {
        rate: args.rate,
        warm_up: args.warm_up,
        duration: args.duration,
        zipf: args.zipf,
        seed: args.seed,
    };
    if !(1..=MESSAGES_MAX).contains(&load.messages()) {
        return Err(BenchError::PlanSize {
            messages: load.messages(),
        });
    }
    if !load.is_measured() {
        return Err(BenchError::OnlyWarmUp);
    }
    let corpus = files::corpus(args.corpus.as_deref(), args.seed)?;
    let audiences = Audiences::even(args.clients, args.channels, subscriptions, args.seed);
    let schedule = Schedule::plan(&corpus, &audiences, &load);
    let rest = Rest::new(&target);
    let mut fresh: StdRng = rand::make_rng();
    let run: u32 = fresh.random();
    let clients = audiences.clients();
    let tokens = match &args.tokens {
        Some(path) => setup::tokens_of(&files::read_text(path)?, clients)?,
        None => setup::register(&rest, clients, run)?,
    };
    let channels = match args.guild {
        Some(guild) => setup::stage_in(&rest, &tokens, &audiences, guild)?,
        None => setup::stage(&rest, &tokens, &audiences, run)?,
    };
    let nonces = Nonces::new(fresh.random());
    Ok((
        Plan {
            target,
            tokens,
            channels,
            audiences,
            schedule,
            corpus,
            nonces,
        },
        rest,
    ))
}

fn subscriptions(args: &ChatArgs) -> Result<u32, BenchError> {
    let &ChatArgs {
        clients, channels, ..
    } = args;
    let subscriptions = args.subscriptions.unwrap_or(5.min(channels));
    let max = SUBSCRIPTIONS_MAX.min(channels);
    if subscriptions == 0 || subscriptions > max {
        return Err(BenchError::TooManySubscriptions { subscriptions, max });
    }
    if u64::from(clients) * u64::from(subscriptions) < u64::from(channels) {
        return Err(BenchError::TooFewSubscriptions {
            clients,
            subscriptions,
            channels,
        });
    }
    Ok(subscriptions)
}

/// Waits until all clients are live and says when load begins.
fn start(args: &ChatArgs, plan: &Plan, shared: &Shared, clock: Clock) -> Result<(), BenchError> {
    let clients = plan.tokens.len();
    let progress = Progress::new("connecting", clients);
    let begun = clock.seconds();
    loop {
        let live = shared.live.load(Ordering::Acquire);
        progress.set(live);
        if usize::try_from(live).is_ok_and(|live| live == clients) {
            break;
        }
        let is_late = clock.seconds() - begun > args.connect_timeout.as_secs_f64();
        if is_late || shared.stop.load(Ordering::Relaxed) {
            shared.stop.store(true, Ordering::Relaxed);
            return Err(BenchError::NotAllLive {
                live,
                clients,
                last: shared.last_end(),
            });
        }
        pause(Duration::from_millis(10));
    }
    shared
        .start_ns
        .store(clock.now_ns().max(1), Ordering::Release);
    Ok(())
}

/// Shows how the run goes on, until it is over.
fn watch(plan: &Plan, shared: &Shared, is_over: impl Fn() -> bool) {
    let progress = Progress::new("answered", plan.schedule.planned().len());
    while !is_over() {
        pause(Duration::from_millis(100));
        progress.set(shared.answered.load(Ordering::Relaxed));
    }
}

fn judge(plan: &Plan, outcomes: Vec<Outcome>, report: &mut Report) -> crate::oracle::Oracle {
    let mut resent = Vec::new();
    let mut oracles = Vec::new();
    let mut early = 0;
    for outcome in outcomes {
        early += outcome.tally.early;
        resent.extend(outcome.resent);
        oracles.push(outcome.oracle);
    }
    resent.sort_unstable();
    let mut oracles = oracles.into_iter();
    let mut oracle = oracles.next().expect("there is at least one thread");
    for other in oracles {
        oracle.merge(other);
    }
    let verdict = oracle.verdict(|index| {
        resent
            .binary_search(&index)
            .is_err()
            .then(|| plan.message(index).client)
    });
    report.set_verdict(&verdict);
    // What is caught up on does not say which message it is: it counts as measured.
    let measured_s = report.run_s - report.options.warm_up_s;
    report.delivered_per_s = rate(report.delivered.saturating_sub(early), measured_s);
    oracle
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a rate for people: 53 bits are plenty"
)]
fn rate(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}

fn summarise(args: &ChatArgs, plan: &Plan, outcomes: &[Outcome], start_ns: u64) -> Report {
    let mut tally = crate::tally::Tally::default();
    let mut course = plan.schedule.course();
    for outcome in outcomes {
        tally.merge(&outcome.tally);
        course.merge(&outcome.course);
    }
    let last_ns = outcomes
        .iter()
        .map(|outcome| outcome.last_progress_ns)
        .max()
        .unwrap_or(0);
    let refused = tally.refused.iter();
    let run_s = Duration::from_nanos(last_ns.saturating_sub(start_ns)).as_secs_f64();
    let measured_s = run_s - args.warm_up.as_secs_f64();
    Report {
        version: REPORT_VERSION,
        options: options(args, plan),
        sent: tally.sent,
        unanswered: outcomes.iter().map(|outcome| outcome.unanswered).sum(),
        not_live: outcomes.iter().map(|outcome| outcome.not_live).sum(),
        rate_limited: tally.refused_with(ErrorCode::RateLimited),
        errors_by_code: refused
            .map(|(&code, &count)| (code.to_owned(), count))
            .collect(),
        reconnects: tally.reconnects,
        resent: tally.resent,
        resyncs: tally.resyncs,
        ack_latency_us: Latency::from(&tally.ack_us),
        delivery_latency_us: Latency::from(&tally.delivery_us),
        generator_late_us: Latency::from(&tally.late_us),
        generator_cpu_percent: outcomes.iter().map(|outcome| outcome.cpu_percent).collect(),
        run_s,
        acked_per_s: rate(tally.ack_us.len(), measured_s),
        part_s: course.part_s(),
        delivery_latency_by_part_us: course.parts(),
        disconnects_by_reason: tally.ended,
        ..Report::default()
    }
}

fn options(args: &ChatArgs, plan: &Plan) -> Options {
    Options {
        target: args.target.clone(),
        clients: args.clients,
        channels: args.channels,
        subscriptions: subscriptions(args).expect("checked before the plan was made"),
        rate: args.rate,
        warm_up_s: args.warm_up.as_secs_f64(),
        duration_s: args.duration.as_secs_f64(),
        zipf: args.zipf,
        seed: args.seed,
        corpus: args.corpus.as_ref().map(|path| path.display().to_string()),
        threads: usize::from(args.threads).min(plan.tokens.len()),
    }
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, &'static str> {
    const FORM: &str = "a duration is a number and ms, s or m, for example 30s";
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or(FORM)?;
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return Err(FORM),
    };
    let seconds = number.parse::<f64>().map_err(|_| FORM)? * scale;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|d| d.as_secs() <= 7 * 86_400)
        .ok_or(FORM)
}

fn parse_exponent(text: &str) -> Result<f64, &'static str> {
    const FORM: &str = "an exponent is a number from 0 to 5";
    text.parse()
        .ok()
        .filter(|exponent| (0.0..=5.0).contains(exponent))
        .ok_or(FORM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(parse_duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        for text in ["", "30", "s", "-1s", "1h", "1 s", "1e9s", "9999999m"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn exponents() {
        assert_eq!(parse_exponent("0"), Ok(0.0));
        assert!(parse_exponent("-1").is_err() && parse_exponent("NaN").is_err());
    }
}
