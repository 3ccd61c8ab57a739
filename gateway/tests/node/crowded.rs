//! A server that is full or short of memory: who comes is told when to come back, who is there
//! notices nothing.
//!
//! Memory is really used up here, a bounded amount of it, by the test itself.

use std::net::SocketAddr;
use std::time::Duration;

use throng_protocol::ChannelId;
use throng_protocol::frame::Opcode;

use super::client::Client;
use super::place::Place;
use super::process::{Launch, Server};
use super::raw::{Answer, Heard, Raw, frame};

/// What a server has to spare beyond what it is told to keep.
const SPARE_BYTES: u64 = 256 << 20;
/// What is used up at a time, and how often at most.
const STEP_BYTES: usize = 64 << 20;
const STEPS_MAX: usize = 32;
/// Others on this machine take and free memory, too: how often a server is started anew.
const ATTEMPTS_MAX: usize = 20;
/// Longer than the server takes to notice.
const MOMENT: Duration = Duration::from_millis(300);

#[track_caller]
fn check_refusal(answer: &Answer) {
    assert_eq!(answer.status, 503, "{answer:?}");
    let after = answer
        .head
        .lines()
        .find_map(|line| line.strip_prefix("retry-after: "))
        .map(|seconds| seconds.parse::<u32>().unwrap());
    assert!((1..=30).contains(&after.unwrap()), "{answer:?}");
    assert_eq!(answer.body["error"], "UNAVAILABLE");
}

/// Two members, one of whom talks to the other.
struct Pair {
    ada: Client,
    bob: Client,
    channel: ChannelId,
}

impl Pair {
    fn enter(server: &Server, place: &Place) -> Option<Self> {
        let ada = Client::try_ready(server.address, place.token(0))?;
        let mut bob = Client::try_ready(server.address, place.token(1))?;
        bob.subscribe(place.channel, None);
        Some(Self {
            ada,
            bob,
            channel: place.channel,
        })
    }

    #[track_caller]
    fn check(&mut self) {
        let (_, seq) = self.ada.store(self.channel, "still here?");
        assert_eq!(self.bob.message().seq.0, seq);
    }
}

#[test]
fn who_is_one_too_many_is_told_when_to_come_back() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    server.stop();
    let server = Launch::serve(data.path())
        .set("SHARDS", 1)
        .set("CONNECTIONS_MAX", 3)
        .start();
    let mut pair = Pair::enter(&server, &place).unwrap();
    let third = Raw::hello(server.address);
    for _ in 0..10 {
        check_refusal(&refused(server.address).unwrap());
        pair.check();
    }
    drop(third);
    let let_in = || refused(server.address).is_none();
    assert!(
        std::iter::repeat_with(let_in)
            .take(10_000)
            .any(|is_in| is_in),
        "who left made room"
    );
    pair.check();
    server.stop();
}

/// The answer to somebody who was not let in.
fn refused(address: SocketAddr) -> Option<Answer> {
    Raw::try_open(address, "/gateway").err()
}

/// What the machine has to spare, as the server counts it.
fn free_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.unwrap().trim().trim_end_matches(" kB");
        kib.parse::<u64>().unwrap()
    };
    let files = field("Active(file):") + field("Inactive(file):");
    let busy = field("Dirty:") + field("Writeback:");
    (field("MemFree:") + files.saturating_sub(busy) / 2) << 10
}

#[test]
fn short_of_memory_nobody_new_comes_in_and_the_others_go_on() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    server.stop();
    let start = || {
        let server = Launch::serve(data.path())
            .set("MEMORY_RESERVE_BYTES", free_bytes() - SPARE_BYTES)
            .start();
        let pair = Pair::enter(&server, &place);
        pair.map(|pair| (server, pair))
    };
    let mut attempts = std::iter::repeat_with(start).take(ATTEMPTS_MAX);
    let (server, mut pair) = attempts.find_map(|started| started).unwrap();
    pair.check();

    let mut used = Vec::new();
    let answer = loop {
        assert!(used.len() < STEPS_MAX, "it lets everybody in");
        used.push(vec![1_u8; STEP_BYTES]);
        std::thread::sleep(MOMENT);
        if let Some(answer) = refused(server.address) {
            break answer;
        }
    };
    check_refusal(&answer);
    for _ in 0..10 {
        pair.check();
    }
    drop(used);
    pair.check();
    server.stop();
}

#[test]
fn what_is_begun_and_never_ended_is_bounded() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path())
        .set("SHARDS", 1)
        .set("LIMITS__INCOMPLETE_BYTES_MAX", 256 << 10)
        .start();
    let place = Place::make(&server, &["ada", "bob"]);
    let mut pair = Pair::enter(&server, &place).unwrap();
    let longest = frame(Opcode::Text, &[b' '; 64 << 10]);
    let begin = |_| {
        let mut raw = Raw::hello(server.address);
        raw.send(&longest[..longest.len() - 1]);
        raw
    };
    let begun: Vec<Raw> = (0..10).map(begin).collect();
    pair.check();
    let mut honest = Raw::hello(server.address);
    let whole = frame(Opcode::Text, b"{\"type\":\"HEARTBEAT\"}");
    for byte in &whole {
        honest.send(&[*byte]);
    }
    assert_eq!(honest.event()["type"], "HEARTBEAT_ACK");
    let ended = begun.into_iter().map(|mut raw| {
        raw.send(&longest[longest.len() - 1..]);
        match raw.next() {
            // It is no JSON.
            Heard::Text(text) => {
                assert!(text.contains("INVALID_PAYLOAD"), "{text}");
                false
            }
            other => {
                assert_eq!(other, Heard::Close(Some(1013)));
                true
            }
        }
    });
    let ended = ended.filter(|is_ended| *is_ended).count();
    assert!((7..10).contains(&ended), "{ended} were ended");
    pair.check();
    server.stop();
}

#[test]
fn a_server_without_memory_lets_nobody_in() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path())
        .set("MEMORY_RESERVE_BYTES", u64::MAX)
        .start();
    check_refusal(&refused(server.address).unwrap());
    server.stop();
}
