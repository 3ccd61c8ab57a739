//! Messages that carry their number, and what a subscriber has heard of them.
//!
//! It knows no connection and no clock.
//!
//! Invariants: each number counts once for each subscriber, however often and in whatever order it
//! comes; what a subscriber costs grows only with what it has missed.

use std::ops::Range;

/// What such a message begins with: to a peer's program it says "for everybody".
const MARK: u8 = b'P';
const DIGITS: usize = 16;

/// The form of all messages of a run.
#[derive(Debug)]
pub(super) struct Letters {
    filling: Vec<u8>,
}

impl Letters {
    /// Messages of so many bytes; a mark and a number at least.
    pub(super) fn new(bytes: usize) -> Self {
        let text = crate::swarm::speech::text(bytes.max(1));
        let filling = bytes.saturating_sub(1 + DIGITS);
        Self {
            filling: text.as_bytes()[..filling].to_vec(),
        }
    }

    /// The message of this number.
    pub(super) fn write(&self, number: u64) -> Vec<u8> {
        let head = format!("{}{number:016x}", char::from(MARK));
        [head.as_bytes(), &self.filling].concat()
    }

    /// The number of a message; none when it is not one of these, down to the last byte.
    pub(super) fn read(&self, payload: &[u8]) -> Option<u64> {
        let (&mark, rest) = payload.split_first()?;
        let (digits, filling) = rest.split_first_chunk::<DIGITS>()?;
        let mut number = 0;
        for &digit in digits {
            number = number << 4 | u64::from(char::from(digit).to_digit(16)?);
        }
        (mark == MARK && filling == self.filling).then_some(number)
    }
}

/// What a number is to the subscriber who hears it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Heard {
    /// New, and behind all that were heard before.
    InOrder,
    /// New, but a later one came first.
    Late,
    /// Heard before.
    Again,
}

/// What one subscriber has heard.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Numbers {
    next: u64,
    /// Below `next`, and not heard.
    missing: Vec<Range<u64>>,
}

impl Numbers {
    /// Of somebody to whom all below this number are not due.
    pub(super) const fn from(next: u64) -> Self {
        Self {
            next,
            missing: Vec::new(),
        }
    }

    /// Takes note of a message.
    pub(super) fn hear(&mut self, number: u64) -> Heard {
        if number >= self.next {
            if number > self.next {
                self.missing.push(self.next..number);
            }
            self.next = number + 1;
            return Heard::InOrder;
        }
        let Some(place) = self.missing.iter().position(|gap| gap.contains(&number)) else {
            return Heard::Again;
        };
        let gap = self.missing.swap_remove(place);
        let around = [gap.start..number, number + 1..gap.end];
        let left = around.into_iter().filter(|part| !part.is_empty());
        self.missing.extend(left);
        Heard::Late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let letters = Letters::new(64);
        for number in [0, 1, 0xABC, u64::MAX] {
            let written = letters.write(number);
            assert_eq!(written.len(), 64);
            assert_eq!(letters.read(&written), Some(number));
            for place in [0, 1, 63] {
                let mut other = written.clone();
                other[place] = b'~';
                assert_eq!(letters.read(&other), None, "changed at {place}");
            }
            assert_eq!(letters.read(&written[..63]), None);
        }
    }

    #[test]
    fn each_number_counts_once() {
        let check = |from: u64, heard: &[u64], expected: &[Heard]| {
            let mut numbers = Numbers::from(from);
            let found: Vec<Heard> = heard.iter().map(|&n| numbers.hear(n)).collect();
            assert_eq!(found, expected, "{heard:?}");
        };
        use Heard::{Again, InOrder, Late};
        check(0, &[0, 1, 2], &[InOrder; 3]);
        check(5, &[5, 4, 6], &[InOrder, Again, InOrder]);
        check(0, &[0, 0, 1, 0], &[InOrder, Again, InOrder, Again]);
        check(
            0,
            &[3, 1, 1, 0, 2, 2, 4],
            &[InOrder, Late, Again, Late, Late, Again, InOrder],
        );
        check(
            0,
            &[9, 4, 3, 5, 4, 8],
            &[InOrder, Late, Late, Late, Again, Late],
        );
    }
}
