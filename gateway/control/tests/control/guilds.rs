//! Guilds, channels, invites: who may do what, and what shards hear of it.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use throng_control::Rate;

use crate::stage::{SHARDS, stage, stage_with};

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn a_new_guild_has_its_owner_and_a_general_channel() {
    let stage = stage();
    let owner = stage.user("owner");
    let guild = stage.guild(&owner);
    let me = stage.get(&owner, "/api/users/@me").expect(200);
    assert_eq!(guild["ownerId"], me["user"]["id"]);
    assert_eq!(guild["name"], "A guild");
    assert_eq!(guild["memberCount"], 1);
    let channels = guild["channels"].as_array().unwrap();
    assert_eq!(channels.len(), 1);
    assert_eq!(channels[0]["name"], "general");
    assert_eq!(channels[0]["type"], "text");
    assert_eq!(channels[0]["guildId"], guild["id"]);
    let listed = stage.get(&owner, "/api/guilds").expect(200);
    assert_eq!(listed, json!({ "guilds": [guild] }));
    let other = stage.user("other");
    assert_eq!(
        stage.get(&other, "/api/guilds").expect(200),
        json!({ "guilds": [] })
    );
}

#[test]
fn joining_is_seen_at_once_and_counts_once() {
    let stage = stage();
    let (owner, guest) = (stage.user("owner"), stage.user("guest"));
    let guild = stage.guild(&owner);
    for _ in 0..2 {
        let joined = stage.join(&owner, text(&guild, "id"), &guest);
        assert_eq!(joined["guild"]["memberCount"], 2);
        let listed = stage.get(&guest, "/api/guilds").expect(200);
        assert_eq!(listed["guilds"], json!([joined["guild"]]));
        assert_eq!(stage.get(&owner, "/api/guilds").expect(200), listed);
    }
    for code in ["nothing", "0123456789", "%ff", "a%20b"] {
        let refused = stage.post(&guest, &format!("/api/invites/{code}"), &json!({}));
        refused.refused(404, "NOT_FOUND");
    }
}

#[test]
fn a_stranger_sees_nothing_and_a_member_may_not_do_what_is_the_owners() {
    let stage = stage();
    let (owner, member, stranger) = (
        stage.user("owner"),
        stage.user("member"),
        stage.user("stranger"),
    );
    let guild = stage.guild(&owner);
    stage.join(&owner, text(&guild, "id"), &member);
    let channels = format!("/api/guilds/{}/channels", text(&guild, "id"));
    let invites = format!("/api/guilds/{}/invites", text(&guild, "id"));
    let new = json!({ "name": "plans", "type": "text" });

    let real = stage
        .post(&stranger, &channels, &new)
        .refused(404, "NOT_FOUND");
    let absent = "/api/guilds/00000000-0000-7000-8000-000000000000/channels";
    assert_eq!(
        stage
            .post(&stranger, absent, &new)
            .refused(404, "NOT_FOUND"),
        real
    );
    stage
        .post(&stranger, &invites, &json!({}))
        .refused(404, "NOT_FOUND");
    stage
        .post(&owner, "/api/guilds/no-id/invites", &json!({}))
        .refused(404, "NOT_FOUND");

    stage
        .post(&member, &channels, &new)
        .refused(403, "PERMISSION_DENIED");
    stage.post(&member, &invites, &json!({})).expect(201);
    stage.post(&owner, &channels, &new).expect(201);
}

#[test]
fn channels_come_after_each_other_and_stand_under_categories() {
    let stage = stage();
    let owner = stage.user("owner");
    let guild = stage.guild(&owner);
    let path = format!("/api/guilds/{}/channels", text(&guild, "id"));
    let create = |body: &Value| stage.post(&owner, &path, body);
    let category = create(&json!({ "name": "games", "type": "category" })).expect(201);
    let category = category["channel"]["id"].clone();
    let child = json!({ "name": "chess", "type": "voice", "parentId": category });
    let child = create(&child).expect(201)["channel"].clone();
    assert_eq!(child["position"], 2);
    assert_eq!(child["parentId"], category);

    let listed = stage.get(&owner, "/api/guilds").expect(200);
    let names: Vec<_> = listed["guilds"][0]["channels"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    assert_eq!(
        names.iter().map(|c| text(c, "name")).collect::<Vec<_>>(),
        ["general", "games", "chess"]
    );

    let foreign = stage.guild(&owner)["channels"][0]["id"].clone();
    let bad = |body: Value, paths: &[&str]| {
        let refused = create(&body).refused(400, "VALIDATION_ERROR");
        let details = refused["details"].as_array().unwrap();
        let found: Vec<_> = details.iter().map(|one| text(one, "path")).collect();
        assert_eq!(found, paths, "{body}");
    };
    bad(json!({}), &["name", "type"]);
    bad(json!({ "name": "Caps", "type": "dm" }), &["name", "type"]);
    bad(
        json!({ "name": "a", "type": "text", "parentId": "x" }),
        &["parentId"],
    );
    bad(
        json!({ "name": "a", "type": "text", "parentId": child["id"] }),
        &["parentId"],
    );
    bad(
        json!({ "name": "a", "type": "text", "parentId": foreign }),
        &["parentId"],
    );
    bad(
        json!({ "name": "a", "type": "category", "parentId": category }),
        &["parentId"],
    );
}

#[test]
fn every_shard_has_acknowledged_before_the_answer() {
    let stage = stage();
    let (owner, guest) = (stage.user("owner"), stage.user("guest"));
    let guild = stage.guild(&owner);
    stage.script.delay_ms.store(30, Ordering::SeqCst);
    stage.join(&owner, text(&guild, "id"), &guest);
    assert_eq!(
        stage.script.invalidated.load(Ordering::SeqCst),
        u64::from(SHARDS)
    );
    let path = format!("/api/guilds/{}/channels", text(&guild, "id"));
    stage
        .post(&owner, &path, &json!({ "name": "plans", "type": "text" }))
        .expect(201);
    assert_eq!(
        stage.script.invalidated.load(Ordering::SeqCst),
        2 * u64::from(SHARDS)
    );
    assert_eq!(*stage.script.versions.lock().unwrap(), [2, 2, 3, 3]);
}

#[test]
fn silent_shards_are_a_503_and_the_join_can_be_repeated() {
    let stage = stage_with(|config| config.shard_answer_ms_max = 50);
    let (owner, guest) = (stage.user("owner"), stage.user("guest"));
    let guild = stage.guild(&owner);
    let invites = format!("/api/guilds/{}/invites", text(&guild, "id"));
    let invite = stage.post(&owner, &invites, &json!({})).expect(201);
    let join = format!("/api/invites/{}", text(&invite["invite"], "code"));
    stage.script.silent.store(true, Ordering::SeqCst);
    let refused = stage.post(&guest, &join, &json!({}));
    assert_eq!(refused.retry_after.as_deref(), Some("1"));
    refused.refused(503, "UNAVAILABLE");
    let told = stage.script.versions.lock().unwrap().len();
    stage.script.silent.store(false, Ordering::SeqCst);
    // The shards are patient enough here only by chance; the client asks until they are.
    while stage.post(&guest, &join, &json!({})).status != 200 {}
    assert!(
        stage.script.versions.lock().unwrap().len() > told,
        "shards are told again"
    );
    let listed = stage.get(&guest, "/api/guilds").expect(200);
    assert_eq!(listed["guilds"][0]["memberCount"], 2);
}

#[test]
fn limits_hold() {
    let stage = stage_with(|config| {
        config.limits.guilds_per_user = 2;
        config.limits.channels_per_guild = 2;
        config.limits.channel_create = Rate::new(3, 3600);
    });
    let (owner, guest) = (stage.user("owner"), stage.user("guest"));
    let guild = stage.guild(&owner);
    stage.guild(&owner);
    let name = json!({ "name": "third" });
    stage
        .post(&owner, "/api/guilds", &name)
        .refused(409, "CONFLICT");
    stage.guild(&guest);
    stage.guild(&guest);
    let invites = format!("/api/guilds/{}/invites", text(&guild, "id"));
    let invite = stage.post(&owner, &invites, &json!({})).expect(201);
    let join = format!("/api/invites/{}", text(&invite["invite"], "code"));
    stage
        .post(&guest, &join, &json!({}))
        .refused(409, "CONFLICT");
    stage.post(&owner, &join, &json!({})).expect(200);

    let path = format!("/api/guilds/{}/channels", text(&guild, "id"));
    let new = json!({ "name": "plans", "type": "text" });
    stage.post(&owner, &path, &new).expect(201);
    stage.post(&owner, &path, &new).refused(409, "CONFLICT");
    stage.post(&owner, &path, &new).refused(409, "CONFLICT");
    stage.post(&owner, &path, &new).refused(429, "RATE_LIMITED");
}
