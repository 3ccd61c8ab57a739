//! The command line: `throng serve`, `throng echo`, `throng chat`, `throng admin`, `throng store`,
//! `throng dlq`.
//!
//! It reads arguments, starts what they name and turns errors into text on stderr. `listening on`
//! goes to stdout, logs go to stderr.
//!
//! Exit status: 0 after an orderly end, 1 when something failed, 2 for arguments or a
//! configuration that cannot be.

use std::fs::OpenOptions;
use std::io::{BufWriter, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use throng::chat::ChatArgs;
use throng::config::ReceiveMode;
use throng::edge::{self, NodeError};
use throng::store_tools::{self, DlqCommand, StoreCommand};
use throng_control::{CIRCLE_USERS_MAX, ControlError, Seeding, seed_users};
use throng_protocol::GuildId;
use tracing_subscriber::EnvFilter;

/// The version, and the git revision where the build was told it: `make` tells it.
fn version() -> &'static str {
    let version = env!("CARGO_PKG_VERSION");
    match option_env!("BUILD_REVISION") {
        Some(revision) => format!("{version} ({revision})").leak(),
        None => version,
    }
}

/// A real-time chat server for very many WebSocket connections on one Linux box.
#[derive(Parser)]
#[command(name = "throng", version = version())]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve chat: WebSocket at /gateway, REST under /api.
    Serve(ServeArgs),
    /// Serve an echo of text and binary messages over the same sockets and codec.
    Echo(EchoArgs),
    /// Chat from this terminal.
    Chat(ChatArgs),
    /// Look after a server's data.
    #[command(subcommand)]
    Admin(Admin),
    /// Inspect, verify, export, import or compact the message store of a server that is stopped.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Look after the records that consumers of the message store could not process.
    #[command(subcommand)]
    Dlq(DlqCommand),
}

#[derive(Args)]
struct ServeArgs {
    /// The configuration, in TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    flags: ServeFlags,
}

/// What the command line may set; it wins over the file and the environment.
#[derive(Args, Serialize)]
struct ServeFlags {
    /// Address and port; port 0 picks one [default: 127.0.0.1:8080].
    #[arg(long, value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<String>,
    /// Where everything is kept [default: ./data].
    #[arg(long, value_name = "DIR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<PathBuf>,
    /// Number of shards [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    #[serde(skip_serializing_if = "Option::is_none")]
    shards: Option<u16>,
}

#[derive(Args)]
struct EchoArgs {
    /// Address and port; port 0 picks one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    listen: SocketAddr,
    /// Number of shards.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,
    /// Spend less kernel memory per socket, and a little more work per message.
    #[arg(long)]
    dense: bool,
}

#[derive(Subcommand)]
enum Admin {
    /// Make accounts without passwords, for benchmarks; beside a running server too.
    SeedUsers(SeedArgs),
}

#[derive(Args)]
struct SeedArgs {
    /// The server's data directory.
    #[arg(long, value_name = "DIR", default_value = "./data")]
    data: PathBuf,
    /// How many accounts.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    count: u64,
    /// Where their tokens go, one a line. Readable by its owner only.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The guild that they all join.
    #[arg(long, value_name = "ID")]
    guild: Option<GuildId>,
    /// The name of a guild of one channel that they all join, made if there is none.
    #[arg(long, value_name = "NAME", value_parser = guild_name)]
    everyone: Option<String>,
    /// Also puts neighbours into circles of so many, each with a guild of its own of 4 channels.
    #[arg(long, value_name = "USERS", value_parser = clap::value_parser!(u32).range(1..=i64::from(CIRCLE_USERS_MAX)))]
    circles: Option<u32>,
    /// Days until the tokens expire.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3_650))]
    token_days: u32,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_env("THRONG_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match cli.command {
        Command::Serve(args) => serve(&args),
        Command::Echo(args) => echo(&args),
        Command::Chat(args) => throng::chat::run(args),
        Command::Admin(Admin::SeedUsers(args)) => done(seed(&args)),
        Command::Store(command) => store_tools::run_store(command),
        Command::Dlq(command) => store_tools::run_dlq(&command),
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    let config = match edge::load(args.config.as_deref(), &args.flags) {
        Ok(config) => config,
        Err(error) => return wrong(&error),
    };
    match edge::serve(&config, announce) {
        Err(error @ (NodeError::Config(_) | NodeError::Address { .. })) => wrong(&error),
        result => done(result),
    }
}

fn echo(args: &EchoArgs) -> ExitCode {
    let mode = if args.dense {
        ReceiveMode::Dense
    } else {
        ReceiveMode::Multishot
    };
    done(edge::run_echo(args.listen, args.shards, mode, announce))
}

/// What others wait for before they connect.
fn announce(address: SocketAddr) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "listening on http://{address}");
    let _ = stdout.flush(); // Who reads it may have gone.
}

/// Arguments or a configuration that cannot be.
fn wrong(error: &impl std::error::Error) -> ExitCode {
    eprintln!("throng: {error}");
    ExitCode::from(2)
}

fn done<E: std::error::Error>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("throng: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Why accounts were not seeded.
#[derive(Debug, thiserror::Error)]
enum SeedError {
    #[error("{} cannot be written: {source}", path.display())]
    Out {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} is not a data directory: start `throng serve` with it once", path.display())]
    NoData { path: PathBuf },
    #[error(transparent)]
    Control(#[from] ControlError),
}

fn seed(args: &SeedArgs) -> Result<(), SeedError> {
    if !args.data.is_dir() {
        return Err(SeedError::NoData {
            path: args.data.clone(),
        });
    }
    let mut out = BufWriter::new(tokens_file(&args.out)?);
    let token_ttl_s = u64::from(args.token_days) * 86_400;
    let seeding = Seeding {
        count: args.count,
        guild: args.guild,
        everyone: args.everyone.clone(),
        circles: args.circles,
        token_ttl_s,
    };
    let bar = progress(args.count);
    seed_users(&args.data, &seeding, &mut out, |done| {
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    let failed = |source| SeedError::Out {
        path: args.out.clone(),
        source,
    };
    out.flush().map_err(failed)?;
    eprintln!(
        "{} accounts; their tokens are in {}",
        args.count,
        args.out.display()
    );
    Ok(())
}

/// Is drawn where a person watches, and nowhere else.
fn progress(accounts: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("accounts [{bar:40}] {pos}/{len} {per_sec} {eta}")
        .expect("the template is well formed");
    ProgressBar::new(accounts).with_style(style)
}

/// The rule of the API for names of guilds.
fn guild_name(text: &str) -> Result<String, &'static str> {
    let length = text.chars().count();
    (2..=100)
        .contains(&length)
        .then(|| text.to_owned())
        .ok_or("a guild's name has 2 to 100 characters")
}

/// Tokens are secrets: nobody else may read the file, even if it was there before.
fn tokens_file(path: &Path) -> Result<std::fs::File, SeedError> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let failed = |source| SeedError::Out {
        path: path.to_owned(),
        source,
    };
    let opened = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    let file = opened.map_err(failed)?;
    let secret = std::fs::Permissions::from_mode(0o600);
    file.set_permissions(secret).map_err(failed)?;
    Ok(file)
}
