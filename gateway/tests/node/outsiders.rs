//! Who is not a member gets nowhere, on every path.
//!
//! What members may do is elsewhere (`chatting`).
//!
//! Each refusal is followed by something that must still work, so that a silent end of the
//! connection does not pass for a refusal.

use serde_json::json;
use throng_protocol::{ChannelId, Command, ErrorCode, Event, GuildId};

use super::client::{Client, resume_after};
use super::place::{Place, register};
use super::process::Launch;
use super::rest::Rest;

#[test]
fn over_the_websocket() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let channel_id = place.channel;
    let mut ada = place.enter(&server, 0);
    ada.subscribe(channel_id, None);
    let eve = register(&Rest::new(server.address), "eve");
    let mut outside = Client::connect(server.address);
    assert_eq!(outside.identify(&eve.token, None), []);

    let subscribe = Command::SubscribeChannel {
        channel_id,
        after_seq: None,
        after_rev: None,
    };
    outside.tell(&subscribe);
    assert_eq!(outside.refused().code, ErrorCode::PermissionDenied);
    let nonce = outside.say(channel_id, "let me in");
    let refused = outside.refused();
    assert_eq!(refused.code, ErrorCode::PermissionDenied);
    assert_eq!(refused.nonce, Some(nonce));
    outside.tell(&Command::StartTyping { channel_id });
    assert_eq!(outside.refused().code, ErrorCode::PermissionDenied);

    let nowhere = ChannelId::from_u128(7);
    let nonce = outside.say(nowhere, "is there anybody?");
    let refused = outside.refused();
    assert_eq!(refused.code, ErrorCode::ChannelNotFound);
    assert_eq!(refused.nonce, Some(nonce));
    assert!(outside.is_alive());

    // The first thing that is heard in the channel is a member's.
    assert_eq!(ada.store(channel_id, "mine").1, 1);
    match ada.next() {
        Event::MessageCreate { message } => assert_eq!(message.content, "mine"),
        other => panic!("{other:?}"),
    }
    let resume = resume_after(&[(channel_id, 0), (nowhere, 0)]);
    let mut resuming = Client::connect(server.address);
    resuming.identify(&eve.token, Some(resume));
    let mut codes = [resuming.refused().code, resuming.refused().code];
    codes.sort_by_key(|code| code.as_str());
    assert_eq!(
        codes,
        [ErrorCode::ChannelNotFound, ErrorCode::PermissionDenied]
    );
    ada.store(channel_id, "still mine");
    for client in [&mut outside, &mut resuming] {
        assert!(client.is_alive());
        assert_eq!(client.heard(), [], "an outsider hears nothing");
    }
}

#[test]
fn over_rest() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let rest = Rest::new(server.address);
    let eve = register(&rest, "eve").token;
    let history = format!("/api/channels/{}/messages", place.channel);
    let invites = format!("/api/guilds/{}/invites", place.guild);
    let channels = format!("/api/guilds/{}/channels", place.guild);
    let new = json!({"name": "mine", "type": "text"});

    rest.get(&eve, &history).refused(404, "NOT_FOUND");
    rest.post(&eve, &invites, &json!({}))
        .refused(404, "NOT_FOUND");
    rest.post(&eve, &channels, &new).refused(404, "NOT_FOUND");
    rest.post(&eve, "/api/invites/none", &json!({}))
        .refused(404, "NOT_FOUND");
    assert_eq!(rest.get(&eve, "/api/guilds").ok()["guilds"], json!([]));
    let nowhere = format!("/api/guilds/{}/invites", GuildId::from_u128(7));
    rest.post(&eve, &nowhere, &json!({}))
        .refused(404, "NOT_FOUND");

    rest.post(place.token(1), &channels, &new)
        .refused(403, "PERMISSION_DENIED");
    for bad in ["", "x", "eyJhbGciOiJub25lIn0.e30."] {
        rest.get(bad, &history).refused(401, "UNAUTHORIZED");
    }
}

#[test]
fn who_joins_is_in_at_once() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let rest = Rest::new(server.address);
    let eve = register(&rest, "eve");
    let mut client = Client::ready(server.address, &eve.token);
    client.say(place.channel, "not yet");
    assert_eq!(client.refused().code, ErrorCode::PermissionDenied);

    let invites = format!("/api/guilds/{}/invites", place.guild);
    let invite = rest.post(place.token(0), &invites, &json!({})).ok();
    let code = invite["invite"]["code"].as_str().unwrap();
    rest.post(&eve.token, &format!("/api/invites/{code}"), &json!({}))
        .ok();
    assert_eq!(client.store(place.channel, "now").1, 1);
    assert_eq!(client.subscribe(place.channel, None), 1);
    let channel = place.add_channel(&rest, "new");
    assert_eq!(client.store(channel, "first").1, 1);
}
