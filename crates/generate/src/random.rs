//! Random numbers from a counter: token `t` of sample `s` of problem `p` in step `n` always draws the same number,
//! whatever else is in its batch and wherever a run was interrupted. Whatever else is random has a [`Stream`] of its own.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

/// What random numbers are for. No two streams share a number under one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The completions of a training step.
    Rollout {
        /// The step, from 1; less than 2⁵⁶.
        step: u64,
    },
    /// What a user asks for: `koan generate`, `chat` and `eval`.
    Request,
    /// Held-out measurements of a run. Each measurement draws the same numbers, so that they compare.
    HeldOut,
    /// The two measurements of the demo, which compare likewise.
    Demo,
    /// The order of the problems in each epoch of reinforcement learning.
    ProblemOrder,
    /// The order of the texts in each epoch of learning by imitation.
    TextOrder,
    /// Which of a problem's completions rejection sampling keeps.
    Kept,
    /// What a judge says of completions.
    Judge,
    /// Which texts are learned with their middle last, and where they are cut.
    FillInMiddle,
    /// The order in which texts are joined.
    DocumentOrder,
    /// Inputs that a benchmark makes up.
    Bench {
        /// The step; less than 2⁵⁶.
        step: u64,
    },
}

impl Stream {
    /// The number that keys the stream: its kind in the highest byte, its step in the others.
    fn key(self) -> u64 {
        let (kind, step) = match self {
            Self::Rollout { step } => (0, step),
            Self::Request => (1, 0),
            Self::HeldOut => (2, 0),
            Self::Demo => (3, 0),
            Self::ProblemOrder => (4, 0),
            Self::TextOrder => (5, 0),
            Self::Bench { step } => (6, step),
            Self::Kept => (7, 0),
            Self::Judge => (8, 0),
            Self::FillInMiddle => (9, 0),
            Self::DocumentOrder => (10, 0),
        };
        assert!(step < 1 << 56, "step {step} of a random stream");
        kind << 56 | step
    }
}

/// A number in [0, 1) with 53 random bits: word `2 · token` of the ChaCha8 stream (RFC 8439's function with 8 rounds)
/// whose key is `seed`, `stream`, `problem` and `sample`.
///
/// # Panics
/// If the stream's step is 2⁵⁶ or more.
pub fn uniform(seed: u64, stream: Stream, problem: u64, sample: u64, token: u64) -> f64 {
    let mut key = [0; 32];
    for (bytes, n) in key.as_chunks_mut::<8>().0.iter_mut().zip([seed, stream.key(), problem, sample]) {
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
        let rollout = |step| Stream::Rollout { step };
        let base = uniform(1, rollout(2), 3, 4, 5);
        assert_eq!(base, uniform(1, rollout(2), 3, 4, 5));
        for other in [
            uniform(0, rollout(2), 3, 4, 5),
            uniform(1, rollout(0), 3, 4, 5),
            uniform(1, rollout(2), 0, 4, 5),
            uniform(1, rollout(2), 3, 0, 5),
            uniform(1, rollout(2), 3, 4, 6),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn no_two_streams_share_a_number() {
        let last = (1 << 56) - 1;
        let streams = [
            Stream::Rollout { step: 0 },
            Stream::Rollout { step: 1 },
            Stream::Rollout { step: last },
            Stream::Request,
            Stream::HeldOut,
            Stream::Demo,
            Stream::ProblemOrder,
            Stream::TextOrder,
            Stream::Kept,
            Stream::Judge,
            Stream::FillInMiddle,
            Stream::DocumentOrder,
            Stream::Bench { step: 0 },
            Stream::Bench { step: last },
        ];
        let keys: std::collections::BTreeSet<u64> = streams.iter().map(|stream| stream.key()).collect();
        assert_eq!(keys.len(), streams.len());
        let drawn = streams.map(|stream| uniform(0, stream, 0, 0, 0));
        assert!((0..drawn.len()).all(|i| !drawn[..i].contains(&drawn[i])), "{drawn:?}");
    }

    #[test]
    #[should_panic(expected = "step 72057594037927936")]
    fn a_step_never_reaches_another_stream() {
        uniform(0, Stream::Rollout { step: 1 << 56 }, 0, 0, 0);
    }

    #[test]
    fn numbers_are_spread_evenly() {
        let mean = (0..4000).map(|t| uniform(7, Stream::Request, 0, 0, t)).sum::<f64>() / 4000.0;
        assert!((mean - 0.5).abs() < 5.0 * (1.0f64 / 12.0 / 4000.0).sqrt(), "mean {mean}");
    }
}
