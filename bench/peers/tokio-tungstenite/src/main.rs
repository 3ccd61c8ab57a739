//! An echo and a chat room on tokio-tungstenite: a peer of `throng-bench peers`.
//!
//! It keeps nothing and knows no users. A message is a WebSocket message: `S` subscribes and is
//! answered with `s`, what begins with `P` goes to all who subscribed, the sender too, and anything
//! else comes back.
//!
//! Invariants: a subscriber that is more than [`BEHIND_MAX`] messages behind is disconnected, never
//! left with a gap; what it is due at one time leaves in one write.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{Receiver, Sender, channel, error::TryRecvError};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

/// Messages that a subscriber may be behind.
const BEHIND_MAX: usize = 4_096;
/// What the library's documentation advises for many connections; its default is 128 KiB each way.
const BUFFER_BYTES: usize = 4 << 10;
/// Connections that may wait for `accept`.
const PENDING_MAX: u32 = 4_096;

type Socket = WebSocketStream<TcpStream>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let port = std::env::args().nth(1).and_then(|port| port.parse().ok());
    let Some(port) = port else {
        eprintln!("usage: peer-tokio-tungstenite PORT");
        return ExitCode::from(2);
    };
    match serve(port).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-tokio-tungstenite: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(port: u16) -> std::io::Result<()> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    let listener: TcpListener = socket.listen(PENDING_MAX)?;
    let room = channel(BEHIND_MAX).0;
    loop {
        let stream = listener.accept().await?.0;
        stream.set_nodelay(true)?;
        let room = room.clone();
        tokio::spawn(async move {
            let config = WebSocketConfig::default()
                .read_buffer_size(BUFFER_BYTES)
                .write_buffer_size(BUFFER_BYTES);
            if let Ok(socket) = accept_async_with_config(stream, Some(config)).await {
                // Whoever breaks the protocol or leaves is gone, and nobody is told.
                let _ = talk(socket, room).await;
            }
        });
    }
}

/// One connection, to its end.
async fn talk(mut socket: Socket, room: Sender<Message>) -> Result<(), Error> {
    loop {
        let Some(message) = socket.next().await.transpose()? else {
            return Ok(());
        };
        if first(&message) == Some(b'S') {
            let heard = room.subscribe();
            socket.send(Message::text("s")).await?;
            return listen(socket, room, heard).await;
        }
        answer(&mut socket, &room, message).await?;
    }
}

/// The rest of a connection that has subscribed.
async fn listen(
    mut socket: Socket,
    room: Sender<Message>,
    mut heard: Receiver<Message>,
) -> Result<(), Error> {
    loop {
        tokio::select! {
            message = socket.next() => match message.transpose()? {
                Some(message) => answer(&mut socket, &room, message).await?,
                None => return Ok(()),
            },
            message = heard.recv() => match message {
                Ok(message) => deliver(&mut socket, message, &mut heard).await?,
                Err(_) => return socket.close(None).await,
            },
        }
    }
}

/// This message and all that are due with it.
async fn deliver(
    socket: &mut Socket,
    message: Message,
    heard: &mut Receiver<Message>,
) -> Result<(), Error> {
    let mut next = Ok(message);
    loop {
        match next {
            Ok(message) => socket.feed(message).await?,
            Err(TryRecvError::Empty) => return socket.flush().await,
            Err(_) => return socket.close(None).await,
        }
        next = heard.try_recv();
    }
}

async fn answer(
    socket: &mut Socket,
    room: &Sender<Message>,
    message: Message,
) -> Result<(), Error> {
    if first(&message) == Some(b'P') {
        // Nobody may be subscribed: then nobody hears it.
        let _ = room.send(message);
    } else if message.is_text() || message.is_binary() {
        socket.send(message).await?;
    }
    Ok(())
}

fn first(message: &Message) -> Option<u8> {
    match message {
        Message::Text(text) => text.as_bytes().first().copied(),
        _ => None,
    }
}
