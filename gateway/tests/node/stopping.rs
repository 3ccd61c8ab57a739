//! An orderly end loses nothing, and everything goes on after it.
//!
//! Ends without order are in `killed`.

use throng_protocol::Event;

use super::client::{Client, Over, resume_after};
use super::place::Place;
use super::process::{Launch, PATIENCE};
use super::raw::{Heard, Raw};
use super::rest::Rest;

#[test]
fn everything_goes_on_with_another_number_of_shards() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob"]);
    let rest = Rest::new(server.address);
    let mut channels = vec![place.channel];
    channels.extend((0..5).map(|number| place.add_channel(&rest, &format!("more-{number}"))));
    let mut ada = place.enter(&server, 0);
    let mut first = Vec::new();
    for channel in &channels {
        ada.store(*channel, "one");
        let nonce = ada.say(*channel, "two");
        first.push((nonce, ada.acked(nonce)));
    }
    drop(ada);
    server.stop();

    for (shards, newest) in [(3, 2), (1, 3), (2, 4)] {
        let server = Launch::serve(data.path()).set("SHARDS", shards).start();
        let rest = Rest::new(server.address);
        let mut ada = place.enter(&server, 0);
        let mut bob = Client::connect(server.address);
        let after: Vec<_> = channels.iter().map(|channel| (*channel, 1)).collect();
        assert_eq!(
            bob.identify(place.token(1), Some(resume_after(&after)))
                .len(),
            1
        );
        for (channel, (nonce, stored)) in channels.iter().zip(&first) {
            ada.say_as(*channel, "two", *nonce);
            assert_eq!(ada.acked(*nonce), *stored, "{shards} shards");
            assert_eq!(bob.subscribed(*channel), newest);
            let next = ada.store(*channel, "more");
            assert_eq!(next.1, newest + 1, "{shards} shards");
            assert!(next.0 > stored.0, "ids rise across restarts");
            let past = rest.past(place.token(0), *channel);
            let seqs: Vec<u64> = past.iter().map(|message| message.seq.0).collect();
            assert_eq!(seqs, (1..=newest + 1).collect::<Vec<u64>>());
            assert_eq!((past[0].content.as_str(), past[1].id), ("one", stored.0));
        }
        let mut heard = vec![Vec::new(); channels.len()];
        for _ in 0..channels.len() as u64 * newest {
            let message = bob.message();
            let which = channels.iter().position(|id| *id == message.channel_id);
            heard[which.unwrap()].push(message.seq.0);
        }
        assert!(
            heard
                .iter()
                .all(|seqs| seqs.iter().copied().eq(2..=newest + 1))
        );
        drop((ada, bob));
        server.stop();
    }
}

#[test]
fn clients_are_told_and_nobody_waits_for_those_who_leave() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path())
        .set("DRAIN_S", PATIENCE.as_secs() * 10)
        .start();
    let place = Place::make(&server, &["ada", "bob"]);
    let clients = [place.enter(&server, 0), place.enter(&server, 1)];
    let mut idle = Raw::connect(server.address);
    idle.send(b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_eq!(idle.answer().status, 200);
    server.terminate();
    assert_eq!(
        idle.next(),
        Heard::End,
        "between requests nobody is waited for"
    );
    for mut client in clients {
        match client.next() {
            Event::Reconnect { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    server.ends_well();
}

#[test]
fn who_stays_is_shown_out_and_what_they_said_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada"]);
    let mut ada = place.enter(&server, 0);
    ada.store(place.channel, "before");
    server.terminate();
    ada.find(|event| matches!(event, Event::Reconnect { .. }).then_some(()));
    let said = ada.say(place.channel, "meanwhile");
    let stored = ada.acked(said);
    assert_eq!(ada.end(), Over::Closed(Some(4013)));
    server.ends_well();

    let server = Launch::serve(data.path()).start();
    let past = Rest::new(server.address).past(place.token(0), place.channel);
    let ids: Vec<_> = past.iter().map(|message| message.id).collect();
    assert_eq!(ids[1..], [stored.0]);
}
