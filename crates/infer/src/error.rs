//! Why a model could not be made to speak.

use std::path::{Path, PathBuf};

use koan_backend::OutOfMemory;
use koan_data::DataError;
use koan_generate::{NoRoom, RequestError};
use koan_model::checkpoint::CheckpointError;
use koan_text::TextError;

/// Why a model could not be loaded, or what was asked of it not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InferError {
    /// The model could not be loaded.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The tokenizer or its template refused.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A file was refused.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A line of a file lacks something, or has something that makes no sense.
    #[error("{}:{line}: {what}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// Not even one sequence fits into memory.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// The device refused memory.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The generator refused a request.
    #[error(transparent)]
    Request(#[from] RequestError),
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
    /// Line `line` of `path` is wrong.
    pub(crate) fn line(path: &Path, line: usize, what: impl Into<String>) -> Self {
        Self::Line { path: path.to_owned(), line, what: what.into() }
    }
}
