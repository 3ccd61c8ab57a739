//! The connection: a thread that makes it, keeps it alive, and makes it again.
//!
//! It never decides what to say, except heartbeats, and keeps nothing that must survive a
//! disconnect: commands that did not leave are the talk's to say again.
//!
//! Invariants: after `Lost`, the next event is the HELLO of a new connection; after `Over`
//! nothing comes; pauses between attempts grow, with jitter, up to a bound.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use rand::RngExt;
use throng_protocol::{Command, ErrorCode, Event, encode_command};
use tungstenite::{Message, WebSocket};

use super::Happening;
use super::api::Api;
use super::error::ChatError;

/// How long a typed line may wait for the socket's reader.
const TURN: Duration = Duration::from_millis(30);
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(15);
/// Commands that may wait for the socket.
const COMMANDS_MAX: usize = 1024;
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// The main thread's end of the connection.
pub(super) struct Link {
    commands: SyncSender<String>,
}

impl Link {
    /// Starts the thread; what it hears goes to `happens`.
    pub(super) fn open(api: &Api, happens: SyncSender<Happening>) -> Result<Self, ChatError> {
        let (commands, said) = sync_channel(COMMANDS_MAX);
        let mut authority = api.authority().to_owned();
        let host_end = authority.rfind(']').unwrap_or(0);
        if !authority[host_end..].contains(':') {
            authority.push_str(":80");
        }
        let keeper = move || keep(&authority, &said, &happens);
        let spawned = std::thread::Builder::new()
            .name("connection".to_owned())
            .spawn(keeper);
        match spawned {
            Ok(_) => Ok(Self { commands }),
            Err(source) => Err(ChatError::System {
                doing: "starting a thread",
                source,
            }),
        }
    }

    /// Says something, if there is a connection that takes it.
    pub(super) fn say(&self, command: String) {
        // Full or gone: the talk keeps its messages until they are answered.
        let _ = self.commands.try_send(command);
    }
}

fn keep(authority: &str, said: &Receiver<String>, happens: &SyncSender<Happening>) {
    let mut pause = PAUSE_MIN;
    loop {
        let mut connection = Connection {
            heartbeat: None,
            come_back: None,
            was_ready: false,
        };
        let end = connection.run(authority, said, happens);
        let is_final = matches!(end, ChatError::InvalidSession { .. });
        let happening = if is_final {
            Happening::Over(end)
        } else {
            Happening::Lost(end)
        };
        if happens.send(happening).is_err() || is_final {
            return;
        }
        if connection.was_ready {
            pause = PAUSE_MIN;
        }
        let jittered = pause.mul_f64(fresh_fraction());
        wait(connection.come_back.unwrap_or(jittered).min(PAUSE_MAX));
        pause = (pause * 2).min(PAUSE_MAX);
        // Said to the connection that is gone.
        while said.try_recv().is_ok() {}
    }
}

struct Connection {
    heartbeat: Option<(Duration, Instant)>,
    come_back: Option<Duration>,
    was_ready: bool,
}

impl Connection {
    /// Runs until the connection is over, and says why it is.
    fn run(
        &mut self,
        authority: &str,
        said: &Receiver<String>,
        happens: &SyncSender<Happening>,
    ) -> ChatError {
        let mut socket = match connect(authority) {
            Ok(socket) => socket,
            Err(error) => return error,
        };
        loop {
            if let Err(error) = self.turn(&mut socket, said, happens) {
                return error;
            }
        }
    }

    fn turn(
        &mut self,
        socket: &mut WebSocket<TcpStream>,
        said: &Receiver<String>,
        happens: &SyncSender<Happening>,
    ) -> Result<(), ChatError> {
        while let Ok(command) = said.try_recv() {
            socket.send(Message::text(command)).map_err(broken)?;
        }
        if let Some((interval, due)) = &mut self.heartbeat
            && *due <= now()
        {
            *due = now() + *interval;
            socket
                .send(Message::text(encode_command(&Command::Heartbeat)))
                .map_err(broken)?;
        }
        match socket.read() {
            Ok(Message::Text(text)) => {
                let event = serde_json::from_str(&text)
                    .map_err(|source| ChatError::NotAnEvent { source })?;
                self.heard(event, happens)
            }
            Ok(Message::Close(frame)) => Err(ChatError::Closed {
                code: frame.map(|frame| frame.code.into()),
            }),
            Ok(_) => Ok(()),
            Err(tungstenite::Error::Io(error))
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
            {
                Ok(())
            }
            Err(error) => Err(broken(error)),
        }
    }

    fn heard(&mut self, event: Event, happens: &SyncSender<Happening>) -> Result<(), ChatError> {
        match &event {
            Event::Hello {
                heartbeat_interval_ms,
            } => {
                let interval = Duration::from_millis((*heartbeat_interval_ms).clamp(1000, 60_000));
                self.heartbeat = Some((interval, now() + interval));
            }
            Event::Ready { .. } => self.was_ready = true,
            Event::Reconnect { retry_after_ms, .. } => {
                self.come_back = Some(Duration::from_millis(*retry_after_ms));
            }
            Event::Error {
                code: ErrorCode::InvalidSession,
                message,
                ..
            } => {
                return Err(ChatError::InvalidSession {
                    message: message.clone(),
                });
            }
            _ => {}
        }
        let is_leaving = matches!(event, Event::Reconnect { .. });
        let gone = |_| ChatError::Closed { code: None };
        happens
            .send(Happening::Heard(Box::new(event)))
            .map_err(gone)?;
        if is_leaving {
            return Err(ChatError::AskedToReconnect);
        }
        Ok(())
    }
}

fn connect(authority: &str) -> Result<WebSocket<TcpStream>, ChatError> {
    let failed = |source| ChatError::System {
        doing: "connecting",
        source,
    };
    let stream = TcpStream::connect(authority).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    stream
        .set_read_timeout(Some(HANDSHAKE_TIME_MAX))
        .map_err(failed)?;
    stream
        .set_write_timeout(Some(HANDSHAKE_TIME_MAX))
        .map_err(failed)?;
    let request = format!("ws://{authority}/gateway");
    let (socket, _) = tungstenite::client(request, stream).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(error) => broken(error),
        tungstenite::HandshakeError::Interrupted(_) => failed(ErrorKind::TimedOut.into()),
    })?;
    socket
        .get_ref()
        .set_read_timeout(Some(TURN))
        .map_err(failed)?;
    Ok(socket)
}

fn broken(error: tungstenite::Error) -> ChatError {
    ChatError::Socket {
        source: Box::new(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "the terminal client is an edge")]
fn now() -> Instant {
    Instant::now()
}

#[expect(clippy::disallowed_methods, reason = "the terminal client is an edge")]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}

/// Between one half and one: clients of one server shall not come back all at once.
fn fresh_fraction() -> f64 {
    let mut random: rand::rngs::StdRng = rand::make_rng();
    random.random_range(0.5..1.0)
}
