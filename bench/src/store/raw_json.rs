//! What messages would weigh as JSON, as clients see them.
//!
//! It stores nothing.
//!
//! Invariants: each event is one that the server could send.

use std::io;

use throng_protocol::{Author, ChannelId, Event, Message, MessageId, Rev, Seq, Timestamp, UserId};
use throng_storage_engine::Record;

use super::engine::EngineName;
use super::error::StoreBenchError;
use super::measure::failed;
use super::order::Setup;
use super::pool::Pool;
use super::workload::Workload;
use crate::files;

/// Messages that the mean is taken over.
const SAMPLE_MESSAGES: usize = 20_000;

/// Mean length of a stream's messages as MESSAGE_CREATE events, in bytes.
pub(super) fn raw_json_bytes(setup: &Setup) -> Result<f64, StoreBenchError> {
    let doing = "reading the corpus";
    let corpus = files::corpus(setup.corpus.as_deref(), setup.shape.seed)
        .map_err(|error| failed(EngineName::Throng, doing)(io::Error::other(error)))?;
    let pool = Pool::new(&corpus, setup.shape.seed, setup.shape.body_bytes);
    let mut workload = Workload::new(setup.shape.clone(), pool);
    workload.skip(setup.stored / 2);
    let mut records = Vec::new();
    while records.len() < SAMPLE_MESSAGES && !workload.is_over() {
        workload.fill(&mut records, SAMPLE_MESSAGES);
    }
    let bytes: usize = records.iter().map(event_bytes).sum();
    Ok(bytes as f64 / records.len().max(1) as f64)
}

fn event_bytes(record: &Record) -> usize {
    let event = Event::MessageCreate {
        message: Message {
            id: MessageId::from_bytes(record.message.0),
            channel_id: ChannelId::from_bytes(record.channel.0),
            seq: Seq(record.seq),
            rev: Rev(record.rev),
            author: Author {
                id: UserId::from_bytes(record.author.0),
                username: "somebody".to_owned(),
            },
            content: String::from_utf8_lossy(&record.body).into_owned(),
            timestamp: Timestamp(1_795_252_087_006),
            edited_at: None,
            attachments: Vec::new(),
            reactions: Vec::new(),
            reply_to: None,
            nonce: None,
        },
    };
    serde_json::to_vec(&event).map_or(0, |json| json.len())
}
