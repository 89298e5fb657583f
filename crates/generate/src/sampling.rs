//! How tokens are sampled.

use crate::Stream;

/// How tokens are sampled, and when a completion ends. What the values mean, and in which order they truncate:
/// [`Draw`](koan_backend::Draw).
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f32,
    /// How many of the likeliest tokens may be sampled; 0: all.
    pub top_k: usize,
    /// The share of the mass from which tokens are sampled, the likeliest first; 1: all.
    pub top_p: f32,
    /// Tokens with less than this share of the likeliest token's probability are not sampled; 0: none.
    pub min_p: f32,
    /// A completion is cut at this many tokens.
    pub max_new_tokens: usize,
    /// Tokens that end a completion; the completion keeps the one it ended with.
    pub stop_ids: Vec<u32>,
    /// Keys the random numbers, with `stream`.
    pub seed: u64,
    /// Keys the random numbers, with `seed`.
    pub stream: Stream,
}

impl Default for Sampling {
    /// From the whole distribution at temperature 1, up to 256 tokens.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            max_new_tokens: 256,
            stop_ids: Vec::new(),
            seed: 0,
            stream: Stream::Request,
        }
    }
}
