//! The frozen hash that decides which slot a topic belongs to.
//!
//! It never changes, is not keyed and is no defence against chosen ids: ids are the server's own.
//! Nodes of different versions, and programs in other languages, must agree on every bit of it.
//!
//! Definition, all arithmetic modulo 2^64, `>>` logical:
//!
//! ```text
//! mix(z):   z = z + 0x9E3779B97F4A7C15
//!           z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9
//!           z = (z ^ (z >> 27)) * 0x94D049BB133111EB
//!           return z ^ (z >> 31)
//! low  = id bytes 0..8 as a little-endian integer
//! high = id bytes 8..16 as a little-endian integer
//! hash = mix(mix(mix(domain) ^ low) ^ high)
//! ```
//!
//! `mix` is one step of SplitMix64 (Steele, Lea, Flood 2014, with Stafford's "mix13" constants).
//! It is a bijection, so two ids of one domain that share a half never collide.

/// Hashes a 16-byte id within a domain; see the definition above.
#[must_use]
pub fn frozen(domain: u8, id: &[u8; 16]) -> u64 {
    let id = u128::from_le_bytes(*id);
    let low = truncated(id);
    let high = truncated(id >> 64);
    mix(mix(mix(u64::from(domain)) ^ low) ^ high)
}

/// One SplitMix64 step: spreads every bit of `z` over all 64.
#[must_use]
pub fn mix(z: u64) -> u64 {
    let z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the low 64 bits are what is asked for"
)]
const fn truncated(value: u128) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> [u8; 16] {
        std::array::from_fn(|i| u8::try_from(i).unwrap())
    }

    /// The first outputs of SplitMix64 seeded with 0 and 1234567, as published with the algorithm.
    #[test]
    fn mix_is_splitmix64() {
        assert_eq!(mix(0), 0xE220_A839_7B1D_CDAF);
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
    }

    #[test]
    fn golden_values() {
        for (domain, id, expected) in [
            (1, [0; 16], GOLDEN[0]),
            (2, [0; 16], GOLDEN[1]),
            (3, [0; 16], GOLDEN[2]),
            (1, [0xFF; 16], GOLDEN[3]),
            (1, counting(), GOLDEN[4]),
            (2, counting(), GOLDEN[5]),
        ] {
            assert_eq!(
                frozen(domain, &id),
                expected,
                "domain {domain}, id {id:02x?}"
            );
        }
    }

    /// Computed by an independent implementation of the definition above.
    const GOLDEN: [u64; 6] = [
        0xB18A_02F4_6D8D_86C3,
        0x1956_ECD1_A275_EC95,
        0x546F_3606_1B6B_1313,
        0x370D_F4AD_FAF5_F15E,
        0xA72C_1A88_5321_1361,
        0x2A40_14C6_356B_B7CA,
    ];
}
