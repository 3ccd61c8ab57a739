//! Dictionaries for zstd: when a file gets one, and what one is trained from.
//!
//! It draws nothing at random: the same records give the same dictionary.
//!
//! Invariants: samples take bounded memory, and are spread evenly over all that was seen.

use bytes::Bytes;
use zstd::dict::DecoderDictionary;

use super::block::BlockBuilder;
use crate::record::Record;

/// Longest dictionary, in bytes.
const DICTIONARY_BYTES_MAX: usize = 64 << 10;
/// A dictionary is this much shorter than what it is trained from.
const SAMPLES_PER_DICTIONARY: usize = 64;
/// Most and least memory for samples, in bytes.
const SAMPLE_BYTES_MAX: usize = 4 << 20;
const SAMPLE_BYTES_MIN: usize = 256 << 10;
/// Of so many bytes of records, one is for samples: training takes longer than compressing.
const RECORDS_PER_SAMPLE: u64 = 8;
/// Records that make one sample: what a block repeats within itself needs no dictionary.
const SAMPLE_RECORDS: u64 = 8;
/// Longer records are no samples, in bytes.
const RECORD_BYTES_MAX: u64 = 4 << 10;
/// A dictionary is trained for files from so many bytes of records on.
const TRAIN_BYTES_MIN: u64 = 1 << 20;
/// A merge gets one of its own from so many bytes of records on: training costs as much as writing
/// some 50 MiB.
const RETRAIN_BYTES_MIN: u64 = 32 << 20;
/// One that exists is copied into files from so many bytes of records on.
const COPY_BYTES_MIN: u64 = 256 << 10;

/// How a file comes by its dictionary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DictionaryPlan {
    /// It has none.
    None,
    /// That of the newest file that has one.
    Copy,
    /// A new one, from samples of what goes into the file.
    Train,
}

impl DictionaryPlan {
    /// What is due for a file with about this many bytes of records: a large merge gets a new
    /// dictionary, all else shares an older one as long as there is one.
    pub(crate) fn of(is_merge: bool, record_bytes: u64, has_older: bool) -> Self {
        let bytes_min = match has_older {
            true if is_merge => RETRAIN_BYTES_MIN,
            true => u64::MAX,
            false => TRAIN_BYTES_MIN,
        };
        let is_trained = record_bytes >= bytes_min;
        match (is_trained, has_older) {
            (true, _) => Self::Train,
            (false, true) if record_bytes >= COPY_BYTES_MIN => Self::Copy,
            (false, _) => Self::None,
        }
    }
}

/// Records that a dictionary can be trained from, spread over all that were shown.
pub(crate) struct Samples {
    bytes_max: usize,
    bytes: Vec<u8>,
    sizes: Vec<usize>,
    /// Of so many runs of [`SAMPLE_RECORDS`], one is a sample.
    stride: u64,
    seen: u64,
    sample: BlockBuilder,
}

impl Samples {
    /// None yet, of about so many bytes of records.
    pub(crate) fn of(record_bytes: u64) -> Self {
        let bytes_max = usize::try_from(record_bytes / RECORDS_PER_SAMPLE);
        let bytes_max = bytes_max.unwrap_or(usize::MAX);
        Self {
            bytes_max: bytes_max.clamp(SAMPLE_BYTES_MIN, SAMPLE_BYTES_MAX),
            bytes: Vec::new(),
            sizes: Vec::new(),
            stride: 1,
            seen: 0,
            sample: BlockBuilder::default(),
        }
    }

    /// Shows a record; records come in the order of the file.
    pub(crate) fn show(&mut self, record: &Record) {
        if record.bytes() > RECORD_BYTES_MAX {
            return;
        }
        let run = self.seen / SAMPLE_RECORDS;
        self.seen += 1;
        if !run.is_multiple_of(self.stride) {
            return;
        }
        self.sample.push(record);
        if self.seen.is_multiple_of(SAMPLE_RECORDS) {
            self.bytes.extend_from_slice(self.sample.bytes());
            self.sizes.push(self.sample.bytes().len());
            self.sample.clear();
            if self.bytes.len() >= self.bytes_max {
                self.thin_out();
            }
        }
    }

    /// Makes a dictionary; `None` if there is too little to learn from. Takes about a second of
    /// computing for all the samples that there may be.
    pub(crate) fn train(self) -> Option<Bytes> {
        let bytes_max = DICTIONARY_BYTES_MAX.min(self.bytes_max / SAMPLES_PER_DICTIONARY);
        let trained = zstd::dict::from_continuous(&self.bytes, &self.sizes, bytes_max);
        let dictionary = trained.ok().filter(|bytes| !bytes.is_empty())?;
        DecoderDictionary::try_copy(&dictionary).ok()?;
        Some(dictionary.into())
    }

    /// Forgets every other sample.
    fn thin_out(&mut self) {
        self.stride *= 2;
        let (mut kept_bytes, mut kept_sizes) = (Vec::new(), Vec::new());
        let mut start = 0;
        for (place, size) in self.sizes.iter().enumerate() {
            if place.is_multiple_of(2) {
                kept_bytes.extend_from_slice(&self.bytes[start..start + size]);
                kept_sizes.push(*size);
            }
            start += size;
        }
        (self.bytes, self.sizes) = (kept_bytes, kept_sizes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey};
    use crate::record::RecordKind;

    fn record(number: u64) -> Record {
        let text = format!("message {number}: the quick brown fox jumps over the lazy dog");
        Record {
            kind: RecordKind::Create,
            schema: 1,
            channel: ChannelKey([1; 16]),
            message: MessageKey(u128::from(number).to_be_bytes()),
            author: AuthorKey([2; 16]),
            seq: number,
            rev: number,
            target: MessageKey::ZERO,
            nonce: NonceKey::ZERO,
            body: text.into(),
        }
    }

    #[test]
    fn plans() {
        let (big, huge) = (5 << 20, 50 << 20);
        assert_eq!(DictionaryPlan::of(false, 1000, false), DictionaryPlan::None);
        assert_eq!(DictionaryPlan::of(true, 1000, true), DictionaryPlan::None);
        assert_eq!(
            DictionaryPlan::of(false, 512 << 10, true),
            DictionaryPlan::Copy
        );
        assert_eq!(
            DictionaryPlan::of(true, 512 << 10, true),
            DictionaryPlan::Copy
        );
        assert_eq!(DictionaryPlan::of(false, big, false), DictionaryPlan::Train);
        assert_eq!(DictionaryPlan::of(false, big, true), DictionaryPlan::Copy);
        assert_eq!(DictionaryPlan::of(true, big, true), DictionaryPlan::Copy);
        assert_eq!(DictionaryPlan::of(true, huge, true), DictionaryPlan::Train);
        assert_eq!(DictionaryPlan::of(false, huge, true), DictionaryPlan::Copy);
    }

    #[test]
    fn samples_are_bounded_and_spread() {
        let mut samples = Samples::of(1 << 30);
        for number in 1..100_000 {
            samples.show(&record(number));
            assert!(samples.bytes.len() < SAMPLE_BYTES_MAX);
        }
        assert!(samples.stride >= 4 && samples.bytes.len() >= SAMPLE_BYTES_MAX / 4);
        assert_eq!(samples.bytes.len(), samples.sizes.iter().sum::<usize>());
        let dictionary = samples.train().expect("there is enough to learn from");
        assert!((1..=DICTIONARY_BYTES_MAX).contains(&dictionary.len()));
    }

    #[test]
    fn too_little_gives_no_dictionary() {
        assert_eq!(Samples::of(1 << 30).train(), None);
        let mut samples = Samples::of(1 << 30);
        (1..10).for_each(|number| samples.show(&record(number)));
        assert_eq!(samples.train(), None);
    }
}
