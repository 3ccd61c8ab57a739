//! permessage-deflate (RFC 7692): agreed on in the handshake, then applied to whole messages.
//!
//! It never keeps anything of one connection: without context takeover each message stands alone,
//! so that one [`Deflater`] and one [`Inflater`] serve all connections of a shard, and a message
//! for many is compressed once.
//!
//! Invariants: a message that compression would make longer goes out as it is; what a compressed
//! message grows to is bounded while it grows, not after.

mod compress;
mod inflate;
mod offer;

pub use compress::Deflater;
pub use inflate::{InflateError, Inflater};
pub(crate) use offer::answer;

/// What the server answers to an offer that it takes: nothing is remembered between messages, in
/// either direction (section 7.1.1).
pub(crate) const AGREED: &str =
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// The same to an offer that asks for a window: ours is always the largest one (section 7.1.2.1).
pub(crate) const AGREED_WITH_WINDOW: &str = "permessage-deflate; server_no_context_takeover; \
     client_no_context_takeover; server_max_window_bits=15";

/// What every compressed message ends with, and no frame carries (section 7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xFF, 0xFF];
