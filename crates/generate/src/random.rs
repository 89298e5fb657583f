//! Random numbers from a counter: token `t` of sample `s` of problem `p` in step `n` always draws the same number,
//! whatever else is in its batch and wherever a run was interrupted.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// A number in [0, 1) with 53 random bits: word `2 · token` of the ChaCha8 stream (RFC 8439's function with 8 rounds)
/// whose key is the four numbers.
pub fn uniform(seed: u64, step: u64, problem: u64, sample: u64, token: u64) -> f64 {
    let mut key = [0; 32];
    for (bytes, n) in key.as_chunks_mut::<8>().0.iter_mut().zip([seed, step, problem, sample]) {
        *bytes = n.to_le_bytes();
    }
    let mut stream = ChaCha8Rng::from_seed(key);
    stream.set_word_pos(2 * u128::from(token));
    (stream.next_u64() >> 11) as f64 * (-53f64).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_number() {
        let base = uniform(1, 2, 3, 4, 5);
        assert_eq!(base, uniform(1, 2, 3, 4, 5));
        for other in
            [uniform(0, 2, 3, 4, 5), uniform(1, 0, 3, 4, 5), uniform(1, 2, 0, 4, 5), uniform(1, 2, 3, 0, 5)]
        {
            assert_ne!(base, other);
        }
        assert_ne!(base, uniform(1, 2, 3, 4, 6));
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mean = (0..4000).map(|t| uniform(7, 0, 0, 0, t)).sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 5.0 * (1.0f64 / 12.0 / 4000.0).sqrt(), "mean {mean}");
    }
}
