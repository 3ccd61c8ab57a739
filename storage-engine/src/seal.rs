//! Sealing: an ended day's segments become one bucket.
//!
//! Each segment is read once. Those that fit into memory together are sorted together; if that
//! is the whole day, they are written as its bucket at once, otherwise as sorted parts, which
//! are merged, at most so many at a time.
//!
//! Invariants: days are sealed in their order, each when every shard has ended it and all its
//! segments are indexed; the catalog covers them before they stop to count; parts are nothing
//! but scratch, removed when the next sealing begins.

use std::collections::VecDeque;

use crate::bucket::Days;
use crate::disk::Disk;
use crate::erasure::Erasures;
use crate::error::StoreError;
use crate::event::{Did, Event};
use crate::key::SegmentId;
use crate::maintenance::{Maintenance, Piece};
use crate::manifest::Manifest;
use crate::merge::{Merge, Source};
use crate::part::{Part, PartStream, PartWriter};
use crate::policy::Policy;
use crate::segment::{Day, SegmentInfo};
use crate::sorted::SortedSegments;

/// Segments that are sorted together.
type Batch = Vec<(SegmentId, SegmentInfo)>;

/// A day that is being sealed.
pub(crate) struct Sealing {
    day: Day,
    /// All its segments.
    segments: Vec<(SegmentId, Day)>,
    /// Those not yet sorted, oldest first.
    todo: VecDeque<Batch>,
    /// Sorted parts, oldest first.
    parts: Vec<Part>,
}

impl<D: Disk> Maintenance<D> {
    /// Does the next piece of sealing, if a day is due.
    pub(crate) async fn seal_next(&self, now_ms: u64) -> Result<Option<Piece<D>>, StoreError> {
        let due = self.due_day(now_ms);
        let (asked, ended) = {
            let state = self.state.borrow();
            let ended = state.ended_through.iter().min().copied();
            (state.asked_through, ended.unwrap_or(due).min(due))
        };
        if asked < due {
            self.state.borrow_mut().asked_through = due;
            return Ok(Some((Did::AskedToEnd(due), vec![Event::EndDay(due)])));
        }
        let is_under_way = self.state.borrow().sealing.is_some();
        let sealed_through = self.state.borrow().manifest.sealed_through;
        if sealed_through >= ended {
            return Ok(None);
        }
        if !is_under_way {
            let unindexed = self.adopt_indexed().await?;
            if unindexed.values().any(|(_, day)| *day <= ended) {
                return Ok(None);
            }
        }
        let oldest = {
            let state = self.state.borrow();
            state.segments.values().map(|info| info.day).min()
        };
        match oldest {
            Some(day) if day <= ended => self.seal_piece(day).await.map(Some),
            _ => {
                let pass = |manifest: &mut Manifest| {
                    manifest.sealed_through = ended.max(manifest.sealed_through);
                };
                self.replace_manifest(pass).await?;
                Ok(Some((Did::Passed(ended), Vec::new())))
            }
        }
    }

    /// On failure the sealing begins anew with the next call.
    async fn seal_piece(&self, day: Day) -> Result<Piece<D>, StoreError> {
        let under_way = self.state.borrow_mut().sealing.take();
        let mut sealing = match under_way.filter(|sealing| sealing.day == day) {
            Some(sealing) => sealing,
            None => self.begin_sealing(day).await?,
        };
        let is_one_batch = sealing.todo.len() == 1 && sealing.parts.is_empty();
        if is_one_batch {
            let batch = sealing.todo.pop_front().expect("just counted");
            let sorted = self.sort(&batch).await?;
            return self
                .seal_whole(sealing, vec![Source::Segments(sorted)])
                .await;
        }
        if let Some(batch) = sealing.todo.pop_front() {
            let sorted = self.sort(&batch).await?;
            let part = self.write_part(vec![Source::Segments(sorted)]).await?;
            sealing.parts.push(part);
        } else if sealing.parts.len() > self.config.merge_inputs_max {
            self.merge_parts(&mut sealing).await?;
        } else {
            let sources = self.open_parts(&sealing.parts).await?;
            return self.seal_whole(sealing, sources).await;
        }
        let did = Did::Prepared {
            day,
            parts: sealing.parts.len(),
            segments_left: sealing.todo.iter().map(Vec::len).sum(),
        };
        self.state.borrow_mut().sealing = Some(sealing);
        Ok((did, Vec::new()))
    }

    async fn begin_sealing(&self, day: Day) -> Result<Sealing, StoreError> {
        self.remove_scratch().await?;
        let segments: Batch = {
            let state = self.state.borrow();
            let of_day = state.segments.iter().filter(|(_, info)| info.day == day);
            of_day.map(|(segment, info)| (*segment, *info)).collect()
        };
        let mut todo: VecDeque<Batch> = VecDeque::new();
        let mut batch_bytes = 0;
        for (segment, info) in &segments {
            let bytes = u64::from(info.end.expect("only ended segments are known here"));
            batch_bytes += bytes;
            match todo
                .back_mut()
                .filter(|_| batch_bytes <= self.config.sort_bytes_max)
            {
                Some(batch) => batch.push((*segment, *info)),
                None => {
                    todo.push_back(vec![(*segment, *info)]);
                    batch_bytes = bytes;
                }
            }
        }
        Ok(Sealing {
            day,
            segments: segments
                .iter()
                .map(|(segment, info)| (*segment, info.day))
                .collect(),
            todo,
            parts: Vec::new(),
        })
    }

    async fn sort(&self, batch: &Batch) -> Result<SortedSegments, StoreError> {
        SortedSegments::load(&self.disk, &self.paths, &self.store, batch).await
    }

    async fn open_parts(&self, parts: &[Part]) -> Result<Vec<Source<D>>, StoreError> {
        let piece_bytes = self.config.piece_bytes(parts.len());
        let mut sources = Vec::with_capacity(parts.len());
        for part in parts {
            let stream = PartStream::open(&self.disk, part, piece_bytes);
            sources.push(Source::Part(stream.await?));
        }
        Ok(sources)
    }

    /// Writes all records of the inputs into one part, as they are.
    async fn write_part(&self, sources: Vec<Source<D>>) -> Result<Part, StoreError> {
        let number = self.take_number();
        let path = self.paths.sealed().join(format!("part-{number:08x}"));
        let mut merge = Merge::begin(sources, Policy::default()).await?;
        let mut writer = PartWriter::create(&self.disk, &path, self.config.part_zstd_level).await?;
        let copied = copy(&mut merge, &mut writer).await;
        let records = merge.finish().await?;
        if let Err(error) = copied {
            writer.abandon().await?;
            return Err(error);
        }
        // What a failure leaves behind goes when the sealing begins anew.
        let part = writer.finish().await?;
        let mut state = self.state.borrow_mut();
        state.progress.records_read += records;
        state.progress.bytes_written += part.bytes;
        Ok(part)
    }

    /// Merges as many neighbouring parts as are too many, those with the fewest bytes.
    async fn merge_parts(&self, sealing: &mut Sealing) -> Result<(), StoreError> {
        let max = self.config.merge_inputs_max;
        let count = (sealing.parts.len() - max + 1).min(max);
        let window_bytes = |start: usize| -> u64 {
            sealing.parts[start..start + count]
                .iter()
                .map(|part| part.bytes)
                .sum()
        };
        let starts = 0..=sealing.parts.len() - count;
        let start = starts.min_by_key(|start| window_bytes(*start)).unwrap_or(0);
        let range = start..start + count;
        let sources = self.open_parts(&sealing.parts[range.clone()]).await?;
        let merged = self.write_part(sources).await?;
        let old: Vec<Part> = sealing.parts.splice(range, [merged]).collect();
        for part in old {
            self.disk.remove(&part.path).await?;
        }
        Ok(())
    }

    /// Writes a day's bucket and lets it take the place of its segments.
    async fn seal_whole(
        &self,
        sealing: Sealing,
        sources: Vec<Source<D>>,
    ) -> Result<Piece<D>, StoreError> {
        let day = sealing.day;
        // Erasures that not all older buckets have had come later, oldest bucket first: what is
        // left behind here may be what keeps something older from being seen.
        let (erasures, erased_through) = {
            let state = self.state.borrow();
            let through = state.manifest.erased_everywhere();
            let had = state
                .manifest
                .erasures
                .iter()
                .filter(|asked| asked.erasure <= through);
            (Erasures::of(had), through)
        };
        let policy = Policy {
            erasures,
            ..Policy::default()
        };
        let days = Days {
            first: day,
            last: day,
            is_merge: false,
        };
        let fresh = self
            .write_bucket(days, sources, policy, erased_through)
            .await?;
        self.checkpoint().await?;
        let installed = self.install(&fresh, sealing.segments).await?;
        for part in sealing.parts {
            // The day is sealed whatever becomes of them: the next sealing removes what is left.
            let _ = self.disk.remove(&part.path).await;
        }
        self.state.borrow_mut().progress.days_sealed += 1;
        let did = Did::Sealed {
            day,
            messages: fresh.messages,
            bytes: fresh.identity.bytes,
        };
        Ok((did, vec![installed]))
    }
}

async fn copy<D: Disk>(merge: &mut Merge<D>, writer: &mut PartWriter<D>) -> Result<(), StoreError> {
    let mut channel = None;
    while let Some((record, links)) = merge.next_record().await? {
        if channel != Some(record.channel) {
            writer.begin_channel(links);
            channel = Some(record.channel);
        }
        writer.push(&record).await?;
    }
    Ok(())
}
