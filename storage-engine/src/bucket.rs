//! Writing a bucket from sorted inputs, and removing what no longer counts.
//!
//! It decides neither what is written nor when.
//!
//! Invariants: a file has its final name only when it is complete and durable; nothing is
//! removed that was not released.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::Disk;
use crate::error::StoreError;
use crate::event::{Did, Unlink};
use crate::held::Needed;
use crate::key::SegmentId;
use crate::maintenance::{Fresh, Maintenance};
use crate::manifest::Bucket;
use crate::merge::{Merge, Source};
use crate::policy::Policy;
use crate::sealed::{
    DictionaryPlan, Samples, Sealed, SealedOptions, SealedStream, SealedSummary, SealedWriter,
};
use crate::segment::{Day, parse_file_name};

/// Bytes of records that each input shows to the training of a dictionary, and all of them.
const SAMPLE_BYTES: u64 = 4 << 20;
const SAMPLE_BYTES_OF_ALL: u64 = 256 << 20;

/// The days of a bucket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Days {
    pub(crate) first: Day,
    pub(crate) last: Day,
    /// It is made of several buckets.
    pub(crate) is_merge: bool,
}

impl<D: Disk> Maintenance<D> {
    /// Writes what the policy keeps of the inputs. Durable, but beside its name.
    pub(crate) async fn write_sorted(
        &self,
        path: &Path,
        options: SealedOptions,
        sources: Vec<Source<D>>,
        policy: Policy,
    ) -> Result<SealedSummary, StoreError> {
        let first_day = options.first_day;
        let mut merge = Merge::begin(sources, policy).await?;
        let mut writer = SealedWriter::create(&self.disk, path, options).await?;
        let drained = drain(&mut merge, &mut writer, first_day).await;
        let records = merge.finish().await?;
        if let Err(error) = drained {
            writer.abandon().await?;
            return Err(error);
        }
        let summary = match writer.finish().await {
            Ok(summary) => summary,
            Err(error) => {
                let mut unfinished = OsString::from(path);
                unfinished.push(".tmp");
                // It may be a full disk that made it fail. What stays goes with the next start.
                let _ = self.disk.remove(Path::new(&unfinished)).await;
                return Err(error.into());
            }
        };
        let mut state = self.state.borrow_mut();
        state.progress.records_read += records;
        state.progress.bytes_written += summary.bytes;
        Ok(summary)
    }

    /// Writes a bucket, to be installed.
    pub(crate) async fn write_bucket(
        &self,
        days: Days,
        sources: Vec<Source<D>>,
        policy: Policy,
        erased_through: u64,
    ) -> Result<Fresh, StoreError> {
        let dictionary = self.dictionary(days, &sources).await?;
        let number = self.take_number();
        let path = self.paths.bucket(number, days.first, days.last);
        let options = SealedOptions {
            number,
            first_day: days.first,
            last_day: days.last,
            dictionary,
            zstd_level: self.config.zstd_level,
        };
        let summary = self.write_sorted(&path, options, sources, policy).await?;
        Ok(Fresh {
            identity: summary.identity(),
            first_day: days.first,
            last_day: days.last,
            messages: summary.messages,
            channels: summary.channels,
            erased_through,
        })
    }

    /// Writes what the policy keeps of neighbouring buckets into one, to be installed.
    pub(crate) async fn rewrite(
        &self,
        buckets: &[Bucket],
        policy: Policy,
        erased_through: u64,
    ) -> Result<Fresh, StoreError> {
        let (first, last) = (buckets.first(), buckets.last());
        let (first, last) = first.zip(last).expect("something is rewritten");
        let days = Days {
            first: first.first_day,
            last: last.last_day,
            is_merge: buckets.len() > 1,
        };
        let mut sources = Vec::with_capacity(buckets.len());
        for bucket in buckets {
            let file = self.state.borrow().open[&bucket.number].clone();
            sources.push(self.stream(&file, buckets.len()).await?);
        }
        self.write_bucket(days, sources, policy, erased_through)
            .await
    }

    /// A bucket as one of several inputs that are read at once.
    pub(crate) async fn stream(
        &self,
        file: &Arc<Sealed<D::Mapped>>,
        inputs: usize,
    ) -> Result<Source<D>, StoreError> {
        let piece_bytes = self.config.piece_bytes(inputs);
        let stream = SealedStream::open_in_pieces(&self.disk, Arc::clone(file), piece_bytes);
        Ok(Source::Bucket(stream.await?))
    }

    /// The dictionary for a bucket: none, the newest there is, or one made for it.
    async fn dictionary(
        &self,
        days: Days,
        sources: &[Source<D>],
    ) -> Result<Option<Bytes>, StoreError> {
        let newest = {
            let state = self.state.borrow();
            state.open.values().rev().find_map(|file| file.dictionary())
        };
        let bytes = sources.iter().map(Source::bytes).sum();
        match DictionaryPlan::of(days.is_merge, bytes, newest.is_some()) {
            DictionaryPlan::None => Ok(None),
            DictionaryPlan::Copy => Ok(newest),
            DictionaryPlan::Train => {
                let mut samples = Samples::of(bytes);
                let share = SAMPLE_BYTES_OF_ALL / sources.len().max(1) as u64;
                for source in sources {
                    let bytes = SAMPLE_BYTES.min(share);
                    source.show(&self.disk, &mut samples, bytes).await?;
                }
                Ok(samples.train())
            }
        }
    }

    /// Removes the files of what was released, if any was.
    pub(crate) async fn unlink_released(&self) -> Result<Option<Did>, StoreError> {
        let released = {
            let mut state = self.state.borrow_mut();
            let at = state.unlinks.iter().position(|unlink| unlink.is_released);
            at.map(|at| state.unlinks.remove(at))
        };
        let Some(unlink) = released else {
            return Ok(None);
        };
        let files = match self.unlink(&unlink).await {
            Ok(files) => files,
            Err(error) => {
                self.state.borrow_mut().unlinks.push(unlink);
                return Err(error);
            }
        };
        let mut state = self.state.borrow_mut();
        // Until now a crash could have left them, and the catalog had to say that it covers them.
        let segments = unlink.segments.iter().map(|(segment, _)| *segment);
        state.gone.extend(segments);
        state.progress.files_removed += files as u64;
        Ok(Some(Did::Unlinked { files }))
    }

    /// Removes what is left of these files: some may be gone already.
    async fn unlink(&self, unlink: &Unlink) -> Result<usize, StoreError> {
        let mut files = 0;
        let mut days: Vec<Day> = unlink.segments.iter().map(|(_, day)| *day).collect();
        days.dedup();
        for day in days {
            let of_day = unlink.segments.iter().filter(|segment| segment.1 == day);
            let segments: Vec<SegmentId> = of_day.map(|(segment, _)| *segment).collect();
            files += self.unlink_segments(day, &segments).await?;
        }
        if unlink.buckets.is_empty() {
            return Ok(files);
        }
        let names = self.disk.list(&self.paths.sealed()).await?;
        for path in &unlink.buckets {
            let is_there = |name: &String| path.file_name().is_some_and(|own| own == name.as_str());
            if names.iter().any(is_there) {
                self.disk.remove(path).await?;
                files += 1;
            }
        }
        self.disk.sync_dir(&self.paths.sealed()).await?;
        Ok(files)
    }

    async fn unlink_segments(&self, day: Day, segments: &[SegmentId]) -> Result<usize, StoreError> {
        let directory = self.paths.day(day);
        let days = self.disk.list(&self.paths.segments()).await?;
        if !days.contains(&day.to_string()) {
            return Ok(0);
        }
        let is_of = |name: &str| {
            segments
                .iter()
                .any(|segment| name.starts_with(&segment.to_string()))
        };
        let mut files = 0;
        let mut names = self.disk.list(&directory).await?;
        // Segments first: an index file alone is a leftover, a segment alone would be read.
        names.sort_by_key(|name| !name.ends_with(".log"));
        let needed = Needed::load(&self.disk, &self.paths).await?;
        for name in names.iter().filter(|name| is_of(name)) {
            match parse_file_name(name) {
                Some(segment) => {
                    let retired = needed.retire(&self.disk, &self.paths, segment, day);
                    retired.await?;
                }
                None => self.disk.remove(&directory.join(name)).await?,
            }
            files += 1;
        }
        self.disk.sync_dir(&directory).await?;
        if files == names.len() {
            self.disk.remove_dir(&directory).await?;
            self.disk.sync_dir(&self.paths.segments()).await?;
        }
        Ok(files)
    }

    /// Removes sorted parts and unfinished files of earlier pieces.
    pub(crate) async fn remove_scratch(&self) -> Result<(), StoreError> {
        for name in self.disk.list(&self.paths.sealed()).await? {
            if name.starts_with("part-") || name.ends_with(".tmp") {
                self.disk.remove(&self.paths.sealed().join(name)).await?;
            }
        }
        Ok(())
    }
}

async fn drain<D: Disk>(
    merge: &mut Merge<D>,
    writer: &mut SealedWriter<D>,
    first_day: Day,
) -> Result<(), StoreError> {
    let mut channel = None;
    // Where a link leads into the bucket itself, the channel was cut: it ends here.
    let older = |day: Day| if day < first_day { day } else { Day(0) };
    while let Some(kept) = merge.next().await? {
        if channel != Some(kept.channel) {
            let links = kept.links;
            writer.begin_channel(kept.channel, older(links.prev), older(links.prev_changes));
            channel = Some(kept.channel);
        }
        for record in kept.records {
            writer.push(record).await?;
        }
    }
    Ok(())
}
