//! The operations whose instructions are counted, each as it happens in a server that has been
//! running for a while.
//!
//! Invariants: an operation's inputs are made before anything is counted; an operation that did
//! nothing fails.

use std::hint::black_box;

use throng_protocol::frame::{Chunk, Decoder, Item, Opcode, encode_masked};
use throng_protocol::{
    Author, Command, Event, Message, MessageId, Rev, Seq, TextLimits, Timestamp, UserId,
    encode_frame, parse,
};

use crate::stage::{History, PAGE_MESSAGES, Written};
use crate::talk::{self, SPEAKER, Valley, channel_of, crowd, heartbeat, message, text_frame};

/// Something that can be done again and again.
type Operation = Box<dyn FnMut()>;

/// See the file's head.
#[derive(Clone, Copy)]
pub(crate) struct Scenario {
    /// As it stands in the baseline.
    pub(crate) name: &'static str,
    /// How often it is counted: so often that a table that grows now and then does not show.
    pub(crate) operations: u32,
    /// Makes it ready to be done so often, and no more.
    ready: fn(times: u32) -> Operation,
}

pub(crate) const SCENARIOS: [Scenario; 8] = [
    scenario("unmask_1_kib", 1_000, unmask),
    scenario("send_message_codec", 1_000, codec),
    scenario("echo_64_bytes", 1_000, echo),
    scenario("heartbeat", 1_000, beat),
    scenario("send_message_to_4", 1_000, |times| speak(4, times)),
    scenario("send_message_to_1000", 200, |times| speak(1_000, times)),
    scenario("append_16", 200, append),
    scenario("page_50", 200, page),
];

const fn scenario(name: &'static str, operations: u32, ready: fn(u32) -> Operation) -> Scenario {
    Scenario {
        name,
        operations,
        ready,
    }
}

impl Scenario {
    /// The one with this name.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn named(name: &str) -> Self {
        let found = SCENARIOS.iter().find(|scenario| scenario.name == name);
        *found.unwrap_or_else(|| panic!("no operation is called {name}"))
    }

    /// Does it so often, after half as many that bring tables and queues to their size.
    pub(crate) fn run(&self, operations: u32) {
        let before = operations / 2;
        let mut operation = (self.ready)(before + operations);
        for _ in 0..before {
            operation();
        }
        counted_operations(&mut *operation, operations);
    }
}

/// Callgrind counts between this function's beginning and its end: it finds it by its name.
#[inline(never)]
fn counted_operations(operation: &mut dyn FnMut(), times: u32) {
    for _ in 0..times {
        operation();
    }
}

/// Hands out each of the inputs once; they are given back when nothing is counted any more.
fn each<T: 'static>(inputs: Vec<T>, mut done: impl FnMut(&mut T) + 'static) -> Operation {
    let (mut inputs, mut next) = (inputs, 0);
    Box::new(move || {
        done(&mut inputs[next]);
        next += 1;
    })
}

/// A binary frame decoded, of which unmasking is nearly all; each time it masks or unmasks the same.
fn unmask(_times: u32) -> Operation {
    let mut frame = encode_masked(Opcode::Binary, &[b'm'; 1 << 10], [1, 2, 3, 4]).to_vec();
    Box::new(move || {
        let mut decoder = Decoder::server(1 << 16);
        let mut chunk = Chunk::new(black_box(&mut frame));
        let item = decoder.next(&mut chunk).expect("no rule is broken");
        assert!(matches!(black_box(item), Some(Item::Binary(_))));
        assert_eq!(decoder.next(&mut chunk), Ok(None));
    })
}

/// What a message costs on the wire: decoded, parsed, told to others.
fn codec(times: u32) -> Operation {
    let frames = (0..times).map(|number| message(channel_of(4), number));
    each(frames.collect(), |frame| {
        let mut decoder = Decoder::server(1 << 16);
        let mut chunk = Chunk::new(frame);
        let Ok(Some(Item::Text(text))) = decoder.next(&mut chunk) else {
            panic!("a client sends text");
        };
        let command = parse(text, &TextLimits::default()).expect("a command");
        black_box(encode_frame(&created(command)));
        assert_eq!(decoder.next(&mut chunk), Ok(None));
    })
}

fn created(command: Command<'_>) -> Event {
    let Command::SendMessage {
        channel_id,
        content,
        nonce,
        reply_to,
    } = command
    else {
        panic!("a client sends messages");
    };
    let author = Author {
        id: UserId::from_u128(7),
        username: "alice".to_owned(),
    };
    let message = Message {
        id: MessageId::from_parts(1_795_219_200_000, 77),
        channel_id,
        seq: Seq(4_711),
        rev: Rev(4_720),
        author,
        content: content.into_owned(),
        timestamp: Timestamp(1_795_219_200_000),
        edited_at: None,
        attachments: Vec::new(),
        reactions: Vec::new(),
        reply_to,
        nonce: Some(nonce),
    };
    Event::MessageCreate { message }
}

fn echo(times: u32) -> Operation {
    let mut valley = Valley::new();
    let frames = vec![text_frame(&"e".repeat(64)); times as usize];
    each(frames, move |frame| assert_eq!(valley.call(frame), 66))
}

fn beat(times: u32) -> Operation {
    let mut crowd = crowd();
    let frames = vec![heartbeat(); times as usize];
    each(frames, move |frame| {
        let sent = crowd.sent;
        crowd.receive(SPEAKER, frame);
        assert_eq!(crowd.sent, sent + 1);
    })
}

/// A message from its bytes to the outputs for its listeners, commit and acknowledgement included.
fn speak(listeners: u32, times: u32) -> Operation {
    let (mut crowd, channel) = (crowd(), channel_of(listeners));
    let frames = (0..times).map(|number| talk::message(channel, number));
    each(frames.collect(), move |frame| {
        let delivered = crowd.recipients;
        crowd.receive(SPEAKER, frame);
        assert_eq!(crowd.recipients, delivered + u64::from(listeners));
    })
}

/// A commit of 16 messages, on the simulated disk.
fn append(times: u32) -> Operation {
    let mut written = Written::new();
    let commits = (0..times).map(|_| written.next_messages(16));
    each(commits.collect(), move |records| written.commit(records))
}

/// A page of 50 messages out of a sealed file's blocks, all of them in the cache.
fn page(_times: u32) -> Operation {
    let history = History::new(2 * PAGE_MESSAGES as u64);
    let mut number = 0;
    Box::new(move || {
        let page = history.page(number);
        assert_eq!(black_box(page).len(), PAGE_MESSAGES);
        number += 1;
    })
}
