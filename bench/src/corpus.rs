//! What the clients say: conversations, each a few turns of text.
//!
//! It never opens a file and never invents text for a corpus that was given: a line that cannot
//! be read is an error with its number, not a guess.
//!
//! Invariants: every text could be sent as it is (not blank, at most 2000 characters, no control
//! characters other than newline and tab); every conversation has a turn; there is at least one.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Deserialize;

/// Longest text that is sent, in Unicode scalar values; longer turns are cut.
pub const TEXT_CHARS_MAX: usize = 2000;

/// Most bytes of a corpus file.
pub const CORPUS_BYTES_MAX: u64 = 256 << 20;

/// Why a corpus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A line is not `{"turns": [...]}`.
    #[error(
        "corpus line {line}: {source} (a line is {{\"lang\", \"topic\", \"turns\": [text, ...]}})"
    )]
    BadLine {
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// No line holds a turn that could be sent.
    #[error("the corpus holds no text that could be sent")]
    Empty,
}

/// Where a text lies in the corpus.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct TextId(pub u32);

/// Conversations and their turns.
#[derive(Debug)]
pub struct Corpus {
    texts: Vec<String>,
    conversations: Vec<std::ops::Range<u32>>,
}

#[derive(Deserialize)]
struct Line {
    turns: Vec<String>,
}

impl Corpus {
    /// Reads JSON lines `{lang, topic, turns}`; empty lines and other fields are passed over.
    ///
    /// # Errors
    /// When a line cannot be read, or nothing is left to send.
    pub fn parse(lines: &str) -> Result<Self, CorpusError> {
        let mut corpus = Self {
            texts: Vec::new(),
            conversations: Vec::new(),
        };
        for (number, text) in (1..).zip(lines.lines()) {
            if text.trim().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_str(text).map_err(|source| CorpusError::BadLine {
                line: number,
                source,
            })?;
            corpus.push(line.turns.iter().filter_map(|turn| sendable(turn)));
        }
        if corpus.conversations.is_empty() {
            return Err(CorpusError::Empty);
        }
        Ok(corpus)
    }

    /// Text made up from a seed: 2000 conversations of 2 to 9 turns of 1 to 40 words.
    #[must_use]
    pub fn generated(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut corpus = Self {
            texts: Vec::new(),
            conversations: Vec::new(),
        };
        for _ in 0..2000 {
            let turns: Vec<String> = (0..random.random_range(2..10))
                .map(|_| sentence(&mut random))
                .collect();
            corpus.push(turns.into_iter());
        }
        corpus
    }

    /// How many conversations there are; at least 1.
    #[must_use]
    pub fn conversations(&self) -> usize {
        self.conversations.len()
    }

    /// The turns of a conversation, in order.
    ///
    /// # Panics
    /// When there is no such conversation.
    pub fn turns(&self, conversation: usize) -> impl Iterator<Item = TextId> + use<> {
        let range = self.conversations[conversation].clone();
        (range.start..range.end).map(TextId)
    }

    /// The text itself.
    #[must_use]
    pub fn text(&self, text: TextId) -> &str {
        &self.texts[index(text.0)]
    }

    fn push(&mut self, turns: impl Iterator<Item = String>) {
        let start = count(self.texts.len());
        self.texts.extend(turns);
        let end = count(self.texts.len());
        if end > start {
            self.conversations.push(start..end);
        }
    }
}

/// The turn without characters that a server refuses, cut to length; `None` if nothing is left.
fn sendable(turn: &str) -> Option<String> {
    let kept: String = turn
        .chars()
        .filter(|&c| !c.is_control() || c == '\n' || c == '\t')
        .take(TEXT_CHARS_MAX)
        .collect();
    (!kept.trim().is_empty()).then_some(kept)
}

fn sentence(random: &mut StdRng) -> String {
    const WORDS: [&str; 24] = [
        "and", "build", "channel", "did", "green", "here", "it", "later", "maybe", "now", "please",
        "quite", "rerun", "shard", "slow", "tests", "that", "thanks", "the", "then", "today",
        "why", "works", "yes",
    ];
    let words = random.random_range(1..=40);
    let mut sentence = String::new();
    for word in 0..words {
        if word > 0 {
            sentence.push(' ');
        }
        sentence.push_str(WORDS[random.random_range(0..WORDS.len())]);
    }
    sentence
}

fn count(texts: usize) -> u32 {
    u32::try_from(texts).expect("CORPUS_BYTES_MAX leaves no room for 2^32 texts")
}

fn index(text: u32) -> usize {
    usize::try_from(text).expect("a 32-bit index fits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &str, expected: &[&[&str]]) {
        let corpus = Corpus::parse(lines).unwrap();
        let read: Vec<Vec<&str>> = (0..corpus.conversations())
            .map(|conversation| corpus.turns(conversation).map(|t| corpus.text(t)).collect())
            .collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn reads_turns_in_order() {
        check(
            "{\"lang\":\"en\",\"topic\":\"x\",\"turns\":[\"hi\",\"ho ß 😀\"]}\n\n{\"turns\":[\"3\"]}\n",
            &[&["hi", "ho ß 😀"], &["3"]],
        );
    }

    #[test]
    fn drops_what_no_server_takes() {
        check(
            r#"{"turns":["a\u0000b\n\tc", "  ", "\u0007"]}"#,
            &[&["ab\n\tc"]],
        );
        let long = format!("{{\"turns\":[\"{}\"]}}", "ü".repeat(2001));
        check(&long, &[&[&"ü".repeat(2000)]]);
        check("{\"turns\":[]}\n{\"turns\":[\"x\"]}", &[&["x"]]);
    }

    #[test]
    fn bad_lines_are_named() {
        for (lines, line) in [("nonsense", 1), ("{\"turns\":[\"x\"]}\n{\"turns\":[1]}", 2)] {
            let error = Corpus::parse(lines).unwrap_err();
            assert!(
                error
                    .to_string()
                    .starts_with(&format!("corpus line {line}: ")),
                "{error}"
            );
        }
        let error = Corpus::parse("{\"lang\":\"en\"}").unwrap_err();
        assert!(error.to_string().contains("turns"), "{error}");
        assert!(matches!(Corpus::parse("\n\n"), Err(CorpusError::Empty)));
        assert!(matches!(
            Corpus::parse("{\"turns\":[\" \"]}"),
            Err(CorpusError::Empty)
        ));
    }

    #[test]
    fn generated_text_is_repeatable_and_sendable() {
        let corpus = Corpus::generated(7);
        assert_eq!(corpus.texts, Corpus::generated(7).texts);
        assert_ne!(corpus.texts, Corpus::generated(8).texts);
        assert!(
            corpus
                .texts
                .iter()
                .all(|text| sendable(text).as_ref() == Some(text))
        );
    }
}
