//! `throng-bench`: load on a Throng server, from outside, as any client puts it there.
//!
//! It never links the server and never reads its files. `store` measures the server's message
//! store by itself, in folders of its own.
//!
//! Invariants: exit status 0, 1 and 2 mean the same for every subcommand: all promises kept, one
//! broken, no verdict. `compare` breaks one where something got worse and `--fail-on-worse` says
//! that it must not.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use throng_bench::{
    chat, compare, connect, echo, fanout, idle, peers, reading, soak, store, storm, suite,
};

#[derive(Parser)]
#[command(
    name = "throng-bench",
    version = version(),
    about = "Throng's load generator and benchmark suite."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Chat(chat::ChatArgs),
    Idle(idle::IdleArgs),
    Fanout(fanout::FanoutArgs),
    Echo(echo::EchoArgs),
    Storm(storm::StormArgs),
    Connect(connect::ConnectArgs),
    History(reading::ReadingArgs),
    Soak(soak::SoakArgs),
    Compare(compare::CompareArgs),
    #[command(hide = true)]
    RawEcho(echo::raw::RawEchoArgs),
    Store(store::StoreArgs),
    Suite(suite::SuiteArgs),
    Peers(peers::PeersArgs),
    /// Prints the JSON Schema of the reports of `suite` and `peers`.
    Schema,
    #[command(hide = true)]
    StoreEngine(store::EngineArgs),
}

/// The version, and the git revision.
fn version() -> &'static str {
    format!("{} ({})", env!("CARGO_PKG_VERSION"), suite::REVISION).leak()
}

fn print_schema() -> ExitCode {
    let schema = suite::model::schema();
    println!("{:#}", schema.as_value());
    ExitCode::SUCCESS
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Chat(args) => chat::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Fanout(args) => fanout::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::History(args) => reading::run(&args),
        Command::Suite(args) => suite::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Echo(args) => echo::run(&args),
        Command::RawEcho(args) => echo::raw::serve(&args),
        Command::Store(args) => store::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::Schema => print_schema(),
        Command::StoreEngine(args) => store::serve(&args),
    }
}
