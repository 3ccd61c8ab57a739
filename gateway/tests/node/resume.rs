//! Who comes back gets exactly what they missed.
//!
//! Across restarts and kills: see `stopping` and `killed`.

use throng_protocol::Event;

use super::client::{Client, resume_after};
use super::place::Place;
use super::process::Launch;
use super::rest::Rest;

/// Messages beyond which a replay becomes RESYNC.
const REPLAY_MESSAGES_MAX: u64 = 1_000;

#[test]
fn exactly_what_was_missed_then_live() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let rest = Rest::new(server.address);
    let channels = [place.channel, place.add_channel(&rest, "second")];
    let mut ada = place.enter(&server, 0);
    let mut bob = place.enter(&server, 1);
    bob.subscribe(channels[0], None);
    for number in 1..=3 {
        ada.store(channels[0], &format!("{number}"));
        assert_eq!(bob.message().seq.0, number);
    }
    drop(bob);
    for number in 4..=130 {
        ada.store(channels[0], &format!("{number}"));
    }
    ada.store(channels[1], "1");

    let mut bob = Client::connect(server.address);
    let resume = resume_after(&[(channels[0], 3), (channels[1], 0)]);
    bob.identify(place.token(1), Some(resume));
    let heads = channels.map(|channel| bob.subscribed(channel));
    assert_eq!(heads, [130, 1]);
    ada.store(channels[0], "131");
    let mut heard = [Vec::new(), Vec::new()];
    for _ in 0..129 {
        let message = bob.message();
        assert_eq!(message.content, message.seq.to_string());
        heard[usize::from(message.channel_id == channels[1])].push(message.seq.0);
    }
    assert_eq!(heard[0], (4..=131).collect::<Vec<u64>>());
    assert_eq!(heard[1], [1]);
    ada.store(channels[1], "2");
    assert_eq!(bob.message().seq.0, 2, "live");
}

#[test]
fn a_subscription_may_begin_in_the_past_or_beyond_the_head() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let channel = place.channel;
    let mut ada = place.enter(&server, 0);
    for number in 1..=5 {
        ada.store(channel, &format!("{number}"));
    }
    let check = |after: Option<u64>, expected: &[u64]| {
        let mut client = place.enter(&server, 0);
        assert_eq!(client.subscribe(channel, after), 5);
        let seqs: Vec<u64> = expected.iter().map(|_| client.message().seq.0).collect();
        assert_eq!(seqs, expected);
        client
    };
    check(Some(0), &[1, 2, 3, 4, 5]);
    check(Some(4), &[5]);
    let mut live = [
        check(None, &[]),
        check(Some(5), &[]),
        check(Some(900), &[]),
        check(Some(3), &[4, 5]),
    ];
    ada.store(channel, "6");
    for client in &mut live {
        assert_eq!(client.message().seq.0, 6);
    }
}

#[test]
fn who_missed_too_much_is_told_to_fetch_it() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let channel = place.channel;
    let mut ada = place.enter(&server, 0);
    let nonces: Vec<_> = (0..=REPLAY_MESSAGES_MAX)
        .map(|number| ada.say(channel, &format!("{number}")))
        .collect();
    for nonce in nonces {
        ada.acked(nonce);
    }
    let mut late = Client::connect(server.address);
    late.identify(place.token(0), Some(resume_after(&[(channel, 0)])));
    assert_eq!(late.subscribed(channel), REPLAY_MESSAGES_MAX + 1);
    match late.next() {
        Event::Resync { channels, .. } => {
            assert_eq!(channels.len(), 1);
            assert_eq!(channels[0].channel_id, channel);
            assert_eq!(channels[0].seq.0, REPLAY_MESSAGES_MAX + 1);
        }
        other => panic!("{other:?}"),
    }
    let mut just = Client::connect(server.address);
    just.identify(place.token(0), Some(resume_after(&[(channel, 1)])));
    for seq in 2..=REPLAY_MESSAGES_MAX + 1 {
        assert_eq!(just.message().seq.0, seq);
    }
    ada.store(channel, "live");
    for client in [&mut late, &mut just] {
        assert_eq!(client.message().seq.0, REPLAY_MESSAGES_MAX + 2);
    }
}
