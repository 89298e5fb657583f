//! What is asked of a generator, and what it gives.

use std::sync::Arc;

use koan_backend::Draw;

use crate::{Sampling, pages::PAGE, uniform};

/// A completion that is wanted. What is sampled depends on nothing else: not on when it was asked for, nor on what else ran.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The prompt's tokens; at least one. Requests of one prompt share its keys, and this list.
    pub prompt: Arc<[u32]>,
    /// How tokens are sampled.
    pub sampling: Sampling,
    /// Keys the random numbers, with `sample` and the seed and stream of `sampling`: a problem's place in its data.
    pub problem: u64,
    /// Keys the random numbers: the number of the sample among those of its problem.
    pub sample: u64,
    /// Whether the [`Listener`](crate::Listener) is shown the logits of each token, and may take another. There are no drafts then.
    pub shows_logits: bool,
}

impl Request {
    /// Tokens that it comes to, at most.
    pub(crate) fn longest(&self) -> usize {
        self.prompt.len() + self.sampling.max_new_tokens
    }

    /// How its token number `token` is sampled.
    pub(crate) fn draw(&self, token: usize) -> Draw {
        let &Sampling { temperature, top_k, top_p, min_p, seed, stream, .. } = &self.sampling;
        let uniform = uniform(seed, stream, self.problem, self.sample, token as u64);
        Draw { uniform, temperature, top_k, top_p, min_p }
    }
}

/// Names a request of one generator. Later requests have higher numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// There is nothing to go on from.
    #[error("a prompt has no tokens; it needs at least one")]
    EmptyPrompt,
    /// Nothing is wanted.
    #[error("a request for 0 new tokens; ask for at least one")]
    NoNewTokens,
    /// It is longer than the generator was planned for.
    #[error(
        "{prompt_tokens} prompt tokens and up to {new_tokens} new ones do not fit: there is room for sequences of {longest} \
         tokens, and for {cache_tokens} in all, in pages of {PAGE}; shorten the prompt, or ask for fewer new tokens"
    )]
    TooLong {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// New tokens, at most.
        new_tokens: usize,
        /// Tokens of the longest sequence that was planned for.
        longest: usize,
        /// Tokens whose keys and values there is room for.
        cache_tokens: usize,
    },
    /// The device refused memory.
    #[error(transparent)]
    OutOfMemory(#[from] koan_backend::OutOfMemory),
    /// There is nothing to fork.
    #[error("there is no such request to fork: it was cancelled, or finished and its keys are not kept")]
    Unknown,
}

/// Why a completion ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended it, or whoever asked for it did.
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

/// Tokens sampled for a prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// The tokens, with the stop token if there was one.
    pub token_ids: Vec<u32>,
    /// Log-probability of each under the distribution it was sampled from.
    pub log_probs: Vec<f32>,
    /// Log-probability of each under the whole distribution: what the training forward computes. Equal to `log_probs` where
    /// nothing was cut off.
    pub full_log_probs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// A request that is over, and what was sampled for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Finished {
    /// Its name.
    pub id: RequestId,
    /// What was asked.
    pub request: Request,
    /// What was sampled.
    pub completion: Completion,
    /// Tokens of the prompt whose keys were there when it began, or on their way.
    pub cached_tokens: usize,
}

/// What a pass brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Step {
    /// The tokens sampled, in the order in which requests were submitted; at most one per request, and with
    /// [drafts](crate::Drafts) those that follow one another.
    pub tokens: Vec<(RequestId, u32)>,
    /// The requests that are over with these tokens, in the same order.
    pub finished: Vec<Finished>,
}
