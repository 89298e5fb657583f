//! Random choices that are the same in every version and on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use std::ops::RangeInclusive;

/// A stream of random choices.
pub(crate) struct Random(ChaCha8Rng);

impl Random {
    /// Stream `stream` of `seed`.
    pub(crate) fn stream(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// The stream keyed by four words.
    pub(crate) fn keyed(words: [u64; 4]) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(key))
    }

    /// A number below `n`, uniform up to one part in 2³² (Lemire, arXiv:1805.10941, without the rejection
    /// step).
    pub(crate) fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.0.next_u64()) * n as u128) >> 64) as usize
    }

    /// A number of `range`, which is not empty.
    pub(crate) fn within(&mut self, range: RangeInclusive<i64>) -> i64 {
        let n = range.end() - range.start() + 1;
        debug_assert!(n > 0, "a range with numbers");
        range.start() + self.below(n as usize) as i64
    }

    /// A number from `-n` to `n` that is not 0.
    pub(crate) fn signed(&mut self, n: i64) -> i64 {
        self.within(1..=n) * if self.coin() { 1 } else { -1 }
    }

    /// Heads or tails.
    pub(crate) fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    /// A number from 0 to below 1, in steps of 2⁻²⁰.
    pub(crate) fn share(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }

    /// Whether something happens that happens in this share of cases.
    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.share() < share
    }

    /// One of `items`, which are not empty.
    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    /// Puts `n` items, drawn without replacement, at the front in random order; at most all of them.
    pub(crate) fn shuffle<'a, T>(&mut self, items: &'a mut [T], n: usize) -> &'a mut [T] {
        let n = n.min(items.len());
        for i in 0..n {
            let j = i + self.below(items.len() - i);
            items.swap(i, j);
        }
        &mut items[..n]
    }

    /// `n` different ones of `items`, in random order; at most all of them.
    pub(crate) fn sample<T: Copy>(&mut self, items: &[T], n: usize) -> Vec<T> {
        self.shuffle(&mut items.to_vec(), n).to_vec()
    }
}
