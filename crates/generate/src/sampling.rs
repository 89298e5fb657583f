//! What is asked of a generator, and what it gives.

use std::ops::ControlFlow;

use koan_backend::Draw;

use crate::{Stream, uniform};

/// A prompt and how many completions are wanted of it.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// Its tokens; at least one.
    pub ids: Vec<u32>,
    /// The number that keys its random numbers: its place in the data set.
    pub problem: u64,
    /// Completions wanted.
    pub samples: usize,
}

/// How tokens are drawn. What the numbers mean, and in which order they cut: [`Draw`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f32,
    /// How many of the likeliest tokens may be drawn; 0: all.
    pub top_k: usize,
    /// The share of the mass from which tokens are drawn, the likeliest first; 1: all.
    pub top_p: f32,
    /// Tokens with less than this share of the likeliest token's probability are not drawn; 0: none.
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

impl Sampling {
    /// How token `token` of sample `sample` of problem `problem` is drawn.
    pub(crate) fn draw(&self, problem: u64, sample: u64, token: u64) -> Draw {
        let &Self { temperature, top_k, top_p, min_p, seed, stream, .. } = self;
        Draw { uniform: uniform(seed, stream, problem, sample, token), temperature, top_k, top_p, min_p }
    }
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or the listener did.
    Stop,
    /// It reached `max_new_tokens`.
    Length,
}

impl FinishReason {
    /// The name used in files: `stop` or `length`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// Tokens drawn for a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The tokens, with the stop token if there was one.
    pub token_ids: Vec<u32>,
    /// Log-probability of each under the distribution it was drawn from.
    pub log_probs: Vec<f32>,
    /// Log-probability of each under the whole distribution: what the training forward computes. Equal to `log_probs` where
    /// nothing was cut off.
    pub full_log_probs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Hears of tokens and completions as they come.
pub trait Listener {
    /// A token was drawn for sample `sample` of prompt `prompt`. `Break` ends the completion with it.
    fn token(&mut self, prompt: usize, sample: usize, id: u32) -> ControlFlow<()> {
        let _ = (prompt, sample, id);
        ControlFlow::Continue(())
    }

    /// A completion is whole.
    fn finished(&mut self, prompt: usize, sample: usize, completion: Completion);
}

/// A closure that takes completions.
pub(crate) struct Finished<F>(pub(crate) F);

impl<F: FnMut(usize, usize, Completion)> Listener for Finished<F> {
    fn finished(&mut self, prompt: usize, sample: usize, completion: Completion) {
        self.0(prompt, sample, completion);
    }
}
