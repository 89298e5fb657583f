//! What models that judge are asked, by whoever rewards. This crate has no engine: [`Models`] is implemented where there is one.

use koan_data::Message;
use std::error::Error;
use std::path::{Path, PathBuf};

/// Models that judge, on some engine.
pub trait Models {
    /// The score that the reward model in directory `model` gives each reply, in their order; or why it gives none, which makes
    /// the reply undecided.
    ///
    /// # Errors
    /// If the model can't be asked at all.
    fn score(&self, model: &Path, replies: &[Reply]) -> Result<Vec<Result<f64, String>>, ModelsError>;

    /// What the language model in directory `model` says to each question, in their order; or why it says nothing. What it says to a
    /// question depends on no other.
    ///
    /// # Errors
    /// If the model can't be asked at all.
    fn speak(
        &self,
        model: &Path,
        questions: &[Question],
        speech: Speech,
    ) -> Result<Vec<Result<String, String>>, ModelsError>;
}

/// Why models could not be asked: the device refused memory, say. That is no verdict, and ends the work.
#[derive(Debug, thiserror::Error)]
#[error("the models that judge can't be asked: {0}")]
pub struct ModelsError(pub Box<dyn Error + Send + Sync>);

/// A reply to a conversation, for a reward model.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The conversation up to the reply.
    pub prompt: Vec<Message>,
    /// The reply; it may be empty.
    pub text: String,
}

/// A conversation whose next message a language model is to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The conversation.
    pub messages: Vec<Message>,
    /// Keys the random numbers of the answer.
    pub key: u64,
}

/// How a language model answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speech {
    /// Logits are divided by it; 0 takes the likeliest token.
    pub temperature: f32,
    /// An answer is cut at this many tokens.
    pub max_new_tokens: usize,
    /// Keys the random numbers.
    pub seed: u64,
}

/// A model that rewards ask, so that whoever has an engine loads it, and plans its memory before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needed {
    /// Its directory.
    pub model: PathBuf,
    /// What it is asked for.
    pub role: Role,
    /// Most tokens of a text that it reads: a prompt and reply, or a question.
    pub max_tokens: usize,
    /// The name of the reward that asks it.
    pub reward: String,
}

/// What a model is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Scores: it is a reward model.
    Scores,
    /// Answers: it is a language model.
    Speaks {
        /// Most tokens of an answer.
        max_new_tokens: usize,
        /// Most answers that are written at once.
        sequences: usize,
    },
}

/// No models at all: for rewards that ask none, or only servers.
#[derive(Clone, Copy, Debug)]
pub struct NoModels;

impl NoModels {
    fn refuse<T>(model: &Path) -> Result<T, ModelsError> {
        Err(ModelsError(format!("`{}` is not loaded here", model.display()).into()))
    }
}

impl Models for NoModels {
    fn score(&self, model: &Path, _: &[Reply]) -> Result<Vec<Result<f64, String>>, ModelsError> {
        Self::refuse(model)
    }

    fn speak(
        &self,
        model: &Path,
        _: &[Question],
        _: Speech,
    ) -> Result<Vec<Result<String, String>>, ModelsError> {
        Self::refuse(model)
    }
}
