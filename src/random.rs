//! Random streams.
//!
//! Every draw in natv2 comes from a stream that is named by (run seed, purpose, iteration, step).
//! Streams are never shared between purposes, so work can be reordered, skipped or resumed
//! without changing a single draw elsewhere.

use rand::SeedableRng;
pub use rand_chacha::ChaCha8Rng as Stream;

/// The stream of a purpose at a step of an iteration.
///
/// `purpose` is a short constant name such as `"archive/initial"`. The four parts fill the
/// 32-byte ChaCha key side by side, so distinct arguments (up to collisions of 64-bit FNV-1a
/// among the few purposes) give independent streams.
pub fn stream(seed: u64, purpose: &str, iteration: u64, step: u64) -> Stream {
    let mut key = [0u8; 32];
    for (part, value) in key.chunks_exact_mut(8).zip([seed, fnv1a64(purpose.as_bytes()), iteration, step]) {
        part.copy_from_slice(&value.to_le_bytes());
    }
    Stream::from_seed(key)
}

/// 64-bit FNV-1a, the hash that names streams.
pub fn fnv1a64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, &b| (hash ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt;

    #[test]
    fn fnv1a64_matches_its_published_vectors() {
        assert_eq!(fnv1a64(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a64(b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn every_part_of_the_key_changes_the_stream() {
        let first = |seed, purpose, iteration, step| stream(seed, purpose, iteration, step).random::<u64>();
        let base = first(1, "a", 2, 3);
        assert_eq!(base, first(1, "a", 2, 3));
        for other in [first(0, "a", 2, 3), first(1, "b", 2, 3), first(1, "a", 0, 3), first(1, "a", 2, 0)] {
            assert_ne!(base, other);
        }
    }
}
