//! SQLite with a write-ahead log and `synchronous = FULL`: every transaction is synced.
//!
//! It stores what a page needs and nothing else, in a table that is its own index.
//!
//! Invariants: a batch is one transaction.

use std::path::Path;

use bytes::Bytes;
use rusqlite::{Connection, Row, params};
use throng_storage_engine::{AuthorKey, ChannelKey, MessageKey, Record};

use super::entry::Entry;
use crate::store::engine::{Ask, Engine, Failure, Limits, PAGE_MESSAGES, PageMessage};

/// An open database.
pub(in crate::store) struct Sqlite {
    connection: Connection,
}

const TABLE: &str = "CREATE TABLE IF NOT EXISTS messages (
    channel BLOB NOT NULL, id BLOB NOT NULL, author BLOB NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (channel, id)) WITHOUT ROWID";
const INSERT: &str = "INSERT INTO messages VALUES (?1, ?2, ?3, ?4)";
const OLDER: &str = "SELECT id, author, body FROM messages WHERE channel = ?1 AND id < ?2 \
    ORDER BY id DESC LIMIT ?3";
const NEWER: &str = "SELECT id, author, body FROM messages WHERE channel = ?1 AND id >= ?2 \
    ORDER BY id LIMIT ?3";

impl Engine for Sqlite {
    async fn open(directory: &Path, limits: Limits) -> Result<Self, Failure> {
        let connection = Connection::open(directory.join("messages.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        let cache_kib = i64::try_from(limits.cache_bytes >> 10)?;
        connection.pragma_update(None, "cache_size", -cache_kib)?;
        connection.execute(TABLE, [])?;
        Ok(Self { connection })
    }

    fn settings(limits: Limits) -> String {
        format!(
            "WAL, synchronous = FULL, one prepared statement, table WITHOUT ROWID on (channel, id), \
             pages of 4 KiB, cache {} MiB; it has no compression",
            limits.cache_bytes >> 20
        )
    }

    async fn begin(&mut self, _now_ms: u64, batch: &[Record]) -> Result<(), Failure> {
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(INSERT)?;
            for record in batch {
                insert.execute(params![
                    record.channel.0,
                    record.message.0,
                    record.author.0,
                    &record.body[..]
                ])?;
            }
        }
        Ok(transaction.commit()?)
    }

    async fn page(&self, channel: ChannelKey, ask: Ask) -> Result<Vec<PageMessage>, Failure> {
        let (before, from_on) = Entry::split(ask);
        let id = match ask {
            Ask::Newest => MessageKey([0xFF; 16]),
            Ask::Before(message) | Ask::Around(message) => message,
        };
        let mut page = self.select(OLDER, channel, id, before)?;
        page.reverse();
        if from_on > 0 {
            page.extend(self.select(NEWER, channel, id, from_on)?);
        }
        Ok(page)
    }

    async fn settle(&mut self, _now_ms: u64) -> Result<(), Failure> {
        let checkpoint = "PRAGMA wal_checkpoint(TRUNCATE)";
        Ok(self.connection.query_row(checkpoint, [], |_| Ok(()))?)
    }

    async fn close(self) -> Result<(), Failure> {
        self.connection.close().map_err(|(_, error)| error.into())
    }
}

impl Sqlite {
    fn select(
        &self,
        statement: &str,
        channel: ChannelKey,
        id: MessageKey,
        limit: usize,
    ) -> Result<Vec<PageMessage>, Failure> {
        let mut select = self.connection.prepare_cached(statement)?;
        let mut page = Vec::with_capacity(PAGE_MESSAGES);
        let limit = i64::try_from(limit)?;
        for message in select.query_map(params![channel.0, id.0, limit], read)? {
            page.push(message?);
        }
        Ok(page)
    }
}

fn read(row: &Row<'_>) -> rusqlite::Result<PageMessage> {
    Ok(PageMessage {
        message: MessageKey(row.get(0)?),
        author: AuthorKey(row.get(1)?),
        body: Bytes::copy_from_slice(row.get_ref(2)?.as_blob()?),
    })
}
