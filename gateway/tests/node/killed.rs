//! SIGKILL at any moment: what was acknowledged is there, once, in its place.
//!
//! Rounds over one data directory: people send, the process is killed, starts again with another
//! number of shards, and whoever got no answer asks again with the same nonce.
//!
//! Invariants checked: every acknowledged message is in history with its id, seq and text; seq is
//! dense; no text is there twice; what a subscriber heard is what is stored.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use throng_protocol::{ChannelId, Event, MessageId, Nonce};

use super::client::{Client, message, new_nonce};
use super::place::Place;
use super::process::{Launch, Server};
use super::rest::Rest;

const ROUNDS: u16 = 8;
const CHANNELS: usize = 5;
const SENDERS: usize = 4;
/// Messages that one sender has open at a time.
const OPEN_MAX: usize = 8;
/// New messages of one sender in one round.
const NEW_MAX: usize = 500;
/// The latest moment of a kill after the first answer of a round, in milliseconds.
const KILL_MS_MAX: u64 = 100;

/// Starts that are killed too, after each kill, and their latest moment, in milliseconds.
const STARTS_KILLED: usize = 3;
const START_MS_MAX: u64 = 80;

/// A message, as its sender knows it.
struct Sent {
    channel: ChannelId,
    nonce: Nonce,
    content: String,
    stored: Option<(MessageId, u64)>,
}

/// Somebody who sends, over all rounds.
struct Sender {
    token: String,
    channels: Vec<ChannelId>,
    sent: Vec<Sent>,
    random: StdRng,
}

type Heard = BTreeMap<(ChannelId, u64), MessageId>;

#[test]
fn what_was_acknowledged_survives() {
    let data = tempfile::tempdir().unwrap();
    let mut random: StdRng = rand::make_rng();
    let mut server = Launch::serve(data.path()).start();
    let place = Place::make(&server, &["ada", "bob", "cleo", "dan", "eve"]);
    let rest = Rest::new(server.address);
    let mut channels = vec![place.channel];
    channels.extend((1..CHANNELS).map(|number| place.add_channel(&rest, &format!("c-{number}"))));
    let mut senders: Vec<Sender> = (0..SENDERS)
        .map(|number| Sender {
            token: place.token(number).to_owned(),
            channels: channels.clone(),
            sent: Vec::new(),
            random: rand::make_rng(),
        })
        .collect();
    let mut heard = Heard::new();
    for round in 0..ROUNDS {
        let listener = listen(server.address, place.token(SENDERS), &channels);
        let answers = Arc::new(AtomicU64::new(0));
        let sending: Vec<_> = senders
            .into_iter()
            .map(|sender| sender.start(server.address, &answers))
            .collect();
        while answers.load(Ordering::Relaxed) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        thread::sleep(Duration::from_millis(random.random_range(0..KILL_MS_MAX)));
        server.kill();
        senders = sending
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .collect();
        heard.extend(listener.join().unwrap());
        for _ in 0..STARTS_KILLED {
            let starting = Launch::serve(data.path()).spawn();
            thread::sleep(Duration::from_millis(random.random_range(0..START_MS_MAX)));
            drop(starting);
        }
        server = Launch::serve(data.path())
            .set("SHARDS", 1 + round % 3)
            .start();
        check(&server, &place, &channels, &senders, &heard);
    }
    for sender in &mut senders {
        sender.settle(server.address);
        assert!(sender.sent.iter().all(|sent| sent.stored.is_some()));
    }
    check(&server, &place, &channels, &senders, &heard);
    let stored: usize = senders.iter().map(|sender| sender.sent.len()).sum();
    let past = channels.iter().map(|channel| {
        let past = Rest::new(server.address).past(place.token(0), *channel);
        past.len()
    });
    assert_eq!(past.sum::<usize>(), stored, "each message once");
    server.stop();
}

impl Sender {
    /// Sends until the server is gone.
    fn start(mut self, address: SocketAddr, answers: &Arc<AtomicU64>) -> thread::JoinHandle<Self> {
        let answers = Arc::clone(answers);
        thread::spawn(move || {
            if let Some(mut client) = Client::try_ready(address, &self.token) {
                let _ = self.send(&mut client, &answers);
            }
            self
        })
    }

    /// Everything that is unanswered again, then new messages, until the connection breaks.
    fn send(&mut self, client: &mut Client, answers: &AtomicU64) -> Result<(), ()> {
        let mut open = self.resend(client)?;
        let last = self.sent.len() + NEW_MAX;
        loop {
            while open < OPEN_MAX && self.sent.len() < last {
                let sent = self.compose();
                let said = client.try_tell(&message(sent.channel, &sent.content, sent.nonce));
                self.sent.push(sent);
                said.map_err(drop)?;
                open += 1;
            }
            self.answered(&client.try_next().map_err(drop)?);
            answers.fetch_add(1, Ordering::Relaxed);
            open -= 1;
        }
    }

    /// Waits for an answer to everything that was ever sent.
    fn settle(&mut self, address: SocketAddr) {
        let mut client = Client::ready(address, &self.token);
        for _ in 0..self.resend(&mut client).unwrap() {
            self.answered(&client.next());
        }
    }

    fn resend(&self, client: &mut Client) -> Result<usize, ()> {
        let open = self.sent.iter().filter(|sent| sent.stored.is_none());
        let mut count = 0;
        for sent in open {
            let said = client.try_tell(&message(sent.channel, &sent.content, sent.nonce));
            said.map_err(drop)?;
            count += 1;
        }
        Ok(count)
    }

    fn compose(&mut self) -> Sent {
        let nonce = new_nonce();
        let padding = "x".repeat(self.random.random_range(0..1_900));
        Sent {
            channel: self.channels[self.random.random_range(0..self.channels.len())],
            nonce,
            content: format!("{nonce} {padding}"),
            stored: None,
        }
    }

    fn answered(&mut self, event: &Event) {
        let Event::MessageAck {
            nonce,
            message_id,
            seq,
        } = event
        else {
            panic!("no answer: {event:?}")
        };
        let sent = self.sent.iter_mut().rev().find(|sent| sent.nonce == *nonce);
        let before = sent.unwrap().stored.replace((*message_id, seq.0));
        assert_eq!(before, None, "answered once");
    }
}

/// Hears all channels until the server is gone; says what it heard.
fn listen(address: SocketAddr, token: &str, channels: &[ChannelId]) -> thread::JoinHandle<Heard> {
    let mut client = Client::ready(address, token);
    let mut heads: HashMap<ChannelId, u64> = channels
        .iter()
        .map(|channel| (*channel, client.subscribe(*channel, None)))
        .collect();
    thread::spawn(move || {
        let mut heard = Heard::new();
        while let Ok(event) = client.try_next() {
            let Event::MessageCreate { message } = event else {
                continue;
            };
            let head = heads.get_mut(&message.channel_id).unwrap();
            *head += 1;
            assert_eq!(message.seq.0, *head, "no gap and no duplicate");
            heard.insert((message.channel_id, message.seq.0), message.id);
        }
        heard
    })
}

fn check(
    server: &Server,
    place: &Place,
    channels: &[ChannelId],
    senders: &[Sender],
    heard: &Heard,
) {
    let rest = Rest::new(server.address);
    let mut stored = HashMap::new();
    let mut contents = HashSet::new();
    for channel in channels {
        let past = rest.past(place.token(0), *channel);
        for (seq, message) in (1..).zip(past) {
            assert_eq!(message.seq.0, seq, "dense");
            stored.insert((*channel, seq), (message.id, message.content.clone()));
            assert!(contents.insert(message.content), "no message twice");
        }
    }
    for sent in senders.iter().flat_map(|sender| &sender.sent) {
        if let Some((id, seq)) = sent.stored {
            let found = stored.get(&(sent.channel, seq));
            assert_eq!(found, Some(&(id, sent.content.clone())));
        }
    }
    for (place, id) in heard {
        let found = stored.get(place).map(|(id, _)| id);
        assert_eq!(found, Some(id), "what was delivered is stored");
    }
}
