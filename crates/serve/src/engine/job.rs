//! What the engine is given, and what it gives.

use std::{cell::Cell, sync::Arc, time::Instant};

use koan_generate::{FinishReason, Sampling};
use koan_infer::PromptScore;
use tokio::sync::mpsc::UnboundedSender;

use super::lines::{Client, Ticket};
use crate::{error::ApiError, format::Constraint};

/// A request that is to be answered.
pub(crate) struct Job {
    /// Whose it is.
    pub(crate) client: Client,
    /// The model's place.
    pub(crate) model: usize,
    /// The tokens of each prompt.
    pub(crate) prompts: Vec<Arc<[u32]>>,
    /// Choices of each prompt.
    pub(crate) n: usize,
    /// The problem and the sample by which the first choice of the first prompt draws its numbers.
    pub(crate) first: [u64; 2],
    /// How tokens are sampled; new tokens are 0 where only the prompts' scores are wanted.
    pub(crate) sampling: Sampling,
    pub(crate) stops: Vec<String>,
    /// How many likeliest tokens are listed in the place of each.
    pub(crate) top: usize,
    /// What replies are held to; where `thinking` was opened in the prompt, only after it.
    pub(crate) format: Option<Constraint>,
    pub(crate) thinking: bool,
    /// Whether the prompts are scored.
    pub(crate) scores: bool,
    pub(crate) events: UnboundedSender<Event>,
    /// Its place in the queue, until it begins.
    pub(crate) ticket: Cell<Option<Ticket>>,
    /// Whether it was given up.
    pub(crate) given_up: Cell<bool>,
    pub(crate) arrived: Instant,
    /// When it is given up.
    pub(crate) deadline: Instant,
}

impl Job {
    /// All choices of all prompts.
    pub(crate) fn choices(&self) -> usize {
        if self.sampling.max_new_tokens == 0 { 0 } else { self.prompts.len() * self.n }
    }

    /// Tells whoever asked. Who has left hears nothing.
    pub(crate) fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum Event {
    /// What a prompt's tokens are worth.
    Score { prompt: usize, score: PromptScore },
    /// More of a choice.
    Piece { choice: usize, piece: Piece },
    /// A choice is whole.
    Done {
        choice: usize,
        reason: FinishReason,
        /// Tokens that were sampled, with the one that ended it.
        tokens: usize,
        cached_tokens: usize,
    },
    /// The request came to nothing.
    Failed(ApiError),
}

/// A part of a choice.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Piece {
    pub(crate) text: String,
    /// Tokens that are certain to be part of the answer.
    pub(crate) tokens: Vec<Token>,
}

/// A token of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) id: u32,
    /// Under the whole distribution at the request's temperature.
    pub(crate) log_prob: f32,
    /// The likeliest in its place, with their log-probabilities.
    pub(crate) likeliest: Vec<(u32, f32)>,
    /// Bytes and characters of the answer before it.
    pub(crate) start: [usize; 2],
}
