//! RocksDB, set up as its own tuning guide says for many small values and scans inside a prefix:
//! <https://github.com/facebook/rocksdb/wiki/Setup-Options-and-Basic-Tuning>.
//!
//! It stores what a page needs and nothing else: the key is channel and id, the value author and
//! body.
//!
//! Invariants: a batch is one synced write of the log.

use std::path::Path;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBIterator, Direction, IteratorMode, Options,
    ReadOptions, SliceTransform, WaitForCompactOptions, WriteBatch, WriteOptions,
};
use throng_storage_engine::{ChannelKey, MessageKey, Record};

use super::entry::{Entry, key, page_message};
use crate::store::engine::{Ask, Engine, Failure, Limits, PAGE_MESSAGES, PageMessage};

/// An open database.
pub(in crate::store) struct Rocks {
    db: DB,
    write: WriteOptions,
}

fn options(limits: Limits) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_size(16 << 10);
    table.set_block_cache(&Cache::new_lru_cache(limits.cache_bytes));
    table.set_bloom_filter(10.0, false);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    options.set_prefix_extractor(SliceTransform::create_fixed_prefix(16));
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_bottommost_compression_type(DBCompressionType::Zstd);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(6);
    options.set_bytes_per_sync(1 << 20);
    options.set_recycle_log_file_num(4);
    options
}

impl Engine for Rocks {
    async fn open(directory: &Path, limits: Limits) -> Result<Self, Failure> {
        let mut write = WriteOptions::default();
        write.set_sync(true);
        let db = DB::open(&options(limits), directory)?;
        Ok(Self { db, write })
    }

    fn settings(limits: Limits) -> String {
        format!(
            "WAL synced each batch and recycled, blocks of 16 KiB, LZ4 and Zstandard at the bottom, \
             bloom filters of 10 bits on keys and on channels, block cache {} MiB with index and \
             filters in it, memtables of 64 MiB, 6 background jobs",
            limits.cache_bytes >> 20
        )
    }

    async fn begin(&mut self, _now_ms: u64, batch: &[Record]) -> Result<(), Failure> {
        let mut writes = WriteBatch::default();
        for record in batch {
            let entry = Entry::of(record);
            writes.put(entry.key, &entry.value);
        }
        Ok(self.db.write_opt(writes, &self.write)?)
    }

    async fn page(&self, channel: ChannelKey, ask: Ask) -> Result<Vec<PageMessage>, Failure> {
        let (before, from_on) = Entry::split(ask);
        let mut page = Vec::with_capacity(PAGE_MESSAGES);
        let bound = Entry::bound(channel, ask);
        let last = IteratorMode::From(&bound, Direction::Reverse);
        for item in self.scan(channel, Some(bound), last).take(before) {
            let (key, value) = item?;
            page.push(page_message(&key, Bytes::from(value)));
        }
        page.reverse();
        let first = IteratorMode::From(&bound, Direction::Forward);
        if from_on > 0 {
            for item in self.scan(channel, None, first).take(from_on) {
                let (key, value) = item?;
                page.push(page_message(&key, Bytes::from(value)));
            }
        }
        Ok(page)
    }

    async fn settle(&mut self, _now_ms: u64) -> Result<(), Failure> {
        self.db.flush()?;
        let mut wait = WaitForCompactOptions::default();
        wait.set_flush(true);
        Ok(self.db.wait_for_compact(&wait)?)
    }

    async fn close(self) -> Result<(), Failure> {
        self.db.flush()?;
        drop(self.db);
        Ok(())
    }
}

impl Rocks {
    /// The channel's entries below the bound, if there is one.
    fn scan(
        &self,
        channel: ChannelKey,
        below: Option<[u8; 32]>,
        mode: IteratorMode<'_>,
    ) -> DBIterator<'_> {
        let end = key(channel, MessageKey([0xFF; 16]));
        let mut read = ReadOptions::default();
        read.set_prefix_same_as_start(true);
        read.set_iterate_lower_bound(key(channel, MessageKey::ZERO));
        read.set_iterate_upper_bound(below.unwrap_or(end));
        self.db.iterator_opt(mode, read)
    }
}
