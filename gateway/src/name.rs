//! A user's name as each of their sessions keeps it.
//!
//! Names are of 38 letters (a-z, 0-9, `_` and `.`), so 6 bits hold one, and 15 bytes most names. It
//! never changes, and refuses no text.
//!
//! Invariant: 16 bytes, and on the heap nothing unless the name is longer than [`PACKED`] letters, or
//! has others.

/// Letters of the longest name that needs no room of its own.
const PACKED: usize = 20;

/// Bytes that they take.
const BYTES: usize = 15;

/// Their numbers are their places, counted from 1; 0 is none.
const LETTERS: &[u8; 38] = b"abcdefghijklmnopqrstuvwxyz0123456789_.";

/// See the file's head.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    /// Numbers of letters, the first in the lowest bits.
    Packed([u8; BYTES]),
    /// A box of 16 bytes that points to the text: two steps, but half the room in each session.
    Long(Box<Box<str>>),
}

impl Default for Name {
    fn default() -> Self {
        Self::Packed([0; BYTES])
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        pack(text).map_or_else(|| Self::Long(Box::new(text.into())), Self::Packed)
    }
}

fn pack(text: &str) -> Option<[u8; BYTES]> {
    if text.len() > PACKED {
        return None;
    }
    let mut bits = 0_u128;
    for letter in text.bytes().rev() {
        let number = LETTERS.iter().position(|held| *held == letter)? + 1;
        bits = bits << 6 | number as u128;
    }
    let mut bytes = [0; BYTES];
    bytes.copy_from_slice(&bits.to_le_bytes()[..BYTES]);
    Some(bytes)
}

fn unpack(packed: [u8; BYTES]) -> impl Iterator<Item = char> {
    let mut bytes = [0; 16];
    bytes[..BYTES].copy_from_slice(&packed);
    let bits = u128::from_le_bytes(bytes);
    let numbers = (0..PACKED).map(move |place| (bits >> (6 * place) & 63) as usize);
    let letters = numbers.take_while(|number| *number > 0);
    letters.map(|number| char::from(LETTERS[number - 1]))
}

impl Name {
    /// Makes `text` the name; it keeps the room that it has.
    pub(crate) fn write_to(&self, text: &mut String) {
        text.clear();
        match self {
            Self::Packed(packed) => text.extend(unpack(*packed)),
            Self::Long(name) => text.push_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(name: &Name) -> String {
        let mut text = "what was there before".to_owned();
        name.write_to(&mut text);
        text
    }

    fn check(text: &str, packed: bool) {
        let name = Name::from(text);
        assert_eq!(written(&name), text);
        assert_eq!(matches!(name, Name::Packed(_)), packed, "{text}");
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in ".{0,24}", name in "[a-z0-9_.]{0,32}") {
            prop_assert_eq!(written(&Name::from(text.as_str())), text);
            check(&name, name.len() <= PACKED);
        }
    }

    #[test]
    fn most_names_take_no_room_of_their_own() {
        assert_eq!(size_of::<Name>(), 16);
        check("", true);
        check("a.long_name.of_20_le", true);
        check("a.long_name.of_21_let", false);
        check("Capital", false);
        check("gr\u{fc}n", false);
        check("nul\0", false);
    }
}
