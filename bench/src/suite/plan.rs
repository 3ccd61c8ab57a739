//! What a suite runs, at each scale: pure data.
//!
//! It starts nothing. A step is one benchmark of one server as it was set up for it; `figures` says
//! what is read from its report.
//!
//! Invariants: each scale has every part, but `smoke` looks for no highest rate; steps of one name are comparable; what is offered to the
//! server is in the command lines, which the report shows.

use super::figures::{self, Wanted};
use crate::store::Scale;

/// Users that a server has at least: what a fan-out's spare clients and circles need.
const SPARE_ACCOUNTS: u32 = 8;
/// Users who read history.
const READERS: u32 = 64;
/// How long an open loop goes on before it is measured.
const WARM_UP: &str = "2s";

/// One benchmark of one server.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// Which benchmark.
    pub name: &'static str,
    /// Which server, in which mode.
    pub subject: &'static str,
    /// What it shows.
    pub about: &'static str,
    /// What it is run against.
    pub server: ServerKind,
    /// Settings of the server, as variables.
    pub settings: &'static [(&'static str, &'static str)],
    /// Shards; 0 as many as there are cores.
    pub shards: u16,
    /// Whether server and generator get a core each, where there are two.
    pub is_pinned: bool,
    /// The generator's arguments, its command first, without the target.
    pub args: Vec<String>,
    /// What is read from its report.
    pub wanted: &'static Wanted,
}

/// A step with nothing special about it: the server as it is shipped, on all cores.
const fn step(name: &'static str, server: ServerKind, wanted: &'static Wanted) -> Step {
    Step {
        name,
        subject: "throng",
        about: "",
        server,
        settings: &[],
        shards: 0,
        is_pinned: false,
        args: Vec::new(),
        wanted,
    }
}

/// What a step is run against.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServerKind {
    /// `throng serve` with so many accounts.
    Serve(u32),
    /// `throng echo`.
    Echo,
    /// Nothing: the step brings what it measures.
    None,
}

/// How large the parts are at a scale.
struct Sizes {
    idle: u32,
    idle_hold: &'static str,
    connect: u32,
    duration: &'static str,
    closed_subscribers: u32,
    open_subscribers: u32,
    /// Messages a second of the open fan-out.
    open_rate: u32,
    /// Whether the highest rate is looked for: that takes half a minute.
    searches: bool,
    probe: &'static str,
    chat_clients: u32,
    chat_rate: u32,
    fill: u32,
    read_rate: u32,
    storm: u32,
    store: &'static str,
}

const SMOKE: Sizes = Sizes {
    idle: 1_000,
    idle_hold: "2s",
    connect: 500,
    duration: "4s",
    closed_subscribers: 1_000,
    open_subscribers: 200,
    open_rate: 500,
    searches: false,
    probe: "1s",
    chat_clients: 50,
    chat_rate: 500,
    fill: 5_000,
    read_rate: 200,
    storm: 400,
    store: "smoke",
};

const STANDARD: Sizes = Sizes {
    idle: 10_000,
    idle_hold: "15s",
    connect: 2_000,
    duration: "12s",
    closed_subscribers: 5_000,
    open_subscribers: 1_000,
    open_rate: 500,
    searches: true,
    probe: "1s",
    chat_clients: 500,
    chat_rate: 4_000,
    fill: 50_000,
    read_rate: 500,
    storm: 5_000,
    store: "smoke",
};

const FULL: Sizes = Sizes {
    idle: 15_000,
    idle_hold: "60s",
    connect: 5_000,
    duration: "30s",
    probe: "3s",
    chat_clients: 2_000,
    chat_rate: 8_000,
    fill: 500_000,
    storm: 15_000,
    store: "standard",
    ..STANDARD
};

/// Rounds of every step.
#[must_use]
pub const fn rounds(scale: Scale) -> u32 {
    match scale {
        Scale::Smoke => 2,
        Scale::Standard => 3,
        Scale::Full => 5,
    }
}

/// The steps of a round, in their order: what counts the kernel's memory comes before what leaves
/// connections behind that the kernel remembers for a minute.
#[must_use]
pub fn steps(scale: Scale) -> Vec<Step> {
    let sizes = match scale {
        Scale::Smoke => &SMOKE,
        Scale::Standard => &STANDARD,
        Scale::Full => &FULL,
    };
    let mut steps = memory(sizes);
    steps.push(connect(sizes));
    steps.push(echo(sizes));
    steps.extend(fanout(sizes));
    steps.push(chat(sizes));
    steps.push(history(sizes));
    steps.push(storm(sizes));
    steps.push(store(sizes));
    steps
}

/// A command line of words and numbers.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn memory(sizes: &Sizes) -> Vec<Step> {
    let plain = Step {
        about: "What a session costs that is identified, has five subscriptions and sends heartbeats.",
        args: words(&format!(
            "idle --connections {} --duration {}",
            sizes.idle, sizes.idle_hold
        )),
        ..step("idle", ServerKind::Serve(sizes.idle), &figures::IDLE)
    };
    let dense = Step {
        subject: "throng, dense",
        settings: &[("THRONG_SOCKETS__MODE", "dense")],
        ..plain.clone()
    };
    vec![plain, dense]
}

fn connect(sizes: &Sizes) -> Step {
    Step {
        about: "How fast sessions come, from the first SYN to the fifth SUBSCRIBED, as fast as they are taken.",
        args: words(&format!(
            "connect --connections {} --duration {}",
            sizes.connect, sizes.duration
        )),
        ..step(
            "connect",
            ServerKind::Serve(sizes.connect),
            &figures::CONNECT,
        )
    }
}

fn echo(sizes: &Sizes) -> Step {
    Step {
        about: "A closed loop of 64 B messages on 1,000 connections, beside the least that an echo on io_uring costs.",
        shards: 1,
        is_pinned: true,
        args: words(&format!(
            "echo --connections 1000 --size 64 --duration {}",
            sizes.duration
        )),
        ..step("echo", ServerKind::Echo, &figures::ECHO)
    }
}

/// Throng as it is, and acknowledging before it is stored, which is what servers without a store do.
const DURABILITIES: [(&str, &[(&str, &str)]); 2] = [
    ("throng, synced", &[]),
    ("throng, store off", &[("THRONG_DURABILITY", "off")]),
];

fn fanout(sizes: &Sizes) -> Vec<Step> {
    let (for_closed, for_open) = (
        ServerKind::Serve(sizes.closed_subscribers + SPARE_ACCOUNTS),
        ServerKind::Serve(sizes.open_subscribers + SPARE_ACCOUNTS),
    );
    let closed = Step {
        shards: 1,
        is_pinned: true,
        subject: "throng, synced",
        about: "One sender; the next message leaves when all subscribers have the last. Beside a bare loop of send() over as many sockets.",
        args: words(&format!(
            "fanout --closed --subscribers {} --duration {}",
            sizes.closed_subscribers, sizes.duration
        )),
        ..step("fanout-closed", for_closed, &figures::FANOUT_CLOSED)
    };
    let open = |(subject, settings)| Step {
        shards: 1,
        is_pinned: true,
        subject,
        about: "One channel in an open loop at a fixed rate: when deliveries come, counted from when their message was due.",
        settings,
        args: words(&format!(
            "fanout --subscribers {} --rate {} --warm-up {WARM_UP} --duration {}",
            sizes.open_subscribers, sizes.open_rate, sizes.duration
        )),
        ..step("fanout-open", for_open, &figures::FANOUT_OPEN)
    };
    let most = |(subject, settings)| Step {
        name: "fanout-most",
        about: "The most deliveries a second of which 99 % come within 100 ms of when their message was due.",
        args: words(&format!(
            "fanout --subscribers {} --open --probe {}",
            sizes.open_subscribers, sizes.probe
        )),
        wanted: &figures::FANOUT_MOST,
        ..open((subject, settings))
    };
    let mut steps = vec![closed];
    steps.extend(DURABILITIES.map(open));
    if sizes.searches {
        steps.extend(DURABILITIES.map(most));
    }
    steps
}

fn chat(sizes: &Sizes) -> Step {
    Step {
        subject: "throng, synced",
        about: "People talk in an open loop, and every promise is checked: once, in order, and in history afterwards.",
        args: words(&format!(
            "chat --clients {} --channels {} --rate {} --warm-up {WARM_UP} --duration {}",
            sizes.chat_clients,
            sizes.chat_clients / 5,
            sizes.chat_rate,
            sizes.duration
        )),
        ..step(
            "chat",
            ServerKind::Serve(sizes.chat_clients),
            &figures::CHAT,
        )
    }
}

fn history(sizes: &Sizes) -> Step {
    Step {
        about: "Pages of 50 messages over REST in an open loop, one in four the newest of its channel.",
        args: words(&format!(
            "history --readers {READERS} --fill {} --rate {} --duration {}",
            sizes.fill, sizes.read_rate, sizes.duration
        )),
        ..step("history", ServerKind::Serve(READERS), &figures::HISTORY)
    }
}

fn storm(sizes: &Sizes) -> Step {
    Step {
        about: "All but one in a hundred lose their connection at once, come back, and get what they missed.",
        args: words(&format!("storm --drop --connections {}", sizes.storm)),
        ..step("storm", ServerKind::Serve(sizes.storm), &figures::STORM)
    }
}

fn store(sizes: &Sizes) -> Step {
    Step {
        about: "The message store by itself: durable appends in commits of 16, and pages of a channel.",
        args: words(&format!(
            "store --scale {} --only append --only throng --only raw",
            sizes.store
        )),
        ..step("store", ServerKind::None, &figures::STORE)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_scale_has_every_part() {
        let names = |scale| -> BTreeSet<_> {
            let steps = steps(scale);
            steps.iter().map(|step| (step.name, step.subject)).collect()
        };
        let searched = DURABILITIES.map(|(subject, _)| ("fanout-most", subject));
        let all: BTreeSet<_> = names(Scale::Smoke).into_iter().chain(searched).collect();
        assert_eq!(all, names(Scale::Standard));
        assert_eq!(all, names(Scale::Full));
        assert_eq!(names(Scale::Smoke).len(), steps(Scale::Smoke).len());
        let parts: BTreeSet<_> = steps(Scale::Smoke).iter().map(|step| step.name).collect();
        let all = "idle connect echo fanout-closed fanout-open chat history storm store";
        assert_eq!(parts, all.split(' ').collect());
    }
}
