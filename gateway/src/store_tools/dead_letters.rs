//! `throng dlq list|retry|discard`: what consumers could not process.
//!
//! It processes nothing itself: a letter that is retried comes to its consumer when the server
//! runs again.
//!
//! Invariant: nothing is discarded that was not named.

use std::io::stdout;

use clap::{Args, Subcommand};
use serde::Serialize;
use throng_protocol::Timestamp;
use throng_storage_engine::{
    ConsumerName, Consumers, DeadLetter, DeadLetters, GlommioDisk, StoreConfig,
};

use super::{ToolArgs, ToolError, Verdict, line, on_store, say, tell};

/// Letters that are read at once.
const PAGE: usize = 256;

/// What `throng dlq` can do.
#[derive(Subcommand, Debug)]
pub enum DlqCommand {
    /// Show what consumers could not process, and why.
    List(ListArgs),
    /// Give letters back to their consumers.
    Retry(RetryArgs),
    /// Forget letters for good.
    Discard(DiscardArgs),
}

/// What `throng dlq list` takes.
#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    tool: ToolArgs,
    /// This consumer only.
    #[arg(long, value_name = "NAME", value_parser = consumer)]
    consumer: Option<ConsumerName>,
}

/// What `throng dlq retry` takes.
#[derive(Args, Debug)]
pub struct RetryArgs {
    #[command(flatten)]
    tool: ToolArgs,
    /// This consumer only.
    #[arg(long, value_name = "NAME", value_parser = consumer)]
    consumer: Option<ConsumerName>,
    /// These letters only.
    #[arg(value_name = "ID", requires = "consumer")]
    ids: Vec<u64>,
}

/// What `throng dlq discard` takes.
#[derive(Args, Debug)]
pub struct DiscardArgs {
    #[command(flatten)]
    tool: ToolArgs,
    /// The consumer.
    #[arg(long, value_name = "NAME", value_parser = consumer)]
    consumer: ConsumerName,
    /// The letters.
    #[arg(value_name = "ID", required = true)]
    ids: Vec<u64>,
}

fn consumer(text: &str) -> Result<ConsumerName, &'static str> {
    ConsumerName::parse(text).ok_or("a name is 1 to 64 of a-z, 0-9 and -")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'a, R> {
    consumer: &'a str,
    id: u64,
    reason: &'a str,
    attempts: u32,
    first: String,
    last: String,
    is_pending: bool,
    record: R,
}

#[derive(Serialize)]
struct Counted<'a> {
    consumer: &'a str,
    letters: usize,
}

pub(super) fn run(command: &DlqCommand) -> Verdict {
    match command {
        DlqCommand::List(args) => list(&args.tool, args.consumer.clone()),
        DlqCommand::Retry(args) => {
            let ids = args.ids.clone();
            let done = on_letters(&args.tool, args.consumer.clone(), async move |letters| {
                let all: Vec<u64> = letters.ids().collect();
                let ids = if ids.is_empty() { &all } else { &ids };
                Ok(letters.retry(ids).await?)
            })?;
            count(&args.tool, &done, "given back")
        }
        DlqCommand::Discard(args) => {
            let (consumer, ids) = (Some(args.consumer.clone()), args.ids.clone());
            let done = on_letters(&args.tool, consumer, async move |letters| {
                Ok(letters.discard(&ids).await?)
            })?;
            count(&args.tool, &done, "discarded")
        }
    }
}

/// Does something to the letters of one consumer, or of each.
fn on_letters(
    args: &ToolArgs,
    consumer: Option<ConsumerName>,
    act: impl AsyncFn(&mut DeadLetters<GlommioDisk>) -> Result<usize, ToolError> + Send + 'static,
) -> Result<Vec<(ConsumerName, usize)>, ToolError> {
    on_store(args, |disk, root, config| async move {
        let mut done = Vec::new();
        for name in named(&disk, &root, &config, consumer).await? {
            let opened = DeadLetters::open(&disk, &root, &name, config.consumers).await;
            let count = act(&mut opened?).await?;
            done.push((name, count));
        }
        Ok(done)
    })
}

async fn named(
    disk: &GlommioDisk,
    root: &std::path::Path,
    config: &StoreConfig,
    consumer: Option<ConsumerName>,
) -> Result<Vec<ConsumerName>, ToolError> {
    let names = Consumers::load(disk, root, config).await?.names();
    match consumer {
        None => Ok(names),
        Some(name) if names.contains(&name) => Ok(vec![name]),
        Some(name) => Err(ToolError::NoConsumer { name }),
    }
}

fn list(args: &ToolArgs, consumer: Option<ConsumerName>) -> Verdict {
    let is_json = args.json;
    on_store(args, move |disk, root, config| async move {
        let mut out = stdout();
        for name in named(&disk, &root, &config, consumer).await? {
            let letters = DeadLetters::open(&disk, &root, &name, config.consumers).await?;
            let mut after = 0;
            loop {
                let page = letters.list(after, PAGE).await?;
                for letter in &page {
                    show(&mut out, &name, letter, is_json)?;
                }
                match page.last() {
                    Some(last) => after = last.id,
                    None => break,
                }
            }
        }
        Ok(true)
    })
}

fn show(
    out: &mut impl std::io::Write,
    name: &ConsumerName,
    letter: &DeadLetter,
    is_json: bool,
) -> Result<(), ToolError> {
    let shown = Shown {
        consumer: name.as_str(),
        id: letter.id,
        reason: &letter.reason,
        attempts: letter.attempts,
        first: Timestamp(letter.first_ms).to_string(),
        last: Timestamp(letter.last_ms).to_string(),
        is_pending: letter.is_pending,
        record: line::record_json(&letter.record),
    };
    if is_json {
        return say(out, &shown);
    }
    let note = if shown.is_pending {
        " (to be retried)"
    } else {
        ""
    };
    let (id, attempts, last, reason) = (shown.id, shown.attempts, &shown.last, shown.reason);
    let (channel, seq) = (letter.record.channel, letter.record.seq);
    tell(
        out,
        format_args!(
            "{name} {id}{note}  {last}  {attempts} attempts  channel {channel} seq {seq}  {reason:?}"
        ),
    )
}

fn count(args: &ToolArgs, done: &[(ConsumerName, usize)], what: &str) -> Verdict {
    let mut out = stdout().lock();
    for (name, letters) in done {
        let (consumer, letters) = (name.as_str(), *letters);
        match args.json {
            true => say(&mut out, &Counted { consumer, letters })?,
            false => tell(
                &mut out,
                format_args!("{consumer}: {letters} letters {what}"),
            )?,
        }
    }
    Ok(true)
}
