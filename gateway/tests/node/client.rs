//! A client that speaks the protocol well.
//!
//! It resends and reconnects only when a test says so, and reads only when asked.
//!
//! Invariants: events are found in the order in which they came; each read has a bound, and
//! running into it fails the test.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};
use throng_protocol::{
    ChannelId, Command, ErrorCode, Event, Guild, Message, MessageId, Nonce, Resume, ResumeChannel,
    Seq, encode_command,
};
use tungstenite::{Error, WebSocket};

use super::process::PATIENCE;

/// Kernel buffer of a client that takes little at a time, in bytes.
const SMALL_BUFFER: usize = 4_096;

/// One connection.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    heard: VecDeque<Event>,
}

/// The connection is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// By a close frame, with its code.
    Closed(Option<u16>),
    /// Without one.
    Lost,
}

/// What an ERROR said.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: ErrorCode,
    pub(crate) nonce: Option<Nonce>,
    pub(crate) retry_after_ms: Option<u64>,
}

/// A nonce that nobody else has.
pub(crate) fn new_nonce() -> Nonce {
    Nonce::from_u128(rand::random())
}

impl Client {
    /// A connection that has heard HELLO.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap(), address).expect("a handshake and HELLO")
    }

    /// The same, with a small receive buffer.
    pub(crate) fn connect_narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(SMALL_BUFFER).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::over(socket.into(), address).expect("a handshake and HELLO")
    }

    /// An identified session, or none when the server goes away meanwhile.
    pub(crate) fn try_ready(address: SocketAddr, token: &str) -> Option<Self> {
        let mut client = Self::over(TcpStream::connect(address).ok()?, address)?;
        client.try_tell(&identify(token, None)).ok()?;
        match client.try_next().ok()? {
            Event::Ready { .. } => Some(client),
            other => panic!("not READY: {other:?}"),
        }
    }

    /// An identified session.
    pub(crate) fn ready(address: SocketAddr, token: &str) -> Self {
        let mut client = Self::connect(address);
        client.identify(token, None);
        client
    }

    fn over(stream: TcpStream, address: SocketAddr) -> Option<Self> {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).ok()?;
        let (socket, _) = tungstenite::client(format!("ws://{address}/gateway"), stream).ok()?;
        let mut client = Self {
            socket,
            heard: VecDeque::new(),
        };
        match client.try_next().ok()? {
            Event::Hello { .. } => Some(client),
            other => panic!("not HELLO: {other:?}"),
        }
    }

    /// Identifies; gives the guilds of READY.
    #[track_caller]
    pub(crate) fn identify(&mut self, token: &str, resume: Option<Resume>) -> Vec<Guild> {
        self.tell(&identify(token, resume));
        match self.next() {
            Event::Ready { guilds, .. } => guilds,
            other => panic!("not READY: {other:?}"),
        }
    }

    /// Says something.
    #[track_caller]
    pub(crate) fn tell(&mut self, command: &Command<'_>) {
        self.try_tell(command).expect("the connection is open");
    }

    /// Says something, if the connection is open.
    pub(crate) fn try_tell(&mut self, command: &Command<'_>) -> Result<(), Over> {
        let text = tungstenite::Message::text(encode_command(command));
        self.socket.send(text).map_err(over)
    }

    /// Says a ping of so many bytes, if the connection is open.
    pub(crate) fn try_ping(&mut self, bytes: usize) -> Result<(), Over> {
        let ping = tungstenite::Message::Ping(vec![b'.'; bytes].into());
        self.socket.send(ping).map_err(over)
    }

    /// The next event, in the order of arrival.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Event {
        self.try_next().expect("the connection is open")
    }

    /// The next event, or how the connection ended.
    #[track_caller]
    pub(crate) fn try_next(&mut self) -> Result<Event, Over> {
        match self.heard.pop_front() {
            Some(event) => Ok(event),
            None => self.read(),
        }
    }

    #[track_caller]
    fn read(&mut self) -> Result<Event, Over> {
        loop {
            match self.socket.read().map_err(over)? {
                tungstenite::Message::Text(text) => {
                    return Ok(serde_json::from_str(&text).expect("an event"));
                }
                tungstenite::Message::Close(frame) => {
                    return Err(Over::Closed(frame.map(|frame| frame.code.into())));
                }
                tungstenite::Message::Ping(_) | tungstenite::Message::Pong(_) => {}
                other => panic!("no event: {other:?}"),
            }
        }
    }

    /// The first event that `pick` takes; those before it stay for later.
    #[track_caller]
    pub(crate) fn find<T>(&mut self, mut pick: impl FnMut(&Event) -> Option<T>) -> T {
        for index in 0.. {
            if index == self.heard.len() {
                let event = self.read().expect("the connection is open");
                self.heard.push_back(event);
            }
            if let Some(found) = pick(&self.heard[index]) {
                self.heard.remove(index);
                return found;
            }
        }
        unreachable!("the loop ends with what was found")
    }

    /// What came and nobody asked for.
    pub(crate) fn heard(&self) -> Vec<Event> {
        self.heard.iter().cloned().collect()
    }

    /// How the connection ends, whatever comes before.
    #[track_caller]
    pub(crate) fn end(mut self) -> Over {
        loop {
            if let Err(over) = self.try_next() {
                return over;
            }
        }
    }

    /// Subscribes; gives the head.
    #[track_caller]
    pub(crate) fn subscribe(&mut self, channel: ChannelId, after: Option<u64>) -> u64 {
        self.tell(&Command::SubscribeChannel {
            channel_id: channel,
            after_seq: after.map(Seq),
            after_rev: None,
        });
        self.subscribed(channel)
    }

    /// The head that SUBSCRIBED tells.
    #[track_caller]
    pub(crate) fn subscribed(&mut self, channel: ChannelId) -> u64 {
        self.find(|event| match event {
            Event::Subscribed {
                channel_id, seq, ..
            } if *channel_id == channel => Some(seq.0),
            Event::Error { code, message, .. } => panic!("not subscribed: {code}: {message}"),
            _ => None,
        })
    }

    /// Sends a message under a new nonce.
    #[track_caller]
    pub(crate) fn say(&mut self, channel: ChannelId, content: &str) -> Nonce {
        let nonce = new_nonce();
        self.say_as(channel, content, nonce);
        nonce
    }

    /// Sends a message under this nonce.
    #[track_caller]
    pub(crate) fn say_as(&mut self, channel: ChannelId, content: &str, nonce: Nonce) {
        self.tell(&message(channel, content, nonce));
    }

    /// The ACK of this nonce.
    #[track_caller]
    pub(crate) fn acked(&mut self, of: Nonce) -> (MessageId, u64) {
        self.find(|event| match event {
            Event::MessageAck {
                nonce,
                message_id,
                seq,
            } if *nonce == of => Some((*message_id, seq.0)),
            Event::Error { code, message, .. } => panic!("not stored: {code}: {message}"),
            _ => None,
        })
    }

    /// Sends a message and waits until it is stored.
    #[track_caller]
    pub(crate) fn store(&mut self, channel: ChannelId, content: &str) -> (MessageId, u64) {
        let nonce = self.say(channel, content);
        self.acked(nonce)
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn message(&mut self) -> Message {
        self.find(|event| match event {
            Event::MessageCreate { message } => Some(message.clone()),
            _ => None,
        })
    }

    /// The next ERROR.
    #[track_caller]
    pub(crate) fn refused(&mut self) -> Refused {
        self.find(|event| match event {
            Event::Error {
                code,
                nonce,
                retry_after_ms,
                ..
            } => Some(Refused {
                code: *code,
                nonce: *nonce,
                retry_after_ms: *retry_after_ms,
            }),
            _ => None,
        })
    }

    /// Whether the server answers.
    #[track_caller]
    pub(crate) fn is_alive(&mut self) -> bool {
        self.tell(&Command::Heartbeat);
        self.find(|event| matches!(event, Event::HeartbeatAck).then_some(true))
    }
}

/// IDENTIFY.
pub(crate) fn identify(token: &str, resume: Option<Resume>) -> Command<'_> {
    Command::Identify {
        token: Cow::Borrowed(token),
        resume,
    }
}

/// SEND_MESSAGE.
pub(crate) fn message(channel: ChannelId, content: &str, nonce: Nonce) -> Command<'_> {
    Command::SendMessage {
        channel_id: channel,
        content: Cow::Borrowed(content),
        nonce,
        reply_to: None,
    }
}

/// To go on in these channels after these messages.
pub(crate) fn resume_after(channels: &[(ChannelId, u64)]) -> Resume {
    let channel = |(channel_id, after): &(ChannelId, u64)| ResumeChannel {
        channel_id: *channel_id,
        after_seq: Seq(*after),
        after_rev: None,
    };
    Resume {
        channels: channels.iter().map(channel).collect(),
    }
}

/// What ended a connection; running out of time is no end but a failure.
#[track_caller]
fn over(error: Error) -> Over {
    match error {
        Error::Io(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            panic!("the server says nothing")
        }
        Error::Io(_) | Error::ConnectionClosed | Error::AlreadyClosed => Over::Lost,
        Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            Over::Lost
        }
        other => panic!("the server broke the protocol: {other}"),
    }
}
