//! Compressed messages coming in (RFC 7692, section 7.2.2).
//!
//! It never lets a message grow past the limit to find out how long it is: a few bytes that
//! stand for gigabytes cost no more than the limit.
//!
//! Invariants: nothing of one message is left for the next; the buffer shrinks back after a large
//! one.

use flate2::{Decompress, FlushDecompress, Status};

use super::TAIL;

/// An empty final block without compression (RFC 1951, section 3.2.4).
const END: [u8; 5] = [0x01, 0x00, 0x00, 0xFF, 0xFF];

/// Room that is kept between messages.
const KEPT_BYTES: usize = 64 << 10;
/// The first room for a message, and the least that is added.
const ROOM_BYTES: usize = 4 << 10;

/// Why a compressed message cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InflateError {
    /// It is no DEFLATE stream (RFC 1951), or ends in the middle of one.
    #[error("a compressed message cannot be decompressed")]
    Corrupt,
    /// It is longer than the limit.
    #[error("a compressed message of more than {bytes_max} bytes")]
    TooBig {
        /// The limit.
        bytes_max: usize,
    },
}

/// The decompressor of one shard: about 45 KB, whatever the number of connections.
pub struct Inflater {
    state: Decompress,
    message: Vec<u8>,
}

impl std::fmt::Debug for Inflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflater").finish_non_exhaustive()
    }
}

impl Default for Inflater {
    fn default() -> Self {
        Self {
            state: Decompress::new(false),
            message: Vec::new(),
        }
    }
}

impl Inflater {
    /// The message that this payload stands for; it lies here until the next one.
    ///
    /// # Errors
    /// When it is not compressed properly, or has more than `bytes_max` bytes.
    pub fn inflate(&mut self, payload: &[u8], bytes_max: usize) -> Result<&[u8], InflateError> {
        self.state.reset(false);
        self.message.clear();
        self.message.shrink_to(KEPT_BYTES);
        // Some compressors end with a final block and nothing behind it. Otherwise one is added, which
        // is whole only when it begins between two blocks.
        let has_ended = self.take(payload, bytes_max)? || {
            self.take(&TAIL, bytes_max)?;
            self.take(&END, bytes_max)?
        };
        match has_ended {
            true => Ok(&self.message),
            false => Err(InflateError::Corrupt),
        }
    }

    /// Takes all of this part; whether the last of it ended a final block.
    fn take(&mut self, mut part: &[u8], bytes_max: usize) -> Result<bool, InflateError> {
        loop {
            let room = self.message.capacity() - self.message.len();
            if room == 0 {
                // One byte more than allowed is enough to know.
                let more = ROOM_BYTES.max(self.message.len());
                let more = more.min(bytes_max + 1 - self.message.len());
                self.message.reserve_exact(more);
            }
            let before = self.state.total_in();
            let status = self
                .state
                .decompress_vec(part, &mut self.message, FlushDecompress::Sync)
                .map_err(|_| InflateError::Corrupt)?;
            let taken = usize::try_from(self.state.total_in() - before).unwrap_or(part.len());
            part = &part[taken..];
            if self.message.len() > bytes_max {
                return Err(InflateError::TooBig { bytes_max });
            }
            let is_full = self.message.len() == self.message.capacity();
            match status {
                Status::StreamEnd if part.is_empty() => return Ok(true),
                // After a final block others may follow, or what was left of its last byte
                // (section 7.2.3.4).
                Status::StreamEnd => self.state.reset(false),
                Status::Ok | Status::BufError if part.is_empty() && !is_full => return Ok(false),
                Status::BufError if !is_full => return Err(InflateError::Corrupt),
                Status::Ok | Status::BufError => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// "Hello" as section 7.2.3 has it.
    const HELLO: [u8; 7] = [0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00];

    fn check(payload: &[u8], bytes_max: usize, expected: Result<&[u8], InflateError>) {
        let mut inflater = Inflater::default();
        assert_eq!(inflater.inflate(payload, bytes_max), expected);
        // Whatever that was, it leaves nothing behind.
        assert_eq!(inflater.inflate(&HELLO, 5), Ok(&b"Hello"[..]));
    }

    #[test]
    fn the_examples_of_the_rfc() {
        check(&HELLO, 5, Ok(b"Hello"));
        let stored = [
            0x00, 0x05, 0x00, 0xFA, 0xFF, 0x48, 0x65, 0x6C, 0x6C, 0x6F, 0x00,
        ];
        check(&stored, 100, Ok(b"Hello"));
        let with_final_block = [0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00, 0x00];
        check(&with_final_block, 100, Ok(b"Hello"));
        let two_blocks = [
            0xF2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xFF, 0xFF, 0xCA, 0xC9, 0xC9, 0x07, 0x00,
        ];
        check(&two_blocks, 100, Ok(b"Hello"));
        // A final block, and others behind it.
        let final_first = [&with_final_block[..7], &HELLO].concat();
        check(&final_first, 100, Ok(b"HelloHello"));
        check(&with_final_block[..7], 100, Ok(b"Hello"));
        check(&[0x02, 0x00], 100, Ok(b""));
        check(&[0x00], 100, Ok(b""));
    }

    #[test]
    fn a_message_that_would_burst_is_ended_at_the_limit() {
        check(&HELLO, 4, Err(InflateError::TooBig { bytes_max: 4 }));
        let mut bomb = Vec::with_capacity(100_000);
        flate2::Compress::new(flate2::Compression::best(), false)
            .compress_vec(&vec![0; 10 << 20], &mut bomb, flate2::FlushCompress::Sync)
            .unwrap();
        assert!(bomb.len() < 20_000, "{} bytes", bomb.len());
        let bytes_max = 65_536;
        check(&bomb, bytes_max, Err(InflateError::TooBig { bytes_max }));
        let mut inflater = Inflater::default();
        assert!(inflater.inflate(&bomb, bytes_max).is_err());
        let room = inflater.message.capacity();
        assert!(room <= bytes_max + 1, "{room} bytes for {bytes_max}");
    }

    #[test]
    fn what_ends_in_the_middle_of_a_block_is_refused() {
        check(&[], 100, Err(InflateError::Corrupt));
        for end in 1..HELLO.len() - 1 {
            check(&HELLO[..end], 100, Err(InflateError::Corrupt));
        }
    }

    #[test]
    fn what_is_not_compressed_is_refused() {
        check(&[0xFF; 40], 1_000, Err(InflateError::Corrupt));
        check(
            b"{\"type\":\"HEARTBEAT\"}",
            1_000,
            Err(InflateError::Corrupt),
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused_within_the_limit(
            payload in prop::collection::vec(any::<u8>(), 0..400),
            bytes_max in 0_usize..2_000,
        ) {
            let mut inflater = Inflater::default();
            if let Ok(message) = inflater.inflate(&payload, bytes_max) {
                prop_assert!(message.len() <= bytes_max);
            }
        }

        #[test]
        fn what_was_compressed_comes_back(message in prop::collection::vec(any::<u8>(), 0..5_000)) {
            let mut payload = Vec::with_capacity(message.len() * 2 + 100);
            flate2::Compress::new(flate2::Compression::fast(), false)
                .compress_vec(&message, &mut payload, flate2::FlushCompress::Sync)
                .unwrap();
            let end = payload.len() - TAIL.len();
            let mut inflater = Inflater::default();
            prop_assert_eq!(inflater.inflate(&payload[..end], 5_000), Ok(&message[..]));
        }
    }
}
