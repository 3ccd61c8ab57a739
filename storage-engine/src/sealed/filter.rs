//! A filter over the channels of a file: a split-block Bloom filter, as in the Parquet format
//! (after Putze, Sanders and Singler, "Cache-, hash- and space-efficient Bloom filters", 2007).
//!
//! It never says that a channel is absent that is there.
//!
//! Invariants: the hash is part of the format; one lookup touches one block of 32 bytes.

/// Bits of filter for each channel; about 1 of 200 absent channels is then taken for present.
const BITS_PER_CHANNEL: u64 = 12;
/// Bytes of a block: eight words of 32 bits.
const BLOCK_BYTES: usize = 32;
/// Odd constants that spread one hash over the eight words of a block, as in Parquet.
const SALTS: [u32; 8] = [
    0x47b6_137b,
    0x4497_4d91,
    0x8824_ad5b,
    0xa2b7_289d,
    0x7054_95c7,
    0x2df1_424b,
    0x9efc_4947,
    0x5c6b_fb31,
];

/// The hash of a channel's key.
pub(super) fn hash(channel: &[u8; 16]) -> u64 {
    let (low, high) = channel.split_at(8);
    let half = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("half of 16 bytes"));
    mix(half(low) ^ mix(half(high) ^ 0x9e37_79b9_7f4a_7c15))
}

/// The last step of MurmurHash3, which is a permutation of 64-bit numbers.
fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let number = (number ^ (number >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

/// Makes the filter of channels with these hashes.
pub(super) fn build(hashes: &[u64]) -> Vec<u8> {
    let bits = hashes.len() as u64 * BITS_PER_CHANNEL;
    let blocks = usize::try_from(bits.div_ceil(8 * BLOCK_BYTES as u64));
    let mut filter = vec![0; blocks.expect("fewer bits than memory") * BLOCK_BYTES];
    for hash in hashes {
        let at = block_of(*hash, filter.len());
        for (word, bit) in filter[at..at + BLOCK_BYTES]
            .chunks_exact_mut(4)
            .zip(bits_of(*hash))
        {
            word[bit / 8] |= 1 << (bit % 8);
        }
    }
    filter
}

/// Whether a channel with this hash may be in the filter, whose length is whole blocks.
pub(super) fn may_contain(filter: &[u8], hash: u64) -> bool {
    if filter.is_empty() {
        return false;
    }
    let at = block_of(hash, filter.len());
    let words = filter[at..at + BLOCK_BYTES].chunks_exact(4);
    words
        .zip(bits_of(hash))
        .all(|(word, bit)| word[bit / 8] & (1 << (bit % 8)) != 0)
}

/// Whether a filter of `channels` channels has this length.
pub(super) fn is_length_of(bytes: usize, channels: usize) -> bool {
    let bits = channels as u64 * BITS_PER_CHANNEL;
    bits.div_ceil(8 * BLOCK_BYTES as u64) * BLOCK_BYTES as u64 == bytes as u64
}

/// Where the hash's block begins: the hash's upper half, scaled to the number of blocks.
fn block_of(hash: u64, filter_bytes: usize) -> usize {
    let blocks = (filter_bytes / BLOCK_BYTES) as u64;
    let block = ((hash >> 32) * blocks) >> 32;
    usize::try_from(block).expect("a block of this filter") * BLOCK_BYTES
}

/// The bit of each word, from the hash's lower half: from 0, the lowest bit of the first byte.
fn bits_of(hash: u64) -> impl Iterator<Item = usize> {
    let low = u32::try_from(hash & 0xffff_ffff).expect("32 bits");
    SALTS
        .iter()
        .map(move |salt| (low.wrapping_mul(*salt) >> 27) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(number: u32) -> [u8; 16] {
        let mut key = [0; 16];
        key[..4].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn what_was_put_in_is_found_and_little_else() {
        let hashes: Vec<u64> = (0..10_000).map(|number| hash(&channel(number))).collect();
        let filter = build(&hashes);
        assert!(is_length_of(filter.len(), hashes.len()));
        assert!(hashes.iter().all(|hash| may_contain(&filter, *hash)));
        let wrong =
            (10_000..110_000).filter(|number| may_contain(&filter, hash(&channel(*number))));
        let wrong = wrong.count();
        assert!(
            (200..900).contains(&wrong),
            "{wrong} of 100,000 absent channels found; about 500 expected"
        );
    }

    #[test]
    fn nothing_is_in_an_empty_filter() {
        assert!(build(&[]).is_empty());
        assert!(!may_contain(&[], hash(&channel(1))));
    }

    #[test]
    fn the_hash_is_part_of_the_format() {
        assert_eq!(hash(&[0; 16]), 0x6393_d51c_06c6_18dc);
        let rising = std::array::from_fn(|place| u8::try_from(place).unwrap());
        assert_eq!(hash(&rising), 0x1af3_f126_897d_2a5f);
    }
}
