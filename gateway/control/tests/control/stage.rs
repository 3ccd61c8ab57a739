//! A running control plane, the shards around it, and a client.
//!
//! Decides nothing: a test says what the shards do.
//!
//! The listener hands each connection over after its first read, as a shard does.

use std::io::Read;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender, bounded, unbounded};
use serde_json::{Value, json};
use throng_control::{
    Answer, Ask, AskId, Control, ControlConfig, ControlHandle, FromShard, HandedOver, HistoryError,
    HistoryQuery, Inlet, PasswordCost, Rate, ShardLink, ShardStatus, ToShard,
};
use throng_protocol::{ChannelId, Message};

/// Shards on the stage; shard 1 owns every channel.
pub(crate) const SHARDS: u16 = 2;

/// What the shards do and what they were told.
#[derive(Default)]
pub(crate) struct Script {
    /// Never reply.
    pub(crate) silent: AtomicBool,
    /// Wait so long before a reply.
    pub(crate) delay_ms: AtomicU64,
    /// Replies given to invalidations.
    pub(crate) invalidated: AtomicU64,
    pub(crate) store_error: Mutex<Option<String>>,
    pub(crate) history: Mutex<Option<Result<Vec<Message>, HistoryError>>>,
    pub(crate) asked_history: Mutex<Vec<(u16, ChannelId, HistoryQuery, usize)>>,
    pub(crate) versions: Mutex<Vec<u64>>,
}

pub(crate) struct Stage {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) script: Arc<Script>,
    pub(crate) handed_over: Arc<AtomicU64>,
    pub(crate) handle: Option<ControlHandle>,
    pub(crate) answers: Receiver<(AskId, Answer)>,
    next_ask: AtomicU64,
    agent: ureq::Agent,
}

/// Status, `Retry-After` and body of an answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) body: Value,
}

impl Reply {
    /// Asserts the status and the shape of an error; gives the body of a success.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        if status >= 400 {
            assert!(
                self.body["error"].is_string() && self.body["message"].is_string(),
                "{self:?}"
            );
        }
        self.body
    }

    /// Asserts an error.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        assert_eq!(self.body["error"], code, "{self:?}");
        self.expect(status)
    }
}

pub(crate) fn stage() -> Stage {
    stage_with(|_| ())
}

/// Limits are off and passwords cheap, unless `adjust` says otherwise.
pub(crate) fn stage_with(adjust: impl FnOnce(&mut ControlConfig)) -> Stage {
    let dir = tempfile::tempdir().unwrap();
    let mut config = ControlConfig::new(dir.path().join("data"));
    config.password_cost = PasswordCost {
        memory_kib: 8,
        passes: 1,
    };
    config.limits.register = Rate::new(0, 0);
    config.limits.channel_create = Rate::new(0, 0);
    adjust(&mut config);
    let script = Arc::new(Script::default());
    let (links, queues): (Vec<_>, Vec<_>) = (0..SHARDS)
        .map(|_| {
            let (to_shard, queue) = bounded(64);
            (
                ShardLink {
                    to_shard,
                    wake: Arc::new(|| ()),
                },
                queue,
            )
        })
        .unzip();
    let handle = Control::start(config, links, Arc::new(|_| 1)).unwrap();
    let (answered, answers) = unbounded();
    for (shard, queue) in (0..SHARDS).zip(queues) {
        let (script, asks, answered) = (Arc::clone(&script), handle.asks.clone(), answered.clone());
        thread::spawn(move || play(shard, &queue, &script, &asks, &answered));
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let handed_over = Arc::new(AtomicU64::new(0));
    let (connections, count) = (handle.connections.clone(), Arc::clone(&handed_over));
    thread::spawn(move || hand_over(&listener, &connections, &count));
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .into();
    Stage {
        dir,
        address,
        script,
        handed_over,
        handle: Some(handle),
        answers,
        next_ask: AtomicU64::new(0),
        agent,
    }
}

fn hand_over(listener: &TcpListener, connections: &Inlet<HandedOver>, count: &AtomicU64) {
    while let Ok((mut stream, _)) = listener.accept() {
        let (connections, mut head) = (connections.clone(), vec![0; 16 * 1024]);
        let Ok(read) = stream.read(&mut head) else {
            continue;
        };
        head.truncate(read);
        if connections
            .try_send(HandedOver {
                fd: stream.into(),
                head,
            })
            .is_ok()
        {
            connections.wake();
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn play(
    shard: u16,
    queue: &Receiver<ToShard>,
    script: &Script,
    asks: &Inlet<(u16, FromShard)>,
    answered: &Sender<(AskId, Answer)>,
) {
    for message in queue {
        let reply = match message {
            ToShard::Answer { ask, answer } => {
                answered.send((ask, answer)).unwrap();
                continue;
            }
            ToShard::Invalidate {
                ticket, version, ..
            } => {
                script.versions.lock().unwrap().push(version);
                FromShard::Invalidated { ticket }
            }
            ToShard::History {
                ticket,
                channel,
                query,
                limit,
            } => {
                script
                    .asked_history
                    .lock()
                    .unwrap()
                    .push((shard, channel, query, limit));
                let result = script
                    .history
                    .lock()
                    .unwrap()
                    .clone()
                    .unwrap_or(Ok(Vec::new()));
                FromShard::History { ticket, result }
            }
            ToShard::Status { ticket } => {
                let store_error = script.store_error.lock().unwrap().clone();
                let status = ShardStatus {
                    connections: 3,
                    sessions: 2,
                    store_error,
                };
                FromShard::Status { ticket, status }
            }
        };
        if script.silent.load(Ordering::SeqCst) {
            continue;
        }
        thread::sleep(Duration::from_millis(
            script.delay_ms.load(Ordering::SeqCst),
        ));
        if matches!(reply, FromShard::Invalidated { .. }) {
            script.invalidated.fetch_add(1, Ordering::SeqCst);
        }
        asks.try_send((shard, reply)).unwrap();
        asks.wake();
    }
}

impl Stage {
    pub(crate) fn get(&self, token: &str, path: &str) -> Reply {
        let request = self.agent.get(format!("http://{}{path}", self.address));
        read(
            request
                .header("authorization", format!("Bearer {token}"))
                .call()
                .unwrap(),
        )
    }

    pub(crate) fn post(&self, token: &str, path: &str, body: &Value) -> Reply {
        self.post_raw(
            token,
            path,
            Some("application/json"),
            body.to_string().as_bytes(),
        )
    }

    pub(crate) fn post_raw(
        &self,
        token: &str,
        path: &str,
        content_type: Option<&str>,
        body: &[u8],
    ) -> Reply {
        let mut request = self.agent.post(format!("http://{}{path}", self.address));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        read(request.send(body).unwrap())
    }

    /// Registers and gives the token.
    pub(crate) fn user(&self, username: &str) -> String {
        let body = json!({ "username": username, "password": "correct horse" });
        let user = self.post("", "/api/auth/register", &body).expect(201);
        user["token"].as_str().unwrap().to_owned()
    }

    /// Creates a guild and gives it.
    pub(crate) fn guild(&self, token: &str) -> Value {
        self.post(token, "/api/guilds", &json!({ "name": "A guild" }))
            .expect(201)["guild"]
            .clone()
    }

    /// Has `member` invite `guest` to the guild.
    pub(crate) fn join(&self, member: &str, guild: &str, guest: &str) -> Value {
        let invite = self.post(member, &format!("/api/guilds/{guild}/invites"), &json!({}));
        let code = invite.expect(201)["invite"]["code"]
            .as_str()
            .unwrap()
            .to_owned();
        self.post(guest, &format!("/api/invites/{code}"), &json!({}))
            .expect(200)
    }

    /// Asks as shard 0 does and waits for the answers, in the order of the asks.
    pub(crate) fn ask(&self, asks: Vec<Ask>) -> Vec<Answer> {
        let handle = self.handle.as_ref().unwrap();
        let first = self.next_ask.fetch_add(asks.len() as u64, Ordering::SeqCst);
        let count = asks.len();
        for (ask, ask_body) in (first..).map(AskId).zip(asks) {
            handle
                .asks
                .try_send((0, FromShard::Ask { ask, ask_body }))
                .unwrap();
        }
        handle.asks.wake();
        let mut answers: Vec<_> = (0..count)
            .map(|_| self.answers.recv_timeout(Duration::from_secs(60)).unwrap())
            .collect();
        answers.sort_by_key(|(ask, _)| *ask);
        let ids: Vec<u64> = answers.iter().map(|(ask, _)| ask.0).collect();
        assert_eq!(
            ids,
            (first..first + count as u64).collect::<Vec<_>>(),
            "one answer each"
        );
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    pub(crate) fn identify(&self, token: &str) -> Answer {
        self.ask(vec![Ask::Identify {
            token: token.to_owned(),
        }])
        .pop()
        .unwrap()
    }
}

fn read(mut response: ureq::http::Response<ureq::Body>) -> Reply {
    let text = response.body_mut().read_to_string().unwrap();
    let header = |name: &str| Some(response.headers().get(name)?.to_str().unwrap().to_owned());
    let kind = header("content-type").unwrap_or_default();
    let body = if kind == "application/json" {
        serde_json::from_str(&text).unwrap()
    } else {
        Value::String(text)
    };
    Reply {
        status: response.status().as_u16(),
        retry_after: header("retry-after"),
        body,
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            handle.shutdown();
        }
    }
}
