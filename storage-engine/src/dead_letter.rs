//! What a consumer could not process: records laid aside with the reason, until somebody has them
//! tried again or discards them.
//!
//! It never drops a letter to make room: when it is full it says so, and the consumer stops.
//!
//! Invariants: frames are only appended, each synced before it counts, and a closing frame is
//! synced behind it, so that damage to the last letter is never taken for a torn write; a letter
//! given back is gone only after the consumer has committed it; the file is rewritten as a whole
//! when most of it is gone.

mod format;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::config::{BLOCK_BYTES, ConsumerLimits};
use crate::consumer::{ConsumerName, Delivery};
use crate::disk::{Disk, DiskFile};
use crate::error::{Damage, StoreError};
use crate::format::{FORMAT_VERSION, RecordView, encode_record};
use crate::record::Record;
use crate::segment::Paths;
use crate::whole_file::{read_whole, replace_whole};

pub(crate) use self::format::LetterKind;
#[cfg(test)]
pub(crate) use self::format::{DEAD_LETTER_MAGIC, DeadLetterHeader};
use self::format::{LetterFrame, decode_ids, encode_ids};

/// A file below this size is not rewritten, in bytes.
const REWRITE_BYTES_MIN: u64 = 1 << 20;

/// A record that could not be processed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// Its number in this log, rising from 1.
    pub id: u64,
    /// The record.
    pub record: Record,
    /// Why it could not be processed.
    pub reason: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was first laid aside, in milliseconds since 1970.
    pub first_ms: u64,
    /// When it was last laid aside, in milliseconds since 1970.
    pub last_ms: u64,
    /// The consumer gets it before its next batch.
    pub is_pending: bool,
}

/// What is laid aside.
pub(crate) struct NewDeadLetter<'a> {
    /// The letter that failed again, if it is one.
    pub(crate) again: Option<u64>,
    pub(crate) record: &'a Record,
    pub(crate) reason: &'a str,
    pub(crate) attempts: u32,
    pub(crate) now_ms: u64,
}

/// The dead letters of one consumer.
pub struct DeadLetters<D: Disk> {
    disk: D,
    path: PathBuf,
    name: ConsumerName,
    limits: ConsumerLimits,
    file: Option<D::File>,
    /// The same in all frames of this file: what a record holds is never taken for a frame.
    salt: u64,
    end: u64,
    next_frame: u64,
    next_id: u64,
    letters: BTreeMap<u64, Letter>,
    live_bytes: u64,
    /// A write failed: what is on disk is unknown until the file is read again.
    is_poisoned: bool,
}

/// What is kept in memory of a letter.
#[derive(Clone, Copy)]
struct Letter {
    offset: u64,
    frame: LetterFrame,
    is_pending: bool,
}

impl<D: Disk> DeadLetters<D> {
    /// Reads a consumer's dead letters, and cuts off a write that was cut short.
    ///
    /// # Errors
    /// If the disk fails, or the file is damaged: the error names it.
    pub async fn open(
        disk: &D,
        root: &Path,
        name: &ConsumerName,
        limits: ConsumerLimits,
    ) -> Result<Self, StoreError> {
        let mut letters = Self::new(disk, root, name, limits);
        if letters.is_there().await? {
            letters.load().await?;
        }
        Ok(letters)
    }

    /// Reads a consumer's dead letters and changes nothing, to see whether all can be read.
    pub(crate) async fn check(
        disk: &D,
        root: &Path,
        name: &ConsumerName,
        limits: ConsumerLimits,
    ) -> Result<(), StoreError> {
        let mut letters = Self::new(disk, root, name, limits);
        if !letters.is_there().await? {
            return Ok(());
        }
        letters.read_frames().await?;
        for letter in letters.letters.values() {
            letters.read(letter).await?;
        }
        Ok(())
    }

    fn new(disk: &D, root: &Path, name: &ConsumerName, limits: ConsumerLimits) -> Self {
        Self {
            disk: disk.clone(),
            path: Paths::new(root).dead_letter_log(name),
            name: name.clone(),
            limits,
            file: None,
            salt: disk.salt(),
            end: 0,
            next_frame: 0,
            next_id: 1,
            letters: BTreeMap::new(),
            live_bytes: 0,
            is_poisoned: false,
        }
    }

    /// Whether there is a file.
    async fn is_there(&self) -> Result<bool, StoreError> {
        let directory = self.path.parent().expect("a file lies in a directory");
        let file = format!("{}.dlq", self.name);
        Ok(self.disk.list(directory).await?.contains(&file))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.letters.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.letters.is_empty()
    }

    /// All ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.letters.keys().copied()
    }

    /// Up to `limit` letters with an id above `after`.
    ///
    /// # Errors
    /// If the disk fails or a letter is damaged.
    pub async fn list(&self, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let wanted = self.letters.range(after.saturating_add(1)..).take(limit);
        let mut found = Vec::new();
        for letter in wanted.map(|(_, letter)| letter) {
            found.push(self.read(letter).await?);
        }
        Ok(found)
    }

    /// Has the consumer get these before its next batch. Returns how many there are of them.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn retry(&mut self, ids: &[u64]) -> Result<usize, StoreError> {
        let ids = self.those(ids, |letter| !letter.is_pending);
        self.append_ids(LetterKind::Retry, &ids).await?;
        for id in &ids {
            if let Some(letter) = self.letters.get_mut(id) {
                letter.is_pending = true;
            }
        }
        Ok(ids.len())
    }

    /// Forgets these for good. Returns how many there were of them.
    ///
    /// # Errors
    /// If the disk fails.
    pub async fn discard(&mut self, ids: &[u64]) -> Result<usize, StoreError> {
        let ids = self.those(ids, |_| true);
        self.append_ids(LetterKind::Gone, &ids).await?;
        ids.iter().for_each(|id| self.forget(*id));
        self.rewrite_if_due().await?;
        Ok(ids.len())
    }

    /// Those that are to be tried again, oldest first, within the limits of a batch.
    pub(crate) async fn pending(
        &self,
        limits: &ConsumerLimits,
    ) -> Result<Vec<Delivery>, StoreError> {
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (id, letter) in self.letters.iter().filter(|(_, letter)| letter.is_pending) {
            bytes += u64::from(letter.frame.body_bytes);
            let is_full = found.len() >= limits.batch_records_max || bytes > limits.batch_bytes_max;
            if is_full && !found.is_empty() {
                break;
            }
            let read = self.read(letter).await?;
            found.push(Delivery {
                record: read.record,
                dead_letter: Some(*id),
                attempts: read.attempts,
            });
        }
        Ok(found)
    }

    /// The consumer is done with these, except those that it has laid aside again.
    pub(crate) async fn delivered(&mut self, ids: &[u64]) -> Result<(), StoreError> {
        let ids = self.those(ids, |letter| letter.is_pending);
        self.append_ids(LetterKind::Gone, &ids).await?;
        ids.iter().for_each(|id| self.forget(*id));
        self.rewrite_if_due().await
    }

    /// Lays a record aside, durably.
    pub(crate) async fn push(&mut self, new: &NewDeadLetter<'_>) -> Result<(), StoreError> {
        let known = new.again.and_then(|id| self.letters.get(&id).copied());
        let (id, first_ms) = match (new.again, known) {
            (Some(id), Some(letter)) => (id, letter.frame.first_ms),
            _ => (self.next_id, new.now_ms),
        };
        let reason = cut(new.reason, self.limits.reason_bytes_max);
        let body = letter_body(reason, new.record);
        let frame = LetterFrame {
            id,
            first_ms,
            last_ms: new.now_ms,
            attempts: new.attempts,
            reason_bytes: u32::try_from(reason.len()).expect("cut to its limit"),
            body_bytes: u32::try_from(body.len()).expect("a record is far below 4 GiB"),
            ..self.frame(LetterKind::Letter, self.next_frame)
        };
        self.check_room(&frame, known.as_ref())?;
        let offset = self.append(&frame, &body).await?;
        self.remember(offset, frame);
        self.rewrite_if_due().await
    }

    fn frame(&self, kind: LetterKind, frame_seq: u64) -> LetterFrame {
        LetterFrame::new(kind, self.salt, frame_seq, self.name.crc())
    }

    fn check_room(&self, frame: &LetterFrame, replaced: Option<&Letter>) -> Result<(), StoreError> {
        let count = self.letters.len() - usize::from(replaced.is_some());
        let bytes = self.live_bytes - replaced.map_or(0, |letter| letter.frame.span());
        if count < self.limits.dead_letters_max
            && bytes + frame.span() <= self.limits.dead_letter_bytes_max
        {
            return Ok(());
        }
        Err(StoreError::DeadLettersFull {
            name: self.name.clone(),
            count: self.letters.len(),
            bytes: self.live_bytes,
        })
    }

    fn those(&self, ids: &[u64], is_wanted: impl Fn(&Letter) -> bool) -> Vec<u64> {
        let is_known = |id: &&u64| self.letters.get(id).is_some_and(&is_wanted);
        let mut ids: Vec<u64> = ids.iter().filter(is_known).copied().collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn remember(&mut self, offset: u64, frame: LetterFrame) {
        self.forget(frame.id);
        self.next_id = self.next_id.max(frame.id.saturating_add(1));
        self.live_bytes += frame.span();
        let letter = Letter {
            offset,
            frame,
            is_pending: false,
        };
        self.letters.insert(frame.id, letter);
    }

    fn forget(&mut self, id: u64) {
        if let Some(letter) = self.letters.remove(&id) {
            self.live_bytes -= letter.frame.span();
        }
    }

    async fn append_ids(&mut self, kind: LetterKind, ids: &[u64]) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        let frame = self.frame(kind, self.next_frame);
        self.append(&frame, &encode_ids(ids)).await?;
        Ok(())
    }

    /// Writes a frame and, once it is durable, a closing one. Returns where the first begins.
    async fn append(&mut self, frame: &LetterFrame, body: &[u8]) -> Result<u64, StoreError> {
        if self.is_poisoned {
            return Err(StoreError::Poisoned);
        }
        // Also when the future is dropped half-way.
        self.is_poisoned = true;
        if self.file.is_none() {
            self.file = Some(self.open_or_create().await?);
        }
        let offset = self.end;
        self.write(&frame.encode(body)).await?;
        let closing = self.frame(LetterKind::Closing, self.next_frame);
        self.write(&closing.encode(&[])).await?;
        self.is_poisoned = false;
        Ok(offset)
    }

    async fn open_or_create(&self) -> Result<D::File, StoreError> {
        if self.end > 0 {
            return Ok(self.disk.open(&self.path).await?);
        }
        if self.is_there().await? {
            return Ok(self.disk.open(&self.path).await?);
        }
        let directory = self.path.parent().expect("a file lies in a directory");
        let file = self.disk.create(&self.path).await?;
        self.disk.sync_dir(directory).await?;
        Ok(file)
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let length = u32::try_from(bytes.len()).expect("a letter is far below 4 GiB");
        let mut buffer = self.disk.buffer(length);
        buffer.as_mut().copy_from_slice(bytes);
        let file = self.file.as_ref().expect("opened before it is written");
        file.write_synced(buffer, self.end).await?;
        self.end += u64::from(length);
        self.next_frame += 1;
        Ok(())
    }

    async fn read(&self, letter: &Letter) -> Result<DeadLetter, StoreError> {
        let file = self.disk.open(&self.path).await?;
        let span = u32::try_from(letter.frame.span()).expect("a letter is far below 4 GiB");
        let bytes = file.read_at(letter.offset, span).await?;
        let read = LetterFrame::decode(&bytes)
            .filter(|frame| (frame.id, frame.salt) == (letter.frame.id, letter.frame.salt))
            .and_then(|frame| decode_letter(&frame, &bytes, letter.is_pending));
        file.close().await?;
        read.ok_or_else(|| self.damaged(letter.offset))
    }

    fn damaged(&self, offset: u64) -> StoreError {
        StoreError::Corrupt {
            path: self.path.clone(),
            offset: u32::try_from(offset).unwrap_or(u32::MAX),
            damage: Damage::DeadLetter,
        }
    }

    /// Reads the whole file and settles its end.
    async fn load(&mut self) -> Result<(), StoreError> {
        let last = self.read_frames().await?;
        let file = self.disk.open(&self.path).await?;
        file.truncate(self.end).await?;
        file.sync().await?;
        self.file = Some(file);
        if last.is_some_and(|kind| kind != LetterKind::Closing) {
            let closing = self.frame(LetterKind::Closing, self.next_frame);
            self.write(&closing.encode(&[])).await?;
        }
        Ok(())
    }

    /// Reads all valid frames, and fails if one of them was lost. Returns the kind of the last.
    async fn read_frames(&mut self) -> Result<Option<LetterKind>, StoreError> {
        let bytes = read_whole(&self.disk, &self.path).await?;
        let mut last = None;
        while let Some(frame) = self.frame_in(&bytes)? {
            self.salt = frame.salt;
            self.apply(&frame, &bytes)?;
            self.end += frame.span();
            self.next_frame += 1;
            last = frame.kind;
        }
        self.check_behind(&bytes)?;
        Ok(last)
    }

    /// The valid frame at the present end, if there is one and it is the next.
    fn frame_in(&self, bytes: &[u8]) -> Result<Option<LetterFrame>, StoreError> {
        let rest = usize::try_from(self.end)
            .ok()
            .and_then(|end| bytes.get(end..));
        let rest = rest.unwrap_or(&[]);
        let frame = LetterFrame::decode(rest)
            .filter(|frame| frame.frame_seq == self.next_frame && frame.body(rest).is_some());
        let Some(frame) = frame else {
            return Ok(None);
        };
        if frame.version != FORMAT_VERSION || frame.kind.is_none() {
            return Err(StoreError::Unsupported {
                path: self.path.clone(),
                version: frame.version,
            });
        }
        if frame.name_crc != self.name.crc() || (self.end > 0 && frame.salt != self.salt) {
            return Err(self.damaged(self.end));
        }
        Ok(Some(frame))
    }

    fn apply(&mut self, frame: &LetterFrame, bytes: &[u8]) -> Result<(), StoreError> {
        let damaged = self.damaged(self.end);
        let start = usize::try_from(self.end).expect("the file was read into memory");
        let body = frame
            .body(&bytes[start..])
            .expect("checked when it was found");
        match frame.kind.expect("checked when it was found") {
            LetterKind::Letter => self.remember(self.end, *frame),
            LetterKind::Closing => {}
            LetterKind::Retry => {
                for id in decode_ids(body).ok_or(damaged)? {
                    if let Some(letter) = self.letters.get_mut(&id) {
                        letter.is_pending = true;
                    }
                }
            }
            LetterKind::Gone => {
                let ids = decode_ids(body).ok_or(damaged)?;
                ids.iter().for_each(|id| self.forget(*id));
            }
        }
        Ok(())
    }

    /// Fails if a frame behind the end proves that the one lost there had been durable.
    fn check_behind(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let start = usize::try_from(self.end).expect("the file was read into memory");
        let blocks = bytes
            .get(start..)
            .unwrap_or(&[])
            .chunks(BLOCK_BYTES as usize);
        let later = blocks.skip(1).filter_map(LetterFrame::decode);
        let is_own = |frame: &LetterFrame| self.end == 0 || frame.salt == self.salt;
        let mut later = later.filter(|frame| is_own(frame) && frame.frame_seq > self.next_frame);
        later.next().map_or(Ok(()), |_| Err(self.damaged(self.end)))
    }

    /// Writes the letters there are into a new file, if most of the old one is gone.
    async fn rewrite_if_due(&mut self) -> Result<(), StoreError> {
        if self.end < REWRITE_BYTES_MIN || self.end / 2 < self.live_bytes {
            return Ok(());
        }
        let (bytes, letters) = self.rewritten().await?;
        self.is_poisoned = true;
        if let Some(file) = self.file.take() {
            file.close().await?;
        }
        replace_whole(&self.disk, &self.path, &bytes).await?;
        self.file = Some(self.disk.open(&self.path).await?);
        self.end = bytes.len() as u64;
        self.next_frame = letters.len() as u64 + 2;
        self.letters = letters;
        self.is_poisoned = false;
        Ok(())
    }

    async fn rewritten(&self) -> Result<(Vec<u8>, BTreeMap<u64, Letter>), StoreError> {
        let (mut bytes, mut letters) = (Vec::new(), BTreeMap::new());
        let mut next_frame = 0;
        for (id, letter) in &self.letters {
            let read = self.read(letter).await?;
            let frame = LetterFrame {
                frame_seq: next_frame,
                ..letter.frame
            };
            let moved = Letter {
                offset: bytes.len() as u64,
                frame,
                is_pending: letter.is_pending,
            };
            letters.insert(*id, moved);
            bytes.extend(frame.encode(&letter_body(&read.reason, &read.record)));
            next_frame += 1;
        }
        let is_pending = |(_, letter): &(&u64, &Letter)| letter.is_pending;
        let pending = self.letters.iter().filter(is_pending);
        let pending: Vec<u64> = pending.map(|(id, _)| *id).collect();
        let retry = self.frame(LetterKind::Retry, next_frame);
        bytes.extend(retry.encode(&encode_ids(&pending)));
        let closing = self.frame(LetterKind::Closing, next_frame + 1);
        bytes.extend(closing.encode(&[]));
        Ok((bytes, letters))
    }
}

fn letter_body(reason: &str, record: &Record) -> Vec<u8> {
    let bytes = usize::try_from(record.bytes()).expect("a record is far below 4 GiB");
    let mut body = reason.as_bytes().to_vec();
    body.resize(reason.len() + bytes, 0);
    encode_record(record, &mut body[reason.len()..]);
    body
}

fn decode_letter(frame: &LetterFrame, bytes: &[u8], is_pending: bool) -> Option<DeadLetter> {
    let body = frame.body(bytes)?;
    let (reason, record) = body.split_at_checked(frame.reason_bytes as usize)?;
    let record = RecordView::decode(record).ok()?;
    Some(DeadLetter {
        id: frame.id,
        record: record.to_record(),
        reason: String::from_utf8_lossy(reason).into_owned(),
        attempts: frame.attempts,
        first_ms: frame.first_ms,
        last_ms: frame.last_ms,
        is_pending,
    })
}

/// The beginning of a text, whole characters only.
fn cut(text: &str, bytes_max: usize) -> &str {
    &text[..text.floor_char_boundary(bytes_max)]
}
