//! What happened, as a chain of hashes over lines of text, and the last of these lines.
//!
//! It decides nothing and never reads a clock: each line begins with the virtual time it is
//! given.
//!
//! Invariant: two runs have the same digest only if every line was the same, in the same order.

use std::collections::VecDeque;
use std::fmt::{Arguments, Write};

/// Lines that are kept.
const LINES_MAX: usize = 400;

/// FNV-1a, 64 bits (Fowler, Noll, Vo): its offset basis and its prime.
const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
const PRIME: u64 = 0x0100_0000_01b3;

/// The course of one run.
#[derive(Debug)]
pub(crate) struct Trace {
    digest: u64,
    count: u64,
    lines: VecDeque<String>,
    /// Every line also goes to standard error.
    aloud: bool,
}

impl Trace {
    /// Nothing has happened.
    pub(crate) fn new(aloud: bool) -> Self {
        Self {
            digest: BASIS,
            count: 0,
            lines: VecDeque::new(),
            aloud,
        }
    }

    /// Something happens.
    pub(crate) fn note(&mut self, now_us: u64, what: Arguments<'_>) {
        let mut line = match self.lines.len() < LINES_MAX {
            true => String::new(),
            false => self.lines.pop_front().unwrap_or_default(),
        };
        line.clear();
        let _ = write!(
            line,
            "{:>4}.{:06} {what}",
            now_us / 1_000_000,
            now_us % 1_000_000
        );
        self.digest = fold(self.digest, line.as_bytes());
        self.count += 1;
        if self.aloud {
            eprintln!("{line}");
        }
        self.lines.push_back(line);
    }

    /// The chain over all lines, and how many they were.
    pub(crate) fn digest(&self) -> (u64, u64) {
        (self.digest, self.count)
    }

    /// The last `count` lines.
    pub(crate) fn last(&self, count: usize) -> Vec<String> {
        self.lines
            .iter()
            .skip(self.lines.len().saturating_sub(count))
            .cloned()
            .collect()
    }
}

/// A short mark of bytes too long to be written out.
pub(crate) fn mark(bytes: &[u8]) -> u64 {
    fold(BASIS, bytes)
}

fn fold(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(digest, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(PRIME)
    })
}
