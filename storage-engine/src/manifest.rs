//! The node's manifest: which sealed buckets there are, which days they cover, and what is still
//! to be erased. What it does not name is not part of the store.
//!
//! It opens no bucket and decides nothing.
//!
//! Invariants: the file is replaced as a whole (written aside, synced, renamed, directory
//! synced), so that a crash leaves the old state or the new one; buckets stand in order of their
//! days and no day is covered twice; no day above `sealed_through` is covered.

use std::path::Path;

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::config::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile};
use crate::erasure::{Asked, Erasure};
use crate::error::{Damage, DiskError, StoreError};
use crate::key::{AuthorKey, ChannelKey, MessageKey};
use crate::sealed::SealedIdentity;
use crate::segment::{Day, Paths};

/// First bytes of the manifest.
pub(crate) const MANIFEST_MAGIC: [u8; 4] = *b"THRM";
/// Version of the manifest's format.
pub(crate) const MANIFEST_VERSION: u16 = 1;
/// Longest manifest that is read, in bytes: some 80,000 buckets, or as many erasures.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;
const HEADER_BYTES: usize = size_of::<ManifestHeader>();
const FILE: &str = "node.man";
const ASIDE: &str = "node.tmp";

/// What the manifest begins with. Buckets follow, then erasures.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct ManifestHeader {
    pub(crate) magic: [u8; 4],
    pub(crate) version: U16,
    pub(crate) reserved: [u8; 2],
    pub(crate) buckets: U32,
    pub(crate) erasures: U32,
    pub(crate) next_number: U32,
    pub(crate) retained_from: U32,
    pub(crate) sealed_through: U32,
    pub(crate) reserved2: [u8; 4],
    pub(crate) next_erasure: U64,
    pub(crate) compacted_ms: U64,
    pub(crate) reserved3: [u8; 8],
    pub(crate) body_crc: U32,
    pub(crate) header_crc: U32,
}

/// One sealed bucket.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct ManifestBucket {
    pub(crate) number: U32,
    pub(crate) first_day: U32,
    pub(crate) last_day: U32,
    pub(crate) footer_crc: U32,
    pub(crate) bytes: U64,
    pub(crate) messages: U64,
    pub(crate) channels: U64,
    pub(crate) erased_through: U64,
}

/// One erasure that is not yet done.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
pub(crate) struct ManifestErasure {
    pub(crate) erasure: U64,
    pub(crate) asked_ms: U64,
    pub(crate) kind: U16,
    pub(crate) reserved: [u8; 6],
    pub(crate) key: [u8; 16],
    pub(crate) channel: [u8; 16],
    pub(crate) seq: U64,
}

/// What an erasure is of. Numbers are never reused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum ErasureKind {
    /// One message.
    Message = 1,
    /// All that one author wrote.
    Author = 2,
}

/// A sealed bucket, as far as the manifest knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bucket {
    /// The file's number.
    pub(crate) number: u32,
    /// The first day that it covers.
    pub(crate) first_day: Day,
    /// The last day that it covers.
    pub(crate) last_day: Day,
    /// Length of the file, in bytes.
    pub(crate) bytes: u64,
    /// Checksum of the file's footer.
    pub(crate) footer_crc: u32,
    /// Messages in it.
    pub(crate) messages: u64,
    /// Channels in it.
    pub(crate) channels: u64,
    /// Erasures up to this number have been applied to it.
    pub(crate) erased_through: u64,
}

impl Bucket {
    /// Whether it covers this day.
    pub(crate) fn covers(&self, day: Day) -> bool {
        (self.first_day..=self.last_day).contains(&day)
    }

    /// What its file must be.
    pub(crate) fn identity(&self) -> SealedIdentity {
        SealedIdentity {
            number: self.number,
            bytes: self.bytes,
            footer_crc: self.footer_crc,
        }
    }
}

/// The manifest in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Manifest {
    /// The next sealed file's number; those from it on are leftovers.
    pub(crate) next_number: u32,
    /// Days before this one are gone.
    pub(crate) retained_from: Day,
    /// Days up to this one are sealed: no segment of them counts any more, and none begins.
    pub(crate) sealed_through: Day,
    /// In order of their days.
    pub(crate) buckets: Vec<Bucket>,
    /// Not yet done, in order of their numbers.
    pub(crate) erasures: Vec<Asked>,
    /// The next erasure's number, from 1.
    pub(crate) next_erasure: u64,
    /// When channels were last held against their retention, in milliseconds since 1970.
    pub(crate) compacted_ms: u64,
}

impl Default for Manifest {
    fn default() -> Self {
        Self {
            next_number: 1,
            retained_from: Day(0),
            sealed_through: Day(0),
            buckets: Vec::new(),
            erasures: Vec::new(),
            next_erasure: 1,
            compacted_ms: 0,
        }
    }
}

impl Manifest {
    /// The bucket that covers a day.
    #[cfg(test)]
    pub(crate) fn bucket_of(&self, day: Day) -> Option<&Bucket> {
        let after = self.buckets.partition_point(|bucket| bucket.last_day < day);
        self.buckets.get(after).filter(|bucket| bucket.covers(day))
    }

    /// Puts a bucket in the place of those whose days it covers. Returns the numbers of these.
    ///
    /// # Panics
    /// If it covers another bucket's days only in part.
    pub(crate) fn install(&mut self, bucket: Bucket) -> Vec<u32> {
        let start = self
            .buckets
            .partition_point(|old| old.last_day < bucket.first_day);
        let end = self
            .buckets
            .partition_point(|old| old.first_day <= bucket.last_day);
        let replaced = &self.buckets[start..end];
        let is_whole = |old: &Bucket| bucket.covers(old.first_day) && bucket.covers(old.last_day);
        assert!(
            replaced.iter().all(is_whole),
            "buckets are replaced as a whole"
        );
        let numbers = replaced.iter().map(|old| old.number).collect();
        self.buckets.splice(start..end, [bucket]);
        self.sealed_through = self.sealed_through.max(bucket.last_day);
        numbers
    }

    /// Up to which number every bucket has had its erasures.
    pub(crate) fn erased_everywhere(&self) -> u64 {
        let least = self
            .buckets
            .iter()
            .map(|bucket| bucket.erased_through)
            .min();
        least.unwrap_or(self.next_erasure - 1)
    }

    /// Reads the manifest; a store that never sealed anything has none. Changes nothing.
    ///
    /// # Errors
    /// If the disk fails, the manifest is damaged, or a newer version wrote it.
    pub(crate) async fn load<D: Disk>(disk: &D, paths: &Paths) -> Result<Self, StoreError> {
        let names = disk.list(&paths.manifests()).await?;
        if !names.iter().any(|name| name == FILE) {
            return Ok(Self::default());
        }
        let path = paths.manifests().join(FILE);
        let file = disk.open(&path).await?;
        let bytes = file.length().await?;
        if bytes > MANIFEST_BYTES_MAX {
            file.close().await?;
            return Err(damaged(&path));
        }
        let bytes = u32::try_from(bytes).expect("at most 4 MiB");
        let content = file.read_at(0, bytes).await;
        let manifest = match content {
            Ok(content) => Self::decode(&content, &path),
            Err(error) => Err(error.into()),
        };
        file.close().await?;
        manifest
    }

    /// Replaces the manifest. A leftover of an earlier attempt is removed first.
    ///
    /// # Errors
    /// If the disk fails: which manifest is on disk is then unknown, unless
    /// [`Unstored::is_unchanged`] says that it is the old one.
    pub(crate) async fn store<D: Disk>(&self, disk: &D, paths: &Paths) -> Result<(), Unstored> {
        let aside = paths.manifests().join(ASIDE);
        let written = self.write_aside(disk, paths, &aside).await;
        written.map_err(|error| Unstored {
            error,
            is_unchanged: true,
        })?;
        let replaced = async {
            let path = paths.manifests().join(FILE);
            disk.rename(&aside, &path).await?;
            disk.sync_dir(&paths.manifests()).await
        };
        replaced.await.map_err(|error| Unstored {
            error,
            is_unchanged: false,
        })
    }

    async fn write_aside<D: Disk>(
        &self,
        disk: &D,
        paths: &Paths,
        aside: &Path,
    ) -> Result<(), DiskError> {
        let names = disk.list(&paths.manifests()).await?;
        if names.iter().any(|name| name == ASIDE) {
            disk.remove(aside).await?;
        }
        let content = self.encode();
        let bytes = u32::try_from(content.len()).expect("at most 4 MiB");
        let mut buffer = disk.buffer(bytes);
        buffer.as_mut().copy_from_slice(&content);
        let file = disk.create(aside).await?;
        file.allocate(bytes.into()).await?;
        file.write_at(buffer, 0).await?;
        file.sync().await?;
        file.close().await
    }

    /// The whole file, padded to blocks.
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        for bucket in &self.buckets {
            bytes.extend_from_slice(bucket_entry(bucket).as_bytes());
        }
        for asked in &self.erasures {
            bytes.extend_from_slice(erasure_entry(asked).as_bytes());
        }
        let mut header = ManifestHeader {
            magic: MANIFEST_MAGIC,
            version: MANIFEST_VERSION.into(),
            reserved: [0; 2],
            buckets: count(self.buckets.len()),
            erasures: count(self.erasures.len()),
            next_number: self.next_number.into(),
            retained_from: self.retained_from.0.into(),
            sealed_through: self.sealed_through.0.into(),
            reserved2: [0; 4],
            next_erasure: self.next_erasure.into(),
            compacted_ms: self.compacted_ms.into(),
            reserved3: [0; 8],
            body_crc: crc32c::crc32c(&bytes[HEADER_BYTES..]).into(),
            header_crc: 0.into(),
        };
        header.header_crc = header_crc(&header).into();
        bytes[..HEADER_BYTES].copy_from_slice(header.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES as usize), 0);
        assert!(
            bytes.len() as u64 <= MANIFEST_BYTES_MAX,
            "bounded by its lists"
        );
        bytes
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self, StoreError> {
        let (header, body) = ManifestHeader::read_from_prefix(bytes).map_err(|_| damaged(path))?;
        if header.magic != MANIFEST_MAGIC || header.header_crc.get() != header_crc(&header) {
            return Err(damaged(path));
        }
        if header.version.get() != MANIFEST_VERSION {
            return Err(StoreError::Unsupported {
                path: path.to_path_buf(),
                version: header.version.get(),
            });
        }
        let manifest = Self::entries(&header, body).ok_or_else(|| damaged(path))?;
        if manifest.is_consistent() {
            Ok(manifest)
        } else {
            Err(damaged(path))
        }
    }

    fn entries(header: &ManifestHeader, body: &[u8]) -> Option<Self> {
        let buckets = usize::try_from(header.buckets.get()).ok()?;
        let erasures = usize::try_from(header.erasures.get()).ok()?;
        let (buckets, rest) = <[ManifestBucket]>::ref_from_prefix_with_elems(body, buckets).ok()?;
        let (erasures, rest) =
            <[ManifestErasure]>::ref_from_prefix_with_elems(rest, erasures).ok()?;
        let body = &body[..body.len() - rest.len()];
        if crc32c::crc32c(body) != header.body_crc.get() {
            return None;
        }
        let erasures: Option<Vec<Asked>> = erasures.iter().map(asked).collect();
        Some(Self {
            next_number: header.next_number.get(),
            retained_from: Day(header.retained_from.get()),
            sealed_through: Day(header.sealed_through.get()),
            buckets: buckets.iter().map(bucket).collect(),
            erasures: erasures?,
            next_erasure: header.next_erasure.get(),
            compacted_ms: header.compacted_ms.get(),
        })
    }

    /// Whether its parts agree with each other, as those of every manifest that was stored do.
    fn is_consistent(&self) -> bool {
        let in_order = |pair: &[Bucket]| pair[0].last_day < pair[1].first_day;
        let is_own = |bucket: &Bucket| {
            bucket.first_day <= bucket.last_day
                && bucket.last_day <= self.sealed_through
                && bucket.number < self.next_number
        };
        self.buckets.windows(2).all(in_order)
            && self.buckets.iter().all(is_own)
            && (self.erasures).is_sorted_by(|one, other| one.erasure < other.erasure)
            && (self.erasures.last()).is_none_or(|last| last.erasure < self.next_erasure)
            && self.next_erasure > 0
    }
}

/// Why a manifest was not replaced.
#[derive(Debug)]
pub(crate) struct Unstored {
    pub(crate) error: DiskError,
    /// The old one is certainly still in place.
    pub(crate) is_unchanged: bool,
}

fn damaged(path: &Path) -> StoreError {
    StoreError::Corrupt {
        path: path.to_path_buf(),
        offset: 0,
        damage: Damage::Manifest,
    }
}

fn count(entries: usize) -> U32 {
    u32::try_from(entries)
        .expect("a manifest is at most 4 MiB")
        .into()
}

fn header_crc(header: &ManifestHeader) -> u32 {
    crc32c::crc32c(&header.as_bytes()[..HEADER_BYTES - 4])
}

fn bucket_entry(bucket: &Bucket) -> ManifestBucket {
    ManifestBucket {
        number: bucket.number.into(),
        first_day: bucket.first_day.0.into(),
        last_day: bucket.last_day.0.into(),
        footer_crc: bucket.footer_crc.into(),
        bytes: bucket.bytes.into(),
        messages: bucket.messages.into(),
        channels: bucket.channels.into(),
        erased_through: bucket.erased_through.into(),
    }
}

fn bucket(entry: &ManifestBucket) -> Bucket {
    Bucket {
        number: entry.number.get(),
        first_day: Day(entry.first_day.get()),
        last_day: Day(entry.last_day.get()),
        bytes: entry.bytes.get(),
        footer_crc: entry.footer_crc.get(),
        messages: entry.messages.get(),
        channels: entry.channels.get(),
        erased_through: entry.erased_through.get(),
    }
}

fn erasure_entry(asked: &Asked) -> ManifestErasure {
    let (kind, key, channel, seq) = match asked.of {
        Erasure::Message {
            channel,
            message,
            seq,
        } => (ErasureKind::Message, message.0, channel, seq),
        Erasure::Author(author) => (ErasureKind::Author, author.0, ChannelKey::ZERO, 0),
    };
    ManifestErasure {
        erasure: asked.erasure.into(),
        asked_ms: asked.asked_ms.into(),
        kind: (kind as u16).into(),
        reserved: [0; 6],
        key,
        channel: channel.0,
        seq: seq.into(),
    }
}

fn asked(entry: &ManifestErasure) -> Option<Asked> {
    let of = match entry.kind.get() {
        kind if kind == ErasureKind::Message as u16 => Erasure::Message {
            channel: ChannelKey(entry.channel),
            message: MessageKey(entry.key),
            seq: entry.seq.get(),
        },
        kind if kind == ErasureKind::Author as u16 => Erasure::Author(AuthorKey(entry.key)),
        _ => return None,
    };
    Some(Asked {
        erasure: entry.erasure.get(),
        asked_ms: entry.asked_ms.get(),
        of,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim_disk::{SimDisk, SimLatency};

    fn bucket(number: u32, first_day: u32, last_day: u32) -> Bucket {
        Bucket {
            number,
            first_day: Day(first_day),
            last_day: Day(last_day),
            bytes: 8192,
            footer_crc: 7,
            messages: 3,
            channels: 2,
            erased_through: 1,
        }
    }

    fn sample() -> Manifest {
        let mut manifest = Manifest {
            next_number: 9,
            retained_from: Day(3),
            next_erasure: 3,
            compacted_ms: 5,
            ..Manifest::default()
        };
        for one in [bucket(4, 10, 19), bucket(5, 20, 20), bucket(6, 22, 22)] {
            assert_eq!(manifest.install(one), [0; 0]);
        }
        manifest.erasures = vec![
            Asked {
                erasure: 1,
                asked_ms: 11,
                of: Erasure::Author(AuthorKey([3; 16])),
            },
            Asked {
                erasure: 2,
                asked_ms: 12,
                of: Erasure::Message {
                    channel: ChannelKey([1; 16]),
                    message: MessageKey([2; 16]),
                    seq: 77,
                },
            },
        ];
        manifest
    }

    #[test]
    fn days_find_their_bucket_and_a_wider_one_replaces_them() {
        let mut manifest = sample();
        let number = |manifest: &Manifest, day| manifest.bucket_of(Day(day)).map(|one| one.number);
        let days = [9, 10, 19, 20, 21, 22, 23];
        let found = days.map(|day| number(&manifest, day));
        assert_eq!(
            found,
            [None, Some(4), Some(4), Some(5), None, Some(6), None]
        );
        assert_eq!(manifest.sealed_through, Day(22));
        assert_eq!(manifest.install(bucket(8, 20, 23)), [5, 6]);
        assert_eq!(days.map(|day| number(&manifest, day))[3..], [Some(8); 4]);
        assert_eq!(manifest.erased_everywhere(), 1);
    }

    #[test]
    #[should_panic(expected = "as a whole")]
    fn a_bucket_is_never_replaced_in_part() {
        sample().install(bucket(8, 15, 20));
    }

    #[test]
    fn what_is_stored_reads_back_and_no_flipped_bit_does() {
        let disk = SimDisk::new(1, SimLatency::default());
        let paths = Paths::new(Path::new("/data"));
        let path = paths.manifests().join(FILE);
        disk.put(&path, &Manifest::default().encode());
        let manifest = sample();
        disk.run(manifest.store(&disk, &paths)).unwrap();
        disk.crash();
        assert_eq!(disk.run(Manifest::load(&disk, &paths)).unwrap(), manifest);
        let used =
            HEADER_BYTES + 3 * size_of::<ManifestBucket>() + 2 * size_of::<ManifestErasure>();
        for offset in 0..used as u64 {
            disk.flip(&path, offset, 0x10);
            let error = disk.run(Manifest::load(&disk, &paths)).unwrap_err();
            assert!(
                matches!(error, StoreError::Corrupt { .. }),
                "{offset}: {error}"
            );
            disk.flip(&path, offset, 0x10);
        }
    }

    /// To write that of a new version: `GOLDEN=write cargo test -p throng-storage-engine golden`.
    #[test]
    #[expect(
        clippy::disallowed_methods,
        reason = "a test reads and writes its golden file"
    )]
    fn the_golden_manifest_is_what_is_written_and_reads_back() {
        let name = "v1-manifest.man";
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
        let written = sample().encode();
        if std::env::var_os("GOLDEN").is_some_and(|value| value == "write") {
            std::fs::write(golden.join(name), &written).unwrap();
        }
        let kept = std::fs::read(golden.join(name)).unwrap();
        assert!(written == kept, "a new layout needs a new version");
        let read = Manifest::decode(&kept, Path::new(name)).unwrap();
        assert_eq!(read, sample());
    }

    #[test]
    fn a_crash_while_storing_leaves_the_old_or_the_new_one() {
        let old = Manifest::default();
        for cut in 1..20 {
            let disk = SimDisk::new(cut, SimLatency::default());
            let paths = Paths::new(Path::new("/data"));
            disk.put(&paths.manifests().join(FILE), &old.encode());
            disk.cut_power_at(cut);
            let stored = disk.run(sample().store(&disk, &paths));
            disk.crash();
            let found = disk.run(Manifest::load(&disk, &paths)).unwrap();
            assert!(
                found == sample() || (stored.is_err() && found == old),
                "cut {cut}"
            );
            if stored.is_ok() {
                return;
            }
        }
        panic!("storing takes fewer changes than that");
    }
}
