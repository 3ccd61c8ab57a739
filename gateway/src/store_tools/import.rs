//! `throng store import`: the lines of an export into a store.
//!
//! It changes nothing that the store holds already.
//!
//! Invariants: a line that is refused is named with its number and the reason, and left out; the
//! exit status tells whether there was one.

use std::io::{BufRead, BufReader, Read, stdout};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use throng_storage_engine::{GlommioDisk, Imported, Importer};

use super::progress::Progress;
use super::{ToolArgs, ToolError, Verdict, line, on_executor, say, tell};

/// Longest line, in bytes: several times the longest record in base64.
const LINE_BYTES_MAX: usize = 1 << 20;
const READ_BYTES: usize = 1 << 20;

/// What `throng store import` takes.
#[derive(Args, Debug)]
pub struct ImportArgs {
    #[command(flatten)]
    tool: ToolArgs,
    /// The lines [default: stdin].
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Refused {
        line: u64,
        reason: &'a str,
    },
    Done {
        records: u64,
        buckets: u64,
        refused: u64,
    },
}

/// Where lines come from, and how many bytes there are if that is known.
struct Source {
    lines: Box<dyn BufRead + Send>,
    bytes: Option<u64>,
}

pub(super) fn run(args: &ImportArgs) -> Verdict {
    let source = open(args.file.as_deref())?;
    let (data, is_json) = (args.tool.data.clone(), args.tool.json);
    let in_use = data.clone();
    let (done, refused) = on_executor(&data, move |disk, root, config| async move {
        let opened = Importer::open(&disk, &root, &config).await;
        let importer = opened.map_err(|error| ToolError::of_lock(error, &in_use))?;
        import(importer, source, is_json).await
    })?;
    let Imported { records, buckets } = done;
    let shown = Shown::Done {
        records,
        buckets,
        refused,
    };
    match is_json {
        true => say(&mut stdout(), &shown)?,
        false => tell(
            &mut stdout(),
            format_args!(
                "{records} records and {buckets} buckets imported, {refused} lines refused"
            ),
        )?,
    }
    Ok(refused == 0)
}

#[expect(
    clippy::disallowed_methods,
    reason = "an edge: the file that was named is read"
)]
fn open(file: Option<&Path>) -> Result<Source, ToolError> {
    let Some(path) = file else {
        return Ok(Source {
            lines: Box::new(BufReader::with_capacity(READ_BYTES, std::io::stdin())),
            bytes: None,
        });
    };
    let failed = |source| ToolError::File {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    Ok(Source {
        bytes: file.metadata().ok().map(|metadata| metadata.len()),
        lines: Box::new(BufReader::with_capacity(READ_BYTES, file)),
    })
}

async fn import(
    mut importer: Importer<GlommioDisk>,
    mut source: Source,
    is_json: bool,
) -> Result<(Imported, u64), ToolError> {
    let mut progress = Progress::begin("import", is_json);
    let (mut number, mut bytes, mut refused) = (0, 0, 0);
    let mut text = Vec::new();
    while next_line(&mut source.lines, &mut text, number + 1)? {
        number += 1;
        bytes += text.len() as u64;
        if let Some(total) = source.bytes {
            progress.at(bytes, total);
        }
        let reason = match std::str::from_utf8(&text).map(str::trim_end) {
            Ok("") => continue,
            Ok(text) => match line::read(text) {
                Ok(item) => importer
                    .push(item)
                    .await?
                    .err()
                    .map(|refusal| refusal.to_string()),
                Err(bad) => Some(bad.to_string()),
            },
            Err(_) => Some("this is not UTF-8".to_owned()),
        };
        if let Some(reason) = reason {
            refused += 1;
            report(&progress, number, &reason, is_json)?;
        }
    }
    let done = importer.finish().await?;
    progress.end();
    Ok((done, refused))
}

fn report(progress: &Progress, line: u64, reason: &str, is_json: bool) -> Result<(), ToolError> {
    if is_json {
        return say(&mut stdout(), &Shown::Refused { line, reason });
    }
    progress.line(&format!("line {line} refused: {reason}"));
    Ok(())
}

/// Reads a line into `text`; `false` if there is none.
fn next_line(lines: &mut impl BufRead, text: &mut Vec<u8>, number: u64) -> Result<bool, ToolError> {
    text.clear();
    let mut limited = lines.take(LINE_BYTES_MAX as u64 + 1);
    let bytes = limited.read_until(b'\n', text).map_err(ToolError::Input)?;
    if bytes > LINE_BYTES_MAX {
        return Err(ToolError::LineTooLong {
            line: number,
            bytes_max: LINE_BYTES_MAX,
        });
    }
    Ok(bytes > 0)
}
