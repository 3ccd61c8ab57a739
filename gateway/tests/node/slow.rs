//! Who does not read is let go; nobody else waits for them, and they lose nothing.
//!
//! The kernel's buffers are filled too: what is sent is several megabytes.

use throng_protocol::Event;

use super::client::{Client, Over, resume_after};
use super::place::Place;
use super::process::Launch;

/// Of 8,000 bytes each: far more than the backlog and the kernel's buffers hold.
const MESSAGES: u64 = 500;
/// What is under way at a time: more could make a healthy client on a busy machine look slow.
const BATCH: u64 = 10;

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
