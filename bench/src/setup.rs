//! What a run needs before load is offered: users, guilds, channels, memberships.
//!
//! It never writes to the server's files and has no privileges: everything goes through the
//! public API, or comes from a token file that the operator made.
//!
//! Invariants: after it, every client is a member of the guilds of all channels that it watches;
//! the channels are in the order in which the plan counts them.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::json;
use throng_protocol::{Channel, ChannelId, ChannelType, Guild, GuildId};

use crate::audience::Audiences;
use crate::error::BenchError;
use crate::index::{ChannelIndex, ClientIndex};
use crate::progress::Progress;
use crate::rest::{Call, Rest, RestError};

/// Channels that one guild holds for us: a guild has 500 at most, `general` among them.
pub const CHANNELS_PER_GUILD: usize = 499;

/// Calls under way at once.
const CALLERS: usize = 8;

/// Reads a token file: one token a line, empty lines passed over.
///
/// # Errors
/// When there are fewer tokens than clients.
pub fn tokens_of(lines: &str, clients: usize) -> Result<Vec<String>, BenchError> {
    let tokens: Vec<String> = lines
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if tokens.len() < clients {
        return Err(BenchError::TooFewTokens {
            found: tokens.len(),
            needed: clients,
        });
    }
    Ok(tokens.into_iter().take(clients).collect())
}

/// Registers one user per client and returns their tokens. `run` makes the names new.
///
/// # Errors
/// When the server does not take them.
pub fn register(rest: &Rest, clients: usize, run: u32) -> Result<Vec<String>, BenchError> {
    #[derive(Deserialize)]
    struct Registered {
        token: String,
    }
    let password = format!("bench-{run:08x}-password");
    side_by_side("registering", clients, |client| {
        let body = json!({"username": format!("bench_{run:08x}_{client}"), "password": password});
        let registered: Registered =
            rest.call(Call::post("/api/auth/register"), None, Some(&body))?;
        Ok(registered.token)
    })
}

/// Makes as many guilds as the channels need, and lets every client join where it watches.
///
/// # Errors
/// When the server does not take them.
pub fn stage(
    rest: &Rest,
    tokens: &[String],
    audiences: &Audiences,
    run: u32,
) -> Result<Vec<ChannelId>, BenchError> {
    let guilds: Vec<Hosted> = (0..audiences.channels().div_ceil(CHANNELS_PER_GUILD))
        .map(|number| Hosted::create(rest, &tokens[number % tokens.len()], run, number))
        .collect::<Result<_, _>>()?;
    let channels = side_by_side("channels", audiences.channels(), |channel| {
        let guild = &guilds[channel / CHANNELS_PER_GUILD];
        create_channel(rest, &tokens[guild.owner % tokens.len()], guild.id, channel)
    })?;
    side_by_side("joining", audiences.clients(), |client| {
        let watched = audiences.watched_by(ClientIndex::at(client));
        let needed: BTreeSet<usize> = watched
            .iter()
            .map(|channel| channel.place() / CHANNELS_PER_GUILD)
            .collect();
        for guild in needed.into_iter().map(|guild| &guilds[guild]) {
            if guild.owner % tokens.len() != client {
                let join = Call::post(format!("/api/invites/{}", guild.invite));
                let _: serde_json::Value = rest.call(join, Some(&tokens[client]), None)?;
            }
        }
        Ok(())
    })?;
    Ok(channels)
}

/// Uses a guild that all clients are members of already. Its text channels serve; those that
/// are missing are made by the first client, who must own the guild then.
///
/// # Errors
/// When the first client is no member, or channels are missing and it may not make them.
pub fn stage_in(
    rest: &Rest,
    tokens: &[String],
    audiences: &Audiences,
    guild: GuildId,
) -> Result<Vec<ChannelId>, BenchError> {
    #[derive(Deserialize)]
    struct Guilds {
        guilds: Vec<Guild>,
    }
    let mine: Guilds = rest.call(Call::get("/api/guilds"), Some(&tokens[0]), None)?;
    let found = mine
        .guilds
        .into_iter()
        .find(|candidate| candidate.id == guild);
    let guild = found.ok_or(BenchError::NotAMember { guild })?;
    let text = |channel: &&Channel| channel.kind == ChannelType::Text;
    let mut channels: Vec<ChannelId> = guild
        .channels
        .iter()
        .filter(text)
        .map(|channel| channel.id)
        .collect();
    channels.truncate(audiences.channels());
    let have = channels.len();
    channels.extend(side_by_side(
        "channels",
        audiences.channels() - have,
        |missing| {
            create_channel(
                rest,
                &tokens[0],
                guild.id,
                ChannelIndex::at(have + missing).place(),
            )
        },
    )?);
    Ok(channels)
}

/// A guild of this run.
struct Hosted {
    id: GuildId,
    owner: usize,
    invite: String,
}

impl Hosted {
    fn create(rest: &Rest, token: &str, run: u32, number: usize) -> Result<Self, RestError> {
        #[derive(Deserialize)]
        struct Made {
            guild: Id,
        }
        #[derive(Deserialize)]
        struct Id {
            id: GuildId,
        }
        #[derive(Deserialize)]
        struct Invited {
            invite: Invite,
        }
        #[derive(Deserialize)]
        struct Invite {
            code: String,
        }
        let body = json!({"name": format!("bench {run:08x} {number}")});
        let made: Made = rest.call(Call::post("/api/guilds"), Some(token), Some(&body))?;
        let invites = Call::post(format!("/api/guilds/{}/invites", made.guild.id));
        let invited: Invited = rest.call(invites, Some(token), Some(&json!({})))?;
        Ok(Self {
            id: made.guild.id,
            owner: number,
            invite: invited.invite.code,
        })
    }
}

fn create_channel(
    rest: &Rest,
    token: &str,
    guild: GuildId,
    number: usize,
) -> Result<ChannelId, RestError> {
    #[derive(Deserialize)]
    struct Made {
        channel: Id,
    }
    #[derive(Deserialize)]
    struct Id {
        id: ChannelId,
    }
    let call = Call::post(format!("/api/guilds/{guild}/channels"));
    let body = json!({"name": format!("bench-{number}"), "type": "text"});
    let made: Made = rest.call(call, Some(token), Some(&body))?;
    Ok(made.channel.id)
}

/// Does `total` pieces of work with a few threads and returns the results in order; the first
/// failure ends it.
fn side_by_side<T: Send>(
    step: &'static str,
    total: usize,
    work: impl Fn(usize) -> Result<T, RestError> + Sync,
) -> Result<Vec<T>, BenchError> {
    if total == 0 {
        return Ok(Vec::new());
    }
    let progress = Progress::new(step, total);
    let next = AtomicUsize::new(0);
    let failure: Mutex<Option<RestError>> = Mutex::new(None);
    let results: Mutex<Vec<Option<T>>> = Mutex::new((0..total).map(|_| None).collect());
    let caller = || {
        loop {
            let item = next.fetch_add(1, Ordering::Relaxed);
            if item >= total {
                break;
            }
            match work(item) {
                Ok(result) => locked(&results)[item] = Some(result),
                Err(error) => {
                    locked(&failure).get_or_insert(error);
                    next.store(total, Ordering::Relaxed);
                    break;
                }
            }
            progress.advance();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..CALLERS.min(total) {
            scope.spawn(caller);
        }
    });
    if let Some(error) = locked(&failure).take() {
        return Err(error.into());
    }
    let results = std::mem::take(&mut *locked(&results));
    Ok(results
        .into_iter()
        .map(|result| result.expect("no failure: all are done"))
        .collect())
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("a caller that panics takes the scope with it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files() {
        assert_eq!(tokens_of("a\n\n b \nc\n", 2).unwrap(), ["a", "b"]);
        let error = tokens_of("a\n", 2).unwrap_err().to_string();
        assert!(error.contains("1 token") && error.contains('2'), "{error}");
    }

    #[test]
    fn work_side_by_side_keeps_its_order() {
        let squares = side_by_side("squares", 100, |item| Ok(item * item)).unwrap();
        assert_eq!(
            squares,
            (0..100).map(|item| item * item).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_first_failure_ends_it() {
        let failing = side_by_side("failing", 1_000_000, |item| {
            if item < 3 {
                return Ok(item);
            }
            Err(RestError::GaveUp {
                call: Call::get("/x"),
                status: 429,
            })
        });
        assert!(matches!(
            failing,
            Err(BenchError::Rest(RestError::GaveUp { status: 429, .. }))
        ));
    }
}
