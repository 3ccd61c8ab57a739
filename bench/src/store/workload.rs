//! The messages that every engine is given: a stream that a few numbers describe whole.
//!
//! It reads no clock: a message's time is part of the stream. It holds no message that it gave
//! out.
//!
//! Invariants: message `n` is the same whoever asks, and however it came there; ids rise through
//! the stream and seqs are dense in a channel; a batch never spans two days.

use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use throng_storage_engine::{AuthorKey, ChannelKey, MessageKey, NonceKey, Record, RecordKind};

use super::pool::Pool;
use crate::zipf::Zipf;

/// Milliseconds of a day.
pub(super) const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The stream's first day: 2023-11-15, in days since 1970.
const FIRST_DAY: u64 = 19_676;

/// People who write.
const AUTHORS: u64 = 20_000;

/// What describes a stream.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Shape {
    /// Seed of everything drawn.
    pub(super) seed: u64,
    /// Messages that the days are divided among.
    pub(super) messages: u64,
    /// Bytes of a body.
    pub(super) body_bytes: usize,
    /// Channels that messages are drawn for.
    pub(super) channels: u32,
    /// Zipf exponent of the channels.
    pub(super) zipf: f64,
    /// Days on which something is written.
    pub(super) active_days: u64,
    /// Days from the first to the last.
    pub(super) span_days: u64,
    /// Channels beside them that get one message in each month.
    pub(super) sparse_channels: u32,
    /// Months in the span.
    pub(super) months: u64,
}

impl Shape {
    fn per_day(&self) -> u64 {
        self.messages.div_ceil(self.active_days).max(1)
    }

    /// The calendar day of the `active`th day with messages.
    fn calendar_day(&self, active: u64) -> u64 {
        FIRST_DAY + active * self.span_days / self.active_days
    }

    /// Whether a month begins with this active day.
    fn begins_month(&self, active: u64) -> bool {
        let month = |active: u64| active * self.months / self.active_days;
        active == 0 || month(active) != month(active - 1)
    }

    /// A time safely after the last day has ended.
    pub(super) fn after_end_ms(&self) -> u64 {
        (FIRST_DAY + self.span_days + 2) * DAY_MS
    }

    /// When message `number` was written, in milliseconds since 1970, and its place among those of
    /// the same millisecond.
    fn time(&self, number: u64) -> (u64, u64) {
        let per_day = self.per_day();
        let active = (number / per_day).min(self.active_days - 1);
        let place = number - active * per_day;
        let ms = (place * DAY_MS / per_day).min(DAY_MS - 1);
        let first_of_ms = (ms * per_day).div_ceil(DAY_MS);
        (self.calendar_day(active) * DAY_MS + ms, place - first_of_ms)
    }

    /// The sparse channel that message `number` belongs to, if it does.
    fn sparse(&self, number: u64) -> Option<u32> {
        let per_day = self.per_day();
        let place = u32::try_from(number % per_day).unwrap_or(u32::MAX);
        let is_sparse = place < self.sparse_channels && self.begins_month(number / per_day);
        is_sparse.then_some(self.channels + place)
    }
}

/// One message to look for later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Probe {
    pub(super) channel: ChannelKey,
    pub(super) message: MessageKey,
}

/// The stream, from some message on.
pub(super) struct Workload {
    shape: Shape,
    pool: Pool,
    zipf: Zipf,
    random: StdRng,
    next: u64,
    /// Last seq of each channel.
    seqs: Vec<u32>,
    /// Last id of each channel.
    newest: Vec<MessageKey>,
    probes: Vec<Probe>,
}

/// Messages that have at least a page before them and are kept to be looked for.
const PROBES_MAX: usize = 4096;

impl Workload {
    /// Whether all messages that the days were divided among have been given out.
    pub(super) fn is_over(&self) -> bool {
        self.next >= self.shape.messages
    }

    /// The stream from its first message on.
    pub(super) fn new(shape: Shape, pool: Pool) -> Self {
        let channels = index(shape.channels) + index(shape.sparse_channels);
        Self {
            zipf: Zipf::new(index(shape.channels), shape.zipf),
            random: StdRng::seed_from_u64(shape.seed),
            pool,
            next: 0,
            seqs: vec![0; channels],
            newest: vec![MessageKey::ZERO; channels],
            probes: Vec::with_capacity(PROBES_MAX),
            shape,
        }
    }

    /// What describes it.
    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// How many messages it has given out.
    pub(super) fn given(&self) -> u64 {
        self.next
    }

    /// The text that bodies are cut from.
    pub(super) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Passes over messages as if they had been given out.
    pub(super) fn skip(&mut self, messages: u64) {
        for _ in 0..messages {
            self.step();
        }
    }

    /// Adds the next messages of one day to `batch`: `limit`, or fewer at the day's end. Returns
    /// their time in milliseconds since 1970: that of the first.
    pub(super) fn fill(&mut self, batch: &mut Vec<Record>, limit: usize) -> u64 {
        let end = batch.len() + limit;
        let (now_ms, _) = self.shape.time(self.next);
        while batch.len() < end && self.shape.time(self.next).0 / DAY_MS == now_ms / DAY_MS {
            let (channel, message, seq) = self.step();
            batch.push(Record {
                kind: RecordKind::Create,
                schema: 1,
                channel: channel_key(channel),
                message,
                author: AuthorKey(key((1 << 40) | (mixed(self.next) % AUTHORS))),
                seq: seq.into(),
                rev: seq.into(),
                target: MessageKey::ZERO,
                nonce: NonceKey::ZERO,
                body: self.pool.body(message),
            });
        }
        now_ms
    }

    fn step(&mut self) -> (u32, MessageKey, u32) {
        let number = self.next;
        self.next += 1;
        let channel = self.shape.sparse(number).unwrap_or_else(|| {
            u32::try_from(self.zipf.draw(&mut self.random)).expect("channels are 32 bits")
        });
        let message = self.message_key(number);
        let seq = &mut self.seqs[index(channel)];
        *seq += 1;
        let seq = *seq;
        self.newest[index(channel)] = message;
        self.note_probe(number, channel, message, seq);
        (channel, message, seq)
    }

    /// Keeps about [`PROBES_MAX`] of the stream's messages, drawn by their numbers.
    fn note_probe(&mut self, number: u64, channel: u32, message: MessageKey, seq: u32) {
        let share = (self.shape.messages / PROBES_MAX as u64 / 2).max(1);
        let is_drawn = mixed(number ^ self.shape.seed << 17).is_multiple_of(share);
        let has_page = seq > 50 && channel < self.shape.channels;
        if is_drawn && has_page && self.probes.len() < PROBES_MAX {
            self.probes.push(Probe {
                channel: channel_key(channel),
                message,
            });
        }
    }

    /// A UUIDv7 whose random part is a hash of the message's number.
    fn message_key(&self, number: u64) -> MessageKey {
        let (ms, place) = self.shape.time(number);
        let low = mixed(number ^ self.shape.seed.rotate_left(32)) >> 2 | 1 << 63;
        let high = ms << 16 | 0x7000 | (place & 0xFFF);
        MessageKey((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// Up to `count` messages with a page before them, in an order drawn from the seed.
    pub(super) fn deep_probes(&self, count: usize) -> Vec<Probe> {
        shuffled(self.probes.iter().copied(), count)
    }

    /// Up to `count` channels with a page of messages, each with its newest message.
    pub(super) fn busy_channels(&self, count: usize) -> Vec<Probe> {
        let places = 0..index(self.shape.channels);
        shuffled(
            places
                .filter(|&place| self.seqs[place] >= 50)
                .map(|place| self.newest_of(place)),
            count,
        )
    }

    /// Up to `count` sparse channels, each with its newest message.
    pub(super) fn sparse_channels(&self, count: usize) -> Vec<Probe> {
        let places = index(self.shape.channels)..self.seqs.len();
        shuffled(
            places
                .filter(|&place| self.seqs[place] > 0)
                .map(|place| self.newest_of(place)),
            count,
        )
    }

    fn newest_of(&self, place: usize) -> Probe {
        Probe {
            channel: channel_key(u32::try_from(place).expect("channels are 32 bits")),
            message: self.newest[place],
        }
    }

    /// Messages given out in a sparse channel so far.
    pub(super) fn sparse_messages(&self) -> u32 {
        self.seqs.last().copied().unwrap_or(0)
    }
}

fn shuffled(probes: impl Iterator<Item = Probe>, count: usize) -> Vec<Probe> {
    let mut probes: Vec<Probe> = probes.collect();
    probes.sort_unstable_by_key(|probe| {
        let [.., a, b, c, d] = probe.message.0;
        mixed(u32::from_be_bytes([a, b, c, d]).into())
    });
    probes.truncate(count);
    probes
}

/// A channel's key: sixteen bytes without pattern, as ids are.
fn channel_key(channel: u32) -> ChannelKey {
    ChannelKey(key(u64::from(channel) | 1 << 41))
}

fn key(number: u64) -> [u8; 16] {
    let high = u128::from(mixed(number));
    let low = u128::from(mixed(number ^ 0x5555_5555_5555_5555));
    (high << 64 | low).to_be_bytes()
}

/// The finaliser of `SplitMix64`: nearby numbers become unrelated ones, and different ones stay so.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn index(number: u32) -> usize {
    usize::try_from(number).expect("a 32-bit number fits")
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::corpus::Corpus;

    fn shape() -> Shape {
        Shape {
            seed: 3,
            messages: 20_000,
            body_bytes: 60,
            channels: 50,
            zipf: 1.0,
            active_days: 36,
            span_days: 1095,
            sparse_channels: 4,
            months: 36,
        }
    }

    fn workload() -> Workload {
        Workload::new(shape(), Pool::new(&Corpus::generated(1), 1, 60))
    }

    fn all(batch_messages: usize) -> Vec<Record> {
        let mut workload = workload();
        let mut records = Vec::new();
        let mut batch = Vec::new();
        while workload.given() < shape().messages {
            let now_ms = workload.fill(&mut batch, batch_messages);
            let days = batch.iter().map(|r| r.message.timestamp_ms() / DAY_MS);
            assert!(days.into_iter().all(|day| day == now_ms / DAY_MS));
            records.append(&mut batch);
        }
        records
    }

    #[test]
    fn ids_rise_and_seqs_are_dense() {
        let records = all(100);
        assert!(records.is_sorted_by(|a, b| a.message < b.message));
        let mut seqs = HashMap::new();
        for record in &records {
            let seq = seqs.entry(record.channel).or_insert(0);
            *seq += 1;
            assert_eq!(record.seq, *seq);
        }
        assert_eq!(seqs.len(), 54);
    }

    #[test]
    fn batches_and_skips_do_not_change_the_stream() {
        let records = all(256);
        assert_eq!(all(7)[..20_000], records[..20_000]);
        let mut later = workload();
        later.skip(12_345);
        let mut batch = Vec::new();
        later.fill(&mut batch, 10);
        assert_eq!(batch, records[12_345..12_345 + batch.len()]);
    }

    #[test]
    fn a_sparse_channel_gets_one_message_a_month() {
        let mut workload = workload();
        workload.skip(shape().messages);
        assert_eq!(workload.sparse_messages(), 36);
        assert_eq!(workload.sparse_channels(10).len(), 4);
        assert!(!workload.deep_probes(10).is_empty() && !workload.busy_channels(10).is_empty());
    }
}
