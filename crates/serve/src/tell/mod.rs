//! What is told: answers and streams of the API, made of what the engine samples.

mod chat;
mod completion;
mod log_probs;
mod reply;

use std::{collections::hash_map::RandomState, hash::BuildHasher, sync::Arc};

use serde_json::{Map, Value, json};

pub(crate) use chat::ChatTale;
pub(crate) use completion::{CompletionTale, Echo};
pub(crate) use reply::Splitter;

use crate::{
    engine::Event,
    error::ApiError,
    served::{Served, now},
};

/// Turns what becomes of a request into an answer: at once when all is there, or as a stream.
pub(crate) trait Tale: Send + Unpin + 'static {
    /// The chunks with which a stream begins.
    fn begin(&mut self) -> Vec<Value>;

    /// Takes an event, and gives the chunks of a stream that it makes.
    ///
    /// # Errors
    /// If the request came to nothing.
    fn take(&mut self, event: Event) -> Result<Vec<Value>, ApiError>;

    /// Whether all is there.
    fn is_whole(&self) -> bool;

    /// The chunks with which a stream ends.
    fn end(&mut self) -> Vec<Value>;

    /// The whole answer, when all is there and no stream was made of it.
    fn whole(self) -> Value;
}

/// What every answer, and every chunk of one, begins with.
#[derive(Clone)]
pub(crate) struct Head {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) served: Arc<Served>,
    /// The seed that was given, or drawn.
    pub(crate) seed: u64,
    /// Whether choices are told as they were sampled: with the token that ended them in the count, and thinking as it stands in the text.
    pub(crate) as_sampled: bool,
}

impl Head {
    pub(crate) fn new(prefix: &str, served: Arc<Served>, seed: u64, as_sampled: bool) -> Self {
        let id = format!("{prefix}-{:016x}{:016x}", chance(), chance());
        Self { id, created: now(), served, seed, as_sampled }
    }

    fn fields(&self, object: &str) -> Map<String, Value> {
        let Self { id, created, served, seed, .. } = self;
        Map::from_iter([
            ("id".to_owned(), json!(id)),
            ("object".to_owned(), json!(object)),
            ("created".to_owned(), json!(created)),
            ("model".to_owned(), json!(served.name)),
            ("system_fingerprint".to_owned(), json!(served.fingerprint)),
            ("seed".to_owned(), json!(seed)),
        ])
    }
}

/// Tokens of a request and its answer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) cached: usize,
    pub(crate) completion: usize,
    pub(crate) reasoning: usize,
}

impl Usage {
    pub(crate) fn to_json(self) -> Value {
        let Self { prompt, cached, completion, reasoning } = self;
        json!({
            "prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        })
    }
}

/// A number that nobody can foresee: of names, and of seeds that nobody gave.
pub(crate) fn chance() -> u64 {
    RandomState::new().hash_one(0)
}

/// A seed for a request without one: short enough for every reader of JSON.
pub(crate) fn drawn_seed() -> u64 {
    chance() >> 32
}
