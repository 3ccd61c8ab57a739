//! What a connection keeps while a frame or a message is incomplete.
//!
//! It never holds masked bytes, and nothing of a message that its headers have not announced
//! within the limit. Text is checked as it comes, so that a wrong byte ends the connection at
//! once and not at the message's end.
//!
//! Invariants: a control frame in progress and a message in progress exist side by side, since
//! the one may interrupt the other; of both there is at most one.

use super::header::Frame;
use super::mask::apply_mask;
use super::{CONTROL_PAYLOAD_BYTES_MAX, HEADER_BYTES_MAX, Opcode, ProtocolError};

/// The smallest room for a message in progress.
const MESSAGE_BYTES_MIN: usize = 256;

/// The state of an incomplete frame or message. Empty by default.
#[derive(Debug, Default)]
pub(super) struct Aside {
    header: [u8; HEADER_BYTES_MAX],
    header_bytes: usize,
    frame: Option<FrameInProgress>,
    control: Vec<u8>,
    message: Option<MessageInProgress>,
}

#[derive(Debug)]
struct FrameInProgress {
    frame: Frame,
    done_bytes: usize,
}

#[derive(Debug)]
struct MessageInProgress {
    opcode: Opcode,
    is_deflated: bool,
    bytes: Vec<u8>,
    /// How much of a text is known to be UTF-8; at most three bytes behind.
    utf8_bytes: usize,
}

/// What became complete.
#[derive(Clone, Copy, Debug)]
pub(super) enum Complete {
    /// The control frame in progress.
    Control(Opcode),
    /// The message in progress, and whether it is compressed.
    Message(Opcode, bool),
}

impl Aside {
    /// Whether nothing is incomplete.
    pub(super) const fn is_idle(&self) -> bool {
        self.header_bytes == 0
            && self.frame.is_none()
            && self.control.is_empty()
            && self.message.is_none()
    }

    /// Bytes of the message in progress, if there is one.
    pub(super) fn message_so_far_bytes(&self) -> Option<usize> {
        self.message.as_ref().map(|message| message.bytes.len())
    }

    /// How many bytes the message in progress has room for.
    pub(super) fn message_room_bytes(&self) -> usize {
        self.message
            .as_ref()
            .map_or(0, |message| message.bytes.capacity())
    }

    /// Bytes on the heap, this one's own included.
    pub(super) fn kept_bytes(&self) -> usize {
        size_of::<Self>() + self.control.capacity() + self.message_room_bytes()
    }

    /// How many bytes of the frame in progress are missing, if there is one.
    pub(super) fn missing_bytes(&self) -> Option<usize> {
        self.frame
            .as_ref()
            .map(|progress| progress.frame.payload_bytes - progress.done_bytes)
    }

    /// The start of a header that came in pieces.
    pub(super) fn header(&self) -> &[u8] {
        &self.header[..self.header_bytes]
    }

    /// Keeps further bytes of a header, as many as a header may have; says how many were kept.
    pub(super) fn keep_header(&mut self, bytes: &[u8]) -> usize {
        let kept_bytes = bytes.len().min(HEADER_BYTES_MAX - self.header_bytes);
        let end = self.header_bytes + kept_bytes;
        self.header[self.header_bytes..end].copy_from_slice(&bytes[..kept_bytes]);
        self.header_bytes = end;
        kept_bytes
    }

    /// Forgets the header: it was read.
    pub(super) const fn drop_header(&mut self) {
        self.header_bytes = 0;
    }

    /// From here on the payload of this frame is awaited.
    pub(super) fn begin(&mut self, frame: Frame) {
        assert!(self.frame.is_none(), "one frame at a time");
        if !frame.opcode.is_control() && frame.opcode != Opcode::Continuation {
            assert!(self.message.is_none(), "one message at a time");
            let (opcode, bytes) = (frame.opcode, Vec::new());
            self.message = Some(MessageInProgress {
                opcode,
                is_deflated: frame.is_deflated,
                bytes,
                utf8_bytes: 0,
            });
        }
        self.frame = Some(FrameInProgress {
            frame,
            done_bytes: 0,
        });
    }

    /// Takes a piece of the payload in progress, unmasking it where it lies. Says what is
    /// complete with it, if anything is.
    pub(super) fn absorb(
        &mut self,
        piece: &mut [u8],
        message_bytes_max: usize,
    ) -> Result<Option<Complete>, ProtocolError> {
        let progress = self.frame.as_mut().expect("a frame is in progress");
        if let Some(mask) = progress.frame.mask {
            apply_mask(piece, mask, progress.done_bytes);
        }
        progress.done_bytes += piece.len();
        assert!(
            progress.done_bytes <= progress.frame.payload_bytes,
            "absorbed the next frame"
        );
        let frame = progress.frame;
        let frame_is_done = progress.done_bytes == frame.payload_bytes;
        if frame_is_done {
            self.frame = None;
        }

        if frame.opcode.is_control() {
            self.control.extend_from_slice(piece);
            assert!(
                self.control.len() <= CONTROL_PAYLOAD_BYTES_MAX,
                "the header was checked"
            );
            return Ok(frame_is_done.then_some(Complete::Control(frame.opcode)));
        }
        let message = self.message.as_mut().expect("a data frame has its message");
        message.append(piece, message_bytes_max)?;
        let complete = Complete::Message(message.opcode, message.is_deflated);
        Ok((frame_is_done && frame.is_final).then_some(complete))
    }

    /// What [`Self::absorb`] said is complete.
    pub(super) fn payload(&self, complete: Complete) -> &[u8] {
        match complete {
            Complete::Control(_) => &self.control,
            Complete::Message(..) => {
                &self
                    .message
                    .as_ref()
                    .expect("a complete message is there")
                    .bytes
            }
        }
    }

    /// Frees what was complete, once it has been delivered.
    pub(super) fn release(&mut self, complete: Complete) {
        match complete {
            Complete::Control(_) => self.control = Vec::new(),
            Complete::Message(..) => self.message = None,
        }
    }
}

impl MessageInProgress {
    fn append(&mut self, piece: &[u8], message_bytes_max: usize) -> Result<(), ProtocolError> {
        let bytes = self.bytes.len() + piece.len();
        assert!(bytes <= message_bytes_max, "the header was checked");
        if bytes > self.bytes.capacity() {
            // Doubling, but never beyond the limit; what is only announced takes no room.
            let room_bytes = (self.bytes.capacity() * 2).max(MESSAGE_BYTES_MIN);
            let room_bytes = room_bytes.min(message_bytes_max).max(bytes);
            self.bytes.reserve_exact(room_bytes - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        if self.opcode == Opcode::Text && !self.is_deflated {
            self.check_utf8()
        } else {
            Ok(())
        }
    }

    /// Checks what came since the last check. A character cut in the middle is left for later,
    /// one that can no longer become right is not.
    fn check_utf8(&mut self) -> Result<(), ProtocolError> {
        match simdutf8::compat::from_utf8(&self.bytes[self.utf8_bytes..]) {
            Ok(_) => self.utf8_bytes = self.bytes.len(),
            Err(error) if error.error_len().is_none() => self.utf8_bytes += error.valid_up_to(),
            Err(_) => return Err(ProtocolError::TextNotUtf8),
        }
        Ok(())
    }
}
