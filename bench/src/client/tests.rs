//! A client against a server played by hand: what it says, when, and what it makes of answers.

use std::time::Duration;

use throng_protocol::{
    Author, ChannelHead, ChannelId, ErrorCode, Event, Message, MessageId, Nonce, Rev, SessionId,
    TextLimits, Timestamp, User, UserId, UserStatus, close_frame, encode_frame, parse,
};

use super::*;
use crate::audience::Audiences;
use crate::corpus::Corpus;
use crate::plan::Nonces;
use crate::schedule::{Load, Schedule};
use crate::tally::Tally;
use crate::target::Target;

const ROOM: ChannelId = ChannelId::from_u128(77);
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPTED: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

fn plan() -> Plan {
    plan_after(Duration::ZERO)
}

fn plan_after(warm_up: Duration) -> Plan {
    let corpus = Corpus::parse("{\"turns\":[\"hi\"]}").unwrap();
    let audiences = Audiences::even(1, 1, 1, 1);
    let load = Load {
        rate: 10,
        warm_up,
        duration: Duration::from_secs(1),
        zipf: 0.0,
        seed: 1,
    };
    Plan {
        target: Target::resolve("http://127.0.0.1:9").unwrap(),
        tokens: vec!["token".to_owned()],
        channels: vec![ROOM],
        schedule: Schedule::plan(&corpus, &audiences, &load),
        audiences,
        corpus,
        nonces: Nonces::new(5),
    }
}

#[test]
fn a_warm_up_is_not_measured() {
    let plan = plan_after(Duration::from_millis(500));
    let mut run = Run::new(&plan, 0);
    run.start_ns = 1;
    for index in [0, 4, 5].map(MessageIndex) {
        run.left(index, 1_000_000_000);
        run.acked(index, 1_000_000_000);
        run.delivered(index, 1_000_000_000);
    }
    let Tally {
        early,
        ack_us,
        delivery_us,
        late_us,
        ..
    } = &run.tally;
    assert_eq!((*early, ack_us.len(), delivery_us.len()), (2, 1, 1));
    assert_eq!(late_us.len(), 1);
    assert_eq!(run.course.parts().len(), 1);
}

/// A client, and the server's end of its connection.
struct Scene<'a> {
    client: Client,
    run: Run<'a>,
    server: Decoder,
    now_ns: u64,
}

impl<'a> Scene<'a> {
    fn new(plan: &'a Plan) -> Self {
        let mut run = Run::new(plan, 0);
        run.start_ns = 1;
        let client = Client::new(ClientIndex(0), plan);
        Self {
            client,
            run,
            server: Decoder::server(1 << 20),
            now_ns: 1,
        }
    }

    fn live(plan: &'a Plan) -> Self {
        let mut scene = Self::new(plan);
        scene.connect();
        scene.say(&[ready()]).unwrap();
        scene.say(&[subscribed(0)]).unwrap();
        assert!(scene.client.is_live());
        let _ = scene.commands();
        scene
    }

    /// The handshake, up to IDENTIFY.
    fn connect(&mut self) {
        self.client.connecting(KEY, &self.run);
        assert!(
            self.client
                .out()
                .starts_with(b"GET /gateway HTTP/1.1\r\nHost: 127.0.0.1:9\r\n")
        );
        self.client.out().clear();
        self.server = Decoder::server(1 << 20);
        let mut bytes = ACCEPTED.as_bytes().to_vec();
        bytes.extend_from_slice(&encode_frame(&Event::Hello {
            heartbeat_interval_ms: 30_000,
        }));
        self.client
            .received(&mut bytes, self.now_ns, &mut self.run)
            .unwrap();
    }

    fn say(&mut self, events: &[Event]) -> Result<(), Ended> {
        let mut bytes: Vec<u8> = events.iter().flat_map(encode_frame).collect();
        self.client.received(&mut bytes, self.now_ns, &mut self.run)
    }

    /// What the client has said since the last call, as the server reads it.
    fn commands(&mut self) -> Vec<String> {
        let mut bytes = self.client.out().split().to_vec();
        let mut chunk = Chunk::new(&mut bytes);
        let mut commands = Vec::new();
        while let Some(item) = self.server.next(&mut chunk).unwrap() {
            let Item::Text(text) = item else {
                panic!("{item:?}")
            };
            let command = parse(text, &TextLimits::default()).unwrap();
            commands.push(serde_json::to_string(&command).unwrap());
        }
        commands
    }

    fn send(&mut self, index: u32) {
        self.client
            .send(MessageIndex(index), self.now_ns, &mut self.run);
    }

    fn nonce(&self, index: u32) -> Nonce {
        self.run.plan.nonces.of(MessageIndex(index))
    }
}

fn ready() -> Event {
    let user = User {
        id: UserId::from_u128(1),
        username: "a".to_owned(),
        discriminator: "0001".to_owned(),
        avatar_url: None,
        status: UserStatus::Online,
        custom_status: None,
    };
    Event::Ready {
        user,
        guilds: Vec::new(),
        dms: Vec::new(),
        read_states: Vec::new(),
        session_id: SessionId::from_u128(1),
    }
}

fn subscribed(head: u64) -> Event {
    Event::Subscribed {
        channel_id: ROOM,
        seq: Seq(head),
        rev: Rev(head),
    }
}

fn created(seq: u64, content: &str, nonce: Option<Nonce>) -> Event {
    Event::MessageCreate {
        message: Message {
            id: MessageId::from_u128(u128::from(seq)),
            channel_id: ROOM,
            seq: Seq(seq),
            rev: Rev(seq),
            author: Author {
                id: UserId::from_u128(1),
                username: "a".to_owned(),
            },
            content: content.to_owned(),
            timestamp: Timestamp(0),
            edited_at: None,
            attachments: Vec::new(),
            reactions: Vec::new(),
            reply_to: None,
            nonce,
        },
    }
}

fn ack(seq: u64, nonce: Nonce) -> Event {
    Event::MessageAck {
        nonce,
        message_id: MessageId::from_u128(u128::from(seq)),
        seq: Seq(seq),
    }
}

#[test]
fn identify_then_subscribe_then_speak() {
    let plan = plan();
    let mut scene = Scene::new(&plan);
    scene.connect();
    scene.send(0);
    assert_eq!(scene.commands(), [r#"{"type":"IDENTIFY","token":"token"}"#]);
    scene.say(&[ready()]).unwrap();
    let subscribe = format!(r#"{{"type":"SUBSCRIBE_CHANNEL","channelId":"{ROOM}"}}"#);
    assert_eq!(scene.commands(), [subscribe]);
    assert!(!scene.client.is_live());
    scene.say(&[subscribed(0)]).unwrap();
    let nonce = scene.nonce(0);
    let send = format!(
        r#"{{"type":"SEND_MESSAGE","channelId":"{ROOM}","content":"hi","nonce":"{nonce}"}}"#
    );
    assert_eq!(scene.commands(), [send]);
    assert_eq!((scene.run.tally.sent, scene.client.open_messages()), (1, 1));
}

#[test]
fn latency_counts_from_the_intended_time() {
    let plan = plan();
    let mut scene = Scene::live(&plan);
    scene.now_ns = 1 + 150_000_000;
    scene.send(1);
    scene.now_ns = 1 + 160_000_000;
    let nonce = scene.nonce(1);
    scene
        .say(&[ack(1, nonce), created(1, "hi", Some(nonce))])
        .unwrap();
    let near = |histogram: &hdrhistogram::Histogram<u64>, us: u64| {
        assert!(
            histogram.max().abs_diff(us) < us / 500,
            "{} is not {us}",
            histogram.max()
        );
    };
    near(&scene.run.tally.late_us, 50_000);
    near(&scene.run.tally.ack_us, 60_000);
    near(&scene.run.tally.delivery_us, 60_000);
    assert_eq!(scene.client.open_messages(), 0);
    let verdict = scene.run.oracle.verdict(|_| None);
    assert!(
        verdict.is_clean() && verdict.acked == 1 && verdict.delivered == 1,
        "{verdict:?}"
    );
    assert!(scene.client.has_all_to(&scene.run.oracle, |_| Seq(1)));
}

#[test]
fn unanswered_messages_are_sent_again_and_the_cursor_resumes() {
    let plan = plan();
    let mut scene = Scene::live(&plan);
    for index in 0..3 {
        scene.send(index);
    }
    let nonce = scene.nonce(0);
    scene
        .say(&[ack(1, nonce), created(1, "hi", Some(nonce))])
        .unwrap();
    let _ = scene.commands();
    scene.client.disconnected();
    scene.send(3);
    scene.connect();
    let identify = format!(
        r#"{{"type":"IDENTIFY","token":"token","resume":{{"channels":[{{"channelId":"{ROOM}","afterSeq":1}}]}}}}"#
    );
    assert_eq!(scene.commands(), [identify]);
    scene.say(&[ready()]).unwrap();
    assert!(
        scene.commands().is_empty(),
        "resumed channels are subscribed already"
    );
    scene.say(&[subscribed(2), created(2, "hi", None)]).unwrap();
    let said = scene.commands();
    let expected: Vec<String> = [1, 2, 3]
        .map(|index| scene.nonce(index).to_string())
        .to_vec();
    assert_eq!(said.len(), 3);
    for (command, nonce) in said.iter().zip(expected) {
        assert!(command.contains(&nonce), "{command}");
    }
    assert_eq!((scene.run.tally.sent, scene.run.tally.resent), (4, 2));
    assert_eq!(scene.run.resent, [MessageIndex(1), MessageIndex(2)]);
}

#[test]
fn refusals_are_answers() {
    let plan = plan();
    let mut scene = Scene::live(&plan);
    scene.send(0);
    let nonce = Some(scene.nonce(0));
    let code = ErrorCode::RateLimited;
    let error = Event::Error {
        code,
        message: "slow".to_owned(),
        nonce,
        retry_after_ms: Some(9),
    };
    scene.say(&[error]).unwrap();
    assert_eq!(scene.run.tally.refused_with(code), 1);
    assert_eq!(scene.client.open_messages(), 0);
    assert!(scene.run.oracle.verdict(|_| None).is_clean());
}

#[test]
fn what_cannot_be_right_is_noticed() {
    let plan = plan();
    let check = |events: &[Event], expected: fn(&crate::oracle::Verdict) -> u64| {
        let mut scene = Scene::live(&plan);
        scene.send(0);
        scene.say(events).unwrap();
        let verdict = scene.run.oracle.verdict(|_| None);
        assert_eq!(expected(&verdict), 1, "{events:?}: {verdict:?}");
    };
    let nonce = plan.nonces.of(MessageIndex(0));
    check(&[ack(1, nonce), ack(1, nonce)], |verdict| verdict.unasked);
    check(&[ack(1, Nonce::from_u128(1))], |verdict| verdict.unasked);
    check(&[created(1, "ho", Some(nonce))], |verdict| {
        verdict.wrong_content
    });
    check(
        &[created(1, "hi", Some(nonce)), created(1, "hi", Some(nonce))],
        |verdict| verdict.duplicated,
    );
    check(&[ack(1, nonce)], |verdict| verdict.lost);
    check(&[ack(1, nonce), created(2, "hi", Some(nonce))], |verdict| {
        verdict.duplicated
    });
}

#[test]
fn a_head_that_went_back_is_noticed() {
    let plan = plan();
    let mut scene = Scene::live(&plan);
    scene
        .say(&[created(1, "hi", None), created(2, "hi", None)])
        .unwrap();
    scene.client.disconnected();
    scene.connect();
    scene.say(&[ready(), subscribed(1)]).unwrap();
    assert_eq!(scene.run.oracle.verdict(|_| None).forgotten, 1);
}

/// Another connection may hear of a newer message before this one reads its SUBSCRIBED.
#[test]
fn a_head_that_was_overtaken_has_not_gone_back() {
    let plan = plan();
    let mut scene = Scene::live(&plan);
    scene.client.disconnected();
    scene.connect();
    scene.run.heads[0] = Seq(9);
    scene.say(&[ready(), subscribed(8)]).unwrap();
    assert_eq!(scene.run.oracle.verdict(|_| None).forgotten, 0);
    scene.client.disconnected();
    scene.connect();
    scene.say(&[ready(), subscribed(8)]).unwrap();
    assert_eq!(scene.run.oracle.verdict(|_| None).forgotten, 1);
}

#[test]
fn a_resync_goes_on_from_the_new_head() {
    let plan = plan();
    let mut scene = Scene::live(&plan);
    scene.client.disconnected();
    scene.connect();
    let head = ChannelHead {
        channel_id: ROOM,
        seq: Seq(5000),
        rev: Rev(5000),
    };
    let resync = Event::Resync {
        guilds: Vec::new(),
        channels: vec![head],
    };
    scene
        .say(&[ready(), resync, created(5001, "hi", None)])
        .unwrap();
    assert!(scene.client.is_live());
    assert_eq!(scene.run.tally.resyncs, 1);
    let verdict = scene.run.oracle.verdict(|_| None);
    assert!(verdict.is_clean() && verdict.delivered == 1, "{verdict:?}");
}

#[test]
fn why_connections_end() {
    let plan = plan();
    let mut scene = Scene::new(&plan);
    scene.connect();
    let error = |code| Event::Error {
        code,
        message: "no".to_owned(),
        nonce: None,
        retry_after_ms: Some(70),
    };
    let ended = scene.say(&[error(ErrorCode::InvalidSession)]).unwrap_err();
    assert!(ended.is_final(), "{ended}");
    let ended = scene.say(&[error(ErrorCode::RateLimited)]).unwrap_err();
    assert!(!ended.is_final(), "{ended}");
    assert_eq!(scene.client.take_retry_after_ms(), Some(70));

    let ended = close_on(&mut Scene::live(&plan));
    assert_eq!(ended.to_string(), "closed with 4013");
}

fn close_on(scene: &mut Scene<'_>) -> Ended {
    let mut close = close_frame(CloseReason::GoingAway).to_vec();
    scene
        .client
        .received(&mut close, 1, &mut scene.run)
        .unwrap_err()
}

#[test]
fn a_server_that_leaves_answers_first() {
    let plan = plan();
    let reconnect = || Event::Reconnect {
        reason: String::new(),
        retry_after_ms: 40,
    };
    let mut scene = Scene::live(&plan);
    scene.send(0);
    let _ = scene.commands();
    scene.say(&[reconnect()]).unwrap();
    scene.send(1);
    assert!(
        scene.commands().is_empty(),
        "nothing is sent to a server that is leaving"
    );
    let nonce = scene.nonce(0);
    let ended = scene.say(&[ack(1, nonce)]).unwrap_err();
    assert_eq!(ended.to_string(), "asked to reconnect");
    assert_eq!(scene.client.take_retry_after_ms(), Some(40));

    let ended = Scene::live(&plan).say(&[reconnect()]).unwrap_err();
    assert!(
        matches!(ended, Ended::AskedToLeave),
        "nothing is open: leave at once"
    );
}
