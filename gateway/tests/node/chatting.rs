//! People who may talk to each other do.
//!
//! Who may not is elsewhere (`outsiders`), as is what happens when connections or processes end.

use serde_json::json;
use throng_protocol::{Command, ErrorCode, Event};

use super::client::{Client, new_nonce};
use super::place::{PASSWORD, Place, register};
use super::process::Launch;
use super::rest::Rest;

#[test]
fn two_people_talk_and_the_past_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let channel = place.channel;

    let mut ada = Client::connect(server.address);
    let guilds = ada.identify(place.token(0), None);
    assert_eq!(guilds.len(), 1);
    assert_eq!(guilds[0].id, place.guild);
    assert_eq!(guilds[0].member_count, 2);
    assert_eq!(guilds[0].channels[0].id, channel);
    let mut bob = place.enter(&server, 1);
    assert_eq!(ada.subscribe(channel, None), 0);
    assert_eq!(bob.subscribe(channel, None), 0);

    let nonce = ada.say(channel, "hello, Grüße 👋");
    let (id, seq) = ada.acked(nonce);
    assert_eq!(seq, 1);
    for hears in [&mut ada, &mut bob] {
        let message = hears.message();
        assert_eq!((message.id, message.seq.0), (id, 1));
        assert_eq!(message.content, "hello, Grüße 👋");
        assert_eq!(message.nonce, Some(nonce));
        assert_eq!(message.author.id, place.people[0].user.id);
        assert_eq!(message.author.username, "ada");
        assert_eq!(message.channel_id, channel);
    }
    for number in 2..=7 {
        let sender = if number % 2 == 0 { &mut bob } else { &mut ada };
        assert_eq!(sender.store(channel, &format!("no. {number}")).1, number);
    }
    for hears in [&mut ada, &mut bob] {
        let seqs: Vec<u64> = (2..=7).map(|_| hears.message().seq.0).collect();
        assert_eq!(seqs, [2, 3, 4, 5, 6, 7]);
    }
    pages(&Rest::new(server.address), &place);
}

/// Pages of a past of seven messages, each newest first.
fn pages(rest: &Rest, place: &Place) {
    let past = rest.past(place.token(1), place.channel);
    assert!(past.iter().all(|message| message.nonce.is_none()));
    let check = |query: &str, expected: &[u64]| {
        let page = rest.page(place.token(1), place.channel, query);
        let seqs: Vec<u64> = page.iter().map(|message| message.seq.0).collect();
        assert_eq!(seqs, expected, "{query}");
    };
    let id = |seq: usize| past[seq - 1].id;
    check("", &[7, 6, 5, 4, 3, 2, 1]);
    check("?limit=2", &[7, 6]);
    check(&format!("?before={}&limit=3", id(5)), &[4, 3, 2]);
    check(&format!("?before={}", id(1)), &[]);
    check(&format!("?after={}&limit=3", id(2)), &[5, 4, 3]);
    check(&format!("?after={}", id(7)), &[]);
    check(&format!("?around={}&limit=3", id(4)), &[5, 4, 3]);
    let path = format!("/api/channels/{}/messages?limit=101", place.channel);
    rest.get(place.token(1), &path)
        .refused(400, "VALIDATION_ERROR");
}

#[test]
fn a_resent_nonce_is_the_first_message() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let channel = place.channel;
    let mut ada = place.enter(&server, 0);
    let mut bob = place.enter(&server, 1);
    bob.subscribe(channel, None);

    let nonce = ada.say(channel, "once");
    let first = ada.acked(nonce);
    ada.say_as(channel, "something else", nonce);
    assert_eq!(ada.acked(nonce), first);
    let mut again = place.enter(&server, 0);
    again.say_as(channel, "once", nonce);
    assert_eq!(again.acked(nonce), first, "on another connection");

    // Both at once, before either is stored.
    let twice = ada.say(channel, "twice");
    again.say_as(channel, "twice", twice);
    assert_eq!(ada.acked(twice), again.acked(twice));

    bob.say_as(channel, "bob's own", nonce);
    assert_eq!(bob.acked(nonce).1, 3, "a nonce is its author's");
    let heard: Vec<String> = (0..3).map(|_| bob.message().content).collect();
    assert_eq!(heard, ["once", "twice", "bob's own"]);
    let past = Rest::new(server.address).past(place.token(0), channel);
    assert_eq!(past.len(), 3);
}

#[test]
fn who_sends_too_fast_is_told_when_to_go_on() {
    const WINDOW_S: u64 = 600;
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path())
        .set("LIMITS__MESSAGE__COUNT", 2)
        .set("LIMITS__MESSAGE__WINDOW_S", WINDOW_S)
        .start();
    let place = Place::make(&server, &["ada", "bob"]);
    let channel = place.channel;
    let mut ada = place.enter(&server, 0);
    let first = ada.say(channel, "one");
    let stored = ada.acked(first);
    ada.store(channel, "two");

    let mut elsewhere = place.enter(&server, 0);
    for client in [&mut ada, &mut elsewhere] {
        let nonce = client.say(channel, "three");
        let refused = client.refused();
        assert_eq!(refused.code, ErrorCode::RateLimited);
        assert_eq!(refused.nonce, Some(nonce));
        let retry_after_ms = refused.retry_after_ms.unwrap();
        // A window begins a little late, so that it is never too short.
        assert!((1..=WINDOW_S * 1_000 + 64).contains(&retry_after_ms));
    }
    ada.say_as(channel, "one", first);
    assert_eq!(ada.acked(first), stored, "what is stored is not limited");
    let mut bob = place.enter(&server, 1);
    assert_eq!(bob.store(channel, "bob's").1, 3, "others go on");
}

#[test]
fn typing_is_seen_by_others() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let channel_id = place.channel;
    let mut ada = place.enter(&server, 0);
    let mut bob = place.enter(&server, 1);
    bob.subscribe(channel_id, None);
    let user_id = place.people[0].user.id;
    ada.tell(&Command::StartTyping { channel_id });
    assert_eq!(
        bob.next(),
        Event::TypingStart {
            channel_id,
            user_id
        }
    );
    ada.tell(&Command::StopTyping { channel_id });
    assert_eq!(
        bob.next(),
        Event::TypingStop {
            channel_id,
            user_id
        }
    );
}

#[test]
fn an_account_is_entered_with_its_password() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let rest = Rest::new(server.address);
    let ada = register(&rest, "ada");
    let login = |name: &str, password: &str| {
        let account = json!({"username": name, "password": password});
        rest.post("", "/api/auth/login", &account)
    };
    let entered = login("ada", PASSWORD).ok();
    let token = entered["token"].as_str().unwrap();
    let me = rest.get(token, "/api/users/@me").ok();
    assert_eq!(me["user"]["id"], ada.user.id.to_string());
    assert!(Client::ready(server.address, token).is_alive());

    login("ada", "correct house").refused(401, "UNAUTHORIZED");
    login("nobody", PASSWORD).refused(401, "UNAUTHORIZED");
    let again = json!({"username": "ada", "password": PASSWORD});
    rest.post("", "/api/auth/register", &again)
        .refused(409, "CONFLICT");
    rest.get("", "/api/users/@me").refused(401, "UNAUTHORIZED");
}

#[test]
fn one_connection_s_messages_keep_their_order() {
    const MESSAGES: u64 = 200;
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let rest = Rest::new(server.address);
    let channels = [place.channel, place.add_channel(&rest, "second")];
    let mut bob = place.enter(&server, 1);
    for channel in channels {
        bob.subscribe(channel, None);
    }
    let mut ada = place.enter(&server, 0);
    let nonces: Vec<_> = (0..MESSAGES).map(|_| new_nonce()).collect();
    for (number, nonce) in (1..).zip(&nonces) {
        for channel in channels {
            ada.say_as(channel, &format!("{number}"), *nonce);
        }
    }
    let mut next = [1, 1];
    for _ in 0..2 * MESSAGES {
        let message = bob.message();
        let which = usize::from(message.channel_id == channels[1]);
        assert_eq!(message.seq.0, next[which]);
        assert_eq!(message.content, next[which].to_string());
        next[which] += 1;
    }
    for nonce in &nonces {
        ada.acked(*nonce);
    }
}
