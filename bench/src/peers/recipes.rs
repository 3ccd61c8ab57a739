//! How each server is started: command lines, settings, and what installs it.
//!
//! It is data, and README.md beside the programs says where each setting comes from.
//!
//! Invariants: those of `subject`.

use super::subject::{Origin, Program, Recipe};
use crate::program::LIMITS;

const THRONG_CONFIG: (&str, &str) = ("throng.toml", LIMITS);
const THRONG_SERVE: &[&str] = &[
    "serve",
    "--config",
    "{data}/throng.toml",
    "--data",
    "{data}/store",
    "--shards",
    "1",
    "--listen",
    "127.0.0.1:{port}",
];

const fn program(
    origin: Origin,
    name: &'static str,
    arguments: &'static [&'static str],
) -> Program {
    Program {
        origin,
        name,
        arguments,
        settings: &[],
        port: "{port}",
        version: Some("--version"),
    }
}

pub(super) const THRONG: Recipe = Recipe {
    programs: &[program(Origin::Throng, "throng", THRONG_SERVE)],
    config: Some(THRONG_CONFIG),
    packages: &[],
    install: "make build",
};

pub(super) const THRONG_ECHO: Recipe = Recipe {
    programs: &[program(
        Origin::Throng,
        "throng",
        &["echo", "--shards", "1", "--listen", "127.0.0.1:{port}"],
    )],
    config: None,
    ..THRONG
};

pub(super) const THRONG_OFF: Recipe = Recipe {
    programs: &[Program {
        settings: &[("THRONG_DURABILITY", "off")],
        ..program(Origin::Throng, "throng", THRONG_SERVE)
    }],
    ..THRONG
};

pub(super) const NATS: Recipe = Recipe {
    programs: &[program(
        Origin::Installed,
        "nats-server",
        &["--config", "{data}/nats.conf"],
    )],
    config: Some(("nats.conf", include_str!("../../peers/nats.conf"))),
    packages: &[],
    install: "apt-get install nats-server",
};

pub(super) const MOSQUITTO: Recipe = Recipe {
    programs: &[Program {
        version: Some("-h"),
        ..program(
            Origin::Installed,
            "mosquitto",
            &["-c", "{data}/mosquitto.conf"],
        )
    }],
    config: Some(("mosquitto.conf", include_str!("../../peers/mosquitto.conf"))),
    packages: &[],
    install: "apt-get install mosquitto",
};

pub(super) const UWEBSOCKETS: Recipe = Recipe {
    programs: &[program(
        Origin::Installed,
        "node",
        &["{peers}/uwebsockets/server.js", "{port}"],
    )],
    config: None,
    packages: &["uwebsockets/node_modules/uWebSockets.js"],
    install: "cd bench/peers/uwebsockets && npm install",
};

pub(super) const NODE_WS: Recipe = Recipe {
    programs: &[program(
        Origin::Installed,
        "node",
        &["{peers}/node-ws/server.js", "{port}"],
    )],
    config: None,
    packages: &[
        "node-ws/node_modules/ws",
        "node-ws/node_modules/bufferutil",
        "node-ws/node_modules/ioredis",
    ],
    install: "cd bench/peers/node-ws && npm ci",
};

pub(super) const NODE_WS_REDIS: Recipe = Recipe {
    programs: &[
        Program {
            port: "{second}",
            ..program(
                Origin::Installed,
                "redis-server",
                &[
                    "--bind",
                    "127.0.0.1",
                    "--port",
                    "{second}",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                ],
            )
        },
        program(
            Origin::Installed,
            "node",
            &["{peers}/node-ws/server.js", "{port}", "{second}"],
        ),
    ],
    install: "apt-get install redis-server, and cd bench/peers/node-ws && npm ci",
    ..NODE_WS
};

pub(super) const TUNGSTENITE: Recipe = Recipe {
    programs: &[Program {
        version: None,
        ..program(Origin::Beside, "peer-tokio-tungstenite", &["{port}"])
    }],
    config: None,
    packages: &[],
    install: "make build",
};
