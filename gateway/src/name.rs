//! A user's name as each of their sessions keeps it.
//!
//! Each session has one, and most are short: those lie in the session's entry. It never changes.
//!
//! Invariant: 16 bytes, and on the heap nothing unless the name is longer than [`INLINE`] bytes.

/// Bytes of the longest name that needs no room of its own.
const INLINE: usize = 14;

/// See the file's head.
#[derive(Clone, Debug)]
pub(crate) enum Name {
    /// So many of these bytes.
    Short(u8, [u8; INLINE]),
    /// A box of 16 bytes that points to the text: two steps, but half the room in each session.
    Long(Box<Box<str>>),
}

impl Default for Name {
    fn default() -> Self {
        Self::Short(0, [0; INLINE])
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        let mut bytes = [0; INLINE];
        match (u8::try_from(text.len()), bytes.get_mut(..text.len())) {
            (Ok(length), Some(room)) => {
                room.copy_from_slice(text.as_bytes());
                Self::Short(length, bytes)
            }
            _ => Self::Long(Box::new(text.into())),
        }
    }
}

impl Name {
    /// The name.
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Short(length, bytes) => std::str::from_utf8(&bytes[..usize::from(*length)])
                .expect("what was a text is still one"),
            Self::Long(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_comes_back() {
        assert_eq!(size_of::<Name>(), 16);
        assert_eq!(Name::default().as_str(), "");
        for length in 0..40 {
            let text = "grün".chars().cycle().take(length).collect::<String>();
            let name = Name::from(text.as_str());
            assert_eq!(name.as_str(), text);
            assert_eq!(matches!(name, Name::Short(..)), text.len() <= INLINE);
        }
    }
}
