//! Pages of what sessions missed, for all who missed the same.
//!
//! After a restart many thousands come back at once, and most of a channel have stopped at the
//! same message. Their page is read and encoded once: who asks while it is being read waits for
//! it, and it is kept a few seconds for those who come later. It reads nothing itself.
//!
//! Invariants: a kept page shows what its channel still holds, all of it up to its last message:
//! one whose reading began before an older message changed is not given to who asks after that; the
//! bytes kept are bounded, and nothing is kept for long where nobody comes back.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use smallvec::SmallVec;
use throng_protocol::{ChannelId, Rev, Seq};

use crate::lane::{Reply, ReplyTo};

/// Bytes of pages that are kept.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// What a page costs beside its bytes.
const PAGE_BYTES: usize = 256;

/// How long a page is kept, in milliseconds: what comes back together comes within seconds.
const KEPT_MS: u64 = 10_000;

/// Which page: of this channel, after this message.
pub(crate) type Position = (ChannelId, Seq);

/// Who waits for a page.
type Waiting = SmallVec<[ReplyTo; 1]>;

/// Pages that are being read or were lately.
#[derive(Debug, Default)]
pub(crate) struct Missed {
    /// By the channel's changes when the reading began, too.
    reading: HashMap<(Position, u64), Waiting>,
    kept: HashMap<Position, Page>,
    /// Kept pages in the order in which they were read, and when.
    order: VecDeque<(u64, Position)>,
    bytes: usize,
}

/// A page that was read.
#[derive(Clone, Debug)]
struct Page {
    frames: Bytes,
    last: Seq,
    /// Records of the channel that are no messages, when it was read.
    changes: u64,
}

/// What becomes of a question for a page.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Here it is.
    Kept(Reply),
    /// It is being read; the answer will come.
    Waits,
    /// It has to be read.
    First,
}

impl Missed {
    /// Somebody asks for a page of a channel whose head is this.
    pub(crate) fn ask(&mut self, at: Position, head: (Seq, Rev), reply_to: ReplyTo) -> Asked {
        let changes = changes(head);
        if let Some(page) = self.kept.get(&at).filter(|page| page.changes == changes) {
            return Asked::Kept(page.reply());
        }
        match self.reading.get_mut(&(at, changes)) {
            Some(waiting) => {
                waiting.push(reply_to);
                Asked::Waits
            }
            None => Asked::First,
        }
    }

    /// The page is being read for who asked first; `head` is the channel's.
    pub(crate) fn begin(&mut self, at: Position, head: (Seq, Rev), reply_to: ReplyTo) {
        let waiting = SmallVec::from_elem(reply_to, 1);
        let before = self.reading.insert((at, changes(head)), waiting);
        assert!(before.is_none(), "a page is read once at a time");
    }

    /// The page was read; `head` was the channel's when that began. Returns who waits for it.
    pub(crate) fn read(
        &mut self,
        at: Position,
        page: Option<(Bytes, Seq)>,
        head: (Seq, Rev),
        now_ms: u64,
    ) -> Waiting {
        let changes = changes(head);
        let waiting = self.reading.remove(&(at, changes));
        let waiting = waiting.expect("it was being read");
        if let Some((frames, last)) = page {
            self.keep(
                at,
                Page {
                    frames,
                    last,
                    changes,
                },
                now_ms,
            );
        }
        waiting
    }

    fn keep(&mut self, at: Position, page: Page, now_ms: u64) {
        let kept = self.kept.get(&at);
        if kept.is_some_and(|kept| kept.changes > page.changes) {
            return;
        }
        self.bytes += page.frames.len() + PAGE_BYTES;
        match self.kept.insert(at, page) {
            Some(outdated) => self.bytes -= outdated.frames.len() + PAGE_BYTES,
            None => self.order.push_back((now_ms, at)),
        }
        while self.bytes > KEPT_BYTES_MAX {
            self.drop_oldest();
        }
    }

    /// Time has passed: drops what was kept long enough.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        while self
            .order
            .front()
            .is_some_and(|(read_ms, _)| read_ms + KEPT_MS <= now_ms)
        {
            self.drop_oldest();
        }
        if self.kept.is_empty() && self.reading.is_empty() {
            *self = Self::default();
        }
    }

    fn drop_oldest(&mut self) {
        let oldest = self.order.pop_front().map(|(_, at)| at);
        let page = oldest.and_then(|at| self.kept.remove(&at));
        let page = page.expect("kept pages stand in their order");
        self.bytes -= page.frames.len() + PAGE_BYTES;
    }
}

impl Page {
    fn reply(&self) -> Reply {
        Reply::Page {
            frames: self.frames.clone(),
            last: self.last,
        }
    }
}

/// How many records of a channel are no messages.
fn changes((seq, rev): (Seq, Rev)) -> u64 {
    rev.0.wrapping_sub(seq.0) // Compared, never counted with.
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ShardId;
    use crate::lane::RequestId;

    fn position(channel: u128, after: u64) -> Position {
        (ChannelId::from_u128(channel), Seq(after))
    }

    fn asker(request: u32) -> ReplyTo {
        ReplyTo {
            shard: ShardId(0),
            request: RequestId(request),
        }
    }

    const HEAD: (Seq, Rev) = (Seq(9), Rev(12));

    #[test]
    fn who_missed_the_same_waits_for_one_read_and_then_for_none() {
        let mut missed = Missed::default();
        let at = position(1, 4);
        assert!(matches!(missed.ask(at, HEAD, asker(1)), Asked::First));
        missed.begin(at, HEAD, asker(1));
        assert!(matches!(missed.ask(at, HEAD, asker(2)), Asked::Waits));
        assert!(matches!(
            missed.ask(position(1, 5), HEAD, asker(3)),
            Asked::First
        ));
        let waiting = missed.read(at, Some((Bytes::from_static(b"page"), Seq(9))), HEAD, 1_000);
        assert_eq!(waiting.as_slice(), [asker(1), asker(2)]);
        let grown = (Seq(11), Rev(14));
        match missed.ask(at, grown, asker(4)) {
            Asked::Kept(Reply::Page { frames, last }) => {
                assert_eq!((&*frames, last), (&b"page"[..], Seq(9)));
            }
            other => panic!("{other:?}"),
        }
        let changed = (Seq(11), Rev(15));
        assert!(matches!(missed.ask(at, changed, asker(5)), Asked::First));
    }

    #[test]
    fn who_asks_after_a_change_does_not_wait_for_what_was_read_before_it() {
        let mut missed = Missed::default();
        let at = position(1, 4);
        missed.begin(at, HEAD, asker(1));
        let changed = (HEAD.0, Rev(13));
        assert!(matches!(missed.ask(at, changed, asker(2)), Asked::First));
        missed.begin(at, changed, asker(2));
        let page = |bytes: &'static [u8]| Some((Bytes::from_static(bytes), Seq(9)));
        let waiting = missed.read(at, page(b"after"), changed, 1_000);
        assert_eq!(waiting.as_slice(), [asker(2)]);
        let waiting = missed.read(at, page(b"before"), HEAD, 1_000);
        assert_eq!(waiting.as_slice(), [asker(1)]);
        assert!(matches!(missed.ask(at, changed, asker(3)), Asked::Kept(_)));
        assert_eq!(missed.kept.len(), missed.order.len());
    }

    #[test]
    fn nothing_is_kept_of_a_read_that_failed_or_for_long() {
        let mut missed = Missed::default();
        let at = position(1, 4);
        missed.begin(at, HEAD, asker(1));
        missed.read(at, None, HEAD, 1_000);
        assert!(matches!(missed.ask(at, HEAD, asker(2)), Asked::First));
        missed.begin(at, HEAD, asker(2));
        missed.read(at, Some((Bytes::from_static(b"page"), Seq(9))), HEAD, 1_000);
        missed.expire(1_000 + KEPT_MS - 1);
        assert!(matches!(missed.ask(at, HEAD, asker(3)), Asked::Kept(_)));
        missed.expire(1_000 + KEPT_MS);
        assert!(matches!(missed.ask(at, HEAD, asker(3)), Asked::First));
        assert_eq!(missed.bytes, 0);
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes() {
        let mut missed = Missed::default();
        let page = Bytes::from(vec![0; 64 << 10]);
        for after in 0..1_000 {
            let at = position(1, after);
            missed.begin(at, HEAD, asker(1));
            missed.read(at, Some((page.clone(), Seq(2_000))), HEAD, after);
            assert!(missed.bytes <= KEPT_BYTES_MAX);
        }
        assert!(matches!(
            missed.ask(position(1, 999), HEAD, asker(1)),
            Asked::Kept(_)
        ));
        assert!(matches!(
            missed.ask(position(1, 0), HEAD, asker(1)),
            Asked::First
        ));
        assert_eq!(missed.kept.len(), missed.order.len());
    }
}
