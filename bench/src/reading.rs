//! `throng-bench history`: people scroll back, while the server has other things to do.
//!
//! Some messages are said first, so that there is something to read; then pages are asked for over
//! REST in an open loop, newest ones and older ones, of channels that not all read alike.
//!
//! Invariants: a call is due by the plan, and its latency counts from then; every page is checked:
//! one message behind the other without a gap, and what was newest before is still there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use throng_protocol::{ChannelId, ChannelType, Guild, Message, MessageId};

use crate::chat::parse_duration;
use crate::clock::{Clock, pause};
use crate::error::BenchError;
use crate::files;
use crate::memory::ProcessUse;
use crate::progress::Progress;
use crate::report::{GENERATOR_LATE_US_MAX, Latency};
use crate::rest::{Call, Rest};
use crate::setup::tokens_of;
use crate::swarm::hold;
use crate::swarm::links::{Link, Receiving};
use crate::swarm::options::{Ending, SwarmOptions, pin};
use crate::swarm::speech::{Speech, float, rate, speak};
use crate::swarm::talk::latencies;
use crate::tally::record;
use crate::target::Target;

/// Dials a second of those who talk first.
const DIALS_PER_S: u32 = 1_000;
/// One page in so many is the newest of its channel; the others lie anywhere behind it.
const NEWEST_EVERY: u32 = 4;
/// Ids of each channel that older pages begin at.
const PLACES_MAX: usize = 1_024;

/// Pages of history over REST, in an open loop.
#[derive(Args, Debug)]
#[command(
    after_help = "The users need channels: `throng admin seed-users --everyone NAME --circles 4`. \
    The server's limits per user must be off for those who talk first: [limits.message] count = 0.\n\n\
    Exit status: 0 when every page was whole, 1 when not, 2 when the run could not be made."
)]
pub struct ReadingArgs {
    /// The server, http://ADDR:PORT, over IPv4.
    #[arg(long)]
    target: String,
    /// Identities, one token a line: `throng admin seed-users` makes them.
    #[arg(long)]
    tokens: PathBuf,
    /// Users who talk first and read then.
    #[arg(long, visible_alias = "connections", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    readers: u32,
    /// Messages that they say first.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    fill: u64,
    /// Messages a second of that.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    fill_rate: u32,
    /// Bytes of a message's text.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u16).range(1..=2_000))]
    size: u16,
    /// Pages a second, whatever the server answers.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// For how long pages are read.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// Messages of a page.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=100))]
    page: u16,
    /// Calls under way at most: threads of the generator.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    callers: u16,
    /// The core that the generator runs on.
    #[arg(long)]
    core: Option<usize>,
    /// The server's process, for its processor time.
    #[arg(long)]
    pid: Option<u32>,
    /// Where to write the report as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// The report of `throng-bench history`.
#[derive(Clone, Default, Debug, Serialize)]
pub struct ReadingReport {
    /// Channels that were read.
    pub channels: usize,
    /// Messages that were said first, and acknowledged.
    pub filled: u64,
    /// Pages asked for a second.
    pub rate: u32,
    /// Pages that were read.
    pub pages: u64,
    /// Pages a second, from the first one's due time to the last one's end.
    pub pages_per_s: f64,
    /// Messages in them.
    pub messages: u64,
    /// Pages that were not what they should be.
    pub wrong_pages: u64,
    /// Calls that failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// From when a page was due until it had been read.
    pub page_latency_us: Latency,
    /// The same, of each channel's newest pages alone.
    pub newest_latency_us: Latency,
    /// From when a page was due until it was asked for: all callers were waiting. Part of the others.
    pub generator_late_us: Latency,
    /// Processor time of the server a page, microseconds. Absent without --pid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_cpu_us_per_page: Option<f64>,
}

impl ReadingReport {
    /// Whether every page was whole.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong_pages == 0 && self.failed.is_empty() && self.pages > 0
    }
}

/// Runs it and prints the report.
#[must_use]
pub fn run(args: &ReadingArgs) -> ExitCode {
    match measure(args) {
        Ok(report) => files::conclude(&report, args.json.as_deref(), report.is_clean()),
        Err(error) => {
            eprintln!("throng-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn measure(args: &ReadingArgs) -> Result<ReadingReport, BenchError> {
    if let Some(core) = args.core {
        pin(core)?;
    }
    let filled = fill(args)?;
    let rest = Rest::new(&Target::resolve(&args.target)?);
    let tokens = tokens_of(&files::read_text(&args.tokens)?, args.readers as usize)?;
    let books = books(&rest, &tokens, args)?;
    let before = args.pid.and_then(ProcessUse::of);
    let mut report = read(&rest, &books, args);
    let after = args.pid.and_then(ProcessUse::of);
    let used = before.zip(after);
    report.server_cpu_us_per_page =
        used.map(|(before, after)| (after.cpu_s - before.cpu_s) * 1e6 / float(report.pages.max(1)));
    report.filled = filled;
    Ok(report)
}

/// Says what there will be to read.
fn fill(args: &ReadingArgs) -> Result<u64, BenchError> {
    let swarm = SwarmOptions {
        target: args.target.clone(),
        tokens: args.tokens.clone(),
        under_way: 64,
        subscriptions: 5,
        heartbeat: None,
        recv: Receiving::Multishot,
        ring_places: None,
        sample: 1_000,
        connect_timeout: Duration::from_secs(60),
        pid: None,
        json: None,
    };
    let mut crowd = swarm.crowd(args.readers, DIALS_PER_S, Ending::Reset)?;
    crowd.people.keep_ledger();
    hold::come(&mut crowd, args.readers, swarm.connect_timeout)?;
    let speech = Speech {
        rate: args.fill_rate,
        duration: Duration::from_secs_f64(float(args.fill) / f64::from(args.fill_rate)),
        size: usize::from(args.size),
    };
    let mut random = StdRng::seed_from_u64(1);
    let spoken = speak(&mut crowd, speech, |crowd, _| {
        let link = Link(random.random_range(0..args.readers));
        let ledger = crowd.people.ledger.as_ref().expect("kept for this");
        let channels: Vec<u128> = ledger.watched(link).map(|(id, _)| id).collect();
        let which = random.random_range(0..channels.len().max(1));
        (link, channels.get(which).copied().unwrap_or(0))
    })?;
    crowd
        .dismiss(args.readers)
        .map_err(crate::swarm::options::system("leaving"))?;
    Ok(spoken.acked)
}

/// A channel, who reads it, and where its older pages begin.
struct Book<'a> {
    channel: ChannelId,
    token: &'a str,
    newest: u64,
    places: Vec<Place>,
}

/// A message behind which older ones are.
#[derive(Clone, Copy)]
struct Place {
    id: MessageId,
    seq: u64,
}

#[derive(Deserialize)]
struct Page {
    messages: Vec<Message>,
}

/// What there is to read: for each reader all channels in which something was said.
fn books<'a>(
    rest: &Rest,
    tokens: &'a [String],
    args: &ReadingArgs,
) -> Result<Vec<Book<'a>>, BenchError> {
    #[derive(Deserialize)]
    struct Guilds {
        guilds: Vec<Guild>,
    }
    let progress = Progress::new("channels", tokens.len());
    let mut books: BTreeMap<ChannelId, Book<'a>> = BTreeMap::new();
    for token in tokens {
        let mine: Guilds = rest.call(Call::get("/api/guilds"), Some(token), None)?;
        let channels = mine.guilds.iter().flat_map(|guild| &guild.channels);
        for channel in channels.filter(|channel| channel.kind == ChannelType::Text) {
            if books.contains_key(&channel.id) {
                continue;
            }
            let mut book = Book {
                channel: channel.id,
                token,
                newest: 0,
                places: Vec::new(),
            };
            book.leaf_through(rest, args.page)?;
            if book.newest > 0 {
                books.insert(channel.id, book);
            }
        }
        progress.advance();
    }
    if books.is_empty() {
        return Err(BenchError::NoSharedChannel);
    }
    Ok(books.into_values().collect())
}

impl Book<'_> {
    fn page(&self, limit: u16, before: Option<Place>) -> Call {
        let before = before.map_or_else(String::new, |place| format!("&before={}", place.id));
        Call::get(format!(
            "/api/channels/{}/messages?limit={limit}{before}",
            self.channel
        ))
    }

    /// Notes the newest message and where older pages may begin.
    fn leaf_through(&mut self, rest: &Rest, limit: u16) -> Result<(), BenchError> {
        let mut before = None;
        while self.places.len() < PLACES_MAX {
            let page: Page = rest.call(self.page(limit, before), Some(self.token), None)?;
            let page = page.messages;
            self.newest = self
                .newest
                .max(page.first().map_or(0, |message| message.seq.0));
            let Some(oldest) = page.last().filter(|message| message.seq.0 > 1) else {
                break;
            };
            let place = Place {
                id: oldest.id,
                seq: oldest.seq.0,
            };
            before = Some(place);
            self.places.push(place);
        }
        Ok(())
    }

    /// Whether a page is the one that was asked for, and whole: of this channel, newest first, without a
    /// gap, as long as it may be, right behind the place or at the channel's end.
    fn is_whole(&self, page: &[Message], limit: u16, behind: Option<Place>) -> bool {
        let follows =
            |pair: &[Message]| pair[0].seq.0 == pair[1].seq.0 + 1 && pair[0].id > pair[1].id;
        let is_full =
            page.len() == usize::from(limit) || page.last().is_some_and(|oldest| oldest.seq.0 == 1);
        let begins = page.first().is_some_and(|first| match behind {
            Some(place) => first.seq.0 + 1 == place.seq,
            None => first.seq.0 >= self.newest,
        });
        let is_of_it = page
            .iter()
            .all(|message| message.channel_id == self.channel);
        is_full && begins && is_of_it && page.windows(2).all(follows)
    }
}

/// What one caller found.
struct Found {
    report: ReadingReport,
    all_us: Histogram<u64>,
    newest_us: Histogram<u64>,
    late_us: Histogram<u64>,
    ended_ns: u64,
}

/// All pages of the plan, by as many callers as there are.
fn read(rest: &Rest, books: &[Book<'_>], args: &ReadingArgs) -> ReadingReport {
    let total =
        u64::from(args.rate) * u64::try_from(args.duration.as_millis()).unwrap_or(0) / 1_000;
    let progress = Progress::new("pages", usize::try_from(total).unwrap_or(usize::MAX));
    let clock = Clock::start();
    let next = AtomicU64::new(0);
    let all = Mutex::new(Found::nothing());
    let caller = || {
        let mut found = Found::nothing();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= total {
                break;
            }
            let due_ns = number * 1_000_000_000 / u64::from(args.rate);
            pause(Duration::from_nanos(due_ns.saturating_sub(clock.now_ns())));
            found.read_one(rest, books, args, (number, due_ns, clock));
            progress.advance();
        }
        all.lock().expect("nobody panics with it").add(found);
    };
    std::thread::scope(|scope| {
        for _ in 0..args.callers {
            scope.spawn(caller);
        }
    });
    let found = all.into_inner().expect("nobody panicked with it");
    let seconds = Duration::from_nanos(found.ended_ns).as_secs_f64();
    ReadingReport {
        channels: books.len(),
        rate: args.rate,
        pages_per_s: rate(found.report.pages, seconds),
        page_latency_us: Latency::from(&found.all_us),
        newest_latency_us: Latency::from(&found.newest_us),
        generator_late_us: Latency::from(&found.late_us),
        ..found.report
    }
}

impl Found {
    fn nothing() -> Self {
        Self {
            report: ReadingReport::default(),
            all_us: latencies(),
            newest_us: latencies(),
            late_us: latencies(),
            ended_ns: 0,
        }
    }

    /// One page: which one follows from its number alone. Popular channels are read more.
    fn read_one(
        &mut self,
        rest: &Rest,
        books: &[Book<'_>],
        args: &ReadingArgs,
        (number, due_ns, clock): (u64, u64, Clock),
    ) {
        let mut random = StdRng::seed_from_u64(number);
        let (one, other) = (
            random.random_range(0..books.len()),
            random.random_range(0..books.len()),
        );
        let book = &books[one.min(other)];
        let older = (!book.places.is_empty() && random.random_range(0..NEWEST_EVERY) > 0)
            .then(|| book.places[random.random_range(0..book.places.len())]);
        record(&mut self.late_us, clock.now_ns().saturating_sub(due_ns));
        let read: Result<Page, _> = rest.read_once(book.page(args.page, older), book.token);
        let took_ns = clock.now_ns().saturating_sub(due_ns);
        record(&mut self.all_us, took_ns);
        if older.is_none() {
            record(&mut self.newest_us, took_ns);
        }
        self.ended_ns = clock.now_ns();
        match read {
            Ok(Page { messages: page }) => {
                self.report.pages += 1;
                self.report.messages += page.len() as u64;
                let is_whole = book.is_whole(&page, args.page, older);
                self.report.wrong_pages += u64::from(!is_whole);
            }
            Err(error) => *self.report.failed.entry(error.kind()).or_default() += 1,
        }
    }

    fn add(&mut self, other: Self) {
        self.report.pages += other.report.pages;
        self.report.messages += other.report.messages;
        self.report.wrong_pages += other.report.wrong_pages;
        for (reason, count) in other.report.failed {
            *self.report.failed.entry(reason).or_default() += count;
        }
        for (all, own) in [
            (&mut self.all_us, &other.all_us),
            (&mut self.newest_us, &other.newest_us),
            (&mut self.late_us, &other.late_us),
        ] {
            all.add(own).expect("histograms of one size add up");
        }
        self.ended_ns = self.ended_ns.max(other.ended_ns);
    }
}

impl fmt::Display for ReadingReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} pages of {} messages from {} channels ({} messages said first): {:.0} pages/s of {} asked for",
            self.pages, self.messages, self.channels, self.filled, self.pages_per_s, self.rate
        )?;
        for (name, latency) in [
            ("page", &self.page_latency_us),
            ("newest page", &self.newest_latency_us),
            ("generator late", &self.generator_late_us),
        ] {
            writeln!(
                f,
                "{name} us: p50 {} p99 {} p99.9 {} max {}",
                latency.p50, latency.p99, latency.p999, latency.max
            )?;
        }
        if let Some(cpu_us) = self.server_cpu_us_per_page {
            writeln!(f, "server CPU: {cpu_us:.1} us a page")?;
        }
        if self.generator_late_us.p99 > GENERATOR_LATE_US_MAX {
            writeln!(
                f,
                "all callers were waiting: raise --callers or lower --rate"
            )?;
        }
        for (reason, count) in &self.failed {
            writeln!(f, "failed: {count} {reason}")?;
        }
        if !self.is_clean() {
            writeln!(
                f,
                "NOT CLEAN: {} of {} pages were wrong",
                self.wrong_pages, self.pages
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use throng_protocol::{Author, Rev, Seq, Timestamp, UserId};

    use super::*;

    const CHANNEL: ChannelId = ChannelId::from_u128(7);

    fn message(seq: u64, channel_id: ChannelId) -> Message {
        Message {
            id: MessageId::from_u128(u128::from(seq)),
            channel_id,
            seq: Seq(seq),
            rev: Rev(seq),
            author: Author {
                id: UserId::from_u128(1),
                username: String::new(),
            },
            content: String::new(),
            timestamp: Timestamp(0),
            edited_at: None,
            attachments: Vec::new(),
            reactions: Vec::new(),
            reply_to: None,
            nonce: None,
        }
    }

    /// Whether a page of these messages is whole, in a channel of 10 with pages of 3.
    fn check(seqs: &[u64], behind: Option<u64>, expected: bool) {
        let book = Book {
            channel: CHANNEL,
            token: "",
            newest: 10,
            places: Vec::new(),
        };
        let place = |seq| Place {
            id: MessageId::from_u128(u128::from(seq)),
            seq,
        };
        let page: Vec<Message> = seqs.iter().map(|&seq| message(seq, CHANNEL)).collect();
        let found = book.is_whole(&page, 3, behind.map(place));
        assert_eq!(found, expected, "{seqs:?} behind {behind:?}");
        let astray: Vec<Message> = seqs
            .iter()
            .map(|&seq| message(seq, ChannelId::from_u128(8)))
            .collect();
        assert!(astray.is_empty() || !book.is_whole(&astray, 3, behind.map(place)));
    }

    #[test]
    fn pages() {
        check(&[10, 9, 8], None, true);
        check(&[11, 10, 9], None, true);
        check(&[9, 8, 7], None, false);
        check(&[10, 9], None, false);
        check(&[10, 8, 7], None, false);
        check(&[8, 9, 10], None, false);
        check(&[], None, false);
        check(&[5, 4, 3], Some(6), true);
        check(&[2, 1], Some(3), true);
        check(&[5, 4, 3], Some(7), false);
        check(&[10, 9, 8], Some(6), false);
    }
}
