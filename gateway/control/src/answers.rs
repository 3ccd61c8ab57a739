//! Answers what shards ask: whose token is this, may this user use this channel.
//!
//! It decides nothing by itself: tokens are verified by `token.rs`, everything else is looked up in
//! the directory. It never holds up a shard: a shard that asks more than is answered finds its
//! queue full.
//!
//! Invariants: what is queued is taken in batches, each answered with a fixed number of statements
//! and one wake-up per shard; at most `BATCHES_MAX` batches are under way; each ask is answered
//! exactly once, unless its shard has ended.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use throng_protocol::{ChannelId, GuildId, User, UserId, UserStatus};
use tokio::sync::{Semaphore, watch};

use crate::app::App;
use crate::ask::{Answer, Ask, AskId, FromShard, GuildFragment, ToShard};
use crate::control::stopped;
use crate::link::Outlet;
use crate::lookup::{Grant, Identity};

const BATCH_MAX: usize = 256;
const BATCHES_MAX: usize = 8;

/// Who asked.
#[derive(Clone, Copy)]
struct Asker {
    shard: u16,
    ask: AskId,
}

/// Runs until told to stop.
pub(crate) async fn run(
    app: Arc<App>,
    from_shards: Outlet<(u16, FromShard)>,
    mut stop: watch::Receiver<bool>,
) {
    let under_way = Arc::new(Semaphore::new(BATCHES_MAX));
    let mut taken = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            () = from_shards.drain(&mut taken, BATCH_MAX) => {}
            () = stopped(&mut stop) => return,
        }
        let asks = settle(&app, &mut taken);
        if asks.is_empty() {
            continue;
        }
        let turn = Arc::clone(&under_way).acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            answer(&app, asks).await;
            drop(turn);
        });
    }
}

/// Hands replies to who waits for them; what is left are questions.
fn settle(app: &App, taken: &mut Vec<(u16, FromShard)>) -> Vec<(Asker, Ask)> {
    let mut asks = Vec::new();
    for (shard, message) in taken.drain(..) {
        match message {
            FromShard::Ask { ask, ask_body } => asks.push((Asker { shard, ask }, ask_body)),
            FromShard::Invalidated { ticket }
            | FromShard::History { ticket, .. }
            | FromShard::Status { ticket, .. } => app.shards.settle(shard, ticket, message),
        }
    }
    asks
}

async fn answer(app: &App, asks: Vec<(Asker, Ask)>) {
    let mut identifies = Vec::new();
    let mut accesses = Vec::new();
    let mut answers = Vec::with_capacity(asks.len());
    let asked = asks.len();
    for (asker, ask) in asks {
        match ask {
            Ask::Identify { token } => match app.tokens.verify(&token) {
                Some(user) => identifies.push((asker, user)),
                None => answers.push((asker, Answer::BadToken)),
            },
            Ask::Access { user, channel } => accesses.push((asker, (user, channel))),
        }
    }
    answer_identifies(app, &identifies, &mut answers).await;
    answer_accesses(app, &accesses, &mut answers).await;
    assert_eq!(answers.len(), asked, "each ask is answered once");
    send(app, answers).await;
}

async fn answer_identifies(
    app: &App,
    asks: &[(Asker, UserId)],
    answers: &mut Vec<(Asker, Answer)>,
) {
    if asks.is_empty() {
        return;
    }
    let looked_up = look_up(app, asks).await;
    if let Err(error) = &looked_up {
        tracing::error!(%error, count = asks.len(), "identifying failed");
    }
    for (asker, user) in asks {
        let answer = match &looked_up {
            Ok((users, guilds)) => identified(users.get(user), guilds),
            Err(_) => Answer::Unavailable,
        };
        answers.push((*asker, answer));
    }
}

type Found = (
    HashMap<UserId, Arc<Identity>>,
    HashMap<GuildId, Arc<GuildFragment>>,
);

async fn look_up(app: &App, asks: &[(Asker, UserId)]) -> Result<Found, sqlx::Error> {
    let users: HashSet<UserId> = asks.iter().map(|(_, user)| *user).collect();
    let users: Vec<UserId> = users.into_iter().collect();
    let identities = app.directory.identities(&users).await?;
    let guilds: HashSet<GuildId> = identities
        .values()
        .flat_map(|identity| identity.guilds.iter().copied())
        .collect();
    let guilds: Vec<GuildId> = guilds.into_iter().collect();
    let fragments = app.directory.fragments(&guilds).await?;
    Ok((identities, fragments))
}

fn identified(
    identity: Option<&Arc<Identity>>,
    guilds: &HashMap<GuildId, Arc<GuildFragment>>,
) -> Answer {
    let Some(identity) = identity else {
        return Answer::BadToken;
    };
    let own = identity
        .guilds
        .iter()
        .filter_map(|guild| guilds.get(guild).cloned());
    Answer::Identified {
        // Who identifies is connected.
        user: User {
            status: UserStatus::Online,
            ..identity.user.clone()
        },
        guilds: own.collect(),
    }
}

async fn answer_accesses(
    app: &App,
    asks: &[(Asker, (UserId, ChannelId))],
    answers: &mut Vec<(Asker, Answer)>,
) {
    if asks.is_empty() {
        return;
    }
    let pairs: Vec<_> = asks.iter().map(|(_, pair)| *pair).collect();
    match app.directory.grants(&pairs).await {
        Ok(grants) => {
            let each = asks.iter().zip(grants);
            answers.extend(each.map(|((asker, _), grant)| (*asker, granted(grant))));
        }
        Err(error) => {
            tracing::error!(%error, count = asks.len(), "access checks failed");
            answers.extend(asks.iter().map(|(asker, _)| (*asker, Answer::Unavailable)));
        }
    }
}

fn granted(grant: Grant) -> Answer {
    let (guild, guild_version) = grant.guild.unwrap_or((GuildId::from_u128(0), 0));
    Answer::Access {
        guild,
        guild_version,
        access: grant.access,
    }
}

async fn send(app: &App, answers: Vec<(Asker, Answer)>) {
    let mut told = BTreeSet::new();
    for (Asker { shard, ask }, answer) in answers {
        let delivered = app
            .shards
            .deliver(shard, ToShard::Answer { ask, answer })
            .await;
        if delivered.is_ok() {
            told.insert(shard);
        }
    }
    for shard in told {
        app.shards.wake(shard);
    }
}
