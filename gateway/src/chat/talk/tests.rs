//! The conversation, event by event.

use throng_protocol::{
    Author, Channel, ChannelHead, ErrorCode, MessageId, Rev, SessionId, Timestamp, User, UserId,
    UserStatus,
};

use super::*;

const ROOM: ChannelId = ChannelId::from_u128(7);

fn place() -> Place {
    Place {
        guild: GuildId::from_u128(1),
        channel: ROOM,
        name: "home/general".to_owned(),
    }
}

fn message(seq: u64, content: &str) -> Message {
    Message {
        id: MessageId::from_u128(u128::from(seq)),
        channel_id: ROOM,
        seq: Seq(seq),
        rev: Rev(seq),
        author: Author {
            id: UserId::from_u128(1),
            username: "ann".to_owned(),
        },
        content: content.to_owned(),
        timestamp: Timestamp(1_767_323_045_678),
        edited_at: None,
        attachments: Vec::new(),
        reactions: Vec::new(),
        reply_to: None,
        nonce: None,
    }
}

fn ready() -> Event {
    let user = User {
        id: UserId::from_u128(1),
        username: "ann".to_owned(),
        discriminator: "0001".to_owned(),
        avatar_url: None,
        status: UserStatus::Online,
        custom_status: None,
    };
    let session_id = SessionId::from_u128(1);
    Event::Ready {
        user,
        guilds: Vec::new(),
        dms: Vec::new(),
        read_states: Vec::new(),
        session_id,
    }
}

fn hello() -> Event {
    Event::Hello {
        heartbeat_interval_ms: 30_000,
    }
}

fn hear(talk: &mut Talk, event: Event) -> Vec<Act> {
    let mut acts = Vec::new();
    talk.heard(event, "token", &mut acts);
    acts
}

/// A conversation in the room, with two messages of history.
fn entered() -> Talk {
    let mut talk = Talk::new();
    assert_eq!(
        hear(&mut talk, hello()),
        [Act::Say(
            r#"{"type":"IDENTIFY","token":"token"}"#.to_owned()
        )]
    );
    assert_eq!(hear(&mut talk, ready()), []);
    let mut acts = Vec::new();
    talk.enter(place(), vec![message(1, "a"), message(2, "b")], &mut acts);
    let subscribe = format!(r#"{{"type":"SUBSCRIBE_CHANNEL","channelId":"{ROOM}","afterSeq":2}}"#);
    let shown = ["--- home/general ---", "[03:04] ann: a", "[03:04] ann: b"];
    let mut expected: Vec<Act> = shown.map(|line| Act::Show(line.to_owned())).into();
    expected.push(Act::Say(subscribe));
    assert_eq!(acts, expected);
    talk
}

fn say(talk: &mut Talk, text: &str) -> (Nonce, Vec<Act>) {
    let mut acts = Vec::new();
    talk.say(text, &mut acts);
    (talk.open.back().unwrap().nonce, acts)
}

#[test]
fn messages_are_shown_once_and_in_order() {
    let mut talk = entered();
    let create = |seq| Event::MessageCreate {
        message: message(seq, "x"),
    };
    assert_eq!(hear(&mut talk, create(2)), [], "history had it");
    assert_eq!(
        hear(&mut talk, create(3)),
        [Act::Show("[03:04] ann: x".to_owned())]
    );
    assert_eq!(hear(&mut talk, create(3)), [], "a replay may have it again");
    let elsewhere = Message {
        channel_id: ChannelId::from_u128(8),
        ..message(4, "y")
    };
    assert_eq!(
        hear(&mut talk, Event::MessageCreate { message: elsewhere }),
        []
    );
}

#[test]
fn what_was_not_answered_is_said_again_under_its_nonce() {
    let mut talk = entered();
    let (first, acts) = say(&mut talk, "one");
    assert!(matches!(&acts[..], [Act::Say(text)] if text.contains(&first.to_string())));
    let (second, _) = say(&mut talk, "two");
    let ack = Event::MessageAck {
        nonce: first,
        message_id: MessageId::from_u128(3),
        seq: Seq(3),
    };
    assert_eq!(hear(&mut talk, ack), []);
    talk.disconnected();
    let (third, acts) = say(&mut talk, "three");
    assert_eq!(acts, [], "nothing is said without a connection");
    let identify = hear(&mut talk, hello());
    assert!(matches!(&identify[..], [Act::Say(text)] if text.contains(r#""afterSeq":2"#)));
    let again = hear(&mut talk, ready());
    assert_eq!(again.len(), 2);
    for (act, nonce) in again.iter().zip([second, third]) {
        assert!(
            matches!(act, Act::Say(text) if text.contains(&nonce.to_string())),
            "{act:?}"
        );
    }
    assert_eq!(talk.open_messages(), 2);
}

#[test]
fn refusals_are_shown() {
    let mut talk = entered();
    let (nonce, _) = say(&mut talk, "too fast");
    let code = ErrorCode::RateLimited;
    let message = "slow down".to_owned();
    let error = Event::Error {
        code,
        message,
        nonce: Some(nonce),
        retry_after_ms: None,
    };
    let shown = r#"not sent: "too fast": slow down (RATE_LIMITED)"#;
    assert_eq!(hear(&mut talk, error), [Act::Show(shown.to_owned())]);
    assert_eq!(talk.open_messages(), 0);
}

#[test]
fn switching_leaves_the_old_channel() {
    let mut talk = entered();
    let mut acts = Vec::new();
    let there = Place {
        channel: ChannelId::from_u128(8),
        ..place()
    };
    talk.enter(there, Vec::new(), &mut acts);
    let unsubscribe = format!(r#"{{"type":"UNSUBSCRIBE_CHANNEL","channelId":"{ROOM}"}}"#);
    assert_eq!(acts[0], Act::Say(unsubscribe));
}

#[test]
fn a_resync_moves_on() {
    let mut talk = entered();
    let head = ChannelHead {
        channel_id: ROOM,
        seq: Seq(5002),
        rev: Rev(5002),
    };
    let acts = hear(
        &mut talk,
        Event::Resync {
            guilds: Vec::new(),
            channels: vec![head],
        },
    );
    assert!(matches!(&acts[..], [Act::Show(line)] if line.starts_with("5000 messages")));
    let create = Event::MessageCreate {
        message: message(5003, "x"),
    };
    assert_eq!(hear(&mut talk, create).len(), 1);
}

#[test]
fn nothing_to_say_it_in_and_too_much_to_say() {
    let mut acts = Vec::new();
    Talk::new().say("x", &mut acts);
    assert_eq!(acts, [Act::Show(ChatError::Nowhere.to_string())]);
    let mut talk = entered();
    talk.disconnected();
    for _ in 0..=OPEN_MAX {
        acts.clear();
        talk.say("x", &mut acts);
    }
    assert_eq!(talk.open_messages(), OPEN_MAX);
    assert!(matches!(&acts[..], [Act::Show(line)] if line.ends_with("not sent")));
}

#[test]
fn channels_by_number_name_and_id() {
    let channel = |id, name: &str, kind| Channel {
        id: ChannelId::from_u128(id),
        guild_id: GuildId::from_u128(1),
        name: name.to_owned(),
        kind,
        position: 0,
        parent_id: None,
    };
    let guild = |name: &str, channels| Guild {
        id: GuildId::from_u128(1),
        name: name.to_owned(),
        icon_url: None,
        owner_id: UserId::from_u128(1),
        channels,
        member_count: 1,
    };
    let guilds = [
        guild(
            "a",
            vec![
                channel(1, "general", ChannelType::Text),
                channel(2, "talk", ChannelType::Voice),
            ],
        ),
        guild(
            "b",
            vec![
                channel(3, "general", ChannelType::Text),
                channel(4, "off", ChannelType::Text),
            ],
        ),
    ];
    assert_eq!(
        channel_list(&guilds),
        ["  1  a/general", "  2  b/general", "  3  b/off"]
    );
    for (wanted, id) in [
        ("1", 1),
        ("3", 4),
        ("general", 1),
        ("b/general", 3),
        ("off", 4),
        (&ChannelId::from_u128(3).to_string(), 3),
    ] {
        assert_eq!(
            find_channel(&guilds, wanted).unwrap().channel,
            ChannelId::from_u128(id),
            "{wanted}"
        );
    }
    for wanted in ["0", "4", "talk", "c/general", ""] {
        assert!(find_channel(&guilds, wanted).is_err(), "{wanted}");
    }
}
