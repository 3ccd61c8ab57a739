//! Lines on standard output.
//!
//! It never lets what others wrote steer the terminal: control characters are shown as what
//! they are.
//!
//! Invariants: one call shows whole lines; without a terminal nothing but text is written.

use std::io::{IsTerminal, Write};

/// Standard output.
pub(super) struct Screen {
    is_terminal: bool,
}

/// One line up, and clear it.
const ERASE_LINE_ABOVE: &str = "\x1b[1A\x1b[2K";

impl Screen {
    pub(super) fn new() -> Self {
        let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
        Self { is_terminal }
    }

    /// Shows text of one or more lines.
    pub(super) fn show(&self, text: &str) {
        self.write(&(harmless(text) + "\n"));
    }

    /// Takes away the line that the terminal echoed: it comes back once it is stored.
    pub(super) fn erase_typed_line(&self) {
        if self.is_terminal {
            self.write(ERASE_LINE_ABOVE);
        }
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // Whoever read our output may have gone: then there is nobody to tell.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

fn harmless(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{FFFD}'
            } else {
                c
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_cannot_steer_the_terminal() {
        assert_eq!(
            harmless("a\x1b[2Jb\r\u{9b}c\n\td\u{7}"),
            "a\u{FFFD}[2Jb\u{FFFD}\u{FFFD}c\n\td\u{FFFD}"
        );
    }
}
