//! Answers what shards ask: whose token is this, may this user use this channel.
//!
//! It decides nothing by itself: tokens are verified by `token.rs`, everything else is looked up in
//! the directory. It never holds up a shard: a shard that asks more than is answered finds its
//! queue full.
//!
//! Invariants: what is queued is taken in batches, each answered with a fixed number of statements
//! and one wake-up per shard; at most `BATCHES_MAX` batches are under way; each ask that was queued
//! before the end is answered exactly once, with `Unavailable` after a fault of ours or when it was
//! not taken in time, unless its shard has ended.

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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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
            () = stopped(&mut stop) => break,
        }
        let asks = settle(&app, &mut taken);
        if asks.is_empty() {
            continue;
        }
        let turn = Arc::clone(&under_way).acquire_owned().await;
        let turn = turn.expect("the semaphore is never closed");
        let app = Arc::clone(&app);
        tokio::spawn(async move {
            let askers: Vec<Asker> = asks.iter().map(|(asker, _)| *asker).collect();
            let answers = or_unavailable(askers, answer(Arc::clone(&app), asks)).await;
            send(&app, answers).await;
            drop(turn);
        });
    }
    refuse_rest(&app, &from_shards).await;
    let all = u32::try_from(BATCHES_MAX).expect("a small constant");
    drop(under_way.acquire_many(all).await);
}

/// Answers "unavailable" to what is still queued, which is no more than the queue holds.
async fn refuse_rest(app: &App, from_shards: &Outlet<(u16, FromShard)>) {
    let mut taken = Vec::new();
    tokio::select! {
        biased;
        () = from_shards.drain(&mut taken, app.config.asks_queued_max) => {}
        () = std::future::ready(()) => return,
    }
    let asks = settle(app, &mut taken);
    let askers = asks.into_iter().map(|(asker, _)| asker);
    send(app, unavailable(askers)).await;
}

/// What the answering comes to; a panic in it must not leave its askers without an answer.
async fn or_unavailable(
    askers: Vec<Asker>,
    answering: impl Future<Output = Vec<(Asker, Answer)>> + Send + 'static,
) -> Vec<(Asker, Answer)> {
    tokio::spawn(answering).await.unwrap_or_else(|error| {
        tracing::error!(%error, count = askers.len(), "answering ended by a fault of ours");
        unavailable(askers)
    })
}

fn unavailable(askers: impl IntoIterator<Item = Asker>) -> Vec<(Asker, Answer)> {
    let each = askers.into_iter();
    each.map(|asker| (asker, Answer::Unavailable)).collect()
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

async fn answer(app: Arc<App>, asks: Vec<(Asker, Ask)>) -> Vec<(Asker, Answer)> {
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
    answer_identifies(&app, &identifies, &mut answers).await;
    answer_accesses(&app, &accesses, &mut answers).await;
    assert_eq!(answers.len(), asked, "each ask is answered once");
    answers
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_leaves_nobody_without_an_answer() {
        let askers = [1, 2].map(|shard| Asker {
            shard,
            ask: AskId(7),
        });
        let broken = async { panic!("as a mistake of ours would") };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let answers = runtime.block_on(or_unavailable(askers.to_vec(), broken));
        let told: Vec<Asker> = answers.iter().map(|(asker, _)| *asker).collect();
        assert_eq!(told, askers);
        let refused = |(_, answer): &_| matches!(answer, Answer::Unavailable);
        assert!(answers.iter().all(refused));
    }
}
