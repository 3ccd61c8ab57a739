//! Throng's chat protocol, measured by the generator's own subcommands in a process of their own.
//!
//! It speaks nothing itself: `idle` and `fanout` check what a chat client is promised, and their
//! reports have the same keys as those of the other servers' rounds.
//!
//! Invariants: accounts are the server's own, made for the run; sizes, dials under way and the way
//! of receiving are those of the other servers.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::client::UNDER_WAY_MAX;
use super::error::PeersError;
use super::places::Places;
use super::scale::Sizes;
use super::server::{Server, finish};
use super::subject::Benchmark;
use crate::error::BenchError;
use crate::files;
use crate::program::{self, Accounts};
use crate::swarm::options::system;

/// What one of the subcommands found.
pub(super) struct Found {
    /// Its report.
    pub(super) report: Value,
    /// Its command line, without what is of this run.
    pub(super) command: String,
    /// Whether it said that every promise was kept.
    pub(super) is_clean: bool,
}

/// Seeds accounts and measures.
///
/// # Errors
/// When a command fails or leaves no report.
pub(super) fn measure(
    places: &Places,
    core: Option<usize>,
    server: &Server,
    benchmark: Benchmark,
    sizes: &Sizes,
) -> Result<Found, BenchError> {
    let folder = server.folder();
    let mut words = arguments(benchmark, sizes);
    let program = program::locate(places.throng.as_deref())?;
    let (store, tokens) = (folder.join("store"), folder.join("tokens"));
    Accounts {
        count: sessions(benchmark, sizes),
        circles: None,
        data: &store,
        tokens: &tokens,
    }
    .seed(&program, &places.interrupt)?;
    let bare = [("--core", core), ("--bare-core", places.server_core)];
    if benchmark != Benchmark::Idle {
        for (flag, core) in bare {
            words.extend(
                core.iter()
                    .flat_map(|core| [flag.to_owned(), core.to_string()]),
            );
        }
    }
    let command_line = format!("throng-bench {}", words.join(" "));
    let own = std::env::current_exe().map_err(system("finding this program"))?;
    let json = folder.join("report.json");
    let mut command = Command::new(own);
    command.args(&words).arg("--json").arg(&json);
    command.arg("--tokens").arg(tokens);
    command.args(["--target", &format!("http://{}", server.target().authority)]);
    command.args(["--pid", &server.pid().to_string()]);
    let log = folder.join("bench.log");
    let (status, log) = finish(&mut command, &log, &places.interrupt)?;
    let none = || PeersError::NoReport {
        command: command_line.clone(),
        log: log.clone(),
    };
    if !matches!(status, Some(0 | 1)) {
        return Err(none().into());
    }
    let text = files::read_text(&json)?;
    Ok(Found {
        report: serde_json::from_str(&text).map_err(|_| none())?,
        command: command_line,
        is_clean: status == Some(0),
    })
}

fn sessions(benchmark: Benchmark, sizes: &Sizes) -> u32 {
    match benchmark {
        Benchmark::Idle => sizes.idle.0,
        Benchmark::FanoutClosed => sizes.closed.0,
        Benchmark::FanoutOpen => sizes.open.0,
        Benchmark::Echo => 0,
    }
}

fn arguments(benchmark: Benchmark, sizes: &Sizes) -> Vec<String> {
    let ms = |duration: Duration| format!("{}ms", duration.as_millis());
    let sessions = sessions(benchmark, sizes);
    let (idle, closed, open) = (ms(sizes.idle.1), ms(sizes.closed.1 * 2), ms(sizes.open.1));
    let own = match benchmark {
        // No slower than the server lets them come.
        Benchmark::Idle => format!(
            "idle --connections {sessions} --rate 1000000 --duration {idle} --no-calibration \
             --then-broadcast"
        ),
        // Half of the time is the bare loop's.
        Benchmark::FanoutClosed => {
            format!("fanout --subscribers {sessions} --closed --duration {closed}")
        }
        Benchmark::FanoutOpen => format!("fanout --subscribers {sessions} --open --probe {open}"),
        Benchmark::Echo => unreachable!("Throng's echo is met like any other"),
    };
    let size = sizes.size;
    let all = format!(
        "{own} --size {size} --subscriptions 1 --under-way {UNDER_WAY_MAX} --recv multishot"
    );
    all.split_whitespace().map(str::to_owned).collect()
}
