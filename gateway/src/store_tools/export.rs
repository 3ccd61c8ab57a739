//! `throng store export`: every record as a line of JSON.
//!
//! It changes nothing.
//!
//! Invariants: the same store gives the same lines; lines go to stdout or the file that was named,
//! everything else to stderr.

use std::io::{BufWriter, Write};
use std::path::PathBuf;

use clap::Args;
use throng_protocol::ChannelId;
use throng_storage_engine::{ChannelKey, Day, ExportFilter, Exporting, export};

use super::progress::Progress;
use super::{ToolArgs, ToolError, Verdict, line, on_store};

/// What `throng store export` takes.
#[derive(Args, Debug)]
pub struct ExportArgs {
    #[command(flatten)]
    tool: ToolArgs,
    /// This channel only.
    #[arg(long, value_name = "ID")]
    channel: Option<ChannelId>,
    /// Nothing stored before this day, such as 2026-11-21.
    #[arg(long, value_name = "DAY", value_parser = day)]
    from: Option<Day>,
    /// Nothing stored after this day.
    #[arg(long, value_name = "DAY", value_parser = day)]
    to: Option<Day>,
    /// Where the lines go [default: stdout].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

fn day(text: &str) -> Result<Day, &'static str> {
    Day::parse(text).ok_or("a day is written as 2026-11-21")
}

pub(super) fn run(args: &ExportArgs) -> Verdict {
    let filter = ExportFilter {
        channel: args.channel.map(|id| ChannelKey(*id.as_bytes())),
        from: args.from,
        to: args.to,
    };
    let mut out: Box<dyn Write + Send> = match &args.out {
        Some(path) => Box::new(create(path)?),
        None => Box::new(std::io::stdout()),
    };
    let is_quiet = args.tool.json;
    let done = on_store(&args.tool, move |disk, root, config| async move {
        let mut out = BufWriter::with_capacity(1 << 20, &mut out);
        let mut progress = Progress::begin("export", is_quiet);
        let sink = |item, done: &Exporting| {
            progress.at(done.bytes, done.bytes_total);
            writeln!(out, "{}", line::write(&item)).map_err(ToolError::Output)
        };
        let done = export(&disk, &root, &config, &filter, sink).await;
        progress.end();
        let done = done?;
        out.flush().map_err(ToolError::Output)?;
        Ok(done)
    })?;
    eprintln!("{} records exported", done.records);
    Ok(true)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the file that was named is written"
)]
fn create(path: &std::path::Path) -> Result<std::fs::File, ToolError> {
    std::fs::File::create(path).map_err(|source| ToolError::File {
        path: path.to_owned(),
        source,
    })
}
