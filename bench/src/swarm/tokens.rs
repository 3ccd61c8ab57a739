//! The identities of a swarm: a mapped file of tokens, one a line.
//!
//! It copies no token: a million of them are 190 MB that the page cache holds anyway.
//!
//! Invariants: lines are found through an index with one entry for each 16 of them.

use std::fs::File;
use std::io;
use std::path::Path;

use memmap2::Mmap;

/// Lines between two entries of the index.
const STRIDE: usize = 16;

/// Tokens, by their line.
pub struct Tokens {
    text: Mmap,
    /// Where each 16th line begins.
    starts: Vec<u64>,
    count: usize,
}

impl Tokens {
    /// Maps a file.
    ///
    /// # Errors
    /// When it cannot be read.
    #[expect(unsafe_code, reason = "a mapping of a file has no safe interface")]
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the edge that reads what the user names"
    )]
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the file is read only, and nobody changes tokens while a run uses them: the
        // command that makes them is over.
        let text = unsafe { Mmap::map(&file) }?;
        let mut tokens = Self {
            text,
            starts: Vec::new(),
            count: 0,
        };
        let mut at = 0;
        for line in tokens.text.split(|&byte| byte == b'\n') {
            if !line.is_empty() {
                if tokens.count.is_multiple_of(STRIDE) {
                    tokens.starts.push(at);
                }
                tokens.count += 1;
            } else if usize::try_from(at) != Ok(tokens.text.len()) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line without a token",
                ));
            }
            at += line.len() as u64 + 1;
        }
        Ok(tokens)
    }

    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The token in this line, from 0.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn get(&self, line: usize) -> &[u8] {
        assert!(line < self.count, "there are fewer tokens");
        let start = usize::try_from(self.starts[line / STRIDE]).expect("within the mapping");
        let mut lines = self.text[start..].split(|&byte| byte == b'\n');
        lines.nth(line % STRIDE).expect("the index counts lines")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn tokens(text: &str) -> io::Result<Tokens> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(text.as_bytes())?;
        Tokens::open(file.path())
    }

    #[test]
    fn every_line_is_found() {
        let text: String = (0..1_000).map(|n| format!("token-{n}\n")).collect();
        for text in [&text[..], text.trim_end()] {
            let tokens = tokens(text).unwrap();
            assert_eq!(tokens.count(), 1_000);
            for line in [0, 1, 15, 16, 17, 999] {
                assert_eq!(tokens.get(line), format!("token-{line}").as_bytes());
            }
        }
    }

    #[test]
    fn a_gap_is_refused() {
        assert!(tokens("a\n\nb\n").is_err());
    }
}
