//! A model that speaks text, put together in one place: weights, tokenizer, chat template, stop rules, memory.
//!
//! - [`Codec`]: how a model reads and writes text, known before its weights are loaded; [`PromptStyle`],
//! - [`Engine`]: the model on a device, with a generator in the memory there is, planned before weights are read,
//! - [`Engine::complete`]: completions for a file of [`Prompts`]; [`score`]: log-probabilities of given completions,
//! - [`Together`]: models side by side, to be served; [`PromptScores`], [`likeliest`], [`draw_among`]: what they say besides,
//! - [`Conversation`]: replies token by token, thinking apart,
//! - [`Scorer`]: a reward model; [`JudgeModels`]: the models that rewards ask,
//! - [`Evaluation`]: samples completions for problems and judges them; what they come to is `koan-eval`'s to say.
#![forbid(unsafe_code)]

mod chat;
mod codec;
mod complete;
mod engine;
mod error;
mod evaluate;
mod judges;
mod likeliest;
mod plan;
mod prompt_scores;
mod score;
mod scorer;
mod thinking;
mod together;

pub use chat::{Conversation, Reply};
pub use codec::{Codec, Encoded, MAX_BYTES_PER_TOKEN, MAX_TEXT_BYTES, PromptStyle};
pub use complete::{Completed, CompletionLine, PromptLine, Prompts, Work};
pub use engine::Engine;
pub use error::InferError;
pub use evaluate::Evaluation;
pub use judges::{JudgeModels, JudgePlan};
pub use likeliest::{draw_among, likeliest};
pub use plan::{check_drafts, plan_generator};
pub use prompt_scores::{PromptScore, PromptScores};
pub use score::{ScoreLine, ScoreSummary, read_score_lines, score};
pub use scorer::{ScoredText, Scorer};
pub use thinking::{Piece, Thinking};
pub use together::{Together, Whole};
