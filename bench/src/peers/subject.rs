//! The servers that are measured: what each is made of, how it is started, and what installs it.
//!
//! It starts nothing and looks for nothing on the machine.
//!
//! Invariants: whatever changes a server's figures stands in its recipe, and the recipe in the
//! report; `{port}`, `{second}`, `{data}` and `{peers}` are filled in when it is started.

use clap::ValueEnum;

use super::dialect::Dialect;
use super::recipes::{
    MOSQUITTO, NATS, NODE_WS, NODE_WS_REDIS, THRONG, THRONG_ECHO, THRONG_OFF, TUNGSTENITE,
    UWEBSOCKETS,
};

/// A server.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Subject {
    /// Throng: every message on disk and synced before it is acknowledged or delivered.
    Throng,
    /// Throng with durability off: stored, never synced.
    ThrongOff,
    /// NATS.
    NatsServer,
    /// MQTT.
    Mosquitto,
    /// uWebSockets under Node.js.
    #[value(name = "uwebsockets.js")]
    UwebsocketsJs,
    /// The `ws` package of Node.js.
    NodeWs,
    /// The same, each message by way of Redis.
    NodeWsRedis,
    /// tokio-tungstenite.
    TokioTungstenite,
}

/// What is measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Benchmark {
    /// Connections and their memory; the rate at which they come.
    Idle,
    /// Echoes.
    Echo,
    /// One message to all, then the next.
    FanoutClosed,
    /// The highest rate with 99 % of the deliveries within 100 ms.
    FanoutOpen,
}

/// Where a program is found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Origin {
    /// Beside this one.
    Beside,
    /// That of --throng, or beside this one.
    Throng,
    /// On the PATH.
    Installed,
}

/// A program to start, and to keep running until the server is stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) origin: Origin,
    pub(super) name: &'static str,
    pub(super) arguments: &'static [&'static str],
    /// Further variables of its environment.
    pub(super) settings: &'static [(&'static str, &'static str)],
    /// The port that it listens on once it is ready.
    pub(super) port: &'static str,
    /// What makes it say its version, in its first line; none where it has none of its own.
    pub(super) version: Option<&'static str>,
}

/// How a server is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Recipe {
    /// In the order of their start.
    pub(super) programs: &'static [Program],
    /// A file of the data folder: its name, and its text.
    pub(super) config: Option<(&'static str, &'static str)>,
    /// Packages of npm below the folder of --peers that must be there.
    pub(super) packages: &'static [&'static str],
    /// What installs it.
    pub(super) install: &'static str,
}

impl Subject {
    /// All of them, in the order in which they take turns.
    pub(super) const fn all() -> &'static [Self] {
        &[
            Self::Throng,
            Self::ThrongOff,
            Self::NatsServer,
            Self::Mosquitto,
            Self::UwebsocketsJs,
            Self::NodeWs,
            Self::NodeWsRedis,
            Self::TokioTungstenite,
        ]
    }

    /// Its name, as in --only.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value().expect("none of them is hidden");
        value.get_name().to_owned()
    }

    /// Whether it is Throng's own chat protocol that a benchmark meets: then Throng's own
    /// subcommands measure it.
    pub(super) fn is_chat(self, benchmark: Benchmark) -> bool {
        matches!(self, Self::Throng | Self::ThrongOff) && benchmark != Benchmark::Echo
    }

    /// Whether a benchmark says something of it that it does not say of another: an echo stores
    /// nothing and asks no Redis.
    pub(super) fn takes(self, benchmark: Benchmark) -> bool {
        !(benchmark == Benchmark::Echo && matches!(self, Self::ThrongOff | Self::NodeWsRedis))
    }

    /// What it is talked to in, where it is not in Throng's own protocol.
    pub(super) const fn dialect(self) -> Dialect {
        match self {
            Self::NatsServer => Dialect::Nats,
            Self::Mosquitto => Dialect::Mqtt,
            _ => Dialect::Plain,
        }
    }

    /// How it is made for a benchmark.
    pub(super) const fn recipe(self, benchmark: Benchmark) -> Recipe {
        match (self, benchmark) {
            (Self::Throng | Self::ThrongOff, Benchmark::Echo) => THRONG_ECHO,
            (Self::Throng, _) => THRONG,
            (Self::ThrongOff, _) => THRONG_OFF,
            (Self::NatsServer, _) => NATS,
            (Self::Mosquitto, _) => MOSQUITTO,
            (Self::UwebsocketsJs, _) => UWEBSOCKETS,
            (Self::NodeWs, _) => NODE_WS,
            (Self::NodeWsRedis, _) => NODE_WS_REDIS,
            (Self::TokioTungstenite, _) => TUNGSTENITE,
        }
    }
}

impl Benchmark {
    /// All of them, in the order of a round.
    pub(super) const fn all() -> &'static [Self] {
        &[Self::Idle, Self::Echo, Self::FanoutClosed, Self::FanoutOpen]
    }
}

impl Recipe {
    /// For people: command lines with their settings, and the configuration without its comments.
    pub(super) fn describe(&self) -> String {
        let mut lines = Vec::new();
        for program in self.programs {
            let settings = program
                .settings
                .iter()
                .map(|(name, value)| format!("{name}={value} "));
            let quoted = |word: &&str| {
                if word.is_empty() {
                    "''".to_owned()
                } else {
                    (*word).to_owned()
                }
            };
            let words: Vec<String> = program.arguments.iter().map(quoted).collect();
            let settings: String = settings.collect();
            lines.push(format!("{settings}{} {}", program.name, words.join(" ")));
        }
        if let Some((name, text)) = self.config {
            let is_setting = |line: &&str| !line.trim().is_empty() && !line.starts_with('#');
            let settings: Vec<&str> = text.lines().filter(is_setting).map(str::trim).collect();
            lines.push(format!("{name}: {}", settings.join("; ")));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_described_by_what_starts_it() {
        for subject in Subject::all() {
            for benchmark in Benchmark::all() {
                let recipe = subject.recipe(*benchmark);
                assert!(!recipe.programs.is_empty() && !recipe.install.is_empty());
                let text = recipe.describe();
                assert!(text.contains(recipe.programs[0].name), "{text}");
            }
        }
        let text = Subject::ThrongOff.recipe(Benchmark::Idle).describe();
        assert!(
            text.starts_with("THRONG_DURABILITY=off throng serve "),
            "{text}"
        );
        assert!(
            text.contains("throng.toml: [limits.message]; count = 0"),
            "{text}"
        );
        let text = Subject::NodeWsRedis.recipe(Benchmark::Idle).describe();
        assert!(text.contains("--save '' "), "{text}");
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        let names: Vec<String> = Subject::all().iter().map(|it| it.name()).collect();
        assert_eq!(
            names,
            [
                "throng",
                "throng-off",
                "nats-server",
                "mosquitto",
                "uwebsockets.js",
                "node-ws",
                "node-ws-redis",
                "tokio-tungstenite"
            ]
        );
    }
}
