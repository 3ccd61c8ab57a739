//! Who does not read is let go; nobody else waits for them, and they lose nothing.
//!
//! The kernel's buffers are filled too: what is sent is several megabytes.

use throng_protocol::{Command, Event};

use super::client::{Client, Over, resume_after};
use super::place::Place;
use super::process::Launch;

/// Of 8,000 bytes each: far more than the backlog and the kernel's buffers hold.
const MESSAGES: u64 = 500;
/// What is under way at a time: more could make a healthy client on a busy machine look slow.
const BATCH: u64 = 10;

/// Who asks and does not read the answers, how much each asks, and the bytes of one answer: what
/// waits for one of them is below its own limit, what waits for all is above that of all.
const DEAF: usize = 24;
const PINGS: usize = 6_000;
const PING_BYTES: usize = 125;
const BACKLOG_BYTES: usize = 1 << 20;
const BACKLOGS_BYTES: usize = 4 << 20;

#[test]
fn a_slow_consumer_is_let_go_and_resumes() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob", "slow"]);
    let channel = place.channel;
    let mut slow = Client::connect_narrow(server.address);
    slow.identify(place.token(2), None);
    slow.subscribe(channel, None);
    let mut bob = place.enter(&server, 1);
    bob.subscribe(channel, None);
    let mut ada = place.enter(&server, 0);
    let content = "😀".repeat(2_000);
    let mut seqs = 1..=MESSAGES;
    for _ in 0..MESSAGES / BATCH {
        let said: Vec<_> = (0..BATCH).map(|_| ada.say(channel, &content)).collect();
        for nonce in said {
            ada.acked(nonce);
            assert_eq!(bob.message().seq.0, seqs.next().unwrap());
        }
    }

    let newest = read_to_the_end(&mut slow);
    assert!(newest < MESSAGES, "it was not let go");
    let mut back = Client::connect_narrow(server.address);
    let resume = resume_after(&[(channel, newest)]);
    back.identify(place.token(2), Some(resume));
    assert_eq!(back.subscribed(channel), MESSAGES);
    for seq in newest + 1..=MESSAGES {
        assert_eq!(back.message().seq.0, seq, "a replay is paced by its reader");
    }
    ada.store(channel, "live");
    assert_eq!(back.message().seq.0, MESSAGES + 1);
    assert!(bob.is_alive());
}

#[test]
fn when_too_much_waits_for_all_the_largest_backlogs_give_way() {
    const { assert!(PINGS * (PING_BYTES + 2) < BACKLOG_BYTES) };
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path())
        .set("SHARDS", 1)
        .set("LIMITS__BACKLOG_BYTES_MAX", BACKLOG_BYTES)
        .set("LIMITS__BACKLOGS_BYTES_MAX", BACKLOGS_BYTES)
        .set("LIMITS__SESSIONS__PER_USER", 0)
        .start();
    let place = Place::make(&server, &["ada", "bob", "deaf"]);
    let (mut ada, mut bob) = (place.enter(&server, 0), place.enter(&server, 1));
    bob.subscribe(place.channel, None);
    let mut deaf: Vec<Client> = (0..DEAF)
        .map(|_| {
            let mut client = Client::connect_narrow(server.address);
            client.identify(place.token(2), None);
            client
        })
        .collect();
    for client in &mut deaf {
        // One that has been let go need not ask any more.
        let _ = (0..PINGS).try_for_each(|_| client.try_ping(PING_BYTES));
        ada.store(place.channel, "live");
        assert_eq!(bob.message().content, "live");
    }
    let stayed = deaf
        .iter_mut()
        .filter_map(|client| answers(client).then_some(()));
    let stayed = stayed.count();
    assert!(stayed < DEAF, "nobody gave way");
    assert!(stayed > 0, "everybody gave way");
}

/// Whether the server still answers, after all that it has said.
fn answers(client: &mut Client) -> bool {
    let asked = client.try_tell(&Command::Heartbeat);
    loop {
        match asked.and_then(|()| client.try_next()) {
            Ok(Event::HeartbeatAck) => return true,
            Ok(_) => {}
            Err(Over::Lost | Over::Closed(Some(4008))) => return false,
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Reads what had been sent before the connection ended; gives the newest seq.
fn read_to_the_end(slow: &mut Client) -> u64 {
    let mut newest = 0;
    loop {
        match slow.try_next() {
            Ok(Event::MessageCreate { message }) => {
                newest += 1;
                assert_eq!(message.seq.0, newest, "no gap before the end");
            }
            Ok(other) => panic!("{other:?}"),
            Err(Over::Lost | Over::Closed(Some(4008))) => return newest,
            Err(other) => panic!("{other:?}"),
        }
    }
}
