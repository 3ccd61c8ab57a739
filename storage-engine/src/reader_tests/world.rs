//! A store with one shard on the simulated disk, and a list of all that was committed to it.
//!
//! Sealing here is the tests' own, through the writer: what seals days has its own tests.
//!
//! Invariants: everything follows from the seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use crate::sealed::{Sealed, SealedOptions, SealedWriter, file_name, install};
use crate::view::Installed;
use crate::*;
use bytes::Bytes;

pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// 2026-11-21T00:00:00Z.
pub(crate) const START_MS: u64 = 1_795_219_200_000;

pub(crate) fn config() -> StoreConfig {
    StoreConfig {
        segment_bytes: 64 << 10,
        commit_bytes_max: 16 << 10,
        record_bytes_max: 8 << 10,
        chunk_bytes: 32 << 10,
        unindexed_segments_max: 100,
        recent_bytes: 0,
        open_files_max: 4,
        open_indexes_max: 3,
        ..StoreConfig::default()
    }
}

pub(crate) fn channel(number: u8) -> ChannelKey {
    ChannelKey([number; 16])
}

/// A store with one shard, and everything that was committed to it.
pub(crate) struct World {
    pub(crate) disk: SimDisk,
    pub(crate) log: Log<SimDisk>,
    pub(crate) reader: Reader<SimDisk>,
    pub(crate) config: StoreConfig,
    pub(crate) now_ms: u64,
    /// Records and the days that they lie in.
    pub(crate) records: Vec<(Day, Record)>,
    /// Sealed files: numbers and days.
    pub(crate) sealed: Vec<(u32, RangeInclusive<u32>)>,
    next_number: u32,
    counter: u64,
}

pub(crate) fn root() -> &'static Path {
    Path::new("/data")
}

pub(crate) fn sealed_path(number: u32, days: &RangeInclusive<u32>) -> PathBuf {
    let name = file_name(number, Day(*days.start()), Day(*days.end()));
    root().join("sealed").join(name)
}

impl World {
    pub(crate) fn new(seed: u64, config: StoreConfig) -> Self {
        let latency = SimLatency {
            min_us: 10,
            max_us: 100,
        };
        let disk = SimDisk::new(seed, latency);
        let opened = disk.run(async {
            for name in ["", "segments", "spare", "sealed"] {
                disk.create_dir(&root().join(name)).await?;
            }
            let place = LogPlace {
                shard: 0,
                shards: 1,
                sealed_through: Day(0),
            };
            let table = SegmentTable::default();
            let index = Rc::new(RefCell::new(Index::new(seed)));
            Log::open(disk.clone(), root(), config, place, &table, index, START_MS).await
        });
        let log = opened.unwrap();
        let live = log.live();
        let view = View::new(Vec::new(), Day(0));
        Self {
            reader: Reader::new(disk.clone(), root(), live, view, config),
            disk,
            log,
            config,
            now_ms: START_MS,
            records: Vec::new(),
            sealed: Vec::new(),
            next_number: 1,
            counter: 0,
        }
    }

    pub(crate) fn today(&self) -> u32 {
        Day::of_ms(self.now_ms).0
    }

    /// A record that comes next in its channel.
    pub(crate) fn next(
        &mut self,
        kind: RecordKind,
        number: u8,
        target: u64,
        bytes: usize,
    ) -> Record {
        self.counter += 1;
        let channel = channel(number);
        let own = self
            .records
            .iter()
            .filter(|(_, record)| record.channel == channel);
        let (mut seq, mut rev) = (0, 0);
        let mut key = MessageKey::ZERO;
        for (_, record) in own {
            rev = record.rev;
            if record.kind == RecordKind::Create {
                seq = record.seq;
                if seq == target {
                    key = record.message;
                }
            }
        }
        let is_create = kind == RecordKind::Create;
        let message = (u128::from(self.now_ms) << 80) | u128::from(self.counter);
        Record {
            kind,
            schema: 1,
            channel,
            message: MessageKey(message.to_be_bytes()),
            author: AuthorKey([u8::try_from(self.counter % 3).unwrap() + 1; 16]),
            seq: if is_create { seq + 1 } else { target },
            rev: rev + 1,
            target: key,
            nonce: NonceKey(u128::from(self.counter).to_be_bytes()),
            body: Bytes::from(vec![u8::try_from(self.counter % 7).unwrap(); bytes]),
        }
    }

    pub(crate) fn commit(&mut self, record: Record) {
        let disk = self.disk.clone();
        let done = disk.run(self.log.commit(self.now_ms, std::slice::from_ref(&record)));
        let segment = done.unwrap()[0].segment;
        let day = self.log.segments().borrow().get(segment).unwrap().day;
        self.records.push((day, record));
    }

    pub(crate) fn send(&mut self, number: u8, bytes: usize) {
        let record = self.next(RecordKind::Create, number, 0, bytes);
        self.commit(record);
    }

    pub(crate) fn change(&mut self, kind: RecordKind, number: u8, seq: u64) {
        let record = self.next(kind, number, seq, 1);
        self.commit(record);
    }

    /// Writes the index files of segments that ended.
    pub(crate) fn fill(&mut self) {
        let index = self.log.index();
        let filled = index.borrow_mut().filled();
        for hot in filled {
            let written = self.disk.run(index_segment(&self.disk, root(), &hot));
            written.unwrap();
            index.borrow_mut().drop_hot(hot.segment());
        }
    }

    /// Writes a sealed file of these days, and says what has changed.
    pub(crate) fn write_sealed(
        &mut self,
        days: RangeInclusive<u32>,
    ) -> Installed<SharedSealed<SimDisk>> {
        let disk = self.disk.clone();
        disk.run(self.log.end_day(Day(*days.end()))).unwrap();
        self.fill();
        let number = self.next_number;
        self.next_number += 1;
        let path = sealed_path(number, &days);
        disk.run(write_bucket(&disk, &path, number, &days, &self.records));
        let sealed = disk.run(Sealed::open(&disk, &path, None)).unwrap();
        let replaced = self
            .sealed
            .iter()
            .filter(|(_, old)| days.contains(old.start()));
        let replaced = replaced.map(|(number, _)| *number).collect();
        let segments = self.log.segments();
        let obsolete = segments.borrow();
        let obsolete = obsolete
            .iter()
            .filter(|(_, info)| days.contains(&info.day.0));
        Installed {
            bucket: Some(Bucket::of(sealed)),
            obsolete: obsolete.map(|(segment, _)| segment).collect(),
            replaced,
            retained_from: Day(0),
        }
    }

    /// Seals these days, and removes what that replaces.
    pub(crate) fn seal(&mut self, days: RangeInclusive<u32>) {
        let installed = self.write_sealed(days.clone());
        self.disk.clone().run(self.reader.swap(&installed)).unwrap();
        self.unlink(&installed, days);
    }

    pub(crate) fn unlink(
        &mut self,
        installed: &Installed<SharedSealed<SimDisk>>,
        days: RangeInclusive<u32>,
    ) {
        let gone: Vec<_> = (self.disk.files().into_iter())
            .filter(|path| {
                let path = path.to_string_lossy();
                let is_of = |segment: &SegmentId| path.contains(&format!("/{segment}."));
                path.contains("segments") && installed.obsolete.iter().any(is_of)
            })
            .collect();
        for path in gone {
            self.disk.run(self.disk.remove(&path)).unwrap();
        }
        let (old, kept) = std::mem::take(&mut self.sealed)
            .into_iter()
            .partition(|(number, _)| installed.replaced.contains(number));
        self.sealed = kept;
        let old: Vec<(u32, RangeInclusive<u32>)> = old;
        for (number, days) in old {
            let path = sealed_path(number, &days);
            self.disk.run(self.disk.remove(&path)).unwrap();
        }
        self.sealed.push((self.next_number - 1, days));
    }

    /// All messages of a channel in their present state.
    pub(crate) fn messages(&self, number: u8) -> Vec<Stored> {
        let mut messages: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
        for (_, record) in &self.records {
            if record.channel == channel(number) {
                messages.entry(record.seq).or_default().push(record.clone());
            }
        }
        let fold = |mut records: Vec<Record>| {
            let create = records.remove(0);
            Stored::fold(create, records)
        };
        messages
            .into_values()
            .map(fold)
            .map(without_nonces)
            .collect()
    }

    pub(crate) fn page(&self, query: &PageQuery) -> Vec<Stored> {
        let page = self.disk.run(self.reader.page(query)).unwrap();
        page.into_iter().map(without_nonces).collect()
    }
}

/// Writes a sealed file of these days of all records.
pub(crate) async fn write_bucket<D: Disk>(
    disk: &D,
    path: &Path,
    number: u32,
    days: &RangeInclusive<u32>,
    records: &[(Day, Record)],
) {
    let options = SealedOptions {
        number,
        first_day: Day(*days.start()),
        last_day: Day(*days.end()),
        dictionary: None,
        zstd_level: 1,
    };
    let writer = SealedWriter::create(disk, path, options).await;
    let mut writer = writer.unwrap();
    let mut channels: BTreeMap<ChannelKey, Vec<&(Day, Record)>> = BTreeMap::new();
    for entry in records {
        channels.entry(entry.1.channel).or_default().push(entry);
    }
    for (channel, all) in channels {
        let before = |is_create: bool| {
            let older = all.iter().filter(|(day, record)| {
                day.0 < *days.start() && (record.kind == RecordKind::Create) == is_create
            });
            older.map(|(day, _)| *day).max().unwrap_or(Day(0))
        };
        let within = all.iter().filter(|(day, _)| days.contains(&day.0));
        let mut messages: BTreeMap<u64, Vec<Record>> = BTreeMap::new();
        for (_, record) in within {
            messages.entry(record.seq).or_default().push(record.clone());
        }
        if messages.is_empty() {
            continue;
        }
        writer.begin_channel(channel, before(true), before(false));
        for mut records in messages.into_values() {
            if records[0].kind == RecordKind::Create {
                let create = records.remove(0);
                records = Stored::fold(create, records).records().cloned().collect();
            }
            for record in records {
                writer.push(&record).await.unwrap();
            }
        }
    }
    writer.finish().await.unwrap();
    install(disk, path).await.unwrap();
}

/// Sealed files do not keep nonces.
pub(crate) fn without_nonces(mut stored: Stored) -> Stored {
    stored.create.nonce = NonceKey::ZERO;
    let changes = (stored.edit.as_deref_mut().into_iter()).chain(stored.delete.as_deref_mut());
    for change in changes.chain(&mut stored.reactions) {
        change.nonce = NonceKey::ZERO;
    }
    stored
}
