//! Starts and ends the control plane.
//!
//! The only file that owns threads: one tokio runtime, apart from the shards' cores.
//!
//! Invariants: when [`Control::start`] returns, the database is migrated and everything runs; after
//! [`ControlHandle::shutdown`] nothing runs and the database is closed.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::{App, Rates};
use crate::ask::FromShard;
use crate::config::ControlConfig;
use crate::database::Database;
use crate::directory::Directory;
use crate::error::ControlError;
use crate::link::{HandedOver, Inlet, OwnerOf, ShardLink, lane};
use crate::password::Passwords;
use crate::shards::Shards;
use crate::token::Tokens;
use crate::{answers, rest, serve};

/// How long work that was cut off may hold up the end.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The control plane.
#[derive(Debug)]
pub struct Control;

/// The running control plane.
#[derive(Debug)]
pub struct ControlHandle {
    /// Takes what shards say, each with the number of the shard that says it. Bounded: when it is
    /// full the shard keeps the value and acts as if the answer were `Unavailable`. Replies to
    /// [`crate::ToShard::Invalidate`] should be tried again until they are taken, since a request
    /// waits for them.
    pub asks: Inlet<(u16, FromShard)>,
    /// Takes connections that speak ordinary HTTP. Bounded: when it is full the connection comes
    /// back, to be closed.
    pub connections: Inlet<HandedOver>,
    runtime: Runtime,
    stop_serving: watch::Sender<bool>,
    stop_answering: watch::Sender<bool>,
    serving: JoinHandle<()>,
    answering: JoinHandle<()>,
    database: Database,
    serving_max: Duration,
}

impl Control {
    /// Starts on threads of its own; takes as long as opening the database and hashing one
    /// password. `links` are the shards in their order; `owner` says which owns a channel.
    ///
    /// # Errors
    /// When the data directory, the key or the database cannot be opened.
    ///
    /// # Panics
    /// When the configuration contradicts itself, or when called from async code.
    pub fn start(
        config: ControlConfig,
        links: Vec<ShardLink>,
        owner: OwnerOf,
    ) -> Result<ControlHandle, ControlError> {
        config.assert_consistent();
        let runtime = Builder::new_multi_thread()
            .worker_threads(config.threads)
            .max_blocking_threads(config.passwords_at_once + 1)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(ControlError::Threads)?;
        let app = runtime.block_on(open(config, links, owner))?;
        let (asks, from_shards) = lane(app.config.asks_queued_max);
        let (connections, handed) = lane(app.config.hand_overs_queued_max);
        let (stop_serving, stopped_serving) = watch::channel(false);
        let (stop_answering, stopped_answering) = watch::channel(false);
        let router = rest::router(Arc::clone(&app));
        let config = Arc::new(app.config.clone());
        let serving = runtime.spawn(serve::run(router, config, handed, stopped_serving));
        let answering = runtime.spawn(answers::run(
            Arc::clone(&app),
            from_shards,
            stopped_answering,
        ));
        Ok(ControlHandle {
            asks,
            connections,
            runtime,
            stop_serving,
            stop_answering,
            serving,
            answering,
            database: app.database.clone(),
            // `serve` itself keeps to the first part; this is for the case that it cannot.
            serving_max: Duration::from_millis(app.config.shutdown_ms_max) + LAST_WAIT,
        })
    }
}

async fn open(
    config: ControlConfig,
    links: Vec<ShardLink>,
    owner: OwnerOf,
) -> Result<Arc<App>, ControlError> {
    let database = Database::open(&config.data_dir).await?;
    let patience = Duration::from_millis(config.shard_answer_ms_max);
    Ok(Arc::new(App {
        directory: Directory::new(database.readers.clone(), &config),
        database,
        shards: Shards::new(links, owner, patience),
        tokens: Tokens::open(&config.data_dir, config.token_ttl_s)?,
        passwords: Passwords::new(&config)?,
        rates: Rates::new(&config.limits),
        config,
    }))
}

impl ControlHandle {
    /// Takes no new connection and lets requests under way finish for `shutdown_ms_max`, without
    /// waiting for them; shards are still answered. To be called while the shards still run, since
    /// requests may wait for them.
    pub fn stop_serving(&self) {
        self.stop_serving.send_replace(true);
    }

    /// Stops serving if that was not asked for before, waits for requests under way, answers what
    /// shards still asked with `Unavailable`, then closes the database. To be called after the
    /// shards have parted from their clients, and outside of async code.
    pub fn shutdown(self) {
        let Self {
            runtime,
            stop_serving,
            stop_answering,
            serving,
            answering,
            database,
            serving_max,
            ..
        } = self;
        stop_serving.send_replace(true);
        runtime.block_on(async {
            end(serving, serving_max).await;
            stop_answering.send_replace(true);
            end(answering, LAST_WAIT).await;
            if timeout(LAST_WAIT, database.close()).await.is_err() {
                tracing::warn!("the database was still in use at shutdown");
            }
        });
        runtime.shutdown_timeout(LAST_WAIT);
    }
}

/// Returns once the sender says so, or is gone.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Waits for a task that has been told to stop; a shard that takes no answer must not keep it.
async fn end(task: JoinHandle<()>, limit: Duration) {
    match timeout(limit, task).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "a task ended by a fault of ours"),
        Err(_) => tracing::warn!("a task was cut off at shutdown"),
    }
}
