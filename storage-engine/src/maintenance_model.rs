//! Maintenance against a model: whatever is sealed, merged, erased, dropped and cut, following a
//! channel's links from bucket to bucket finds what a list of all its records folds to.
//!
//! Days come in as whole buckets here, without segments.
//!
//! Invariants: every drawn choice follows from one seed; the model knows no bucket.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::task::Poll;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::bucket::Days;
use crate::config::{ChannelLimits, MaintenanceConfig, Retention, StoreConfig};
use crate::disk::Disk;
use crate::erasure::Erasure;
use crate::error::{DiskOp, StoreError};
use crate::event::{Did, Event};
use crate::key::{AuthorKey, ChannelKey, MessageKey, NonceKey};
use crate::maintenance::Maintenance;
use crate::manifest::Bucket;
use crate::merge::{Links, Source};
use crate::policy::Policy;
use crate::record::{Record, RecordKind};
use crate::segment::{Day, SegmentTable};
use crate::sim_disk::{SimDisk, SimFault, SimLatency};
use crate::sorted::SortedSegments;
use crate::stored::Stored;

pub(crate) const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const HOUR_MS: u64 = DAY_MS / 24;
/// 2026-11-21.
pub(crate) const FIRST_DAY: u32 = 20_778;

pub(crate) fn root() -> &'static Path {
    Path::new("/data")
}

pub(crate) fn channel(number: u8) -> ChannelKey {
    ChannelKey([number; 16])
}

pub(crate) fn author(number: u8) -> AuthorKey {
    AuthorKey([number; 16])
}

/// All that was ever written.
#[derive(Clone, Default)]
pub(crate) struct Model {
    pub(crate) days: BTreeMap<u32, Vec<Record>>,
    heads: BTreeMap<ChannelKey, (u64, u64)>,
    keys: BTreeMap<(ChannelKey, u64), MessageKey>,
    authors: BTreeMap<(ChannelKey, u64), AuthorKey>,
    counter: u64,
}

/// What a reader sees of a message that is not deleted: author, text, reactions.
pub(crate) type Seen = (AuthorKey, Bytes, Vec<(AuthorKey, Bytes)>);

/// By channel and seq; `None` is a message that is deleted or erased.
pub(crate) type View = BTreeMap<(ChannelKey, u64), Option<Seen>>;

pub(crate) fn seen(stored: &Stored) -> Option<Seen> {
    let text = stored.edit.as_deref().unwrap_or(&stored.create);
    let reactions = stored.reactions.iter();
    let reactions = reactions
        .map(|one| (one.author, one.body.clone()))
        .collect();
    (!stored.is_deleted()).then(|| (stored.create.author, text.body.clone(), reactions))
}

impl Model {
    /// Draws a day's records; some change messages of earlier days.
    fn draw_day(&mut self, rng: &mut StdRng, day: u32, records: usize) {
        for _ in 0..records {
            let channel = channel(rng.random_range(1..6));
            let record = self.next(rng, channel, u64::from(day) * DAY_MS);
            self.days.entry(day).or_default().push(record);
        }
    }

    /// Adds a channel's next record, of the message with this seq.
    fn put(&mut self, day: u32, kind: RecordKind, channel: ChannelKey, seq: u64) {
        let mut rng = StdRng::seed_from_u64(0);
        let mut record = self.next(&mut rng, channel, u64::from(day) * DAY_MS);
        while record.kind != kind || record.seq != seq {
            let head = self.heads.get_mut(&channel).expect("just drawn");
            head.1 -= 1;
            if record.kind == RecordKind::Create {
                head.0 -= 1;
            }
            record = self.next(&mut rng, channel, u64::from(day) * DAY_MS);
        }
        self.days.entry(day).or_default().push(record);
    }

    /// Draws a channel's next record, of about this time; it is not added yet.
    pub(crate) fn next(&mut self, rng: &mut StdRng, channel: ChannelKey, ms: u64) -> Record {
        let head = self.heads.entry(channel).or_default();
        let kind = match rng.random_range(0..10) {
            _ if head.0 == 0 => RecordKind::Create,
            0..=4 => RecordKind::Create,
            5..=6 => RecordKind::Edit,
            7 => RecordKind::ReactionAdd,
            8 => RecordKind::ReactionRemove,
            _ => RecordKind::Delete,
        };
        head.1 += 1;
        self.counter += 1;
        let message = MessageKey(
            ((u128::from(ms + self.counter) << 80) | u128::from(self.counter)).to_be_bytes(),
        );
        let (seq, target) = if kind == RecordKind::Create {
            head.0 += 1;
            self.keys.insert((channel, head.0), message);
            (head.0, MessageKey::ZERO)
        } else {
            let seq = rng.random_range(1..=head.0);
            (seq, self.keys[&(channel, seq)])
        };
        let by = author(rng.random_range(1..5));
        let author = match kind {
            RecordKind::Create => *self.authors.entry((channel, seq)).or_insert(by),
            RecordKind::Edit => self.authors[&(channel, seq)],
            _ => by,
        };
        let body = match kind {
            RecordKind::Create | RecordKind::Edit => {
                format!("{author} wrote {}", self.counter).into_bytes()
            }
            RecordKind::Delete => Vec::new(),
            _ => vec![rng.random_range(b'a'..b'c')],
        };
        Record {
            kind,
            schema: 1,
            channel,
            message,
            author,
            seq,
            rev: head.1,
            target,
            nonce: NonceKey([7; 16]),
            body: body.into(),
        }
    }

    /// Forgets what was drawn and not added.
    pub(crate) fn rewind(&mut self) {
        let records = self.days.values().flatten();
        let is_kept: BTreeSet<MessageKey> = records.map(|record| record.message).collect();
        let creations = self.keys.iter();
        let gone = creations.filter(|(_, message)| !is_kept.contains(message));
        let gone: Vec<(ChannelKey, u64)> = gone.map(|(place, _)| *place).collect();
        for place in gone {
            self.keys.remove(&place);
            self.authors.remove(&place);
        }
        self.heads.clear();
        for record in self.days.values().flatten() {
            let head = self.heads.entry(record.channel).or_default();
            head.0 += u64::from(record.kind == RecordKind::Create);
            head.1 = record.rev;
        }
    }

    /// Where channels go on below a day.
    fn links_below(&self, day: u32) -> HashMap<ChannelKey, Links> {
        let mut links: HashMap<ChannelKey, Links> = HashMap::new();
        for (day, records) in self.days.range(..day) {
            for record in records {
                let link = links.entry(record.channel).or_insert(Links::NONE);
                match record.kind {
                    RecordKind::Create => link.prev = Day(*day),
                    _ => link.prev_changes = Day(*day),
                }
            }
        }
        links
    }

    /// What readers see of messages that were created on these days and changed since.
    pub(crate) fn view(&self) -> View {
        let mut stored: BTreeMap<(ChannelKey, u64), Stored> = BTreeMap::new();
        for record in self.days.values().flatten() {
            let place = (record.channel, record.seq);
            if record.kind == RecordKind::Create {
                stored.insert(place, Stored::new(record.clone()));
            } else {
                stored.get_mut(&place).unwrap().apply(record.clone());
            }
        }
        stored
            .into_iter()
            .map(|(place, stored)| (place, seen(&stored)))
            .collect()
    }

    /// The same without one author.
    pub(crate) fn view_without(&self, gone: AuthorKey) -> View {
        let mut view = self.view();
        for seen in view.values_mut() {
            if let Some((author, _, reactions)) = seen {
                reactions.retain(|(author, _)| *author != gone);
                if *author == gone {
                    *seen = None;
                }
            }
        }
        view
    }
}

pub(crate) type Sim = Maintenance<SimDisk>;

fn config() -> MaintenanceConfig {
    MaintenanceConfig {
        merge_months: false,
        neighbours_bytes_max: 0,
        ..MaintenanceConfig::default()
    }
}

async fn open(disk: &SimDisk, config: MaintenanceConfig) -> Result<Sim, StoreError> {
    for directory in ["/data", "/data/segments", "/data/catalog"] {
        let directory = Path::new(directory);
        disk.create_dir(directory).await?;
        disk.sync_dir(directory.parent().unwrap()).await?;
    }
    let table = SegmentTable::default();
    let maintenance = Maintenance::open(
        disk.clone(),
        root(),
        StoreConfig::small(),
        config,
        1,
        &table,
    )
    .await?;
    Ok(maintenance)
}

/// Makes a day's records a bucket.
async fn put_day(maintenance: &Sim, model: &Model, day: u32) -> Result<(), StoreError> {
    let sorted = SortedSegments::of(&model.days[&day], model.links_below(day));
    let days = Days {
        first: Day(day),
        last: Day(day),
        is_merge: false,
    };
    let through = maintenance.state.borrow().manifest.erased_everywhere();
    let sources = vec![Source::Segments(sorted)];
    let policy = Policy::default();
    let fresh = maintenance
        .write_bucket(days, sources, policy, through)
        .await?;
    maintenance.install(&fresh, Vec::new()).await?;
    Ok(())
}

/// Runs all that is due, as shards that let go of everything at once. Returns what was done.
async fn run_all(maintenance: &Sim, now_ms: u64) -> Result<Vec<Did>, StoreError> {
    let mut done = Vec::new();
    while let Some(did) = run_one(maintenance, now_ms).await? {
        done.push(did);
        assert!(done.len() < 1000, "it comes to an end: {done:?}");
    }
    Ok(done)
}

/// Does one piece, if one is due.
async fn run_one(maintenance: &Sim, now_ms: u64) -> Result<Option<Did>, StoreError> {
    let ran = maintenance.run_due(now_ms).await?;
    for event in ran.events {
        match event {
            Event::EndDay(day) => maintenance.day_ended(0, day),
            Event::Installed(installed) => maintenance.released(installed.ticket),
        }
    }
    Ok((ran.did != Did::Nothing).then_some(ran.did))
}

/// All records of a bucket, by channel.
pub(crate) async fn records(maintenance: &Sim, bucket: &Bucket) -> Vec<Record> {
    let file = maintenance.state.borrow().open[&bucket.number].clone();
    let stream = crate::sealed::SealedStream::open(&maintenance.disk, file).await;
    let mut stream = stream.unwrap();
    let mut records = Vec::new();
    while let Some(record) = stream.next().await.unwrap() {
        records.push(record);
    }
    stream.close().await.unwrap();
    records
}

/// Follows every channel's links from its newest day on, as a reader does.
async fn read_all(maintenance: &Sim, model: &Model) -> View {
    let manifest = maintenance.state.borrow().manifest.clone();
    let mut all: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    for bucket in &manifest.buckets {
        all.insert(bucket.number, records(maintenance, bucket).await);
    }
    let mut view = View::new();
    for (channel, newest) in model.links_below(u32::MAX) {
        let follow = |mut day: Day, next: fn(&crate::sealed::ChannelRun) -> Day| {
            let mut numbers = BTreeSet::new();
            while day != Day(0) && day >= manifest.retained_from {
                let bucket = manifest.bucket_of(day);
                let bucket = bucket.unwrap_or_else(|| panic!("{day} is in no bucket"));
                let file = maintenance.state.borrow().open[&bucket.number].clone();
                let Some(run) = file.find(channel) else {
                    break;
                };
                assert!(numbers.insert(bucket.number), "links lead back");
                assert!(next(&run) < bucket.first_day, "links lead to older buckets");
                day = next(&run);
            }
            numbers
        };
        let of_channel = |number: &u32| {
            let records = all[number].clone().into_iter();
            records.filter(move |record| record.channel == channel)
        };
        let with_messages = follow(newest.prev, |run| run.prev_day);
        let with_changes = follow(newest.prev_changes, |run| run.prev_changes_day);
        let mut stored: BTreeMap<u64, Stored> = BTreeMap::new();
        for record in with_messages.iter().flat_map(of_channel) {
            if record.kind == RecordKind::Create {
                assert!(stored.insert(record.seq, Stored::new(record)).is_none());
            }
        }
        let both = with_messages.union(&with_changes);
        let mut changes: Vec<Record> = both.flat_map(of_channel).collect();
        changes.retain(|record| record.kind != RecordKind::Create);
        changes.sort_by_key(|record| record.rev);
        for change in changes {
            if let Some(stored) = stored.get_mut(&change.seq) {
                stored.apply(change);
            }
        }
        let seqs = stored.keys().copied().collect::<Vec<_>>();
        assert!(
            seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]),
            "dense: {seqs:?}"
        );
        view.extend(stored.iter().map(|(seq, one)| ((channel, *seq), seen(one))));
    }
    view
}

/// As `assert_eq!`, but says only what differs.
pub(crate) fn assert_same(found: &View, expected: &View, context: &str) {
    let places: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let differing = places
        .into_iter()
        .filter(|place| found.get(place) != expected.get(place));
    let differing: Vec<_> = differing
        .map(|place| (place, found.get(place), expected.get(place)))
        .take(3)
        .collect();
    assert!(
        differing.is_empty(),
        "{context}: found, expected: {differing:?}"
    );
}

fn drawn(seed: u64, days: u32, records: usize) -> Model {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut model = Model::default();
    for day in FIRST_DAY..FIRST_DAY + days {
        if rng.random_bool(0.8) {
            let count = rng.random_range(1..=records);
            model.draw_day(&mut rng, day, count);
        }
    }
    model
}

/// Opens a store with all days of a model.
async fn filled(disk: &SimDisk, model: &Model, config: MaintenanceConfig) -> Sim {
    let maintenance = open(disk, config).await.unwrap();
    for day in model.days.keys() {
        put_day(&maintenance, model, *day).await.unwrap();
    }
    maintenance
}

fn end_ms(days: u32) -> u64 {
    u64::from(FIRST_DAY + days) * DAY_MS + HOUR_MS
}

#[test]
fn days_hold_what_was_written_and_months_the_same() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed, SimLatency::default());
        disk.run(async {
            let model = drawn(seed, 70, 30);
            let config = MaintenanceConfig {
                merge_months: true,
                merge_inputs_max: if seed % 2 == 0 { 64 } else { 5 },
                ..config()
            };
            let maintenance = filled(&disk, &model, config).await;
            assert_eq!(
                read_all(&maintenance, &model).await,
                model.view(),
                "seed {seed}"
            );
            run_all(&maintenance, end_ms(70)).await.unwrap();
            assert_eq!(
                read_all(&maintenance, &model).await,
                model.view(),
                "seed {seed}"
            );
            let buckets = maintenance.state.borrow().manifest.buckets.clone();
            let months = buckets.iter().map(|bucket| bucket.first_day.month());
            assert_eq!(months.collect::<BTreeSet<_>>().len(), 3);
            let is_month = |bucket: &Bucket| bucket.first_day < bucket.last_day;
            assert!(buckets.iter().filter(|bucket| is_month(bucket)).count() >= 2);
            let again = open(&disk, config).await.unwrap();
            assert_same(
                &read_all(&again, &model).await,
                &model.view(),
                &format!("seed {seed}"),
            );
            let files = disk.files();
            let sealed = files.iter().filter(|path| path.starts_with("/data/sealed"));
            assert_eq!(sealed.count(), buckets.len(), "replaced files are gone");
        });
    }
}

#[test]
fn years_of_days_become_few_buckets_that_hold_the_same() {
    for (seed, neighbours_bytes_max) in (0..).zip([4 << 30, 4 << 30, 4 << 30, 200_000]) {
        let disk = SimDisk::new(seed, SimLatency::default());
        disk.run(async {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut model = Model::default();
            let config = MaintenanceConfig {
                merge_months: true,
                neighbours_bytes_max,
                ..config()
            };
            let maintenance = open(&disk, config).await.unwrap();
            let last = FIRST_DAY + 400;
            for day in (FIRST_DAY..last).filter(|day| !day.is_multiple_of(3)) {
                model.draw_day(&mut rng, day, 6);
                put_day(&maintenance, &model, day).await.unwrap();
                run_all(&maintenance, u64::from(day + 1) * DAY_MS)
                    .await
                    .unwrap();
            }
            let view = read_all(&maintenance, &model).await;
            assert_same(&view, &model.view(), &format!("seed {seed}"));
            let buckets = maintenance.state.borrow().manifest.buckets.clone();
            let is_large = |bucket: &&Bucket| bucket.last_day.0 - bucket.first_day.0 > 31;
            assert!(
                buckets.iter().any(|bucket| is_large(&bucket)),
                "{buckets:?}"
            );
            match neighbours_bytes_max {
                200_000 => {
                    let large = buckets.iter().filter(is_large);
                    assert!(large.map(|bucket| bucket.bytes).max() <= Some(220_000));
                }
                _ => assert!(buckets.len() <= 10, "{buckets:?}"),
            }
            let again = open(&disk, config).await.unwrap();
            let view = read_all(&again, &model).await;
            assert_same(&view, &model.view(), &format!("seed {seed}, opened again"));
        });
    }
}

#[test]
fn an_erased_author_leaves_no_trace_and_takes_nothing_else() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed, SimLatency::default());
        disk.run(async {
            let model = drawn(seed, 20, 30);
            let maintenance = filled(&disk, &model, config()).await;
            let gone = author(2);
            let asked_ms = end_ms(20);
            let number = maintenance
                .erase(asked_ms, Erasure::Author(gone))
                .await
                .unwrap();
            let pending = maintenance.pending();
            assert_eq!((pending.len(), pending[0].number), (1, number));
            assert_eq!(pending[0].buckets_left, model.days.len());
            run_all(&maintenance, asked_ms).await.unwrap();
            assert_eq!(maintenance.pending(), pending, "it waits for others");
            run_all(&maintenance, asked_ms + 7 * HOUR_MS).await.unwrap();
            assert_eq!(maintenance.pending()[0].buckets_left, 0);
            assert!(maintenance.pending()[0].unsealed_until.is_some());
            run_all(&maintenance, asked_ms + DAY_MS).await.unwrap();
            assert_eq!(maintenance.pending(), []);
            let found = read_all(&maintenance, &model).await;
            assert_same(&found, &model.view_without(gone), &format!("seed {seed}"));
            assert_no_trace(&maintenance, gone).await;
        });
    }
}

async fn assert_no_trace(maintenance: &Sim, gone: AuthorKey) {
    let buckets = maintenance.state.borrow().manifest.buckets.clone();
    for bucket in &buckets {
        for record in records(maintenance, bucket).await {
            let text = String::from_utf8_lossy(&record.body).into_owned();
            assert!(record.author != gone, "{record:?}");
            assert!(!text.starts_with(&gone.to_string()), "{record:?}");
        }
    }
}

#[test]
fn one_message_is_erased_with_its_edits_in_later_buckets() {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.run(async {
        let model = drawn(1, 20, 30);
        let maintenance = filled(&disk, &model, config()).await;
        let mut edits = model.days.values().flatten().filter(|record| {
            let created = model.keys[&(record.channel, record.seq)].timestamp_ms() / DAY_MS;
            record.kind == RecordKind::Edit && record.message.timestamp_ms() / DAY_MS > created
        });
        let edit = edits.next().unwrap();
        let erasure = Erasure::Message {
            channel: edit.channel,
            message: edit.target,
            seq: edit.seq,
        };
        maintenance.erase(end_ms(20), erasure).await.unwrap();
        let done = run_all(&maintenance, end_ms(21)).await.unwrap();
        let rewritten = done
            .iter()
            .filter(|did| matches!(did, Did::Erased { .. }))
            .count();
        assert!((2..10).contains(&rewritten), "only where it is: {done:?}");
        let mut expected = model.view();
        expected.insert((edit.channel, edit.seq), None);
        assert_same(
            &read_all(&maintenance, &model).await,
            &expected,
            "one erased",
        );
    });
}

#[test]
fn as_many_erasures_wait_as_may() {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.run(async {
        let config = MaintenanceConfig {
            erasures_max: 2,
            ..config()
        };
        let maintenance = open(&disk, config).await.unwrap();
        for number in 1..=2 {
            let erasure = Erasure::Author(author(number));
            assert_eq!(
                maintenance.erase(1, erasure).await.unwrap(),
                u64::from(number)
            );
        }
        let refused = maintenance.erase(1, Erasure::Author(author(3))).await;
        assert!(matches!(refused, Err(StoreError::ErasuresFull { max: 2 })));
        let again = open(&disk, config).await.unwrap();
        assert_eq!(again.pending(), maintenance.pending(), "recorded durably");
    });
}

#[test]
fn the_oldest_buckets_go_by_days_and_by_bytes() {
    let disk = SimDisk::new(3, SimLatency::default());
    disk.run(async {
        let model = drawn(3, 20, 30);
        let by_days = MaintenanceConfig {
            retention: Retention {
                days_max: Some(10),
                ..Retention::default()
            },
            ..config()
        };
        let maintenance = filled(&disk, &model, by_days).await;
        run_all(&maintenance, end_ms(20)).await.unwrap();
        let found = read_all(&maintenance, &model).await;
        let mut expected = model.view();
        let kept_from = u64::from(FIRST_DAY + 10) * DAY_MS;
        expected.retain(|place, _| model.keys[place].timestamp_ms() >= kept_from);
        assert_same(&found, &expected, "kept");
        let bytes: u64 = {
            let state = maintenance.state.borrow();
            state
                .manifest
                .buckets
                .iter()
                .map(|bucket| bucket.bytes)
                .sum()
        };
        let by_bytes = MaintenanceConfig {
            retention: Retention {
                bytes_max: Some(bytes / 2),
                ..Retention::default()
            },
            ..config()
        };
        let maintenance = open(&disk, by_bytes).await.unwrap();
        run_all(&maintenance, end_ms(20)).await.unwrap();
        let buckets = maintenance.state.borrow().manifest.buckets.clone();
        assert!(buckets.iter().map(|bucket| bucket.bytes).sum::<u64>() <= bytes / 2);
        assert!(!buckets.is_empty());
        let found = read_all(&maintenance, &model).await;
        let kept_from = u64::from(buckets[0].first_day.0) * DAY_MS;
        expected.retain(|place, _| model.keys[place].timestamp_ms() >= kept_from);
        assert_same(&found, &expected, "kept");
    });
}

#[test]
fn a_channel_ends_at_its_limit_and_others_do_not() {
    let disk = SimDisk::new(4, SimLatency::default());
    disk.run(async {
        let model = drawn(4, 20, 30);
        let maintenance = filled(&disk, &model, config()).await;
        let days_max = Some(10);
        let limits = ChannelLimits {
            days_max,
            ..ChannelLimits::default()
        };
        maintenance.set_channel_limits(channel(1), Some(limits));
        let little = ChannelLimits {
            bytes_max: Some(1),
            ..ChannelLimits::default()
        };
        maintenance.set_channel_limits(channel(2), Some(little));
        run_all(&maintenance, end_ms(20)).await.unwrap();
        let found = read_all(&maintenance, &model).await;
        let kept_from = u64::from(FIRST_DAY + 10) * DAY_MS;
        let mut expected = model.view();
        expected.retain(|place, _| match place.0 {
            one if one == channel(1) => model.keys[place].timestamp_ms() >= kept_from,
            two if two == channel(2) => found.contains_key(place),
            _ => true,
        });
        assert_same(&found, &expected, "kept");
        let of_two = |view: &View| view.keys().filter(|place| place.0 == channel(2)).count();
        assert!(of_two(&found) < of_two(&model.view()));
        let done = run_all(&maintenance, end_ms(20) + HOUR_MS).await.unwrap();
        assert_eq!(done, [], "at most once a day");
    });
}

/// A day as its directory is called.
fn day(name: &str) -> u32 {
    Day::parse(name).unwrap().0
}

#[test]
fn a_message_stays_deleted_when_only_changes_of_cut_ones_are_newer() {
    let disk = SimDisk::new(12, SimLatency::default());
    disk.run(async {
        let mut model = Model::default();
        let one = channel(1);
        model.put(day("2026-01-10"), RecordKind::Create, one, 1);
        model.put(day("2026-02-20"), RecordKind::Create, one, 2);
        model.put(day("2026-03-05"), RecordKind::Delete, one, 2);
        model.put(day("2026-04-07"), RecordKind::ReactionAdd, one, 1);
        model.put(day("2026-04-08"), RecordKind::Create, channel(2), 1);
        let maintenance = filled(&disk, &model, ninety_days()).await;
        let done = run_all(
            &maintenance,
            u64::from(day("2026-05-01")) * DAY_MS + HOUR_MS * 12,
        )
        .await
        .unwrap();
        let is_merge = |did: &Did| matches!(did, Did::Merged { .. });
        assert!(done.iter().any(is_merge), "{done:?}");
        let mut expected = model.view();
        expected.remove(&(one, 1));
        assert_eq!(expected[&(one, 2)], None, "it was deleted");
        assert_same(&read_all(&maintenance, &model).await, &expected, "kept");
    });
}

#[test]
fn what_is_left_of_channels_at_their_limits_is_as_it_was_written() {
    for seed in 0..12 {
        let disk = SimDisk::new(seed, SimLatency::default());
        disk.run(async {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut model = Model::default();
            let maintenance = open(&disk, ninety_days()).await.unwrap();
            let first = day("2026-01-03");
            let mut today = first;
            while today < first + 300 {
                model.draw_day(&mut rng, today, 6);
                put_day(&maintenance, &model, today).await.unwrap();
                today += rng.random_range(1..20);
                let now_ms = u64::from(today) * DAY_MS;
                run_all(&maintenance, now_ms).await.unwrap();
                let found = read_all(&maintenance, &model).await;
                let mut expected = model.view();
                let kept_from = u64::from(today - 90) * DAY_MS;
                expected.retain(|place, _| {
                    found.contains_key(place) || model.keys[place].timestamp_ms() >= kept_from
                });
                assert_same(&found, &expected, &format!("seed {seed}, day {today}"));
            }
            let found = read_all(&maintenance, &model).await;
            assert!(found.len() < model.view().len(), "nothing was cut");
        });
    }
}

#[test]
fn while_a_channel_is_cut_nothing_deleted_or_replaced_is_seen_again() {
    for seed in 0..24 {
        let disk = SimDisk::new(seed, SimLatency::default());
        disk.run(async {
            let model = drawn(seed, 70, 30);
            let config = MaintenanceConfig {
                merge_months: seed % 4 > 1,
                neighbours_bytes_max: 4 << 30,
                ..config()
            };
            let maintenance = filled(&disk, &model, config).await;
            let limits = match seed % 2 {
                0 => ChannelLimits {
                    days_max: Some(40),
                    ..ChannelLimits::default()
                },
                _ => ChannelLimits {
                    bytes_max: Some(8000),
                    ..ChannelLimits::default()
                },
            };
            let channels: BTreeSet<ChannelKey> = model.keys.keys().map(|(key, _)| *key).collect();
            for channel in channels {
                maintenance.set_channel_limits(channel, Some(limits));
            }
            let mut cuts = 0;
            while let Some(did) = run_one(&maintenance, end_ms(70)).await.unwrap() {
                let found = read_all(&maintenance, &model).await;
                let mut expected = model.view();
                expected.retain(|place, _| found.contains_key(place));
                assert_same(&found, &expected, &format!("seed {seed}, after {did:?}"));
                cuts += usize::from(matches!(did, Did::Cut { .. }));
            }
            assert!(cuts > 1, "several buckets lose something");
        });
    }
}

/// Months are merged, and channels keep 90 days.
fn ninety_days() -> MaintenanceConfig {
    let channel = ChannelLimits {
        days_max: Some(90),
        ..ChannelLimits::default()
    };
    MaintenanceConfig {
        retention: Retention {
            channel,
            ..Retention::default()
        },
        ..MaintenanceConfig::default()
    }
}

/// What a workload has done before it failed.
struct Known {
    days: u32,
    is_erasing: bool,
}

/// Seals days one by one, erases an author in the middle, merges months.
async fn workload(disk: &SimDisk, model: &Model, known: &mut Known) -> Result<(), StoreError> {
    let config = MaintenanceConfig {
        merge_months: true,
        ..config()
    };
    let maintenance = open(disk, config).await?;
    let sealed = maintenance.state.borrow().manifest.sealed_through;
    let last = *model.days.keys().last().unwrap();
    for day in model.days.keys().filter(|day| Day(**day) > sealed) {
        put_day(&maintenance, model, *day).await?;
        known.days = known.days.max(*day);
        if *day >= FIRST_DAY + 5 && !known.is_erasing {
            known.is_erasing = true;
            let now_ms = u64::from(last + 1) * DAY_MS;
            maintenance
                .erase(now_ms, Erasure::Author(author(3)))
                .await?;
        }
        run_all(&maintenance, u64::from(day + 1) * DAY_MS).await?;
    }
    run_all(&maintenance, u64::from(last + 3) * DAY_MS).await?;
    assert_eq!(maintenance.pending(), []);
    Ok(())
}

#[test]
fn a_crash_at_any_change_loses_and_doubles_nothing() {
    for seed in 0..3 {
        let model = drawn(seed, 14, 12);
        let count = |disk: &SimDisk| {
            let mut known = Known {
                days: 0,
                is_erasing: false,
            };
            disk.run(workload(disk, &model, &mut known)).unwrap();
            disk.changes()
        };
        let changes = count(&SimDisk::new(seed, SimLatency::default()));
        for cut in (1 + seed..=changes).step_by(3) {
            check_cut(seed, cut, &model);
        }
    }
}

fn check_cut(seed: u64, cut: u64, model: &Model) {
    let context = format!("seed {seed}, cut {cut}");
    let disk = SimDisk::new(seed, SimLatency::default());
    disk.cut_power_at(cut);
    let mut known = Known {
        days: 0,
        is_erasing: false,
    };
    let ended = disk.run(workload(&disk, model, &mut known));
    assert!(ended.is_err(), "{context}: the power was cut");
    disk.crash();
    disk.run(async {
        let maintenance = open(&disk, config()).await.unwrap();
        let sealed = maintenance.state.borrow().manifest.sealed_through;
        let recorded = !maintenance.pending().is_empty();
        let mut part = Model::default();
        for (day, records) in model.days.range(..=sealed.0) {
            part.days.insert(*day, records.clone());
        }
        part.keys.clone_from(&model.keys);
        assert!(
            part.days.keys().last() >= model.days.range(..=known.days).next_back().map(|day| day.0)
        );
        let found = read_all(&maintenance, &part).await;
        let gone = author(3);
        for (place, before) in part.view() {
            let after = part.view_without(gone)[&place].clone();
            let now = &found[&place];
            let is_either = *now == before || (known.is_erasing && *now == after);
            assert!(
                is_either || known.is_erasing && is_between(now, &before),
                "{context}: {place:?}"
            );
        }
        assert_eq!(found.len(), part.view().len(), "{context}");
        // It goes on where it was, and comes to the same end.
        let mut again = Known {
            days: 0,
            is_erasing: recorded,
        };
        workload(&disk, model, &mut again).await.unwrap();
        let maintenance = open(&disk, config()).await.unwrap();
        let found = read_all(&maintenance, model).await;
        assert_same(&found, &model.view_without(gone), &context);
        assert_no_trace(&maintenance, gone).await;
    });
}

/// Some of a message's buckets have been erased from, others not yet.
pub(crate) fn is_between(now: &Option<Seen>, before: &Option<Seen>) -> bool {
    match (now, before) {
        (None, _) => true,
        (Some(now), Some(before)) => {
            now.0 == before.0 && now.2.iter().all(|reaction| before.2.contains(reaction))
        }
        (Some(_), None) => false,
    }
}

/// Runs two futures until both have ended.
async fn both<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let (mut one, mut other) = (std::pin::pin!(one), std::pin::pin!(other));
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|context| {
        if first.is_none() {
            first = ready(one.as_mut().poll(context));
        }
        if second.is_none() {
            second = ready(other.as_mut().poll(context));
            // The first one may wait for nothing but the second one's turn to end.
            if first.is_none() && second.is_some() {
                first = ready(one.as_mut().poll(context));
            }
        }
        match first.is_some() && second.is_some() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
    (first.unwrap(), second.unwrap())
}

fn ready<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

#[test]
fn what_is_asked_during_a_merge_is_recorded_beside_it() {
    for seed in 0..20 {
        let latency = SimLatency {
            min_us: 10,
            max_us: 500,
        };
        let disk = SimDisk::new(seed, latency);
        disk.run(async {
            let model = drawn(seed, 40, 10);
            let config = MaintenanceConfig {
                merge_months: true,
                ..config()
            };
            let maintenance = filled(&disk, &model, config).await;
            let asked = async {
                for number in 1..=20 {
                    let of = Erasure::Author(author(10 + number));
                    maintenance.erase(end_ms(41), of).await.unwrap();
                }
            };
            let (done, ()) = both(run_all(&maintenance, end_ms(40)), asked).await;
            assert!(
                done.unwrap()
                    .iter()
                    .any(|did| matches!(did, Did::Merged { .. }))
            );
            let again = open(&disk, config).await.unwrap();
            assert_eq!(again.pending().len(), 20);
            assert_same(
                &read_all(&again, &model).await,
                &model.view(),
                "beside a merge",
            );
        });
    }
}

#[test]
fn a_full_disk_is_tried_again_and_leaves_nothing_behind() {
    let model = drawn(7, 40, 30);
    for room in (0..60_000).step_by(4096) {
        let disk = SimDisk::new(7, SimLatency::default());
        disk.run(async {
            let config = MaintenanceConfig {
                merge_months: true,
                ..config()
            };
            let maintenance = filled(&disk, &model, config).await;
            let before = maintenance.state.borrow().manifest.clone();
            disk.set_quota_bytes(Some(disk.used_bytes() + room));
            match run_all(&maintenance, end_ms(40)).await {
                Err(error) => assert!(error.is_full(), "{room}: {error}"),
                Ok(_) => assert!(room > 0),
            }
            let view = read_all(&maintenance, &model).await;
            assert_same(&view, &model.view(), "while it is full");
            if maintenance.state.borrow().manifest == before {
                let files = disk.files();
                let sealed = files.iter().filter(|path| path.starts_with("/data/sealed"));
                assert_eq!(
                    sealed.count(),
                    before.buckets.len(),
                    "{room}: nothing is left"
                );
            }
            disk.set_quota_bytes(None);
            run_all(&maintenance, end_ms(40) + 2 * HOUR_MS)
                .await
                .unwrap();
            assert!(maintenance.state.borrow().manifest.buckets.len() < before.buckets.len());
            let view = read_all(&maintenance, &model).await;
            assert_same(&view, &model.view(), "once there is space again");
        });
    }
}

#[test]
fn a_manifest_whose_state_is_unknown_stops_everything() {
    let disk = SimDisk::new(8, SimLatency::default());
    disk.run(async {
        let maintenance = open(&disk, config()).await.unwrap();
        let erase = |number| maintenance.erase(1, Erasure::Author(author(number)));
        disk.fail_next(DiskOp::Sync, SimFault::Io);
        erase(1).await.unwrap_err();
        assert_eq!(
            erase(2).await.unwrap(),
            1,
            "the old one was in place for sure"
        );
        disk.fail_next(DiskOp::Rename, SimFault::Io);
        erase(3).await.unwrap_err();
        assert!(matches!(erase(4).await, Err(StoreError::Poisoned)));
        assert!(matches!(
            maintenance.run_due(2).await,
            Err(StoreError::Poisoned)
        ));
        assert_eq!(
            maintenance.pending().len(),
            1,
            "memory never runs ahead of the disk"
        );
    });
}
