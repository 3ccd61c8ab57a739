//! Pages of messages over REST.

use serde_json::{Value, json};
use throng_control::{HistoryError, HistoryQuery};
use throng_protocol::{Author, ChannelId, Message, MessageId, Rev, Seq, Timestamp, UserId};

use crate::stage::{Stage, stage};

fn message(channel: ChannelId, seq: u64) -> Message {
    Message {
        id: MessageId::from_u128(u128::from(seq)),
        channel_id: channel,
        seq: Seq(seq),
        rev: Rev(seq),
        author: Author {
            id: UserId::from_u128(1),
            username: "owner".into(),
        },
        content: format!("message {seq}"),
        timestamp: Timestamp(1_795_262_400_000),
        edited_at: None,
        attachments: Vec::new(),
        reactions: Vec::new(),
        reply_to: None,
        nonce: None,
    }
}

fn general(stage: &Stage, owner: &str) -> (ChannelId, String) {
    let guild = stage.guild(owner);
    let channel = guild["channels"][0]["id"].as_str().unwrap().to_owned();
    (
        channel.parse().unwrap(),
        format!("/api/channels/{channel}/messages"),
    )
}

#[test]
fn the_owner_shard_is_asked_for_what_the_member_asks_for() {
    let stage = stage();
    let owner = stage.user("owner");
    let (channel, path) = general(&stage, &owner);
    let page = vec![message(channel, 2), message(channel, 1)];
    *stage.script.history.lock().unwrap() = Some(Ok(page.clone()));
    let read = stage.get(&owner, &path).expect(200);
    assert_eq!(read, json!({ "messages": page }));

    let id = MessageId::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
    stage
        .get(&owner, &format!("{path}?before={id}"))
        .expect(200);
    stage
        .get(&owner, &format!("{path}?after={id}&limit=100"))
        .expect(200);
    stage
        .get(&owner, &format!("{path}?limit=2&around={id}&unknown=1"))
        .expect(200);
    assert_eq!(
        *stage.script.asked_history.lock().unwrap(),
        [
            (1, channel, HistoryQuery::Newest, 50),
            (1, channel, HistoryQuery::Before(id), 50),
            (1, channel, HistoryQuery::After(id), 100),
            (1, channel, HistoryQuery::Around(id), 2),
        ]
    );
}

#[test]
fn bad_parameters_are_refused() {
    let stage = stage();
    let owner = stage.user("owner");
    let (_, path) = general(&stage, &owner);
    let id = MessageId::from_u128(7);
    let check = |query: &str, at: &str| {
        let refused = stage.get(&owner, &format!("{path}?{query}"));
        let refused = refused.refused(400, "VALIDATION_ERROR");
        assert_eq!(refused["details"][0]["path"], at, "{query}");
    };
    for limit in ["0", "101", "-1", "ten", "1.5", "", "99999999999999999999"] {
        check(&format!("limit={limit}"), "limit");
    }
    check("before=yesterday", "before");
    check("after=", "after");
    check("around=7", "around");
    check(&format!("before={id}&before={id}"), "before");
    check(&format!("before={id}&after={id}"), "");
    assert!(stage.script.asked_history.lock().unwrap().is_empty());
}

#[test]
fn who_is_no_member_learns_nothing_and_no_shard_is_asked() {
    let stage = stage();
    let owner = stage.user("owner");
    let stranger = stage.user("stranger");
    let (_, path) = general(&stage, &owner);
    let real = stage.get(&stranger, &path).refused(404, "NOT_FOUND");
    let absent = "/api/channels/00000000-0000-7000-8000-000000000000/messages";
    assert_eq!(stage.get(&stranger, absent).refused(404, "NOT_FOUND"), real);
    stage
        .get(&stranger, "/api/channels/general/messages")
        .refused(404, "NOT_FOUND");
    stage.get("", &path).refused(401, "UNAUTHORIZED");
    assert!(stage.script.asked_history.lock().unwrap().is_empty());
}

#[test]
fn a_shard_that_cannot_read_is_an_error_of_this_request_only() {
    let stage = stage();
    let owner = stage.user("owner");
    let (_, path) = general(&stage, &owner);
    let check = |error, status, code| {
        *stage.script.history.lock().unwrap() = Some(Err(error));
        stage.get(&owner, &path).refused(status, code);
    };
    check(HistoryError::Unavailable, 503, "UNAVAILABLE");
    check(HistoryError::Damaged, 500, "INTERNAL_ERROR");
    *stage.script.history.lock().unwrap() = None;
    assert_eq!(
        stage.get(&owner, &path).expect(200)["messages"],
        Value::Array(Vec::new())
    );
}
