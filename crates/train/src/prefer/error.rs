//! What can be wrong with preferences.

use std::path::PathBuf;

/// Why preferences can't be learned from.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreferError {
    /// A token that the model has no embedding for.
    #[error(
        "{files} gives token {id}, the model knows {vocab_size}; the tokenizer or the file is another model's"
    )]
    NoSuchToken {
        /// The token.
        id: u32,
        /// The model's.
        vocab_size: usize,
        /// The data.
        files: String,
    },
    /// Every row was left out.
    #[error("{files} has nothing to learn from: {why}; raise max_tokens, or set too_long = \"truncate\"")]
    NothingToLearn {
        /// The data.
        files: String,
        /// Why its rows are not learned from.
        why: String,
    },
    /// The reference policy is of another vocabulary.
    #[error("the reference `{}` knows {reference} tokens, the model {model}: a reference shares the model's tokenizer", path.display())]
    OtherVocabulary {
        /// The reference policy's directory.
        path: PathBuf,
        /// Its vocabulary.
        reference: usize,
        /// The model's.
        model: usize,
    },
    /// The reference policy gives numbers that are not finite.
    #[error("the reference `{}` gives log-probabilities that are not finite: its weights are damaged", path.display())]
    ReferenceNotFinite {
        /// Its directory.
        path: PathBuf,
    },
}
