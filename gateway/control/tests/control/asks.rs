//! What shards ask, and accounts made beside a running server.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use throng_control::{
    Access, Answer, Ask, AskId, ControlError, FromShard, GuildFragment, Seeding, seed_users,
};
use throng_protocol::{ChannelId, GuildId, User, UserId, UserStatus};

use crate::stage::{Stage, stage, stage_with};

#[track_caller]
fn identified(answer: Answer) -> (User, Vec<Arc<GuildFragment>>) {
    match answer {
        Answer::Identified { user, guilds } => (user, guilds),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn access(answer: &Answer) -> (GuildId, u64, Access) {
    match answer {
        Answer::Access {
            guild,
            guild_version,
            access,
        } => (*guild, *guild_version, *access),
        other => panic!("{other:?}"),
    }
}

fn seed(stage: &Stage, count: u64, guild: Option<GuildId>) -> Result<Vec<String>, ControlError> {
    let mut out = Vec::new();
    let seeding = Seeding {
        count,
        guild,
        token_ttl_s: 3600,
        ..Seeding::default()
    };
    let data = stage.dir.path().join("data");
    seed_users(&data, &seeding, &mut out, |_| {})?;
    Ok(String::from_utf8(out)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect())
}

#[test]
fn a_token_gives_the_user_and_the_guilds_as_rest_shows_them() {
    let stage = stage();
    let token = stage.user("owner");
    let (first, second) = (stage.guild(&token), stage.guild(&token));
    let (user, guilds) = identified(stage.identify(&token));
    assert_eq!(
        (user.username.as_str(), user.status),
        ("owner", UserStatus::Online)
    );
    let shown: Vec<serde_json::Value> = guilds
        .iter()
        .map(|guild| serde_json::from_slice(&guild.json).unwrap())
        .collect();
    assert_eq!(shown, [first.clone(), second]);
    assert_eq!(guilds[0].channels.len(), 1);
    assert_eq!(
        first["channels"][0]["id"],
        guilds[0].channels[0].to_string()
    );

    let (_, again) = identified(stage.identify(&token));
    assert!(
        Arc::ptr_eq(&guilds[0], &again[0]),
        "an unchanged guild is encoded once"
    );
    for bad in ["", "x", &token[1..]] {
        assert!(matches!(stage.identify(bad), Answer::BadToken), "{bad:?}");
    }
}

#[test]
fn access_follows_membership_and_carries_the_version() {
    let stage = stage();
    let (owner, guest) = (stage.user("owner"), stage.user("guest"));
    let guild = stage.guild(&owner);
    let channel: ChannelId = guild["channels"][0]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let id: GuildId = guild["id"].as_str().unwrap().parse().unwrap();
    let owner_id = identified(stage.identify(&owner)).0.id;
    let guest_id = identified(stage.identify(&guest)).0.id;
    let ask = |user, channel| access(&stage.ask(vec![Ask::Access { user, channel }])[0]);
    assert_eq!(ask(owner_id, channel), (id, 1, Access::Member));
    assert_eq!(ask(guest_id, channel), (id, 1, Access::NotMember));
    let nowhere = (GuildId::from_u128(0), 0, Access::NoSuchChannel);
    assert_eq!(ask(owner_id, ChannelId::from_u128(7)), nowhere);
    assert_eq!(
        ask(UserId::from_u128(7), channel),
        (id, 1, Access::NotMember)
    );

    stage.join(&owner, guild["id"].as_str().unwrap(), &guest);
    assert_eq!(*stage.script.versions.lock().unwrap(), [2, 2]);
    for _ in 0..3 {
        assert_eq!(ask(guest_id, channel), (id, 2, Access::Member));
        assert_eq!(ask(owner_id, channel), (id, 2, Access::Member));
        identified(stage.identify(&guest));
    }
}

#[test]
fn many_asks_at_once_are_answered_once_each() {
    let stage = stage();
    let owner = stage.user("owner");
    let guild = stage.guild(&owner);
    let channel: ChannelId = guild["channels"][0]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let guild_id = guild["id"].as_str().unwrap().parse().unwrap();
    let tokens = seed(&stage, 500, Some(guild_id)).unwrap();
    let mut asks: Vec<Ask> = Vec::new();
    for (index, token) in tokens.iter().enumerate() {
        asks.push(Ask::Identify {
            token: token.clone(),
        });
        asks.push(Ask::Identify {
            token: format!("{token}x"),
        });
        asks.push(Ask::Access {
            user: UserId::from_u128(index as u128),
            channel,
        });
    }
    for (index, answer) in stage.ask(asks).iter().enumerate() {
        match index % 3 {
            0 => assert!(matches!(answer, Answer::Identified { guilds, .. } if guilds.len() == 1)),
            1 => assert!(matches!(answer, Answer::BadToken)),
            _ => assert_eq!(access(answer).2, Access::NotMember),
        }
    }
}

#[test]
fn accounts_made_beside_a_running_server_are_seen() {
    let stage = stage_with(|config| config.guild_age_ms_max = 0);
    let owner = stage.user("owner");
    let guild = stage.guild(&owner);
    let channel: ChannelId = guild["channels"][0]["id"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let id: GuildId = guild["id"].as_str().unwrap().parse().unwrap();
    let version = identified(stage.identify(&owner)).1[0].version;

    let tokens = seed(&stage, 2500, Some(id)).unwrap();
    assert_eq!(tokens.len(), 2500);
    for token in [&tokens[0], &tokens[1000], &tokens[2499]] {
        let (user, guilds) = identified(stage.identify(token));
        assert_eq!(
            guilds.iter().map(|guild| guild.id).collect::<Vec<_>>(),
            [id]
        );
        let ask = Ask::Access {
            user: user.id,
            channel,
        };
        assert_eq!(access(&stage.ask(vec![ask])[0]).2, Access::Member);
    }
    let listed = stage.get(&tokens[7], "/api/guilds").expect(200);
    assert_eq!(listed["guilds"][0]["memberCount"], 2501);
    assert!(identified(stage.identify(&owner)).1[0].version > version);
    stage
        .post(
            &owner,
            "/api/guilds",
            &serde_json::json!({ "name": "still" }),
        )
        .expect(201);
}

#[test]
fn seeding_into_no_guild_makes_nobody() {
    let stage = stage();
    let nowhere = GuildId::from_u128(7);
    let refused = seed(&stage, 3, Some(nowhere));
    assert!(matches!(refused, Err(ControlError::NoSuchGuild(guild)) if guild == nowhere));
    assert_eq!(seed(&stage, 0, None).unwrap(), Vec::<String>::new());
}

#[test]
fn shards_are_answered_after_serving_has_stopped() {
    let stage = stage();
    let owner = stage.user("owner");
    stage.handle.as_ref().unwrap().stop_serving();
    identified(stage.identify(&owner));
}

#[test]
fn what_is_queued_at_the_end_is_answered() {
    const COUNT: u64 = 1_000;
    let mut stage = stage();
    let handle = stage.handle.take().unwrap();
    for ask in 0..COUNT {
        let message = FromShard::Ask {
            ask: AskId(ask),
            ask_body: Ask::Identify {
                token: String::new(),
            },
        };
        assert!(handle.asks.try_send((0, message)).is_ok());
    }
    handle.shutdown();
    let mut answered = HashSet::new();
    while let Ok((AskId(ask), _)) = stage.answers.recv_timeout(Duration::from_secs(20)) {
        assert!(answered.insert(ask), "{ask} was answered twice");
        if answered.len() as u64 == COUNT {
            return;
        }
    }
    panic!("{} of {COUNT} were answered", answered.len());
}
