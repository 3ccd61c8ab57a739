//! A named consumer: reads the log in batches from a stored position, at least once. Search, push
//! and replication stand on it.
//!
//! It never shows what is not durable, and never skips: what it cannot read is an error, and what
//! the application cannot process goes to its dead letters.
//!
//! Invariants: a channel's records come in order. Segments of earlier runs are read strictly in
//! order of their numbers before this run's logs, since a channel may have changed its log in
//! between; within a run each channel has one log. The stored position never runs ahead of what
//! the application said it is done with.

mod ends;
mod frames;
mod name;
mod position;
mod registry;

use std::collections::BTreeMap;

pub use ends::{Ends, SegmentEnd};
pub use name::ConsumerName;
pub use position::Position;
#[cfg(test)]
pub(crate) use position::{POSITION_MAGIC, PositionHead, PositionHeader};
pub use registry::{Consumers, StartAt};
#[cfg(test)]
pub(crate) use registry::{LOST_MAGIC, LostMark};
pub(crate) use registry::{check_position, read_position};

use self::frames::Frames;
use self::position::Head;
use crate::dead_letter::{DeadLetters, NewDeadLetter};
use crate::disk::Disk;
use crate::error::{Damage, StoreError};
use crate::format::{BadRecord, RecordView};
use crate::held::find;
use crate::key::SegmentId;
use crate::record::Record;
use crate::segment::{Day, Paths};

/// A record for the application, and what is known of earlier attempts with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// The record.
    pub record: Record,
    /// Its dead letter, if it comes from there; `None` if it comes from the log.
    pub dead_letter: Option<u64>,
    /// How often it was tried before it became a dead letter.
    pub attempts: u32,
}

/// What a consumer gets at once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Records, those of each channel in order.
    pub deliveries: Vec<Delivery>,
    position: Position,
}

/// How far a consumer is behind what is durable.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Lag {
    /// Records that it has not committed.
    pub records: u64,
    /// Bytes that these take in the log.
    pub bytes: u64,
    /// From the newest record that it has committed to the newest durable one, in milliseconds.
    pub ms: u64,
}

/// One consumer. Dropping it forgets what was read but not committed.
pub struct Consumer<D: Disk> {
    disk: D,
    paths: Paths,
    consumers: Consumers,
    name: ConsumerName,
    committed: Position,
    /// Up to where records were given out.
    read: Position,
    /// One open segment per log.
    open: BTreeMap<u16, (SegmentId, Frames<D::File>)>,
    /// The log that the next batch begins with.
    turn: u16,
    dead: DeadLetters<D>,
}

impl<D: Disk> Consumer<D> {
    fn new(
        disk: &D,
        consumers: &Consumers,
        name: &ConsumerName,
        position: Position,
        dead: DeadLetters<D>,
    ) -> Self {
        Self {
            disk: disk.clone(),
            paths: Paths::new(consumers.root()),
            consumers: consumers.clone(),
            name: name.clone(),
            committed: position.clone(),
            read: position,
            open: BTreeMap::new(),
            turn: 0,
            dead,
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ConsumerName {
        &self.name
    }

    /// The next records: dead letters that are to be tried again if there are any, otherwise what
    /// follows in the log, within the configured records and bytes; but always one record, if
    /// there is one. Empty when everything durable was given out.
    ///
    /// # Errors
    /// [`StoreError::ConsumerTooFarBehind`] if something it needs was given up, until
    /// [`Consumer::reset`]. [`StoreError::PositionAhead`] if its position is not of this store. If
    /// the disk fails or the log is damaged. After an error the same records come again; after the
    /// future was dropped half-way only if [`Consumer::rewind`] is called.
    pub async fn next_batch(&mut self, ends: &Ends) -> Result<Batch, StoreError> {
        self.consumers.check(&self.name)?;
        let again = self.dead.pending(&self.limits()).await?;
        if !again.is_empty() {
            return Ok(self.batch(again));
        }
        if self.read.is_ahead_of(ends) {
            let path = self.paths.position(&self.name);
            return Err(StoreError::PositionAhead { path });
        }
        let before = self.read.clone();
        let mut filling = Filling::new(self.limits());
        if let Err(error) = self.fill(ends, &mut filling).await {
            // What was read with it was not given out.
            self.read = before;
            self.open.clear();
            return Err(error);
        }
        Ok(self.batch(filling.deliveries))
    }

    /// Stores that the application is done with a batch and with all that came before it.
    ///
    /// # Errors
    /// If the disk fails: the batch may come again.
    pub async fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let again = batch.deliveries.iter().filter_map(|one| one.dead_letter);
        let again: Vec<u64> = again.collect();
        self.dead.delivered(&again).await?;
        if batch.position == self.committed {
            return Ok(());
        }
        self.consumers
            .store(&self.disk, &self.name, &batch.position)
            .await?;
        self.committed = batch.position.clone();
        Ok(())
    }

    /// Goes back to the stored position, so that what was given out but not committed comes again.
    pub fn rewind(&mut self) {
        self.read = self.committed.clone();
        self.open.clear();
    }

    /// Begins anew, whatever was given up or not read.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn reset(&mut self, start: StartAt, ends: &Ends) -> Result<(), StoreError> {
        let position = start.position(ends);
        self.consumers
            .store(&self.disk, &self.name, &position)
            .await?;
        self.consumers.clear_lost(&self.disk, &self.name).await?;
        self.committed = position;
        self.rewind();
        Ok(())
    }

    /// Lays a record aside that could not be processed after `attempts` more attempts. To be
    /// called before the batch is committed; a dead letter that fails again replaces itself.
    ///
    /// # Errors
    /// [`StoreError::DeadLettersFull`] if there is no room: the application must stop here, or
    /// somebody make room. If the disk fails.
    pub async fn lay_aside(
        &mut self,
        delivery: &Delivery,
        reason: &str,
        attempts: u32,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let new = NewDeadLetter {
            again: delivery.dead_letter,
            record: &delivery.record,
            reason,
            attempts: delivery.attempts.saturating_add(attempts),
            now_ms,
        };
        self.dead.push(&new).await
    }

    /// Its dead letters.
    pub fn dead_letters(&mut self) -> &mut DeadLetters<D> {
        &mut self.dead
    }

    /// How far its stored position is behind.
    #[must_use]
    pub fn lag(&self, ends: &Ends) -> Lag {
        let mut lag = Lag::default();
        for (segment, end) in ends.iter() {
            let (bytes, records) = self.committed.left_in(segment, &end);
            // Idle frames alone are nothing to be behind of.
            if records > 0 {
                lag.bytes += bytes;
                lag.records += records;
            }
        }
        if lag.records > 0 {
            lag.ms = ends.newest_ms().saturating_sub(self.committed.newest_ms());
        }
        lag
    }

    fn limits(&self) -> crate::config::ConsumerLimits {
        self.consumers.config().consumers
    }

    fn batch(&self, deliveries: Vec<Delivery>) -> Batch {
        Batch {
            deliveries,
            position: self.read.clone(),
        }
    }

    async fn fill(&mut self, ends: &Ends, filling: &mut Filling) -> Result<(), StoreError> {
        if self.read.is_before(ends) && !self.read_earlier(ends, filling).await? {
            return Ok(());
        }
        for step in 0..ends.shards() {
            let log = (self.turn + step) % ends.shards();
            self.read_log(ends, log, filling).await?;
        }
        self.turn = (self.turn + 1) % ends.shards();
        Ok(())
    }

    /// Reads what earlier runs left, and says whether nothing of it remains.
    async fn read_earlier(
        &mut self,
        ends: &Ends,
        filling: &mut Filling,
    ) -> Result<bool, StoreError> {
        for (segment, end) in ends.earlier() {
            if !self.read_segment(segment, &end, 0, filling).await? {
                return Ok(false);
            }
        }
        self.open.clear();
        self.read.rebase(ends);
        Ok(true)
    }

    async fn read_log(
        &mut self,
        ends: &Ends,
        log: u16,
        filling: &mut Filling,
    ) -> Result<(), StoreError> {
        for (segment, end) in ends.of_log(log, self.read.segment_of(log)) {
            let is_done = self.read_segment(segment, &end, log, filling).await?;
            if !is_done || !end.is_ended {
                break;
            }
        }
        Ok(())
    }

    /// Takes what follows in a segment, and says whether its end was reached.
    async fn read_segment(
        &mut self,
        segment: SegmentId,
        end: &SegmentEnd,
        log: u16,
        filling: &mut Filling,
    ) -> Result<bool, StoreError> {
        let Some(mut head) = self.read.head_in(segment) else {
            return Ok(true);
        };
        while head.offset < end.end {
            if filling.is_full() {
                return Ok(false);
            }
            let mut frames = self.open_segment(segment, end.day, log).await?;
            let read = read_frame(&mut frames, &mut head, end.end, filling).await;
            self.open.insert(log, (segment, frames));
            let (newest_ms, is_whole) = read?;
            self.read.advance(head, newest_ms);
            if !is_whole {
                return Ok(false);
            }
        }
        if end.is_ended
            && let Some((_, frames)) = self.open.remove(&log)
        {
            frames.close().await?;
        }
        Ok(true)
    }

    async fn open_segment(
        &mut self,
        segment: SegmentId,
        day: Day,
        log: u16,
    ) -> Result<Frames<D::File>, StoreError> {
        match self.open.remove(&log) {
            Some((open, frames)) if open == segment => return Ok(frames),
            Some((_, frames)) => frames.close().await?,
            None => {}
        }
        let path = find(&self.disk, &self.paths, segment, day).await?;
        let chunk_bytes = self.consumers.config().chunk_bytes;
        Frames::open(&self.disk, &path, segment, chunk_bytes).await
    }
}

impl<D: Disk> Drop for Consumer<D> {
    fn drop(&mut self) {
        self.consumers.closed(&self.name);
    }
}

/// A batch being filled.
struct Filling {
    limits: crate::config::ConsumerLimits,
    deliveries: Vec<Delivery>,
    bytes: u64,
}

impl Filling {
    fn new(limits: crate::config::ConsumerLimits) -> Self {
        Self {
            limits,
            deliveries: Vec::new(),
            bytes: 0,
        }
    }

    fn is_full(&self) -> bool {
        self.deliveries.len() >= self.limits.batch_records_max
            || self.bytes >= self.limits.batch_bytes_max
    }

    /// Whether a record still fits; the first one always does.
    fn takes(&self, bytes: u32) -> bool {
        let fits = self.bytes + u64::from(bytes) <= self.limits.batch_bytes_max;
        self.deliveries.is_empty() || (fits && !self.is_full())
    }

    fn push(&mut self, record: Record) {
        self.bytes += record.bytes();
        self.deliveries.push(Delivery {
            record,
            dead_letter: None,
            attempts: 0,
        });
    }
}

/// Takes what fits of one frame's records and moves the head behind them. Returns the time of the
/// newest, and whether all were taken.
async fn read_frame<F: crate::disk::DiskFile>(
    frames: &mut Frames<F>,
    head: &mut Head,
    end: u32,
    filling: &mut Filling,
) -> Result<(u64, bool), StoreError> {
    let path = frames.path().to_path_buf();
    let frame = frames.frame_at(head.offset, end).await?;
    let (mut rest, mut at, mut taken, mut newest_ms) = (frame.body, frame.body_offset, 0, 0);
    while !rest.is_empty() {
        let record = RecordView::decode(rest).map_err(|bad| bad_record(bad, &path, at))?;
        if taken >= head.taken {
            if !filling.takes(record.bytes()) {
                break;
            }
            newest_ms = newest_ms.max(record.meta().message.timestamp_ms());
            filling.push(record.to_record());
            head.records += 1;
        }
        taken += 1;
        at += record.bytes();
        rest = &rest[record.bytes() as usize..];
    }
    let is_whole = rest.is_empty();
    if is_whole {
        head.offset += frame.span;
        head.taken = 0;
    } else {
        head.taken = taken;
        frames.seek();
    }
    Ok((newest_ms, is_whole))
}

fn bad_record(bad: BadRecord, path: &std::path::Path, offset: u32) -> StoreError {
    let path = path.to_path_buf();
    match bad {
        BadRecord::Damaged => StoreError::Corrupt {
            path,
            offset,
            damage: Damage::Record,
        },
        BadRecord::Unknown(version) => StoreError::Unsupported { path, version },
    }
}
