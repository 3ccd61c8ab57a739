//! The ids that records carry: sixteen opaque bytes each, and the number of a segment.
//!
//! Nothing here makes ids or gives them meaning beyond their order.
//!
//! Invariants: a message key orders bytewise, which for UUIDv7 is the order of creation; all
//! zeroes means "none" for targets and nonces.

use std::fmt;
use std::hash::{Hash, Hasher};

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// All zeroes: none.
            pub const ZERO: Self = Self([0; 16]);

            /// Whether all bytes are zero.
            #[must_use]
            pub fn is_zero(&self) -> bool {
                *self == Self::ZERO
            }
        }

        impl Hash for $name {
            fn hash<H: Hasher>(&self, state: &mut H) {
                // One number: tables of keys are looked into for every record.
                state.write_u128(u128::from_ne_bytes(self.0));
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(self, f)
            }
        }
    };
}

key! {
    /// The sequence that a record belongs to.
    ChannelKey
}
key! {
    /// A message: a UUIDv7 (RFC 9562, section 5.7), so that bytewise order is order of creation.
    MessageKey
}
key! {
    /// Who wrote a record.
    AuthorKey
}
key! {
    /// What the writer chose to recognise a repeated request by; zero is none.
    NonceKey
}

impl MessageKey {
    /// The creation time, in milliseconds since 1970: the first 48 bits of a UUIDv7.
    #[must_use]
    pub fn timestamp_ms(&self) -> u64 {
        let bytes = &self.0;
        u64::from_be_bytes([
            0, 0, bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5],
        ])
    }
}

/// The number of a segment file: unique within a node, rising in order of use, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentId(pub u32);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamp_is_the_first_48_bits() {
        let mut key = MessageKey([0xff; 16]);
        key.0[..6].copy_from_slice(&[0x01, 0x8b, 0xcf, 0xe5, 0x68, 0x00]);
        assert_eq!(key.timestamp_ms(), 1_700_000_000_000);
    }

    #[test]
    fn debug_is_all_sixteen_bytes_in_hexadecimal() {
        assert_eq!(format!("{:?}", ChannelKey([1; 16])), "01".repeat(16));
    }
}
