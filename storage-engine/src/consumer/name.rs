//! What a consumer is called; its files bear the name.
//!
//! It says nothing of what a consumer does.
//!
//! Invariants: a name is 1 to 64 of `a-z`, `0-9` and `-`, so that it is a file name everywhere and
//! never leads out of its directory.

use std::fmt;

/// The name of a consumer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerName(Box<str>);

impl ConsumerName {
    /// Longest name, in bytes.
    pub const BYTES_MAX: usize = 64;

    /// Takes a name; `None` for what cannot be one.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let is_allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        let is_name = (1..=Self::BYTES_MAX).contains(&name.len()) && name.bytes().all(is_allowed);
        is_name.then(|| Self(name.into()))
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the consumer's files hold of the name, so that a file under another name is noticed.
    pub(crate) fn crc(&self) -> u32 {
        crc32c::crc32c(self.0.as_bytes())
    }
}

impl fmt::Display for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ConsumerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_harmless_file_name() {
        for name in ["search", "push-2", "a", &"x".repeat(64)] {
            assert_eq!(ConsumerName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "Search", "a.b", "../a", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(ConsumerName::parse(name), None, "{name}");
        }
    }
}
