//! Dead letters: none is lost, none comes back by itself, and a full log says so.

use std::path::Path;

use throng_storage_engine::{
    Consumer, ConsumerLimits, Consumers, Damage, Ends, SimDisk, SimLatency, StartAt, StoreConfig,
    StoreError,
};

use crate::consuming::{ends, first, name};
use crate::world::{START_MS, World, root, tiny};

const FILE: &str = "/data/dead-letters/search.dlq";

fn config(letters_max: usize) -> StoreConfig {
    StoreConfig {
        consumers: ConsumerLimits {
            dead_letters_max: letters_max,
            reason_bytes_max: 16,
            ..ConsumerLimits::default()
        },
        ..tiny()
    }
}

/// A store with `count` messages, and a consumer of it.
async fn opened(
    disk: &SimDisk,
    count: usize,
    letters_max: usize,
) -> Result<(Consumer<SimDisk>, Ends), StoreError> {
    let mut world = World::open(disk, root(), config(letters_max), 1, START_MS).await?;
    let first = first(&world);
    if world.acked.is_empty() {
        let sent = world.send(&vec![1; count], 100).await;
        sent.map_err(|_| StoreError::Poisoned)?;
    }
    let now_ends = ends(&world, first).await;
    world.close().await?;
    let consumers = Consumers::load(disk, root(), &config(letters_max)).await?;
    let opened = consumers
        .open(disk, &name(), StartAt::Oldest, &now_ends)
        .await?;
    Ok((opened, now_ends))
}

/// Ids, attempts and seqs of all letters.
async fn letters(consumer: &mut Consumer<SimDisk>) -> Vec<(u64, u32, u64, bool)> {
    let letters = consumer.dead_letters().list(0, 1000).await.unwrap();
    let seen = |letter: &throng_storage_engine::DeadLetter| {
        (
            letter.id,
            letter.attempts,
            letter.record.seq,
            letter.is_pending,
        )
    };
    letters.iter().map(seen).collect()
}

#[test]
fn a_letter_goes_aside_comes_back_and_goes_aside_again() {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.run(async {
        let (mut consumer, ends) = opened(&disk, 3, 10).await.unwrap();
        let batch = consumer.next_batch(&ends).await.unwrap();
        for delivery in &batch.deliveries[..2] {
            consumer
                .lay_aside(delivery, "a reason that is far too long ä", 3, 50)
                .await
                .unwrap();
        }
        consumer.commit(&batch).await.unwrap();
        assert_eq!(
            letters(&mut consumer).await,
            [(1, 3, 1, false), (2, 3, 2, false)]
        );
        let reason = consumer.dead_letters().list(1, 1).await.unwrap()[0]
            .reason
            .clone();
        assert_eq!(reason, "a reason that is");
        assert!(
            consumer
                .next_batch(&ends)
                .await
                .unwrap()
                .deliveries
                .is_empty()
        );

        assert_eq!(
            consumer.dead_letters().retry(&[1, 2, 2, 9]).await.unwrap(),
            2
        );
        let batch = consumer.next_batch(&ends).await.unwrap();
        let again = &batch.deliveries;
        assert_eq!(
            (again.len(), again[0].record.seq, again[0].attempts),
            (2, 1, 3)
        );
        consumer.lay_aside(&again[0], "again", 2, 90).await.unwrap();
        consumer.commit(&batch).await.unwrap();
        assert_eq!(letters(&mut consumer).await, [(1, 5, 1, false)]);
        let letter = consumer.dead_letters().list(0, 1).await.unwrap().remove(0);
        assert_eq!((letter.first_ms, letter.last_ms), (50, 90));

        drop(consumer);
        disk.crash();
        let (mut consumer, ends) = opened(&disk, 3, 10).await.unwrap();
        assert_eq!(letters(&mut consumer).await, [(1, 5, 1, false)]);
        assert!(
            consumer
                .next_batch(&ends)
                .await
                .unwrap()
                .deliveries
                .is_empty()
        );
        assert_eq!(consumer.dead_letters().discard(&[1]).await.unwrap(), 1);
        assert!(consumer.dead_letters().is_empty());
    });
}

#[test]
fn a_full_log_stops_the_consumer_and_drops_nothing() {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.run(async {
        let (mut consumer, ends) = opened(&disk, 3, 2).await.unwrap();
        let batch = consumer.next_batch(&ends).await.unwrap();
        for delivery in &batch.deliveries[..2] {
            consumer.lay_aside(delivery, "x", 1, 1).await.unwrap();
        }
        let refused = consumer.lay_aside(&batch.deliveries[2], "x", 1, 1).await;
        assert!(matches!(
            refused,
            Err(StoreError::DeadLettersFull { count: 2, .. })
        ));
        assert_eq!(letters(&mut consumer).await.len(), 2);
        consumer.dead_letters().discard(&[1]).await.unwrap();
        consumer
            .lay_aside(&batch.deliveries[2], "x", 1, 1)
            .await
            .unwrap();
        assert_eq!(
            letters(&mut consumer).await,
            [(2, 1, 2, false), (3, 1, 3, false)]
        );
    });
}

/// Lays aside, retries and discards; notes which letters must be there at least and at most.
async fn workload(
    disk: &SimDisk,
    must: &mut Vec<u64>,
    may: &mut Vec<u64>,
) -> Result<(), StoreError> {
    let (mut consumer, ends) = opened(disk, 6, 10).await?;
    let batch = consumer.next_batch(&ends).await?;
    for (id, delivery) in (1..).zip(&batch.deliveries) {
        may.push(id);
        consumer.lay_aside(delivery, "x", 1, 1).await?;
        must.push(id);
    }
    consumer.commit(&batch).await?;
    consumer.dead_letters().retry(&[2, 3]).await?;
    let batch = consumer.next_batch(&ends).await?;
    must.retain(|id| ![2, 3].contains(id));
    consumer.commit(&batch).await?;
    may.retain(|id| ![2, 3].contains(id));
    must.retain(|id| *id != 5);
    consumer.dead_letters().discard(&[5]).await?;
    may.retain(|id| *id != 5);
    Ok(())
}

#[test]
fn a_crash_in_any_change_loses_no_letter() {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.run(workload(&disk, &mut Vec::new(), &mut Vec::new()))
        .unwrap();
    let changes = disk.changes();
    for cut in 1..=changes {
        let disk = SimDisk::new(cut, SimLatency::default());
        disk.cut_power_at(cut);
        let (mut must, mut may) = (Vec::new(), Vec::new());
        assert!(disk.run(workload(&disk, &mut must, &mut may)).is_err());
        disk.crash();
        disk.run(async {
            let (mut consumer, _) = opened(&disk, 6, 10).await.unwrap();
            let found: Vec<u64> = consumer.dead_letters().ids().collect();
            let context = format!("cut {cut}: {found:?}, must {must:?}, may {may:?}");
            assert!(must.iter().all(|id| found.contains(id)), "{context}");
            assert!(found.iter().all(|id| may.contains(id)), "{context}");
            assert_eq!(letters(&mut consumer).await.len(), found.len(), "{context}");
        });
    }
}

#[test]
fn damage_to_any_letter_is_named_and_never_cut_away() {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.run(async {
        let (mut consumer, ends) = opened(&disk, 2, 10).await.unwrap();
        let batch = consumer.next_batch(&ends).await.unwrap();
        for delivery in &batch.deliveries {
            consumer.lay_aside(delivery, "x", 1, 1).await.unwrap();
        }
    });
    let length = disk.contents(Path::new(FILE)).unwrap().len();
    assert_eq!(length, 4 * 4096, "each letter has its closing frame");
    for offset in [0, 3, 20, 71, 72, 100, 2 * 4096, 2 * 4096 + 80] {
        disk.flip(Path::new(FILE), offset, 2);
        let error = disk.run(opened(&disk, 2, 10)).err().unwrap();
        let StoreError::Corrupt { path, damage, .. } = error else {
            panic!("{offset}: {error}")
        };
        assert_eq!(
            (path.as_path(), damage),
            (Path::new(FILE), Damage::DeadLetter)
        );
        disk.flip(Path::new(FILE), offset, 2);
    }
    let (mut consumer, _) = disk.run(opened(&disk, 2, 10)).unwrap();
    assert_eq!(disk.run(letters(&mut consumer)).len(), 2);
}

#[test]
fn a_log_of_which_little_is_left_is_written_anew() {
    let disk = SimDisk::new(1, SimLatency::default());
    disk.run(async {
        let (mut consumer, ends) = opened(&disk, 3, 10).await.unwrap();
        let batch = consumer.next_batch(&ends).await.unwrap();
        consumer
            .lay_aside(&batch.deliveries[0], "stays", 1, 1)
            .await
            .unwrap();
        consumer
            .lay_aside(&batch.deliveries[1], "pending", 1, 1)
            .await
            .unwrap();
        consumer.dead_letters().retry(&[2]).await.unwrap();
        for id in 3..200 {
            consumer
                .lay_aside(&batch.deliveries[2], "goes", 1, 1)
                .await
                .unwrap();
            consumer.dead_letters().discard(&[id]).await.unwrap();
        }
        let length = disk.contents(Path::new(FILE)).unwrap().len();
        assert!(length < 1 << 20, "{length} bytes for two letters");
        let expected = [(1, 1, 1, false), (2, 1, 2, true)];
        assert_eq!(letters(&mut consumer).await, expected);
        consumer
            .lay_aside(&batch.deliveries[2], "after", 1, 1)
            .await
            .unwrap();
        drop(consumer);
        disk.crash();
        let (mut consumer, _) = opened(&disk, 3, 10).await.unwrap();
        assert_eq!(letters(&mut consumer).await.len(), 3);
    });
}
