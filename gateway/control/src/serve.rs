//! HTTP/1.1 on the connections that shards hand over.
//!
//! Opens no port and upgrades no connection: a WebSocket never comes here. A connection stays here
//! until it closes.
//!
//! Invariants: a bounded number of connections is open; every wait on a client (for a head, a
//! body, the next request, room for a response) has an end.

use std::convert::Infallible;
use std::io::Write;
use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::config::ControlConfig;
use crate::control::stopped;
use crate::link::{HandedOver, Outlet};
use crate::rest::Peer;
use crate::stream::HandedStream;

/// Taken from the queue at once.
const BATCH_MAX: usize = 64;
/// Request line and headers in bytes; a shard hands over no larger head.
const HEAD_BYTES_MAX: usize = 32 * 1024;

const FULL: &str = concat!(
    "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n",
    "connection: close\r\ncontent-length: 62\r\n\r\n",
    r#"{"error":"UNAVAILABLE","message":"too many open connections"}"#,
    "\n"
);

/// Serves until told to stop, then lets requests under way finish for a while.
pub(crate) async fn run(
    router: Router,
    config: Arc<ControlConfig>,
    handed: Outlet<HandedOver>,
    mut stop: watch::Receiver<bool>,
) {
    let mut open = JoinSet::new();
    let mut taken = Vec::with_capacity(BATCH_MAX);
    let stopping = stop.clone();
    loop {
        tokio::select! {
            () = handed.drain(&mut taken, BATCH_MAX) => {}
            Some(ended) = open.join_next() => report(&ended),
            () = stopped(&mut stop) => break,
        }
        for handed in taken.drain(..) {
            if open.len() >= config.http_connections_max {
                refuse(handed);
                continue;
            }
            let (router, config) = (router.clone(), Arc::clone(&config));
            open.spawn(serve(router, config, handed, stopping.clone()));
        }
    }
    let finish = async { while open.join_next().await.is_some() {} };
    if timeout(Duration::from_millis(config.shutdown_ms_max), finish)
        .await
        .is_err()
    {
        tracing::warn!(open = open.len(), "HTTP connections cut off at shutdown");
    }
}

fn report(ended: &Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "an HTTP connection ended by a fault of ours");
    }
}

/// Says so and closes, if the socket takes it at once.
fn refuse(handed: HandedOver) {
    let mut stream = StdStream::from(handed.fd);
    if stream.set_nonblocking(true).is_ok() {
        let said = stream.write(FULL.as_bytes());
        tracing::debug!(?said, "refused a connection, too many are open");
    }
}

async fn serve(
    router: Router,
    config: Arc<ControlConfig>,
    handed: HandedOver,
    mut stop: watch::Receiver<bool>,
) {
    let (stream, peer) = match adopt(handed, &config) {
        Ok(adopted) => adopted,
        Err(error) => {
            tracing::debug!(%error, "a handed-over connection was gone already");
            return;
        }
    };
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let answer = routes.call(request.map(Body::new));
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    // Who half-closes behind a request still gets the answer.
    let connection = http1::Builder::new()
        .half_close(true)
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_millis(config.http_idle_ms_max))
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "HTTP connection ended");
    }
}

fn adopt(handed: HandedOver, config: &ControlConfig) -> std::io::Result<(HandedStream, Peer)> {
    let stream = StdStream::from(handed.fd);
    stream.set_nonblocking(true)?;
    let peer = Peer(stream.peer_addr()?.ip());
    let write_max = Duration::from_millis(config.http_write_ms_max);
    let stream = HandedStream::new(handed.head, TcpStream::from_std(stream)?, write_max);
    Ok((stream, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_a_complete_response() {
        let (head, body) = FULL.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{}",
            body.len()
        );
        assert!(serde_json::from_str::<serde_json::Value>(body).is_ok());
    }
}
