//! Which bytes a socket gets whose client agreed to permessage-deflate (RFC 7692).
//!
//! It keeps nothing of a socket: whoever drives the shard knows which ones agreed and asks here.
//! The simulation drives it for broadcasts as the edge does.
//!
//! Invariants: the last broadcast is compressed once, however many slices it leaves in and whatever
//! single sockets get between them, until it is forgotten; bytes that do not become shorter stay as
//! they are.

use bytes::Bytes;
use throng_protocol::deflate::Deflater;

/// The compressor of one shard.
#[derive(Debug, Default)]
pub struct Compression {
    deflater: Deflater,
    /// The last broadcast, plain and compressed.
    last: Memo,
    /// The last of those for one socket: who resumes together gets the same pages one by one.
    last_of_one: Memo,
}

type Memo = Option<(Bytes, Bytes)>;

impl Compression {
    /// What leaves in place of these bytes, for one socket: complete frames, one behind the other, or
    /// the handshake's response.
    pub fn of_one(&mut self, bytes: &Bytes) -> Bytes {
        remembered(&mut self.last_of_one, &mut self.deflater, bytes)
    }

    /// The same for a broadcast.
    pub fn of(&mut self, bytes: &Bytes) -> Bytes {
        remembered(&mut self.last, &mut self.deflater, bytes)
    }

    /// Lets go of the last bytes. To be called now and then, so that idle memory stays idle.
    pub fn forget(&mut self) {
        (self.last, self.last_of_one) = (None, None);
    }
}

/// Compresses these bytes unless they are the last ones.
fn remembered(memo: &mut Memo, deflater: &mut Deflater, bytes: &Bytes) -> Bytes {
    if let Some((plain, compressed)) = memo
        && plain.as_ptr() == bytes.as_ptr()
        && plain.len() == bytes.len()
    {
        return compressed.clone();
    }
    let compressed = deflater.run(bytes).unwrap_or_else(|| bytes.clone());
    *memo = Some((bytes.clone(), compressed.clone()));
    compressed
}

#[cfg(test)]
mod tests {
    use throng_protocol::frame::{Opcode, encode_message};

    use super::*;

    #[test]
    fn a_broadcast_is_compressed_once() {
        let mut compression = Compression::default();
        let frame = encode_message(Opcode::Text, &[b'a'; 1_000]);
        let first = compression.of(&frame);
        assert!(first.len() < 100, "{} bytes", first.len());
        assert_eq!(compression.of(&frame.clone()).as_ptr(), first.as_ptr());
        let own = encode_message(Opcode::Text, &[b'b'; 1_000]);
        let own_first = compression.of_one(&own);
        assert!(own_first.len() < 100, "{} bytes", own_first.len());
        assert_eq!(compression.of_one(&own).as_ptr(), own_first.as_ptr());
        assert_eq!(compression.of(&frame).as_ptr(), first.as_ptr());
        let short = encode_message(Opcode::Text, b"short");
        assert_eq!(compression.of(&short).as_ptr(), short.as_ptr());
        assert_ne!(
            compression.of(&frame).as_ptr(),
            first.as_ptr(),
            "only the last is kept"
        );
    }
}
