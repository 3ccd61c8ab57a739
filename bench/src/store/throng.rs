//! Throng's own store, on the executor that this process runs for it.
//!
//! It is set up as a node of one shard is, with the store's default limits but for those that all
//! engines share.
//!
//! Invariants: a batch is one commit, acknowledged after its sync; two are under way, the second
//! is written when the first is durable; what the server does beside its commits (the next
//! segment's file), and what it does on its maintenance thread while a day lasts (index files of
//! full segments), is done likewise here, and waited for when the day ends.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use glommio::task::JoinHandle;
use throng_storage_engine::{
    ChannelKey, Did, Event, GlommioDisk, Log, LogPlace, Maintenance, MaintenanceConfig, PageQuery,
    Prepared, Query, Reader, Record, SegmentId, StoreConfig, StoreError, StoreLock, Upkept, View,
    recover,
};

use super::engine::{Ask, Engine, Failure, Limits, PAGE_MESSAGES, PageMessage};
use super::indexer::Indexer;

/// Most bytes of a page.
const PAGE_BYTES_MAX: usize = 1 << 20;

/// An open store.
pub(super) struct Throng {
    log: Log<GlommioDisk>,
    reader: Reader<GlommioDisk>,
    maintenance: Rc<Maintenance<GlommioDisk>>,
    /// The segment of the last commit.
    segment: Option<SegmentId>,
    background: Option<JoinHandle<Result<Upkept, StoreError>>>,
    indexer: Indexer,
    gathered: Option<Prepared<GlommioDisk>>,
    _lock: StoreLock,
}

fn config(limits: Limits) -> StoreConfig {
    let standard = StoreConfig::default();
    StoreConfig {
        segment_bytes: limits.segment_bytes,
        cache_bytes: limits.cache_bytes as u64,
        ..standard
    }
}

impl Engine for Throng {
    async fn open(directory: &Path, limits: Limits) -> Result<Self, Failure> {
        let config = config(limits);
        let disk = GlommioDisk::at(directory).await?;
        let recovered = recover(&disk, directory, &config).await?;
        let segments = recovered.segments;
        let (upkeep, one) = (MaintenanceConfig::default(), 1);
        let maintenance =
            Maintenance::open(disk.clone(), directory, config, upkeep, one, &segments).await?;
        let place = LogPlace {
            shard: 0,
            shards: 1,
            sealed_through: recovered.sealed_through,
        };
        let index = Rc::new(RefCell::new(recovered.index));
        let newest_ms = recovered.newest_ms;
        let log = Log::open(
            disk.clone(),
            directory,
            config,
            place,
            &segments,
            index,
            newest_ms,
        )
        .await?;
        let view = View::of(maintenance.buckets());
        let reader = Reader::new(disk, directory, log.live(), view, config);
        Ok(Self {
            log,
            reader,
            maintenance: Rc::new(maintenance),
            segment: None,
            background: None,
            indexer: Indexer::start(directory)?,
            gathered: None,
            _lock: recovered.lock,
        })
    }

    fn settings(limits: Limits) -> String {
        format!(
            "durability sync, two commits under way and the next one encoded meanwhile (latency counts from handing it over), segments of {} MiB ({} prewritten between rounds), block cache {} MiB and {} MiB for recent messages",
            limits.segment_bytes >> 20,
            config(limits).spares_max,
            limits.cache_bytes >> 20,
            config(limits).recent_bytes >> 20
        )
    }

    /// While one is written the next one is made ready and waits at the disk.
    const UNDER_WAY: usize = 2;

    fn gather(&mut self, batch: &[Record]) {
        self.gathered = Some(self.log.encoder().prepare(batch));
    }

    async fn begin(&mut self, now_ms: u64, batch: &[Record]) -> Result<(), Failure> {
        let gathered = self.gathered.take();
        let prepared = gathered.unwrap_or_else(|| self.log.encoder().prepare(batch));
        Ok(self.log.begin(now_ms, prepared).await?)
    }

    async fn acknowledged(&mut self) -> Result<(), Failure> {
        let places = self.log.finish().await?;
        let segment = places.last().map(|place| place.segment);
        if segment != self.segment {
            self.segment = segment;
            self.work_behind()?;
        }
        Ok(())
    }

    async fn page(&self, channel: ChannelKey, ask: Ask) -> Result<Vec<PageMessage>, Failure> {
        let query = PageQuery {
            channel,
            query: match ask {
                Ask::Newest => Query::Newest,
                Ask::Before(message) => Query::Before(message),
                Ask::Around(message) => Query::Around(message),
            },
            limit: PAGE_MESSAGES,
            upto_seq: u64::MAX,
            with_deleted: false,
            bytes_max: PAGE_BYTES_MAX,
        };
        let stored = self.reader.page(&query).await?;
        let page = stored.into_iter().map(|stored| PageMessage {
            message: stored.create.message,
            author: stored.create.author,
            body: stored.create.body,
        });
        Ok(page.collect())
    }

    async fn idle(&mut self) -> Result<(), Failure> {
        self.finish_background().await?;
        while self.log.upkeep().stock().await? == Upkept::Stocked {}
        Ok(())
    }

    async fn day_ended(&mut self, now_ms: u64) -> Result<(), Failure> {
        self.settle(now_ms).await
    }

    async fn settle(&mut self, now_ms: u64) -> Result<(), Failure> {
        self.finish_background().await?;
        loop {
            let ran = self.maintenance.run_due(now_ms).await?;
            let is_idle = ran.did == Did::Nothing && ran.events.is_empty();
            for event in ran.events {
                self.obey(event).await?;
            }
            if is_idle {
                return Ok(());
            }
        }
    }

    fn device_reads(&self) -> Option<u64> {
        Some(self.reader.stats().device_reads)
    }

    async fn close(mut self) -> Result<(), Failure> {
        self.finish_background().await?;
        Ok(self.log.close().await?)
    }
}

impl Throng {
    /// Does what the maintenance asks of every shard.
    async fn obey(
        &mut self,
        event: Event<<GlommioDisk as throng_storage_engine::Disk>::Mapped>,
    ) -> Result<(), Failure> {
        match event {
            Event::EndDay(day) => {
                self.log.end_day(day).await?;
                self.log.upkeep().run().await?;
                self.index_filled()?;
                self.note_indexed(Indexer::wait)?;
                self.maintenance.day_ended(0, day);
            }
            Event::Installed(installed) => {
                self.reader.install(&installed).await?;
                self.maintenance.released(installed.ticket);
            }
        }
        Ok(())
    }

    /// Makes the next segment's file beside the commits, after what was begun before, and has
    /// the index files of full segments written.
    fn work_behind(&mut self) -> Result<(), Failure> {
        self.note_indexed(Indexer::written)?;
        self.index_filled()?;
        let before = self.background.take();
        let upkeep = self.log.upkeep();
        let task = glommio::spawn_local(async move {
            if let Some(before) = before {
                before.await.transpose()?;
            }
            upkeep.run().await
        });
        self.background = Some(task.detach());
        Ok(())
    }

    fn index_filled(&mut self) -> Result<(), Failure> {
        let filled = self.log.index().borrow_mut().filled();
        filled
            .into_iter()
            .try_for_each(|hot| self.indexer.write(hot))
    }

    /// Lets go of the segments whose index files are written.
    fn note_indexed(
        &mut self,
        written: impl FnOnce(&mut Indexer) -> Result<Vec<SegmentId>, Failure>,
    ) -> Result<(), Failure> {
        let index = self.log.index();
        for segment in written(&mut self.indexer)? {
            index.borrow_mut().drop_hot(segment);
        }
        Ok(())
    }

    async fn finish_background(&mut self) -> Result<(), Failure> {
        if let Some(background) = self.background.take() {
            background.await.transpose()?;
        }
        self.note_indexed(Indexer::wait)
    }
}
