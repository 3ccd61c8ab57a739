//! fjall with its own defaults, which its documentation recommends, and the cache that all
//! engines get.
//!
//! It stores what a page needs and nothing else: the key is channel and id, the value author and
//! body.
//!
//! Invariants: a batch is one entry of the journal, followed by fdatasync.

use std::path::Path;
use std::time::Duration;

use fjall::{Database, Guard, Keyspace, KeyspaceCreateOptions, PersistMode};
use throng_storage_engine::{ChannelKey, MessageKey, Record};

use super::entry::{Entry, key, page_message};
use crate::clock::pause;
use crate::store::engine::{Ask, Engine, Failure, Limits, PAGE_MESSAGES, PageMessage};

/// An open database.
pub(in crate::store) struct Fjall {
    db: Database,
    messages: Keyspace,
}

impl Engine for Fjall {
    async fn open(directory: &Path, limits: Limits) -> Result<Self, Failure> {
        let cache_bytes = u64::try_from(limits.cache_bytes)?;
        let db = Database::builder(directory)
            .cache_size(cache_bytes)
            .open()?;
        let messages = db.keyspace("messages", KeyspaceCreateOptions::default)?;
        Ok(Self { db, messages })
    }

    fn settings(limits: Limits) -> String {
        format!(
            "fjall's defaults: blocks of 4 KiB, LZ4 from level 2 on, bloom filters, memtable of 64 \
             MiB; cache {} MiB; each batch persisted with SyncData",
            limits.cache_bytes >> 20
        )
    }

    async fn begin(&mut self, _now_ms: u64, batch: &[Record]) -> Result<(), Failure> {
        let mut writes = self.db.batch().durability(Some(PersistMode::SyncData));
        for record in batch {
            let entry = Entry::of(record);
            writes.insert(&self.messages, entry.key, entry.value);
        }
        Ok(writes.commit()?)
    }

    async fn page(&self, channel: ChannelKey, ask: Ask) -> Result<Vec<PageMessage>, Failure> {
        let (before, from_on) = Entry::split(ask);
        let bound = Entry::bound(channel, ask);
        let mut page = Vec::with_capacity(PAGE_MESSAGES);
        let older = self.messages.range(key(channel, MessageKey::ZERO)..bound);
        for guard in older.rev().take(before) {
            page.push(read(guard)?);
        }
        page.reverse();
        if from_on > 0 {
            let end = key(channel, MessageKey([0xFF; 16]));
            for guard in self.messages.range(bound..=end).take(from_on) {
                page.push(read(guard)?);
            }
        }
        Ok(page)
    }

    async fn settle(&mut self, _now_ms: u64) -> Result<(), Failure> {
        self.messages.rotate_memtable_and_wait()?;
        while self.db.outstanding_flushes() > 0 || self.db.active_compactions() > 0 {
            pause(Duration::from_millis(10));
        }
        Ok(())
    }

    async fn close(self) -> Result<(), Failure> {
        Ok(self.db.persist(PersistMode::SyncAll)?)
    }
}

fn read(guard: Guard) -> Result<PageMessage, fjall::Error> {
    let (key, value) = guard.into_inner()?;
    Ok(page_message(&key, value.into()))
}
