//! Choices that depend on a seed and on what they are about alone: the same on every machine, whatever else there is.

use koan_files::digest;

/// 64 random bits of a seed and of texts.
pub(super) fn bits(seed: u64, of: &[&str]) -> u64 {
    // Each text with its length, so that no two lists of texts are one.
    let parts: Vec<String> = of.iter().map(|part| format!("{}:{part}", part.len())).collect();
    let hash = digest(format!("{seed} {}", parts.join(" ")));
    u64::from_le_bytes(hash[..8].try_into().expect("a hash has 32 bytes"))
}

/// A number from 0 up to, not with, 1.
pub(super) fn share(seed: u64, of: &[&str]) -> f64 {
    (bits(seed, of) >> 11) as f64 / (1_u64 << 53) as f64
}

/// The places from 0 to `n`, in random order.
pub(super) fn order(seed: u64, of: &str, n: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..n).collect();
    places.sort_by_cached_key(|place| bits(seed, &[of, &place.to_string()]));
    places
}

/// A stream of random numbers (SplitMix64, doi:10.1145/2714064.2660195).
#[derive(Debug)]
pub(super) struct Stream(pub(super) u64);

impl Stream {
    /// A place below `n`.
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * n as u128) >> 64) as usize
    }
}
