//! Index files against the memory that they are written from, and catalogs that are merged from
//! them against the table that recovery builds.
//!
//! No segment is written: an index needs none.
//!
//! Invariants: what a test draws follows from its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::catalog::{
    CatalogEntry, CatalogReader, Checkpoint, EndedSegment, checkpoint, node_path,
};
use crate::hot::HotSegment;
use crate::index::Index;
use crate::place::Place;
use crate::record::{Location, RecordKind, RecordMeta};
use crate::sim_disk::{SimDisk, SimLatency};

const DAY: Day = Day(20_000);
const CREATED_MS: u64 = 20_000 * 24 * 60 * 60 * 1000;

fn channel(number: u32) -> ChannelKey {
    let mut key = ChannelKey([7; 16]);
    key.0[6..10].copy_from_slice(&number.to_be_bytes());
    key
}

fn key(ms: u64, counter: u64) -> MessageKey {
    MessageKey(((u128::from(ms) << 80) | u128::from(counter)).to_be_bytes())
}

/// Draws records into one segment after the other.
struct Drawing {
    rng: StdRng,
    index: Index,
    channels: u32,
    counter: u64,
    /// Keys of all messages, by channel, in order of seq.
    messages: BTreeMap<ChannelKey, Vec<MessageKey>>,
}

impl Drawing {
    fn new(seed: u64, channels: u32) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            index: Index::new(seed),
            channels,
            counter: 0,
            messages: BTreeMap::new(),
        }
    }

    fn segment(&mut self, number: u32, records: u32) -> Arc<HotSegment> {
        self.index.begin_segment(SegmentOrigin {
            segment: SegmentId(number),
            day: Day(DAY.0 + number / 4),
            shard: 0,
            salt: number.into(),
            created_ms: CREATED_MS + u64::from(number) * 1000,
        });
        for record in 0..records {
            let meta = self.record();
            let location = Location {
                segment: SegmentId(number),
                offset: 4096 + record * 100,
                bytes: 100 + record % 9,
            };
            self.index.insert(&meta, location);
        }
        self.index.end_segment(1 << 20);
        self.index.filled().pop().unwrap()
    }

    fn record(&mut self) -> RecordMeta {
        let channel = channel(self.rng.random_range(0..self.channels));
        let head = self.index.head(channel);
        self.counter += 1;
        let is_change = head.seq > 0 && self.rng.random_range(0..4) == 0;
        // Several keys share a millisecond, and some are older than their segment.
        let message = key(CREATED_MS + self.counter / 8, self.counter);
        if is_change {
            return RecordMeta {
                kind: RecordKind::Edit,
                channel,
                message,
                seq: self.rng.random_range(1..=head.seq),
                rev: head.rev + 1,
            };
        }
        self.messages.entry(channel).or_default().push(message);
        RecordMeta {
            kind: RecordKind::Create,
            channel,
            message,
            seq: head.seq + 1,
            rev: head.rev + 1,
        }
    }
}

fn disk_with(segments: &[Arc<HotSegment>]) -> (SimDisk, Paths) {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.put(Path::new("/data/LOCK"), b"");
    let paths = Paths::new(Path::new("/data"));
    disk.run(async {
        disk.create_dir(&paths.segments()).await.unwrap();
        disk.create_dir(&paths.catalogs()).await.unwrap();
        for hot in segments {
            disk.create_dir(&paths.day(hot.day())).await.unwrap();
            write_index(&disk, &paths, hot, "test").await.unwrap();
        }
    });
    (disk, paths)
}

fn sorted(changes: &[ChangeEntry]) -> Vec<ChangeEntry> {
    let mut changes = changes.to_vec();
    changes.sort_unstable_by_key(|change| (change.seq, change.rev));
    changes
}

/// Asks the file all that memory can answer.
async fn compare(index: &SegmentIndex<SimDisk>, hot: &HotSegment, asked: &[MessageKey]) {
    let mut directory = index.directory();
    for (channel, slot) in hot.sorted() {
        let (run, entries, changes) = hot.slot(slot);
        let found = index.run(channel).await.unwrap().unwrap();
        assert_eq!(Some(found), directory.next().await.unwrap());
        assert_eq!((found.channel, found.run), (channel, *run));
        let all = index.entries(&found, 0..u64::MAX).await.unwrap();
        assert_eq!(all, entries);
        let middle = run.first_seq + u64::from(run.count) / 2;
        let part = index.entries(&found, middle..middle + 3).await.unwrap();
        let start = usize::try_from(middle - run.first_seq).unwrap();
        assert_eq!(part, entries[start..(start + 3).min(entries.len())]);
        let sorted = sorted(changes);
        let all = index.changes(&found, 0..u64::MAX).await.unwrap();
        assert_eq!(all, sorted);
        let near: Vec<ChangeEntry> = (sorted.iter().copied())
            .filter(|change| (middle..middle + 5).contains(&change.seq))
            .collect();
        let found_near = index.changes(&found, middle..middle + 5).await.unwrap();
        assert_eq!(found_near, near);
        for key in asked {
            let ties = index.ties(&found, *key).await.unwrap();
            assert_eq!(ties, hot.ties(channel, *key));
        }
    }
    assert_eq!(directory.next().await.unwrap(), None);
    assert_eq!(
        index.run(super::tests::channel(u32::MAX)).await.unwrap(),
        None
    );
    assert_eq!(index.run(ChannelKey::ZERO).await.unwrap(), None);
}

fn check(seed: u64, channels: u32, records: u32) {
    let mut drawing = Drawing::new(seed, channels);
    let first = drawing.segment(1, records / 2);
    let second = drawing.segment(2, records);
    let (disk, paths) = disk_with(&[Arc::clone(&first), Arc::clone(&second)]);
    let times = [0, 1, 5, 500, u64::from(records) / 10, u64::from(records)];
    let asked = times.map(|ms| key(CREATED_MS + ms, 3));
    for hot in [first, second] {
        disk.run(async {
            let index = SegmentIndex::open(&disk, &paths, hot.segment(), hot.day()).await;
            let index = index.unwrap();
            assert_eq!((index.end(), index.records()), (hot.end(), hot.records()));
            assert_eq!(index.newest_ms(), hot.newest_ms());
            compare(&index, &hot, &asked).await;
            index.close().await.unwrap();
        });
    }
}

#[test]
fn one_busy_channel_over_many_blocks() {
    check(1, 1, 30_000);
}

#[test]
fn many_channels_over_many_blocks() {
    check(2, 4000, 9000);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_file_answers_as_memory_does(seed: u64, channels in 1_u32..200, records in 1_u32..1500) {
        check(seed, channels, records);
    }

    #[test]
    fn ties_enclose_the_key(seed: u64, records in 1_u32..400) {
        let mut drawing = Drawing::new(seed, 3);
        let hot = drawing.segment(1, records);
        for (channel, keys) in &drawing.messages {
            for (position, key) in keys.iter().enumerate() {
                let ties = hot.ties(*channel, *key).unwrap();
                prop_assert!(ties.contains(&(position as u64 + 1)));
                let boundary = keys.partition_point(|other| other < key) as u64 + 1;
                prop_assert!(ties.start <= boundary && boundary <= ties.end);
            }
        }
    }
}

#[test]
fn damage_anywhere_is_noticed_or_in_padding() {
    let hot = Drawing::new(5, 60).segment(1, 900);
    let (disk, paths) = disk_with(&[Arc::clone(&hot)]);
    let path = paths.index(hot.segment(), hot.day());
    let content = disk.contents(&path).unwrap();
    let mut rng = StdRng::seed_from_u64(5);
    let mut noticed = 0;
    for _ in 0..600 {
        let mut damaged = content.clone();
        damaged[rng.random_range(0..content.len())] ^= 1 << rng.random_range(0..8);
        disk.put(&path, &damaged);
        let read = disk.run(read_everything(&disk, &paths, &hot));
        match read {
            Ok(all) => assert!(all, "what is read is what was written"),
            Err(StoreError::Corrupt { damage, .. }) => {
                assert_eq!(damage, Damage::Index);
                noticed += 1;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(noticed > 300);
}

/// Whether the file says all that memory does.
async fn read_everything(
    disk: &SimDisk,
    paths: &Paths,
    hot: &HotSegment,
) -> Result<bool, StoreError> {
    let index = SegmentIndex::open(disk, paths, hot.segment(), hot.day()).await?;
    let mut is_same = true;
    for (channel, slot) in hot.sorted() {
        let (run, entries, changes) = hot.slot(slot);
        let Some(found) = index.run(channel).await? else {
            return Ok(false);
        };
        is_same &= found.run == *run
            && index.entries(&found, 0..u64::MAX).await? == entries
            && index.changes(&found, 0..u64::MAX).await? == sorted(changes);
    }
    Ok(is_same)
}

#[test]
fn a_block_in_a_wrong_place_is_noticed() {
    let hot = Drawing::new(6, 1).segment(1, 5000);
    let (disk, paths) = disk_with(&[Arc::clone(&hot)]);
    let path = paths.index(hot.segment(), hot.day());
    let mut content = disk.contents(&path).unwrap();
    content.copy_within(3 * 4096..4 * 4096, 4 * 4096);
    disk.put(&path, &content);
    assert!(disk.run(read_everything(&disk, &paths, &hot)).is_err());
}

async fn all_of(disk: &SimDisk, paths: &Paths) -> BTreeMap<ChannelKey, CatalogEntry> {
    let mut catalog = CatalogReader::open(disk, &node_path(paths)).await.unwrap();
    let mut entries = BTreeMap::new();
    while let Some(entry) = catalog.next().await.unwrap() {
        entries.insert(entry.channel, entry);
    }
    catalog.close().await.unwrap();
    entries
}

fn ended(hot: &HotSegment) -> EndedSegment {
    EndedSegment {
        segment: hot.segment(),
        day: hot.day(),
        end: hot.end(),
    }
}

#[test]
fn a_merged_catalog_says_what_the_table_does_however_it_came_about() {
    for (seed, cuts) in [(1, vec![]), (2, vec![20]), (3, vec![1, 2, 40, 65])] {
        let mut drawing = Drawing::new(seed, 300);
        let segments: Vec<_> = (1..=70).map(|number| drawing.segment(number, 90)).collect();
        let (disk, paths) = disk_with(&segments);
        let bounds: Vec<usize> = [vec![0], cuts, vec![segments.len()]].concat();
        for pair in bounds.windows(2) {
            let wanted = Checkpoint {
                goes_on: pair[0] > 0,
                add: segments[pair[0]..pair[1]]
                    .iter()
                    .map(|hot| ended(hot))
                    .collect(),
                gone: BTreeSet::from([SegmentId(1), SegmentId(2)]),
            };
            disk.run(checkpoint(&disk, &paths, &wanted)).unwrap();
        }
        let entries = disk.run(all_of(&disk, &paths));
        assert_eq!(entries.len(), drawing.index.channels());
        for (channel, head) in drawing.index.heads() {
            let entry = entries[&channel];
            assert_eq!(entry.head, head);
            assert_eq!(
                (entry.newest, entry.newest_changes),
                drawing.index.newest(channel)
            );
        }
        let catalog = disk.run(CatalogReader::open(&disk, &node_path(&paths)));
        let catalog = catalog.unwrap();
        assert_eq!(
            catalog.segments().len(),
            68,
            "those that are gone are not named"
        );
        assert_eq!(catalog.newest(), (SegmentId(70), segments[69].day()));
        assert_eq!(catalog.newest_ms(), CREATED_MS + drawing.counter / 8);
    }
}

#[test]
fn a_segment_left_out_is_no_catalog() {
    let mut drawing = Drawing::new(4, 10);
    let segments: Vec<_> = (1..=3).map(|number| drawing.segment(number, 90)).collect();
    let (disk, paths) = disk_with(&segments);
    let wanted = Checkpoint {
        goes_on: false,
        add: vec![ended(&segments[0]), ended(&segments[2])],
        gone: BTreeSet::new(),
    };
    let refused = disk.run(checkpoint(&disk, &paths, &wanted));
    assert!(matches!(refused, Err(StoreError::SeqBreak { .. })));
    assert_eq!(disk.contents(&node_path(&paths)), None);
}

#[test]
fn any_flipped_bit_of_a_catalog_is_noticed() {
    let mut drawing = Drawing::new(7, 9);
    let hot = drawing.segment(1, 90);
    let (disk, paths) = disk_with(&[Arc::clone(&hot)]);
    let wanted = Checkpoint {
        goes_on: false,
        add: vec![ended(&hot)],
        gone: BTreeSet::new(),
    };
    disk.run(checkpoint(&disk, &paths, &wanted)).unwrap();
    let content = disk.contents(&node_path(&paths)).unwrap();
    let read = || {
        disk.run(async {
            let mut catalog = CatalogReader::open(&disk, &node_path(&paths)).await?;
            while catalog.next().await?.is_some() {}
            Ok::<_, StoreError>(())
        })
    };
    let used = (0..48).chain(4096..4096 + 16 + 9 * 64);
    for byte in used {
        let mut damaged = content.clone();
        damaged[byte] ^= 1 << (byte % 8);
        disk.put(&node_path(&paths), &damaged);
        assert!(read().is_err(), "byte {byte}");
    }
    disk.put(&node_path(&paths), &content);
    read().unwrap();
}

#[test]
fn places_lead_from_the_newest_records_to_the_oldest() {
    let mut drawing = Drawing::new(8, 40);
    let segments: Vec<_> = (1..=20).map(|number| drawing.segment(number, 60)).collect();
    let (disk, paths) = disk_with(&segments);
    for (channel, head) in drawing.index.heads() {
        let (messages, changes) = drawing.index.newest(channel);
        let mut seqs = Vec::new();
        let mut place = messages;
        while !place.is_none() {
            let run = disk.run(run_at(&disk, &paths, place, channel));
            assert!(run.run.count > 0, "only segments with messages are linked");
            seqs.splice(0..0, run.run.seqs());
            place = run.run.prev;
        }
        assert_eq!(seqs, (1..=head.seq).collect::<Vec<_>>());
        let mut found = 0;
        let mut place = changes;
        while !place.is_none() {
            let run = disk.run(run_at(&disk, &paths, place, channel));
            assert!(run.run.changes > 0, "only segments with changes are linked");
            found += u64::from(run.run.changes);
            place = run.run.prev_changes;
        }
        assert_eq!(found, head.rev - head.seq);
    }
}

async fn run_at(disk: &SimDisk, paths: &Paths, place: Place, channel: ChannelKey) -> IndexedRun {
    let index = SegmentIndex::open(disk, paths, place.segment, place.day).await;
    index.unwrap().run(channel).await.unwrap().unwrap()
}
