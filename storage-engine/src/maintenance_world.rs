//! Maintenance beside logs and recovery, with the power cut in any write, sync and rename: what
//! was acknowledged is there, once, whether it lies in segments or buckets.
//!
//! What is read is found as readers find it: from the newest places of the index on, along the
//! links.
//!
//! Invariants: every drawn choice follows from one seed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::config::{MaintenanceConfig, StoreConfig};
use crate::disk::Disk;
use crate::erasure::Erasure;
use crate::error::{CommitError, StoreError};
use crate::event::{Did, Event, Ran};
use crate::index::Index;
use crate::key::{ChannelKey, SegmentId};
use crate::log::{Log, LogPlace};
use crate::maintenance::Maintenance;
use crate::maintenance_model::{
    DAY_MS, FIRST_DAY, Model, Sim, View, assert_same, author, channel, is_between, records, root,
    seen,
};
use crate::place::Place;
use crate::record::{Record, RecordKind};
use crate::recovery::{Recovered, recover};
use crate::scan::Candidate;
use crate::segment::Day;
use crate::segment_index::SegmentIndex;
use crate::sim_disk::{SimDisk, SimLatency};
use crate::stored::Stored;

/// Segments of 8 blocks.
fn tiny() -> StoreConfig {
    StoreConfig {
        segment_bytes: 32 << 10,
        commit_bytes_max: 8 << 10,
        record_bytes_max: 4 << 10,
        chunk_bytes: 32 << 10,
        unindexed_segments_max: 2,
        ..StoreConfig::default()
    }
}

/// Two segments at most are sorted together, and two parts merged.
fn config() -> MaintenanceConfig {
    MaintenanceConfig {
        sort_bytes_max: 40 << 10,
        merge_inputs_max: 2,
        checkpoint_segments: 2,
        ..MaintenanceConfig::default()
    }
}

struct Node {
    logs: Vec<Log<SimDisk>>,
    maintenance: Sim,
    _lock: crate::disk::StoreLock,
}

fn owner(channel: ChannelKey, shards: u16) -> usize {
    usize::from(channel.0[0]) % usize::from(shards)
}

/// Opens a store and reads all of it.
async fn start(disk: &SimDisk, shards: u16, now_ms: u64) -> Result<(Node, View), StoreError> {
    let recovered = recover(disk, root(), &tiny()).await?;
    let Recovered {
        index,
        segments,
        lock,
        ..
    } = recovered;
    let maintenance =
        Maintenance::open(disk.clone(), root(), tiny(), config(), shards, &segments).await?;
    let view = read_all(&maintenance, &index).await?;
    let parts = index.split(shards.into(), |channel| owner(channel, shards));
    let mut logs = Vec::new();
    for (shard, part) in (0..).zip(parts) {
        let place = LogPlace {
            shard,
            shards,
            sealed_through: recovered.sealed_through,
        };
        let index = Rc::new(RefCell::new(part));
        let log = Log::open(
            disk.clone(),
            root(),
            tiny(),
            place,
            &segments,
            index,
            now_ms,
        )
        .await?;
        logs.push(log);
    }
    let node = Node {
        logs,
        maintenance,
        _lock: lock,
    };
    Ok((node, view))
}

/// Follows every channel's links through indexed segments and buckets.
async fn read_all(maintenance: &Sim, index: &Index) -> Result<View, StoreError> {
    let mut view = View::new();
    let mut all: BTreeMap<Where, Vec<Record>> = BTreeMap::new();
    for (channel, head) in index.heads() {
        let (newest, newest_changes) = index.newest(channel);
        let messages = follow(maintenance, channel, newest, true).await?;
        let changes = follow(maintenance, channel, newest_changes, false).await?;
        for place in messages.union(&changes) {
            if !all.contains_key(place) {
                all.insert(*place, read(maintenance, *place).await?);
            }
        }
        let of = |places: &BTreeSet<Where>| -> Vec<Record> {
            let records = places.iter().flat_map(|place| all[place].iter());
            records
                .filter(|record| record.channel == channel)
                .cloned()
                .collect()
        };
        let mut stored: BTreeMap<u64, Stored> = BTreeMap::new();
        for record in of(&messages) {
            if record.kind == RecordKind::Create {
                assert!(record.seq <= head.seq);
                assert!(
                    stored.insert(record.seq, Stored::new(record)).is_none(),
                    "once"
                );
            }
        }
        assert_eq!(stored.len() as u64, head.seq, "all of {channel}");
        let both = messages.union(&changes).copied().collect();
        let mut changes = of(&both);
        changes.retain(|record| record.kind != RecordKind::Create);
        changes.sort_by_key(|record| record.rev);
        for change in changes {
            stored.get_mut(&change.seq).unwrap().apply(change);
        }
        view.extend(stored.iter().map(|(seq, one)| ((channel, *seq), seen(one))));
    }
    Ok(view)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Where {
    Bucket(u32),
    Segment(SegmentId, Day),
}

async fn follow(
    maintenance: &Sim,
    channel: ChannelKey,
    mut place: Place,
    is_messages: bool,
) -> Result<BTreeSet<Where>, StoreError> {
    let mut found = BTreeSet::new();
    while !place.is_none() {
        let is_unsealed = maintenance
            .state
            .borrow()
            .segments
            .contains_key(&place.segment);
        if is_unsealed {
            let (disk, paths) = (&maintenance.disk, &maintenance.paths);
            let index = SegmentIndex::open(disk, paths, place.segment, place.day).await?;
            let run = index
                .run(channel)
                .await?
                .expect("a place has its channel")
                .run;
            index.close().await?;
            assert!(found.insert(Where::Segment(place.segment, place.day)));
            place = if is_messages {
                run.prev
            } else {
                run.prev_changes
            };
        } else {
            let state = maintenance.state.borrow();
            let bucket = state.manifest.bucket_of(place.day);
            let bucket = bucket.unwrap_or_else(|| panic!("{place:?} is nowhere"));
            let run = state.open[&bucket.number].find(channel);
            let run = run.expect("a place has its channel");
            assert!(found.insert(Where::Bucket(bucket.number)));
            let day = if is_messages {
                run.prev_day
            } else {
                run.prev_changes_day
            };
            place = Place::sealed(day);
        }
    }
    Ok(found)
}

async fn read(maintenance: &Sim, place: Where) -> Result<Vec<Record>, StoreError> {
    match place {
        Where::Bucket(number) => {
            let bucket = {
                let state = maintenance.state.borrow();
                let mut buckets = state.manifest.buckets.iter();
                *buckets.find(|bucket| bucket.number == number).unwrap()
            };
            Ok(records(maintenance, &bucket).await)
        }
        Where::Segment(segment, day) => {
            let (disk, paths) = (&maintenance.disk, &maintenance.paths);
            let candidate = Candidate::examine(disk, paths, segment, day).await?;
            let end = maintenance.state.borrow().segments[&segment].end;
            let mut records = Vec::new();
            let mut add = |record: crate::format::RecordView<'_>, _| {
                records.push(record.to_record());
                Ok(())
            };
            candidate.scan(disk, &tiny(), end, &mut add).await?;
            Ok(records)
        }
    }
}

impl Node {
    /// Does what shards do with events.
    async fn hear(&self, ran: Ran<Vec<u8>>) -> Result<Did, StoreError> {
        for event in ran.events {
            match event {
                Event::EndDay(_) => unreachable!("heard by those who own the logs"),
                Event::Installed(installed) => {
                    for log in &self.logs {
                        let segments = log.segments();
                        let mut segments = segments.borrow_mut();
                        installed
                            .obsolete
                            .iter()
                            .for_each(|segment| segments.remove(*segment));
                    }
                    self.maintenance.released(installed.ticket);
                }
            }
        }
        Ok(ran.did)
    }

    async fn hand_over(&self, shard: usize) -> Result<(), StoreError> {
        let log = &self.logs[shard];
        log.upkeep().run().await?;
        let filled = log.index().borrow_mut().filled();
        for hot in filled {
            let segment = self.maintenance.filled(&hot).await?;
            log.index().borrow_mut().drop_hot(segment);
        }
        Ok(())
    }

    async fn end_day(&mut self, day: Day) -> Result<(), StoreError> {
        for shard in 0..self.logs.len() {
            self.logs[shard].end_day(day).await?;
            self.hand_over(shard).await?;
            self.maintenance
                .day_ended(u16::try_from(shard).unwrap(), day);
        }
        Ok(())
    }

    /// Does at most so many pieces of what is due. Returns them.
    async fn maintain(&mut self, now_ms: u64, pieces: usize) -> Result<Vec<Did>, StoreError> {
        let mut done = Vec::new();
        while done.len() < pieces {
            let mut ran = self.maintenance.run_due(now_ms).await?;
            if let Did::AskedToEnd(day) = ran.did {
                ran.events.clear();
                self.end_day(day).await?;
            }
            match self.hear(ran).await? {
                Did::Nothing => break,
                did => done.push(did),
            }
        }
        Ok(done)
    }

    async fn close(self) -> Result<(), StoreError> {
        for log in self.logs {
            log.close().await?;
        }
        Ok(())
    }
}

/// What the outside knows when a workload ends or fails.
struct Known {
    model: Model,
    in_flight: Vec<Record>,
    now_ms: u64,
    erasing: bool,
    /// What maintenance did.
    done: Vec<Did>,
}

impl Known {
    fn new() -> Self {
        Self {
            model: Model::default(),
            in_flight: Vec::new(),
            now_ms: u64::from(FIRST_DAY) * DAY_MS,
            erasing: false,
            done: Vec::new(),
        }
    }
}

/// Writes, waits, seals, erases and restarts, as the seed says.
async fn workload(
    disk: &SimDisk,
    seed: u64,
    steps: usize,
    known: &mut Known,
) -> Result<(), StoreError> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut shards = rng.random_range(1..3);
    let erases = seed % 2 == 1;
    let (mut node, _) = start(disk, shards, known.now_ms).await?;
    for step in 0..steps {
        known.now_ms += 1;
        match rng.random_range(0..100) {
            0..=64 => commit(&mut node, &mut rng, known, shards).await?,
            65..=79 => known.now_ms += rng.random_range(1..DAY_MS),
            80..=84 => {
                let shard = rng.random_range(0..node.logs.len());
                node.hand_over(shard).await?;
            }
            85..=95 => {
                let pieces = rng.random_range(1..6);
                known
                    .done
                    .extend(node.maintain(known.now_ms, pieces).await?);
            }
            _ => {
                node.close().await?;
                shards = rng.random_range(1..3);
                let view;
                (node, view) = start(disk, shards, known.now_ms).await?;
                if !known.erasing {
                    assert_same(
                        &view,
                        &known.model.view(),
                        &format!("seed {seed}, step {step}"),
                    );
                }
            }
        }
        if erases && step == steps / 2 {
            known.erasing = true;
            let of = Erasure::Author(author(3));
            node.maintenance
                .erase(known.now_ms + DAY_MS * 400, of)
                .await?;
        }
    }
    Ok(())
}

async fn commit(
    node: &mut Node,
    rng: &mut StdRng,
    known: &mut Known,
    shards: u16,
) -> Result<(), StoreError> {
    let first = channel(rng.random_range(1..6));
    let shard = owner(first, shards);
    known.in_flight.clear();
    for _ in 0..rng.random_range(1..8) {
        let other = channel(rng.random_range(1..6));
        let one = if owner(other, shards) == shard {
            other
        } else {
            first
        };
        let mut record = known.model.next(rng, one, known.now_ms);
        let mut body = record.body.to_vec();
        if matches!(record.kind, RecordKind::Create | RecordKind::Edit) {
            body.resize(body.len() + rng.random_range(0..800), b'.');
        }
        record.body = body.into();
        known.in_flight.push(record);
    }
    let done = node.logs[shard]
        .commit(known.now_ms, &known.in_flight)
        .await;
    done.map_err(|error| match error {
        CommitError::Full(error) | CommitError::Poisoned(error) => error,
    })?;
    let day = Day::of_ms(known.now_ms).0;
    let records = std::mem::take(&mut known.in_flight);
    known.model.days.entry(day).or_default().extend(records);
    Ok(())
}

/// Brings everything to rest, starts again, and compares.
async fn finish(disk: &SimDisk, known: &Known, context: &str) -> Vec<Did> {
    let far_ms = known.now_ms + 500 * DAY_MS;
    let (mut node, _) = start(disk, 2, known.now_ms).await.unwrap();
    let done = node.maintain(far_ms, 10_000).await.unwrap();
    assert_eq!(node.maintenance.pending(), [], "{context}");
    assert!(
        node.maintenance.state.borrow().segments.is_empty(),
        "{context}: all is sealed"
    );
    node.close().await.unwrap();
    let (_, view) = start(disk, 1, far_ms).await.unwrap();
    if known.erasing {
        assert_same(&view, &known.model.view_without(author(3)), context);
    } else {
        assert_same(&view, &known.model.view(), context);
    }
    let files = disk.files();
    let left = files
        .iter()
        .filter(|path| path.starts_with("/data/segments"));
    assert_eq!(left.count(), 0, "{context}");
    done
}

#[test]
fn whatever_is_sealed_in_between_everything_is_found_again() {
    let mut done = Vec::new();
    for seed in 0..30 {
        let disk = SimDisk::new(seed, SimLatency::default());
        disk.run(async {
            let mut known = Known::new();
            workload(&disk, seed, 150, &mut known).await.unwrap();
            done.append(&mut known.done);
            done.extend(finish(&disk, &known, &format!("seed {seed}")).await);
        });
    }
    let some = |kind: fn(&Did) -> bool| assert!(done.iter().any(kind), "not all was tried");
    some(|did| matches!(did, Did::Prepared { parts: 4.., .. }));
    some(|did| {
        matches!(
            did,
            Did::Prepared {
                segments_left: 0,
                ..
            }
        )
    });
    some(|did| matches!(did, Did::Sealed { .. }));
    some(|did| matches!(did, Did::Passed(_)));
    some(|did| matches!(did, Did::Unlinked { .. }));
    some(|did| matches!(did, Did::Erased { .. }));
    some(|did| matches!(did, Did::Merged { .. }));
    some(|did| matches!(did, Did::Checkpointed));
}

#[test]
fn old_buckets_go_although_there_is_no_space_to_seal_the_next_day() {
    let disk = SimDisk::new(5, SimLatency::default());
    disk.run(async {
        let mut rng = StdRng::seed_from_u64(5);
        let mut known = Known::new();
        let (mut node, _) = start(&disk, 1, known.now_ms).await.unwrap();
        node.maintenance.config.neighbours_bytes_max = 0;
        for _ in 0..3 {
            write_day(&mut node, &mut rng, &mut known).await;
            node.maintain(known.now_ms, 100).await.unwrap();
        }
        let buckets = node.maintenance.state.borrow().manifest.buckets.len();
        assert_eq!(buckets, 3);
        write_day(&mut node, &mut rng, &mut known).await;
        let day = Day(Day::of_ms(known.now_ms).0 - 1);
        node.end_day(day).await.unwrap();
        node.maintenance.config.retention.days_max = Some(1);
        // Enough for a manifest, not for a bucket.
        disk.set_quota_bytes(Some(disk.used_bytes() + 8192));
        if let Err(error) = node.maintain(known.now_ms, 100).await {
            assert!(error.is_full(), "{error}");
        }
        // With their space the next day can be sealed, and then the third bucket is old, too.
        assert!(node.maintenance.progress().buckets_dropped >= 2);
    });
}

/// Commits some records, and lets time pass until their day is over.
async fn write_day(node: &mut Node, rng: &mut StdRng, known: &mut Known) {
    for _ in 0..12 {
        known.now_ms += 1;
        commit(node, rng, known, 1).await.unwrap();
    }
    known.now_ms += 2 * DAY_MS;
}

/// A node whose log has written four index files of its segments itself, and those.
async fn indexed_by_its_log(disk: &SimDisk, known: &mut Known) -> (Node, Vec<PathBuf>) {
    let mut rng = StdRng::seed_from_u64(6);
    let (mut node, _) = start(disk, 1, known.now_ms).await.unwrap();
    loop {
        let files = disk.files().into_iter();
        let is_index = |path: &PathBuf| path.extension().is_some_and(|name| name == "idx");
        let indexes: Vec<PathBuf> = files.filter(is_index).collect();
        if indexes.len() == 4 {
            return (node, indexes);
        }
        known.now_ms += 1;
        commit(&mut node, &mut rng, known, 1).await.unwrap();
    }
}

#[test]
fn the_catalog_covers_nothing_behind_a_segment_without_an_index() {
    let disk = SimDisk::new(6, SimLatency::default());
    disk.run(async {
        let mut known = Known::new();
        let (node, indexes) = indexed_by_its_log(&disk, &mut known).await;
        let content = disk.contents(&indexes[1]).unwrap();
        disk.remove(&indexes[1]).await.unwrap();
        node.maintenance.checkpoint().await.unwrap();
        assert_eq!(node.maintenance.state.borrow().segments.len(), 1);
        disk.put(&indexes[1], &content);
        node.maintenance.checkpoint().await.unwrap();
        assert_eq!(node.maintenance.state.borrow().segments.len(), 4);
        assert_eq!(node.maintenance.state.borrow().uncovered, []);
        drop(node);
        let (_, view) = start(&disk, 1, known.now_ms).await.unwrap();
        assert_same(&view, &known.model.view(), "everything is found");
    });
}

#[test]
fn an_index_file_that_the_catalog_relies_on_is_durable() {
    for seed in 0..16 {
        let disk = SimDisk::new(seed, SimLatency::default());
        let newest = disk.run(async {
            let mut known = Known::new();
            let (node, mut indexes) = indexed_by_its_log(&disk, &mut known).await;
            let newest = indexes.pop().unwrap();
            let aside = newest.with_extension("tmp");
            disk.rename(&newest, &aside).await.unwrap();
            disk.sync_dir(newest.parent().unwrap()).await.unwrap();
            disk.rename(&aside, &newest).await.unwrap();
            node.maintenance.checkpoint().await.unwrap();
            newest
        });
        disk.crash();
        assert!(disk.contents(&newest).is_some(), "seed {seed}");
    }
}

#[test]
fn a_crash_anywhere_loses_nothing_and_doubles_nothing() {
    for seed in 0..6 {
        let disk = SimDisk::new(seed, SimLatency::default());
        let mut known = Known::new();
        disk.run(workload(&disk, seed, 60, &mut known)).unwrap();
        for cut in (1 + seed..=disk.changes()).step_by(11) {
            check_cut(seed, cut);
        }
    }
}

fn check_cut(seed: u64, cut: u64) {
    let context = format!("seed {seed}, cut {cut}");
    let disk = SimDisk::new(seed, SimLatency::default());
    disk.cut_power_at(cut);
    let mut known = Known::new();
    let ended = disk.run(workload(&disk, seed, 60, &mut known));
    assert!(ended.is_err(), "{context}: the power was cut");
    disk.crash();
    disk.run(async {
        let (node, found) = start(&disk, 1, known.now_ms).await.unwrap();
        // By the head: a commit of changes alone may not show in what is read.
        let index = node.logs[0].index();
        let survived = |last: &Record| index.borrow().head(last.channel).rev >= last.rev;
        let is_there = known.in_flight.iter().any(survived);
        drop(node);
        let mut with_last = known.model.clone();
        let day = Day::of_ms(known.now_ms).0;
        let last = known.in_flight.iter().cloned();
        with_last.days.entry(day).or_default().extend(last);
        if is_there {
            known.model = with_last;
        }
        known.model.rewind();
        let (before, after) = (known.model.view(), known.model.view_without(author(3)));
        if known.erasing {
            for (place, now) in &found {
                let is_either = *now == before[place] || *now == after[place];
                assert!(
                    is_either || is_between(now, &before[place]),
                    "{context}: {place:?}"
                );
            }
            assert_eq!(found.len(), before.len(), "{context}");
        } else {
            assert_same(&found, &before, &context);
        }
        let (node, _) = start(&disk, 1, known.now_ms).await.unwrap();
        if node.maintenance.pending().is_empty() {
            known.erasing = found == after;
        }
        drop(node);
        finish(&disk, &known, &context).await;
    });
}
