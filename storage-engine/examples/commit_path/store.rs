//! The store's own commits, from records to locations, beside the bare writes.
//!
//! Making the records is not timed, nor is making the next segment's file.
//!
//! Invariants: every round leaves nothing under way.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use throng_storage_engine::{
    AuthorKey, ChannelKey, Day, GlommioDisk, Log, LogPlace, MessageKey, NonceKey, Record,
    RecordKind, StoreConfig, StoreLock, recover,
};

use crate::{BODY_BYTES, Failure, now};

/// A log that nothing else uses.
pub(crate) struct Store {
    log: Log<GlommioDisk>,
    seq: u64,
    _lock: StoreLock,
}

impl Store {
    pub(crate) async fn open(disk: &GlommioDisk, root: &Path) -> Result<Self, Failure> {
        let config = StoreConfig::default();
        let recovered = recover(disk, root, &config).await?;
        let place = LogPlace {
            shard: 0,
            shards: 1,
            sealed_through: Day(0),
        };
        let index = Rc::new(RefCell::new(recovered.index));
        let segments = &recovered.segments;
        let log = Log::open(disk.clone(), root, config, place, segments, index, 0).await?;
        Ok(Self {
            log,
            seq: 0,
            _lock: recovered.lock,
        })
    }

    /// Commits one after the other, or with the next one waiting behind each. Microseconds from
    /// the end of one commit to the end of the next.
    pub(crate) async fn round(
        &mut self,
        batch: u32,
        commits: u32,
        is_ahead: bool,
    ) -> Result<Vec<f64>, Failure> {
        let all: Vec<Vec<Record>> = (0..commits)
            .map(|_| (0..batch).map(|_| self.next_record()).collect())
            .collect();
        let mut ends = vec![now()];
        if is_ahead {
            let encoder = self.log.encoder();
            let mut begun = 0;
            for records in &all {
                self.log.begin(0, encoder.prepare(records)).await?;
                begun += 1;
                if begun == 2 {
                    self.log.finish().await?;
                    ends.push(now());
                    begun = 1;
                }
            }
            self.log.finish().await?;
            ends.push(now());
        } else {
            for records in &all {
                self.log.commit(0, records).await?;
                ends.push(now());
            }
        }
        self.log.upkeep().run().await?;
        let took = ends.windows(2).map(|pair| pair[1] - pair[0]);
        Ok(took
            .map(|took: Duration| took.as_secs_f64() * 1e6)
            .collect())
    }

    fn next_record(&mut self) -> Record {
        self.seq += 1;
        Record {
            kind: RecordKind::Create,
            schema: 1,
            channel: ChannelKey([1; 16]),
            message: MessageKey(u128::from(self.seq).to_be_bytes()),
            author: AuthorKey([2; 16]),
            seq: self.seq,
            rev: self.seq,
            target: MessageKey::ZERO,
            nonce: NonceKey::ZERO,
            body: Bytes::from_static(&[b'x'; BODY_BYTES as usize]),
        }
    }
}
