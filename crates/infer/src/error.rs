//! Why a model could not be made to speak.

use koan_backend::{DoesNotFit, OutOfMemory};
use koan_data::{DataError, rows::Place};
use koan_generate::{NoRoom, RequestError};
use koan_model::checkpoint::CheckpointError;
use koan_text::TextError;
use std::path::PathBuf;

/// Why a model could not be loaded, or what was asked of it not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// The model could not be loaded.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The model has no module that drafts.
    #[error(
        "`{}` has no module that predicts further tokens, so there is nothing for `multi-token` drafts; `text` and `off` work with every model",
        path.display()
    )]
    NoModule {
        /// The model.
        path: PathBuf,
    },
    /// The tokenizer or its template refused.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A file was refused.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A line of a file lacks something, or has something that makes no sense.
    #[error("{place}: {what}")]
    Line {
        /// The file, and the row in it.
        place: Place,
        /// What is wrong.
        what: String,
    },
    /// Not even one sequence fits into memory.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The weights, with what is to be done with them, do not fit into memory.
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
    /// The device refused memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The generator refused a request.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A text is too long to be encoded.
    #[error("a text of {bytes} bytes; {max} is the most that is encoded for this model: shorten it")]
    TextLength {
        /// Its length.
        bytes: usize,
        /// The most.
        max: usize,
    },
    /// A problem's prompt can't be encoded.
    #[error("the prompt of problem `{id}` can't be encoded")]
    Prompt {
        /// The problem.
        id: String,
        /// Why.
        source: Box<Self>,
    },
    /// A problem's prompt does not fit.
    #[error("the prompt of problem `{id}` has {tokens} tokens, not 1 to {max}")]
    PromptLength {
        /// The problem.
        id: String,
        /// Its prompt's tokens.
        tokens: usize,
        /// The longest that fits.
        max: usize,
    },
    /// The model that a reward asks can't be used.
    #[error("reward `{reward}`")]
    Reward {
        /// The reward's name.
        reward: String,
        /// Why.
        source: Box<Self>,
    },
    /// Models that judge could not be asked.
    #[error(transparent)]
    Judges(#[from] koan_reward::ModelsError),
    /// A conversation leaves no room for a reply.
    #[error(
        "the conversation has {tokens} tokens, and {context} is the most; begin a new one, or allow more"
    )]
    ConversationLength {
        /// Its tokens.
        tokens: usize,
        /// The most.
        context: usize,
    },
}

impl InferError {
    /// The same, of the model that a reward asks.
    pub(crate) fn of_reward(self, reward: &str) -> Self {
        Self::Reward { reward: reward.to_owned(), source: Box::new(self) }
    }

    /// The row at `place` is wrong.
    pub(crate) fn line(place: &Place, what: impl Into<String>) -> Self {
        Self::Line { place: place.clone(), what: what.into() }
    }
}
