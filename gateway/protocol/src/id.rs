//! The names of things: UUID newtypes, and the two positions within a channel.
//!
//! They never mix (a `UserId` is no `ChannelId`) and never take another textual form than the
//! hyphenated one, so that one id has one spelling on the wire: lower case going out, either
//! case coming in.
//!
//! Invariants: ids order bytewise, which for the UUIDv7 of a [`MessageId`] is the order of
//! creation; `Seq` and `Rev` count from 1, and 0 means "nothing yet".

use std::fmt;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, Unexpected, Visitor};
use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

/// Length in bytes of the only textual form that is accepted, 8-4-4-4-12.
const HYPHENATED_BYTES: usize = 36;

/// The text is not a hyphenated UUID (RFC 9562, section 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a UUID in the form 8-4-4-4-12 hexadecimal digits")]
pub struct InvalidId;

fn parse_hyphenated(text: &str) -> Result<Uuid, InvalidId> {
    if text.len() != HYPHENATED_BYTES {
        return Err(InvalidId);
    }
    Uuid::try_parse(text).map_err(|_| InvalidId)
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = Uuid;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a UUID string in the form 8-4-4-4-12")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Uuid, E> {
        parse_hyphenated(text).map_err(|_| E::invalid_value(Unexpected::Str(text), &self))
    }
}

macro_rules! id {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ts_rs::TS)]
        #[ts(type = "string")]
        pub struct $name(Uuid);

        impl $name {
            /// The id with these 16 bytes, big-endian as in RFC 9562.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// The 16 bytes, big-endian as in RFC 9562.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// The id with this value of its 128 bits.
            #[must_use]
            pub const fn from_u128(value: u128) -> Self {
                Self(Uuid::from_u128(value))
            }

            /// The value of its 128 bits.
            #[must_use]
            pub const fn as_u128(&self) -> u128 {
                self.0.as_u128()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.0.as_hyphenated(), formatter)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, concat!(stringify!($name), "({})"), self.0.as_hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse_hyphenated(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut text = Uuid::encode_buffer();
                serializer.serialize_str(self.0.as_hyphenated().encode_lower(&mut text))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor).map(Self)
            }
        }
    };
}

id!(
    /// A chat channel: in a guild, or between users.
    ChannelId
);
id!(
    /// An account.
    UserId
);
id!(
    /// A message: UUIDv7, strictly increasing within a channel.
    MessageId
);
id!(
    /// A guild: a named set of channels and members.
    GuildId
);
id!(
    /// One client connection, from its READY on.
    SessionId
);
id!(
    /// A file that belongs to a message.
    AttachmentId
);
id!(
    /// The sender's own name for a message. Sent again within 5 minutes it means the same
    /// message, so that a client may repeat what it got no answer to.
    Nonce
);

/// Bits of a UUIDv7 below its timestamp that are free: `rand_a` and `rand_b`.
pub(crate) const TAIL_BITS: u32 = 74;
/// Bits of `rand_b`, the lower part of the tail.
const RAND_B_BITS: u32 = 62;
/// Largest timestamp that a UUIDv7 holds, in milliseconds since 1970: 48 bits.
pub(crate) const TIMESTAMP_MS_MAX: u64 = (1 << 48) - 1;

impl MessageId {
    /// The UUIDv7 (RFC 9562, section 5.7) of this time, in milliseconds since 1970, with this
    /// tail: 12 bits of `rand_a` above 62 bits of `rand_b`.
    ///
    /// # Panics
    /// When the time needs more than 48 bits or the tail more than 74.
    #[must_use]
    pub fn from_parts(timestamp_ms: u64, tail: u128) -> Self {
        assert!(
            timestamp_ms <= TIMESTAMP_MS_MAX,
            "time beyond a UUIDv7's 48 bits"
        );
        assert!(tail >> TAIL_BITS == 0, "tail beyond a UUIDv7's 74 bits");
        let rand_a = tail >> RAND_B_BITS;
        let rand_b = tail & ((1 << RAND_B_BITS) - 1);
        Self::from_u128(
            u128::from(timestamp_ms) << 80 | 7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b,
        )
    }

    /// When the message was created, in milliseconds since 1970. Means nothing for an id that
    /// a client made up.
    #[must_use]
    pub const fn timestamp_ms(&self) -> u64 {
        (self.as_u128() >> 80) as u64
    }

    /// What [`Self::from_parts`] took as the tail.
    pub(crate) const fn tail(&self) -> u128 {
        let rand_a = self.as_u128() >> 64 & 0xfff;
        let rand_b = self.as_u128() & ((1 << RAND_B_BITS) - 1);
        rand_a << RAND_B_BITS | rand_b
    }
}

macro_rules! position {
    ($(#[$attribute:meta])* $name:ident) => {
        $(#[$attribute])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default,
            serde::Serialize, serde::Deserialize, ts_rs::TS,
        )]
        #[ts(type = "number")]
        pub struct $name(pub u64);

        impl $name {
            /// The position that follows directly.
            ///
            /// # Panics
            /// When the positions are used up, which no channel lives long enough to see.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("64 bits outlast any channel"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, formatter)
            }
        }
    };
}

position!(
    /// Counts a channel's messages, dense from 1.
    Seq
);
position!(
    /// Counts a channel's durable records (creates, edits, deletes, reactions), dense from 1.
    Rev
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hyphenated_form_is_an_id() {
        let id: ChannelId = "550E8400-e29b-41d4-a716-446655440000".parse().unwrap();
        assert_eq!(id.to_string(), "550e8400-e29b-41d4-a716-446655440000");
        for other in [
            "550e8400e29b41d4a716446655440000",
            "{550e8400-e29b-41d4-a716-446655440000}",
            "urn:uuid:550e8400-e29b-41d4-a716-446655440000",
            "550e8400-e29b-41d4-a716-44665544000g",
            "550e8400-e29b-41d4-a716-4466554400-0",
            "",
        ] {
            assert_eq!(other.parse::<ChannelId>(), Err(InvalidId), "{other}");
            assert!(serde_json::from_str::<ChannelId>(&format!("\"{other}\"")).is_err());
        }
    }

    #[test]
    fn json_round_trip_is_lower_case() {
        let id: UserId = serde_json::from_str("\"550E8400-E29B-41D4-A716-446655440000\"").unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"550e8400-e29b-41d4-a716-446655440000\"");
        assert_eq!(serde_json::from_str::<UserId>(&json).unwrap(), id);
    }

    #[test]
    fn a_message_id_is_a_uuid_v7() {
        let id = MessageId::from_parts(0x017F_22E2_79B0, 0xCC3 << 62 | 0x18C4_DC0C_0C07_398F);
        // The example of RFC 9562, appendix A.6.
        assert_eq!(id.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        assert_eq!(id.timestamp_ms(), 0x017F_22E2_79B0);
        assert_eq!(id.tail(), 0xCC3 << 62 | 0x18C4_DC0C_0C07_398F);
    }
}
