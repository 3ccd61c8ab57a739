//! What a message allocates in the steady state, when tables and queues have the size that they need.
//!
//! It counts what two shards do, from the bytes of a frame to the outputs; sockets and store are not
//! there. A table that grows while it is counted is less than one allocation for each message.
//!
//! Invariant: what is counted depends on no clock and no load, so the figures are exact.

use throng::config::Config;
use throng_protocol::frame::{Opcode, encode_masked};
use throng_protocol::{ChannelId, Nonce};

use crate::counting::allocations_of;
use crate::crowd::{Crowd, EVERYBODY, circle_channel, id};

/// Everybody is in one channel of so many, and in four of four.
const SESSIONS: u32 = 1_000;

/// Messages before it counts, and while it does.
const WARM_UP: u32 = 3_000;
const COUNTED: u32 = 2_000;

/// Allocations of one SEND_MESSAGE that is acknowledged and delivered: what leaves the shard and is not
/// gone when the next one comes. The record's body, the frame and its count of references, the
/// acknowledgement; and the commit's records, since each is committed alone here.
const MESSAGE_ALLOCATIONS: u64 = 5;

/// More of one that is ordered on another shard than it came to, while nothing goes the other way:
/// the request with its two texts, which stays there.
const ONE_WAY_ALLOCATIONS: u64 = 3;

fn crowd() -> Crowd {
    let mut config = Config::default();
    config.limits.message.count = 0;
    let mut crowd = Crowd::new(&config, SESSIONS);
    for number in 0..SESSIONS {
        crowd.enter(number);
    }
    crowd
}

fn frames(text: impl Fn(u32) -> String, numbers: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    let frame =
        |number| encode_masked(Opcode::Text, text(number).as_bytes(), [1, 2, 3, 4]).to_vec();
    numbers.map(frame).collect()
}

/// Allocations while the user's frames are handled.
fn allocations(crowd: &mut Crowd, user: u32, frames: &mut [Vec<u8>]) -> u64 {
    let handle = || {
        frames
            .iter_mut()
            .for_each(|frame| crowd.receive(user, frame))
    };
    allocations_of(handle).0
}

/// Allocations of each of many messages to a channel, and recipients of each.
fn each_message(crowd: &mut Crowd, user: u32, channel: ChannelId) -> (u64, u64) {
    let send = |number| {
        let nonce = Nonce::from_u128(id(9, number) ^ channel.as_u128());
        format!(
            r#"{{"type":"SEND_MESSAGE","channelId":"{channel}","nonce":"{nonce}","content":"{}"}}"#,
            "hello, everybody! ".repeat(8)
        )
    };
    allocations(crowd, user, &mut frames(send, 0..WARM_UP));
    let recipients = crowd.recipients;
    let mut frames = frames(send, WARM_UP..WARM_UP + COUNTED);
    let allocations = allocations(crowd, user, &mut frames);
    let counted = u64::from(COUNTED);
    let recipients = crowd.recipients - recipients;
    assert_eq!(recipients % counted, 0, "every message has all recipients");
    (allocations / counted, recipients / counted)
}

#[test]
fn signs_of_life_allocate_nothing() {
    let mut crowd = crowd();
    let heartbeat = |_| r#"{"type":"HEARTBEAT"}"#.to_owned();
    let ping = encode_masked(Opcode::Ping, b"", [1, 2, 3, 4]).to_vec();
    let pong = encode_masked(Opcode::Pong, b"", [1, 2, 3, 4]).to_vec();
    for signs in [frames(heartbeat, 0..100), vec![ping; 100], vec![pong; 100]] {
        let (mut first, mut later) = (signs.clone(), signs);
        allocations(&mut crowd, 7, &mut first);
        assert_eq!(allocations(&mut crowd, 7, &mut later), 0);
    }
}

#[test]
fn a_quiet_shard_allocates_nothing() {
    let mut crowd = crowd();
    crowd.pass(20_000);
    assert_eq!(allocations_of(|| crowd.pass(5_000)).0, 0);
}

#[test]
fn a_message_allocates_as_often_whoever_hears_it() {
    let mut crowd = crowd();
    let (few, hears_few) = each_message(&mut crowd, 7, circle_channel(7, 1));
    let (many, hears_many) = each_message(&mut crowd, 7, EVERYBODY);
    println!("{few} allocations for {hears_few} recipients, {many} for {hears_many}");
    assert_eq!((hears_few, hears_many), (4, u64::from(SESSIONS)));
    assert_eq!(few, MESSAGE_ALLOCATIONS + ONE_WAY_ALLOCATIONS);
    assert_eq!(many, MESSAGE_ALLOCATIONS);
}
