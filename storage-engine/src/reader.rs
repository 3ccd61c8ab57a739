//! Pages of channels: from recent messages, from segments, from sealed files, at any depth.
//!
//! It writes nothing, and never looks for a record elsewhere than where the channel's chain says.
//!
//! Invariants: a page is read from one view, and from the next one if that has been replaced
//! before it was done; nothing above the seq that was asked for is ever shown; damage to one file
//! is an error that names it, and hinders no page that does not need it.

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use crate::cache::ReadStats;
use crate::chain::Chain;
use crate::config::StoreConfig;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::event::Installed;
use crate::fetch::{Fetcher, FileKey};
use crate::index::{Query, SharedIndex};
use crate::key::{ChannelKey, MessageKey, SegmentId};
use crate::lru::Lru;
use crate::page::{Boundary, Page, PageQuery};
use crate::recent::SharedRecent;
use crate::record::{Location, Record};
use crate::sealed::Sealed;
use crate::segment::{Day, Paths, SharedSegments};
use crate::segment_index::SegmentIndex;
use crate::stored::Stored;
use crate::view::{self, Reading, SharedView, View};

/// More messages of one millisecond than these are told apart one by one before a page is read.
const TIES_MAX: u64 = 256;

/// A sealed file as readers share it.
pub type SharedSealed<D> = Arc<Sealed<<D as Disk>::Mapped>>;

/// A reading of one shard's view.
pub(crate) type ViewReading<D> = Reading<SharedSealed<D>>;

/// Reads the channels of one shard.
pub struct Reader<D: Disk> {
    pub(crate) fetcher: Fetcher<D>,
    pub(crate) view: SharedView<SharedSealed<D>>,
    pub(crate) index: SharedIndex,
    recent: SharedRecent,
    indexes: RefCell<Lru<SegmentId, SegmentIndex<D>>>,
}

/// What a shard's log adds to and its reader looks into.
#[derive(Clone)]
pub struct Live {
    /// Segments that are not sealed.
    pub segments: SharedSegments,
    /// Channels, and the segments that have no index file yet.
    pub index: SharedIndex,
    /// Recent messages.
    pub recent: SharedRecent,
}

impl<D: Disk> Reader<D> {
    /// A reader of what the log adds to, and of these sealed files.
    #[must_use]
    pub fn new(
        disk: D,
        root: &Path,
        live: Live,
        view: View<SharedSealed<D>>,
        config: StoreConfig,
    ) -> Self {
        config.assert_consistent();
        let segments = Rc::clone(&live.segments);
        Self {
            fetcher: Fetcher::new(disk, Paths::new(root), segments, config),
            view: SharedView::new(live.segments, view),
            index: live.index,
            recent: live.recent,
            indexes: RefCell::new(Lru::new(config.open_indexes_max)),
        }
    }

    /// What reading has cost since the reader was made.
    #[must_use]
    pub fn stats(&self) -> ReadStats {
        self.fetcher.cache.stats()
    }

    /// Memory that blocks and recent messages take, bookkeeping included, in bytes.
    #[must_use]
    pub fn cached_bytes(&self) -> u64 {
        self.fetcher.cache.bytes() + self.recent.borrow().bytes()
    }

    /// Reads a page, oldest message first.
    ///
    /// # Errors
    /// If the disk fails, or something is not what was written: the error names the file. Nothing
    /// else is affected: other pages may be read.
    pub async fn page(&self, query: &PageQuery) -> Result<Vec<Stored>, StoreError> {
        self.fetcher.cache.count(|stats| stats.pages += 1);
        let head = self.index.borrow().head(query.channel);
        let query = PageQuery {
            upto_seq: query.upto_seq.min(head.seq),
            ..*query
        };
        if query.limit == 0 || query.upto_seq == 0 {
            return Ok(Vec::new());
        }
        let recent = self.recent.borrow_mut().page(&query);
        if let Some(page) = recent {
            self.fetcher.cache.count(|stats| stats.pages_recent += 1);
            return Ok(page);
        }
        if !self.is_of_the_newest(&query, head.seq) {
            return Ok(self.read_current(&query).await?.0);
        }
        let visit = self.recent.borrow_mut().visit(query.channel, head.seq);
        let (page, passed) = self.read_current(&query).await?;
        let mut found: Vec<&Stored> = page.iter().chain(&passed).collect();
        found.sort_unstable_by_key(|message| message.create.seq);
        self.recent.borrow_mut().found(&visit, found.into_iter());
        Ok(page)
    }

    /// Whether a page is worth keeping: others will look for the same, since it shows a channel's
    /// newest messages, or what somebody missed who stopped not long ago.
    fn is_of_the_newest(&self, query: &PageQuery, head_seq: u64) -> bool {
        let messages_max = self.fetcher.config.recent_messages_max as u64;
        match query.query {
            Query::Newest => true,
            Query::AfterSeq(after) => head_seq.saturating_sub(after) <= messages_max,
            _ => false,
        }
    }

    /// Reads a page from the present view; also gives the deleted messages in between.
    async fn read_current(
        &self,
        query: &PageQuery,
    ) -> Result<(Vec<Stored>, Vec<Stored>), StoreError> {
        loop {
            let reading = self.view.begin();
            match self.read_page(&reading, query).await {
                // What it was reading has been replaced: the same is in the new view.
                Err(_) if self.view.is_outdated(&reading) => {}
                done => return done,
            }
        }
    }

    /// One message by its key, also if it was deleted.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn find(
        &self,
        channel: ChannelKey,
        message: MessageKey,
    ) -> Result<Option<Stored>, StoreError> {
        let query = PageQuery {
            channel,
            query: Query::Around(message),
            limit: 1,
            upto_seq: u64::MAX,
            with_deleted: true,
            bytes_max: 0,
        };
        let found = self.page(&query).await?.pop();
        Ok(found.filter(|found| found.create.message == message))
    }

    /// Reads the records at these places, in the order asked for.
    ///
    /// # Errors
    /// If the disk fails, a segment is unknown, or a record is not what was written.
    pub async fn read(&self, locations: &[Location]) -> Result<Vec<Record>, StoreError> {
        Ok(self.fetcher.fetch(locations, &[]).await?.0)
    }

    /// Replaces what there is to read, at once. The future is done when no page that was begun
    /// before is still being read: then what was replaced may be removed from the disk.
    pub fn install(
        &self,
        installed: &Installed<D::Mapped>,
    ) -> impl Future<Output = Result<(), StoreError>> + use<'_, D> {
        self.swap(&installed.change())
    }

    pub(crate) fn swap(
        &self,
        installed: &view::Installed<SharedSealed<D>>,
    ) -> impl Future<Output = Result<(), StoreError>> + use<'_, D> {
        if !installed.replaced.is_empty() {
            // Some of them may have gone: their days, by a limit of their channel, or erased.
            self.forget_recent();
        }
        let drained = self.view.install(installed);
        let obsolete = installed.obsolete.clone();
        let replaced = installed.replaced.clone();
        async move {
            drained.await;
            for segment in obsolete {
                let index = self.indexes.borrow_mut().forget(segment);
                if let Some(index) = index {
                    index.close().await?;
                }
                self.fetcher.forget(FileKey::Segment(segment)).await?;
            }
            for number in replaced {
                self.fetcher.forget(FileKey::Sealed(number)).await?;
            }
            Ok(())
        }
    }

    /// Forgets all recent messages: for when messages are taken out of the store.
    pub fn forget_recent(&self) {
        self.recent.borrow_mut().clear();
    }

    /// The index file of a segment, opened if it is not.
    pub(crate) async fn segment_index(
        &self,
        segment: SegmentId,
        day: Day,
    ) -> Result<Rc<SegmentIndex<D>>, StoreError> {
        let known = self.indexes.borrow_mut().get(segment);
        if let Some(index) = known {
            return Ok(index);
        }
        let Fetcher { disk, paths, .. } = &self.fetcher;
        let index = SegmentIndex::open(disk, paths, segment, day).await?;
        let index = Rc::new(index.with_cache(Rc::clone(&self.fetcher.cache)));
        let leaving = self.indexes.borrow_mut().keep(segment, Rc::clone(&index));
        if let Some(leaving) = leaving {
            leaving.close().await?;
        }
        Ok(index)
    }

    /// Reads a page in steps: as many messages as are missing, and more each time if most of
    /// them turn out to be deleted.
    async fn read_page(
        &self,
        reading: &ViewReading<D>,
        query: &PageQuery,
    ) -> Result<(Vec<Stored>, Vec<Stored>), StoreError> {
        let mut chain = Chain::new(self, reading, query.channel);
        let mut page = Page::new(query);
        let asked = query.asked();
        let mut middle = chain.locate(asked.boundary, query.upto_seq).await?;
        while middle.end - middle.start > TIES_MAX {
            middle = halve(&mut chain, asked.boundary, middle).await?;
        }
        let top = query.upto_seq + 1;
        let most = self.fetcher.config.page_step_max;
        let (before, after) = (most.min(asked.before as u64), most.min(asked.after as u64));
        let mut start = middle.start.saturating_sub(before).max(1);
        let oldest = chain.cover(start).await?;
        middle = middle.start.max(oldest)..middle.end.max(oldest);
        start = middle.start.saturating_sub(before).max(oldest);
        let mut seqs = start..middle.end.saturating_add(after).min(top);
        if seqs.is_empty() {
            return Ok((Vec::new(), Vec::new()));
        }
        // In a sealed file the middle is a block, which may hold the whole page; or it is two, of
        // which one certainly is needed and often is enough.
        let is_around = asked.before > 0 && asked.after > 0 || query.limit == 1;
        let is_wide = middle.end - middle.start > query.limit as u64 / 2;
        if is_around && is_wide || chain.sealed_blocks(&middle) > 1 {
            seqs = middle.clone();
        }
        let messages;
        (seqs, messages) = chain.read(seqs, middle, query.bytes_max).await?;
        page.take(messages);

        let mut step = 0;
        while page.missing_before() > 0 && seqs.start > 1 {
            step = most.min((page.missing_before() as u64).max(2 * step));
            let start = chain.cover(seqs.start.saturating_sub(step).max(1)).await?;
            if start >= seqs.start {
                break;
            }
            let anchor = seqs.start..seqs.start;
            let older = chain
                .read(start..seqs.start, anchor, query.bytes_max)
                .await?;
            seqs.start = older.0.start;
            page.take(older.1);
        }
        step = 0;
        while page.missing_after() > 0 && seqs.end < top {
            step = most.min((page.missing_after() as u64).max(2 * step));
            let end = seqs.end.saturating_add(step).min(top);
            let anchor = seqs.end..seqs.end;
            let newer = chain.read(seqs.end..end, anchor, query.bytes_max).await?;
            seqs.end = newer.0.end;
            page.take(newer.1);
        }
        let passed = page.take_passed();
        Ok((page.finish(), passed))
    }
}

/// Looks at the message in the middle, and keeps the half that the boundary lies in.
async fn halve<D: Disk>(
    chain: &mut Chain<'_, D>,
    boundary: Boundary,
    seqs: std::ops::Range<u64>,
) -> Result<std::ops::Range<u64>, StoreError> {
    let middle = seqs.start + (seqs.end - seqs.start) / 2;
    let (_, messages) = chain
        .read(middle..middle + 1, middle..middle + 1, 0)
        .await?;
    let is_behind = |message: &Stored| boundary.is_behind(message.create.message, middle);
    if messages.first().is_some_and(is_behind) {
        Ok(middle + 1..seqs.end)
    } else {
        Ok(seqs.start..middle)
    }
}
