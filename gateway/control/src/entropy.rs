//! The control plane's clock and randomness.
//!
//! The one file of this crate that reads either. It decides nothing with them.
//!
//! Invariants: bytes come from a generator fit for secrets, seeded by the system.

use rand::Rng;
use uuid::Builder;

/// Bytes nobody can guess.
#[expect(
    clippy::disallowed_methods,
    reason = "the control plane is an edge: secrets are drawn here"
)]
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// Milliseconds since 1970 by the wall clock, 0 before.
#[expect(
    clippy::disallowed_methods,
    reason = "the control plane is an edge: it reads the clock here"
)]
pub(crate) fn unix_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

/// A new UUIDv7 (RFC 9562, section 5.7): ids that are made together lie together in an index.
pub(crate) fn new_id(now_ms: u64) -> [u8; 16] {
    Builder::from_unix_timestamp_millis(now_ms, &random_bytes())
        .into_uuid()
        .into_bytes()
}

/// A new id for an account: four digits that tell like names apart.
pub(crate) fn new_discriminator() -> String {
    let number = u16::from_le_bytes(random_bytes()) % 9999 + 1;
    format!("{number:04}")
}

/// A new invite code: 10 characters, 59 bits.
pub(crate) fn new_invite_code() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    // 128 bits modulo 62^10: the bias is below 2^-68.
    let mut number = u128::from_le_bytes(random_bytes());
    let mut code = String::with_capacity(10);
    for _ in 0..10 {
        let digit = usize::try_from(number % 62).expect("below 62");
        code.push(char::from(ALPHABET[digit]));
        number /= 62;
    }
    code
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_carry_their_time() {
        let id = new_id(0x0123_4567_89ab);
        assert_eq!(id[..6], [0x01, 0x23, 0x45, 0x67, 0x89, 0xab]);
        assert_eq!(id[6] >> 4, 7);
        assert_eq!(id[8] >> 6, 0b10);
        assert_ne!(id, new_id(0x0123_4567_89ab));
    }

    #[test]
    fn codes_and_discriminators_have_their_shape() {
        for _ in 0..1000 {
            let code = new_invite_code();
            assert!(code.len() == 10 && code.bytes().all(|b| b.is_ascii_alphanumeric()));
            let discriminator = new_discriminator();
            assert!(discriminator.len() == 4 && discriminator != "0000");
        }
    }
}
