//! `/health`: whether this node serves, for load balancers and people.
//!
//! Names no user, guild or message, and repairs nothing.
//!
//! Invariants: answers within about a second, even when a shard or the database does not; 200 when
//! everything does and no store is damaged, 503 otherwise.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::time::timeout;

use crate::app::App;
use crate::ask::ShardStatus;
use crate::shards::NoAnswer;

const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Health {
    status: &'static str,
    version: &'static str,
    /// Open sockets on all shards.
    connections: u64,
    /// Identified sessions on all shards.
    sessions: u64,
    database: Check,
    shards: Vec<Shard>,
}

#[derive(Serialize)]
struct Check {
    healthy: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shard {
    shard: u16,
    healthy: bool,
    connections: u64,
    sessions: u64,
    store_error: Option<String>,
}

/// `GET /health`
pub(crate) async fn show(State(app): State<Arc<App>>) -> Response {
    let asked: Vec<_> = (0..app.shards.count())
        .map(|shard| {
            let app = Arc::clone(&app);
            tokio::spawn(async move { app.shards.status(shard, PATIENCE).await })
        })
        .collect();
    let database = timeout(PATIENCE, app.database.probe()).await;
    let database = Check {
        healthy: matches!(database, Ok(Ok(()))),
    };
    let mut shards = Vec::with_capacity(asked.len());
    for (number, asked) in (0..app.shards.count()).zip(asked) {
        shards.push(shard(number, asked.await.unwrap_or(Err(NoAnswer))));
    }
    let healthy = database.healthy && shards.iter().all(|shard| shard.healthy);
    let health = Health {
        status: if healthy { "healthy" } else { "unhealthy" },
        version: env!("CARGO_PKG_VERSION"),
        connections: shards.iter().map(|shard| shard.connections).sum(),
        sessions: shards.iter().map(|shard| shard.sessions).sum(),
        database,
        shards,
    };
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(health)).into_response()
}

fn shard(shard: u16, status: Result<ShardStatus, NoAnswer>) -> Shard {
    let answered = status.is_ok();
    let status = status.unwrap_or_default();
    Shard {
        shard,
        healthy: answered && status.store_error.is_none(),
        connections: status.connections,
        sessions: status.sessions,
        store_error: status.store_error,
    }
}
