//! `throng-bench`: load on a Throng server, from outside, as any client puts it there.
//!
//! It never links the server and never reads its files. `store` measures the server's message
//! store by itself, in folders of its own.
//!
//! Invariants: exit status 0, 1 and 2 mean the same for every subcommand: all promises kept, one
//! broken, no verdict.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use throng_bench::{chat, echo, fanout, idle, peers, soak, store, storm};

#[derive(Parser)]
#[command(
    name = "throng-bench",
    version,
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
    Soak(soak::SoakArgs),
    #[command(hide = true)]
    RawEcho(echo::raw::RawEchoArgs),
    Store(store::StoreArgs),
    Peers(peers::PeersArgs),
    #[command(hide = true)]
    StoreEngine(store::EngineArgs),
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Chat(args) => chat::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Fanout(args) => fanout::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Soak(args) => soak::run(&args),
        Command::Echo(args) => echo::run(&args),
        Command::RawEcho(args) => echo::raw::serve(&args),
        Command::Store(args) => store::run(&args),
        Command::Peers(args) => peers::run(&args),
        Command::StoreEngine(args) => store::serve(&args),
    }
}
