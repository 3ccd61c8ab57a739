//! Bytes on their way into the kernel: a slab that holds them until their send has completed.
//!
//! It knows no socket. A frame that goes to many is held once and counted.
//!
//! Invariants: bytes do not move or change while they are held; a tag names one entry until it is
//! taken out.

use bytes::Bytes;

/// What is being sent.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    held: Vec<Option<Bytes>>,
    free: Vec<u32>,
}

impl Outgoing {
    /// Holds these bytes; says their tag.
    pub(crate) fn hold(&mut self, bytes: Bytes) -> u32 {
        if let Some(tag) = self.free.pop() {
            self.held[tag as usize] = Some(bytes);
            return tag;
        }
        self.held.push(Some(bytes));
        u32::try_from(self.held.len() - 1).expect("at most one send a connection")
    }

    /// The bytes of a tag.
    pub(crate) fn of(&self, tag: u32) -> &Bytes {
        self.held[tag as usize]
            .as_ref()
            .expect("a tag names what is held")
    }

    /// They have left: says how many there were.
    pub(crate) fn release(&mut self, tag: u32) -> usize {
        let bytes = self.held[tag as usize].take();
        self.free.push(tag);
        bytes.expect("a send completes once").len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_used_again_only_after_their_release() {
        let mut outgoing = Outgoing::default();
        let first = outgoing.hold(Bytes::from_static(b"first"));
        let second = outgoing.hold(Bytes::from_static(b"2nd"));
        assert_ne!(first, second);
        assert_eq!(outgoing.release(first), 5);
        assert_eq!(outgoing.of(second).as_ref(), b"2nd");
        assert_eq!(outgoing.hold(Bytes::from_static(b"third")), first);
        assert_eq!(outgoing.of(first).as_ref(), b"third");
    }
}
