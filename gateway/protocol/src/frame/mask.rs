//! Masking (RFC 6455, section 5.3), eight bytes at a time.
//!
//! It never allocates; masking twice gives the same bytes again.
//!
//! Invariant: byte `i` of a payload is combined with byte `i % 4` of the mask, also when the
//! payload comes in pieces.

/// Masks or unmasks a piece of a payload that starts `done_bytes` into it.
pub(super) fn apply_mask(piece: &mut [u8], mask: [u8; 4], done_bytes: usize) {
    let [a, b, c, d] = rotated(mask, done_bytes);
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = piece.as_chunks_mut::<8>();
    for bytes in words {
        *bytes = (u64::from_ne_bytes(*bytes) ^ word).to_ne_bytes();
    }
    for (byte, mask) in tail.iter_mut().zip([a, b, c, d, a, b, c]) {
        *byte ^= mask;
    }
}

fn rotated(mask: [u8; 4], done_bytes: usize) -> [u8; 4] {
    let mut mask = mask;
    mask.rotate_left(done_bytes % 4);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equals_the_rule_of_the_rfc_in_any_pieces() {
        let mask = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..=u8::MAX).collect();
        let expected: Vec<u8> = plain
            .iter()
            .zip(0..)
            .map(|(b, i)| b ^ mask[i % 4])
            .collect();
        for cut in 0..40 {
            let mut bytes = plain.clone();
            let (head, tail) = bytes.split_at_mut(cut);
            apply_mask(head, mask, 0);
            apply_mask(tail, mask, cut);
            assert_eq!(bytes, expected, "cut at {cut}");
        }
    }
}
